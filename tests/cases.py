"""Rows of logits that defeat a naive formula, and every length at which a kernel takes another branch.

`rows(dtype)` are finite. `masked_rows(dtype)` hold -inf beside finite logits: the formulas still hold.
`special_rows(dtype)` are these and rows with +inf, NaN or nothing but -inf, whose results are conventions.
The same rows at every call.
"""

from typing import Any, NamedTuple

import numpy as np

BLOCK = 4096
LENGTHS = (
    *(1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129),
    *(1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1),
)


class Case(NamedTuple):
    """A row of logits and what is hard about it."""

    name: str
    logits: np.ndarray


def rows(dtype: Any) -> list[Case]:
    """Finite rows of float32 or float64."""
    info = np.finfo(dtype)
    single = info.dtype == np.float32
    rng = np.random.default_rng(20240229)
    found: list[Case] = []

    def add(name: str, values: Any) -> None:
        with np.errstate(over="raise"):
            found.append(Case(f"{info.dtype}-{name}", np.array(values, info.dtype)))

    # Every length; the scale says how many classes matter: nearly all, a few, one.
    for n in LENGTHS:
        for scale in (1, 10, 100):
            if n <= 1000 or scale == (1, 10, 100)[n % 3]:
                add(f"normal{scale}-{n}", rng.normal(0, scale, n))

    # Equal logits: p = 1/C, lse = z + log C; the error of exp is the same in each term and adds up.
    for n in (2, 3, 10, 64, 65, 1000, BLOCK + 1):
        add(f"ties-{n}", np.full(n, 0.7))
    add("zeros", np.zeros(100))
    add("tie-of-two-max", [3.0, -2.0, 3.0, 1.0, 0.5])
    add("tie-of-two-max-in-two-blocks", np.where(np.arange(2 * BLOCK) % (BLOCK + 3) == 5, 9.0, -1.0))
    for v in _worst_exp(info.dtype):
        add(f"constant-and-one-{v:.6g}", [*np.full(999, v), v + 1])
        add(f"constant-and-one-below-{v:.6g}", [v - 3, *np.full(511, v)])

    # p nearly 1: the loss and 1 - p are the tail alone, down to the smallest normal number and beyond it.
    tails = [(-20, -25), (-17,), (-40, -40.5), (-87,), (-87.3,), (-87.4,), (-103.9,), (-16.6, -16.7, -30)]
    if not single:
        tails += [(-36.7,), (-37.5,), (-300,), (-690.78,), (-700, -701), (-708.3,), (-708.4,), (-745,)]
    for tail in tails:
        add(f"p-near-1{tail}", [0.0, *tail])
    add("p-near-1-among-many", [30.0, *rng.normal(-20, 3, 999)])
    add("p-near-1-in-the-middle", np.where(np.arange(300) == 150, 50.0, np.linspace(-30, 0, 300)))

    # Terms that differ in the last place, or whose weights nearly cancel lse against z.
    big = 65536.0
    add("near-cancelling", [1.0, 1.0 + info.eps, 1.0 - info.eps / 2, 1.0])
    add("near-cancelling-large", [big, big * (1 + info.eps), big * (1 - info.eps)])
    add("lse-near-0", [-np.log(2), -np.log(2)])
    add("lse-near-0-of-three", np.log([0.2, 0.3, 0.5]))

    # Spread: terms that count for nothing, for a last digit, for everything.
    add("one-huge", [*rng.normal(0, 1, 50), 1e4, *rng.normal(0, 1, 50)])
    add("one-huge-negative", [*rng.normal(0, 1, 50), -1e4, *rng.normal(0, 1, 50)])
    add("spread-hundreds", np.linspace(-400, 400, 257))
    add("spread-shuffled", rng.permutation(np.linspace(-300, 90, 1000)))
    add("below-eps", [0.0, *np.full(1000, np.log(float(info.eps) / 1000))])
    add("underflow-border", np.log(float(info.tiny)) + np.arange(-20, 20) / 4)
    add("alternating", np.where(np.arange(129) % 2, 40.0, -40.0))
    add("alternating-small", np.where(np.arange(130) % 2, 0.5, -0.5))

    # The running maximum: raised at each step, at the first, in the last block of several.
    for n in (65, BLOCK + 17):
        add(f"ascending-{n}", np.linspace(-80, 80, n))
        add(f"descending-{n}", np.linspace(80, -80, n))
        for place, where in (("first", 0), ("last", n - 1)):
            z = rng.normal(0, 2, n)
            z[where] = 12.5
            add(f"max-{place}-{n}", z)
    for step in (1.0, 60.0, 800.0):
        z = np.repeat(step * np.arange(3), BLOCK) + rng.normal(0, 1, 3 * BLOCK)
        z[-2] += step
        add(f"max-in-last-block-{step}", z)

    # Magnitudes at which z log2(e) leaves an int, a float's integers, or the range.
    for size in (1e10, -1e10, big, -big, 2.0**50, -(2.0**50), 1e30, -1e30, 88.72, -103.97, 709.78, -745.13):
        add(f"about{size:g}", size + rng.normal(0, 1, 20))
        add(f"beside-zero{size:g}", [size, 0.0, 1.0, size / 2])
    huge = 3e38 if single else 1e308
    add("huge", [huge, -huge, huge / 2, 0.0])
    add("huge-ties", [huge, huge, huge])
    add("huge-negative", [-huge, -huge / 3, -huge / 4])
    add("largest", [info.max, -info.max, 0.0])
    add("subnormal", [info.smallest_subnormal, -info.smallest_subnormal, 0.0, -0.0, info.tiny, info.tiny / 2])
    add("minus-zero", [-0.0])
    add("large-negative-mask", [*np.full(40, -1e30), *rng.normal(0, 1, 40)])
    return found


