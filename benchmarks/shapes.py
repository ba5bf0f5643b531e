"""Everything but long contiguous rows of float32: few classes, small calls, other layouts, other dtypes.

    python benchmarks/shapes.py                  # all parts, 2 threads: about two minutes
    python benchmarks/shapes.py --parts layouts small --threads 1
    python benchmarks/shapes.py --parts sweep --plot sweep.png     # with matplotlib

sweep     ns per logit of `cross_entropy_with_grad` for 1 to 300 classes, 2^21 logits; each beside the median of its
          neighbours
few       ns per row and per logit of `cross_entropy_with_grad`, many rows of few classes
small     calls through Python in `np.add(a, b, out=c)` of 32 x 10
layouts   another class axis, strides, byte order: time by that of the same numbers in contiguous rows
dtypes    float16, bfloat16 (with ml_dtypes) and float64: time by that of float32

`out=` is given, buffers are warm, what is compared takes turns in one process; figures are medians. Results are held
against those of contiguous rows, bit for bit, before they are timed. For other libraries on such shapes:
`python -m xent bench --shapes 65536x10,65536x32,16384x100,1000000x3`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xent
from xent import runtime
from xent.cli.bench import cpu_name

Call = Callable[[], Any]
LAYOUTS: dict[str, tuple[tuple[int, ...], int, Callable[[Any], Any]]] = {
    "(8, 21, 256, 256), axis 1": ((8, 21, 256, 256), 1, lambda a: a),
    "(2, 150, 160, 160), axis 1": ((2, 150, 160, 160), 1, lambda a: a),
    "(1000, 8192), axis 0": ((1000, 8192), 0, lambda a: a),
    "(32000, 1024), axis 0": ((32000, 1024), 0, lambda a: a),
    "(1000, 1024), axis 0": ((1000, 1024), 0, lambda a: a),
    "(8192, 1000), Fortran order": ((8192, 1000), 1, np.asfortranarray),
    "(8192, 1000), classes backwards": ((8192, 1000), 1, lambda a: a[:, ::-1]),
    "(4096, 2000), every second class": ((4096, 2000), 1, lambda a: a[:, ::2]),
    "(8192, 1000), every second row": ((8192, 1000), 1, lambda a: a[::2]),
}
FEW = [(65536, 10), (1_000_000, 3), (65536, 32), (16384, 33), (16384, 100)]
SHAPES = [(262144, 10), (65536, 100), (8192, 1000), (1024, 32000)]


def medians(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Seconds of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for i in range(rounds):
        names = list(calls)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def same(a: Any, b: Any, what: str) -> None:
    if not np.array_equal(np.asarray(a), np.asarray(b)):
        raise SystemExit(f"{what}: not the bits of contiguous rows")


def sweep(rng: np.random.Generator, rounds: int, plot: str | None) -> None:
    print("\n| classes | ns per logit | by the median of its neighbours |\n|---|---|---|")
    classes, times = list(range(1, 301)), []
    for c in classes:
        rows = 2**21 // c
        z, y = rng.standard_normal((rows, c), dtype=np.float32), rng.integers(0, c, rows)
        out = np.empty_like(z)
        call = {"": lambda z=z, y=y, out=out: xent.cross_entropy_with_grad(z, y, out=out)}
        times.append(medians(call, rounds)[""] / z.size * 1e9)
    worst = 0.0
    for i, c in enumerate(classes):
        near = statistics.median(times[max(i - 3, 0) : i] + times[i + 1 : i + 4])
        worst = max(worst, times[i] / near if c > 3 else 0.0)
        if c in (1, 2, 3, 4, 8, 10, 16, 17, 31, 32, 33, 64, 65, 100, 127, 128, 129, 150, 200, 300):
            print(f"| {c} | {times[i]:.2f} | {times[i] / near:.2f} |")
    print(f"\nthe worst from 4 classes on: {worst:.2f} (limit 1.5)")
    if plot:
        import matplotlib.pyplot as plt

        plt.semilogy(classes, times)
        plt.xlabel("classes")
        plt.ylabel("ns per logit")
        plt.title(f"cross_entropy_with_grad, {cpu_name()}, {xent.get_num_threads()} threads")
        plt.savefig(plot, dpi=120)


def few(rng: np.random.Generator, rounds: int) -> None:
    print("\n| rows x classes | ns per row | ns per logit |\n|---|---|---|")
    for rows, c in FEW:
        z, y = rng.standard_normal((rows, c), dtype=np.float32), rng.integers(0, c, rows)
        out = np.empty_like(z)
        call = {"": lambda z=z, y=y, out=out: xent.cross_entropy_with_grad(z, y, out=out)}
        seconds = medians(call, 3 * rounds)[""]
        print(f"| {rows} x {c} | {seconds / rows * 1e9:.1f} | {seconds / z.size * 1e9:.2f} |")


def small(rng: np.random.Generator, rounds: int) -> None:
    a, b, c = (np.ones((32, 10), np.float32) for _ in range(3))
    z, y, out = rng.standard_normal((32, 10), dtype=np.float32), rng.integers(0, 10, 32), np.empty((32, 10), np.float32)
    row, label, grad = rng.standard_normal((1, 1000), dtype=np.float32), np.array([3]), np.empty((1, 1000), np.float32)
    calls = {
        "np.add, 32 x 10": lambda: np.add(a, b, out=c),
        "cross_entropy_with_grad, 32 x 10": lambda: xent.cross_entropy_with_grad(z, y, out=out),
        "cross_entropy_with_grad, 1 x 1000": lambda: xent.cross_entropy_with_grad(row, label, out=grad),
        "logsumexp of 1000": lambda: xent.logsumexp(row[0]),
    }

    def often(call: Call) -> Call:
        def run() -> None:
            for _ in range(1000):
                call()

        return run

    times = medians({name: often(call) for name, call in calls.items()}, 3 * rounds)
    unit = times["np.add, 32 x 10"]
    print("\n| call | us | in np.add |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {seconds * 1e3:.2f} | {seconds / unit:.1f} |")


def pairs(z: Any, out: Any, y: Any, axis: int) -> dict[str, Call]:
    return {
        "loss and gradient": lambda: xent.cross_entropy_with_grad(z, y, axis=axis, out=out),
        "loss": lambda: xent.cross_entropy(z, y, axis=axis),
        "logsumexp": lambda: xent.logsumexp(z, axis=axis),
        "softmax": lambda: xent.softmax(z, axis=axis, out=out),
        "log_softmax": lambda: xent.log_softmax(z, axis=axis, out=out),
    }


def compared(ours: dict[str, Call], plain: dict[str, Call], rounds: int) -> list[float]:
    ratios = []
    for name in ours:
        times = medians({"ours": ours[name], "plain": plain[name]}, rounds)
        ratios.append(times["ours"] / times["plain"])
    return ratios


def layouts(rng: np.random.Generator, rounds: int) -> None:
    print("\n| by contiguous rows | loss and gradient | loss | logsumexp | softmax | log_softmax |")
    print("|---|---|---|---|---|---|")
    for name, (shape, axis, view) in LAYOUTS.items():
        z = view(rng.standard_normal(shape, dtype=np.float32))
        out = view(np.empty(shape, np.float32))
        rows = np.ascontiguousarray(np.moveaxis(z, axis, -1)).reshape(-1, z.shape[axis])
        plain_out = np.empty_like(rows)
        y = rng.integers(0, z.shape[axis], np.moveaxis(z, axis, -1).shape[:-1])
        ours, plain = pairs(z, out, y, axis), pairs(rows, plain_out, y.reshape(-1), -1)
        same(ours["loss and gradient"]()[0], plain["loss and gradient"]()[0], name)
        same(np.moveaxis(out, axis, -1).reshape(rows.shape), plain_out, name)
        print(f"| {name} | " + " | ".join(f"{r:.2f}" for r in compared(ours, plain, rounds)) + " |")


def dtypes(rng: np.random.Generator, rounds: int) -> None:
    kinds = [np.dtype(np.float64), np.dtype(np.float16)]
    try:
        import ml_dtypes

        kinds.append(np.dtype(ml_dtypes.bfloat16))
    except ImportError:
        pass
    print("\n| by float32 | loss and gradient | loss | logsumexp | softmax | log_softmax |\n|---|---|---|---|---|---|")
    for rows, classes in SHAPES:
        single = rng.standard_normal((rows, classes), dtype=np.float32)
        y, single_out = rng.integers(0, classes, rows), np.empty_like(single)
        for dtype in kinds:
            z = single.astype(dtype)
            ours, plain = pairs(z, np.empty_like(z), y, -1), pairs(single, single_out, y, -1)
            text = " | ".join(f"{r:.2f}" for r in compared(ours, plain, rounds))
            print(f"| {dtype.name}, {rows} x {classes} | {text} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=["sweep", "few", "small", "layouts", "dtypes"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--plot", metavar="FILE", help="of the sweep")
    args = parser.parse_args()
    xent.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    print(f"xent {xent.__version__}, tier {runtime.config()['tier']}, {args.threads} threads, {cpu_name()}")
    for part in args.parts:
        if part == "sweep":
            sweep(rng, args.rounds, args.plot)
        else:
            {"few": few, "small": small, "layouts": layouts, "dtypes": dtypes}[part](rng, args.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
