"""Rows that are packed before a kernel sees them (csrc/kernels/pack.c): the bits of the same numbers in contiguous
float32 or float64 rows, whatever axis, strides, byte order, alignment; and float16 and bfloat16, rounded once."""

import ml_dtypes
import numpy as np
import pytest

import xent
from xent import reference

HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def misaligned(a):
    out = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


# name: (shape of the array for c classes, its axis, the view of it that is passed)
LAYOUTS = {
    "axis 1 of 4": (lambda c: (3, c, 7, 11), 1, lambda a: a),
    "axis 0": (lambda c: (c, 37), 0, lambda a: a),
    "axis 0, few rows": (lambda c: (c, 3), 0, lambda a: a),
    "axis 0, more rows than a pack": (lambda c: (c, 300), 0, lambda a: a),
    "Fortran order": (lambda c: (29, c), 1, np.asfortranarray),
    "rows backwards, side by side": (lambda c: (2, c, 40), 1, lambda a: a[:, :, ::-1]),
    "classes backwards, rows side by side": (lambda c: (2, c, 40), 1, lambda a: a[:, ::-1]),
    "every second row, side by side": (lambda c: (2, c, 41), 1, lambda a: a[:, :, ::2]),
    "every second class": (lambda c: (9, 2 * c), 1, lambda a: a[:, ::2]),
    "every third class": (lambda c: (9, 3 * c), 1, lambda a: a[:, ::3]),
    "classes backwards": (lambda c: (9, c), 1, lambda a: a[:, ::-1]),
    "every second class backwards": (lambda c: (9, 2 * c), 1, lambda a: a[:, ::-2]),
    "every fifth class backwards": (lambda c: (9, 5 * c), 1, lambda a: a[:, ::-5]),
    "rows backwards": (lambda c: (70, c), 1, lambda a: a[::-1]),
    "rows and classes backwards": (lambda c: (70, c), 1, lambda a: a[::-1, ::-1]),
    "swapped axes": (lambda c: (2, c, 3, 50), 1, lambda a: a.transpose(0, 1, 3, 2)),
    "misaligned": (lambda c: (11, c), 1, misaligned),
    "misaligned, axis 0": (lambda c: (c, 11), 0, misaligned),
    "one row for all": (lambda c: (1, c), 1, lambda a: np.broadcast_to(a, (5, a.shape[1]))),
}
CLASSES = [1, 2, 3, 5, 33, 128, 129, 1000, 4097]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, shape)
    flat = z.reshape(-1)
    flat[:: 17 + flat.size // 5] = [np.nan, np.inf, -np.inf, 1e5, -300.0][: len(flat[:: 17 + flat.size // 5])]
    return z.astype(dtype)


def same(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    bits = f"u{a.itemsize}"
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(bits), np.ascontiguousarray(b).view(bits))


def contiguous(z, axis, dtype):
    return np.ascontiguousarray(np.moveaxis(z, axis, -1)).astype(dtype)


def rounded(a, dtype):
    """Once, as NumPy and ml_dtypes round; every NaN is the positive quiet one, as those of the kernels are."""
    a = a.astype(dtype)
    a[np.isnan(a)] = np.nan
    return a


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", [np.dtype("f4"), np.dtype("f8"), np.dtype(">f4"), *HALVES], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits(tier, layout, dtype, classes):
    shape, axis, view = LAYOUTS[layout]
    z = view(numbers(shape(classes), dtype))
    work = np.dtype("f8" if dtype.itemsize == 8 else "f4")
    native = dtype.newbyteorder("=")
    plain = contiguous(z, axis, work)
    y = np.random.default_rng(1).integers(0, classes, plain.shape[:-1])

    def back(a):
        return np.moveaxis(rounded(a, native), -1, axis)

    for function in (xent.softmax, xent.log_softmax):
        same(rounded(function(z, axis=axis), native), back(function(plain, axis=-1)))
    same(rounded(xent.logsumexp(z, axis=axis), native), rounded(xent.logsumexp(plain, axis=-1), native))
    for options in (
        {},
        {"ignore_index": 0, "z_loss": 0.1},
        {"label_smoothing": 0.1, "reduction": "none"},
        {"softcap": 5.0},
    ):
        loss, grad, lse = xent.cross_entropy_with_grad(plain, y, return_lse=True, **options)
        out = view(np.zeros(shape(classes), native)) if layout != "one row for all" else None
        given = xent.cross_entropy_with_grad(z, y, axis=axis, return_lse=True, out=out, **options)
        same(np.asarray(given[0]), np.asarray(loss))
        same(rounded(given[1], native), back(grad))
        same(given[2], lse)
        same(np.asarray(xent.cross_entropy(z, y, axis=axis, **options)), np.asarray(loss))
        if out is not None and dtype.isnative:
            own = view(np.array(numbers(shape(classes), dtype)))
            xent.cross_entropy_with_grad(own, y, axis=axis, out=own, **options)
            same(rounded(own, native), back(grad))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("classes", [90, 131, 261, 400, 1000, 5000])
def test_large_results_of_16_bits(tier, classes, dtype, threads):
    """Those of more classes than go side by side are stored past the cache within the sweeps over ordinary rows of the
    next pack."""
    rows = (1 << 22) // classes + 3
    z = np.random.default_rng(5).normal(0, 3, (rows, classes)).astype(dtype)
    z[::97, 0] = {90: np.nan, 131: np.inf, 261: np.inf, 400: np.nan}.get(classes, -250.0)
    z[5::89, 1:] = -200.0  # clamped
    z[-1] = z[0, 1]
    y = np.random.default_rng(6).integers(0, classes, rows)
    y[::11] = -1
    plain = z.astype(np.float32)
    _, grad = xent.cross_entropy_with_grad(plain, y, ignore_index=-1, reduction="sum")
    room = np.zeros(rows * classes + 96, dtype)
    for n, offset in ((1, 0), (2, 1), (3, 24), (2, 31)):
        xent.set_num_threads(n)
        start = -room.ctypes.data % 64 // 2 + offset
        room[:] = 7
        out = room[start : start + z.size].reshape(z.shape)
        xent.cross_entropy_with_grad(z, y, ignore_index=-1, reduction="sum", out=out)
        same(out, rounded(grad, dtype))
        assert (room[:start] == 7).all()
        assert (room[start + z.size :] == 7).all()
    for f in (xent.softmax, xent.log_softmax):
        same(f(z, axis=1, out=out), rounded(f(plain, axis=1), dtype))
    other = np.repeat(z, 2, axis=1)[:, ::2] if classes > 1000 else np.asfortranarray(z)
    xent.cross_entropy_with_grad(other, y, ignore_index=-1, reduction="sum", out=out)
    same(out, rounded(grad, dtype))


VIEWS = {
    "every second class": (1, 2, lambda a: a[:, ::2]),
    "every second class backwards": (1, 2, lambda a: a[:, ::-2]),
    "every third class": (1, 3, lambda a: a[:, ::3]),
    "classes backwards": (1, 1, lambda a: a[:, ::-1]),
    "rows backwards": (1, 1, lambda a: a[::-1]),
    "every second row": (2, 1, lambda a: a[::2]),
    "every second row backwards": (2, 1, lambda a: a[::-2]),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("classes", [3, 61, 64, 200, 1000, 5000])
def test_large_views(classes, view, threads):
    """Results of more than 16 MiB, which go past the cache where they can; and nothing between them is written."""
    each_row, each_class, seen = VIEWS[view]
    rows = (1 << 22) // classes + 3
    shape = (each_row * rows, each_class * classes)
    z = seen(np.random.default_rng(7).standard_normal(shape, dtype=np.float32))
    y = np.random.default_rng(8).integers(0, classes, rows)
    loss, grad = xent.cross_entropy_with_grad(np.ascontiguousarray(z), y)
    soft = xent.softmax(np.ascontiguousarray(z), axis=1)
    room = np.full(shape, 7, np.float32)
    between = np.ones(shape, bool)
    seen(between)[...] = False
    for n in (1, 2):
        xent.set_num_threads(n)
        given, out = xent.cross_entropy_with_grad(z, y, out=seen(room))
        same(np.asarray(given), np.asarray(loss))
        same(np.asarray(xent.cross_entropy(z, y)), np.asarray(loss))
        same(out, grad)
        same(xent.softmax(z, axis=1, out=seen(room)), soft)
        assert (room[between] == 7).all()


def test_class_axes_of_views():
    """Several class axes of which no two are one: planes of rows."""
    z = np.random.default_rng(9).standard_normal((3, 8, 10, 14), dtype=np.float32)
    for view in (z[:, ::2, ::-1], z[:, ::-1, ::2, ::3], z[::-1, 1:, :, ::-2]):
        plain = np.ascontiguousarray(view)
        out = np.empty_like(z)[tuple(slice(0, n) for n in view.shape)]
        for axis in ((1, 2), (1, 3), (2, 3), (1, 2, 3), (0, 3)):
            for f in (xent.softmax, xent.log_softmax):
                same(f(view, axis=axis, out=out), f(plain, axis=axis))
            same(xent.logsumexp(view, axis=axis), xent.logsumexp(plain, axis=axis))


@pytest.mark.parametrize("layout", ["axis 1 of 4", "every second class"])
def test_threads_and_target_rows(layout, threads):
    shape, axis, view = LAYOUTS[layout]
    z = view(numbers(shape(1000), np.float32))
    q = view(np.random.default_rng(2).random(shape(1000)).astype(np.float32))
    plain = xent.cross_entropy_with_grad(contiguous(z, axis, z.dtype), contiguous(q, axis, q.dtype))
    for n in (1, 2, 3, 8):
        xent.set_num_threads(n)
        loss, grad = xent.cross_entropy_with_grad(z, q, axis=axis)
        same(np.asarray(loss), np.asarray(plain[0]))
        same(np.moveaxis(grad, axis, -1), plain[1])


def test_nothing_beside_a_view_is_written():
    base = np.full((60, 2, 50), 7, np.float32)
    z = np.random.default_rng(0).normal(size=(60, 25)).astype(np.float32)
    xent.cross_entropy_with_grad(z, np.zeros(25, int), axis=0, out=base[:, 0, ::2])
    assert (base[:, 1] == 7).all()
    assert (base[:, 0, 1::2] == 7).all()
    assert (base[:, 0, ::2] != 7).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_number_of_16_bits(tier, dtype):
    """Read exactly: logsumexp of one class is that class. And written so: softmax of two is 1 - p, p."""
    every = np.arange(65536, dtype=np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        kept = every.astype("f4")
        kept[np.abs(kept) < 2.0**-126] = 0  # results below the smallest normal float32 are 0
        same(rounded(xent.logsumexp(every[:, None], axis=1), dtype), rounded(kept + np.float32(0), dtype))
        pairs = np.stack([every, np.zeros_like(every)], axis=1)
        same(rounded(xent.softmax(pairs, axis=1), dtype), rounded(xent.softmax(pairs.astype("f4"), axis=1), dtype))


@pytest.mark.parametrize("classes", [5, 24, 129])
def test_nan_of_16_bits_is_the_plain_one(tier, classes):
    """Whatever a NaN logit carries, quiet or signalling, a result has a sign of it at most: the same on every tier."""
    bits = np.zeros((4, classes), np.uint16)
    bits[np.arange(4), classes // 2] = [0x7C01, 0x7E55, 0xFD03, 0xFFFF]
    for function in (xent.log_softmax, xent.softmax):
        result = function(bits.view(np.float16), axis=1).view(np.uint16)
        assert set(result.ravel().tolist()) <= {0x7E00, 0xFE00}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_small_probabilities_of_16_bits(dtype):
    """70,000 zeros: their sum is beyond float16's largest number, and 1 / 70,000 below its smallest normal one."""
    zeros = np.zeros(70000, dtype)
    assert xent.logsumexp(zeros) == dtype.type(np.log(70000))
    assert (xent.softmax(zeros) == dtype.type(1 / 70000)).all()
    loss, grad = xent.cross_entropy_with_grad(zeros[None], [3])
    assert type(loss) is np.float32
    assert loss == np.float32(np.log(70000))
    assert grad[0, 0] == dtype.type(1 / 70000)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_reference_of_16_bits(dtype):
    """The twin takes them too; ours is its result rounded to float32 and then to the dtype: 0.51 of a unit, and what is
    lost of numbers near 0."""
    z = np.random.default_rng(0).normal(0, 3, (5, 7)).astype(dtype)
    y = [0, 1, 2, 3, 6]
    unit = float(ml_dtypes.finfo(dtype).eps)
    for ours, exact in (
        (xent.softmax(z, axis=1), reference.softmax(z, axis=1)),
        (xent.log_softmax(z, axis=1), reference.log_softmax(z, axis=1)),
        (xent.logsumexp(z, axis=1), reference.logsumexp(z, axis=1)),
        (xent.cross_entropy_with_grad(z, y)[1], reference.cross_entropy_with_grad(z, y)[1]),
    ):
        np.testing.assert_allclose(ours.astype(np.float64), exact, rtol=0.51 * unit, atol=2.0**-26)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_what_16_bits_are_refused_for(dtype):
    z = np.zeros((2, 3), dtype)
    for call in (
        lambda: xent.sigmoid_cross_entropy(z, np.zeros((2, 3))),
        lambda: xent.cross_entropy_hessian_diag(z, [0, 1]),
        lambda: xent.dense(z, z),
        lambda: xent.logsumexp(z, b=z),
    ):
        with pytest.raises(TypeError, match="must be real"):
            call()
    with pytest.raises(ValueError, match="out must have shape"):
        xent.softmax(z, out=np.zeros((2, 3), np.float32))