def masked_rows(dtype: Any) -> list[Case]:
    """Rows in which some classes are masked out by -inf."""
    inf = np.inf
    rng = np.random.default_rng(20240301)
    found = {
        "mask": np.where(rng.random(200) < 0.5, -inf, rng.normal(0, 3, 200)),
        "mask-all-but-one": np.where(np.arange(70) == 66, -4.0, -inf),
        "mask-first-block": np.concatenate([np.full(BLOCK, -inf), rng.normal(0, 1, 100)]),
        "mask-last-block": np.concatenate([rng.normal(0, 1, BLOCK), np.full(100, -inf)]),
        "mask-of-two": np.array([-inf, 1e4]),
    }
    kind = np.dtype(dtype)
    return [Case(f"{kind}-{name}", values.astype(kind)) for name, values in found.items()]


def special_rows(dtype: Any) -> list[Case]:
    """Rows with infinities or NaN: the masked ones, and those whose results are conventions."""
    inf, nan = np.inf, np.nan
    found: dict[str, list[float]] = {
        "all-minus-inf": [-inf] * 5,
        "one-minus-inf": [-inf],
        "plus-inf": [1.0, inf, -2.0],
        "plus-inf-alone": [inf],
        "two-plus-inf": [inf, 0.0, inf],
        "both-inf": [-inf, inf, 0.0],
        "nan": [0.0, nan, 1.0],
        "nan-alone": [nan],
        "nan-first": [nan, 5.0, 1e4],
        "nan-beside-inf": [inf, nan, -inf],
        "nan-beside-minus-inf": [-inf, -inf, nan],
    }
    for n in (64, 65, BLOCK + 1):
        for name, value in (("nan", nan), ("plus-inf", inf)):
            for place in (0, n // 2, n - 1):
                found[f"{name}-at-{place}-of-{n}"] = [value if c == place else 0.01 * (c % 9) for c in range(n)]
    kind = np.dtype(dtype)
    special = [Case(f"{kind}-{name}", np.array(values, kind)) for name, values in found.items()]
    return masked_rows(dtype) + special


def _worst_exp(dtype: Any, count: int = 3) -> list[float]:
    """Values in [0, 1) whose exp lies nearly half way between two floats: rounding errs by 1/2 ulp."""
    values = np.random.default_rng(7).random(20000).astype(dtype).astype(np.longdouble)
    true = np.exp(values)
    halfway = np.abs(np.abs(true - true.astype(dtype)) / np.spacing(true.astype(dtype)) - 0.5)
    return [float(v) for v in values[np.argsort(halfway, kind="stable")[:count]]]
