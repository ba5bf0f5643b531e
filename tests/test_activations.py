"""Each activation and its derivative against 50-digit truth, on every tier; the same bits from all of them.

tools/activations_exhaustive.py tries every float32.
"""

import activations
import numpy as np
import oracle
import pytest
from activations import NAMES, OF_Z, SLOPE_BOUNDS, SMOOTH, VALUE_BOUNDS

import xent
from xent import _kernels, reference

every = pytest.mark.parametrize("name", NAMES)
# 1 .. 130 and around the strips and blocks of columns: lines of one row
LENGTHS = [*range(1, 131), 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 4095, 4097]


def value(name, z):
    y = np.array(z).reshape(1, -1)
    _kernels.bias_activation(y, None, NAMES.index(name), None)
    return y[0]


def slope(name, saved, dy=None):
    dy = np.ones((1, saved.size), saved.dtype) if dy is None else dy.reshape(1, -1)
    dz = np.empty_like(dy)
    _kernels.activation_backward(dy, np.array(saved).reshape(1, -1), NAMES.index(name), dz, None, False, None)
    return dz[0]


def saved_for(name, kind):
    """z, or y as the activation gives it; of softplus also small ones that it never gives."""
    z = activations.inputs(kind)
    return z if name in OF_Z else value(name, z)


@every
def test_value(tier, dtype, name):
    z = activations.inputs(dtype)
    oracle.check(f"{name}", value(name, z), activations.value_truth(name, dtype), VALUE_BOUNDS[str(dtype), name])


@every
def test_slope(tier, dtype, name):
    saved = saved_for(name, dtype)
    truth = activations.slope_truth(name, dtype, saved.tobytes())
    got, bound = slope(name, saved), SLOPE_BOUNDS[str(dtype), name]
    oracle.check(f"{name}, slope", got, truth, bound)


@pytest.mark.parametrize("name", SMOOTH)
def test_float32_sample(tier, name):
    """Every 65521st float32 (a prime: all exponents, all patterns of low bits), against the float64 kernel."""
    bits = np.arange(0, 2**32, 65521, dtype=np.uint64).astype(np.uint32)
    z = bits.view(np.float32)
    z = z[np.isfinite(z)]
    true = value(name, z.astype(np.float64) * (np.abs(z) >= np.finfo(np.float32).tiny))
    got = value(name, z).astype(np.float64)
    tiny = 2.0**-126
    vanishes = np.abs(true) < tiny
    assert np.all((got[vanishes] == 0) | (np.abs(true[vanishes]) > tiny * (1 - 2.0**-23)))
    with np.errstate(over="ignore"):
        finite = np.isfinite(true.astype(np.float32))
    normal = ~vanishes & finite
    error = np.abs(got - true)[normal] / np.ldexp(1.0, np.frexp(true[normal])[1] - 24)
    assert np.max(error) <= VALUE_BOUNDS["float32", name]
    assert np.array_equal(got[~finite], true.astype(np.float32, casting="unsafe")[~finite]) or finite.all()


EDGES = {  # +inf, -inf; then saved 0 (or -0), the limits of the slope at saved = f(+inf), f(-inf)
    "identity": (np.inf, -np.inf),
    "relu": (np.inf, 0),
    "leaky_relu": (np.inf, -np.inf),
    "tanh": (1, -1),
    "sigmoid": (1, 0),
    "softplus": (np.inf, 0),
    "gelu": (np.inf, 0),
    "gelu_tanh": (np.inf, 0),
    "silu": (np.inf, 0),
}


