"""sigmoid_cross_entropy and its gradient against 50-digit truth, on every tier.

loss = pw t softplus(-z) + (1 - t) softplus(z): terms of one sign, 2 ulp. The gradient is the difference
(1 - t) sigmoid(z) - pw t sigmoid(-z): 2 ulp of the larger.
"""

from functools import cache

import cases
import numpy as np
import oracle
import pytest
import truths
from mpmath import mp, mpf

import xent

BOUND = 2.0
LN2 = np.log(2.0)


def logits(kind):
    """Every short adversarial row in one, and values about the borders of exp, log1p and the smallest normal
    number.
    """
    info = np.finfo(kind)
    low = np.log(float(info.tiny))
    borders = [k * LN2 / 2 for k in range(-9, 10)] + [low + d for d in (-2, -1, -0.01, 0, 0.01, 1, 40)]
    borders += [np.log(float(info.eps)) + d for d in (-1, 0, 1)] + [
        700.0,
        707.9,
        708.1,
        709.0,
        745.0,
        746.0,
        1e5,
    ]
    rows = [case.logits for case in cases.rows(kind) if len(case.logits) <= 20 and "normal" not in case.name]
    z = np.concatenate([np.array(borders), -np.array(borders), *rows, np.random.default_rng(0).normal(0, 4, 300)])
    return z.astype(kind)


TARGETS = ("zeros", "ones", "any", "half", "near")
WEIGHTS = {
    "plain": {},
    "weighted": {"pos_weight": 3.25, "sample_weight": 0.7},
}


@cache
def problem(kind, targets, weights):
    z = logits(kind)
    rng = np.random.default_rng(1)
    near = np.clip(1 / (1 + np.exp(-np.clip(z.astype(float), -30, 30))), 0, 1)  # the gradient cancels
    t = {
        "zeros": 0 * near,
        "ones": 0 * near + 1,
        "any": rng.random(len(z)),
        "half": 0 * near + 0.5,
        "near": near,
    }[targets]
    t = t.astype(kind)
    loss, grad = oracle.sigmoid_row(z, t, **WEIGHTS[weights])
    given = WEIGHTS[weights]
    with np.errstate(over="ignore"):
        p, not_p = (1 / (1 + np.exp(-v)) for v in (z.astype(float), -z.astype(float)))
    larger = np.maximum((1 - t.astype(float)) * p, given.get("pos_weight", 1.0) * t * not_p)
    scale = [mpf(v) for v in given.get("sample_weight", 1.0) * larger]
    return z, t, oracle.Truth(loss, kind), oracle.Truth(grad, kind, scale)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("targets", TARGETS)
def test_truth(tier, dtype, targets, weights):
    z, t, loss_truth, grad_truth = problem(dtype, targets, weights)
    loss, grad = xent.sigmoid_cross_entropy_with_grad(z, t, reduction="none", **WEIGHTS[weights])
    oracle.check("sigmoid loss", loss, loss_truth, BOUND)
    oracle.check("sigmoid gradient", grad, grad_truth, BOUND)
    np.testing.assert_array_equal(xent.sigmoid_cross_entropy(z, t, reduction="none", **WEIGHTS[weights]), loss)


@pytest.mark.parametrize("shape", [(1,), (5, 3), (2, 70), (3, 4, 5)])
def test_weights_and_reductions(tier, dtype, shape):
    rng = np.random.default_rng(len(shape))
    z, t = rng.normal(0, 3, shape).astype(dtype), rng.random(shape).astype(dtype)
    per_class, per_row, per_element = rng.random(shape[-1]) * 3, rng.random(shape[:-1]), rng.random(shape)
    row_of = np.broadcast_to(per_row[..., None], shape)
    for given, w, s in (
        ({}, 1, np.ones(shape)),
        ({"pos_weight": per_class}, per_class, np.ones(shape)),
        ({"sample_weight": per_row}, 1, row_of),
        ({"sample_weight": per_element, "pos_weight": 2.0}, 2, per_element),
    ):
        w = np.broadcast_to(w, shape)
        loss, grad = oracle.sigmoid_row(z.ravel(), t.ravel(), pos_weight=w.ravel(), sample_weight=s.ravel())
        each = xent.sigmoid_cross_entropy(z, t, reduction="none", **given)
        oracle.check("sigmoid loss", each.ravel(), oracle.Truth(loss, dtype), BOUND)
        with mp.workdps(oracle.DIGITS):
            divisor = sum(oracle.exact(s))
            scale = [x * (1 + y) for x, y in zip(oracle.exact(s), oracle.exact(w), strict=True)]
            mean = [
                oracle.Truth([g / divisor for g in grad], dtype, [x / divisor for x in scale]),
                sum(loss) / divisor,
            ]
            total = [oracle.Truth(grad, dtype, scale), sum(loss)]
        for reduction, (grad_truth, loss_truth) in {"mean": mean, "sum": total, "none": total}.items():
            got = xent.sigmoid_cross_entropy_with_grad(z, t, reduction=reduction, **given)
            oracle.check(f"sigmoid gradient, {reduction}", got[1].ravel(), grad_truth, BOUND)
            if reduction != "none":
                oracle.check(f"sigmoid loss, {reduction}", got[0], oracle.Truth(loss_truth, dtype), BOUND)


