"""The kernels' e^x over all 2^32 float32, against the correctly rounded result.

    python tools/exp_exhaustive.py                 every float32, a few minutes
    python tools/exp_exhaustive.py --stride 4099   one in 4099, a few seconds

The truth is e^x in double, good to 2^-28 ulp of float32; the few results that lie about that near to the
middle between two floats are decided by 50-digit arithmetic. Where |x| is so small that the truth is 1, or
so large that it is 0 or inf, no exponential is needed. Printed: the worst error in ulp and where, and how
many results are not the nearest float32. Exit status 1 if an error exceeds --limit, or a special value is
wrong: NaN gives NaN, overflow inf, and what is below the smallest normal number 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import mpmath
import numpy as np

from xent import _kernels

CHUNK = 1 << 20
SMALLEST = 2.0**-126
LARGEST = float(np.finfo(np.float32).max)
OVERFLOW = LARGEST + 2.0**103  # from here on the nearest float32 is inf


@dataclass
class Tally:
    """What a range of inputs came to."""

    tried: int = 0
    finite: int = 0
    misrounded: int = 0
    worst: float = 0.0
    at: float = 0.0
    faults: int = 0
    fault_at: float = 0.0

    def add(self, other: Tally) -> None:
        self.tried += other.tried
        self.finite += other.finite
        self.misrounded += other.misrounded
        if not other.worst <= self.worst:
            self.worst, self.at = other.worst, other.at
        if other.faults and not self.faults:
            self.fault_at = other.fault_at
        self.faults += other.faults


def nearest(x: np.float32, truth: float) -> float:
    """e^x rounded once to float32, by 50-digit arithmetic, given e^x in double."""
    exact = mpmath.exp(mpmath.mpf(float(x)))
    middle = np.float32(truth)
    candidates = (np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(np.inf)))
    return float(min(candidates, key=lambda c: abs(mpmath.mpf(float(c)) - exact)))


def check(first: int, last: int, stride: int) -> Tally:
    """All float32 whose bits are first, first + stride, ... below last."""
    x = np.arange(first, last, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)
    result = np.empty_like(x)
    _kernels.exp(x, result)
    with np.errstate(invalid="ignore"):
        ends = np.abs(x[[0, -1]].astype(np.float64))  # |x| rises in between, unless NaN or the sign changes
    if ends[0] <= ends[1] <= 2.0**-25 or 128.0 <= ends[0] <= ends[1]:
        wanted = 1.0 if ends[1] < 1.0 else 0.0 if x[0] < 0 else np.inf
        wrong = result != np.float32(wanted)
        near = wanted == 1.0  # e^x = 1 + x; below 1 an ulp is half as large
        worst = float(ends[1]) * (2.0**23 if x[-1] > 0 else 2.0**24) if near else 0.0
        return Tally(
            tried=x.size,
            finite=x.size if near else 0,
            worst=worst,
            at=float(x[-1]) if near else 0.0,
            faults=int(wrong.sum()),
            fault_at=float(x[np.argmax(wrong)]) if wrong.any() else 0.0,
        )
    with np.errstate(all="ignore"):
        truth = np.exp(x.astype(np.float64))
        got = result.astype(np.float64)
        normal = (truth >= SMALLEST) & (truth < OVERFLOW)
        ulp = np.ldexp(1.0, np.frexp(np.where(normal, truth, 1.0))[1] - 24)
        error = np.where(normal, np.abs(got - truth) / ulp, 0.0)
        right = np.where(np.isnan(truth), np.isnan(got), got == np.where(truth >= OVERFLOW, np.inf, 0.0))
        # just below the smallest normal number both 0 and the rounding up to it are right
        right |= (truth < SMALLEST) & (got == SMALLEST) & (truth > SMALLEST * (1 - 2.0**-24))
        # and an inf where the exact result rounds to the largest finite one is an error of any size
        faults = ~np.where(normal, np.isfinite(got), right)
        rounded = truth.astype(np.float32)
        doubtful = normal & (np.abs(np.abs(truth - rounded.astype(np.float64)) / ulp - 0.5) < 2.0**-27)
        misrounded = normal & (got != rounded) & ~doubtful
    tally = Tally(x.size, int(normal.sum()), int(misrounded.sum()))
    for i in np.flatnonzero(doubtful):
        tally.misrounded += float(got[i]) != nearest(x[i], float(truth[i]))
    if faults.any():
        tally.faults, tally.fault_at = int(faults.sum()), float(x[np.argmax(faults)])
    i = int(np.argmax(error)) if x.size else 0
    if x.size:
        tally.worst, tally.at = float(error[i]), float(x[i])
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1, help="try one float32 in so many")
    parser.add_argument("--limit", type=float, default=0.9, help="the error allowed, in ulp")
    parser.add_argument("--tier", choices=_kernels.tiers(), help="the live one if not given")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if args.stride < 1:
        parser.error("--stride must be at least 1")
    if args.tier:
        _kernels.set_tier(args.tier)

    mpmath.mp.dps = 50
    start, total, step = time.perf_counter(), Tally(), CHUNK * args.stride
    with ThreadPoolExecutor(args.jobs) as pool:
        ranges = range(0, 1 << 32, step)
        for tally in pool.map(lambda first: check(first, min(first + step, 1 << 32), args.stride), ranges):
            total.add(tally)
    good = total.finite > 0 and total.worst <= args.limit and total.faults == 0
    print(
        f"exp float32, tier {_kernels.tier()}: {total.tried:,} inputs, {total.finite:,} with a finite normal "
        f"result; worst {total.worst:.4f} ulp at x = {total.at!r} ({total.at.hex()}); "
        f"{total.misrounded:,} not the nearest float32; {total.faults:,} special values wrong"
        + (f", first at x = {total.fault_at!r}" if total.faults else "")
        + f"; {time.perf_counter() - start:.1f} s: {'ok' if good else 'FAILED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
