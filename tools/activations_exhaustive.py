"""The activations over all 2^32 float32, and their derivatives, against the float64 kernels.

    python tools/activations_exhaustive.py                        every float32, some minutes for each activation
    python tools/activations_exhaustive.py --stride 4099          one in 4099, seconds
    python tools/activations_exhaustive.py --activation gelu

The truth is the float64 kernel's result, good to 2^-26 ulp of float32; tests/test_activations.py holds those against
50-digit arithmetic. Printed: the worst errors in ulp and where. A derivative's error is in ulp of the largest of its
terms and itself. Exit status 1 if an error exceeds --limit, or a special value is wrong: NaN gives NaN, what is below
the smallest normal number 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xent import _kernels

CHUNK = 1 << 18
SMALLEST = 2.0**-126
NAMES = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu")
SMOOTH = NAMES[3:]
OF_Z = NAMES[6:]  # whose derivative is taken from z


@dataclass
class Worst:
    """The largest error over the inputs tried, and where."""

    tried: int = 0
    error: float = 0.0
    at: float = 0.0
    faults: int = 0
    fault_at: float = 0.0

    def add(self, other: Worst) -> None:
        self.tried += other.tried
        if not other.error <= self.error:
            self.error, self.at = other.error, other.at
        if other.faults and not self.faults:
            self.fault_at = other.fault_at
        self.faults += other.faults

    @classmethod
    def of(cls, x: NDArray[np.float32], got: NDArray[np.float32], truth: NDArray[np.float64], unit: object) -> Worst:
        """Errors in ulp of `unit`; faults where a NaN, a zero or a subnormal number is out of place."""
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(np.asarray(unit, np.float64)), SMALLEST)
            size = np.where(np.isfinite(size), size, SMALLEST)
            error = np.abs(got.astype(np.float64) - truth) / np.ldexp(1.0, np.frexp(size)[1] - 24)
            vanishes = np.abs(truth) < SMALLEST
            border = vanishes & (np.abs(truth) > SMALLEST * (1 - 2.0**-22)) & (np.abs(got) == np.float32(SMALLEST))
            wrong = np.where(vanishes, (got != 0) & ~border, (got != 0) & (np.abs(got) < np.float32(SMALLEST)))
            finite = np.isfinite(truth) & np.isfinite(truth.astype(np.float32))
            wrong |= ~finite & ~((got == truth.astype(np.float32)) | (np.isnan(got) & np.isnan(truth)))
            error = np.where(vanishes | ~finite, 0.0, error)
        i = int(np.argmax(error))
        faults = int(wrong.sum())
        return cls(x.size, float(error[i]), float(x[i]), faults, float(x[np.argmax(wrong)]) if faults else 0.0)


def value(name: str, z: NDArray[np.floating]) -> NDArray[np.floating]:
    y = z.reshape(1, -1).copy()
    _kernels.bias_activation(y, None, NAMES.index(name), None)
    return y[0]


def slope(name: str, saved: NDArray[np.floating]) -> NDArray[np.floating]:
    ones = np.ones((1, saved.size), saved.dtype)
    _kernels.activation_backward(ones, saved.reshape(1, -1), NAMES.index(name), ones, None, False, None)
    return ones[0]


def largest_term(name: str, z: NDArray[np.float64], derivative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of f' = s + z s', s the gate: f'(z) - s(z), s(z) = f(z) / z, and the derivative itself."""
    with np.errstate(all="ignore"):
        gate = np.abs(value(name, z) / z)
        return np.fmax(np.fmax(gate, np.abs(derivative - gate)), np.abs(derivative))


def check(name: str, first: int, last: int, stride: int) -> tuple[Worst, Worst]:
    """f and f' at all float32 whose bits are first, first + stride, ... below last."""
    x = np.arange(first, last, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.where(np.abs(x) < np.float32(SMALLEST), np.float32(0), x)  # as the kernels take them
    with np.errstate(invalid="ignore"):  # signalling NaNs
        wide = x.astype(np.float64)
    truth = value(name, wide)
    values = Worst.of(x, value(name, x), truth, truth)
    keep = np.isnan(x)
    if name == "softplus":
        keep |= x >= 0
    elif name in ("tanh", "sigmoid"):
        keep |= np.abs(x) <= 1
    else:
        keep |= True
    x, wide = x[keep], wide[keep]
    if not x.size:
        return values, Worst()
    derivative = slope(name, wide)
    unit = largest_term(name, wide, derivative) if name in OF_Z else derivative
    return values, Worst.of(x, slope(name, x), derivative, unit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activation", choices=SMOOTH, action="append", help="all if not given")
    parser.add_argument("--stride", type=int, default=1, help="try one float32 in so many")
    parser.add_argument("--limit", type=float, default=0.6, help="the error allowed, in ulp")
    parser.add_argument("--tier", choices=_kernels.tiers(), help="the live one if not given")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if args.stride < 1:
        parser.error("--stride must be at least 1")
    if args.tier:
        _kernels.set_tier(args.tier)
    _kernels.set_num_threads(1)
    step, status = CHUNK * args.stride, 0
    for name in args.activation or SMOOTH:
        start, values, slopes = time.perf_counter(), Worst(), Worst()
        with ThreadPoolExecutor(args.jobs) as pool:
            found = pool.map(
                lambda first, name=name: check(name, first, min(first + step, 1 << 32), args.stride),
                range(0, 1 << 32, step),
            )
            for one, other in found:
                values.add(one)
                slopes.add(other)
        print(f"{name} float32, tier {_kernels.tier()}, {time.perf_counter() - start:.0f} s")
        for what, worst in (("value", values), ("slope", slopes)):
            good = worst.tried > 0 and worst.error <= args.limit and worst.faults == 0
            status |= not good
            print(
                f"  {what}: {worst.tried:,} inputs; worst {worst.error:.4f} ulp at {worst.at!r}; "
                f"{worst.faults:,} special values wrong"
                + (f", first at {worst.fault_at!r}" if worst.faults else "")
                + f": {'ok' if good else 'FAILED'}",
                flush=True,
            )
    return status


if __name__ == "__main__":
    sys.exit(main())
