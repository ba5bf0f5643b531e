"""The activations and their derivatives in mpmath, as they stand in the textbooks, and the inputs they are tried on."""

from functools import cache

import numpy as np
import oracle
from mpmath import mp, mpf

NAMES = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu")
SMOOTH = NAMES[3:]
OF_Z = NAMES[6:]  # whose derivative is taken from z


def _sigmoid(z):
    return 1 / (1 + mp.exp(-z))


def _phi(z):
    return mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)


def _Phi(z):
    return mp.erfc(-z / mp.sqrt(2)) / 2


def _u(z):
    return mp.sqrt(2 / mp.pi) * (z + mpf("0.044715") * z**3)


def _u_slope(z):
    return mp.sqrt(2 / mp.pi) * (1 + 3 * mpf("0.044715") * z**2)


VALUES = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, mpf(0)),
    "leaky_relu": lambda z: z if z > 0 else mpf(0.01) * z,
    "tanh": mp.tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda z: mp.log1p(mp.exp(z)),
    "gelu": lambda z: z * _Phi(z),
    "gelu_tanh": lambda z: z * _sigmoid(2 * _u(z)),
    "silu": lambda z: z * _sigmoid(z),
}
# f' of what is saved, as terms to be added up
SLOPES = {
    "identity": lambda y: (mpf(1),),
    "relu": lambda y: (mpf(y > 0),),
    "leaky_relu": lambda y: (mpf(1) if y > 0 else mpf(0.01),),
    "tanh": lambda y: ((1 - y) * (1 + y),),
    "sigmoid": lambda y: (y * (1 - y),),
    "softplus": lambda y: (-mp.expm1(-y),),
    "gelu": lambda z: (_Phi(z), z * _phi(z)),
    "gelu_tanh": lambda z: (_sigmoid(2 * _u(z)), 2 * z * _u_slope(z) * _sigmoid(2 * _u(z)) * _sigmoid(-2 * _u(z))),
    "silu": lambda z: (_sigmoid(z), z * _sigmoid(z) * _sigmoid(-z)),
}
# ulp. A float32 value is rounded once from a double that is 2^-29 off at most. float64: 1/2 for the last rounding, and
# what lies before it: a log1p below 1 ulp, a plain polynomial of degree 23 for gelu.
VALUE_BOUNDS = {("float32", name): 0.6 for name in NAMES} | {
    ("float64", name): 4.0 if name == "gelu" else 1.0 if name == "softplus" else 0.75 for name in NAMES
}
# in ulp of the largest term of f', or f' itself if that is larger: float64 subtracts two terms of 1 to 3 ulp each
SLOPE_BOUNDS = {("float32", name): 0.6 for name in NAMES} | {
    ("float64", name): {"softplus": 2.5, "gelu": 5.0, "gelu_tanh": 5.0, "silu": 4.0}.get(name, 0.75) for name in NAMES
}


@cache
def inputs(kind):
    """Random ones of all sizes, and about every border: of the kernels' cuts and blends, and of what vanishes."""
    rng = np.random.default_rng(5)
    far, low = (800, -745) if kind == np.float64 else (110, -104)
    vanishing = {np.float32: (-87.34, -103.3, -14.17, -12.9, -10.2), np.float64: (-708.4, -714.98, -38.6, -37.5, -21.2)}
    borders = [
        *vanishing[kind.type],
        -40,
        40,
        15,
        20,
        25,
        200,
        750,
        low,
        0.3,
        0.6,
        1.0,
        -0.75179,
        -0.7524,
        -1.2785,
        3,
        5,
    ]
    near = np.array(borders, kind)
    beside = [np.nextafter(near, kind.type(toward)) for toward in (np.inf, -np.inf)]
    return np.concatenate(
        [
            *(near, -near, *beside),
            *(near[:5] + step for step in np.linspace(-1, 1, 21).astype(kind)),
            rng.uniform(-far, far, 200).astype(kind),
            rng.uniform(-40, 15, 200).astype(kind),
            rng.uniform(-4, 4, 600).astype(kind),
            (rng.choice([-1, 1], 200) * 10.0 ** rng.uniform(-12 if kind == np.float32 else -30, 0, 200)).astype(kind),
        ]
    )


@cache
def value_truth(name, kind):
    with mp.workdps(oracle.DIGITS):
        return oracle.Truth([VALUES[name](mpf(float(z))) for z in inputs(kind)], kind)


@cache
def slope_truth(name, kind, saved):
    """At the numbers saved, given as bytes."""
    with mp.workdps(oracle.DIGITS):
        terms = [SLOPES[name](mpf(float(s))) for s in np.frombuffer(saved, kind)]
        sums = [sum(t) for t in terms]
        return oracle.Truth(sums, kind, [max([abs(s), *map(abs, t)]) for s, t in zip(sums, terms, strict=True)])
