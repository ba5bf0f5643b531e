"""Every option of cross_entropy, alone and with the others, against 50-digit truth, on every tier.

Index or probabilities, weights and smoothing leave a sum of terms of one sign: 2 ulp for the loss, 2 ulp of
the larger of A p and w q' for the gradient. z_loss adds zeta lse^2, where lse = max + log(1 + s) may cancel
and is right to 2 ulp of the larger of its terms: the loss is counted in ulps of the sum of its terms with
that larger one for lse, and 2 ulp of lse are 4 of lse^2 (float64; float32 is computed in double).
"""

from itertools import product

import numpy as np
import oracle
import pytest
import truths
from mpmath import mp, mpf

import xent

BOUND, Z_LOSS_BOUND = 2.0, 4.0
C = 11
RNG = np.random.default_rng(12)
CLASS_WEIGHT = np.where(np.arange(C) == 4, 0, RNG.random(C) * 3)
OPTIONS = {
    "class_weight": (None, CLASS_WEIGHT, np.arange(C)),
    "sample_weight": (None, 0.3, np.array([1.5, 0.0, 2.0, 0.25])),
    "label_smoothing": (0.0, 0.1, 1.0),
    "z_loss": (0.0, 1e-3, 2.0),
}
COMBINED = [dict(zip(OPTIONS, values, strict=True)) for values in product(*OPTIONS.values())]
REDUCTIONS = [("none", None), ("mean", None), ("sum", None), ("mean", 2.5)]


def batch(dtype, kind):
    """Four rows: plain, spread, one that is certain, one about lse = 0; labels or probabilities, one row not
    of sum 1.
    """
    rng = np.random.default_rng(5)
    z = rng.normal(0, 2, (4, C))
    z[1] *= 40
    z[2, 7] += 45
    z[3] -= xent.logsumexp(z[3])
    if kind == "index":
        return z.astype(dtype), np.array([3, 4, 7, 0])
    q = rng.random((4, C))
    q[:2] /= q[:2].sum(1, keepdims=True)
    return z.astype(dtype), q.astype(dtype)


def row_truths(z, targets, options):
    """Per row: loss, its scale, gradient, its scale, row weight; as mpf."""
    given = {k: v for k, v in options.items() if v is not None}
    s = np.broadcast_to(given.pop("sample_weight", 1.0), len(z))
    w = given.get("class_weight", np.ones(C))
    for z_n, t_n, s_n in zip(z, targets, s, strict=True):
        row = {**given, "sample_weight": s_n}
        weight = mpf(float(s_n)) * sum(oracle.weighted_targets(C, t_n, w))
        yield (
            *(f(z_n, t_n, **row) for f in (oracle.loss_row, oracle.loss_scale_row)),
            *(f(z_n, t_n, **row) for f in (oracle.grad_row, oracle.grad_scale_row)),
            weight,
        )


@pytest.mark.parametrize("kind", ["index", "probabilities"])
@pytest.mark.parametrize("options", COMBINED[::2] + COMBINED[1::12])
def test_options(dtype, kind, options, every_tier):
    z, targets = batch(dtype, kind)
    with mp.workdps(oracle.DIGITS):
        losses, scales, grads, grad_scales, weights = zip(*row_truths(z, targets, options), strict=True)
        made = {}
        for reduction, normalizer in REDUCTIONS:
            divisor = normalizer or (sum(weights) if reduction == "mean" else 1)
            loss = losses if reduction == "none" else sum(losses) / divisor
            scale = scales if reduction == "none" else sum(scales) / divisor
            grad, grad_scale = ([[g / divisor for g in row] for row in rows] for rows in (grads, grad_scales))
            made[reduction, normalizer] = (
                oracle.Truth(loss, dtype, scale),
                oracle.Truth(grad, dtype, grad_scale),
            )
    bound = Z_LOSS_BOUND if options["z_loss"] else BOUND
    for _ in every_tier():
        for (reduction, normalizer), (loss_truth, grad_truth) in made.items():
            given = {**options, "reduction": reduction, "normalizer": normalizer}
            loss, grad, lse = xent.cross_entropy_with_grad(z, targets, return_lse=True, **given)
            oracle.check(f"loss, options, {kind}", loss, loss_truth, bound)
            oracle.check(f"gradient, options, {kind}", grad, grad_truth, bound)
            np.testing.assert_array_equal(lse, xent.logsumexp(z, axis=1))
            again, lse = xent.cross_entropy(z, targets, return_lse=True, **given)
            np.testing.assert_array_equal(again, loss)
            np.testing.assert_array_equal(lse, xent.logsumexp(z, axis=1))
            back, lse = xent.cross_entropy_grad(z, targets, return_lse=True, **given)
            np.testing.assert_array_equal(back, grad)
            np.testing.assert_array_equal(lse, xent.logsumexp(z, axis=1))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2, "z_loss": 0.1, "class_weight": CLASS_WEIGHT}])
