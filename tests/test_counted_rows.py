"""Rows that do not count, between rows that do: kernels pass over them, and take those left as if they were all."""

from __future__ import annotations

import numpy as np
import pytest

import xent

IGNORE = -100
SHAPES = [(700, 2), (700, 10), (300, 33), (150, 128), (90, 200), (41, 1000), (11, 5000)]
SHARES = [0.03, 0.5, 0.97]


def problem(shape, share, dtype):
    """Logits, labels, and which rows count; whole groups of rows, and the first and last rows, do not."""
    rng = np.random.default_rng((*shape, round(100 * share)))
    z = (3 * rng.standard_normal(shape)).astype(dtype)
    y = rng.integers(0, shape[1], shape[0])
    counts = rng.random(shape[0]) >= share
    counts[[0, -1]] = False
    counts[shape[0] // 4 : shape[0] * 3 // 4] = False
    counts[shape[0] * 3 // 4] = True
    return z, y, counts


def passed_over(z, y, counts, by, **options):
    """Loss and gradient of each row, those that do not count given by a label, or by a weight of 0."""
    if by == "label":
        return xent.cross_entropy_with_grad(z, np.where(counts, y, IGNORE), ignore_index=IGNORE, **options)
    return xent.cross_entropy_with_grad(z, y, sample_weight=counts.astype(z.dtype), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("by", ["label", "weight"])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_left_are_as_if_alone(shape, share, by, dtype, tier):
    """The bits of loss and gradient are those without the other rows, which get 0, even of NaN and infinite logits."""
    z, y, counts = problem(shape, share, dtype)
    loss, grad = xent.cross_entropy_with_grad(z[counts], y[counts], reduction="none")
    z[~counts] = np.array([np.nan, np.inf], dtype)[np.arange((~counts).sum()) % 2, None]
    got_loss, got_grad = passed_over(z, y, counts, by, reduction="none")
    np.testing.assert_array_equal(got_loss[counts], loss)
    np.testing.assert_array_equal(got_grad[counts], grad)
    assert not got_loss[~counts].any()
    assert not got_grad[~counts].any()
    in_place = z.copy()
    passed_over(in_place, y, counts, by, reduction="none", out=in_place)
    np.testing.assert_array_equal(in_place, got_grad)
    turned = np.asfortranarray(z)
    np.testing.assert_array_equal(passed_over(turned, y, counts, by, reduction="none")[1], got_grad)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("by", ["label", "weight"])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_leave_them_out(shape, share, by, order, tier):
    """Sum and mean over groups of rows of which some, or all, do not count: to the rounding of float64; their gradients
    to the bit.
    """
    z, y, counts = problem(shape, share, np.float64)
    rows = xent.cross_entropy(z[counts], y[counts], reduction="none")
    left = z[counts].copy()
    z[~counts] = np.nan
    z = np.asarray(z, order=order)
    for reduction, expected in (("sum", rows.sum()), ("mean", rows.mean())):
        loss, grad = passed_over(z, y, counts, by, reduction=reduction)
        np.testing.assert_allclose(loss, expected, rtol=1e-14)
        of_rows = np.zeros_like(grad)
        of_rows[counts] = xent.cross_entropy_grad(left, y[counts], reduction=reduction)
        np.testing.assert_array_equal(grad, of_rows)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("by", ["label", "weight"])
def test_threads_share_rows_and_not_bits(by, order):
    """Enough rows for four threads, each of which begins and ends among rows that do not count."""
    z, y, counts = problem((60000, 10), 0.5, np.float32)
    z = np.asarray(z, order=order)
    before, found = xent.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            xent.set_num_threads(threads)
            loss, grad = passed_over(z, y, counts, by, reduction="sum")
            found.append((loss.tobytes(), grad.tobytes()))
    finally:
        xent.set_num_threads(before)
    assert len(set(found)) == 1


def test_lse_of_rows_that_weigh_nothing():
    """A row without weight has an lse, if it is asked for, one that is ignored has not; neither has a loss."""
    z, y, counts = problem((300, 10), 0.5, np.float32)
    lse = xent.logsumexp(z, axis=1)
    for by, of_others in (("weight", lse[~counts]), ("label", np.zeros((~counts).sum(), np.float32))):
        loss, grad, got = passed_over(z, y, counts, by, reduction="none", return_lse=True)
        np.testing.assert_array_equal(got[counts], lse[counts])
        np.testing.assert_array_equal(got[~counts], of_others)
        assert not loss[~counts].any()
        assert not grad[~counts].any()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("by", ["label", "weight"])
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_no_row_counts(classes, by, reduction):
    z, y, counts = problem((130, classes), 1.0, np.float32)
    counts[:] = False
    loss, grad = passed_over(z, y, counts, by, reduction=reduction)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_classes_that_weigh_nothing(classes, dtype, tier):
    """Rows whose factor is 0 go with the others of their batch: a gradient of +0, the others' bits."""
    z, y, _ = problem((200, classes), 0.0, dtype)
    weight = np.ones(classes, dtype)
    weight[: (classes + 1) // 2] = 0
    loss, grad = xent.cross_entropy_with_grad(z, y, reduction="none", class_weight=weight)
    light = weight[y] == 0
    assert light.any()
    assert not light.all()
    np.testing.assert_array_equal(grad[light].view(np.uint8), 0)
    expected = xent.cross_entropy_with_grad(z, y, reduction="none")
    np.testing.assert_array_equal(loss, np.where(light, 0, expected[0]))
    np.testing.assert_array_equal(grad[~light], expected[1][~light])
    negative = xent.cross_entropy_grad(z, y, -1.0, reduction="none", class_weight=weight)
    np.testing.assert_array_equal(negative[light].view(np.uint8), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("by", ["label", "weight"])
@pytest.mark.parametrize("classes", [5, 200])
def test_softcap_of_rows_passed_over(classes, by, dtype, tier):
    """Their gradient was multiplied by the slope of a logit that nobody was to read: 0 by NaN."""
    z, y, counts = problem((40, classes), 0.3, dtype)
    z[~counts] = np.nan
    loss, grad = passed_over(z, y, counts, by, softcap=5.0)
    expected = xent.cross_entropy_with_grad(z[counts], y[counts], softcap=5.0)
    assert loss == expected[0]
    np.testing.assert_array_equal(grad[counts], expected[1])
    assert not grad[~counts].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [10, 300, 4000])
def test_a_row_has_its_own_bits_beside_rows_counted_often(tier, classes, dtype):
    """float64 leaves small factors no room beside the guard that large ones need: such rows do not go together."""
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 5, (60, classes)).astype(dtype)
    y = rng.integers(0, classes, 60)
    for factors in ([1.0, 1e20, 1e-30], [3.0, -1e-25, np.inf, 1e6], [1e-300, 1e300, 0.0, 500.0]):
        own = np.resize(factors, 60)[rng.permutation(60)]
        grad = xent.cross_entropy_grad(z, y, own, reduction="none")
        for r in range(60):
            alone = xent.cross_entropy_grad(z[r : r + 1], y[r : r + 1], own[r : r + 1], reduction="none")
            np.testing.assert_array_equal(grad[r : r + 1], alone)
