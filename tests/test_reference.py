"""The reference against truth computed another way (oracle.py), and against SciPy's documented values."""

import inspect
import math
import random
from decimal import getcontext
from fractions import Fraction

import cases
import numpy as np
import oracle
import pytest

from xent import reference as ref

INF, NAN = math.inf, math.nan
ROUNDED_ONCE = 0.5 + 1e-9  # ulp: nothing but the last rounding
SHORT = 300

ROWS = cases.rows(np.float64) + cases.masked_rows(np.float64)
short_rows = pytest.mark.parametrize("row", [pytest.param(c.logits, id=c.name) for c in ROWS if len(c.logits) < SHORT])
long_rows = pytest.mark.parametrize(
    "row", [pytest.param(c.logits, id=c.name) for c in ROWS if len(c.logits) >= SHORT][::3]
)
OPTIONS = {"sample_weight": 0.7, "label_smoothing": 0.1, "z_loss": 1e-3}


def worst(got, truth):
    """The largest error in ulps; NaN where NaN is not due counts as infinite."""
    return np.max(oracle.ulp_error(got, truth, np.float64))


def same(got, expected):
    """Equal floats, NaN equal to NaN, zeros positive, lists element by element."""
    if isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(map(same, got, expected))
    return type(got) is float and (got == expected or (math.isnan(got) and math.isnan(expected)))


# ---- truth


@short_rows
def test_reductions_are_the_truth_rounded_once(row):
    assert worst(ref.logsumexp(row), oracle.lse_row(row)) <= ROUNDED_ONCE
    assert worst(ref.softmax(row), oracle.softmax_row(row)) <= ROUNDED_ONCE
    assert worst(ref.log_softmax(row), oracle.log_softmax_row(row)) <= ROUNDED_ONCE


@short_rows
def test_losses_are_the_truth_rounded_once(row):
    for y in {len(row) - 1, int(np.argmax(row))}:
        loss, grad, lse = ref.cross_entropy_with_grad(row, y, return_lse=True)
        assert worst(loss, oracle.loss_row(row, y)) <= ROUNDED_ONCE
        assert worst(grad, oracle.grad_row(row, y)) <= ROUNDED_ONCE
        assert worst(lse, oracle.lse_row(row)) <= ROUNDED_ONCE


@long_rows
def test_long_rows(row):
    y = int(np.argmax(row))
    loss, grad, lse = ref.cross_entropy_with_grad(row, y, return_lse=True)
    assert worst(loss, oracle.loss_row(row, y)) <= ROUNDED_ONCE
    assert worst(grad, oracle.grad_row(row, y)) <= ROUNDED_ONCE
    assert worst(lse, oracle.lse_row(row)) <= ROUNDED_ONCE


@pytest.mark.parametrize("target", ["label", "probabilities", "several labels"])
@pytest.mark.parametrize("row", [pytest.param(c.logits, id=c.name) for c in ROWS if 2 <= len(c.logits) <= 33])
def test_every_option(row, target):
    rng = np.random.default_rng(3)
    n = len(row)
    q = {
        "label": n // 3,
        "probabilities": rng.random(n).tolist(),
        "several labels": (np.arange(n) % 2).astype(float).tolist(),
    }[target]
    w = rng.random(n)
    v = rng.normal(size=n)
    masked = np.isinf(row).any()
    options = {**OPTIONS, "class_weight": w}
    for given in ({}, options):
        size = [sum(oracle.weighted_targets(n, q, given.get("class_weight"), given.get("label_smoothing", 0)))] * n
        loss, grad = ref.cross_entropy_with_grad(row, q, reduction="sum", **given)
        assert worst(loss, oracle.loss_row(row, q, **given)) <= ROUNDED_ONCE
        errors = oracle.ulp_error(grad, oracle.grad_row(row, q, **given), np.float64)
        # p - q may cancel beyond 50 digits; then the reference says 0.
        exact_zero = np.array(grad) == 0
        scaled = oracle.ulp_error(grad, oracle.grad_row(row, q, **given), np.float64, size)
        assert np.max(np.where(exact_zero, scaled, errors)) <= ROUNDED_ONCE
        hessian = ref.cross_entropy_hessian_diag(row, q, reduction="sum", **given)
        assert worst(hessian, oracle.hessian_diag_row(row, q, **given)) <= ROUNDED_ONCE
        if not masked:
            hvp = ref.cross_entropy_hvp(row, q, v, reduction="sum", **given)
            assert worst(hvp, oracle.hvp_row(row, q, v, **given)) <= ROUNDED_ONCE


