"""The dense layer, forward and backward, against the reference and central differences, over every tier, dtype, layout,
batch rank, subset of gradients and output; per-sample quantities against a loop over the samples.

The products are NumPy's, so a layer is held to what is its own: f of the z that is saved to the bit, dz to the bit, the
bias gradient to half an ulp of the exact sum of the dz. Products are compared within (in + 2) eps sum |x w|.
"""

import math

import numpy as np
import pytest
from activations import NAMES, OF_Z

import xent
from xent import _kernels, reference

every = pytest.mark.parametrize("name", NAMES)
# rows, in, out: around lanes (16, 32, 64), groups of rows (32), blocks of columns (1024), strips (4096 elements)
SHAPES = [(1, 1, 1), (2, 3, 1), (5, 7, 3), (31, 5, 16), (32, 64, 10), (33, 4, 17), (65, 2, 31), (16, 3, 33), (3, 9, 64)]
SHAPES += [(9, 5, 65), (64, 1, 127), (130, 3, 5), (8, 2, 512), (7, 3, 1023), (6, 2, 1024), (4, 2, 1025), (2100, 2, 3)]
SHAPES += [(40, 130, 257)]


def layer(rows, inputs, outputs, kind, seed=0):
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(rows, inputs)), rng.normal(size=(outputs, inputs))
    bias, dy = rng.normal(size=outputs), rng.normal(size=(rows, outputs))
    return [a.astype(kind) for a in (x, weight, bias, dy)]


def forward(x, weight, bias, name, **options):
    """y, and what the backward pass wants."""
    if name not in OF_Z:
        y = xent.dense(x, weight, bias, name, **options)
        return y, y
    z = np.empty((*np.shape(x)[:-1], len(weight)), x.dtype.newbyteorder("="))
    return xent.dense(x, weight, bias, name, saved=z, **options), z


def kernel(name, z):
    y = np.array(z, order="C").reshape(1, -1)
    _kernels.bias_activation(y, None, NAMES.index(name), None)
    return y.reshape(z.shape)


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def close(got, exact, size, terms):
    """Within (terms + 2) eps of the sum of the sizes of what is added up."""
    eps = np.finfo(got.dtype).eps
    assert np.all(np.abs(got.astype(float) - exact) <= (terms + 2) * eps * (size + np.finfo(got.dtype).tiny))


@every
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(tier, dtype, name, shape):
    x, weight, bias, dy = layer(*shape, dtype)
    z = xent.dense(x, weight, bias)
    wide = [a.astype(float) for a in (x, weight, bias, dy)]
    close(z, wide[0] @ wide[1].T + wide[2], np.abs(wide[0]) @ np.abs(wide[1].T) + np.abs(wide[2]), shape[1])
    y, saved = forward(x, weight, bias, name)
    same(y, kernel(name, z))
    same(saved, z if name in OF_Z else y)
    dz = np.empty_like(y)
    grads, norms = xent.dense_backward(dy, x, weight, saved, name, grad_z_out=dz, per_sample_norms=True)
    same(dz, np.concatenate([slope_product(name, d, s) for d, s in zip(dy, saved, strict=True)]))
    check_sums(grads.bias, dz)
    big = dz.astype(float)
    close(grads.weight, big.T @ wide[0], np.abs(big.T) @ np.abs(wide[0]), shape[0])
    close(grads.x, big @ wide[1], np.abs(big) @ np.abs(wide[1]), shape[2])
    exact = np.sqrt((big**2).sum(1) * ((wide[0] ** 2).sum(1) + 1))
    np.testing.assert_allclose(norms, exact, rtol=2 * np.finfo(dtype).eps + 1e-14)
    same(xent.dense_sample_norms(dz, x), norms)


def slope_product(name, dy, saved):
    """One row at a time."""
    dz = np.empty((1, len(dy)), dy.dtype)
    _kernels.activation_backward(dy.reshape(1, -1), saved.reshape(1, -1), NAMES.index(name), dz, None, False, None)
    return dz


