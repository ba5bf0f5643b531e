"""`xent train --hidden`: a network on the digits, its report, and the start that is built to be dead."""

import argparse
import re

import numpy as np
import pytest

import xent
from xent.cli import _console, main, network
from xent.cli._data import load_digits


def arguments(**given):
    usual = {"hidden": (16, 8), "activation": "relu", "seed": 0, "noise": 0.0, "epochs": 2, "batch_size": 64}
    usual |= {"learning_rate": 0.1, "momentum": 0.9, "l2": 1e-4, "iterations": 5}
    return argparse.Namespace(**(usual | given))


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_it_reaches_what_is_required(activation, capsys):
    assert main(["train", "--hidden", "128,64", "--activation", activation]) == 0
    text = capsys.readouterr().out
    assert "layers 64 - 128 - 64 - 10" in text
    found = re.search(r"([\d.]+) on those held out", text)
    assert float(found[1]) >= 0.97


def test_the_same_seed_is_the_same_run(capsys):
    texts = []
    for seed in ("3", "3", "4"):
        assert main(["train", "--hidden", "32", "--epochs", "3", "--noise", "0.1", "--seed", seed]) in (0, 1)
        texts.append([line for line in capsys.readouterr().out.splitlines() if "time" not in line])
    assert texts[0] == texts[1] != texts[2]


def test_a_network_that_learns_nothing_fails(capsys):
    assert main(["train", "--hidden", "8", "--epochs", "1", "--learning-rate", "1e-6"]) == 1
    assert "less than the 0.97 required" in capsys.readouterr().out


def test_report(capsys):
    assert main(["train", "--hidden", "32,16", "--epochs", "8", "--report"]) in (0, 1)
    text = capsys.readouterr().out
    assert text.count("gradient flow, 256 samples") == 4
    for title in ("at the start", "after training", "at a start built to be dead", "5 epochs later"):
        assert f"gradients {title}" in text or title in text
    before, after = text.split("built to be dead")
    assert "(a)" not in before
    assert after.count("(a) layer 1: zero for every sample, so every layer below is zero too") == 2
    assert after.count("(c) layer 2") == 2
    accuracy = float(re.search(r"from the dead start: ([\d.]+)", after)[1])
    assert accuracy < 0.2


def test_report_without_hidden_layers(capsys):
    assert main(["train", "--report"]) == 0
    text = capsys.readouterr().out
    assert text.count("gradient flow") == 2
    assert "dead start" not in text


def test_what_cannot_die(capsys):
    assert main(["train", "--hidden", "32", "--epochs", "1", "--activation", "leaky_relu", "--report"]) in (0, 1)
    assert "no start is dead with leaky_relu" in capsys.readouterr().out


def test_lbfgs_trains_networks(capsys):
    pytest.importorskip("scipy")
    assert main(["train", "--hidden", "16", "--optimizer", "lbfgs", "--iterations", "30", "--l2", "1e-3"]) in (0, 1)
    text = capsys.readouterr().out
    assert float(re.search(r"([\d.]+) on those held out", text)[1]) > 0.93


@pytest.mark.parametrize("text", ["0", "8,0", "-3", "8,,4", "x", ""])
def test_sizes_that_are_none(text, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--hidden", text])
    assert "--hidden" in capsys.readouterr().err


# ---- the pieces


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu"])
def test_the_dead_start_is_dead(activation):
    """Every unit of the last hidden layer has the slope 0 for every image, and stays so."""
    digits, args = load_digits(), arguments(activation=activation)
    params = network.start(64, args, dead=True)
    trained = network.sgd(params, digits, args).params
    x = digits.train_x.astype(np.float32)
    report = xent.gradient_flow(trained, x, digits.train_y, activation=activation)
    assert report.died_at == 1
    for i in (0, 1):
        assert report.layers[i].dead_units == list(range((16, 8)[i]))


def test_the_vector_is_the_parameters():
    params = network.start(64, arguments())
    vector, views = network._as_vector(params)
    assert vector.size == 64 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10
    for layer, view in zip(params, views, strict=True):
        for a, b in zip(layer, view, strict=True):
            assert np.array_equal(a, b)
            assert np.shares_memory(b, vector)
    vector[...] = 1.0
    assert all((a == 1.0).all() for view in views for a in view)


def test_the_gradient_that_lbfgs_sees(monkeypatch):
    """Of the objective with its penalty, by central differences in a few directions."""
    digits, seen = load_digits(), {}

    def minimize(objective, theta, **options):
        rng = np.random.default_rng(0)
        for k in range(4):
            direction = rng.standard_normal(theta.size)
            h = 1e-5
            slope = (objective(theta + h * direction)[0] - objective(theta - h * direction)[0]) / (2 * h)
            seen[k] = slope, objective(theta)[1] @ direction
        return argparse.Namespace(x=theta, fun=0.0)

    monkeypatch.setattr(_console, "optional", lambda *names: argparse.Namespace(minimize=minimize))
    args = arguments(activation="tanh", l2=0.01)
    network.lbfgs(network.start(64, args), digits, args)
    for slope, product in seen.values():
        assert slope == pytest.approx(product, rel=1e-6)
