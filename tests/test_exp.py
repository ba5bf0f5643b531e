"""exp on its own, on every tier: within 1 ulp of e^x, infinite where e^x overflows, 0 below the smallest
normal number.

Float32 is compared with a float64 exp that is itself within 1 ulp of float64: 2^-29 of the unit here. Float64
is compared with 50 digits.
"""

import numpy as np
import oracle
import pytest
from mpmath import mp, mpf

from xent import _kernels

BOUND = 1.0


def exp(x):
    out = np.full_like(x, 7)
    _kernels.exp(x, out)
    return out


def check_float32(x):
    """exp at these float32: overflow, underflow, NaN, and the largest error."""
    got = exp(x)
    info = np.finfo(np.float32)
    with np.errstate(all="ignore"):
        true = np.exp(x.astype(np.float64))
        rounded = true.astype(np.float32)
        exponent = np.frexp(np.where(np.isfinite(true), true, 1.0))[1]
        error = np.abs(got - true) / np.ldexp(1.0, np.maximum(exponent, info.minexp + 1) - 24)
    border = (1 - info.eps) * info.tiny, (1 + info.eps) * info.tiny
    assert np.array_equal(np.isnan(got), np.isnan(x))
    assert np.all(got[true < border[0]] == 0)
    np.testing.assert_array_equal(np.isinf(got), np.isinf(rounded))
    assert not np.any((got != 0) & (np.abs(got) < info.tiny))
    compared = (true > border[1]) & np.isfinite(rounded)
    worst = np.max(error[compared], initial=0.0)
    oracle.WORST["exp", "float32"] = max(oracle.WORST.get(("exp", "float32"), (0, 0)), (worst, BOUND))
    assert worst <= BOUND


def around(points, dtype, steps):
    """Each point and the floats next to it."""
    x = np.asarray(points, dtype)
    up, down, found = x, x, [x]
    for _ in range(steps):
        up, down = np.nextafter(up, dtype.type(np.inf)), np.nextafter(down, dtype.type(-np.inf))
        found += [up, down]
    return np.concatenate(found)


def boundaries(dtype):
    """n ln 2 and (n + 1/2) ln 2, where the reduction changes its n; the borders of overflow and underflow;
    and 0.
    """
    info = np.finfo(dtype)
    half = np.arange(2 * info.minexp - 100, 2 * info.maxexp + 20) * (np.log(2) / 2)
    edges = [
        np.log(float(info.tiny)),
        np.log(float(info.max)),
        float(np.log(info.smallest_subnormal)),
        0.0,
        -0.0,
    ]
    return np.concatenate([half, edges])


@pytest.mark.parametrize("part", range(4))
def test_float32_sample(tier, part):
    """Every 4099th float32 (a prime: all exponents and all patterns of low bits), in four parts."""
    bits = np.arange(part * 2**30, (part + 1) * 2**30, 4099, dtype=np.uint64).astype(np.uint32)
    check_float32(bits.view(np.float32))


def test_float32_boundaries(tier):
    check_float32(around(boundaries(np.dtype(np.float32)), np.dtype(np.float32), 40))


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(64))
def test_every_float32(tier, part):
    check_float32(np.arange(part << 26, (part + 1) << 26, dtype=np.uint32).view(np.float32))


def float64_inputs():
    kind = np.dtype(np.float64)
    rng = np.random.default_rng(11)
    spread = [rng.uniform(-745, 710, 2000), rng.uniform(-1, 1, 1000), rng.normal(0, 1e-8, 200)]
    powers = np.concatenate([2.0 ** np.arange(-1074, 1024, 7), -(2.0 ** np.arange(-1074, 1024, 7))])
    return np.concatenate([around(boundaries(kind), kind, 1)[::3], *spread, powers])


@pytest.fixture(scope="module")
def float64_truth():
    x = float64_inputs()
    with mp.workdps(oracle.DIGITS):
        return x, oracle.Truth([mp.exp(mpf(float(v))) for v in x], np.float64)


def test_float64(tier, float64_truth):
    x, truth = float64_truth
    oracle.check("exp", exp(x), truth, BOUND)


def test_special(tier, dtype):
    x = np.array(
        [np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 1e4, -1e4, np.finfo(dtype).max, np.finfo(dtype).min],
        dtype,
    )
    expected = np.array([np.inf, 0, np.nan, np.nan, 1, 1, np.inf, 0, np.inf, 0], dtype)
    np.testing.assert_array_equal(exp(x), expected)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65])
def test_lengths(tier, dtype, n):
    """The same bits in any company."""
    x = np.random.default_rng(n).normal(0, 9, n).astype(dtype)
    np.testing.assert_array_equal(exp(x), np.array([exp(x[i : i + 1])[0] for i in range(n)], dtype))
