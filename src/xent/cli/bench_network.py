"""The part of `xent bench` on networks: a training step of each library, in units of the step's bare products.

The unit is what `np.matmul(..., out=)` takes for the same products in the same order: forward, then the gradients of
the weights and, but for the first layer, of the inputs. Results are compared with float64 before they are timed; all
libraries take turns within a round.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from xent.cli import _console
from xent.cli.network_peers import BARE, OURS, STEPS, WITH_NORMS, Problem, Run

Shape = tuple[int, tuple[int, ...]]  # rows, and the sizes from the input to the classes
Record = dict[str, Any]

QUICK_SHAPES: list[Shape] = [(32, (64, 32, 10)), (128, (784, 128, 10))]
FULL_SHAPES: list[Shape] = [*QUICK_SHAPES, (256, (784, 512, 256, 10)), (512, (784, 1024, 1024, 10))]
TIMED_AT_LEAST = 1e-3  # seconds: shorter steps are repeated until a measurement takes this long
FEWEST_ROUNDS = 7
MANY_BLAS = "as started"


def measure(shape: Shape, names: Sequence[str], threads: int, seconds: float) -> list[Record]:
    """Check, then time, one network in each library: `ratio` is the median over the rounds of step / bare products."""
    problem = Problem.of(*shape)
    truth = problem.truth()
    runs: dict[str, Run] = {}
    records: list[Record] = []
    for name in names:
        record: Record = {"library": name, "rows": shape[0], "sizes": list(shape[1]), "problem": ""}
        try:
            run, values = STEPS[name][1](problem, threads)
            result = run()
            if values is not None:
                record["problem"] = _problem(values(result), truth)
        except Exception as error:  # named in the report, not timed, and the others go on
            record["problem"] = f"{type(error).__name__}: {error}"
        records.append(record)
        if not record["problem"]:
            runs[name] = run
    times = _rounds(runs, seconds)
    for record in records:
        if not record["problem"]:
            ratios = [mine / unit for mine, unit in zip(times[record["library"]], times[BARE], strict=True)]
            record["seconds"] = statistics.median(times[record["library"]])
            record["ratio"] = statistics.median(ratios)
            record["quartiles"] = [float(q) for q in np.quantile(ratios, [0.25, 0.75])]
            record["rounds"] = len(ratios)
    own = {record["library"]: record for record in records if not record["problem"]}
    if OURS in own and WITH_NORMS in own:
        extra = [a / b for a, b in zip(times[WITH_NORMS], times[OURS], strict=True)]
        own[WITH_NORMS]["over_plain"] = statistics.median(extra)
    return records


def _problem(got: Any, truth: Any) -> str:
    """What is wrong with a result, "" if nothing; against float64. NaN is wrong."""
    if not abs(got[0] - truth[0]) <= 1e-5 * abs(truth[0]):
        return f"loss {got[0]!r} instead of {truth[0]!r}"
    for i, (mine, expected) in enumerate(zip(got[1], truth[1], strict=True)):
        for a, b in zip(mine, expected, strict=True):
            if not (a.shape == b.shape and np.max(np.abs(a - b)) <= 1e-4 * np.max(np.abs(b))):
                return f"a gradient of layer {i} differs from float64"
    return ""


def _rounds(runs: dict[str, Run], seconds: float) -> dict[str, list[float]]:
    """Seconds per step of each, all in turn within a round, in a new order each round."""
    repeats = {}
    for name, run in runs.items():
        _timed(run, 2)
        repeats[name] = max(1, int(TIMED_AT_LEAST / max(_timed(run, 3), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    shuffle = np.random.default_rng(0).shuffle
    start = time.perf_counter()
    done = 0
    while done < FEWEST_ROUNDS or time.perf_counter() - start < seconds:
        shuffle(order)
        for name in order:
            _timed(runs[name], 1)  # caches as this library leaves them, others' threads asleep
            times[name].append(_timed(runs[name], repeats[name]))
        done += 1
    return times


def _timed(run: Run, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


@contextmanager
def blas_threads(threads: int) -> Iterator[str]:
    """NumPy's products with so many threads, where threadpoolctl can set them; yields how many they have."""
    if not _console.installed("threadpoolctl"):
        yield os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or MANY_BLAS
        return
    with _console.optional("threadpoolctl", "test").threadpool_limits(threads, user_api="blas"):
        yield str(threads)


def report(shapes: Sequence[Shape], names: Sequence[str], threads: int, seconds: float) -> list[Record]:
    """Measure and print one table; the records of all shapes."""
    present = [BARE, OURS, WITH_NORMS, *(name for name in names if _console.installed(STEPS[name][0]))]
    with blas_threads(threads) as blas:
        records = [record for shape in shapes for record in measure(shape, present, threads, seconds)]
    rows = []
    for shape in shapes:
        here = {r["library"]: r for r in records if (r["rows"], tuple(r["sizes"])) == shape}
        cells = [f"{here[name]['ratio']:.3f}" if not here[name]["problem"] else "wrong" for name in present[1:]]
        unit = f"{1e6 * here[BARE]['seconds']:.4g} us"
        rows.append([f"{shape[0]}, {'-'.join(map(str, shape[1]))}", unit, *cells])
    _console.table(
        ["batch, sizes", f">{BARE}", *(f">{name}" for name in present[1:])],
        rows,
        title=f"\nnetwork, loss + all gradients, float32: cost in bare products (threads: {threads}; BLAS: {blas})",
    )
    return records
