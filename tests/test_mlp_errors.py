"""What is wrong with a network is said by its place in `params`, by name and by shape; no gradient is written then."""

import numpy as np
import pytest
from test_mlp import batch, network

import xent
from xent import reference as ref

X, TARGETS = batch((4, 6), 3)
(W0, B0), (W1, B1) = network([6, 5, 3])
GOOD = [(W0, B0), (W1, B1)]


def call(params=GOOD, x=X, targets=TARGETS, **given):
    return xent.mlp_with_grad(params, x, targets, **given)


FAULTS = [
    # shapes
    (lambda: call([(W0.T, B0), (W1, B1)]), r"params\[0\] weight must have shape \(out, 6\), the last axis of x of "
     r"shape \(4, 6\); got shape \(6, 5\), which looks like \(in, out\): give weight\.T"),
    (lambda: call([(W0, B0), (W1.T, B1)]), r"params\[1\] weight must have shape \(out, 5\), the outputs of "
     r"params\[0\]; got shape \(5, 3\), which looks like"),
    (lambda: call([(W0, B0), (np.ones((3, 4)), B1)]), r"params\[1\] weight .*\(out, 5\).*got shape \(3, 4\)$"),
    (lambda: call([(W0, B0), (np.ones(5), B1)]), r"params\[1\] weight .*got shape \(5,\)$"),
    (lambda: call([(W0, B1), (W1, B1)]), r"params\[0\] bias must have shape \(5,\), one per row of weight; got shape "
     r"\(3,\)"),
    (lambda: call([(W0, B0), (W1, B1[None])]), r"params\[1\] bias must have shape \(3,\).*got shape \(1, 3\)"),
    (lambda: call(x=X[:, :5]), r"params\[0\] weight must have shape \(out, 5\).*got shape \(5, 6\)"),
    (lambda: call(x=1.0), r"x must have shape \(\.\.\., in\); got a 0-d array"),
    # params
    (lambda: call([]), "params must have at least one layer; got none"),
    (lambda: call([W0, B0, W1, B1]), r"params\[0\] must be \(weight, bias\).*got an array of shape \(5, 6\)"),
    (lambda: call([(W0, B0), (W1,)]), r"params\[1\] must be \(weight, bias\).*got tuple"),
    (lambda: call(W0), "params must be a sequence of .*, got ndarray"),
    (lambda: call({"w": W0}), "params must be a sequence of .*, got dict"),
    (lambda: call(layer for layer in GOOD), "params must be a sequence of .*, got generator"),
    (lambda: call([(W0.astype(np.float32), B0), (W1, B1)]), r"one dtype.*x float64, params\[0\] weight float32"),
    (lambda: call(x=X.astype(np.float32)), r"one dtype.*got x float32, params\[0\] weight float64"),
    (lambda: call([(W0 + 0j, B0), (W1, B1)]), r"params\[0\] weight must be real"),
    (lambda: call([(W0, B0), (W1, B1.astype(np.float16))]), r"params\[1\] bias must be real"),
    # activations
    (lambda: call(activation="ReLU"), "activation must be None or one of .*got 'ReLU'"),
    (lambda: call(activation=["relu", "relu"]), r"one for each of the 1 hidden layers; got \['relu', 'relu'\]"),
    (lambda: call(activation=[]), r"one for each of the 1 hidden layers; got \[\]"),
    (lambda: call(activation=["gel"]), "activation must be None or one of .*got 'gel'"),
    (lambda: call(activation=3), "activation must be one name, or .*got 3"),
    # the loss
    (lambda: call(targets=TARGETS + 3), r"label \d at row 0 is outside 0\.\.2 \(4 rows have such a target\)"),
    (lambda: call(targets=TARGETS[:3]), r"class indices .*\(4,\); got shape \(3,\)"),
    (lambda: call(targets=np.ones((4, 5))), r"target probabilities .*\(4, 3\); got shape \(4, 5\)"),
    (lambda: call(targets=-np.ones((4, 3))), "target probability -1.0 in row 0"),
    (lambda: call(targets=TARGETS > 0), "targets must be integers"),
    (lambda: call(label_smoothing=2.0), "label_smoothing must be a number from 0 to 1"),
    (lambda: call(class_weight=np.ones(4)), r"class_weight must have shape \(3,\)"),
    (lambda: call(sample_weight=np.ones(3)), r"sample_weight must have shape \(4,\)"),
    (lambda: call(reduction="average"), "reduction must be"),
    (lambda: call(axis=0), "axis must be -1, the outputs of the last layer are the classes; got 0"),
    # outputs
    (lambda: call(out=[(None, None, None)]), r"out must hold \(None, weight, bias\) for each of the 2 layers"),
    (lambda: call(out=[(None, None), (None, None)]), "out must hold"),
    (lambda: call(out=[(None, W0.T.copy(), None), (None, None, None)]), r"out\[0\]\.weight must have shape \(5, 6\)"),
    (lambda: call(out=[(None, W0.astype("f4"), None), (None, None, None)]), r"out\[0\]\.weight .*dtype float64"),
    (lambda: call(out=[(X, None, None), (None, None, None)]), r"out\[0\]\.x is given, but no such gradient"),
    (lambda: call([(W0, None), (W1, B1)], out=[(None, None, B0)] * 2), r"out\[0\]\.bias is given, but no such"),
    (lambda: call(out=[(None, W0, None), (None, None, None)]), r"out\[0\]\.weight overlaps params\[0\] weight"),
    (lambda: call(out=[(None, None, B0[:]), (None, None, None)]), r"out\[0\]\.bias overlaps params\[0\] bias"),
    (lambda: call(out=[(None, None, None), (None, W1, None)]), r"out\[1\]\.weight overlaps params\[1\] weight"),
    (lambda: call(out=[(None, [[1.0]], None)] * 2), r"out\[0\]\.weight must be a NumPy array, got list"),
    (lambda: call(workspace={}), "workspace must be an MlpWorkspace or None, got dict"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[message[:50] for _, message in FAULTS])
def test_faults(fault, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fault()


def test_two_outputs_in_one_place():
    shared = np.empty((5, 6))
    with pytest.raises(ValueError, match=r"out\[0\]\.bias overlaps out\[0\]\.weight"):
        call(out=[(None, shared, shared[:, 0]), (None, None, None)])
    read_only = np.empty((5, 6))
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match=r"out\[0\]\.weight is read-only"):
        call(out=[(None, read_only, None), (None, None, None)])


def test_a_fault_writes_no_gradient():
    out = [xent.DenseGrads(None, np.full_like(w, 7.0), np.full_like(b, 7.0)) for w, b in GOOD]
    workspace = xent.MlpWorkspace()
    for given in ({"targets": [0, 1, 2, 3]}, {"targets": np.full((4, 3), np.nan)}, {"z_loss": -1.0}, {"x": X[:, 1:]}):
        with pytest.raises(ValueError):  # noqa: PT011 - which, is tested above
            call(out=out, workspace=workspace, **given)
        assert all((a == 7.0).all() for grads in out for a in grads if a is not None)
    loss, grads = call(out=out, workspace=workspace)
    assert loss == call()[0]
    assert grads[0].weight is out[0].weight


@pytest.mark.parametrize(
    "given",
    [
        {"params": [(W0.T, B0), (W1, B1)]},
        {"params": [(W0, B0), (W1.T, B1)]},
        {"params": [(W0, B1), (W1, B1)]},
        {"params": []},
        {"params": [W0, B0]},
        {"activation": "ReLU"},
        {"activation": ["relu", "relu"]},
        {"targets": TARGETS + 3},
        {"targets": TARGETS[:3]},
        {"axis": 0},
        {"reduction": "average"},
    ],
)
def test_the_reference_refuses_them_too(given):
    arguments = {"params": GOOD, "x": X, "targets": TARGETS} | given
    for function in (xent.mlp_with_grad, ref.mlp_with_grad):
        with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
            function(**arguments)
    if "axis" not in given:
        for function in (xent.gradient_flow, ref.gradient_flow):
            with pytest.raises(ValueError):  # noqa: PT011
                function(**arguments)
    for forbidden in ("out", "workspace"):
        with pytest.raises(TypeError):
            ref.mlp_with_grad(GOOD, X, TARGETS, **{forbidden: []})
