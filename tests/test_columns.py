"""Rows that lie side by side in memory, packed as columns (csrc/kernels/pack_columns.h): the bits of contiguous rows,
however packs are cut, batches mixed, and whatever is special in rows."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import xent

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def at_offset(a, elements):
    """The same numbers, that many elements behind the beginning of a line."""
    room = np.zeros(a.size + 32, a.dtype)
    start = -room.ctypes.data % 64 // a.itemsize + elements
    out = room[start : start + a.size].reshape(a.shape)
    out[...] = a
    return out


def logits(rows, classes, dtype, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (rows, classes)).astype(dtype)


def special(z):
    """Some rows that need more than a batch of ordinary ones, far apart and beside each other."""
    rows = len(z)
    z[3 % rows, -1] = np.nan
    z[40 % rows, 0] = np.inf
    z[41 % rows] = -np.inf
    z[70 % rows] += 1e5
    z[71 % rows, 1:] = -200.0  # results vanish
    z[100 % rows, 0] = 90.0  # p is nearly 1
    z[101 % rows, -1] = 20.0
    z[130 % rows, : z.shape[1] // 2] = -np.inf
    return z


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    np.testing.assert_array_equal(
        np.ascontiguousarray(a).view(f"u{a.itemsize}"), np.ascontiguousarray(b).view(f"u{b.itemsize}")
    )


def check_all(z, y, offset=0, **options):
    """z (rows, classes): everything, class axis first, against contiguous rows."""
    turned = at_offset(np.ascontiguousarray(z.T), offset)
    loss, grad, lse = xent.cross_entropy_with_grad(z, y, return_lse=True, **options)
    out = at_offset(np.full(turned.shape, 7, z.dtype), offset)
    given = xent.cross_entropy_with_grad(turned, y, axis=0, return_lse=True, out=out, **options)
    same(given[0], loss)
    same(out.T, grad)
    same(given[2], lse)
    same(xent.cross_entropy(turned, y, axis=0, **options), loss)
    own = at_offset(turned, offset)
    xent.cross_entropy_with_grad(own, y, axis=0, out=own, **options)
    same(own.T, grad)
    same(xent.logsumexp(turned, axis=0), xent.logsumexp(z, axis=-1))
    same(xent.softmax(turned, axis=0).T, xent.softmax(z, axis=-1))
    same(xent.log_softmax(turned, axis=0).T, xent.log_softmax(z, axis=-1))


@pytest.mark.parametrize("rows", [16, 31, 33, 64, 100, 255, 257, 273, 700])
@pytest.mark.parametrize("classes", [2, 31, 65, 129])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_packs(tier, dtype, classes, rows):
    y = np.random.default_rng(1).integers(0, classes, rows)
    for z in (logits(rows, classes, dtype), special(logits(rows, classes, dtype))):
        check_all(z, y, offset=rows % 16)


@pytest.mark.parametrize("offset", [0, 1, 4, 15])
def test_where_lines_begin(tier, offset, threads):
    """A pack ends where a line of the result does: in the middle of a group whose losses are added up."""
    z, y = logits(1500, 300, "f4"), np.random.default_rng(1).integers(0, 300, 1500)
    for n in (1, 2, 3):
        xent.set_num_threads(n)
        check_all(z, y, offset, reduction="sum")


@pytest.mark.parametrize("kind", ["plain", "one label", "some special", "weights"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_large_packs(tier, threads, dtype, kind):
    """Packs of more than 256 KiB are scaled on their way out: all of their rows or, beside others, in the pack."""
    rows, classes = 800, 270 if dtype == "f4" else 140
    z, y = logits(rows, classes, dtype), np.random.default_rng(1).integers(0, classes, rows)
    options = {}
    z[np.arange(600, 792, 32), np.arange(classes - 6, classes)] = -80.0 if dtype == "f4" else -715.0  # vanish
    if kind == "one label":
        y[:] = classes - 1
        z[::3, -1] = 40.0
    if kind == "some special":  # in five groups of 32 rows of the first pack
        special(z)
    if kind == "weights":
        weight = np.ones(rows)
        weight[300:310], y[50] = 0.0, -1
        options = {"ignore_index": -1, "z_loss": 0.01}
        if dtype == "f4":
            options["sample_weight"] = weight
    for offset in (0, 3):
        xent.set_num_threads(2 if offset else 1)  # 400 rows for each: packs are whole
        check_all(z, y, offset, **options)
    xent.set_num_threads(1)
    several, labels = np.ascontiguousarray(z.T).reshape(classes, 4, 200)[:, :, 1:150], y.reshape(4, 200)[:, 1:150]
    plain = np.ascontiguousarray(np.moveaxis(several, 0, -1))
    loss, grad = xent.cross_entropy_with_grad(plain, labels, **({} if kind == "weights" else options), ignore_index=-1)
    out = np.full((classes, 4, 200), 7, z.dtype)
    for a, of in ((several, out[:, :, 1:150]), (several[::-1], out[::-1, :, 1:150])):  # runs; classes backwards
        turned = labels if a is several else np.where(labels < 0, -1, classes - 1 - labels)
        given = xent.cross_entropy_with_grad(a, turned, axis=0, out=of, ignore_index=-1)
        if a is several:
            same(given[0], loss)
            same(np.moveaxis(of, 0, -1), grad)
        backwards = np.ascontiguousarray(np.moveaxis(a, 0, -1))
        same(np.moveaxis(of, 0, -1), xent.cross_entropy_with_grad(backwards, turned, ignore_index=-1)[1])
    assert (out[:, :, 0] == 7).all()
    assert (out[:, :, 150:] == 7).all()


@pytest.mark.parametrize("classes", [2100, 4096, 4097, 8192, 12300])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_several_blocks(tier, dtype, classes):
    z, y = logits(70, classes, dtype), np.random.default_rng(1).integers(0, classes, 70)
    z[5, 4000:] -= 30.0  # blocks of other scales
    z[6, :4090] -= 300.0
    z[7, -1] = 60.0  # p is nearly 1, in the last block
    z[8, 0] = 12.0
    check_all(z, y)
    z[10, 1:] = -95.0 if dtype == "f4" else -720.0  # results vanish, beside rows where none does
    check_all(z, y)
    check_all(special(z.copy()), y)
    far = z.copy()
    far[9, -1] = 70000.0
    check_all(far, y)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_as_many_blocks_as_there_may_be(tier, dtype):
    classes = 262144 // np.dtype(dtype).itemsize
    z, y = logits(37, classes, dtype), np.random.default_rng(1).integers(0, classes, 37)
    z[np.arange(37), np.arange(37) * (classes // 37)] = np.linspace(0.0, 40.0, 37)
    check_all(z, y)


@pytest.fixture
def two_threads():
    before = xent.get_num_threads()
    xent.set_num_threads(2)
    yield
    xent.set_num_threads(before)


@pytest.mark.parametrize("kind", ["vanishing", "special", "masked"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rows_that_come_twice(tier, dtype, kind, two_threads):
    """More classes than are packed whole: a block at a time, for the sums and for the results; or, where a row is not
    finite, or far, or has a block without a finite logit, where they lie, as 32 rows at a time are."""
    rows, classes = 45, 262144 // np.dtype(dtype).itemsize + 1
    rng = np.random.default_rng(2)
    z, y = logits(rows, classes, dtype), rng.integers(0, classes, rows)
    z[0, -1], y[0] = 30, classes - 1  # the last block has one class
    z[1, 4096], y[1] = 60, 4095
    if kind == "vanishing":
        z *= rng.choice([1, 30], (rows, 1))
        z[:, 5000:9000][:, ::3] = -np.inf
        z[20:, 4096:8192] = -1e4
    if kind == "special":
        z[3, 5], z[5, -1], z[6], z[34] = np.nan, np.inf, -np.inf, z[34] + 1e5
    if kind == "masked":
        z[40, 4096:8192] = -np.inf
    check_all(z, y, offset=3)
    turned, factor = np.ascontiguousarray(z.T), np.resize([1, -1, 0, -0.0, 1e-40, -1e-30, 1e30, 1e-300], rows)
    if dtype == "f8":
        factor = -1.0  # with a factor for each row float64 is done row by row
    plain = xent.cross_entropy_grad(z, y, factor, reduction="none", z_loss=0.01)
    same(xent.cross_entropy_grad(turned, y, factor, axis=0, reduction="none", z_loss=0.01).T, plain)
    y[::4], weight = -1, np.resize([0, 0.5, 2], rows)
    options = {"ignore_index": -1, "return_lse": True, "reduction": "sum"}
    if dtype == "f4":
        options["sample_weight"] = weight
    plain = xent.cross_entropy_with_grad(z, y, **options)
    given = xent.cross_entropy_with_grad(turned, y, axis=0, out=turned, **options)
    for one, other in zip(given, (plain[0], plain[1].T, plain[2]), strict=True):
        same(one, other)
    half = z.astype("f2")
    turned = np.ascontiguousarray(half.T)
    same(xent.cross_entropy(turned, y, axis=0, ignore_index=-1), xent.cross_entropy(half, y, ignore_index=-1))
    same(xent.logsumexp(turned, axis=0), xent.logsumexp(half, axis=1))


@pytest.mark.parametrize("classes", [20, 300, 5000])
def test_factors_and_ties(tier, classes):
    """Factors of either sign, 0, and such that results vanish; two largest logits alike, so that p is about 1/2."""
    rows = 200
    z, y = logits(rows, classes, "f4"), np.random.default_rng(1).integers(0, classes, rows)
    z[::3, 1] = z[::3, classes - 2] = 30.0
    z[1::6, 1] = np.nextafter(z[1::6, classes - 2], np.float32(np.inf))
    grad_loss = np.tile([-1.0, 0.0, -0.0, 1e-40, -1e-30, 1e30, 2.5, 1e-12], rows // 8)
    turned = np.ascontiguousarray(z.T)
    for options in ({}, {"z_loss": 0.01}):
        plain = xent.cross_entropy_grad(z, y, grad_loss, reduction="none", **options)
        same(xent.cross_entropy_grad(turned, y, grad_loss, axis=0, reduction="none", **options).T, plain)
    huge = z.copy()
    huge[60:70, 0] = 3e38  # losses whose sum is infinite, in groups that two packs share
    for reduction in ("sum", "mean"):
        check_all(huge, y, offset=5, reduction=reduction)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", ">f4", "f4"])
def test_several_blocks_that_are_converted(tier, dtype):
    """16 bits, another byte order, every second row; and rows that are not all of one run."""
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    rng = np.random.default_rng(4)
    a = rng.normal(0, 3, (6500, 2, 90)).astype(dtype)[:, :, 1:89:2]
    y = rng.integers(0, 6500, (2, 44))
    plain = np.ascontiguousarray(np.moveaxis(a, 0, -1))
    loss, grad = xent.cross_entropy_with_grad(plain, y)
    assert grad.dtype == dtype.newbyteorder("=")
    out = np.zeros(a.shape, grad.dtype)
    same(xent.cross_entropy_with_grad(a, y, axis=0, out=out)[0], loss)
    same(np.moveaxis(out, 0, -1), grad)
    same(xent.cross_entropy(a, y, axis=0), loss)
    same(xent.logsumexp(a, axis=0), xent.logsumexp(plain, axis=-1))
    same(np.moveaxis(xent.log_softmax(a, axis=0), 0, -1), xent.log_softmax(plain, axis=-1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("classes", [3, 200, 2500, 4500])
def test_rows_that_do_not_count(tier, classes, dtype):
    """Among columns they are taken with the others; what they hold makes no difference, nor does their number."""
    rng = np.random.default_rng(2)
    z, y = logits(300, classes, dtype), rng.integers(0, classes, 300)
    y[rng.random(300) < 0.3] = -1
    y[64:128] = -1
    weight = rng.random(300)
    weight[::7] = 0.0
    if classes > 1000:
        z, y, weight = z[:80], y[:80], weight[:80]
    for options in (
        {"ignore_index": -1},
        {"ignore_index": -1, "reduction": "none"},
        {"ignore_index": -1, "sample_weight": weight, "z_loss": 0.1},
        {"ignore_index": -1, "class_weight": rng.random(classes)},
        {"ignore_index": -1, "normalizer": 3.0},
    ):
        check_all(z, y, **options)
    check_all(z, np.full(len(y), -1), ignore_index=-1)
    hidden = z.copy()
    hidden[y == -1] = np.nan
    turned = np.ascontiguousarray(hidden.T)
    loss, grad = xent.cross_entropy_with_grad(turned, y, axis=0, ignore_index=-1)
    same(loss, xent.cross_entropy(z, y, ignore_index=-1))
    assert not grad[:, y == -1].any()


@pytest.mark.parametrize("classes", [10, 500, 9000])
def test_past_the_cache(tier, classes):
    """Results of 16 MiB and more, which are stored by whole lines where these begin within rows or not."""
    rows = (1 << 22) // classes + 77
    z, y = logits(rows, classes, "f4"), np.random.default_rng(1).integers(0, classes, rows)
    _, grad = xent.cross_entropy_with_grad(z, y)
    for offset in (0, 4):
        turned = at_offset(np.ascontiguousarray(z.T), offset)
        out = at_offset(np.zeros(turned.shape, "f4"), offset)
        xent.cross_entropy_with_grad(turned, y, axis=0, out=out)
        same(out.T, grad)


def test_results_in_another_layout(tier):
    z, y = logits(90, 40, "f4"), np.random.default_rng(1).integers(0, 40, 90)
    _, grad = xent.cross_entropy_with_grad(z, y)
    for a, out in itertools.product((z, np.asfortranarray(z)), (np.empty_like(z), np.asfortranarray(z))):
        xent.cross_entropy_with_grad(a, y, out=out)
        same(out, grad)
        same(xent.softmax(a, axis=1, out=out), xent.softmax(z, axis=1))
        same(xent.log_softmax(a, axis=1, out=out), xent.log_softmax(z, axis=1))


def test_axes_that_do_not_merge(tier):
    """Several class axes and several batch axes, each with gaps."""
    a = np.random.default_rng(3).normal(size=(3, 5, 8, 4, 36)).astype("f4")[:, ::2, :, ::2, 2:34]
    plain = np.ascontiguousarray(np.moveaxis(a, (1, 3), (-2, -1)))
    same(xent.logsumexp(a, axis=(1, 3)), xent.logsumexp(plain, axis=(-2, -1)))
    same(np.moveaxis(xent.softmax(a, axis=(1, 3)), (1, 3), (-2, -1)), xent.softmax(plain, axis=(-2, -1)))
    same(np.moveaxis(xent.log_softmax(a, axis=(1, 3)), (1, 3), (-2, -1)), xent.log_softmax(plain, axis=(-2, -1)))


def test_class_axes_across_blocks(tier):
    a = np.random.default_rng(3).normal(size=(70, 2, 75, 2, 200)).astype("f4")[:, :1, :, :1]
    a[:, :, :, :, 7] += 5e4  # with a far row beside it
    for z in (a, a[..., 8:], a[..., :7]):
        plain = np.ascontiguousarray(z).reshape(-1, z.shape[-1]).T
        same(xent.logsumexp(z, axis=(0, 1, 2, 3)), xent.logsumexp(plain, axis=1))
        same(xent.softmax(z, axis=(0, 1, 2, 3)).reshape(plain.T.shape).T, xent.softmax(plain, axis=1))