def check_sums(got, dz, before=None):
    """The exact sum over the rows, rounded once; what is lost on the way is some 2^-50 of it (float32), 2^-100."""
    lost = 2.0 ** (-46 if dz.dtype == np.float32 else -95)
    for k in range(dz.shape[1]):
        column = [*map(float, dz[:, k]), *([] if before is None else [float(before[k])])]
        exact = math.fsum(column)
        size = math.fsum(map(abs, column))
        unit = np.spacing(dz.dtype.type(abs(exact)))
        assert abs(float(got[k]) - exact) <= 0.5 * float(unit) * (1 + 1e-9) + lost * size


@pytest.mark.parametrize("outputs", [1, 3, 32, 40, 513])
def test_bias_gradient_that_cancels(tier, dtype, outputs):
    """Terms of 2^60 that cancel: only a sum with more digits than the dtype leaves what is left."""
    rng = np.random.default_rng(outputs)
    half = rng.normal(size=(70, outputs)) * 2.0 ** rng.integers(-6 if dtype == np.float32 else -30, 20, (70, 1))
    dy = np.concatenate([half, -half, rng.normal(size=(1, outputs)) * 2.0**-20])[rng.permutation(141)].astype(dtype)
    grads = xent.dense_backward(dy, np.ones((141, 1), dtype), np.ones((outputs, 1), dtype), None, need="bias")
    check_sums(grads.bias, dy)


@pytest.mark.parametrize("batch", [(), (1,), (6,), (2, 3), (3, 1, 2), (2, 0, 3), (0,), (1, 1, 1, 2)], ids=str)
@pytest.mark.parametrize("name", ["identity", "tanh", "gelu"])
def test_batches(tier, dtype, batch, name):
    """Any batch rank is its flattened self."""
    x, weight, bias, dy = layer(math.prod(batch), 5, 4, dtype)
    flat, saved = forward(x, weight, bias, name)
    flat_grads, flat_norms = xent.dense_backward(dy, x, weight, saved, name, per_sample_norms=True)
    y, saved = forward(x.reshape(*batch, 5), weight, bias, name)
    same(y, flat.reshape(*batch, 4))
    arguments = dy.reshape(*batch, 4), x.reshape(*batch, 5), weight, saved, name
    grads, norms = xent.dense_backward(*arguments, per_sample_norms=True)
    same(grads.x, flat_grads.x.reshape(*batch, 5))
    same(grads.weight, flat_grads.weight)
    same(grads.bias, flat_grads.bias)
    same(norms, flat_norms.reshape(batch))
    same(xent.dense_sample_grads(*arguments[:2]), xent.dense_sample_grads(dy, x).reshape(*batch, 4, 5))
    same(xent.dense_weighted_grads(*arguments[:2], np.ones(batch)).bias, flat_sum(dy))


def flat_sum(dy):
    return xent.dense_backward(dy, np.ones((len(dy), 1), dy.dtype), np.ones((4, 1), dy.dtype), None, need="bias").bias


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 2), (4, 3, 0), (0, 0, 0), (0, 3, 600)], ids=str)
@every
def test_nothing(tier, dtype, shape, name):
    """Empty batches and layers: an empty sum is 0."""
    x, weight, bias, dy = layer(*shape, dtype)
    y, saved = forward(x, weight, bias, name)
    same(y, kernel(name, np.broadcast_to(bias, y.shape)) if y.size else np.empty_like(y))
    grads, norms = xent.dense_backward(dy, x, weight, saved, name, per_sample_norms=True)
    assert [g.shape for g in grads] == [x.shape, weight.shape, bias.shape]
    if not shape[0]:
        assert not grads.weight.any()
        assert not grads.bias.any()
    if not shape[2]:
        assert not grads.x.any()
        same(norms, np.zeros(shape[0], dtype))
    assert xent.dense_sample_grads(dy, x).shape == (shape[0], shape[2], shape[1])
    assert xent.dense_clipped_grads(dy, x, 1.0).weight.shape == weight.shape


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    return raw


