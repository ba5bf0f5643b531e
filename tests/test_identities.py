"""What must hold between results, whatever their digits: bit for bit where the arithmetic is the same."""

import numpy as np
import pytest
import truths

import xent

C = (1, 2, 3, 10, 63, 64, 65, 1000, 2047, 2048, 2049)
OPTIONS = [{}, {"class_weight": True}, {"z_loss": 0.1}, {"label_smoothing": 0.1}]
OPTIONS += [{"class_weight": True, "z_loss": 0.1, "sample_weight": True, "label_smoothing": 0.3}]


def batch(dtype, rows, classes, options=None):
    rng = np.random.default_rng(rows * classes)
    z = (rng.normal(0, 1, (rows, classes)) * rng.choice([1, 10, 100], (rows, 1))).astype(dtype)
    y = rng.integers(0, classes, rows)
    given = dict(options or {})
    if given.pop("class_weight", False):
        given["class_weight"] = rng.random(classes)
    if given.pop("sample_weight", False):
        given["sample_weight"] = rng.random(rows)
    return z, y, given


def equal(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("classes", C)
def test_a_one_hot_row_is_its_index(tier, dtype, classes, options):
    z, y, given = batch(dtype, 5, classes, options)
    one_hot = np.eye(classes, dtype=dtype)[y]
    for reduction in ("none", "mean", "sum"):
        index = xent.cross_entropy_with_grad(z, y, reduction=reduction, return_lse=True, **given)
        row = xent.cross_entropy_with_grad(z, one_hot, reduction=reduction, return_lse=True, **given)
        equal(row, index)
        equal(
            [xent.cross_entropy_hessian_diag(z, one_hot, reduction=reduction, **given)],
            [xent.cross_entropy_hessian_diag(z, y, reduction=reduction, **given)],
        )


@pytest.mark.parametrize("classes", [2, 3, 16, 17, 31, 32, 33, 100, 128, 129, 300, 1000, 1024, 1025, 1056, 2500, 5000])
def test_a_smoothed_label_is_its_smoothed_row(tier, dtype, classes):
    """Labels' targets are alike but for one; those of rows are formed number by number. Batch after batch of few
    classes; labels at both ends of groups of lanes and of blocks, and behind the last whole group. A full batch
    behind one with rows that do not count.
    """
    rows = 200 if classes <= 256 else 40
    z, y, _ = batch(dtype, rows, classes)
    at = [0, 15, 16, 31, 32, 1023, 1024, 1055, 1056, 2047, 2048, classes // 32 * 32, classes // 32 * 32 - 1]
    pinned = [label for label in at if 0 <= label < classes] + [classes - 1]
    y[-len(pinned) :] = pinned
    one_hot = np.eye(classes, dtype=dtype)[y]
    masked = np.where((np.arange(classes) % 7 == 3) & (one_hot == 0), -np.inf, z).astype(dtype)
    settings = [(z, 0.1, 1.0, 0.0), (z, 1.0, 1.0, 0.0), (z, 0.1, 1e-30, 0.0), (z, 1e-320, 1e30, 0.0)]
    for logits, eps, weight, z_loss in [*settings, (masked, 0.1, 1.0, 0.0), (z, 0.1, 1.0, 0.01)]:
        given = {"label_smoothing": eps, "sample_weight": np.full(rows, weight), "reduction": "none"}
        given |= {"return_lse": True, "z_loss": z_loss}
        labels = xent.cross_entropy_with_grad(logits, y, **given)
        equal(labels, xent.cross_entropy_with_grad(logits, one_hot, **given))
        equal([xent.cross_entropy(logits, y, **given)[0]], [labels[0]])
        own = logits.copy()
        equal(xent.cross_entropy_with_grad(own, y, out=own, **given), labels)
        counts = np.arange(rows) % 64 > 2
        some = xent.cross_entropy_with_grad(logits, np.where(counts, y, -1), ignore_index=-1, **given)
        equal([some[0][counts], some[1][counts]], [labels[0][counts], labels[1][counts]])
        assert not some[0][~counts].any()
        assert not some[1][~counts].any()


@pytest.mark.parametrize("power", [-940, -900, -300, 100, 300, 900, 1000])
@pytest.mark.parametrize("classes", [2, 3, 10, 33, 100, 300, 1000, 5000])
def test_weights_that_cancel(tier, dtype, classes, power):
    """Powers of two that weights bring in and other weights, the mean or a normalizer take out again leave every bit: a
    step in double that would meet its limits is lifted. (Where the second part of 1 / sum is subnormal, float64 is
    within 1 ulp under the mean.)
    """
    z, y, _ = batch(dtype, 40 if classes <= 256 else 3, classes)
    rng = np.random.default_rng(classes)
    weight, q = rng.random(classes) + 0.5, rng.random(z.shape)
    for targets, eps in ((q, 0.0), (q, 0.1), (q.astype(dtype), 0.0), (y, 0.1), (y, 0.0), (np.eye(classes)[y], 0.0)):
        given = {"label_smoothing": eps, "class_weight": weight}
        scaled = given | {"class_weight": np.ldexp(weight, power)}
        for call in (
            xent.cross_entropy_with_grad,
            lambda z, targets, **k: [xent.cross_entropy_hessian_diag(z, targets, **k)],
            lambda z, targets, **k: [xent.cross_entropy_hvp(z, targets, z, **k)],
        ):
            means = [call(z, targets, **options) for options in (scaled, given)]
            if power == 1000 and dtype == np.float64:
                for a, b in zip(*means, strict=True):
                    np.testing.assert_array_max_ulp(a, b, 1)
            else:
                equal(*means)
            equal(
                call(z, targets, **scaled, normalizer=np.ldexp(1.0, power)),
                call(z, targets, **given, normalizer=1.0),
            )
            equal(
                call(z, targets, **scaled, sample_weight=np.ldexp(1.0, -power), reduction="sum"),
                call(z, targets, **given, reduction="sum"),
            )


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("power", [-900, -300, 300, 900])
def test_weights_that_cancel_behind_a_linear_layer(tier, dtype, power, eps):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((20, 6)).astype(dtype), rng.standard_normal((300, 6)).astype(dtype)
    y, weight = rng.integers(0, 300, 20), rng.random(300) + 0.5
    loss, grads = zip(
        *(
            xent.linear_cross_entropy_with_grad(x, w, y, class_weight=np.ldexp(weight, p), label_smoothing=eps)
            for p in (power, 0)
        ),
        strict=True,
    )
    equal([loss[0]], [loss[1]])
    equal(*grads)


@pytest.mark.parametrize("power", [-900, -300, 300, 900])
def test_sigmoid_weights_that_cancel(tier, dtype, power):
    """The mean of losses each of which is too small for the dtype is none itself."""
    rng = np.random.default_rng(5)
    z, sets, weight = rng.standard_normal((40, 7)).astype(dtype), rng.random((40, 7)) < 0.3, rng.random(40) + 0.5
    scaled, given = (
        xent.sigmoid_cross_entropy_with_grad(z, sets, sample_weight=np.ldexp(weight, p)) for p in (power, 0)
    )
    equal(scaled, given)


@pytest.mark.parametrize("classes", [2, 3, 10, 33, 100, 300, 1000])
def test_targets_as_given_under_extreme_weights(tier, dtype, classes):
    """The same of targets that are used as they were given, in the logits' dtype: sums of 2^100, a factor of 2^-210."""
    z, _, _ = batch(dtype, 40 if classes <= 256 else 3, classes)
    q = (np.random.default_rng(classes).random(z.shape) + 0.5).astype(dtype)
    equal(
        xent.cross_entropy_with_grad(z, np.ldexp(q, 100), sample_weight=np.ldexp(1.0, -210), reduction="sum"),
        xent.cross_entropy_with_grad(z, q, sample_weight=np.ldexp(1.0, -110), reduction="sum"),
    )
    for power in (0, -100, 100):  # rows of weight 0 leave the others' bits
        counts = np.arange(len(z)) % 3 != 1
        weighted = np.ldexp(counts.astype(float), power)
        loss, grad = xent.cross_entropy_with_grad(z, q, sample_weight=weighted, reduction="none")
        alone = xent.cross_entropy_with_grad(z[counts], q[counts], sample_weight=weighted[counts], reduction="none")
        equal([loss[counts], grad[counts]], alone)
        assert not grad[~counts].any()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("classes", C)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_the_three_calls_agree(tier, dtype, classes, options, reduction):
    z, y, given = batch(dtype, 17, classes, options)
    q = np.abs(z) / 3
    for targets in (y, q) if classes in (3, 65, 2049) else (y,):
        loss, grad = xent.cross_entropy_with_grad(z, targets, reduction=reduction, **given)
        equal([xent.cross_entropy(z, targets, reduction=reduction, **given)], [loss])
        equal([xent.cross_entropy_grad(z, targets, reduction=reduction, **given)], [grad])
        equal([xent.cross_entropy_grad(z, targets, -1.0, reduction=reduction, **given)], [-grad])
        equal(
            [xent.cross_entropy_grad(z, targets, 0.5, reduction="sum", **given)],
            [xent.cross_entropy_grad(z, targets, np.full(17, 0.5), reduction="none", **given)],
        )


@pytest.mark.parametrize("classes", C)
def test_gradient_without_options_is_softmax(tier, dtype, classes):
    """Elsewhere than at the label the gradient is p, to the bit; the loss is -log p_y, both within 2 ulp."""
    z, y, _ = batch(dtype, 7, classes)
    loss, grad = xent.cross_entropy_with_grad(z, y, reduction="none")
    p = xent.softmax(z, axis=1)
    at_label = np.eye(classes, dtype=bool)[y]
    np.testing.assert_array_equal(grad[~at_label], p[~at_label])
    assert np.all(np.abs(loss + xent.log_softmax(z, axis=1)[at_label]) <= 4 * np.spacing(loss))


@pytest.mark.parametrize("kind", ["index", "probabilities"])
@pytest.mark.parametrize("classes", [2, 10, 65, 2049])
def test_weight_two_is_the_row_twice(tier, dtype, classes, kind):
    z, y, _ = batch(dtype, 9, classes)
    targets = y if kind == "index" else np.abs(z)
    counts = np.array([2, 1, 0, 3, 1, 1, 2, 0, 4])
    twice = np.repeat(np.arange(9), counts)
    loss, grad = xent.cross_entropy_with_grad(z, targets, sample_weight=counts)
    again, rows = xent.cross_entropy_with_grad(z[twice], targets[twice])
    # the sums run over other numbers of terms, in twice the digits: at most their last roundings differ
    np.testing.assert_allclose(loss, again, rtol=np.finfo(dtype).eps)
    summed = np.zeros_like(z, np.float64)
    np.add.at(summed, twice, rows)
    size = np.zeros_like(summed)
    np.add.at(size, twice, np.abs(rows))
    assert np.all(np.abs(grad - summed) <= 4 * np.finfo(dtype).eps * size + 5 * np.finfo(dtype).tiny)


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_splits_add_up(tier, dtype, options):
    """With normalizer, the parts of a batch give the gradient of the whole to the bit, and losses that add
    up.
    """
    z, y, given = batch(dtype, 40, 65, options)
    q = np.abs(z)
    for targets in (y, q):
        whole = xent.cross_entropy_with_grad(z, targets, normalizer=17.0, **given)
        parts = [
            xent.cross_entropy_with_grad(z[i:j], targets[i:j], normalizer=17.0, **given)
            for i, j in ((0, 1), (1, 16), (16, 33), (33, 40))
        ]
        np.testing.assert_array_equal(np.concatenate([grad for _, grad in parts]), whole[1])
        total = np.sum([float(loss) for loss, _ in parts])
        np.testing.assert_allclose(total, whole[0], rtol=4 * np.finfo(dtype).eps)  # four losses, each rounded


@pytest.mark.parametrize("classes", C)
def test_gradient_rows_sum_to_zero(tier, dtype, classes):
    """Each of the terms is within 2 ulp, and they add up to 2 at most in absolute value."""
    z, y, _ = batch(dtype, 7, classes)
    grad = xent.cross_entropy_grad(z, y, reduction="none").astype(np.longdouble)
    size = np.abs(grad).sum(1)
    tiny = classes * np.finfo(dtype).tiny  # each may have been flushed
    assert np.all(np.abs(grad.sum(1)) <= 2 * np.finfo(dtype).eps * size + tiny)


@pytest.mark.parametrize("shift", [1.0, -64.0, 1024.0, -(2.0**17), 2.0**30])
def test_translation(tier, dtype, shift):
    """z + c is exact for these numbers: the softmax is the same number, the lse moves by c."""
    z = (np.random.default_rng(0).integers(-160, 160, (20, 70)) / 16).astype(dtype)
    if abs(shift) > 2.0**20 and dtype == np.float32:
        z, shift = np.round(z) * 64, np.sign(shift) * 2.0**28
    moved = (z + dtype.type(shift)).astype(dtype)
    np.testing.assert_array_equal(moved - dtype.type(shift), z)
    p, q = xent.softmax(z, axis=1), xent.softmax(moved, axis=1)
    assert np.all(np.abs(p - q) <= 4 * np.spacing(p))  # 2 ulp each
    log_p, log_q = xent.log_softmax(z, axis=1), xent.log_softmax(moved, axis=1)
    assert np.all(np.abs(log_p - log_q) <= 4 * np.spacing(np.abs(log_p)))
    lse, expected = xent.logsumexp(moved, axis=1), xent.logsumexp(z.astype(np.float64), axis=1) + shift
    assert np.all(np.abs(lse - expected) <= 3 * np.spacing(np.abs(moved).max(1)))


def test_permutation_of_classes(tier, dtype):
    """The lanes add in another order: in more digits than the result has, so at most one ulp moves."""
    rng = np.random.default_rng(4)
    z, y, _ = batch(dtype, 10, 1000)
    order = rng.permutation(1000)
    at = np.argsort(order)[y]
    loss, grad = xent.cross_entropy_with_grad(z, y, reduction="none")
    again, moved = xent.cross_entropy_with_grad(z[:, order], at, reduction="none")
    assert np.all(np.abs(loss - again) <= 2 * np.spacing(loss))
    assert np.all(np.abs(grad[:, order] - moved) <= 2 * np.spacing(np.abs(moved)))


@pytest.mark.parametrize("size", truths.BATCH_SIZES)
@pytest.mark.parametrize("classes", [1, 2, 5, 10, 64, 100])
def test_a_batch_is_its_rows(tier, dtype, size, classes):
    z, y, _ = batch(dtype, size, classes)
    batched = xent.cross_entropy_with_grad(z, y, reduction="none", return_lse=True)
    each = [xent.cross_entropy_with_grad(z[k], y[k], reduction="none", return_lse=True) for k in range(size)]
    equal(batched, [np.array(part) for part in zip(*each, strict=True)])
