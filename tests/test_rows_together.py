"""Kernels that take several rows at once, or turn aside for one: a row's bits do not depend on its neighbours."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import xent

CLASSES = [1, 2, 4, 5, 6, 7, 9, 14, 18, 31, 32, 33, 100, 129, 256, 257, 700, 1023, 1024, 1025, 2100]
DTYPES = [np.float32, np.float64]


def logits(classes, dtype, rows=37):
    rng = np.random.default_rng((classes, np.dtype(dtype).itemsize))
    z = (4 * rng.standard_normal((rows, classes))).astype(dtype)
    z[5] *= 3e4  # far
    z[11, 0] = -np.inf
    z[17, -1] = np.inf
    z[23] = np.nan
    return z


def rows_of(call, *arrays):
    """Loss and gradient of each row alone."""
    parts = [call(*(a[i : i + 1] for a in arrays)) for i in range(len(arrays[0]))]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def same(a, b):
    for its, others in zip(a, b, strict=True):
        np.testing.assert_array_equal(its, others)
        assert np.asarray(its).tobytes() == np.asarray(others).tobytes()  # the sign of a 0 and of a NaN


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_probability_rows(classes, dtype, tier):
    """One-hot rows, which are those of a label, between others; a row of zeros."""
    z, rng = logits(classes, dtype), np.random.default_rng(classes)
    q = rng.random(z.shape).astype(dtype)
    hot = np.arange(0, len(z), 3)
    q[hot] = 0
    q[hot, hot % classes] = 1
    q[7] = 0

    def call(z, q):
        return xent.cross_entropy_with_grad(z, q, reduction="none")

    together = call(z, q)
    same(together, rows_of(call, z, q))
    by_label = xent.cross_entropy_with_grad(z[hot], hot % classes, reduction="none")
    if classes > 1:
        same((together[0][hot], together[1][hot]), by_label)
    in_place = z.copy()
    xent.cross_entropy_with_grad(in_place, q, reduction="none", out=in_place)
    np.testing.assert_array_equal(in_place, together[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 8, 10, 31, 32, 33, 64, 100, 128, 250])
@pytest.mark.parametrize("odd", [False, True])
def test_target_rows_side_by_side(classes, dtype, odd, tier):
    """Near logits, so that few classes are worked on side by side; one-hot rows and zeros among the targets. Odd: in
    one batch rows that need more than that; the rest of it does not take part."""
    rng = np.random.default_rng((classes, odd))
    z = (3 * rng.standard_normal((70, classes))).astype(dtype)
    q = rng.random(z.shape).astype(dtype)
    hot = np.arange(2, 70, 9)
    q[hot] = 0
    q[hot, hot % classes] = 0.75
    q[[5, 40]] = 0
    z[67] = -2592  # deep: these count for nothing, and formed without regard to that, their exponent would come round
    z[67, 0] = 0
    if odd:
        z[37, 0], z[39, 1], z[41] = -np.inf, -np.inf, np.nan
        q[37, 0] = 0  # 0 times infinity is 0,
        q[39, 1] = 0.5  # and this an infinite loss
    weight = rng.random(70) * (np.arange(70) % 11 != 0)
    options = [{"label_smoothing": 0.25}, {"z_loss": 0.5}, {"class_weight": rng.random(classes)}, {}]
    for option in options:

        def call(z, q, weight, option=option, **out):
            return xent.cross_entropy_with_grad(z, q, sample_weight=weight, reduction="none", **option, **out)

        together = call(z, q, weight)
        same(together, rows_of(call, z, q, weight))
        for targets in (q.astype(np.float64), np.asfortranarray(q), np.repeat(q, 2, axis=0)[::2]):
            same(together, call(z, targets, weight))
        in_place = z.copy()
        same(together, call(in_place, q, weight, out=in_place))
        alone = xent.cross_entropy(z, q, sample_weight=weight, reduction="none", **option)
        np.testing.assert_array_equal(alone, together[0])
    if odd:
        assert np.isfinite(together[0][[36, 37, 40]]).all()
        assert np.isinf(together[0][39])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 3, 10, 45, 600])
def test_the_mean_of_any_layout(classes, dtype, tier):
    """The divisor is summed over the numbers of a group of rows, one row after another, wherever they lie."""
    rng = np.random.default_rng(classes)
    z = rng.standard_normal((100, classes)).astype(dtype)
    q = rng.random(z.shape, dtype=np.float32).astype(dtype)
    mean = xent.cross_entropy_with_grad(z, q)
    wide = np.zeros((100, 2 * classes + 1), dtype)
    wide[:, 1::2] = q
    gaps = np.zeros((100, classes + 3), dtype)
    gaps[:, 2:-1] = q
    layouts = [
        np.asfortranarray(q),
        wide[:, 1::2],
        gaps[:, 2:-1],
        q.astype(np.float64),
        q.astype(q.dtype.newbyteorder()),
    ]
    for targets in layouts:
        same(mean, xent.cross_entropy_with_grad(z, targets))


def test_the_mean_where_the_order_shows(tier):
    """Targets whose sum is near a tie of two doubles, so that the divisor tells in which order they were added."""
    rng = np.random.default_rng(0)
    for classes in (3, 10, 45):
        for _ in range(100):
            q = rng.choice([0.0, 1.0, 2.0**53, 2.0**-53, 2.0**-54], (7, classes), p=[0.2, 0.2, 0.2, 0.2, 0.2])
            z = rng.standard_normal(q.shape)
            gaps = np.zeros((7, classes + 3))
            gaps[:, 2:-1] = q
            mean = xent.cross_entropy(z, q)
            for targets in (np.asfortranarray(q), gaps[:, 2:-1], q.astype(q.dtype.newbyteorder())):
                assert xent.cross_entropy(z, targets).tobytes() == mean.tobytes()


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.int64, np.float64])
@pytest.mark.parametrize("classes", [1, 3, 40, 1024, 1500])
def test_sigmoid_targets_of_any_type(classes, kind, tier):
    """Rows without gaps between them are taken as one: also of few classes, of one, and of every type."""
    rng = np.random.default_rng(classes)
    z = (4 * rng.standard_normal((90, classes))).astype(np.float32)
    t = (rng.random(z.shape) < 0.3).astype(np.float32)
    positive = rng.random(classes)
    for options in (
        {},
        {"pos_weight": positive},
        {"sample_weight": rng.random(90)},
        {"sample_weight": rng.random(z.shape)},
    ):
        expected = xent.sigmoid_cross_entropy_with_grad(z, t, **options)
        same(expected, xent.sigmoid_cross_entropy_with_grad(z, t.astype(kind), **options))
        gaps = np.zeros((90, classes + 2), np.float32)
        gaps[:, 1:-1] = z
        same(
            expected, xent.sigmoid_cross_entropy_with_grad(gaps[:, 1:-1], np.asfortranarray(t.astype(kind)), **options)
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 40, 160])
def test_rows_without_mass(classes, dtype, tier):
    """Their gradient is 0, however often they count; a factor of 4 and more had made it NaN."""
    z = np.random.default_rng(classes).standard_normal((5, classes)).astype(dtype)
    q = np.zeros(z.shape, dtype)
    q[0] = 0.1
    q[1, :2] = np.finfo(dtype).smallest_normal  # and of hardly any mass
    for weight in (0.5, 16.0, 1e30):
        losses, grads = xent.cross_entropy_with_grad(z, q, sample_weight=np.full(5, weight), reduction="none")
        assert not losses[2:].any()
        assert not grads[2:].any()
        assert np.isfinite(grads).all()


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("classes", [4, 300])
def test_losses_that_count_otherwise_than_gradients(classes, labels, tier):
    """Logits that a shallow guard leaves out show in a loss of a large weight, also where its gradient has a small
    factor; and so whatever the rows beside it count."""
    x, w = np.full((40, classes), -115, np.float32), np.eye(classes, dtype=np.float32)
    x[:, 0] = 0
    y = np.zeros(40, np.int64)
    targets = y if labels else w[y]
    sample, factor = np.full(40, 1e30), np.full(40, 1e-30)
    factor[::7] = 1e10

    def losses(rows):
        options = {"sample_weight": sample[rows], "grad_loss": factor[rows], "reduction": "none"}
        return xent.linear_cross_entropy_with_grad(x[rows], w, targets[rows], **options)[0]

    together = losses(slice(None))
    np.testing.assert_allclose(together, 1e30 * (classes - 1) * np.exp(-115), rtol=1e-6)
    np.testing.assert_array_equal(together, np.concatenate([losses(slice(i, i + 1)) for i in range(40)]))


def test_the_sign_of_a_nan_of_one_hot_rows(tier):
    """0 times an infinite mass, which has the sign that the processor gives it."""
    with np.errstate(all="ignore"):
        losses = xent.cross_entropy(
            np.zeros((2, 1), np.float32), np.full((2, 1), 1e298), class_weight=np.full(1, 1e30), reduction="none"
        )
    assert losses.tobytes() == np.full(2, np.nan, np.float32).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_smoothed_labels(classes, dtype, tier):
    """Ignored labels between others, and the same as rows of probabilities."""
    z, rng = logits(classes, dtype), np.random.default_rng(classes)
    y = rng.integers(0, classes, len(z))
    y[[0, 4, 16, 17, 36]] = -1
    weight = rng.random(classes)

    def call(z, y):
        return xent.cross_entropy_with_grad(
            z, y, reduction="none", label_smoothing=0.125, class_weight=weight, ignore_index=-1
        )

    together = call(z, y)
    same(together, rows_of(call, z, y))
    assert not np.any(together[0][y < 0])
    assert not np.any(together[1][y < 0])
    counts = y >= 0
    one_hot = np.eye(classes, dtype=dtype)[y[counts]]
    same(
        (together[0][counts], together[1][counts]),
        xent.cross_entropy_with_grad(z[counts], one_hot, reduction="none", label_smoothing=0.125, class_weight=weight),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_sigmoid(classes, dtype, tier):
    z, rng = logits(classes, dtype), np.random.default_rng(classes)
    t, weight, positive = rng.random(z.shape), rng.random(len(z)), rng.random(classes)

    def call(z, t, weight):
        return xent.sigmoid_cross_entropy_with_grad(z, t, sample_weight=weight, pos_weight=positive, reduction="none")

    together = call(z, t, weight)
    same(together, rows_of(call, z, t, weight))
    fortran = call(np.asfortranarray(z), np.asfortranarray(t), weight)
    same(together, fortran)
    finite = np.isfinite(z).all(1)
    total = xent.sigmoid_cross_entropy(
        z[finite], t[finite], sample_weight=weight[finite], pos_weight=positive, reduction="sum"
    )
    exact = together[0][finite].astype(np.float64).sum()
    assert abs(total - exact) <= 4 * np.finfo(dtype).eps * exact  # of losses that were rounded, each on its own


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_weighted_logsumexp(classes, dtype, tier):
    """Rows with NaN and infinities, among numbers and weights, next to others; b = 0 hides what is at its place."""
    x, rng = logits(classes, dtype), np.random.default_rng(classes)
    b = rng.standard_normal(x.shape).astype(dtype)
    b[17, -1], b[2, 0], b[3, 0], b[9] = 0, np.inf, -np.inf, 0
    b[23] = 0
    x[9] = np.nan
    together = xent.logsumexp(x, axis=1, b=b, return_sign=True)
    alone = [xent.logsumexp(r, b=c, return_sign=True) for r, c in zip(x, b, strict=True)]
    same(together, tuple(np.array(a, dtype) for a in zip(*alone, strict=True)))
    assert together[0][9] == -np.inf
    assert together[1][9] == 0
    assert together[0][2] == np.inf
    assert together[1][2:4].tolist() == [1, -1]
    for r in (0, 1, 17):
        value, sign = xent.reference.logsumexp(x[r].tolist(), b=b[r].tolist(), return_sign=True)
        assert together[1][r] == sign
        if value != -np.inf:
            # terms of both signs, but summed in pairs of doubles: nothing is lost of what is left here
            unit = np.spacing(dtype(max(abs(value), np.max(x[r], where=np.isfinite(x[r]), initial=0.0))))
            assert abs(float(together[0][r]) - value) <= 2 * unit


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mean_of_target_rows(dtype, tier):
    """Divided by the mass of the rows: with class and sample weights, over many groups of rows."""
    rng = np.random.default_rng(0)
    z, q = rng.standard_normal((1000, 45)).astype(dtype), rng.random((1000, 45)).astype(dtype)
    weight, sample = rng.random(45), rng.random(1000)
    mean = xent.cross_entropy(z, q, class_weight=weight, sample_weight=sample)
    total = xent.cross_entropy(z, q, class_weight=weight, sample_weight=sample, reduction="sum")
    mass = (sample[:, None] * weight * q.astype(np.float64)).sum()
    assert abs(mean - float(total) / mass) <= 2 * np.finfo(dtype).eps * mean
    bad = q.copy()
    bad[777, 44] = -1
    with pytest.raises(ValueError, match="row 777"):
        xent.cross_entropy(z, bad, class_weight=weight)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 10, 33, 100])
def test_batches_after_one_that_is_not_ordinary(classes, dtype, tier):
    """What is known of one batch of rows that are taken side by side is not taken for known of the next: infinite
    and far rows in the first, NaN in the second, then rows whose results vanish, which are scaled one by one."""
    z = logits(classes, dtype, 330)
    z[[5, 11, 17, 23]] = 0
    z[9], z[15, -1], z[64 + 3, 0] = np.inf, 1e5, np.nan
    z[128:256, 1:] -= 100 if dtype == np.float32 else 800
    y = np.random.default_rng(classes).integers(0, classes, len(z))

    def call(z, y):
        return xent.cross_entropy_with_grad(z, y, reduction="none")

    same(call(z, y), rows_of(call, z, y))
    for function in (xent.softmax, xent.log_softmax):
        alone = np.concatenate([function(row[None], axis=1) for row in z])
        np.testing.assert_array_equal(function(z, axis=1), alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 4, 10, 32, 33, 100, 128, 250])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_that_are_not_scaled_as_those_beside_them(classes, dtype, order, tier):
    """Results that vanish, whose products take more than one step, and rows with a NaN go by themselves; the rows
    around them go together. Weights bring gradients near the smallest normal number, and below; or lift what
    vanishes, which is to be 0 all the same.
    """
    rng = np.random.default_rng((classes, np.dtype(dtype).itemsize))
    z = (10 * rng.standard_normal((150, classes))).astype(dtype)
    spread = np.arange(0, 150, 9)
    z[spread] *= dtype(7 if dtype is np.float32 else 50)
    z[[20, 40, 149], [0, classes - 1, 1]] = np.nan
    y = rng.integers(0, classes, 150)
    masked = rng.random(z.shape) < 0.3
    masked[100:, :] = False
    masked[np.arange(150), y] = False
    z[masked & np.isfinite(z)] = -np.inf
    weight = np.ones(150)
    weight[::7] = np.finfo(dtype).tiny * 2.0 ** rng.integers(0, 60, weight[::7].shape)
    weight[3::7] = 2.0 ** rng.integers(30, 110 if dtype is np.float32 else 900, weight[3::7].shape)
    laid = np.array(z, order=order)

    def call(z, y, weight, out=None):
        return xent.cross_entropy_with_grad(z, y, sample_weight=weight, reduction="none", out=out)

    alone = rows_of(call, z, y, weight)
    same(call(laid, y, weight, np.empty_like(laid)), alone)
    same(call(laid.copy(order), y, weight), alone)
    in_place = laid.copy(order)
    same(call(in_place, y, weight, in_place), alone)
    upstream = rng.standard_normal(150)

    def regularized(z, y, weight):  # stored with the deep guard: two steps down
        return xent.cross_entropy_with_grad(z, y, sample_weight=weight, reduction="none", z_loss=1e-3)

    same(regularized(laid, y, weight), rows_of(regularized, z, y, weight))

    def backward(z, y, weight, upstream):
        return upstream, xent.cross_entropy_grad(z, y, upstream, sample_weight=weight, reduction="none")

    same(backward(laid, y, weight, upstream), rows_of(backward, z, y, weight, upstream))
    probabilities = np.concatenate([xent.softmax(row[None], axis=1) for row in z])
    np.testing.assert_array_equal(xent.softmax(laid, axis=1), probabilities)
    assert np.isnan(alone[1][[20, 40, 149]]).all()
    assert not alone[1][masked & ~np.isnan(z).any(1)[:, None]].any()
    finite = ~np.isnan(z).any(1)
    some = (np.abs(alone[1]) > 0) & (np.abs(alone[1]) < 2**20 * np.finfo(dtype).tiny)
    assert np.isfinite(alone[1][finite]).all()
    assert some.any()


@functools.cache
def sharp_rows(classes, dtype):
    """Batches of 64 rows, labels, losses of the reference: none, one, a few, as many as are still taken one by one, and
    all of the rows have little beside their largest term.
    """
    rng = np.random.default_rng(classes)
    batches = []
    for sharp in (0, 1, 2, 4, 8, 9, 31, 64):
        z = rng.standard_normal((64, classes)).astype(dtype)
        rows = rng.permutation(64)[:sharp]
        z[rows, rng.integers(0, classes, sharp)] += dtype(14 if dtype is np.float32 else 40)
        y = rng.integers(0, classes, 64)
        losses = [xent.reference.cross_entropy([r], [int(c)]) for r, c in zip(z.tolist(), y, strict=True)]
        batches.append((z, y, np.array(losses, float)))
    return batches


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 3, 4, 10, 17, 33, 100, 128, 250])
def test_sharp_rows_among_others(classes, dtype, tier):
    def call(z, y):
        return xent.cross_entropy_with_grad(z, y, reduction="none")

    for z, y, losses in sharp_rows(classes, dtype):
        together = call(z, y)
        same(together, rows_of(call, z, y))
        np.testing.assert_allclose(together[0], losses, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 4, 33])
def test_equal_maxima(classes, dtype, tier):
    """Two classes of p = 1/2, beside nothing, or little; their terms were rounded as they were stored. Neither result
    is another than alone, nor than its twin.
    """
    rng = np.random.default_rng(classes)
    scale = np.repeat(np.array([1, 20, 1000, 6e4]), 200)
    z = np.full((800, classes), -np.inf, dtype)
    z[:, 0] = z[:, 1] = scale * rng.uniform(-1, 1, 800)
    z[::3, 2:] = z[::3, :1] - dtype(40)
    y = rng.integers(0, 2, 800)

    def call(z, y):
        return xent.cross_entropy_with_grad(z, y, reduction="none")

    def regularized(z, y):
        return xent.cross_entropy_with_grad(z, y, reduction="none", z_loss=1e-3)

    for function in (call, regularized):
        alone = rows_of(function, z, y)
        same(function(z, y), alone)
        same(function(np.asfortranarray(z), y), alone)
    p = xent.softmax(z, axis=1)
    np.testing.assert_array_equal(p, np.concatenate([xent.softmax(row[None], axis=1) for row in z]))
    np.testing.assert_array_equal(p[:, 0], p[:, 1])
    np.testing.assert_allclose(p[:, 0], 0.5, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 4, 33])
def test_gradients_beyond_the_range(classes, dtype, tier):
    """Large factors: results that are infinite, of either sign, or exactly -1, whatever lies beside them."""
    rng = np.random.default_rng(classes)
    large = 2.0 ** rng.uniform(100, 240, 64) if dtype is np.float32 else 2.0 ** rng.uniform(900, 1020, 64)
    factor = np.where(rng.random(64) < 0.5, 1, large) * rng.choice([-1, 1], 64)
    z = (5 * rng.standard_normal((64, classes))).astype(dtype)
    z[::2, -1] = -200 if dtype is np.float32 else -1500
    z[5, :], z[5, :2], factor[5] = -np.inf, [0, -165], -4.556060831379215e71
    y = rng.integers(0, 2, 64)
    y[5] = 0

    def call(z, y, factor):
        return factor, xent.cross_entropy_grad(z, y, factor, reduction="none")

    alone = rows_of(call, z, y, factor)
    same(call(z, y, factor), alone)
    same(call(np.asfortranarray(z), y, factor), alone)
    grad = alone[1]
    assert not np.isnan(grad).any()
    assert np.isinf(grad).any() == (dtype is np.float32)  # of float64 no factor is as large
    if dtype is np.float32:
        assert grad[5, 1] == -1
    others = np.arange(classes) != y[:, None]
    signs = np.sign(factor)[:, None] * np.where(others, 1, -1)
    assert (np.sign(grad) * signs >= 0).all()


def in_two_parts(sums):
    """The sum of numbers in two parts, in their order; what an addition loses is kept apart."""
    total = lost = 0.0
    for high, low in sums:
        was, total = total, total + high
        part = total - was
        lost += ((was - (total - part)) + (high - part)) + low
    return total, lost


def sum_by_groups(losses, rows):
    groups = [losses[first : first + rows] for first in range(0, len(losses), rows)]
    return sum(in_two_parts(in_two_parts((float(loss), 0.0) for loss in group) for group in groups))


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("classes", [3, 10, 33, 128, 300])
def test_sums_by_groups(classes, skips, tier):
    """Groups of 8,192 logits or 32 rows, whatever batch a row is of, and whether some between them do not count.

    Added to 2^53 and 1, 2^-53 is lost twice, unless both are of another group: that tells what the sum is rounded to.
    """
    rows, group = 140, min(32, 8192 // classes)
    z, labels = np.zeros((rows, classes)), np.ones(rows, int)
    z[:, 0] = 64.0  # loss 64: log(1 + 299 e^-64) is lost
    out, results = np.empty_like(z), set()
    skipped = np.random.default_rng(classes).random(rows) < 0.3 if skips else np.zeros(rows, bool)
    for first in range(rows - 3):
        weights = np.full(rows, 2.0**-200)
        weights[first : first + 4] = 2.0**53, 1.0, 2.0**-53, 2.0**-53
        counted = ~skipped
        counted[first : first + 4] = True
        y, losses = np.where(counted, labels, -1), 64.0 * weights * counted
        given = dict(sample_weight=weights, ignore_index=-1, reduction="sum")
        total, _ = xent.cross_entropy_with_grad(z, y, out=out, **given)
        assert total == sum_by_groups(losses, group)
        assert total == xent.cross_entropy(z, y, **given)
        results.add(float(total))
    assert len(results) == 2  # the order shows