def gaps(a):
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return wide[tuple(slice(None, None, 2) for _ in a.shape)]


def backwards(a):
    turned = tuple(slice(None, None, -1) for _ in a.shape)
    return a[turned].copy()[turned]


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "gaps": gaps,
    "backwards": backwards,
    "misaligned": misaligned,
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}
OUTS = ("Fortran", "gaps", "backwards", "misaligned")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["identity", "relu", "silu"])
def test_layouts_of_inputs(tier, dtype, layout, name):
    turn = LAYOUTS[layout]
    for batch in ((), (6,), (3, 2)):
        x, weight, bias, dy = layer(math.prod(batch), 5, 4, dtype)
        x, dy = x.reshape(*batch, 5), dy.reshape(*batch, 4)
        y, saved = forward(x, weight, bias, name)
        grads, norms = xent.dense_backward(dy, x, weight, saved, name, per_sample_norms=True)
        near, _ = forward(turn(x), turn(weight), turn(bias), name)
        np.testing.assert_allclose(near, y, rtol=0, atol=1e-5)  # another product may be another sum
        turned = [turn(a) for a in (dy, x, weight, saved)]
        got, same_norms = xent.dense_backward(*turned, name, per_sample_norms=True)
        same(got.bias, grads.bias)
        same(same_norms, norms)
        for a, b in zip(got, grads, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", OUTS)
@pytest.mark.parametrize("name", ["identity", "tanh", "gelu"])
@pytest.mark.parametrize("accumulate", [False, True])
def test_outputs(tier, dtype, layout, name, accumulate):
    """Everything that can be written to, given in another layout, or added to."""
    turn = LAYOUTS[layout]
    x, weight, bias, dy = layer(6, 5, 4, dtype)
    x, dy = x.reshape(2, 3, 5), dy.reshape(2, 3, 4)
    y, saved = forward(x, weight, bias, name)
    out = turn(np.full_like(y, 7))
    z = turn(np.full_like(y, 7)) if name in OF_Z else None
    assert xent.dense(x, weight, bias, name, out=out, saved=z) is out
    same(out, y)
    if z is not None:
        same(z, saved)
    grads = xent.dense_backward(dy, x, weight, saved, name)
    before = [np.random.default_rng(1).normal(size=g.shape).astype(dtype) for g in grads]
    given = xent.DenseGrads(*(turn(a.copy()) for a in before))
    dz = turn(np.full_like(y, 7))
    found = xent.dense_backward(dy, x, weight, saved, name, out=given, accumulate=accumulate, grad_z_out=dz)
    assert all(a is b for a, b in zip(found, given, strict=True))
    for a, b, g in zip(found, before, grads, strict=True):
        np.testing.assert_allclose(a, b + g if accumulate else g, rtol=0, atol=1e-5 if accumulate else 0)
    if accumulate:
        check_sums(found.bias, dz.reshape(6, 4), before[2])
    in_place = turn(dy)
    again = xent.dense_backward(in_place, x, weight, saved, name, grad_z_out=in_place)
    same(in_place, dz)
    same(again.bias, grads.bias)


@pytest.mark.parametrize("name", ["identity", "relu", "gelu"])
def test_subsets(tier, dtype, name):
    """Any of the gradients, each the same as in company, and nothing that is read is changed."""
    x, weight, bias, dy = layer(40, 6, 5, dtype)
    _, saved = forward(x, weight, bias, name)
    arrays = dy, x, weight, saved
    before = [a.copy() for a in arrays]
    grads = xent.dense_backward(*arrays, name)
    for k in range(8):
        need = [field for i, field in enumerate(grads._fields) if k >> i & 1]
        got, norms = xent.dense_backward(*arrays, name, need=need, per_sample_norms=True)
        for field in grads._fields:
            if field in need:
                same(getattr(got, field), getattr(grads, field))
            else:
                assert getattr(got, field) is None
        dz = np.empty_like(dy)
        xent.dense_backward(*arrays, name, need=(), grad_z_out=dz)
        same(norms, xent.dense_sample_norms(dz, x, bias="bias" in need))
    for a, b in zip(arrays, before, strict=True):
        same(a, b)
    assert xent.dense_backward(*arrays, name, need="weight").bias is None


@every
def test_central_differences(tier, name):
    """h^2/6 f''' and eps loss / h: 1e-9 at h = 1e-5, the loss being about 10."""
    x, weight, bias, dy = layer(4, 3, 5, np.float64)
    _, saved = forward(x, weight, bias, name)
    if name in ("relu", "leaky_relu"):  # no kink within h
        assert np.abs(xent.dense(x, weight, bias)).min() > 1e-3
    grads = xent.dense_backward(dy, x, weight, saved, name)
    arrays, h = {"x": x, "weight": weight, "bias": bias}, 1e-5
    for field, array in arrays.items():
        numeric = np.empty_like(array)
        for at in np.ndindex(array.shape):
            losses = []
            for step in (h, -h):
                moved = array.copy()
                moved[at] += step
                losses.append(np.sum(dy * xent.dense(**(arrays | {field: moved}), activation=name)))
            numeric[at] = (losses[0] - losses[1]) / (2 * h)
        np.testing.assert_allclose(getattr(grads, field), numeric, rtol=0, atol=2e-9)


@every
def test_reference(tier, dtype, name):
    """The reference rounds nothing on the way; z and dz are rounded to the dtype here."""
    x, weight, bias, dy = layer(6, 5, 4, dtype)
    x, dy = x.reshape(2, 3, 5), dy.reshape(2, 3, 4)
    tolerance = 40 * float(np.finfo(dtype).eps)
    y, saved = forward(x, weight, bias, name)
    np.testing.assert_allclose(y, reference.dense(x, weight, bias, name), rtol=tolerance, atol=tolerance)
    got, norms = xent.dense_backward(dy, x, weight, saved, name, per_sample_norms=True)
    expected, exact_norms = reference.dense_backward(dy, x, weight, saved, name, per_sample_norms=True)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(norms, exact_norms, rtol=tolerance)


def test_per_sample_functions(tier, dtype):
    """Against a loop over the samples, and against the reference."""
    x, _, _, dz = layer(40, 6, 5, dtype)
    dz[3], x[5], dz[7] = 0, 0, dz[7] / 64
    x, dz = x.reshape(4, 10, 6), dz.reshape(4, 10, 5)
    samples = list(np.ndindex(4, 10))
    grads = xent.dense_sample_grads(dz, x)
    norms, plain = xent.dense_sample_norms(dz, x), xent.dense_sample_norms(dz, x, bias=False)
    tolerance = 8 * float(np.finfo(dtype).eps)
    for i in samples:
        same(grads[i], np.outer(dz[i], x[i]))
        one = math.sqrt(math.fsum(float(v) ** 2 for v in grads[i].ravel()))
        assert plain[i] == pytest.approx(one, rel=tolerance)
        assert norms[i] == pytest.approx(math.hypot(one, *map(float, dz[i])), rel=tolerance)
    s = np.random.default_rng(2).normal(size=(4, 10))
    weighted = xent.dense_weighted_grads(dz, x, s)
    clipped = xent.dense_clipped_grads(dz, x, 2.5)
    factors = {i: min(1.0, 2.5 / norms[i]) if norms[i] else 1.0 for i in samples}
    assert 0 < sum(f < 1 for f in factors.values()) < 40
    for got, factor in ((weighted, s), (clipped, factors)):
        assert got.x is None
        np.testing.assert_allclose(
            got.weight, sum(factor[i] * grads[i].astype(float) for i in samples), rtol=0, atol=40 * tolerance
        )
        np.testing.assert_allclose(
            got.bias, sum(factor[i] * dz[i].astype(float) for i in samples), rtol=0, atol=40 * tolerance
        )
    for function, arguments in {
        "dense_sample_norms": (),
        "dense_sample_grads": (),
        "dense_weighted_grads": (s,),
        "dense_clipped_grads": (2.5,),
    }.items():
        got, expected = getattr(xent, function)(dz, x, *arguments), getattr(reference, function)(dz, x, *arguments)
        for a, b in zip(*((r[1:] if isinstance(r, tuple) else [r]) for r in (got, expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=40 * tolerance)


def test_clipping(tier, dtype):
    """No clipped gradient is longer than asked; given norms, of a whole network, are taken instead; 0 / 0 is no NaN."""
    x, _, _, dz = layer(6, 3, 4, dtype)
    dz[2] = 0
    for i in range(6):
        one = xent.dense_clipped_grads(dz[i : i + 1], x[i : i + 1], 0.5)
        length = math.hypot(np.linalg.norm(one.weight), np.linalg.norm(one.bias))
        assert length <= 0.5 * (1 + 1e-6)
        assert length == pytest.approx(min(0.5, xent.dense_sample_norms(dz, x)[i]), rel=1e-6)
    norms = np.array([0, 1, 2, np.inf, 5, 0.25])
    factors = [1, 0.5, 0.25, 0, 0.1, 1]
    got = xent.dense_clipped_grads(dz, x, 0.5, sample_norms=norms)
    expected = xent.dense_weighted_grads(dz, x, factors)
    same(got.weight, expected.weight)
    same(got.bias, expected.bias)
    assert xent.dense_clipped_grads(dz, x, 0.5, bias=False).bias is None
    nothing = xent.dense_clipped_grads(dz, x, 0.0)
    assert not nothing.weight.any()


@pytest.mark.parametrize("layout", OUTS)
def test_per_sample_outputs(tier, dtype, layout):
    x, _, _, dz = layer(6, 3, 4, dtype)
    turn = LAYOUTS[layout]
    out = turn(np.zeros((6, 4, 3), dtype))
    assert xent.dense_sample_grads(dz, x, out=out) is out
    same(out, xent.dense_sample_grads(dz, x))
    given = xent.DenseGrads(None, turn(np.zeros((4, 3), dtype)), turn(np.zeros(4, dtype)))
    found = xent.dense_weighted_grads(dz, x, np.arange(6), out=given)
    assert found.weight is given.weight
    assert found.bias is given.bias
    expected = xent.dense_weighted_grads(turn(dz), turn(x), np.arange(6.0))
    same(found.bias, expected.bias)
    np.testing.assert_allclose(found.weight, expected.weight, rtol=0, atol=1e-4)


def test_integers_are_float64():
    y = xent.dense([[1, 2]], [[1, 1], [1, -1]], [0, 1], "relu")
    same(y, np.array([[3.0, 0.0]]))
    assert xent.dense_sample_norms([[3, 4]], [[0, 0]])[0] == 5.0


def test_bits_over_threads_and_tiers(dtype, every_tier, threads):
    """All that the kernels give for arrays large enough to be shared out."""
    for rows, columns in ((500, 129), (33, 5000), (20000, 10), (3, 70000), (4000, 64)):
        rng = np.random.default_rng(rows)
        z, dy = (rng.normal(0, 2, (rows, columns)).astype(dtype) for _ in range(2))
        bias, expected = rng.normal(size=columns).astype(dtype), None
        for _ in every_tier():
            for n in range(1, 9):
                xent.set_num_threads(n)
                y, saved, dz, db = z.copy(), np.empty_like(z), np.empty_like(dy), np.ones_like(bias)
                squares = np.empty((2, rows))
                _kernels.bias_activation(y, bias, NAMES.index("silu"), saved)
                _kernels.activation_backward(dy, saved, NAMES.index("silu"), dz, db, True, squares[0])
                _kernels.row_squares(dz, squares[1])
                assert squares[0].tobytes() == squares[1].tobytes()
                got = [a.tobytes() for a in (y, saved, dz, db, squares)]
                expected = expected or got
                assert got == expected


@pytest.mark.parametrize("columns", [*range(1, 70), 511, 512, 513, 1023, 1024, 1025, 1030, 2050])
def test_squares(tier, dtype, columns):
    """Positive terms: of float32 at most 6 roundings to float32 each (the bound is that of 5: they do not all go one
    way), else n / 64 + 12 in double."""
    x = np.random.default_rng(columns).normal(size=(35, columns)).astype(dtype)
    room = np.full(55, 7.0)
    out = room[:35]
    _kernels.row_squares(x, out)
    assert (room[35:] == 7.0).all()
    exact = [math.fsum(float(v) * float(v) for v in row) for row in x]
    rtol = (columns / 64 + 12) * 2.0**-53 + (5.1 * 2.0**-24 if dtype == np.float32 else 0.0)
    np.testing.assert_allclose(out, exact, rtol=rtol)
    alone = np.empty(1)
    for i in (0, 15, 16, 34):
        _kernels.row_squares(x[i : i + 1], alone)
        assert alone[0] == out[i]


@pytest.mark.parametrize("columns", [*range(1, 18), 32, 33, 64, 65])
def test_squares_of_any_number_of_rows(tier, dtype, columns):
    """A row has the same sum first, last, or alone, whatever vectors begin or end with it."""
    x = np.random.default_rng(columns).normal(size=(40, columns)).astype(dtype)
    alone = np.empty(40)
    for i in range(40):
        _kernels.row_squares(x[i : i + 1], alone[i : i + 1])
    for rows in range(1, 41):
        out = np.full(rows + 4, 7.0)
        _kernels.row_squares(x[:rows].copy(), out[:rows])
        same(out[:rows], alone[:rows])
        assert (out[rows:] == 7.0).all()


@pytest.mark.parametrize("columns", [64, 1023, 1024, 1025, 65536])
def test_squares_near_the_floor(tier, columns):
    """Of powers of two, squares and their sums are exact: what is wrong is what float32 sums begin with, at most 2^-28
    of a sum that is large enough, and nothing of others, which are taken in double."""
    for k in range(30, 56):
        out = np.empty(3)
        _kernels.row_squares(np.full((3, columns), 2.0**-k, np.float32), out)
        np.testing.assert_allclose(out, columns * 4.0**-k, rtol=2.0**-28)


@pytest.mark.parametrize("columns", [1, 10, 16, 17, 40, 64, 65, 530, 1030, 1100])
def test_squares_of_any_size(tier, columns):
    """Float32 squares that overflow or vanish, alone or beside others; zeros, infinities, NaN: as in double."""
    rng = np.random.default_rng(columns)
    x = (rng.normal(size=(40, columns)) * 2.0 ** rng.integers(-126, 126, (40, 1))).astype(np.float32)
    x[20:30] *= (2.0 ** rng.integers(-40, 1, (10, columns))).astype(np.float32)
    x[0], x[1, -1], x[2, 0], x[17] = 0, np.inf, np.nan, np.finfo(np.float32).tiny / 2
    x[3], x[4], x[5] = 2.0**-32, 2.0**-33, np.finfo(np.float32).max
    out = np.empty(40)
    _kernels.row_squares(x, out)
    wide = np.where(np.abs(x) < np.finfo(np.float32).tiny, 0, x).astype(float)
    np.testing.assert_allclose(out, (wide**2).sum(1), rtol=5.1 * 2.0**-24)
    y, dz = x.copy(), x.copy()
    backward, forward = np.empty(40), np.empty(40)
    _kernels.activation_backward(dz, None, 0, None, None, False, backward)
    same(backward, out)
    _kernels.bias_activation(y, None, 0, None, forward)
    same(forward, out)


def test_squares_of_the_output(tier, dtype):
    """In the sweep of the activation, or of what it has left: the same bits."""
    for rows, columns in ((1, 1), (35, 10), (33, 70), (5, 1100), (700, 600)):
        rng = np.random.default_rng(columns)
        z, bias = rng.normal(size=(rows, columns)).astype(dtype), rng.normal(size=columns).astype(dtype)
        for name in ("identity", "relu", "gelu"):
            y, plain, found, expected = z.copy(), z.copy(), np.empty(rows), np.empty(rows)
            _kernels.bias_activation(y, bias, NAMES.index(name), np.empty_like(z), found)
            _kernels.bias_activation(plain, bias, NAMES.index(name), None)
            _kernels.row_squares(y, expected)
            same(y, plain)
            same(found, expected)


def test_norms_beyond_squares():
    """Of float64 whose squares overflow or vanish; 0 stays 0, and what is in range warns of nothing."""
    x = np.array([[1e200, 0.0], [1e200, 1.0], [1e-200, 3e-200], [np.inf, 0.0], [3.0, 4.0]])
    dz = np.array([[0.0], [1e-200], [2e180], [0.0], [2.0]])
    with np.errstate(all="raise"):
        norms = xent.dense_sample_norms(dz, x)
        np.testing.assert_allclose(norms, [0.0, 1.0, 2e180, np.nan, 2 * 26**0.5], rtol=1e-15)
        bare = xent.dense_sample_norms(dz, x, bias=False)
        np.testing.assert_allclose(bare, [0.0, 1.0, 2e-20 * 10**0.5, np.nan, 10.0], rtol=1e-15)
        _, with_grads = xent.dense_backward(dz, x, np.ones((1, 2)), None, None, need="bias", per_sample_norms=True)
        same(with_grads, norms)
        tiny = xent.dense_sample_norms(np.float32([[1e-30]]), np.float32([[1e-38]]), bias=False)
    assert tiny == 0
    assert tiny.dtype == np.float32


def test_clipped_beyond_the_dtype():
    """A norm that the dtype cannot hold is clipped all the same."""
    same(
        xent.dense_clipped_grads(np.float32([[1e25]]), np.float32([[1e25]]), 1.0, bias=False).weight, np.float32([[1]])
    )
    large = xent.dense_clipped_grads(np.float32([[1e25, 0], [1, 2]]), np.float32([[1e25], [1e-3]]), 1.0)
    small = xent.dense_clipped_grads(np.float32([[1, 2]]), np.float32([[1e-3]]), 1.0)
    np.testing.assert_allclose(large.weight, small.weight + np.eye(2)[:, :1], rtol=2.0**-22)
    wide = xent.dense_clipped_grads([[1e155]], [[1.0]], 1.0)
    np.testing.assert_allclose([*wide.weight[0], *wide.bias], 0.5**0.5, rtol=1e-15)
    weighted = xent.dense_weighted_grads(np.float32([[1e25]]), np.float32([[1e25]]), [1e-50])
    np.testing.assert_allclose(weighted.weight, 1.0, rtol=2.0**-22)


def test_norms_beyond_float32():
    """The squares are in double, so a norm is finite where its square is not."""
    x, dz = np.full((1, 3), 1e18, np.float32), np.full((1, 2), 1e18, np.float32)
    assert xent.dense_sample_norms(dz, x)[0] == pytest.approx(6**0.5 * 1e36)
    tiny = xent.dense_sample_norms(np.full((1, 1), 1e-36, np.float32), np.zeros((1, 1), np.float32))
    assert tiny[0] == pytest.approx(1e-36)
