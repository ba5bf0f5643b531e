"""The table of cases of the design, row by row, for every function that a row applies to, on every tier."""

import cases
import numpy as np
import pytest
import truths

import xent

INF, NAN = np.inf, np.nan
GOOD = [0.5, -1.0, 2.0]
SIZES = [3, 20]  # the rows of a batch: a few, and enough to be taken side by side


def batch(dtype, bad, size, classes=3):
    """The bad row in the middle of good ones."""
    z = np.tile(np.resize(GOOD, classes), (size, 1)).astype(dtype)
    z[size // 2] = bad
    return z, np.arange(size) % 3


def others(a, size):
    return np.delete(np.asarray(a), size // 2, axis=0)


def call_all(z, y, **options):
    """loss, gradient, lse, softmax, log_softmax, Hessian diagonal and product, row by row."""
    loss, grad, lse = xent.cross_entropy_with_grad(z, y, reduction="none", return_lse=True, **options)
    return {
        "loss": loss,
        "grad": grad,
        "lse": lse,
        "logsumexp": xent.logsumexp(z, axis=1),
        "softmax": xent.softmax(z, axis=1),
        "log_softmax": xent.log_softmax(z, axis=1),
        "hessian_diag": xent.cross_entropy_hessian_diag(z, y, reduction="none", **options),
        "hvp": xent.cross_entropy_hvp(z, y, np.ones_like(z), reduction="none", **options),
    }


def check_bad_row(dtype, bad, size, expected, **options):
    """The bad row as expected; every other row as if the bad one were a good one."""
    z, y = batch(dtype, bad, size)
    got, clean = call_all(z, y, **options), call_all(batch(dtype, GOOD, size)[0], y, **options)
    for name, result in got.items():
        np.testing.assert_array_equal(others(result, size), others(clean[name], size), err_msg=name)
        if name in expected:
            row = np.broadcast_to(expected[name], np.shape(result)[1:])
            np.testing.assert_array_equal(result[size // 2], row.astype(dtype), err_msg=name)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"z_loss": 0.1}, {"label_smoothing": 0.1}, {"class_weight": [1, 2, 3]}])
def test_all_minus_inf(tier, dtype, size, options):
    expected = dict.fromkeys(("loss", "grad", "softmax", "log_softmax", "hessian_diag", "hvp"), NAN)
    check_bad_row(dtype, [-INF] * 3, size, {**expected, "lse": -INF, "logsumexp": -INF}, **options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"z_loss": 0.1}, {"label_smoothing": 0.1}, {"class_weight": [1, 2, 3]}])
@pytest.mark.parametrize(
    "bad", [[NAN, 0, 1], [0, 1, NAN], [NAN] * 3, [INF, NAN, 1], [-INF, NAN, -INF], [1e30, NAN, -1e30]]
)
def test_nan(tier, dtype, size, options, bad):
    everything = ("loss", "grad", "lse", "logsumexp", "softmax", "log_softmax", "hessian_diag", "hvp")
    check_bad_row(dtype, bad, size, dict.fromkeys(everything, NAN), **options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bad", [[INF, 0, -INF], [INF, INF, 1], [0, 1, INF], [1, INF, 1e30]])
def test_plus_inf(tier, dtype, size, bad):
    expected = dict.fromkeys(("grad", "softmax", "hessian_diag", "hvp"), NAN)
    expected |= {"lse": INF, "logsumexp": INF}
    expected["log_softmax"] = [NAN if v == INF else -INF for v in bad]  # as SciPy
    label = size // 2 % 3
    expected["loss"] = NAN if bad[label] == INF else INF
    check_bad_row(dtype, bad, size, expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"class_weight": [1, 2, 3]}])
def test_label_at_minus_inf(tier, dtype, size, options):
    """loss +inf, gradient p - q"""
    bad = [1.0, 1.0, 1.0]
    label = size // 2 % 3
    bad[label] = -INF
    weight = options.get("class_weight", [1, 1, 1])[label]
    p = np.where(np.arange(3) == label, 0, 0.5)
    check_bad_row(dtype, bad, size, {"loss": INF, "lse": 1 + np.log(2)}, **options)
    z, y = batch(dtype, bad, size)
    got = call_all(z, y, **options)
    accuracy = {"rtol": 2 * np.finfo(dtype).eps, "atol": 0}  # 2 ulp
    np.testing.assert_allclose(got["softmax"][size // 2], p, **accuracy)
    np.testing.assert_allclose(got["grad"][size // 2], weight * (p - (np.arange(3) == label)), **accuracy)
    np.testing.assert_allclose(got["hessian_diag"][size // 2], weight * p / 2, **accuracy)


@pytest.mark.parametrize("place", [0, 64, 2048, 2050])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_in_a_long_row(tier, dtype, place, value):
    z = np.random.default_rng(place).normal(size=(4, 2051)).astype(dtype)
    y = np.zeros(4, int) + 7
    clean = call_all(z, y)
    z[2, place] = value
    got = call_all(z, y)
    for name, result in got.items():
        np.testing.assert_array_equal(np.delete(result, 2, 0), np.delete(clean[name], 2, 0), err_msg=name)
    if value == -INF:
        without = call_all(np.delete(z, place, 1), y - (place < 7))
        assert abs(got["lse"][2] - without["lse"][2]) <= 4 * np.spacing(got["lse"][2])
        assert got["grad"][2, place] == got["softmax"][2, place] == 0
    else:
        assert np.isnan(got["grad"][2]).all()
        assert np.isnan(got["softmax"][2]).all()
        np.testing.assert_array_equal(got["lse"][2], value)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_bad_row_and_the_reduced_loss(tier, dtype, reduction):
    """The loss of the batch is what its rows add up to; gradients of the other rows are as they were."""
    for bad, expected in (([NAN, 0, 0], NAN), ([-INF] * 3, NAN), ([1, -INF, 0], INF), ([0, 0, INF], INF)):
        z, y = batch(dtype, bad, 3)
        loss, grad = xent.cross_entropy_with_grad(z, y, reduction=reduction)
        np.testing.assert_array_equal(loss, dtype.type(expected))
        clean = xent.cross_entropy_grad(batch(dtype, GOOD, 3)[0], y, reduction=reduction)
        np.testing.assert_array_equal(others(grad, 3), others(clean, 3))


def test_zero_times_infinity_is_zero(tier, dtype):
    """A class without mass is not asked for its logit."""
    z, q = np.array([1.0, -INF, 2.0], dtype), np.array([0.25, 0.0, 0.75], dtype)
    loss, grad = xent.cross_entropy_with_grad(z, q)
    two = xent.cross_entropy_with_grad(z[::2], q[::2])
    assert loss == two[0]
    np.testing.assert_array_equal(grad, [two[1][0], 0, two[1][1]])
    assert xent.cross_entropy(z, 0, class_weight=[1, 0, 1], label_smoothing=0.1) < INF
    assert xent.cross_entropy(z, 0, label_smoothing=0.1) == INF
    assert xent.cross_entropy(z, 1, class_weight=[1, 0, 1], reduction="sum") == 0


@pytest.mark.parametrize("options", [{"ignore_index": 1}, {"sample_weight": 0}, {"class_weight": [1, 0, 1]}])
def test_nothing_left_to_average(tier, dtype, options):
    z, y = batch(dtype, GOOD, 5)[0], np.ones(5, int)
    loss, grad = xent.cross_entropy_with_grad(z, y, **options)
    assert loss == 0
    assert type(loss) is dtype.type
    for zero in (
        grad,
        xent.cross_entropy_hessian_diag(z, y, **options),
        xent.cross_entropy_hvp(z, y, z, **options),
    ):
        np.testing.assert_array_equal(zero, np.zeros_like(z))
    assert not np.signbit(xent.cross_entropy(z, y, **options))


def test_no_rows(tier, dtype):
    for shape, targets in (
        ((0, 3), np.empty(0, int)),
        ((0, 3), np.empty((0, 3))),
        ((2, 0, 3), np.empty((2, 0), int)),
    ):
        for reduction in ("mean", "sum"):
            loss, grad, lse = xent.cross_entropy_with_grad(
                np.empty(shape, dtype), targets, reduction=reduction, return_lse=True
            )
            assert loss == 0
            assert type(loss) is dtype.type
            assert grad.shape == shape
            assert lse.shape == shape[:-1]
        assert xent.cross_entropy(np.empty(shape, dtype), targets, reduction="none").shape == shape[:-1]
        assert xent.cross_entropy_hessian_diag(np.empty(shape, dtype), targets).shape == shape


def test_no_mass(tier, dtype):
    """Probabilities that are all 0: nothing to average."""
    z = batch(dtype, GOOD, 4)[0]
    loss, grad = xent.cross_entropy_with_grad(z, np.zeros((4, 3)))
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("bad", [[NAN, 1, INF], [INF] * 3, [-INF] * 3])
@pytest.mark.parametrize("targets", ["index", "probabilities", "smoothed"])
def test_weight_zero_is_no_row(tier, dtype, bad, targets):
    z, y = batch(dtype, bad, 5)
    s = (np.arange(5) != 2).astype(float)
    options = {"label_smoothing": 0.1} if targets == "smoothed" else {}
    t = np.full((5, 3), 0.4) if targets == "probabilities" else y
    for reduction in ("mean", "sum"):
        got = xent.cross_entropy_with_grad(z, t, sample_weight=s, reduction=reduction, **options)
        kept = xent.cross_entropy_with_grad(others(z, 5), others(t, 5), reduction=reduction, **options)
        assert got[0] == kept[0]
        np.testing.assert_array_equal(others(got[1], 5), kept[1])
        assert not got[1][2].any()
    assert xent.cross_entropy(z, t, sample_weight=s, reduction="none", **options)[2] == 0
    reference = xent.reference.cross_entropy_with_grad(z, t, sample_weight=s, reduction="none", **options)
    np.testing.assert_allclose(
        reference[0], xent.cross_entropy(z, t, sample_weight=s, reduction="none", **options), rtol=1e-6
    )
    assert reference[1][2] == [0.0] * 3


def test_no_classes(tier, dtype):
    for shape in ((0,), (3, 0)):
        x = np.empty(shape, dtype)
        assert xent.softmax(x, axis=-1).shape == xent.log_softmax(x, axis=-1).shape == shape
        np.testing.assert_array_equal(xent.logsumexp(x, axis=-1), np.full(shape[:-1], -INF))
        with pytest.raises(ValueError, match="no classes"):
            xent.cross_entropy(x, np.empty(shape[:-1], int))


def test_several_labels_on_one_sample(tier, dtype):
    """Rows that do not sum to 1 are computed with their sum: the gradient of that loss and no other."""
    z = np.array([[1.0, 2.0, -1.0, 0.0]], dtype)
    q = np.array([[1.0, 0.0, 1.0, 1.0]], dtype)
    loss, grad = xent.cross_entropy_with_grad(z, q, reduction="sum")
    each = [xent.cross_entropy_with_grad(z, [c], reduction="sum") for c in (0, 2, 3)]
    assert loss == pytest.approx(sum(part[0] for part in each), rel=1e-6)
    np.testing.assert_allclose(grad, sum(part[1] for part in each), atol=1e-6)


def test_below_the_smallest_normal_is_zero(tier, dtype):
    info = np.finfo(dtype)
    edge = float(np.log(info.tiny))
    z = np.array([0, edge - 0.1], dtype)
    loss, grad, lse = xent.cross_entropy_with_grad(z, 0, return_lse=True)
    assert loss == lse == 0
    assert not grad.any()
    np.testing.assert_array_equal(xent.softmax(z), [1, 0])
    assert xent.log_softmax(z)[0] == 0
    z[1] = edge + 0.1
    loss, grad = xent.cross_entropy_with_grad(z, 0)
    assert loss >= info.tiny
    assert grad[1] >= info.tiny
    assert -grad[0] >= info.tiny
    assert xent.logsumexp(np.array([info.tiny / 2], dtype)) == 0
    # any scale of the gradient and of the loss
    grad = xent.cross_entropy_grad(np.zeros(3, dtype), 0, float(info.tiny))
    assert not grad.any()
    assert xent.cross_entropy(np.zeros(3, dtype), 0, sample_weight=float(info.tiny) / 4, reduction="sum") == 0


@pytest.mark.parametrize("case", truths.params(cases.special_rows(np.float32) + cases.special_rows(np.float64)))
@pytest.mark.parametrize("options", [{}, {"z_loss": 0.01}, {"label_smoothing": 0.1}], ids=str)
def test_special_rows_as_the_reference(tier, case, options):
    z, y = case.logits, len(case.logits) // 2
    close = {"rtol": 8 * np.finfo(z.dtype).eps, "atol": 4 * np.finfo(z.dtype).eps}
    got = xent.cross_entropy_with_grad(z, y, return_lse=True, reduction="none", **options)
    expected = reference(z.tobytes(), z.dtype, y, tuple(options.items()))
    for name, a, b in zip(("loss", "grad", "lse", "hessian"), got, expected, strict=False):
        np.testing.assert_allclose(a, b, err_msg=name, **close)
    hessian = xent.cross_entropy_hessian_diag(z, y, reduction="none", **options)
    np.testing.assert_allclose(hessian, expected[3], **close)


@truths.cache
def reference(row, kind, y, options):
    z, given = np.frombuffer(row, kind), {**dict(options), "reduction": "none"}
    first = xent.reference.cross_entropy_with_grad(z, y, return_lse=True, **given)
    return (*first, xent.reference.cross_entropy_hessian_diag(z, y, **given))
