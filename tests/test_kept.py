"""Large results, whose terms are kept while the next rows are summed and which are stored past the cache, have the bits
of the same rows in place, where nothing is kept; and nothing beside them is written.

From 16 MiB on (XENT_STREAM_BYTES), rows of 257 classes (XENT_KEPT; with AVX-512 192; with AVX2, where XENT_THROUGH
says so, 2,041, float64 1,537) to 64 blocks of 4,096 (XENT_BLOCK, XENT_LONG_BLOCKS): whole and broken groups of
lanes, whole lines and such as two rows or two blocks share, last blocks of any length, rows that follow each other
and rows that do not. Of rows of many blocks few threads keep the terms (XENT_LONG_MEMORY): these have one.
"""

import numpy as np
import pytest

import xent

SHAPES = {
    "float32": [
        *[(4300, 1000), (4201, 999), (6601, 641), (21900, 192), (16400, 257), (14100, 300), (1030, 4096)],
        *[(3300, 1281), (2600, 1643), (2101, 1999), (2030, 2081), (1500, 2801), (1031, 4095)],
    ],
    "float64": [(2200, 999), (9100, 233), (8200, 257), (1060, 1999)],
}
LONG = {
    "float32": [
        *[(1030, 4097), (1029, 4100), (1025, 4111), (1025, 4112), (515, 8191), (512, 8192), (512, 8200), (130, 33000)],
        *[(30, 262144), (24, 262145)],
    ],
    "float64": [(512, 4097), (60, 70001), (24, 262144)],
}
CASES = [(np.dtype(name), *shape) for shapes in (SHAPES, LONG) for name in shapes for shape in shapes[name]]
SPACED = [
    (200, 208),
    (200, 209),
    (200, 214),
    (261, 269),
    (261, 270),
    (261, 275),
    (1301, 1310),
    (2101, 2110),
    (4098, 4099),
    (8200, 8217),
]
OPTIONS = {
    "plain": {},
    "sum, z_loss": {"reduction": "sum", "z_loss": 0.1},
    "ignored rows, no weight": {"ignore_index": -1, "sample_weight": True},
}
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def problem(rows, classes, dtype, offset):
    """Logits that begin `offset` elements into a buffer, among them rows of every other kind; and labels."""
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 3, rows * classes + 16).astype(dtype)[offset : offset + rows * classes].reshape(rows, classes)
    assert z.nbytes >= 2**24
    z[5] += 1e6  # far
    z[7, 3], z[11, 0], z[13] = np.nan, np.inf, -np.inf
    z[17, 2] += 50  # likely
    z[20:23] *= 300  # a wide spread
    y = rng.integers(0, classes, rows)
    y[17:19] = 2
    y[20] = z[20].argmax()
    return z, y


@pytest.fixture(autouse=True)
def one_thread(request):
    """For rows of several blocks."""
    before = xent.get_num_threads()
    if request.node.callspec.params.get("classes", 0) > 4096:
        xent.set_num_threads(1)
    yield
    xent.set_num_threads(before)


def guarded(rows, classes, dtype, offset):
    buffer = np.full(rows * classes + 16, 7, dtype)
    return buffer, buffer[offset : offset + rows * classes].reshape(rows, classes)


def untouched(buffer, offset, size):
    return np.all(buffer[:offset] == 7) and np.all(buffer[offset + size :] == 7)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("dtype", "rows", "classes"), CASES)
def test_loss_and_gradient(tier, dtype, rows, classes, options):
    z, y = problem(rows, classes, dtype, 1)
    options = dict(options)
    if options.pop("sample_weight", False):
        options["sample_weight"] = np.where(np.arange(rows) % 9 == 4, 0.0, 1.5)
        y[30:40:3] = -1
    buffer, out = guarded(rows, classes, dtype, 3)
    loss, grad = xent.cross_entropy_with_grad(z, y, out=out, **options)
    assert grad is out
    assert untouched(buffer, 3, out.size)
    in_place = z.copy()
    expected, _ = xent.cross_entropy_with_grad(in_place, y, out=in_place, **options)
    assert out.tobytes() == in_place.tobytes()
    assert np.array(loss).tobytes() == np.array(expected).tobytes()


@pytest.mark.parametrize(("dtype", "rows", "classes"), CASES)
def test_softmax(tier, dtype, rows, classes):
    z, _ = problem(rows, classes, dtype, 5)
    buffer, out = guarded(rows, classes, dtype, 2)
    xent.softmax(z, axis=1, out=out)
    assert untouched(buffer, 2, out.size)
    assert out.tobytes() == xent.softmax(z, axis=1, out=z).tobytes()


def mixed_rows(rows, classes, dtype):
    """Rows whose results vanish in part or not, one beside the other: plain ones, wide spreads, masks here and there
    and of whole blocks, results around the smallest normal number; labels among what vanishes; factors of any size."""
    rng = np.random.default_rng(rows)
    z = rng.normal(size=(rows, classes)) * rng.choice([1, 3, 10, 30], (rows, 1))
    kind, half = rng.integers(0, 8, rows), classes // 2
    for masked, value in ((1, -np.inf), (2, -1e4)):
        z[(kind == masked)[:, None] & (rng.random(z.shape) < 0.3)] = value
    z[kind == 3, :half], z[kind == 4, half:] = -np.inf, -1e4
    z[kind == 5] = np.linspace(np.log(float(np.finfo(dtype).tiny)) - 4, 2, classes)
    z[kind == 6] -= 300
    factor = rng.choice([1, -1, 1e-3, -1e-30, 1e-44, 1e30, 1e-80, 0], rows)
    return z.astype(dtype), rng.integers(0, classes, rows), np.where(rng.random(rows) < 0.7, 1.0, factor)


