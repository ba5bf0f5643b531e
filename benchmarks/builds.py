"""Two builds of xent in turns in one process: the time of the second by that of the first, and whether bits differ.

    git checkout main && pip install --target ../before .
    git checkout change && pip install --target ../after .
    python benchmarks/builds.py ../before ../after
    python benchmarks/builds.py ../before ../after --shapes 32x10,1000000x3 --calls softmax,smoothed --threads 1

A round calls the first, the second, the second and the first, each often enough to take a millisecond, so that what
comes and goes on a shared machine meets both; a figure is the median of the rounds' ratios, below 1 where the second is
faster. (A ratio of two runs, one after the other, is worth little.) Results are compared before they are timed; the
status is 1 if any differ.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from tables import markdown, shapes

SHAPES = [(65536, 10), (1_000_000, 3), (65536, 32), (16384, 100), (16384, 300), (8192, 1000), (1024, 32000)]
TURN = 1e-3  # seconds: of shorter ones the second call of the same build would be the faster
Call = Callable[[Any], Any]


def load(directory: str) -> Any:
    """The xent installed there, beside any other: no module of it is looked up by name again."""
    if not (Path(directory) / "xent").is_dir():
        raise SystemExit(f"{directory}: no xent in it; pip install --target {directory} . puts one there")
    for name in [name for name in sys.modules if name.partition(".")[0] == "xent"]:
        del sys.modules[name]
    sys.path.insert(0, directory)
    try:
        importlib.import_module("xent._kernels")
        return importlib.import_module("xent")
    finally:
        sys.path.remove(directory)


def calls_of(
    shape: tuple[int, int], dtype: type, order: str, fresh: bool
) -> tuple[dict[str, Call], list[np.ndarray[Any, Any]]]:
    """Each takes the module; logits of deviation 3. And the arrays that results are written to."""
    rng = np.random.default_rng(shape)
    z = np.asarray(3 * rng.standard_normal(shape), dtype, order)
    y = rng.integers(0, shape[1], shape[0])
    rows = rng.random(shape)
    rows = np.asarray(rows / rows.sum(axis=1, keepdims=True), dtype, order)
    sets = np.asarray(rng.random(shape) < 0.2, dtype, order)
    out = None if fresh else np.empty_like(z)
    lse = None if fresh else np.empty(shape[0], dtype)
    calls: dict[str, Call] = {
        "labels": lambda xent: xent.cross_entropy_with_grad(z, y, out=out),
        "loss": lambda xent: xent.cross_entropy(z, y),
        "logsumexp": lambda xent: xent.logsumexp(z, axis=1, out=lse),
        "softmax": lambda xent: xent.softmax(z, axis=1, out=out),
        "log_softmax": lambda xent: xent.log_softmax(z, axis=1, out=out),
        "rows": lambda xent: xent.cross_entropy_with_grad(z, rows, out=out),
        "smoothed": lambda xent: xent.cross_entropy_with_grad(z, y, label_smoothing=0.1, out=out),
        "sigmoid": lambda xent: xent.sigmoid_cross_entropy_with_grad(z, sets, out=out),
    }
    return calls, [array for array in (out, lse) if array is not None]


NAMES = list(calls_of((1, 1), np.float32, "C", True)[0])


def same(call: Call, builds: list[Any], written: list[np.ndarray[Any, Any]]) -> bool:
    def bits(build: Any) -> list[bytes]:
        for array in written:
            array.fill(np.nan)  # what one build leaves unwritten is not what the other wrote
        result = call(build)
        return [np.asarray(part).tobytes() for part in (result if isinstance(result, tuple) else (result,))]

    return bits(builds[0]) == bits(builds[1])


def ratio(call: Call, builds: list[Any], seconds: float) -> tuple[float, float, int]:
    """The median of the rounds' ratios, the median time of the first build's call, and how many rounds there were."""
    first, second = builds
    ratios, times = [], []
    often = max(1, int(TURN / turn(call, first, 10) * 10))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(ratios) < 3:
        before, mine, again, after = (turn(call, build, often) for build in (first, second, second, first))
        times.append((before + after) / 2 / often)
        ratios.append((mine + again) / (before + after))
    return statistics.median(ratios), statistics.median(times), len(ratios)


def turn(call: Call, build: Any, often: int) -> float:
    start = time.perf_counter()
    for _ in range(often):
        call(build)
    return time.perf_counter() - start


def main() -> int:
    args = arguments()
    builds = [load(args.first), load(args.second)]
    for build in builds:
        build.set_num_threads(args.threads)
    tiers = [build.runtime.config()["tier"] for build in builds]
    if tiers[0] != tiers[1]:
        raise SystemExit(f"the first has tier {tiers[0]}, the second {tiers[1]}; nothing was timed")
    lines, differ = [], 0
    for shape in args.shapes:
        calls, written = calls_of(shape, np.dtype(args.dtype).type, args.order, args.fresh)
        for name in args.calls:
            equal = same(calls[name], builds, written)
            differ += not equal
            its, first, rounds = ratio(calls[name], builds, args.seconds)
            ns = 1e9 * first / (shape[0] * shape[1])
            bits = "same" if equal else "differ"
            lines.append([f"{name}, {shape[0]} x {shape[1]}", f"{ns:.3f}", f"{its:.3f}", str(rounds), bits])
    print(f"{args.dtype}, order {args.order}, {args.threads} threads each, tier {tiers[0]}\n")
    print(markdown(["", "first, ns per logit", "second by first", "rounds", "bits"], lines))
    return 1 if differ else 0


def names(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {','.join(NAMES)}")
    return chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="the directory of one build")
    parser.add_argument("second", help="the directory of the other")
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="rows x classes: 8192x1000,1024x32000")
    parser.add_argument("--calls", type=names, default=NAMES, help=",".join(NAMES))
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--order", choices=["C", "F"], default="C", help="of logits, targets and results")
    parser.add_argument("--fresh", action="store_true", help="no out=")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="per shape and call (default 2)")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