@pytest.mark.parametrize("size", truths.BATCH_SIZES)
def test_ignore_index(tier, dtype, size, options):
    """As if the ignored rows were not there; they are not read."""
    rng = np.random.default_rng(size)
    z, y = rng.normal(0, 3, (size, C)).astype(dtype), rng.integers(0, C, size)
    for ignore, ignored in product(
        (-100, 3, 10**12), (rng.random(size) < 0.4, np.zeros(size, bool), np.ones(size, bool))
    ):
        labels = np.where(ignored, ignore, y)
        here = labels == ignore
        spoiled = np.where(here[:, None], np.nan, z)
        for reduction in ("mean", "sum"):
            given = {**options, "reduction": reduction}
            loss, grad, lse = xent.cross_entropy_with_grad(
                spoiled, labels, ignore_index=ignore, return_lse=True, **given
            )
            kept = xent.cross_entropy_with_grad(z[~here], labels[~here], return_lse=True, **given)
            np.testing.assert_array_equal(loss, kept[0])
            np.testing.assert_array_equal(grad[~here], kept[1])
            np.testing.assert_array_equal(lse[~here], kept[2])
            assert not grad[here].any()
            assert not lse[here].any()
        rows = xent.cross_entropy(spoiled, labels, ignore_index=ignore, reduction="none", **options)
        assert not rows[here].any()


@pytest.mark.parametrize("weight_type", [np.float32, np.float64, np.int8, np.uint64, ">f4", ">i2"])
def test_types_of_weights(tier, dtype, weight_type):
    z, y = batch(dtype, "index")
    s, w = np.array([1, 0, 3, 2]), np.arange(C)
    expected = xent.cross_entropy_with_grad(z, y, sample_weight=s.astype(float), class_weight=w.astype(float))
    given = {"sample_weight": s.astype(weight_type), "class_weight": w.astype(weight_type)}
    for got in (
        xent.cross_entropy_with_grad(z, y, **given),
        xent.cross_entropy_with_grad(
            z, y, sample_weight=s.tolist(), class_weight=np.repeat(w, 2)[::2].astype(weight_type)
        ),
    ):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("kind", ["index", "probabilities"])
def test_central_differences(tier, kind):
    """With z_loss = 1 and weights of 3, derivatives up to 1000 times the loss's alone: 1e-9 -> 1e-6."""
    z, targets = batch(np.float64, kind)
    options = {
        "class_weight": CLASS_WEIGHT,
        "label_smoothing": 0.2,
        "z_loss": 1.0,
        "sample_weight": [1, 2, 0, 0.5],
    }
    slopes, grad = truths.central_differences(z, targets, **options)
    np.testing.assert_allclose(slopes, grad, rtol=1e-7, atol=1e-6)


def test_axis(tier, dtype):
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(2, 5, 3, 4)).astype(dtype), rng.integers(0, 5, (2, 3, 4))
    options = {"class_weight": np.arange(5), "sample_weight": rng.random((2, 3, 4)), "label_smoothing": 0.1}
    last = np.moveaxis(z, 1, -1).copy()
    expected = xent.cross_entropy_with_grad(last, y, reduction="none", return_lse=True, **options)
    for axis in (1, -3, np.int64(1)):
        loss, grad, lse = xent.cross_entropy_with_grad(z, y, axis=axis, reduction="none", return_lse=True, **options)
        np.testing.assert_array_equal(loss, expected[0])
        np.testing.assert_array_equal(grad, np.moveaxis(expected[1], -1, 1))
        np.testing.assert_array_equal(lse, expected[2])


def test_one_row(tier, dtype):
    """A row alone: no batch shape, a label that is a number, a loss that is one."""
    z = np.array([0.5, -1.0, 2.0], dtype)
    loss, grad, lse = xent.cross_entropy_with_grad(z, 2, reduction="none", return_lse=True)
    rows = xent.cross_entropy_with_grad(z[None], [2], reduction="none", return_lse=True)
    assert type(loss) is type(lse) is dtype.type
    assert (loss, lse) == (rows[0][0], rows[2][0])
    np.testing.assert_array_equal(grad, rows[1][0])