@pytest.mark.parametrize(
    ("dtype", "rows", "classes"),
    [case for case in CASES if case[2] in (999, 1000, 1999, 2081, 4096, 4111, 33000, 262144, 70001)],
)
def test_rows_whose_results_vanish_flow_with_the_others(tier, dtype, rows, classes):
    z, y, factor = mixed_rows(rows, classes, dtype)
    out = np.full_like(z, 7)
    xent.cross_entropy_grad(z, y, factor, reduction="none", out=out)
    in_place = z.copy()
    xent.cross_entropy_grad(in_place, y, factor, reduction="none", out=in_place)
    assert out.tobytes() == in_place.tobytes()
    xent.softmax(z, axis=1, out=out)
    for row in range(0, rows, max(rows // 50, 1)):
        assert out[row].tobytes() == xent.softmax(z[row]).tobytes()
    assert out.tobytes() == xent.softmax(z, axis=1, out=z).tobytes()
    assert not np.any((out != 0) & (out < np.finfo(dtype).tiny))


@pytest.mark.parametrize(("classes", "step"), SPACED)
def test_rows_with_room_between(tier, classes, step):
    """`step` numbers from one to the next: what is between, often in a line with both, is not theirs."""
    rows = 2**22 // classes + 30
    z, y = problem(rows, classes, np.dtype("float32"), 1)
    buffer = np.full((rows, step), 7, np.float32)
    out = buffer[:, :classes]
    loss, _ = xent.cross_entropy_with_grad(z, y, out=out)
    assert (buffer[:, classes:] == 7).all()
    expected, _ = xent.cross_entropy_with_grad(z, y, out=z)
    assert out.tobytes() == z.tobytes()
    assert np.array(loss).tobytes() == np.array(expected).tobytes()


@pytest.mark.parametrize("classes", [200, 261, 1301, 2101, 4101])
def test_rows_of_large_results_backwards(tier, classes):
    z, y = problem(2**22 // classes + 30, classes, np.dtype("float32"), 1)
    out = np.empty_like(z)[::-1]
    xent.cross_entropy_with_grad(z, y, out=out)
    xent.cross_entropy_with_grad(z, y, out=z)
    assert out.tobytes() == z.tobytes()


@pytest.mark.parametrize(("rows", "classes"), [(21000, 201), (16200, 261), (3300, 1289), (2060, 2057)])
def test_likely_and_label_wherever_they_are(tier, rows, classes):
    """In one line, in two, in one shared with the row before or the next: most rows of a trained network are such."""
    z = np.random.default_rng(3).normal(size=(rows, classes)).astype(np.float32)
    assert z.nbytes >= 2**24
    at = np.arange(rows)
    likely, y = at % classes, (at % classes + at // classes) % classes
    z[at, likely] += 12
    out = np.empty_like(z)
    xent.cross_entropy_with_grad(z, y, out=out)
    xent.cross_entropy_with_grad(z, y, out=z)
    assert out.tobytes() == z.tobytes()


@pytest.mark.parametrize("classes", [4097, 4105, 9001])
def test_likely_and_label_in_any_block(tier, classes):
    """At and around the ends of blocks and rows."""
    rows = 2**22 // classes + 1
    z = np.random.default_rng(3).normal(size=(rows, classes)).astype(np.float32)
    ends = (np.array([0, 4096, 8192, classes])[:, None] + np.arange(-17, 17)).ravel()
    ends = ends[(ends >= 0) & (ends < classes)]
    likely, y = np.random.default_rng(4).choice(ends, (2, rows))
    y[::3] = likely[::3]
    z[np.arange(rows), likely] += 15
    out = np.empty_like(z)
    xent.cross_entropy_with_grad(z, y, out=out)
    xent.cross_entropy_with_grad(z, y, out=z)
    assert out.tobytes() == z.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
def test_long_rows_on_many_threads(threads):
    """Where threads end within a line; and where they are so many that none keeps terms of such rows."""
    rows, classes = 150, 30001
    z, y = problem(rows, classes, np.dtype("float32"), 1)
    buffer, out = guarded(rows, classes, np.dtype("float32"), 3)
    xent.set_num_threads(threads)
    xent.cross_entropy_with_grad(z, y, out=out)
    assert untouched(buffer, 3, out.size)
    xent.cross_entropy_with_grad(z, y, out=z)
    assert out.tobytes() == z.tobytes()


@pytest.mark.parametrize("classes", [10, 64, 128])
def test_rows_side_by_side_whose_results_do_not_follow_each_other(classes, tier):
    """Batch axes of `out` in another order: the first and the last row of 64 lie as if all followed each other."""
    shape = (2**22 // (64 * classes) + 8, 8, 8, classes)
    z = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = np.random.default_rng(1).integers(0, classes, shape[:-1])
    out = np.zeros(shape, np.float32).transpose(0, 2, 1, 3)
    assert out.nbytes >= 2**24
    loss, grad = xent.cross_entropy_with_grad(z, y)
    assert xent.cross_entropy_with_grad(z, y, out=out)[0] == loss
    np.testing.assert_array_equal(out, grad)
    xent.softmax(z, axis=-1, out=out)
    np.testing.assert_array_equal(out, xent.softmax(z, axis=-1))
