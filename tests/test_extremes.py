"""Logits, weights and factors at the ends of their range: each once gave a wrong number."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xent

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gap", [700, 708, 709, 720, 800, 990, 1001])
def test_far_logits_whose_terms_are_no_normal_numbers(gap, dtype, tier):
    """e^-720 once wrapped round in the exponent of a double: a gradient of 1e269."""
    x = np.array([[70000.0, 70000.0 - gap]], dtype)
    loss, grad = xent.cross_entropy_with_grad(x, [1])
    assert loss == gap
    np.testing.assert_array_equal(grad, [[1, -1]])
    np.testing.assert_array_equal(xent.cross_entropy_with_grad(x, np.array([[0, 1]], dtype))[1], [[1, -1]])
    blocks = np.full((1, 4097), x[0, 0])
    blocks[0, -1] = x[0, 1]
    exact = 70000 + np.log(4096)
    assert abs(xent.logsumexp(blocks, axis=1)[0] - exact) <= 2 * np.spacing(dtype(exact))
    assert abs(xent.softmax(blocks, axis=1)[0, 0] * 4096 - 1) <= 2 * np.finfo(dtype).eps
    assert xent.softmax(blocks, axis=1)[0, -1] <= np.exp(-700.0)


@pytest.mark.parametrize("factor", [1e-30, 1e-60, 1e-65, 1e-80, 1e-200, 1e-290, 1e250])
def test_factors_of_target_rows(factor, tier):
    """A tiny factor divided by a sum near 2^940 was a subnormal number before it was brought up."""
    x, q, w = [[1.0, 0.5, -2.0]], [[0.2, 0.3, 0.5]], [factor]
    for more in ({}, {"z_loss": 0.5}):
        grad = xent.cross_entropy_grad(x, q, reduction="sum", sample_weight=w, **more)
        exact = xent.reference.cross_entropy_grad(x, q, reduction="sum", sample_weight=w, **more)
        np.testing.assert_allclose(grad, exact, rtol=8 * 2.0**-52)  # p - q: here neither is 8 times the difference
    if 1e-62 < factor < 1:
        diagonal = xent.cross_entropy_hessian_diag(x, q, reduction="sum", sample_weight=w)
        exact = xent.reference.cross_entropy_hessian_diag(x, q, reduction="sum", sample_weight=w)
        np.testing.assert_allclose(diagonal, exact, rtol=4 * 2.0**-52)


def test_z_loss_larger_than_the_mass_where_lse_is_negative(tier):
    """Lifted, the gradient overflowed: NaN."""
    got = xent.cross_entropy_grad([[-1.0, -2.0]], [[0.5, 0.5]], z_loss=1e280, reduction="sum")
    exact = xent.reference.cross_entropy_grad([[-1.0, -2.0]], [[0.5, 0.5]], z_loss=1e280, reduction="sum")
    np.testing.assert_allclose(got, exact, rtol=4 * 2.0**-52)


def test_target_rows_count_as_often_as_they_may(tier):
    """The room for small terms was left over from the row before: a loss of 0, or not, by the order of the rows."""
    x, weight = np.array([[0, -130], [0, -130]], np.float32), [1e35, 1e35]
    rows = np.array([[1.0, 0.0], [1.0, 1e-80]])
    one = xent.cross_entropy(x, rows, class_weight=weight, reduction="none")
    other = xent.cross_entropy(x, rows[::-1], class_weight=weight, reduction="none")
    np.testing.assert_array_equal(one, other[::-1])
    np.testing.assert_allclose(one, 1e35 * np.exp(-130.0), rtol=2 * 2.0**-23)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_to_average_in_a_row_that_is_not_finite(dtype, tier):
    x = np.array([[np.inf, 1], [np.nan, 2]], dtype)
    for targets, options in [
        (np.zeros_like(x), {}),
        ([0, 0], {"class_weight": [0.0, 1.0]}),
        ([0, 0], {"class_weight": [0.0, 1.0], "label_smoothing": 0.1}),
    ]:
        loss, grad = xent.cross_entropy_with_grad(x, targets, **options)
        np.testing.assert_array_equal(grad, np.zeros_like(x))
        assert loss == 0


def test_weights_whose_sum_is_near_one(tier):
    """log of the weight at the maximum and log1p of the rest cancelled: 33 ulp."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        b, x = np.array([rng.random() + 0.5, 0.06 * rng.random()]), np.array([-0.3, 0.03]) * rng.random()
        exact = xent.reference.logsumexp(x, b=b)
        assert abs(xent.logsumexp(x, b=b) - exact) <= 2 * np.spacing(max(abs(exact), np.abs(x).max()))


