"""logsumexp against 50-digit truth, on every tier; its shapes, factors and signs.

lse = max + log(1 + s): either term may be the larger and they may cancel, so the bound is 2 ulp of the larger
of |lse| and |max|. With factors, log|sum| has no such bound where the sum cancels; there the error is that of
the terms, counted in units of the cancelled sum.
"""

import numpy as np
import oracle
import pytest
import truths
from mpmath import mp, mpf

import xent

BOUND = 2.0


@pytest.mark.parametrize("case", truths.ROWS)
def test_truth(tier, case):
    z = case.logits
    oracle.check("logsumexp", xent.logsumexp(z), truths.lse(z), BOUND)
    batch = xent.logsumexp(np.tile(z, (17, 1)), axis=-1)
    oracle.check("logsumexp", batch, truths.lse(z)[None][np.zeros(17, int)], BOUND)


def test_a_million(tier, dtype):
    row = truths.million(dtype)
    truth = oracle.Truth(row.lse, dtype, row.gap)
    oracle.check("logsumexp, 1e6 classes", xent.logsumexp(row.logits), truth, BOUND)


@pytest.mark.parametrize("n", [1, 2, 33, 300, 2049])
def test_factors(tier, dtype, n):
    rng = np.random.default_rng(n)
    a = rng.normal(0, 5, (4, n)).astype(dtype)
    for b in (rng.random((4, n)), rng.normal(size=(4, n)), np.where(rng.random((4, n)) < 0.5, 0, 2.0)):
        factors = b.astype(dtype)
        got, sign = xent.logsumexp(a, axis=1, b=factors, return_sign=True)
        for k in range(4):
            z, w = a[k], factors[k]
            if not w.any():
                assert (got[k], sign[k]) == (-np.inf, 0)
                continue
            with mp.workdps(oracle.DIGITS):
                terms = [mpf(float(x)) * mp.exp(mpf(float(v))) for v, x in zip(z, w, strict=True)]
                # d log|S| = dS / S: an error of one ulp in the terms grows by sum|terms| / |S|
                grown = sum(map(abs, terms)) / abs(sum(terms))
            scale = max(abs(oracle.lse_row(z, w)), mpf(float(np.abs(z).max())), grown)
            truth = oracle.Truth(oracle.lse_row(z, w), dtype, scale)
            oracle.check("logsumexp, factors", got[k], truth, BOUND)
            assert sign[k] == np.sign(float(sum(terms)))


def test_factors_of_one_are_no_factors(tier, dtype):
    a = np.random.default_rng(0).normal(size=(5, 70)).astype(dtype)
    with_ones = xent.logsumexp(a, axis=1, b=np.ones_like(a))
    # two kernels, either within 2 ulp
    assert np.all(np.abs(with_ones - xent.logsumexp(a, axis=1)) <= 4 * np.spacing(np.abs(a).max(1)))


@pytest.mark.parametrize(
    ("a", "b", "log", "sign"),
    [
        ([1, 1], [1, -1], -np.inf, 0),
        ([np.inf, 1], [0, 1], 1, 1),
        ([np.nan, 1], [0, 1], 1, 1),
        ([np.nan, np.nan], [0, 0], -np.inf, 0),
        ([np.inf, np.inf], [1, -1], np.nan, np.nan),
        ([-np.inf, -np.inf], [1, -1], -np.inf, 0),
        ([np.nan, 1], [1, 1], np.nan, np.nan),
        ([1, 2], [0, 0], -np.inf, 0),
        ([1, 2], [np.inf, 1], np.inf, 1),
        ([1, 2], [-np.inf, 1], np.inf, -1),
        ([1, 2], [-np.inf, np.inf], np.nan, np.nan),
        ([1, 2], [np.nan, 1], np.nan, np.nan),
        ([np.inf, 2], [-1, 1], np.inf, -1),
        ([800, 1], [-1, 1], 800, -1),
        ([5, 5, 2], [1, -1, 1], 2, 1),
        ([], [], -np.inf, -1),
        ([np.inf, 1], None, np.inf, 1),
        ([-np.inf, -np.inf], None, -np.inf, 0),
        ([np.nan, -np.inf], None, np.nan, np.nan),
        ([], None, -np.inf, -1),
    ],
)
def test_edges(tier, dtype, a, b, log, sign):
    a, b = np.array(a, dtype), None if b is None else np.array(b, dtype)
    np.testing.assert_array_equal(xent.logsumexp(a, b=b, return_sign=True), np.array([log, sign], dtype))
    negative = sign < 0 and a.size
    np.testing.assert_array_equal(xent.logsumexp(a, b=b), np.array(np.nan if negative else log, dtype))


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -3, (0, 1), (0, 2), (2, 0), (0, 1, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes(tier, dtype, axis, keepdims):
    a = np.random.default_rng(1).normal(size=(3, 5, 7)).astype(dtype)
    got = xent.logsumexp(a, axis=axis, keepdims=keepdims)
    over = range(3) if axis is None else [k % 3 for k in (axis if isinstance(axis, tuple) else (axis,))]
    kept = [k for k in range(3) if k not in over]
    rows = a.transpose(*kept, *sorted(over)).reshape([a.shape[k] for k in kept] + [-1])
    expected = np.empty(rows.shape[:-1], dtype)
    for index in np.ndindex(expected.shape):
        expected[index] = xent.logsumexp(rows[index])
    assert got.dtype == dtype
    assert got.shape == np.sum(a, axis=axis, keepdims=keepdims).shape
    np.testing.assert_array_equal(np.ravel(got), expected.ravel())


def test_out(tier, dtype):
    a = np.random.default_rng(2).normal(size=(4, 9)).astype(dtype)
    expected = xent.logsumexp(a, axis=1)
    for out in (np.full(4, 7, dtype), np.full(8, 7, dtype)[::2], np.full(4, 7, dtype)[::-1]):
        assert xent.logsumexp(a, axis=1, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_nothing_is_written_back():
    a, b = np.array([np.inf, 1.0, np.nan]), np.array([0.0, 2.0, 0.0])
    before = a.copy(), b.copy()
    xent.logsumexp(a, b=b, return_sign=True)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])
