"""What is not a long row of contiguous float32: few classes, very long rows, small calls, layouts, dtypes, growth,
other libraries. 2 threads, the live tier; results are checked before they are timed.

    python -m pytest benchmarks/test_points.py

For ratios, measured in turns, see shapes.py, growth.py and report.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shapes
from growth import CLASSES, check
from ratios import SMALL_SHAPE, Batch
from test_speed import checked, measure

import xent
from xent.cli.bench_measure import problem_of
from xent.cli.peers import OPERATIONS, OURS, PEERS

THREADS = 2
FEW = [*shapes.FEW, *((2**18 // c, c) for c in (1, 2, 4, 8, 16, 17, 64, 129, 300))]
LONG = [(2**22 // c, c) for c in (1000, 10_000, 100_000, 1_000_000)]
LIBRARIES: dict[str, Any] = {"xent": ("xent", OURS[0]), **PEERS}
del LIBRARIES["torch.compile"]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = xent.get_num_threads()
    xent.set_num_threads(THREADS)
    yield
    xent.set_num_threads(before)


def by_name(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else np.dtype(value).name


@pytest.mark.parametrize("size", FEW, ids=by_name)
def test_few_classes(benchmark: Any, size: tuple[int, int]) -> None:
    benchmark.group = "loss and gradient, few classes"
    measure(benchmark, checked(Batch(size), "cross_entropy_with_grad"))


@pytest.mark.parametrize("size", LONG, ids=by_name)
@pytest.mark.parametrize("how", ["cross_entropy_with_grad", "cross_entropy_with_grad, fresh"], ids=["out", "fresh"])
def test_long_rows(benchmark: Any, size: tuple[int, int], how: str) -> None:
    benchmark.group = "loss and gradient, 2^22 logits in long rows"
    measure(benchmark, checked(Batch(size), how))


@pytest.mark.parametrize("size", [SMALL_SHAPE, (1, 1000)], ids=by_name)
@pytest.mark.parametrize("name", ["cross_entropy_with_grad", "cross_entropy", "logsumexp", "softmax"])
def test_small_call(benchmark: Any, size: tuple[int, int], name: str) -> None:
    benchmark.group = f"small calls, {size[0]} x {size[1]}"
    measure(benchmark, checked(Batch(size), name))


@pytest.mark.parametrize("name", shapes.LAYOUTS)
def test_layout(benchmark: Any, name: str) -> None:
    benchmark.group = "loss and gradient, other layouts"
    ours, _ = shapes.layout(np.random.default_rng(0), name)
    measure(benchmark, ours["loss and gradient"])


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), *shapes.kinds()], ids=by_name)
@pytest.mark.parametrize("size", [(16384, 10), (1024, 1000)], ids=by_name)
def test_dtype(benchmark: Any, dtype: Any, size: tuple[int, int]) -> None:
    benchmark.group = f"loss and gradient, {size[0]} x {size[1]}"
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal(size, dtype=np.float32).astype(dtype), rng.integers(0, size[1], size[0])
    out = np.empty_like(z)
    call = shapes.pairs(z, out, y, -1)["loss and gradient"]
    shapes.check_dtype(z, out, y, call)
    measure(benchmark, call)


@pytest.mark.parametrize("power", range(3, 8))
def test_growth(benchmark: Any, power: int) -> None:
    benchmark.group = "loss and gradient in place, rows of 1,000"
    rng, rows = np.random.default_rng(power), 10**power // CLASSES
    z, y = rng.standard_normal((rows, CLASSES), dtype=np.float32), rng.integers(0, CLASSES, rows)
    check(z, y)
    measure(benchmark, lambda: xent.cross_entropy_with_grad(z, y, out=z))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=by_name)
def test_library(benchmark: Any, library: str, operation: str, dtype: type) -> None:
    module, make = LIBRARIES[library]
    pytest.importorskip(module)
    peer = make(THREADS)
    if operation not in peer.jobs:
        pytest.skip(f"{library} has no {operation}")
    benchmark.group = f"libraries, {operation}, 1024 x 1000, {np.dtype(dtype).name}"
    batch = Batch((1024, 1000), dtype)
    job = peer.jobs[operation](batch.logits, batch.labels)
    assert not problem_of(operation, job.values(job.run()), batch.logits, batch.labels)
    measure(benchmark, job.run)