@pytest.mark.parametrize("classes", [2, 10, 100, 1000, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_counted_many_times(classes, dtype, tier):
    """Results of any weight, as far down as the smallest normal number: what a row leaves out for being small must be
    small when it has counted, too. In a batch, and each row alone.
    """
    info, y = np.finfo(dtype), np.zeros(6, np.int64)
    close = 4 * info.eps + 2e-13  # e to some -750 in float64, whose rounded argument is off by as many units
    for power in (0, 2, 6, 8, 11, 13, 30, 60, 80):
        weight = np.full(6, 2.0**power)
        # gaps that leave an element which, counted, is just normal, or larger, or in the last row vanishes
        gaps = (power - info.minexp) * math.log(2) - np.array([0.5, 1.0, 5.0, 20.0, 60.0, -20.0])
        z = np.zeros((6, classes), dtype)
        z[:, 1:] = -gaps[:, None]
        loss, grad = xent.cross_entropy_with_grad(z, y, reduction="none", sample_weight=weight)
        term = np.exp(z[:, 1].astype(np.float64) + power * math.log(2))
        rest = term * (classes - 1)
        term[term < info.tiny], rest[rest < info.tiny] = 0, 0
        np.testing.assert_allclose(grad[:, 1], term, rtol=close)
        np.testing.assert_allclose(grad[:, -1], term, rtol=close)
        np.testing.assert_allclose(-grad[:, 0], rest, rtol=close)
        whole = rest >= np.finfo(np.float64).tiny * weight  # the loss of weight 1 is a normal float64
        np.testing.assert_allclose(loss[whole], rest[whole], rtol=close)
        for r in range(6):
            alone = xent.cross_entropy_with_grad(z[r : r + 1], [0], reduction="none", sample_weight=weight[:1])
            np.testing.assert_array_equal([loss[r], *grad[r]], [alone[0][0], *alone[1][0]])


def test_infinite_logit_at_a_label_without_weight(tier):
    """Of the mass nothing is left, of the z-loss infinity: their difference was NaN."""
    x, options = [[np.inf, 1.0]], {"class_weight": [0.0, 1.0], "z_loss": 0.1, "reduction": "none"}
    assert xent.cross_entropy(x, [0], **options) == xent.reference.cross_entropy(x, [0], **options) == [np.inf]


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_of_tiny_weights(dtype, tier):
    """Each weighted loss is below the smallest normal number of float32, their mean is not."""
    x, weight = np.zeros((5, 10), dtype), np.full(5, 1e-40 if dtype == np.float32 else 1e-300)
    mean = xent.cross_entropy(x, np.zeros(5, int), sample_weight=weight)
    assert abs(mean - math.log(10)) <= 2 * np.spacing(dtype(math.log(10)))
    rows = xent.cross_entropy(x, np.zeros(5, int), sample_weight=weight, reduction="none")
    if dtype == np.float32:
        assert not rows.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_has_one_sign(dtype, tier):
    """Sums of several NaNs, and products of two, had the sign of either, by the compiler's order of operands; inf - inf
    has that of the processor."""
    rng = np.random.default_rng(7)
    one = np.array(np.nan, dtype).tobytes()
    for rows, classes in [(9, 3), (70, 10), (40, 300), (3, 5000)]:
        z = rng.normal(0, 3, (rows, classes)).astype(dtype)
        z[::3, 1], z[1::3, 0], z[2::9] = np.nan, np.inf, -np.inf
        y = rng.integers(0, classes, rows)
        y[1::3] = 0
        for options in ({}, {"reduction": "sum"}, {"softcap": 5.0}, {"z_loss": 0.1}, {"label_smoothing": 0.1}):
            for sign in (z, -z):
                loss, grad = xent.cross_entropy_with_grad(sign, y, **options)
                assert np.asarray(loss).tobytes() == one
                assert xent.cross_entropy(sign, y, **options).tobytes() == one
                bad = grad[np.isnan(grad)]
                assert bad.size
                assert bad.tobytes() == one * bad.size
        for options in ({}, {"z_loss": 0.1}, {"label_smoothing": 0.1}):
            for sign in (z, -z):
                each = xent.cross_entropy(sign, y, reduction="none", **options)
                for result in (each, xent.log_softmax(sign), xent.softmax(sign), xent.logsumexp(sign, axis=1)):
                    bad = result[np.isnan(result)]
                    assert bad.size
                    assert bad.tobytes() == one * bad.size
        for sign in (z, -z):
            loss, grad = xent.sigmoid_cross_entropy_with_grad(sign, np.full_like(z, 0.25))
            bad = grad[np.isnan(grad)]
            assert np.asarray(loss).tobytes() == one
            assert bad.tobytes() == one * bad.size
            with np.errstate(all="ignore"):
                assert xent.linear_cross_entropy(sign, np.ones((4, classes), dtype), y % 4).tobytes() == one


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "classes"), [(80, 3), (80, 40), (80, 300), (80, 5000), (14080, 300), (880, 5000)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_smallest_result_is_the_smallest_normal_number(rows, classes, sign, dtype, tier):
    """Factors that rise by less than a unit of the result, or in float64 by two at most, from where it vanishes: it is
    0, then at once that number, or the next. So the bound is where the product, rounded, comes to it, and not near. The
    last two are large results, scaled while later rows are summed."""
    info, depth = np.finfo(dtype), 60 if dtype == np.float32 else 600
    z = np.zeros((rows, classes), dtype)
    z[:, 1] = -depth
    p = math.exp(-depth) / (classes - 1)
    step = float(info.eps) / 4 if dtype == np.float32 else float(info.eps)
    factor = sign * float(info.tiny) / p * (1 + (np.arange(80) - 40) * step)
    assert np.all(np.diff(np.abs(factor)) > 0)
    grad = xent.cross_entropy_grad(z, np.zeros(rows, int), np.resize(factor, rows), reduction="none")
    every = sign * grad[:, 1].reshape(-1, 80)
    assert np.all(every == every[0])
    got = every[0]
    assert got[0] == 0 < got[-1]
    assert np.all(np.diff(got) >= 0)
    least = got[got > 0].min()
    assert least == info.tiny or (dtype == np.float64 and least == np.nextafter(info.tiny, 1))


@pytest.mark.parametrize("rows", [1, 70])
@pytest.mark.parametrize("classes", [3, 300, 5000])
def test_large_factors_of_small_terms(rows, classes, tier):
    """Multiplied by one power of two that is no float32, they were infinite."""
    z, factor = np.full((rows, classes), -165.0, np.float32), 1e76
    z[:, 0] = 0
    exact = factor * math.exp(-165.0)  # e^0 is all of the sum
    for a in (z, np.asfortranarray(z)):
        grad = xent.cross_entropy_grad(a, np.zeros(rows, int), sample_weight=np.full(rows, factor), reduction="sum")
        np.testing.assert_allclose(grad[:, 1:], exact, rtol=4 * 2.0**-24)
