"""cross_entropy, _with_grad and _grad for class indices against 50-digit truth, on every tier.

loss = (max - z_y) + log(1 + s): two terms of one sign. The gradient is p, and -(sum of the other terms) / sum
at the label: nothing cancels, so 2 ulp of every element is due, where p_y is 1 - 1e-300 too.
"""

import numpy as np
import oracle
import pytest
import truths
from mpmath import mp, mpf

import xent

BOUND = 2.0


def labels_of(z):
    """The likeliest class (the tail formula), the least likely one that is not masked, one in the middle, the
    last.
    """
    finite = np.flatnonzero(np.isfinite(z))
    return sorted({int(np.argmax(z)), int(finite[np.argmin(z[finite])]), len(z) // 2, len(z) - 1})


@pytest.mark.parametrize("case", truths.ROWS)
def test_truth(tier, case):
    z = case.logits
    y = np.array(labels_of(z))
    loss, grad, lse = xent.cross_entropy_with_grad(np.tile(z, (len(y), 1)), y, reduction="none", return_lse=True)
    log_p, p = truths.log_softmax(z), truths.softmax(z)
    at_label = truths.at_labels(z, tuple(labels_of(z)))
    for k, label in enumerate(y):
        others = np.arange(len(z)) != label
        oracle.check("loss, index", -loss[k], log_p[label], BOUND)
        oracle.check("gradient, index, elsewhere", grad[k][others], p[others], BOUND)
        oracle.check("gradient, index, at the label", grad[k][label], at_label[k], BOUND)
        oracle.check("lse of a loss", lse[k], truths.lse(z), BOUND)


@pytest.mark.parametrize("place", [0, 1, 18, 36])
def test_a_million(tier, dtype, place):
    row = truths.million(dtype)
    value = np.argsort(row.values)[place]
    y = int(np.flatnonzero(row.where == value)[-1])
    loss, grad = xent.cross_entropy_with_grad(row.logits, y)
    oracle.check("loss, index, 1e6 classes", -loss, oracle.Truth(row.log_p[value], dtype), BOUND)
    oracle.check("gradient, index, 1e6 classes", grad[y], oracle.Truth(row.p[value] - 1, dtype), BOUND)
    others = np.arange(len(grad)) != y
    each = np.array([grad[np.flatnonzero((row.where == k) & others)[0]] for k in range(len(row.values))])
    oracle.check("gradient, index, 1e6 classes", each, oracle.Truth(row.p, dtype), BOUND)
    np.testing.assert_array_equal(grad[others], each[row.where[others]])


@pytest.mark.parametrize("shape", [(7, 3), (32, 10), (70, 20)])
def test_reductions(tier, dtype, shape):
    """The rows' losses are added in more digits than the result has: the sum is rounded once."""
    rng = np.random.default_rng(shape[0])
    z, y = rng.normal(0, 5, shape).astype(dtype), rng.integers(0, shape[1], shape[0])
    with mp.workdps(oracle.DIGITS):
        rows = [oracle.loss_row(z_n, int(y_n)) for z_n, y_n in zip(z, y, strict=True)]
        grads = [oracle.grad_row(z_n, int(y_n)) for z_n, y_n in zip(z, y, strict=True)]
        total = sum(rows)
        mean_grad = [[g / shape[0] for g in grad] for grad in grads]
        normalized = [[g / mpf(7.5) for g in grad] for grad in grads]
        results = {
            ("sum", None): (total, grads),
            ("mean", None): (total / shape[0], mean_grad),
            ("mean", 7.5): (total / mpf(7.5), normalized),
        }
    for (reduction, normalizer), (loss_truth, grad_truth) in results.items():
        loss, grad = xent.cross_entropy_with_grad(z, y, reduction=reduction, normalizer=normalizer)
        oracle.check(f"loss, {reduction}", loss, oracle.Truth(loss_truth, dtype), BOUND)
        oracle.check(f"gradient, {reduction}", grad, oracle.Truth(grad_truth, dtype), BOUND)


def test_gradient_of_the_target_near_one(tier):
    """Float32 logits 0, -20, -25: others give 0 for the loss and for the gradient at the label."""
    loss, grad = xent.cross_entropy_with_grad(np.array([0, -20, -25], np.float32), 0)
    assert loss == pytest.approx(2.0750418e-9, rel=1e-7)
    assert grad[0] == pytest.approx(-2.0750418e-9, rel=1e-7)


def test_grad_loss(tier, dtype):
    rng = np.random.default_rng(3)
    z, y = rng.normal(size=(5, 40)).astype(dtype), rng.integers(0, 40, 5)
    factors = rng.normal(size=5).astype(dtype)
    with mp.workdps(oracle.DIGITS):
        grads = [oracle.grad_row(z_n, int(y_n)) for z_n, y_n in zip(z, y, strict=True)]
        each = [[mpf(float(f)) * g for g in grad] for f, grad in zip(factors, grads, strict=True)]
        mean = [[mpf(-3.5) * g / 5 for g in grad] for grad in grads]
    per_row = xent.cross_entropy_grad(z, y, factors, reduction="none")
    oracle.check("gradient, grad_loss", per_row, oracle.Truth(each, dtype), BOUND)
    oracle.check("gradient, grad_loss", xent.cross_entropy_grad(z, y, -3.5), oracle.Truth(mean, dtype), BOUND)
    np.testing.assert_array_equal(xent.cross_entropy_grad(z, y, 0.0), np.zeros_like(z))


@pytest.mark.parametrize("n", [2, 3, 10, 70])
def test_central_differences(tier, n):
    """An error of h^2/6 loss''' and one of eps loss / h, both about 1e-10 at h = 1e-5."""
    rng = np.random.default_rng(n)
    slopes, grad = truths.central_differences(rng.normal(0, 2, (3, n)), rng.integers(0, n, 3))
    np.testing.assert_allclose(slopes, grad, rtol=0, atol=1e-9)
