"""What a linear layer with cross-entropy refuses, by name and shape, and that nothing is written then."""

import numpy as np
import pytest

import xent

X, W, B, Y = np.ones((3, 4)), np.ones((6, 4)), np.ones(6), np.array([0, 1, 5])
Q = np.full((3, 6), 0.5)


def bad_row(first, last):
    q = np.full((last - first, 6), 0.5)
    if last > 2:
        q[2 - first, 1] = -1
    return q


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"weight": np.ones(4)}, ValueError, r"weight must have shape \(classes, features\); got shape \(4,\)"),
        (
            {"weight": np.ones((6, 5))},
            ValueError,
            r"shape \(..., 5\), as weight has \(6, 5\); got \(3, 4\)",
        ),
        ({"x": np.float64(1)}, ValueError, r"x must have shape \(..., 4\)"),
        ({"x": np.ones((3, 4), complex)}, TypeError, "x must be real"),
        ({"x": np.ones((3, 4), np.float32)}, TypeError, "x and weight must have one dtype; got float32 and float64"),
        ({"bias": np.ones(6, np.float32)}, TypeError, "x and bias must have one dtype; got float64 and float32"),
        ({"bias": np.ones(5)}, ValueError, r"bias must have shape \(6,\), one per class; got shape \(5,\)"),
        ({"weight": np.ones((0, 4)), "bias": None}, ValueError, "no classes"),
        ({"targets": [0, 1]}, ValueError, r"without the class axis, \(3,\); got shape \(2,\)"),
        ({"targets": [0, 6, 9]}, ValueError, r"label 6 at row 1 is outside 0..5 \(2 rows have such a target\)"),
        ({"targets": [True, False, True]}, TypeError, "got dtype bool"),
        ({"targets": Q[:, :5]}, ValueError, r"shape \(3, 6\); got shape \(3, 5\)"),
        ({"targets": -Q}, ValueError, "target probability -0.5 in row 0"),
        (
            {"targets": lambda a, b: Q[a:b, :2]},
            ValueError,
            r"targets\(0, 3\) must return shape \(3, 6\), got shape \(3, 2\)",
        ),
        (
            {"targets": lambda a, b: Y[a:b]},
            TypeError,
            r"\(0, 3\) must return float32 or float64, got dtype",
        ),
        ({"targets": bad_row}, ValueError, "target probability -1.0 in row 2: probabilities must be finite"),
        ({"targets": bad_row, "max_bytes": 1}, ValueError, "target probability -1.0 in row 2"),
        ({"targets": bad_row, "ignore_index": 1}, ValueError, "ignore_index goes with class indices"),
        ({"class_weight": np.ones(5)}, ValueError, r"class_weight must have shape \(6,\)"),
        ({"sample_weight": -np.ones(3)}, ValueError, "sample_weight must be finite and not negative"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be a number from 0 to 1"),
        ({"z_loss": -1}, ValueError, "z_loss must be"),
        ({"reduction": "avg"}, ValueError, "reduction must be 'mean', 'sum' or 'none'"),
        ({"reduction": "sum", "normalizer": 2.0}, ValueError, "normalizer goes with reduction='mean'"),
        ({"softcap": 0.0}, ValueError, r"softcap must be a number from 2\*\*-100 to 2\*\*100, or None, got 0.0"),
        ({"softcap": np.nan}, ValueError, "softcap must be"),
        ({"softcap": "30"}, ValueError, None),
        ({"max_bytes": 0}, ValueError, "max_bytes must be a positive integer, got 0"),
        ({"max_bytes": 1.5}, TypeError, "max_bytes must be a positive integer, got 1.5"),
        ({"max_bytes": True}, ValueError, "max_bytes must be a positive integer"),
    ],
)
def test_refused(change, error, text):
    call = {"x": X, "weight": W, "targets": Y, "bias": B} | change
    if change.get("softcap") == "30":
        call["softcap"], error = object(), TypeError
    out = xent.DenseGrads(np.full((3, 4), 7.0), np.full((6, 4), 7.0), np.full(6, 7.0))
    with pytest.raises(error, match=text):
        xent.linear_cross_entropy(**call)
    fits = "weight" not in change and "x" not in change
    with pytest.raises(error, match=text):
        xent.linear_cross_entropy_with_grad(**call, out=out if fits else None)
    assert all((a == 7).all() for a in out)


def test_grad_loss():
    with pytest.raises(ValueError, match=r"with reduction='none' have shape \(3,\); got shape \(3,\)"):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, np.ones(3))
    with pytest.raises(ValueError, match=r"have shape \(3,\); got shape \(2,\)"):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, np.ones(2), reduction="none")
    with pytest.raises(TypeError, match="grad_loss must be real numbers"):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, 1j)


@pytest.mark.parametrize("need", ["x", ("y",), ("x", "weights")])
def test_need(need):
    with pytest.raises(ValueError, match="need must be some of 'x', 'weight', 'bias'; got"):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, need=need)


def read_only():
    a = np.zeros((6, 4))
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        ((None, None), ValueError, "got 2 of them"),
        (([], None, None), TypeError, "out for x must be a NumPy array, got list"),
        ((np.ones((3, 5)), None, None), ValueError, r"out for x must have shape \(3, 4\) and dtype float64"),
        ((None, np.ones((6, 4), np.float32), None), ValueError, "got shape .6, 4. and dtype <f4"),
        ((None, read_only(), None), ValueError, "out for weight is read-only"),
        ((None, np.broadcast_to(np.ones(4), (6, 4)), None), ValueError, "out for weight"),
        ((None, W, None), ValueError, "out for weight overlaps an input"),
        ((X, None, None), ValueError, "out for x overlaps"),
        ((None, None, B), ValueError, "out for bias overlaps"),
    ],
)
def test_out(out, error, text):
    before = X.copy(), W.copy(), B.copy()
    with pytest.raises(error, match=text):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, out=out)
    assert all((a == b).all() for a, b in zip(before, (X, W, B), strict=True))


def test_outputs_may_not_overlap():
    both = np.zeros((9, 4))
    with pytest.raises(ValueError, match="out for weight overlaps an input or another output"):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, out=(both[:3], both[2:8], None))


def test_out_that_is_not_asked_for():
    with pytest.raises(ValueError, match="out has an array for x, whose gradient is not asked for"):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, need=("weight",), out=(np.zeros((3, 4)), None, None))
    with pytest.raises(ValueError, match="out has an array for bias"):
        xent.linear_cross_entropy_with_grad(X, W, Y, out=(None, None, np.zeros(6)))


def test_accumulate_needs_out():
    with pytest.raises(ValueError, match="accumulate=True needs an array in out for x"):
        xent.linear_cross_entropy_with_grad(X, W, Y, B, accumulate=True)
