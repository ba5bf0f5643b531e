"""Everything but long contiguous rows of float32: few classes, small calls, other layouts, other dtypes.

    python benchmarks/shapes.py                  # all parts, 2 threads: about two minutes
    python benchmarks/shapes.py --parts layouts small --threads 1

sweep     ns per logit of `cross_entropy_with_grad` for 1 to 300 classes, 2^21 logits; each beside the median of its
          neighbours
few       ns per row and per logit of `cross_entropy_with_grad`, many rows of few classes
small     calls through Python in `np.add(a, b, out=c)` of 32 x 10
layouts   another class axis, strides, byte order: time by that of the same numbers in contiguous rows
dtypes    float16, bfloat16 (with ml_dtypes) and float64: time by that of float32
options   ns per logit of loss and gradient with smoothed labels, target rows, weights and more

`out=` is given, buffers are warm, what is compared takes turns in one process; figures are medians. Results are checked
before they are timed: layouts against contiguous rows, bit for bit. `report.py` draws them, and has other libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import options as kinds_of_loss
from tables import of_shapes

import xent
from xent import runtime
from xent.cli.bench import cpu_name

Call = Callable[[], Any]
Record = dict[str, Any]
LAYOUTS: dict[str, tuple[tuple[int, ...], int, Callable[[Any], Any]]] = {
    "(8, 21, 256, 256), axis 1": ((8, 21, 256, 256), 1, lambda a: a),
    "(2, 150, 160, 160), axis 1": ((2, 150, 160, 160), 1, lambda a: a),
    "(1000, 8192), axis 0": ((1000, 8192), 0, lambda a: a),
    "(32000, 1024), axis 0": ((32000, 1024), 0, lambda a: a),
    "(1000, 1024), axis 0": ((1000, 1024), 0, lambda a: a),
    "(100000, 64), axis 0": ((100000, 64), 0, lambda a: a),
    "(8192, 1000), Fortran order": ((8192, 1000), 1, np.asfortranarray),
    "(8192, 1000), classes backwards": ((8192, 1000), 1, lambda a: a[:, ::-1]),
    "(4096, 2000), every second class": ((4096, 2000), 1, lambda a: a[:, ::2]),
    "(8192, 1000), every second row": ((8192, 1000), 1, lambda a: a[::2]),
    "(4096, 3000), every third class": ((4096, 3000), 1, lambda a: a[:, ::3]),
    "(65536, 128), every second class backwards": ((65536, 128), 1, lambda a: a[:, ::-2]),
    "(65536, 64), rows backwards": ((65536, 64), 1, lambda a: a[::-1]),
    "(65536, 10), classes backwards": ((65536, 10), 1, lambda a: a[:, ::-1]),
    "(1000, 8192), axis 0, every second row": ((1000, 8192), 0, lambda a: a[:, ::2]),
}
FEW = [(65536, 10), (1_000_000, 3), (65536, 32), (16384, 33), (16384, 100)]
SWEEP, SWEEP_LOGITS = range(1, 301), 2**21
ADD = "np.add, 32 x 10"
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


def sweep(rng: np.random.Generator, rounds: int) -> list[Record]:
    """All numbers of classes take turns, on views of one array: what disturbs some rounds disturbs no number alone."""
    logits, out = rng.standard_normal(SWEEP_LOGITS, dtype=np.float32), np.empty(SWEEP_LOGITS, np.float32)
    calls: dict[str, Call] = {}
    for c in SWEEP:
        rows = SWEEP_LOGITS // c
        z, grad = (a[: rows * c].reshape(rows, c) for a in (logits, out))
        calls[f"{c}"] = checked(z, rng.integers(0, c, rows), grad)
    times = medians(calls, rounds)
    records = [{"rows": SWEEP_LOGITS // c, "classes": c} for c in SWEEP]
    for r in records:
        r["ns_per_logit"] = times[f"{r['classes']}"] / (r["rows"] * r["classes"]) * 1e9
    judge(records)
    return records


def judge(records: list[Record]) -> None:
    """Each beside the median of the three before it and the three after it."""
    times = [r["ns_per_logit"] for r in records]
    for i, record in enumerate(records):
        near = times[max(i - 3, 0) : i] + times[i + 1 : i + 4]
        record["by_neighbours"] = times[i] / statistics.median(near)


def checked(z: Any, y: Any, out: Any) -> Call:
    """`cross_entropy_with_grad` of these, after three of its rows were right."""
    rows, classes = z.shape
    losses, _ = xent.cross_entropy_with_grad(z, y, out=out, reduction="none")
    for i in (0, rows // 2, rows - 1):
        loss, grad = reference_row(z[i], int(y[i]))
        if not (np.allclose(losses[i], loss, 1e-5, 1e-6) and np.allclose(out[i], grad, 1e-5, 1e-7)):
            raise SystemExit(f"{rows} x {classes}, row {i}: wrong; nothing was timed")
    return lambda: xent.cross_entropy_with_grad(z, y, out=out)


def reference_row(logits: Any, label: int) -> tuple[float, Any]:
    """Loss and gradient in float64."""
    z = logits.astype(np.float64) - float(logits.max())
    total = np.exp(z).sum()
    grad = np.exp(z) / total
    grad[label] -= 1
    return float(np.log(total) - z[label]), grad


def few(rng: np.random.Generator, rounds: int) -> list[Record]:
    records = []
    for rows, c in FEW:
        z, y = rng.standard_normal((rows, c), dtype=np.float32), rng.integers(0, c, rows)
        ns = medians({"": checked(z, y, np.empty_like(z))}, 3 * rounds)[""] * 1e9
        records.append({"rows": rows, "classes": c, "ns_per_row": ns / rows, "ns_per_logit": ns / (rows * c)})
    return records


def small(rng: np.random.Generator, rounds: int) -> list[Record]:
    a, b, c = (np.ones((32, 10), np.float32) for _ in range(3))
    z, y, out = rng.standard_normal((32, 10), dtype=np.float32), rng.integers(0, 10, 32), np.empty((32, 10), np.float32)
    row, label, grad = rng.standard_normal((1, 1000), dtype=np.float32), np.array([3]), np.empty((1, 1000), np.float32)
    lse = np.empty(32, np.float32)
    calls = {
        ADD: lambda: np.add(a, b, out=c),
        "cross_entropy_with_grad, 32 x 10": lambda: xent.cross_entropy_with_grad(z, y, out=out),
        "cross_entropy_with_grad, 1 x 1000": lambda: xent.cross_entropy_with_grad(row, label, out=grad),
        "logsumexp of 1000": lambda: xent.logsumexp(row[0]),
        "logsumexp, 32 x 10, axis 1": lambda: xent.logsumexp(z, axis=1, out=lse),
        "softmax, 32 x 10, axis 1": lambda: xent.softmax(z, axis=1, out=out),
        "cross_entropy, 32 x 10, axis 1": lambda: xent.cross_entropy(z, y, axis=1),
    }
    for kind in kinds():
        calls[f"cross_entropy_with_grad, 32 x 10, {kind.name}"] = pairs(z.astype(kind), np.empty_like(z, kind), y, -1)[
            "loss and gradient"
        ]

    def often(call: Call) -> Call:
        def run() -> None:
            for _ in range(1000):
                call()

        return run

    times = medians({name: often(call) for name, call in calls.items()}, 3 * rounds)
    return [{"call": name, "us": t * 1e3, "in_add": t / times[ADD]} for name, t in times.items()]


def pairs(z: Any, out: Any, y: Any, axis: int) -> dict[str, Call]:
    return {
        "loss and gradient": lambda: xent.cross_entropy_with_grad(z, y, axis=axis, out=out),
        "loss": lambda: xent.cross_entropy(z, y, axis=axis),
        "logsumexp": lambda: xent.logsumexp(z, axis=axis),
        "softmax": lambda: xent.softmax(z, axis=axis, out=out),
        "log_softmax": lambda: xent.log_softmax(z, axis=axis, out=out),
    }


def compared(ours: dict[str, Call], plain: dict[str, Call], rounds: int, about: Record) -> list[Record]:
    records = []
    for name in ours:
        times = medians({"ours": ours[name], "plain": plain[name]}, rounds)
        records.append({**about, "operation": name, "ratio": times["ours"] / times["plain"]})
    return records


def layout(rng: np.random.Generator, name: str) -> tuple[dict[str, Call], dict[str, Call]]:
    """The calls in this layout and on contiguous rows of the same numbers, after their results were the same."""
    shape, axis, view = LAYOUTS[name]
    z = view(rng.standard_normal(shape, dtype=np.float32))
    out = view(np.empty(shape, np.float32))
    rows = np.ascontiguousarray(np.moveaxis(z, axis, -1)).reshape(-1, z.shape[axis])
    plain_out = np.empty_like(rows)
    y = rng.integers(0, z.shape[axis], np.moveaxis(z, axis, -1).shape[:-1])
    ours, plain = pairs(z, out, y, axis), pairs(rows, plain_out, y.reshape(-1), -1)
    same(ours["loss and gradient"]()[0], plain["loss and gradient"]()[0], name)
    same(np.moveaxis(out, axis, -1).reshape(rows.shape), plain_out, name)
    return ours, plain


def layouts(rng: np.random.Generator, rounds: int) -> list[Record]:
    return [r for name in LAYOUTS for r in compared(*layout(rng, name), rounds, {"layout": name})]


def kinds() -> list[np.dtype[Any]]:
    """The dtypes beside float32; bfloat16 with ml_dtypes."""
    found = [np.dtype(np.float64), np.dtype(np.float16)]
    with contextlib.suppress(ImportError):
        import ml_dtypes

        found.append(np.dtype(ml_dtypes.bfloat16))
    return found


def dtypes(rng: np.random.Generator, rounds: int) -> list[Record]:
    records = []
    for rows, classes in SHAPES:
        single = rng.standard_normal((rows, classes), dtype=np.float32)
        y, single_out = rng.integers(0, classes, rows), np.empty_like(single)
        for dtype in kinds():
            z = single.astype(dtype)
            out = np.empty_like(z)
            ours, plain = pairs(z, out, y, -1), pairs(single, single_out, y, -1)
            check_dtype(z, out, y, ours["loss and gradient"])
            records += compared(ours, plain, rounds, {"dtype": dtype.name, "rows": rows, "classes": classes})
    return records


def check_dtype(z: Any, out: Any, y: Any, call: Call) -> None:
    """16 bits: float32's loss, and its gradient rounded once. Others: the first row, in float64."""
    loss, _ = call()
    close = 1e-12 if z.dtype == np.float64 else 1e-5
    if z.dtype.itemsize == 2:
        expected, grad = xent.cross_entropy_with_grad(z.astype(np.float32), y)
        same(loss, expected, z.dtype.name)
        same(out.view(np.uint16), grad.astype(z.dtype).view(np.uint16), z.dtype.name)
    elif not np.allclose(out[0] * len(z), reference_row(z[0], int(y[0]))[1], close, close / 1000):
        raise SystemExit(f"{z.dtype}: wrong; nothing was timed")


def options(rng: np.random.Generator, rounds: int) -> list[Record]:
    records = []
    for rows, classes in kinds_of_loss.SHAPES:
        for name, seconds in medians(kinds_of_loss.calls(rng, rows, classes), rounds).items():
            ns = seconds / (rows * classes) * 1e9
            records.append({"operation": name, "rows": rows, "classes": classes, "ns_per_logit": ns})
    return records


PARTS: dict[str, Callable[[np.random.Generator, int], list[Record]]] = {
    "sweep": sweep, "few": few, "small": small, "layouts": layouts, "dtypes": dtypes,
    "options": options,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    xent.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    print(f"xent {xent.__version__}, tier {runtime.config()['tier']}, {args.threads} threads, {cpu_name()}")
    for part in args.parts:
        print(f"\n{of_shapes(part, PARTS[part](rng, args.rounds))}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
