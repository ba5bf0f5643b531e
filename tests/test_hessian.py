"""cross_entropy_hessian_diag and cross_entropy_hvp against 50-digit truth, on every tier.

The diagonal, G p (1 - p) + 2 zeta p^2, is a sum of terms of one sign where lse >= 0; 1 - p is formed without
subtraction. One rounding more than the gradient has, and lse in G: 4 ulp, of the larger term where zeta is
not 0. In H v = p [ G (v - mu) + 2 zeta mu ] the differences cancel: 4 ulp of the largest of what is added up.
"""

from functools import cache

import numpy as np
import oracle
import pytest
import truths

import xent

BOUND = 4.0
OPTIONS = {"plain": {}, "all": {"label_smoothing": 0.1, "z_loss": 1e-2, "sample_weight": 0.7}}


def problem(z, options):
    """A label and a row of probabilities; a vector; the options."""
    rng = np.random.default_rng(len(z))
    given = dict(OPTIONS[options])
    if given:
        given["class_weight"] = rng.random(len(z))
    return (len(z) // 2, rng.random(len(z)).astype(z.dtype)), rng.normal(size=len(z)).astype(z.dtype), given


@cache
def truths_of(row, kind, options):
    z = np.frombuffer(row, kind)
    targets, v, given = problem(z, options)
    found = []
    for target in targets:
        scale = oracle.hessian_scale_row(z, target, **given)
        diag = oracle.Truth(oracle.hessian_diag_row(z, target, **given), kind, scale if given else None)
        scale = oracle.hvp_scale_row(z, target, v, **given)
        found.append((diag, oracle.Truth(oracle.hvp_row(z, target, v, **given), kind, scale)))
    return found


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("case", truths.SHORT_ROWS + truths.FEW_LONG_ROWS[:2])
def test_truth(tier, case, options):
    z = case.logits
    targets, v, given = problem(z, options)
    for target, (diag_truth, hvp_truth) in zip(targets, truths_of(z.tobytes(), z.dtype, options), strict=True):
        diag = xent.cross_entropy_hessian_diag(z, target, reduction="sum", **given)
        oracle.check(f"Hessian diagonal, {options}", diag, diag_truth, BOUND)
        hvp = xent.cross_entropy_hvp(z, target, v, reduction="sum", **given)
        oracle.check(f"Hessian times vector, {options}", hvp, hvp_truth, BOUND)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_batch(tier, dtype, reduction):
    """Rows along an axis, ignored rows, rows of weight 0, the divisor; each row as the row alone."""
    rng = np.random.default_rng(3)
    z, v = rng.normal(size=(2, 2, 65, 3)).astype(dtype)
    y, s = rng.integers(0, 65, (2, 3)), np.array([[1.0, 2.0, 0.0], [0.5, 1.0, 1.0]])
    y[1, 1] = -1
    z[1, :, 1] = np.nan
    given = {"axis": 1, "sample_weight": s, "ignore_index": -1, "reduction": reduction}
    divisor = (s * (y >= 0)).sum() if reduction == "mean" else 1
    diag, hvp = xent.cross_entropy_hessian_diag(z, y, **given), xent.cross_entropy_hvp(z, y, v, **given)
    for i, j in np.ndindex(2, 3):
        if s[i, j] == 0 or y[i, j] < 0:
            assert not diag[i, :, j].any()
            assert not hvp[i, :, j].any()
            continue
        row = {"normalizer": divisor / s[i, j]}
        for got, alone in (
            (diag, xent.cross_entropy_hessian_diag(z[i, :, j], y[i, j], **row)),
            (hvp, xent.cross_entropy_hvp(z[i, :, j], y[i, j], v[i, :, j], **row)),
        ):
            # the factor s / divisor is rounded once more
            np.testing.assert_allclose(got[i, :, j], alone, rtol=4 * np.finfo(dtype).eps)


def test_differences_of_the_gradient(tier):
    """(grad(z + h v) - grad(z - h v)) / 2 h: errors of h^2 and of eps / h, about 1e-10 at h = 1e-5."""
    rng = np.random.default_rng(7)
    z, v, h = rng.normal(size=(5, 20)), rng.normal(size=(5, 20)), 1e-5
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "class_weight": rng.random(20), "reduction": "sum"}
    for targets in (rng.integers(0, 20, 5), rng.random((5, 20))):
        up, down = (xent.cross_entropy_grad(z + d * v, targets, **options) for d in (h, -h))
        hvp = xent.cross_entropy_hvp(z, targets, v, **options)
        np.testing.assert_allclose((up - down) / (2 * h), hvp, rtol=0, atol=2e-9 * 20)
        unit = np.broadcast_to(np.arange(20) == 6, (5, 20)).astype(float)
        column = xent.cross_entropy_hvp(z, targets, unit, **options)
        diag = xent.cross_entropy_hessian_diag(z, targets, **options)
        np.testing.assert_allclose(column[:, 6], diag[:, 6], rtol=1e-13)


def test_a_constant_is_in_the_kernel(tier, dtype):
    """Without z_loss, adding a constant to a row changes nothing: H 1 = 0 within rounding of p."""
    z = np.random.default_rng(1).normal(0, 5, (4, 300)).astype(dtype)
    hvp = xent.cross_entropy_hvp(z, [0, 1, 2, 3], np.ones_like(z), reduction="sum")
    assert np.all(np.abs(hvp) <= 4 * np.finfo(dtype).eps * xent.softmax(z, axis=1))


@pytest.mark.parametrize("row", [[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf] * 3])
def test_bad_rows(tier, dtype, row):
    z = np.array([[0, 1, 2], row, [2, 1, 0]], dtype)
    for got in (
        xent.cross_entropy_hessian_diag(z, [0, 1, 2]),
        xent.cross_entropy_hvp(z, [0, 1, 2], np.ones((3, 3), dtype)),
    ):
        assert np.isnan(got[1]).all()
        assert np.isfinite(got[::2]).all()
