"""softmax and log_softmax against 50-digit truth, on every tier.

p = e^z / sum and log p = (z - max) - log(1 + s): no term cancels, so 2 ulp of each element is due, from the
largest to the smallest normal number; below that, 0.
"""

import cases
import numpy as np
import oracle
import pytest
import truths

import xent

BOUND = 2.0
both = pytest.mark.parametrize("function", [xent.softmax, xent.log_softmax])


@pytest.mark.parametrize("case", truths.ROWS)
def test_truth(tier, case):
    z = case.logits
    oracle.check("softmax", xent.softmax(z), truths.softmax(z), BOUND)
    oracle.check("log_softmax", xent.log_softmax(z), truths.log_softmax(z), BOUND)


@both
def test_a_million(tier, dtype, function):
    row = truths.million(dtype)
    got = function(row.logits)
    each = got[[np.flatnonzero(row.where == k)[0] for k in range(len(row.values))]]
    truth = oracle.Truth(row.p if function is xent.softmax else row.log_p, dtype)
    oracle.check(f"{function.__name__}, 1e6 classes", each, truth, BOUND)
    np.testing.assert_array_equal(got, each[row.where])  # equal logits, equal results


@both
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, (0, 1), (0, 2), (2, 0), (0, 1, 2), ()])
def test_axes(tier, dtype, function, axis):
    x = np.random.default_rng(1).normal(size=(3, 5, 7)).astype(dtype)
    over = range(3) if axis is None else [k % 3 for k in (axis if isinstance(axis, tuple) else (axis,))]
    kept = [k for k in range(3) if k not in over]
    order = [*kept, *sorted(over)]
    rows = x.transpose(order).reshape([x.shape[k] for k in kept] + [-1])
    expected = np.empty(rows.shape, dtype)
    for index in np.ndindex(rows.shape[:-1]):
        expected[index] = function(rows[index])
    got = function(x, axis=axis)
    assert got.dtype == dtype
    assert got.shape == x.shape
    np.testing.assert_array_equal(got.transpose(order).ravel(), expected.ravel())


@both
@pytest.mark.parametrize("n", [1, 63, 64, 65, 2049])
def test_in_place(tier, dtype, function, n):
    x = np.random.default_rng(n).normal(0, 30, (3, n)).astype(dtype)
    expected = function(x, axis=1)
    assert function(x, axis=1, out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_sums_to_one(tier, dtype, n):
    z = np.random.default_rng(n).normal(0, 3, (20, n)).astype(dtype)
    # n terms of at most 2 ulp each, their sum being 1
    assert np.all(np.abs(xent.softmax(z, axis=1).astype(np.longdouble).sum(1) - 1) <= 2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("case", truths.params(cases.special_rows(np.float32)))
def test_special_rows_as_the_reference(tier, case):
    for z in (case.logits, case.logits.astype(np.float64)):
        for function in ("softmax", "log_softmax"):
            expected = getattr(xent.reference, function)(z)
            np.testing.assert_allclose(getattr(xent, function)(z), expected, rtol=4 * np.finfo(z.dtype).eps, atol=0)
