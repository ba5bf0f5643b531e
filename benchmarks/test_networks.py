"""A training step of networks, with the bare products of the same step beside it.

    python -m pytest benchmarks/test_networks.py

For ratios to the products, measured in turns, see networks.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_speed import measure

from xent.cli.bench_network import FULL_SHAPES, _problem
from xent.cli.network_peers import BARE, STEPS, Problem


@pytest.fixture(params=FULL_SHAPES, ids=lambda shape: f"{shape[0]}x{'-'.join(map(str, shape[1]))}", scope="module")
def network(request: pytest.FixtureRequest) -> tuple[Problem, Any]:
    problem = Problem.of(*request.param)
    return problem, problem.truth()


@pytest.mark.parametrize("name", STEPS)
def test_step(benchmark: Any, network: tuple[Problem, Any], threads: int, name: str) -> None:
    pytest.importorskip(STEPS[name][0])
    problem, truth = network
    run, values = STEPS[name][1](problem, threads)
    result = run()
    if name != BARE:
        assert values is not None
        assert not _problem(values(result), truth)
    benchmark.group = f"network {len(problem.x)}, {problem.x.shape[1]} inputs, {np.dtype(problem.x.dtype)}"
    measure(benchmark, run)