@pytest.mark.parametrize("n", [2047, 2048, 2049, 5000])
def test_long_rows(tier, dtype, n):
    """Elements know nothing of one another: a long row is its elements."""
    rng = np.random.default_rng(n)
    z, t, w = rng.normal(0, 9, (3, n)).astype(dtype), rng.random((3, n)), rng.random(n)
    rows = xent.sigmoid_cross_entropy_with_grad(z, t, pos_weight=w, reduction="none")
    for c in (0, 1, 63, 64, 2046, n - 1):
        one = xent.sigmoid_cross_entropy_with_grad(z[:, c], t[:, c], pos_weight=w[c], reduction="none")
        np.testing.assert_array_equal(rows[0][:, c], one[0])
        np.testing.assert_array_equal(rows[1][:, c], one[1])


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint64, np.int64, np.float32, np.float64, ">f8", ">i2"])
def test_types_of_targets(tier, dtype, kind):
    rng = np.random.default_rng(2)
    z, t = rng.normal(size=(4, 70)).astype(dtype), rng.integers(0, 2, (4, 70))
    expected = xent.sigmoid_cross_entropy_with_grad(z, t.astype(dtype))
    got = xent.sigmoid_cross_entropy_with_grad(z, t.astype(kind))
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])


def test_edges(tier, dtype):
    z = np.array([np.inf, np.inf, -np.inf, -np.inf, np.nan, 0.0], dtype)
    loss, grad = xent.sigmoid_cross_entropy_with_grad(z, [1, 0, 1, 0, 1, 1], reduction="none")
    np.testing.assert_array_equal(loss, np.array([0, np.inf, np.inf, 0, np.nan, LN2], dtype))
    np.testing.assert_array_equal(grad, np.array([0, 1, -1, 0, np.nan, -0.5], dtype))
    # weight 0: no element, whatever the logit
    loss, grad = xent.sigmoid_cross_entropy_with_grad(z, [1, 0, 1, 0, 1, 1], sample_weight=[0, 0, 0, 0, 0, 2])
    np.testing.assert_array_equal(loss, dtype.type(LN2))
    np.testing.assert_array_equal(grad, [0, 0, 0, 0, 0, -0.5])


def test_nothing_to_average(tier, dtype):
    for shape in ((0,), (0, 3), (3, 0)):
        loss, grad = xent.sigmoid_cross_entropy_with_grad(np.empty(shape, dtype), np.empty(shape))
        assert loss == 0
        assert grad.shape == shape
    loss, grad = xent.sigmoid_cross_entropy_with_grad(np.ones((2, 3), dtype), np.ones((2, 3)), sample_weight=0)
    assert loss == 0
    assert not grad.any()


def test_a_number(tier, dtype):
    loss, grad = xent.sigmoid_cross_entropy_with_grad(dtype.type(1.5), 1)
    assert type(loss) is dtype.type
    assert grad.shape == ()
    one = xent.sigmoid_cross_entropy_with_grad(np.array([1.5], dtype), [1])
    assert (loss, grad) == (one[0], one[1][0])


def test_in_place(tier, dtype):
    z, t = np.random.default_rng(0).normal(size=(3, 2100)).astype(dtype), np.ones((3, 2100))
    loss, grad = xent.sigmoid_cross_entropy_with_grad(z, t)
    again, same = xent.sigmoid_cross_entropy_with_grad(z, t, out=z)
    assert same is z
    assert again == loss
    np.testing.assert_array_equal(z, grad)


def test_two_classes(tier, dtype):
    """The softmax of (0, z) is the sigmoid: two kernels, each within 2 ulp."""
    z = truths.million(dtype).values
    two = xent.cross_entropy(np.stack([0 * z, z], 1), np.ones(len(z), int), reduction="none")
    one = xent.sigmoid_cross_entropy(z, np.ones(len(z)), reduction="none")
    assert np.all(np.abs(two - one) <= 4 * np.spacing(two))


def test_central_differences(tier):
    """h^2/6 loss''' and eps loss / h: 1e-10 at h = 1e-5; the loss may be 40."""
    z, t = np.random.default_rng(3).normal(0, 10, 200), np.random.default_rng(4).random(200)
    h, given = 1e-5, {"reduction": "none", "pos_weight": 2.0}
    losses = [xent.sigmoid_cross_entropy(x, t, **given) for x in (z + h, z - h)]
    grad = xent.sigmoid_cross_entropy_with_grad(z, t, **given)[1]
    np.testing.assert_allclose((losses[0] - losses[1]) / (2 * h), grad, rtol=0, atol=4e-9)
