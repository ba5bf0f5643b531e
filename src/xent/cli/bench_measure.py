"""How `xent bench` times one operation on one batch in several libraries: checked first, then in turns.

OpenMP's threads (PyTorch, scikit-learn) wait busily for some milliseconds after a call, and would take a core from
whoever comes next: after a turn of such a library all rest for `REST`, in which they fall asleep, but this thread does
not: a processor that has slept is slow for some 10 ms, and takes up to twice as long with two threads. Every turn
begins with untimed calls for `WARM`, so that nobody pays for a core or for threads of its own that have slept; then as
many calls as take `TIMED_AT_LEAST` are timed together.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xent.cli.peers import LOG_SOFTMAX, LOSS_GRAD, LSE, Job, Peer

Record = dict[str, Any]
Shape = tuple[int, int]

REST = 20e-3  # seconds; libgomp's threads wait for up to 10 ms
WARM = 3e-3  # seconds, and at least one call
TIMED_AT_LEAST = 2e-3  # seconds: shorter calls are repeated until a measurement takes this long
FEWEST_ROUNDS, MOST_ROUNDS = 5, 60


def measure(operation: str, shape: Shape, dtype: np.dtype[Any], libraries: list[Peer], seconds: float) -> list[Record]:
    """Check, then time, one operation on one shape in every library that has it."""
    rng = np.random.default_rng(shape)
    logits = (3.0 * rng.standard_normal(shape, dtype=np.float32)).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    jobs: dict[str, Job] = {}
    records: list[Record] = []
    for library in libraries:
        if operation not in library.jobs:
            continue
        record: Record = {"operation": operation, "library": library.name}
        record |= {"rows": shape[0], "classes": shape[1], "logits": str(dtype)}
        problem = ""
        try:
            job = library.jobs[operation](logits, labels)
            job.reset()
            problem = problem_of(operation, job.values(job.run()), logits, labels)
        except Exception as error:  # named in the report, not timed, and the others go on
            problem = f"{type(error).__name__}: {error}"
        records.append(record | {"correct": not problem, "problem": problem})
        if not problem:
            jobs[library.name] = job
    busy = {library.name for library in libraries if library.busy}
    timings = rounds(jobs, busy, logits, seconds)
    copies = timings.pop("copy")
    for record in records:
        if record["correct"]:
            times = timings[record["library"]]
            ratios = [mine / copy for mine, copy in zip(times, copies, strict=True)]
            record["seconds"] = statistics.median(times)
            record["copy_seconds"] = statistics.median(copies)
            record["ns_per_logit"] = 1e9 * record["seconds"] / logits.size
            record["copies"] = statistics.median(ratios)
            record["copies_quartiles"] = [float(q) for q in np.quantile(ratios, [0.25, 0.75])]
            record["rounds"] = len(times)
    return records


def rounds(jobs: dict[str, Job], busy: set[str], logits: NDArray[Any], seconds: float) -> dict[str, list[float]]:
    """Seconds per call of each job and of "copy", all in turn within a round, in a new order each round."""
    target = np.empty_like(logits)
    turns = {"copy": Job(lambda: np.copyto(target, logits), lambda value: ()), **jobs}
    repeats = {name: max(1, int(TIMED_AT_LEAST / max(_timed(job, 1), 1e-7))) for name, job in turns.items()}
    times: dict[str, list[float]] = {name: [] for name in turns}
    order = list(turns)
    shuffle = np.random.default_rng(0).shuffle
    start = time.perf_counter()
    for done in range(MOST_ROUNDS):
        if done >= FEWEST_ROUNDS and time.perf_counter() - start > seconds:
            break
        shuffle(order)
        for name in order:
            times[name].append(_timed(turns[name], repeats[name]))
            if name in busy:
                rest()
    return times


def rest() -> None:
    """Let the threads of others fall asleep; awake, for the sake of the processor's clock."""
    end = time.perf_counter() + REST
    while time.perf_counter() < end:
        pass


def _timed(job: Job, repeats: int) -> float:
    """Seconds per call, after untimed ones: caches as the library leaves them, its threads awake."""
    run = job.run
    job.reset()
    start = time.perf_counter()
    run()
    while time.perf_counter() - start < WARM:
        run()
    job.reset()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def problem_of(operation: str, values: tuple[Any, ...], logits: NDArray[Any], labels: NDArray[Any]) -> str:
    """What is wrong with a result, "" if nothing; against float64, in chunks of rows. NaN is wrong."""
    n, classes = logits.shape
    step = max(1, 2**21 // max(classes, 1))
    losses = 0.0
    relative = 2e-4 if logits.dtype == np.float32 else 1e-11  # sums of a million float32 leave half of it
    for first in range(0, n, step):
        rows = slice(first, first + step)
        z = logits[rows].astype(np.float64)
        top = z.max(axis=1, keepdims=True)
        e = np.exp(z - top)
        total = e.sum(axis=1, keepdims=True)
        lse = (top + np.log(total))[:, 0]
        if operation == LSE:
            expected, got = lse, values[0][rows]
        else:
            e = z - lse[:, None] if operation == LOG_SOFTMAX else np.divide(e, total, out=e)
            if operation == LOSS_GRAD:
                here = np.arange(len(z))
                losses += float(np.sum(lse - z[here, labels[rows]]))
                e[here, labels[rows]] -= 1.0
                e /= n
            expected, got = e, values[-1][rows]
        if np.shape(got) != expected.shape:
            return f"shape {np.shape(got)} instead of {expected.shape}"
        scale = 1.0 if operation == LSE else float(np.max(np.abs(expected)))
        if not np.allclose(got, expected, rtol=relative, atol=relative * 1e-2 * scale):
            return f"differs from float64 by up to {float(np.max(np.abs(got - expected))):.3g}"
    if operation == LOSS_GRAD and not abs(float(values[0]) - losses / n) <= relative * losses / n:
        return f"loss {float(values[0])!r} instead of {losses / n!r}"
    return ""
