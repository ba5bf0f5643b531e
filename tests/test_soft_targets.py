"""cross_entropy with target probabilities against 50-digit truth, on every tier.

loss = A log(1 + s) + sum_c t_c (max - z_c): all terms of one sign, 2 ulp. gradient = A p - t cancels where p
is near t: 2 ulp of the larger of the two. The rows need not sum to 1.
"""

from functools import cache

import numpy as np
import oracle
import pytest
import truths
from mpmath import mp

import xent

BOUND = 2.0


def targets_of(z):
    """A distribution, several labels, softmax(z) itself (the gradient cancels), a few large numbers."""
    n = len(z)
    rng = np.random.default_rng(n)
    q = rng.random(n)
    own = xent.reference.softmax(np.where(np.isfinite(z), z, np.finfo(z.dtype).min)) if n <= 1000 else q
    rows = [q / q.sum(), np.arange(n) % 2, own, np.where(rng.random(n) < 0.1, 1e3, 1e-3)]
    return np.array(rows).astype(z.dtype) * np.isfinite(z)  # a masked class has no mass


@cache
def truths_of(row, kind):
    z = np.frombuffer(row, kind)
    targets = targets_of(z)
    loss = oracle.Truth([oracle.loss_row(z, q) for q in targets], kind)
    scale = [oracle.grad_scale_row(z, q) for q in targets]
    return loss, oracle.Truth([oracle.grad_row(z, q) for q in targets], kind, scale)


@pytest.mark.parametrize("case", truths.SHORT_ROWS + truths.FEW_LONG_ROWS)
def test_truth(tier, case):
    z = case.logits
    loss_truth, grad_truth = truths_of(z.tobytes(), z.dtype)
    targets = targets_of(z)
    loss, grad = xent.cross_entropy_with_grad(np.tile(z, (len(targets), 1)), targets, reduction="none")
    oracle.check("loss, probabilities", loss, loss_truth, BOUND)
    oracle.check("gradient, probabilities", grad, grad_truth, BOUND)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_targets_of_the_other_width(tier, dtype, kind):
    rng = np.random.default_rng(4)
    z, q = rng.normal(0, 3, (4, 65)).astype(dtype), rng.random((4, 65)).astype(kind)
    with mp.workdps(oracle.DIGITS):
        losses = oracle.Truth([oracle.loss_row(*row) for row in zip(z, q, strict=True)], dtype)
        scale = [oracle.grad_scale_row(*row) for row in zip(z, q, strict=True)]
        grads = oracle.Truth([oracle.grad_row(*row) for row in zip(z, q, strict=True)], dtype, scale)
    loss, grad = xent.cross_entropy_with_grad(z, q, reduction="none")
    oracle.check("loss, probabilities", loss, losses, BOUND)
    oracle.check("gradient, probabilities", grad, grads, BOUND)


def test_mean_divides_by_the_mass(tier, dtype):
    rng = np.random.default_rng(8)
    z, q = rng.normal(0, 3, (6, 30)).astype(dtype), (3 * rng.random((6, 30))).astype(dtype)
    with mp.workdps(oracle.DIGITS):
        mass = sum(oracle.exact(q))
        mean = sum(oracle.loss_row(*row) for row in zip(z, q, strict=True)) / mass
        grad = [[g / mass for g in oracle.grad_row(*row)] for row in zip(z, q, strict=True)]
        scale = [[g / mass for g in oracle.grad_scale_row(*row)] for row in zip(z, q, strict=True)]
    got = xent.cross_entropy_with_grad(z, q)
    oracle.check("loss, probabilities, mean", got[0], oracle.Truth(mean, dtype), BOUND)
    oracle.check("gradient, probabilities, mean", got[1], oracle.Truth(grad, dtype, scale), BOUND)


@pytest.mark.parametrize("n", [2, 3, 10, 70])
def test_central_differences(tier, n):
    """As for an index: errors of about 1e-10 at h = 1e-5, times the mass of the row (up to n)."""
    rng = np.random.default_rng(n)
    slopes, grad = truths.central_differences(rng.normal(0, 2, (3, n)), rng.random((3, n)))
    np.testing.assert_allclose(slopes, grad, rtol=0, atol=1e-9 * n)
