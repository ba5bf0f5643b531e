"""The report: every field against the reference and against plain NumPy, every verdict, what is printed and drawn."""

import dataclasses
import importlib.util
import itertools
import math

import numpy as np
import pytest
from test_mlp import batch, network

import xent
from xent import reference as ref
from xent._flow import GradientFlow, signal_of, verdict_of


def close(a, b, eps):
    """Two reports: the same words and places, norms within some roundings."""
    assert a.samples == b.samples
    assert math.isclose(a.loss, b.loss, rel_tol=eps)
    for got, wanted in zip(a.layers, b.layers, strict=True):
        for field in dataclasses.fields(got):
            mine, theirs = getattr(got, field.name), getattr(wanted, field.name)
            if isinstance(mine, float):
                assert math.isclose(mine, theirs, rel_tol=eps, abs_tol=eps), field.name
            else:
                assert mine == theirs, field.name


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid", ["leaky_relu", "softplus"]])
@pytest.mark.parametrize("given", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1}])
def test_the_reference_reports_the_same(activation, given, dtype, tier):
    params = network([5, 7, 6, 3], dtype)
    params[1] = (params[1][0], None)
    x, targets = batch((6, 5), 3, dtype)
    x[:, 2] = 0.0
    found, expected = (
        f(params, x, targets, activation=activation, **given) for f in (xent.gradient_flow, ref.gradient_flow)
    )
    close(found, expected, 100 * float(np.finfo(dtype).eps))  # as for mlp_with_grad
    assert found.layers[0].zero_inputs == [2]
    assert found.layers[1].bias_norm is None


def test_the_fields_by_plain_numpy():
    params, (x, targets) = network([5, 8, 3]), batch((7, 5), 3)
    report = xent.gradient_flow(params, x, targets, reduction="sum")
    (w0, b0), (w1, b1) = params
    z = x @ w0.T + b0
    h = np.maximum(z, 0)
    dz1 = xent.softmax(h @ w1.T + b1, axis=1)
    dz1[np.arange(7), targets] -= 1
    dz0 = dz1 @ w1 * (z > 0)
    for flow, dz, inputs, dx in ((report.layers[0], dz0, x, dz0 @ w0), (report.layers[1], dz1, h, dz1 @ w1)):
        each = [np.linalg.norm(np.outer(d, [*i, 1.0])) for d, i in zip(dz, inputs, strict=True)]
        total = math.hypot(np.linalg.norm(dz.T @ inputs), np.linalg.norm(dz.sum(0)))
        assert flow.weight_norm == pytest.approx(np.linalg.norm(dz.T @ inputs), rel=1e-12)
        assert flow.bias_norm == pytest.approx(np.linalg.norm(dz.sum(0)), rel=1e-12)
        assert flow.sample_norm_sum == pytest.approx(sum(each), rel=1e-12)
        assert flow.cancelled == pytest.approx(1 - total / sum(each), rel=1e-12)
        assert flow.dead_units == np.flatnonzero((dz == 0).all(0)).tolist()
        assert flow.zero_samples == np.flatnonzero((dz == 0).all(1)).tolist()
        assert flow.silent_below == np.flatnonzero((dx == 0).all(1)).tolist()
    assert report.loss == pytest.approx(7 * xent.cross_entropy(h @ w1.T + b1, targets), rel=1e-12)


# ---- where it died


def test_a_network_built_to_be_dead(dtype):
    """Biases that no input reaches: every hidden unit of layer 1 is off."""
    params, (x, targets) = network([6, 8, 8, 4], dtype), batch((10, 6), 4, dtype)
    params[1][1][...] = -100.0
    report = xent.gradient_flow(params, x, targets)
    assert [layer.verdict for layer in report.layers] == ["a", "a", "c"]
    assert report.died_at == 1
    assert report.layers[1].dead_units == list(range(8))
    assert report.layers[2].zero_inputs == list(range(8))
    assert report.layers[1].zero_samples == report.layers[0].zero_samples == list(range(10))
    assert report.layers[1].signal == "zero for all"
    assert report.layers[2].signal == "alive"
    assert "(a) layer 1: zero for every sample, so every layer below is zero too" in str(report)
    assert "(a) layer 0: zero for every sample" in str(report).splitlines()[-1]