@pytest.mark.parametrize("row", [pytest.param(c.logits, id=c.name) for c in ROWS if len(c.logits) <= 33])
def test_sigmoid(row):
    rng = np.random.default_rng(5)
    n = len(row)
    for t in (np.zeros(n), np.ones(n), rng.random(n)):
        for given in ({}, {"pos_weight": rng.random(n) * 3, "sample_weight": rng.random(n)}):
            loss, grad = ref.sigmoid_cross_entropy_with_grad(row, t, reduction="none", **given)
            true_loss, true_grad = oracle.sigmoid_row(row, t, **given)
            assert worst(loss, true_loss) <= ROUNDED_ONCE
            assert worst(grad, true_grad) <= ROUNDED_ONCE
            assert same(ref.sigmoid_cross_entropy(row, t, reduction="none", **given), loss)


@pytest.mark.parametrize("seed", range(20))
def test_logsumexp_with_signed_factors(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    a, b = rng.normal(0, 5, n), rng.normal(0, 1, n)
    a[-1] = a[0]
    got, sign = ref.logsumexp(a, b=b, return_sign=True)
    assert worst(got, oracle.lse_row(a, b)) <= ROUNDED_ONCE
    assert sign == math.copysign(1.0, math.fsum(b * np.exp(a)))


def test_logsumexp_survives_cancellation():
    # e^d - 1 = d for tiny d; equal exponents cancel exactly and leave the small one.
    assert ref.logsumexp([1e-300, 0.0], b=[1, -1]) == math.log(1e-300)
    assert ref.logsumexp([5.0, 5.0, -700.0], b=[1, -1, 1]) == -700.0
    assert ref.logsumexp([0.3, 0.3, 0.3, -1000.0], b=[0.5, 0.25, -0.75, -1], return_sign=True) == (
        -1000.0,
        -1.0,
    )
    assert ref.logsumexp([0.0, -700.0], b=[1, 1]) == math.exp(-700)


# ---- values that SciPy documents or returns (1.17)


def test_values_scipy_documents():
    a = list(range(10))
    assert ref.logsumexp(a) == pytest.approx(9.4586297444267107, rel=1e-15)
    assert ref.logsumexp(a, b=range_down(10)) == pytest.approx(9.9170178533034665, rel=1e-15)
    assert ref.logsumexp([1, 2], b=[1, -1], return_sign=True) == (1.5413248546129181, -1.0)
    assert math.isnan(ref.logsumexp([1, 2], b=[1, -1]))
    assert ref.log_softmax([1000.0, 1.0]) == [0.0, -999.0]
    x = [[1, 0.5, 0.2, 3], [1, -1, 7, 3], [2, 12, 13, 3]]
    documented = {
        None: [
            [4.48309e-06, 2.71913e-06, 2.01438e-06, 3.31258e-05],
            [4.48309e-06, 6.06720e-07, 1.80861e-03, 3.31258e-05],
            [1.21863e-05, 2.68421e-01, 7.29644e-01, 3.31258e-05],
        ],
        0: [
            [2.11942e-01, 1.01300e-05, 2.75394e-06, 3.33333e-01],
            [2.11942e-01, 2.26030e-06, 2.47262e-03, 3.33333e-01],
            [5.76117e-01, 9.99988e-01, 9.97525e-01, 3.33333e-01],
        ],
        1: [
            [1.05877e-01, 6.42177e-02, 4.75736e-02, 7.82332e-01],
            [2.42746e-03, 3.28521e-04, 9.79307e-01, 1.79366e-02],
            [1.22094e-05, 2.68929e-01, 7.31025e-01, 3.31885e-05],
        ],
    }
    for axis, values in documented.items():
        np.testing.assert_allclose(ref.softmax(x, axis), values, rtol=6e-6)


def range_down(n):
    return list(range(n, 0, -1))


@pytest.mark.parametrize(
    ("a", "b", "log", "sign"),
    [
        ([1, 1], [1, -1], -INF, 0),
        ([INF, 1], [0, 1], 1, 1),
        ([NAN, 1], [0, 1], 1, 1),
        ([NAN, NAN], [0, 0], -INF, 0),
        ([INF, INF], [1, -1], NAN, NAN),
        ([-INF, -INF], [1, -1], -INF, 0),
        ([-INF], [-1], -INF, 0),
        ([NAN, 1], [1, 1], NAN, NAN),
        ([1, 2], [0, 0], -INF, 0),
        ([1, 2], [INF, 1], INF, 1),
        ([1, 2], [-INF, 1], INF, -1),
        ([1, 2], [-INF, INF], NAN, NAN),
        ([1, 2], [NAN, 1], NAN, NAN),
        ([-INF, 2], [INF, 1], NAN, NAN),
        ([INF, 2], [-1, 1], INF, -1),
        ([INF, 3], [2, -INF], NAN, NAN),
        ([INF], [NAN], NAN, NAN),
        ([800, 1], [-1, 1], 800, -1),
        ([5, 5, 2], [1, -1, 1], 2, 1),
        ([], [], -INF, -1),
        ([INF, 1], None, INF, 1),
        ([-INF, -INF], None, -INF, 0),
        ([NAN, -INF], None, NAN, NAN),
        ([], None, -INF, -1),
    ],
)
def test_logsumexp_edges(a, b, log, sign):
    assert same(ref.logsumexp(a, b=b, return_sign=True), (float(log), float(sign)))
    negative = sign < 0 and a
    assert same(ref.logsumexp(a, b=b), NAN if negative else float(log))


def test_logsumexp_shapes():
    a = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    flat = ref.logsumexp([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert ref.logsumexp(a) == ref.logsumexp(a, axis=(0, 1, 2)) == ref.logsumexp(a, axis=(-1, 0, 1)) == flat
    assert ref.logsumexp(a, keepdims=True) == [[[flat]]]
    ends = [ref.logsumexp([1.0, 2.0, 5.0, 6.0]), ref.logsumexp([3.0, 4.0, 7.0, 8.0])]
    assert ref.logsumexp(a, axis=(0, 2)) == ends
    assert ref.logsumexp(a, axis=(0, -1), keepdims=True) == [[[ends[0]], [ends[1]]]]
    assert ref.logsumexp([[1.0, 2.0], [3.0, 4.0]], axis=()) == [[1.0, 2.0], [3.0, 4.0]]
    assert ref.logsumexp(3.0) == 3.0
    assert ref.logsumexp(3.0, axis=0) == 3.0
    assert ref.logsumexp(3.0, keepdims=True) == [3.0]
    b = ref.logsumexp([1.0, 2.0], b=[[1.0], [2.0]], axis=1)
    assert b == pytest.approx([2.31326169, 3.00640887], abs=1e-8)
    empty = np.empty((0, 3))
    assert ref.logsumexp(empty, axis=0, return_sign=True) == ([-INF] * 3, [-1.0] * 3)
    assert ref.logsumexp(empty, axis=1) == []
    assert ref.logsumexp([[1, 2], [3, 4]], axis=0) == ref.logsumexp([[1.0, 2.0], [3.0, 4.0]], axis=0)


def test_softmax_shapes_and_edges():
    for f in (ref.softmax, ref.log_softmax):
        assert f([]) == []
        assert f(np.empty((0, 3)), axis=1) == []
        assert f(np.empty((2, 0)), axis=1) == [[], []]
        assert same(f([-INF, -INF]), [NAN, NAN])
        assert same(f([[NAN, 1.0], [0.0, 0.0]], axis=1)[0], [NAN, NAN])
        assert same(f(NAN), NAN)
        assert f([[1.0, 2.0], [2.0, 1.0]], axis=0) == f([[1.0, 2.0], [2.0, 1.0]], axis=-1)
        assert f([[1.0, 2.0], [3.0, 4.0]], axis=(0, 1)) == f([[1.0, 2.0], [3.0, 4.0]])
    assert same(ref.softmax([INF, 1.0]), [NAN, NAN])
    assert same(ref.log_softmax([INF, 1.0, -INF]), [NAN, -INF, -INF])
    assert same(ref.log_softmax([-INF, 1.0]), [-INF, 0.0])
    assert ref.softmax(3.0) == 1.0
    assert ref.log_softmax(3.0) == 0.0
    assert ref.softmax([1.0, 2.0], axis=()) == [1.0, 1.0]


@pytest.mark.parametrize("f", [ref.logsumexp, ref.softmax, ref.log_softmax])
def test_reductions_refuse(f):
    with pytest.raises(IndexError):
        f([1.0, 2.0], axis=1)
    with pytest.raises(ValueError, match="axis -2"):
        f([1.0, 2.0], axis=-2)
    with pytest.raises(ValueError, match="twice"):
        f([[1.0, 2.0]], axis=(1, -1))
    with pytest.raises(ValueError, match="ragged"):
        f([[1.0, 2.0], [1.0]])
    with pytest.raises(TypeError):
        f([1.0, 2.0], axis=0.0)
    for bad in (
        [1j],
        ["1"],
        [None],
        np.array([1], np.longdouble),
        np.array([1.0], object),
    ):
        with pytest.raises(TypeError):
            f(bad)
    with pytest.raises(TypeError):
        f([1.0], out=[0.0])


# ---- sigmoid


def test_sigmoid_edges():
    loss, grad = ref.sigmoid_cross_entropy_with_grad([INF, INF, -INF, -INF, NAN], [1, 0, 1, 0, 1], reduction="none")
    assert same(loss, [0.0, INF, INF, 0.0, NAN])
    assert same(grad, [0.0, 1.0, -1.0, 0.0, NAN])
    assert ref.sigmoid_cross_entropy(0.0, True) == math.log(2)
    assert same(ref.sigmoid_cross_entropy_with_grad([], []), (0.0, []))
    assert same(ref.sigmoid_cross_entropy_with_grad([1.0], [1], sample_weight=0), (0.0, [0.0]))
    assert same(ref.sigmoid_cross_entropy_with_grad([-709.0], [0.0]), (0.0, [0.0]))


def test_sigmoid_weights():
    z, t = [[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]], [[1, 0], [0, 1], [1, 1]]
    each = np.array(ref.sigmoid_cross_entropy(z, t, reduction="none"))
    rows = np.array([1.0, 2.0, 0.5])
    mean = ref.sigmoid_cross_entropy(z, t, sample_weight=rows)
    assert mean == pytest.approx((each * rows[:, None]).sum() / 7.0, rel=1e-14)
    assert ref.sigmoid_cross_entropy(z, t, sample_weight=np.repeat(rows, 2).reshape(3, 2)) == mean
    assert ref.sigmoid_cross_entropy(z, t) == pytest.approx(each.mean(), rel=1e-14)
    assert ref.sigmoid_cross_entropy(z, t, reduction="sum") == pytest.approx(each.sum(), rel=1e-14)
    positive = np.where(t, each * [3.0, 2.0], each)
    assert ref.sigmoid_cross_entropy(z, t, pos_weight=[3, 2], reduction="none") == pytest.approx(positive)
    assert ref.sigmoid_cross_entropy(z, t, pos_weight=3, reduction="none") == pytest.approx(np.where(t, each * 3, each))


@pytest.mark.parametrize(
    "given",
    [
        {"targets": [0.0, 1.5]},
        {"targets": [0, 2]},
        {"targets": [NAN, 0.0]},
        {"targets": [0]},
        {"pos_weight": [1, 1, 1]},
        {"pos_weight": -1},
        {"sample_weight": [1, INF]},
        {"sample_weight": [[1, 1]]},
        {"reduction": None},
    ],
)
def test_sigmoid_refuses(given):
    with pytest.raises(ValueError, match="was given"):
        ref.sigmoid_cross_entropy([1.0, 2.0], **{"targets": [0, 1], **given})


# ---- the whole


def test_standard_library_only():
    for name in ("_exact", "_batch", "reductions", "losses", "sigmoid"):
        source = inspect.getsource(getattr(ref, name))
        assert "numpy" not in source.replace("`numpy.exceptions", "")


def test_out_must_be_none_and_the_context_is_the_callers():
    before = getcontext().copy()
    for f in (ref.cross_entropy_with_grad, ref.cross_entropy_grad, ref.sigmoid_cross_entropy_with_grad):
        with pytest.raises(TypeError, match="out"):
            f([[1.0]], [[1.0]], out=np.empty((1, 1)))
    ref.logsumexp([1e-300, 0.0], b=[1, -1])
    assert getcontext().prec == before.prec
    assert getcontext().traps == before.traps


def test_the_oracle_counts_ulps():
    one = oracle.mpf(1)
    eps, tiny = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)
    assert oracle.ulp_error(np.float32(1) + np.float32(eps), one, np.float32) == 1
    assert oracle.ulp_error(1 - eps, one, np.float32) == 1
    assert oracle.ulp_error(NAN, one, np.float32) == INF
    assert oracle.ulp_error(1.0, oracle.mpf("nan"), np.float32) == INF
    assert oracle.ulp_error(NAN, oracle.mpf("nan"), np.float32) == 0
    assert oracle.ulp_error(INF, oracle.mpf("1e39"), np.float32) == 0
    assert oracle.ulp_error(-INF, oracle.mpf("1e39"), np.float32) == INF
    assert oracle.ulp_error(0.0, oracle.mpf(tiny / 2), np.float32) == 0
    assert oracle.ulp_error(tiny / 2, oracle.mpf(tiny / 2), np.float32) == INF
    assert oracle.ulp_error(tiny, oracle.mpf(tiny) * (1 - eps / 8), np.float32) <= 1
    assert oracle.ulp_error(0.0, oracle.mpf(tiny) * (1 - eps / 8), np.float32) == 0
    assert oracle.ulp_error(0.0, oracle.mpf(tiny) * 2, np.float32) > 1e6
    assert list(oracle.ulp_error([1.0, NAN], [one, one], np.float32)) == [0, INF]
    with pytest.raises(ValueError, match="2 results"):
        oracle.ulp_error([1.0, 2.0], [one], np.float32)


def test_python_numbers_only():
    rows = [[Fraction(1, 2)]]
    with pytest.raises(TypeError):
        ref.softmax(rows)
    random.seed(1)
    z = [random.gauss(0, 3) for _ in range(5)]
    assert ref.softmax(tuple(z)) == ref.softmax([np.float64(v) for v in z]) == ref.softmax(np.array(z))