@every
def test_infinities_nan_and_the_largest(tier, dtype, name):
    info = np.finfo(dtype)
    z = np.array([np.inf, -np.inf, info.max, info.min, np.nan, -np.nan] * 5, dtype)  # vectors and their rest
    up, down = EDGES[name]
    got = value(name, z)
    np.testing.assert_array_equal(got[:2], [up, down])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(z))
    large = {np.inf: info.max, -np.inf: info.min if name == "identity" else dtype.type(0.01 * float(info.min))}
    np.testing.assert_array_equal(got[2:4], np.array([large.get(v, v) for v in (up, down)], dtype))
    at = z if name in OF_Z else got
    below = {"identity": 1, "leaky_relu": dtype.type(0.01)}.get(name, 0)
    above = {"tanh": 0, "sigmoid": 0}.get(name, 1)
    np.testing.assert_array_equal(slope(name, at)[:4], np.array([above, below, above, below], dtype))
    if name != "identity":
        assert np.isnan(slope(name, at)[4:6]).all()
    dy = np.array([np.nan, 1, -np.inf, 0], dtype)
    dz = slope(name, np.full(4, 0.5, dtype), dy)
    np.testing.assert_array_equal(np.isnan(dz), [True, False, False, False])
    assert dz[2] == -np.inf
    assert dz[3] == 0


@every
def test_nothing_subnormal(tier, dtype, name):
    """Subnormal numbers count as 0, and no result is one."""
    info = np.finfo(dtype)
    small = np.array([info.smallest_subnormal, info.tiny / 2, info.tiny, -info.tiny, 3 * info.tiny, 0, -0.0] * 3, dtype)
    wide = activations.inputs(dtype)
    for got in (value(name, small), value(name, wide), slope(name, wide, np.full(wide.shape, info.tiny, dtype))):
        assert not np.any((got != 0) & (np.abs(got) < info.tiny))
    np.testing.assert_array_equal(value(name, small)[:2], value(name, np.zeros(2, dtype)))
    np.testing.assert_array_equal(slope(name, np.full(2, 0.5, dtype), small[:2]), [0, 0])


def test_relu_at_zero(tier, dtype):
    """The slope at 0 is that of the side below, as in the other libraries."""
    y = np.zeros(20, dtype)
    np.testing.assert_array_equal(slope("relu", y), y)
    np.testing.assert_array_equal(slope("leaky_relu", y), np.full(20, 0.01, dtype))


@every
def test_lengths(tier, dtype, name):
    """An element gives the same bits in any company."""
    z = np.random.default_rng(1).normal(0, 3, max(LENGTHS)).astype(dtype)
    y, dz = value(name, z), slope(name, z, z[::-1].copy())
    for n in LENGTHS:
        np.testing.assert_array_equal(value(name, z[:n]), y[:n])
        np.testing.assert_array_equal(slope(name, z[:n], z[::-1][:n].copy()), dz[:n])


@every
def test_the_same_bits_on_every_tier(dtype, name, every_tier):
    z = activations.inputs(dtype)
    results = [(value(name, z).tobytes(), slope(name, z).tobytes()) for _ in every_tier()]
    assert all(result == results[0] for result in results)


@every
def test_reference(name):
    """The reference is the truth rounded once, and agrees at the infinities."""
    z = activations.inputs(np.dtype(np.float64))[::7]
    truth = oracle.Truth([v for v in activations_of(name, z)], np.float64)
    got = np.array(reference.dense(z[:, None], [[1.0]], activation=name))[:, 0]
    assert np.max(truth.errors(got)) <= 0.5 + 1e-9
    up, down = EDGES[name]
    assert reference.dense([[np.inf], [-np.inf]], [[1.0]], activation=name) == [[up], [down]]
    assert np.isnan(reference.dense([[np.nan]], [[1.0]], activation=name)[0][0])
    saved = z if name in OF_Z else got
    slopes = np.array(reference.dense_backward(0 * z[:, None] + 1, z[:, None], [[1.0]], saved[:, None], name).x)[:, 0]
    truth = activations.slope_truth(name, np.dtype(np.float64), saved.tobytes())
    assert np.max(truth.errors(slopes)) <= 0.5 + 1e-9


def activations_of(name, z):
    with activations.mp.workdps(oracle.DIGITS):
        return [activations.VALUES[name](activations.mpf(float(v))) for v in z]


def test_names():
    assert [xent.saved_kind(name) for name in (None, *NAMES)] == ["y"] * 7 + ["z"] * 3
    for wrong in ("Relu", "elu", 3, ["relu"]):
        for function in (xent.saved_kind, reference.saved_kind):
            with pytest.raises(ValueError, match=r"activation.*relu.*|relu"):
                function(wrong)