def test_a_saturated_network(dtype):
    """tanh is 1 to the last bit; then its slope is 0, as computed."""
    params, (x, targets) = network([6, 8, 4], dtype), batch((10, 6), 4, dtype)
    params[0][1][...] = 1000.0
    report = xent.gradient_flow(params, x, targets, activation="tanh")
    assert [layer.verdict for layer in report.layers] == ["a", "d"]
    assert report.died_at == 0


def test_ignored_samples_are_zero():
    params, (x, targets) = network([5, 6, 3]), batch((4, 5), 3)
    targets[...] = [0, 2, 1, 2]
    report = xent.gradient_flow(params, x, targets, ignore_index=2)
    assert report.layers[1].zero_samples == [1, 3]
    assert report.layers[1].signal == "zero for some"
    assert report.layers[1].silent_below == [1, 3]
    assert xent.gradient_flow(params, x, targets, sample_weight=0.0).died_at == 1


def test_a_nan_is_no_verdict():
    params, (x, targets) = network([5, 6, 3]), batch((4, 5), 3)
    x[1, 1] = np.nan
    report = xent.gradient_flow(params, x, targets)
    assert [layer.verdict for layer in report.layers] == ["?", "?"]
    assert report.died_at is None
    assert math.isnan(report.layers[0].weight_norm)
    assert "not a number" in str(report)


def test_a_sum_that_is_no_number_is_no_verdict():
    """A NaN in an ignored sample, an infinity where relu is off, one sample's overflow: every dz is finite."""
    one, two = np.array([[1.0, 0.0], [0.0, 2.0]]), np.zeros(2)
    nan = [[(one, two)], [[np.nan, 1.0], [1.0, 2.0], [3.0, 4.0]], [-1, 0, 1], {"ignore_index": -1}]
    hidden = [(np.array([[-1.0, 0.5], [-1.0, 1.0]]), two), (np.array([[1.0, 2.0], [0.0, 1.0]]), two)]
    inf = [hidden, [[np.inf, 1.0], [1.0, 2.0]], [0, 1], {}]
    huge = [[(1e-300 * np.eye(2), None)], [[1e300, 2e300]], [0], {"sample_weight": [1e20], "reduction": "sum"}]
    for params, x, targets, options in (nan, inf, huge):
        with np.errstate(all="ignore"):  # NumPy's products warn
            layer = xent.gradient_flow(params, x, targets, **options).layers[0]
        assert layer.verdict == "?", layer
        assert not math.isfinite(layer.weight_norm)
    mine, theirs = (f(*nan[:3], **nan[3]) for f in (xent.gradient_flow, ref.gradient_flow))
    assert str(mine) == str(theirs)
    assert math.isnan(mine.layers[0].cancelled)
    signal = xent.gradient_flow([(np.eye(2), None)], [[np.nan, 1.0]], [0]).layers[0].signal
    assert signal == "not a number"


def test_tiny_and_huge_gradients_keep_their_norms():
    """No square leaves the range: 1e-200 is alive, and 1e200 finite."""
    params, (x, targets) = network([5, 6, 3]), batch((4, 5), 3)
    plain = xent.gradient_flow(params, x, targets, reduction="sum")
    for scale in (1e-200, 1e200):
        scaled = xent.gradient_flow(params, x, targets, reduction="sum", sample_weight=scale)
        for got, wanted in zip(scaled.layers, plain.layers, strict=True):
            assert got.verdict == wanted.verdict == "d"
            assert got.weight_norm == pytest.approx(scale * wanted.weight_norm, rel=1e-12)
            assert got.bias_norm == pytest.approx(scale * wanted.bias_norm, rel=1e-12)
            assert got.sample_norm_sum == pytest.approx(scale * wanted.sample_norm_sum, rel=1e-12)


