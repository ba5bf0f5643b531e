"""Fixtures of the benchmarks: a grid of shapes, dtypes and tiers; every result is checked before it is timed.

By default the whole grid of shapes runs in float32 on the live tier, and batches of up to 2^17 logits also in
float64 and on the other tiers. `--all-combinations` leaves out nothing but what does not fit into memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xent
from xent import _kernels
from xent.cli.bench import FULL_SHAPES

sys.path.insert(0, str(Path(__file__).parent))
from ratios import Batch, Shape

SHAPES: list[Shape] = FULL_SHAPES
DTYPES = [np.float32, np.float64]
FEW_LOGITS = 2**17
ARRAYS = 5  # logits, two outputs, one allocated by the call, room for the check


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-combinations", action="store_true", help="every shape, dtype and tier (long)")


def memory() -> float:
    """Bytes of main memory; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out combinations that are not asked for or do not fit."""
    kept, left_out = [], []
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        rows, classes = params.get("shape", (0, 0))
        dtype, tier = params.get("dtype", np.float32), params.get("tier", _kernels.tier())
        usual = (dtype == np.float32 and tier == _kernels.tier()) or rows * classes <= FEW_LOGITS
        fits = ARRAYS * rows * classes * np.dtype(dtype).itemsize < memory() / 2
        wanted = fits and (usual or config.getoption("--all-combinations"))
        (kept if wanted else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}", scope="module")
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name, scope="module")
def dtype(request: pytest.FixtureRequest) -> type:
    return request.param


@pytest.fixture(params=_kernels.tiers(), scope="module")
def tier(request: pytest.FixtureRequest) -> Iterator[str]:
    """The tier that runs, read back from the table that executes."""
    before = _kernels.tier()
    _kernels.set_tier(request.param)
    assert _kernels.tier() == request.param
    yield request.param
    _kernels.set_tier(before)


@pytest.fixture(scope="module")
def batch(shape: Shape, dtype: type) -> Batch:
    return Batch(shape, dtype)


@pytest.fixture(params=[1, 2], ids=lambda n: f"{n}thread{'s'[: n > 1]}", scope="module")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = xent.get_num_threads()
    xent.set_num_threads(request.param)
    yield request.param
    xent.set_num_threads(before)
