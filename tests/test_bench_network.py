"""`xent bench` on networks: every adapter computes what it is timed for, and a wrong one is named and not timed."""

import json
from pathlib import Path

import numpy as np
import pytest

import xent
from xent.cli import bench_network, main, network_peers
from xent.cli.network_peers import BARE, OURS, STEPS, WITH_NORMS, Problem

SHAPE = (9, (7, 6, 5, 4))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(bench_network, "QUICK_SHAPES", [SHAPE])
    monkeypatch.setattr(bench_network, "TIMED_AT_LEAST", 1e-5)
    monkeypatch.setattr("xent.cli.bench.QUICK_SHAPES", [(4, 3)])
    monkeypatch.setattr("xent.cli.bench.SECONDS", {True: 0.0, False: 0.0})


@pytest.mark.parametrize("name", [name for name in STEPS if name != BARE])
def test_every_step_is_right(name):
    pytest.importorskip(STEPS[name][0])
    (record,) = [r for r in bench_network.measure(SHAPE, [BARE, name], 1, 0.0) if r["library"] == name]
    assert record["problem"] == ""
    assert record["ratio"] > 0.0
    assert record["rounds"] >= bench_network.FEWEST_ROUNDS


def test_the_truth_is_the_reference():
    problem = Problem.of(*SHAPE)
    loss, grads = problem.truth()
    exact, expected = xent.reference.mlp_with_grad(problem.params, problem.x, problem.labels)
    assert loss == pytest.approx(exact, rel=1e-12)
    for (weight, bias), grad in zip(grads, expected, strict=True):
        np.testing.assert_allclose(weight, grad.weight, atol=1e-12)
        np.testing.assert_allclose(bias, grad.bias, atol=1e-12)


def test_the_products_are_those_of_the_step():
    """Forward in order, then from the top dW and, but for the first layer, dX; and every number stays finite."""
    problem = Problem.of(*SHAPE)
    todo = problem.products()
    assert [(left.shape, right.shape, out.shape) for left, right, out in todo] == [
        ((9, 7), (7, 6), (9, 6)),
        ((9, 6), (6, 5), (9, 5)),
        ((9, 5), (5, 4), (9, 4)),
        ((4, 9), (9, 5), (4, 5)),
        ((9, 4), (4, 5), (9, 5)),
        ((5, 9), (9, 6), (5, 6)),
        ((9, 5), (5, 6), (9, 6)),
        ((6, 9), (9, 7), (6, 7)),
    ]
    run, _ = network_peers.bare(problem, 1)
    run()
    assert all(np.isfinite(out).all() for _, _, out in todo)


def test_bench_shows_networks(tiny, tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--peers", "numpy", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert "cost in bare products" in text
    assert "9, 7-6-5-4" in text
    records = json.loads(path.read_text())["networks"]
    assert [record["library"] for record in records] == [BARE, OURS, WITH_NORMS, "numpy"]
    assert records[0]["ratio"] == 1.0
    assert records[2]["over_plain"] > 0.0


def test_bench_names_a_wrong_network(tiny, monkeypatch, capsys):
    right = xent.mlp_with_grad

    def wrong(*args, **options):
        loss, grads, *rest = right(*args, **options)
        return (loss, [grad._replace(bias=grad.bias * np.nan) for grad in grads], *rest)

    monkeypatch.setattr(xent, "mlp_with_grad", wrong)
    assert main(["bench", "--quick", "--peers", "numpy"]) == 1
    assert "WRONG: xent, network 9, [7, 6, 5, 4]: a gradient of layer 0 differs" in capsys.readouterr().out


def test_no_networks_where_shapes_are_asked_for(tiny, capsys):
    assert main(["bench", "--quick", "--peers", "numpy", "--shapes", "4x3"]) == 0
    assert "bare products" not in capsys.readouterr().out


def test_the_limits_are_of_networks_that_are_measured():
    text = (Path(__file__).parent.parent / "benchmarks" / "networks.py").read_text()
    for rows, sizes in bench_network.FULL_SHAPES[:3]:
        assert f"({rows}, {sizes})" in text