def test_cancelling_to_within_rounding(dtype):
    """Balanced classes at a start with zero weights: p = 1/3 is not a binary number, the bias's sum is rounding."""
    params = [(np.zeros((3, 5), dtype), np.zeros(3, dtype))]
    x, _ = batch((6, 5), 3, dtype)
    report = xent.gradient_flow(params, x, np.arange(6) % 3)
    assert report.layers[0].words == "alive (the bias's gradient cancelled over the batch)"
    same_x = np.tile(x[:1], (6, 1))
    assert xent.gradient_flow(params, same_x, np.arange(6) % 3).layers[0].verdict == "b"


# ---- the verdicts


def test_every_combination_has_a_verdict():
    facts = {"silent": [False, True], "inputs_silent": [False, True], "weight_left": [False, True]}
    for values in itertools.product(*facts.values(), [None, False, True], [False, True]):
        given = dict(zip([*facts, "bias_left", "lowest"], values, strict=True))
        verdict, words = verdict_of(samples=3, finite=True, **given)
        assert verdict in "abcd"
        assert (verdict == "a") == given["silent"]
        assert ("below" in words) == (not given["lowest"] and verdict in "ab")
        if not given["silent"]:
            only_inputs = given["inputs_silent"] and given["bias_left"] is not False
            expected = "c" if only_inputs else "d" if given["weight_left"] and not given["inputs_silent"] else "b"
            assert verdict == expected
    given = {"silent": True, "inputs_silent": True, "weight_left": False, "bias_left": None, "lowest": True}
    assert verdict_of(samples=0, finite=True, **given) == ("a", "no samples")
    assert verdict_of(samples=1, finite=False, **given)[0] == "?"


def test_the_words_for_the_signal():
    assert signal_of(4, 4, 0.0, 0.0) == "zero for all"
    assert signal_of(4, 0, 1.0, 1.0) == signal_of(4, 1, 0.0, 0.0) == "zero after summing"
    assert signal_of(4, 1, 2.0, 1.0) == "zero for some"
    assert signal_of(4, 0, 2.0, 1.0) == "alive"
    assert signal_of(4, 0, math.nan, 1.0) == signal_of(4, 0, math.inf, 1.0) == "not a number"


@pytest.mark.parametrize("sizes", [[0, 4, 3], [4, 0, 3], [4, 5, 3]])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_nothing_there(sizes, rows, dtype):
    params, (x, targets) = network(sizes, dtype), batch((rows, sizes[0]), 3, dtype)
    report = xent.gradient_flow(params, x, targets)
    close(report, ref.gradient_flow(params, x, targets), 1e-5)
    assert str(report)
    assert report.samples == rows


# ---- printed and drawn


def test_str():
    report = xent.gradient_flow(network([5, 7, 6, 3]), *batch((6, 5), 3))
    lines = str(report).splitlines()
    assert lines[0].startswith("gradient flow, 6 samples, loss ")
    assert lines[1].split()[0] == "layer"
    assert [line.split(":")[0] for line in lines[3:6]] == ["2", "1", "0"]  # from the output down
    assert "6 -> 3 identity" in lines[3]
    assert "5 -> 7 relu" in lines[5]
    assert [line[:12] for line in lines[6:]] == ["(d) layer 2:", "(d) layer 1:", "(d) layer 0:"]
    assert all(len(line) < 160 for line in lines)


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    report = xent.gradient_flow(network([5, 7, 6, 3]), *batch((6, 5), 3))
    path = tmp_path / "flow.png"
    figure = report.plot(str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    norms, shares = figure.axes
    assert [line.get_ydata()[0] for line in norms.lines][1] == report.layers[0].weight_norm
    assert len(shares.containers) == 4
    params = network([5, 7, 3], bias=False)
    params[0][0][...] = 0.0
    assert xent.gradient_flow(params, *batch((6, 5), 3)).plot() is not None  # zeros on an axis of logarithms


def test_plot_without_matplotlib(monkeypatch):
    report = GradientFlow(0.0, 0, [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'xent\[plot\]'"):
        report.plot()
