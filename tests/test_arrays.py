"""Every kind of NumPy array gives the bits of its plain, contiguous copy; none is copied as a whole."""

import tracemalloc

import numpy as np
import pytest

import xent

N, C = 7, 20
RNG = np.random.default_rng(99)
Z = RNG.normal(0, 3, (N, C))
Y = RNG.integers(0, C, N)
Q = RNG.random((N, C))

CALLS = {
    "logsumexp": lambda z, y, q: [xent.logsumexp(z, axis=-1)],
    "logsumexp, b": lambda z, y, q: xent.logsumexp(z, axis=-1, b=q, return_sign=True),
    "softmax": lambda z, y, q: [xent.softmax(z, axis=-1)],
    "log_softmax": lambda z, y, q: [xent.log_softmax(z, axis=-1)],
    "index": lambda z, y, q: xent.cross_entropy_with_grad(z, y, reduction="none", return_lse=True),
    "probabilities": lambda z, y, q: xent.cross_entropy_with_grad(z, q, reduction="none", return_lse=True),
    "mean": lambda z, y, q: xent.cross_entropy_with_grad(z, y),
    "hvp": lambda z, y, q: [xent.cross_entropy_hessian_diag(z, y), xent.cross_entropy_hvp(z, y, q)],
    "sigmoid": lambda z, y, q: xent.sigmoid_cross_entropy_with_grad(z, q, sample_weight=q),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.shape(a) == np.shape(b)
        np.testing.assert_array_equal(a, b)


class Subclass(np.ndarray):
    """Whose arithmetic must not be asked for."""

    def __array_ufunc__(self, *args, **kwargs):
        raise AssertionError("a ufunc was called on the subclass")


KINDS = {
    "list": lambda a: a.tolist(),
    "tuple of arrays": lambda a: tuple(a),
    "Fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "reversed": lambda a: a[::-1].copy()[::-1],
    "subclass": lambda a: a.view(Subclass),
    "masked": np.ma.MaskedArray,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "record field": lambda a: np.rec.fromarrays([np.zeros(a.shape, np.int8), a], names="pad,value").value,
}


@calls
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kinds_of_arrays(dtype, call, kind):
    z, q = Z.astype(dtype), Q.astype(dtype)
    if kind is KINDS["list"]:
        z, q = z.astype(np.float64), q.astype(np.float64)  # as numpy.asarray takes lists
    same(call(kind(z), kind(Y), kind(q)), call(z, Y, q))


@calls
def test_memmap(dtype, call, tmp_path):
    z = Z.astype(dtype)
    z.tofile(tmp_path / "logits")
    mapped = np.memmap(tmp_path / "logits", dtype, "r", shape=z.shape)
    same(call(mapped, Y, Q.astype(dtype)), call(z, Y, Q.astype(dtype)))
    gradient = np.memmap(tmp_path / "gradient", dtype, "w+", shape=z.shape)
    _, grad = xent.cross_entropy_with_grad(mapped, Y, out=gradient)
    assert grad is gradient
    np.testing.assert_array_equal(gradient, xent.cross_entropy_grad(z, Y))


@calls
@pytest.mark.parametrize("kind", [bool, np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64, ">i4"])
def test_integer_logits_count_as_float64(call, kind):
    z = RNG.integers(0, 2 if kind is bool else 100, (N, C)).astype(kind)
    same(call(z, Y, Q), call(z.astype(np.float64), Y, Q))


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i2", ">u4", ">i8", ">u8"])
def test_integer_labels(tier, dtype, kind):
    z = Z.astype(dtype)
    expected = xent.cross_entropy_with_grad(z, Y)
    strided = np.zeros(2 * N, kind)[::2]
    strided[...] = Y
    misaligned = np.zeros(N * strided.itemsize + 1, np.uint8)[1:].view(kind)
    misaligned[...] = Y
    for labels in (Y.astype(kind), strided, misaligned, Y.astype(kind)[::-1].copy()[::-1], Y.tolist()):
        same(xent.cross_entropy_with_grad(z, labels), expected)
    same(
        xent.cross_entropy_with_grad(z, Y.astype(kind), ignore_index=int(Y[2])),
        xent.cross_entropy_with_grad(z, Y, ignore_index=int(Y[2])),
    )


@calls
def test_broadcast_inputs(dtype, call):
    """Strides of 0."""
    row = Z[:1].astype(dtype)
    z, q, y = (
        np.broadcast_to(row, (N, C)),
        np.broadcast_to(Q[:, :1].astype(dtype), (N, C)),
        np.broadcast_to(3, N),
    )
    same(call(z, y, q), call(z.copy(), y.copy(), q.copy()))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -3, -4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_class_axis_of_images(tier, dtype, axis, order):
    """(N, C, H, W) logits with (N, H, W) labels, and any other place of the classes."""
    z = np.asarray(RNG.normal(size=(3, 4, 5, 6)).astype(dtype), order=order)
    last = np.moveaxis(z, axis, -1).copy()
    y = RNG.integers(0, z.shape[axis], last.shape[:-1])
    q = RNG.random(z.shape).astype(dtype)
    weights = {"class_weight": np.arange(z.shape[axis]), "sample_weight": y + 1.0}
    for targets, other in ((y, y), (q, np.moveaxis(q, axis, -1).copy())):
        expected = xent.cross_entropy_with_grad(last, other, reduction="none", return_lse=True, **weights)
        loss, grad, lse = xent.cross_entropy_with_grad(
            z, targets, axis=axis, reduction="none", return_lse=True, **weights
        )
        same([loss, np.moveaxis(grad, axis, -1), lse], expected)
        mean = xent.cross_entropy(z, targets, axis=axis)
        assert mean == xent.cross_entropy(last, other)


@pytest.mark.parametrize("function", [xent.logsumexp, xent.softmax, xent.log_softmax])
def test_axis_tuples_of_strided_arrays(tier, dtype, function):
    base = RNG.normal(size=(4, 3, 5, 2)).astype(dtype)
    for x in (base, np.asfortranarray(base), base[::-1, :, ::2], base.transpose(2, 0, 3, 1), base[..., 0]):
        for axis in ((0, 1), (0, 2), (2, 0), (1, -1), None):
            same([function(x, axis=axis)], [function(x.copy(order="C"), axis=axis)])


@pytest.mark.parametrize("function", [xent.softmax, xent.log_softmax])
def test_out_of_axis_tuples(tier, dtype, function):
    x = RNG.normal(size=(4, 3, 5)).astype(dtype)
    expected = function(x, axis=(0, 2))
    for out in (np.empty_like(x), np.empty_like(x, order="F"), np.empty((8, 3, 5), dtype)[::-2]):
        assert function(x, axis=(0, 2), out=out) is out
        np.testing.assert_array_equal(out, expected)
    assert function(x, axis=(0, 2), out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_numbers(tier, dtype):
    """0-d: a reduction has one element, and full reductions are NumPy scalars."""
    x = dtype.type(2.5)
    for given in (x, np.array(x)):
        assert xent.logsumexp(given) == 2.5
        assert xent.softmax(given) == pytest.approx(1.0)
        assert xent.log_softmax(given) == 0.0
        assert xent.logsumexp(given, axis=0) == xent.logsumexp(given, axis=-1) == 2.5
    for value in (
        xent.logsumexp(np.ones(3, dtype)),
        xent.cross_entropy(np.ones((2, 3), dtype), [0, 1]),
        xent.cross_entropy(np.ones(3, dtype), 0, reduction="none"),
        xent.sigmoid_cross_entropy(np.ones(3, dtype), np.ones(3)),
    ):
        assert type(value) is dtype.type
    out = np.array(7, dtype)
    assert xent.logsumexp(np.zeros(1, dtype), out=out) is out
    assert out == 0


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_empty(tier, dtype, shape):
    x = np.empty(shape, dtype)
    for axis in (None, *range(len(shape))):
        assert xent.softmax(x, axis=axis).shape == xent.log_softmax(x, axis=axis).shape == shape
        lse, sign = xent.logsumexp(x, axis=axis, return_sign=True)
        expected = np.sum(x, axis=axis)
        assert np.shape(lse) == np.shape(sign) == expected.shape
        np.testing.assert_array_equal(lse, np.full(expected.shape, -np.inf))


def test_many_axes(tier, dtype):
    """As many dimensions as NumPy has (64 since NumPy 2, 32 before)."""
    ndim = 32 if np.lib.NumpyVersion(np.__version__) < "2.0.0" else 64
    x = RNG.normal(size=(2, 3, 2)).astype(dtype)
    deep = x.reshape((1,) * (ndim - 3) + x.shape)
    same([xent.softmax(deep, axis=-2).reshape(x.shape)], [xent.softmax(x, axis=1)])
    loss, grad = xent.cross_entropy_with_grad(deep, np.zeros(deep.shape[:-1], int))
    same([loss, grad.reshape(x.shape)], xent.cross_entropy_with_grad(x, np.zeros((2, 3), int)))


LARGE = (1000, 2500)  # 10 MB of float32
LAYOUTS = {
    "contiguous": lambda a: a,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "big-endian": lambda a: a.astype(">f4"),
    "misaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "transposed": lambda a: a.reshape(LARGE[1], LARGE[0]).T,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_no_copy_of_the_whole_array(layout):
    """Peak memory that NumPy and Python allocate beyond inputs and outputs: under 1 MB where the logits have
    10.
    """
    z = layout(RNG.random(LARGE, np.float32))
    y, q = np.zeros(LARGE[0], int), z
    out = np.empty(LARGE, np.float32)
    calls = {
        "logsumexp": lambda: xent.logsumexp(z, axis=1),
        "softmax": lambda: xent.softmax(z, axis=1, out=out),
        "loss": lambda: xent.cross_entropy(z, y),
        "with_grad": lambda: xent.cross_entropy_with_grad(z, y, out=out),
        "probabilities": lambda: xent.cross_entropy_with_grad(z, q, out=out),
        "sigmoid": lambda: xent.sigmoid_cross_entropy_with_grad(z, q, out=out),
    }
    tracemalloc.start()
    try:
        for name, call in calls.items():
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            call()
            assert tracemalloc.get_traced_memory()[1] - before < 1e6, name
    finally:
        tracemalloc.stop()
