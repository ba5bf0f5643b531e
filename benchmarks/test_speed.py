"""Loss and gradient, loss, log-sum-exp and softmax, with the copy of the same logits beside them.

    python -m pytest benchmarks
    python -m pytest benchmarks -k "1024x32000 and float32" --benchmark-sort=name

The name of the test is the operation that it times; what is not a long row is in test_points.py. For ratios to the
copy, measured in turns, see ratios.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ratios import Batch

SECONDS, FEWEST, MOST = 0.2, 5, 1000  # per benchmark: time, rounds
SHORTEST = 1e-4  # seconds: shorter calls are timed several at once


@pytest.fixture(autouse=True)
def grouped(request: pytest.FixtureRequest, batch: Batch) -> None:
    """One table per batch: all operations, tiers and the copy together."""
    if "benchmark" in request.fixturenames:
        rows, classes = batch.logits.shape
        request.getfixturevalue("benchmark").group = f"{rows} x {classes}, {batch.logits.dtype}"


def measure(benchmark: Any, run: Callable[[], Any], restore: Callable[[], None] | None = None) -> None:
    """Time calls; the number of rounds follows from how long one takes."""
    if restore:
        restore()
    start = time.perf_counter()
    run()
    once = time.perf_counter() - start
    calls = 1 if restore else max(1, int(SHORTEST / once))  # what is timed at once; restored, only one
    rounds = int(min(MOST, max(FEWEST, SECONDS / (calls * once))))
    benchmark.pedantic(run, setup=restore, rounds=rounds, iterations=calls, warmup_rounds=1)


def checked(batch: Batch, name: str) -> Callable[[], Any]:
    """The operation, after its result has been found right."""
    batch.restore()
    run = batch.operations()[name]
    batch.check(name, run())
    return run


def test_copyto(benchmark: Any, batch: Batch) -> None:
    def run() -> None:
        np.copyto(batch.out, batch.logits)

    run()
    assert batch.out.tobytes() == batch.logits.tobytes()
    measure(benchmark, run)


def test_cross_entropy_with_grad(benchmark: Any, batch: Batch, tier: str, threads: int) -> None:
    measure(benchmark, checked(batch, "cross_entropy_with_grad"))


def test_cross_entropy_with_grad_in_place(benchmark: Any, batch: Batch, tier: str, threads: int) -> None:
    measure(benchmark, checked(batch, "cross_entropy_with_grad, in place"), batch.restore)


def test_cross_entropy_with_grad_fresh(benchmark: Any, batch: Batch, tier: str, threads: int) -> None:
    """The gradient in a new array: allocation, page faults and release included."""
    measure(benchmark, checked(batch, "cross_entropy_with_grad, fresh"))


def test_cross_entropy(benchmark: Any, batch: Batch, tier: str, threads: int) -> None:
    measure(benchmark, checked(batch, "cross_entropy"))


def test_logsumexp(benchmark: Any, batch: Batch, tier: str, threads: int) -> None:
    measure(benchmark, checked(batch, "logsumexp"))


def test_softmax(benchmark: Any, batch: Batch, tier: str, threads: int) -> None:
    measure(benchmark, checked(batch, "softmax"))
