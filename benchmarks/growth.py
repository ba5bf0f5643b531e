"""Time per logit against total size, and one array of more than 2^31 elements.

    python benchmarks/growth.py                       # 1e3 to 1e9 logits, loss and gradient in place: a minute, 4 GB
    python benchmarks/growth.py --huge                # 2,200,000 x 1000 float32 in place (8.8 GB), checked row by row

Rows of 1,000 classes, float32, class indices, `out=logits`; the copy beside it is `np.copyto` of as many numbers within
one array. In place the logits are those that the call before left: the work does not depend on their values.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from tables import markdown

import xent
from xent import runtime
from xent.cli.bench import cpu_name

CLASSES = 1000


def median(call: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def growth(largest: float) -> list[dict[str, Any]]:
    records = []
    for power in range(3, 10):
        if 10**power > largest:
            break
        rows = 10**power // CLASSES
        rng = np.random.default_rng(power)
        z, y = rng.standard_normal((rows, CLASSES), dtype=np.float32), rng.integers(0, CLASSES, rows)
        check(z, y)
        rounds = max(3, min(2001, 10**8 // z.size))
        half = z.reshape(-1)[: z.size // 2]
        ours = median(lambda z=z, y=y: xent.cross_entropy_with_grad(z, y, out=z), rounds)
        copy = median(lambda z=z, half=half: np.copyto(z.reshape(-1)[z.size - half.size :], half), rounds)
        ns = {"ns_per_logit": ours / z.size * 1e9, "copy_ns_per_logit": copy / half.size * 1e9}
        records.append({"logits": 10**power, **ns})
    return records


def check(z: Any, y: Any) -> None:
    """The first and the last row, in float64; `z` becomes the gradient."""
    few = [0, len(z) - 1]
    before = z[few].astype(np.float64)
    xent.cross_entropy_with_grad(z, y, out=z)
    p = np.exp(before - before.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[[0, 1], y[few]] -= 1
    if not np.allclose(z[few] * len(z), p, 1e-5, 1e-8):
        raise SystemExit(f"{z.size} logits: wrong; nothing was timed")


def table(records: list[dict[str, Any]]) -> str:
    lines = [[f"{r['logits']:.0e}".replace("+0", ""), *(f"{r[k]:.3f}" for k in ("ns_per_logit", "copy_ns_per_logit"))]
             for r in records]  # fmt: skip
    return markdown(["logits", "ns per logit", "copy"], lines)


def huge() -> None:
    """A batch is its rows: some of them, computed by themselves, have the same bits."""
    rows = 2_200_000
    rng = np.random.default_rng(0)
    z, y = np.empty((rows, CLASSES), np.float32), rng.integers(0, CLASSES, rows)
    block = rng.standard_normal((1000, CLASSES), dtype=np.float32)
    for start in range(0, rows, len(block)):
        np.add(block, np.float32(start / rows), out=z[start : start + len(block)])
    some = np.unique(
        np.concatenate([[0, rows - 1, 2**31 // CLASSES, 2**31 // CLASSES + 1], rng.integers(0, rows, 500)])
    )
    before = z[some].copy()
    start = time.perf_counter()
    losses, _ = xent.cross_entropy_with_grad(z, y, out=z, reduction="none")
    seconds = time.perf_counter() - start
    expected, grad = xent.cross_entropy_with_grad(before, y[some], reduction="none")
    if not (np.array_equal(losses[some], expected) and np.array_equal(z[some], grad)):
        raise SystemExit("rows of the large array differ from the same rows by themselves")
    print(f"{z.size} logits ({z.size / 2**31:.2f} 2^31): {seconds / z.size * 1e9:.3f} ns each, {len(some)} rows right")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--largest", type=float, default=1e9)
    parser.add_argument("--huge", action="store_true")
    args = parser.parse_args()
    xent.set_num_threads(args.threads)
    print(f"xent {xent.__version__}, tier {runtime.config()['tier']}, {args.threads} threads, {cpu_name()}")
    if args.huge:
        huge()
    else:
        print(f"\n{table(growth(args.largest))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
