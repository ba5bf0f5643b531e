"""What the loss kernels cost in copies of their logits: the table of limits that this package is held to.

    python benchmarks/ratios.py                  # all shapes, 1 and 2 threads: about two minutes
    python benchmarks/ratios.py --shapes 1024x32000 --threads 1 --rounds 15 --no-memory --no-small
    python benchmarks/ratios.py --json ratios.json --check

float32 logits, class indices, `out=` given. Everything takes turns in one process: a round times, in a new
order each time, `np.copyto(dst, logits)` on one thread and every operation on every number of threads; the
figure is the median over the rounds of operation / copy of the same round. Before each timing, and not timed,
the logits are copied to the array of the in-place call, so that all start from the same state of the caches.
Each result is compared with float64 arithmetic before it is timed; a wrong one stops the program.

Memory is the growth of the resident set's peak during one call, in a process of its own, with inputs and
outputs already resident. `--check`: exit status 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from tables import markdown, pivot, shapes

import xent
from xent import runtime
from xent.cli.bench import cpu_name

Shape = tuple[int, int]

SHAPES: list[Shape] = [(8192, 1000), (1024, 32000), (512, 50257), (256, 131072)]
MEMORY_SHAPES: list[Shape] = [(256, 131072), (1_000_000, 10), (1, 33_554_432)]
# operation -> the limit in copies by number of threads
LIMITS: dict[str, dict[int, float]] = {
    "cross_entropy_with_grad": {1: 1.6, 2: 0.9},
    "cross_entropy_with_grad, in place": {1: 1.3, 2: 0.75},
    "cross_entropy": {1: 1.0, 2: 0.6},
    "logsumexp": {1: 1.0, 2: 0.6},
    "softmax": {1: 1.6, 2: 0.9},
    "cross_entropy_with_grad, fresh": {},
}
SMALL_SHAPE, SMALL_LIMIT, SMALL_AIM = (32, 10), 8.0, 4.0
MEMORY_LIMIT = 4 * 2**20
ULPS, ULPS_OF_FLOAT64 = 2.0, 500.0  # float64 is only as good as the comparison is


def main() -> int:
    args = arguments()
    if args.memory_of:
        print(memory_growth(*args.memory_of, args.shapes[0], args.threads[0]))
        return 0
    report: dict[str, Any] = {"config": runtime.config(), "machine": platform.machine(), "cpu": cpu_name()}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    report["load_average"] = load
    print(f"xent {xent.__version__}, tier {report['config']['tier']}, NumPy {np.__version__}, {report['cpu']}")
    if load > 0.3:
        print(f"load average {load:.2f}: other programs will disturb the figures")
    before = xent.get_num_threads()
    try:
        report["ratios"] = [r for shape in args.shapes for r in ratios(shape, args.threads, args.rounds, args.only)]
        print(f"\nIn copies of the logits; `>` marks what exceeds its limit\n\n{table(report['ratios'])}")
        xent.set_num_threads(before)
        report["small"] = None if args.no_small else small_call()
        report["memory"] = [] if args.no_memory else memory(max(args.threads))
        if report["memory"]:
            kib, threads = MEMORY_LIMIT // 1024, max(args.threads)
            print(f"\nPeak memory beyond inputs and outputs ({threads} threads, limit {kib} KiB)\n")
            print(memory_table(report["memory"]))
    finally:
        xent.set_num_threads(before)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    over = exceeded(report)
    print(f"\n{len(over)} limits exceeded" + "".join(f"\n- {line}" for line in over))
    return 1 if args.check and over else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="rows x classes: 8192x1000,1024x32000")
    parser.add_argument("--threads", type=lambda t: [int(n) for n in t.split(",")], default=[1, 2], help="1,2")
    parser.add_argument("--rounds", type=int, default=41, help="per shape (default 41)")
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--no-small", action="store_true", help="leave out the 32 x 10 call")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory table")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a limit is exceeded")
    parser.add_argument("--memory-of", nargs=1, metavar="OPERATION", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- the operations


class Batch:
    """Logits, labels and every array that a call writes to; all resident."""

    def __init__(self, shape: Shape, dtype: Any = np.float32) -> None:
        rng = np.random.default_rng(shape)
        self.logits = np.empty(shape, dtype)
        rng.standard_normal(out=self.logits, dtype=dtype)
        self.logits *= 3
        self.labels = rng.integers(0, shape[1], shape[0])
        self.out = np.full_like(self.logits, np.nan)  # written, so that its pages are there
        self.own = self.logits.copy()  # of the in-place call
        self.lse = np.full(shape[0], np.nan, dtype)

    def restore(self) -> None:
        np.copyto(self.own, self.logits)

    def operations(self) -> dict[str, Callable[[], Any]]:
        z, y, out, own, lse = self.logits, self.labels, self.out, self.own, self.lse
        return {
            "cross_entropy_with_grad": lambda: xent.cross_entropy_with_grad(z, y, out=out),
            "cross_entropy_with_grad, in place": lambda: xent.cross_entropy_with_grad(own, y, out=own),
            "cross_entropy": lambda: xent.cross_entropy(z, y),
            "logsumexp": lambda: xent.logsumexp(z, axis=-1, out=lse),
            "softmax": lambda: xent.softmax(z, axis=-1, out=out),
            "cross_entropy_with_grad, fresh": lambda: xent.cross_entropy_with_grad(z, y),
        }

    def check(self, name: str, value: Any) -> None:
        """Stop unless the result agrees with float64 arithmetic, to 2 ulp of float32; NaN does not."""
        n, classes = self.logits.shape
        dtype = self.logits.dtype
        bound = ULPS if dtype == np.float32 else ULPS_OF_FLOAT64
        loss, array = value if isinstance(value, tuple) else (value, value)
        step = max(1, 2**20 // classes)
        total, worst = 0.0, 0.0
        for first in range(0, n, step):
            z = self.logits[first : first + step].astype(np.float64)
            rows, labels = np.arange(len(z)), self.labels[first : first + step]
            top = z.max(axis=1, keepdims=True)
            e = np.exp(z - top)
            sums = e.sum(axis=1, keepdims=True)
            expected = (top + np.log(sums))[:, 0]
            total += float(np.sum(expected - z[rows, labels]))
            if name != "logsumexp":
                at_label = e[rows, labels].copy()
                if name != "softmax":  # p - 1 = -(the other terms) / sum, without a difference
                    e[rows, labels] = 0
                    at_label = -e.sum(axis=1)
                e[rows, labels] = at_label
                expected = np.divide(e, sums if name == "softmax" else n * sums, out=e)
            if name != "cross_entropy":
                got = array[first : first + step]
                error = np.max(np.abs(got - expected) / np.spacing(np.abs(expected).astype(dtype)))
                worst = max(worst, float(error)) if error == error else float("inf")
        if name.startswith("cross_entropy"):
            error = abs(float(loss) - total / n) / float(np.spacing(dtype.type(total / n)))
            worst = max(worst, error) if error == error else float("inf")
        if not worst <= bound:
            raise SystemExit(f"{name}, {n} x {classes}: wrong by {worst:.3g} ulp; nothing was timed")


# ---- speed


def timed(run: Callable[[], Any], repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def ratios(shape: Shape, threads: list[int], rounds: int, only: str) -> list[dict[str, Any]]:
    """One record per operation and number of threads."""
    batch = Batch(shape)
    jobs = {(name, t): run for name, run in batch.operations().items() if only in name for t in threads}
    for (name, t), run in jobs.items():
        xent.set_num_threads(t)
        batch.restore()
        batch.check(name, run())
    turns: dict[tuple[str, int], Callable[[], Any]] = {
        ("copy", 1): lambda: np.copyto(batch.out, batch.logits),
        ("copy, fresh", 1): batch.logits.copy,
        **jobs,
    }
    seconds: dict[tuple[str, int], list[float]] = {turn: [] for turn in turns}
    order = list(turns)
    shuffle = np.random.default_rng(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for turn in order:
            xent.set_num_threads(turn[1])
            batch.restore()
            seconds[turn].append(timed(turns[turn]))
    copies = seconds.pop(("copy", 1))
    records = []
    for (name, t), times in seconds.items():
        each = [mine / copy for mine, copy in zip(times, copies, strict=True)]
        records.append(
            {
                "operation": name,
                "rows": shape[0],
                "classes": shape[1],
                "threads": t,
                "copies": statistics.median(each),
                "quartiles": [float(q) for q in np.quantile(each, [0.25, 0.75])],
                "limit": LIMITS.get(name, {}).get(t),
                "ns_per_logit": 1e9 * statistics.median(times) / batch.logits.size,
                "copy_ns_per_logit": 1e9 * statistics.median(copies) / batch.logits.size,
                "rounds": rounds,
            }
        )
    return records


def table(records: list[dict[str, Any]]) -> str:
    """A row per operation, a column per shape: copies on each number of threads; the limits at the end."""
    threads = list(dict.fromkeys(r["threads"] for r in records))
    by = {(r["operation"], r["rows"], r["classes"], r["threads"]): r for r in records}
    columns = list(dict.fromkeys((r["rows"], r["classes"]) for r in records))
    copy = [next(r["copy_ns_per_logit"] for r in records if (r["rows"], r["classes"]) == c) for c in columns]
    lines = [["one copy, ns per logit", *(f"{ns:.3f}" for ns in copy), ""]]
    for name in dict.fromkeys(r["operation"] for r in records):
        cells = []
        for n, c in columns:
            found = [by[name, n, c, t] for t in threads if (name, n, c, t) in by]
            cells.append(" / ".join(f"{'>' if over(r) else ''}{r['copies']:.2f}" for r in found))
        limits = " / ".join(str(LIMITS.get(name, {}).get(t, "-")) for t in threads)
        lines.append([name, *cells, limits])
    head = f"threads: {' / '.join(map(str, threads))}"
    return markdown([head, *(f"{n} x {c}" for n, c in columns), "limit"], lines)


def over(record: dict[str, Any]) -> bool:
    return record["limit"] is not None and not record["copies"] <= record["limit"]


def small_call(calls: int = 2000, rounds: int = 41) -> dict[str, float]:
    """A 32 x 10 call through Python, in units of `np.add(a, b, out=c)` of the same arrays."""
    batch = Batch(SMALL_SHAPE)
    a, b, c = batch.logits, batch.own, np.empty_like(batch.logits)
    call = batch.operations()["cross_entropy_with_grad"]
    batch.check("cross_entropy_with_grad", call())
    times = [(timed(lambda: np.add(a, b, out=c), calls), timed(call, calls)) for _ in range(rounds)]
    unit, mine = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(mine / unit for unit, mine in times)
    print(f"\n32 x 10: {1e6 * mine:.2f} us, np.add {1e6 * unit:.3f} us: {ratio:.2f} (limit {SMALL_LIMIT:g}, "
          f"aim {SMALL_AIM:g})")  # fmt: skip
    return {"seconds": mine, "add_seconds": unit, "ratio": ratio, "limit": SMALL_LIMIT, "aim": SMALL_AIM}


# ---- memory


def memory(threads: int) -> list[dict[str, Any]]:
    """Growth of the peak by each operation, each in a process of its own."""
    records = []
    for name in (name for name in LIMITS if not name.endswith("fresh")):
        for n, c in MEMORY_SHAPES:
            asked = ["--memory-of", name, "--shapes", f"{n}x{c}", "--threads", str(threads)]
            result = subprocess.run([sys.executable, __file__, *asked], capture_output=True, text=True)
            if result.returncode:
                raise SystemExit(result.stderr)
            record = {"operation": name, "rows": n, "classes": c, "bytes": int(result.stdout)}
            records.append(record | {"limit": MEMORY_LIMIT})
    return records


def memory_table(records: list[dict[str, Any]]) -> str:
    return pivot(
        records,
        lambda r: r["operation"],
        lambda r: f"{r['rows']} x {r['classes']}",
        lambda r: f"{r['bytes'] / 1024:.0f}",
        "KiB",
    )


def memory_growth(name: str, shape: Shape, threads: int) -> int:
    """Bytes by which one call, this process's first, raises the peak of its resident set."""
    batch = Batch(shape)
    call = batch.operations()[name]
    xent.set_num_threads(threads)
    before = reset_peak()
    call()
    return max(0, peak() - before)


def reset_peak() -> int:
    """Forget earlier peaks where the system allows it (Linux); the peak from now on, in bytes."""
    with contextlib.suppress(OSError):  # without it: no array was larger before, so the old peak is the size now
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    import resource  # not on Windows, which has no /proc either: no memory table there

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ---- the verdict


def exceeded(report: dict[str, Any]) -> list[str]:
    lines = [
        "{operation}, {rows} x {classes}, threads={threads}: {copies:.3f} copies, limit {limit}".format(**r)
        for r in report["ratios"]
        if over(r)
    ]
    small = report["small"]
    if small and not small["ratio"] <= small["limit"]:
        lines.append(f"32 x 10: {small['ratio']:.2f} np.add, limit {small['limit']:g}")
    lines += [
        "{operation}, {rows} x {classes}: {bytes} bytes, limit {limit}".format(**r)
        for r in report["memory"]
        if not r["bytes"] <= r["limit"]
    ]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
