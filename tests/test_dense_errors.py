"""What is wrong with a layer's arguments is said by name and shape, and nothing is written."""

import numpy as np
import pytest

import xent
from xent import _kernels, reference

X, W, B = np.ones((4, 3)), np.ones((2, 3)), np.ones(2)
Y = DY = np.ones((4, 2))
CANARY = -12345.0


def backward(dy=DY, x=X, weight=W, saved=Y, activation="relu", **options):
    return xent.dense_backward(dy, x, weight, saved, activation, **options)


FAULTS = [
    # a weight given as (in, out), and other shapes
    (lambda: xent.dense(X, W.T), r"weight must have shape \(out, in\) with in = 3.*got shape \(3, 2\).*give weight\.T"),
    (lambda: xent.dense(X, np.ones(3)), r"weight must have shape \(out, in\).*got shape \(3,\)$"),
    (lambda: xent.dense(X, np.ones((2, 4))), r"the last axis of x of shape \(4, 3\); got shape \(2, 4\)$"),
    (lambda: xent.dense(1.0, W), r"x must have shape \(\.\.\., in\); got a 0-d array"),
    (lambda: xent.dense(X, W, np.ones(3)), r"bias must have shape \(2,\), one per row of weight; got shape \(3,\)"),
    (lambda: xent.dense(X, W, np.ones((1, 2))), r"bias must have shape \(2,\).*got shape \(1, 2\)"),
    (lambda: xent.dense(X, W, 1.0), r"bias must have shape \(2,\).*got shape \(\)"),
    (lambda: backward(weight=W.T), "give weight.T"),
    (lambda: backward(dy=DY[:3]), r"grad_y must have shape \(4, 2\).*got shape \(3, 2\)"),
    (lambda: backward(dy=DY.T), r"grad_y must have shape \(4, 2\).*got shape \(2, 4\)"),
    (lambda: backward(saved=X), r"saved must have shape \(4, 2\), that of grad_y; got shape \(4, 3\)"),
    # names
    (lambda: xent.dense(X, W, activation="ReLU"), "activation must be None or one of .*'relu'.*; got 'ReLU'"),
    (lambda: xent.dense(X, W, activation=1), "activation must be None or one of .*; got 1"),
    (lambda: backward(activation=["relu"]), r"activation must be None or one of .*; got \['relu'\]"),
    (lambda: backward(need=["x", "w"]), r"need must name some of 'x', 'weight', 'bias'; got \['w', 'x'\]"),
    (lambda: backward(need="xb"), "need must name some of"),
    # what belongs together
    (lambda: xent.dense(X, W, activation="relu", saved=Y.copy()), "saved is not used with activation 'relu'.*from y"),
    (lambda: xent.dense(X, W, saved=Y.copy()), "saved is not used with activation None"),
    (lambda: backward(out=(None, None)), r"out must be \(x, weight, bias\).*got 2"),
    (lambda: backward(need="x", out=(None, W.copy(), None)), "out.weight is given, but need has no 'weight'"),
    (lambda: backward(accumulate=True), "accumulate adds to out.x, which is not given"),
    (lambda: backward(accumulate=True, out=(X.copy(), None, B.copy())), "accumulate adds to out.weight"),
    # per sample
    (lambda: xent.dense_sample_norms(DY[:3], X), r"grad_z must have shape \(\*\(4,\), out\).*got shape \(3, 2\)"),
    (lambda: xent.dense_sample_grads(DY, 1.0), "x must have shape"),
    (lambda: xent.dense_weighted_grads(DY, X, np.ones(3)), r"sample_weight must have shape \(4,\), one per sample"),
    (lambda: xent.dense_weighted_grads(DY, X, 1.0), r"sample_weight must have shape \(4,\)"),
    (lambda: xent.dense_weighted_grads(DY, X, np.ones(4), out=(X.copy(), None, None)), r"out must be \(None, weight"),
    (lambda: xent.dense_clipped_grads(DY, X, 1, bias=False, out=(None, None, B.copy())), r"out must be \(None, weight"),
    (
        lambda: (lambda n: xent.dense_clipped_grads(DY, X, 1, sample_norms=n, out=(None, None, n[:2])))(np.ones(4)),
        "overlaps sample_norms",
    ),
    (lambda: xent.dense_backward(DY, X, W, None, "relu"), "saved must be given: the derivative of 'relu' needs y"),
    (lambda: xent.dense_clipped_grads(DY, X, -1.0), "max_norm must be a finite number, not negative, got -1.0"),
    (lambda: xent.dense_clipped_grads(DY, X, np.inf), "max_norm must be"),
    (lambda: xent.dense_clipped_grads(DY, X, np.nan), "max_norm must be"),
    (lambda: xent.dense_clipped_grads(DY, X, 1.0, sample_norms=[1, 2, -3, 4]), "sample_norms must not be negative or"),
    (lambda: xent.dense_clipped_grads(DY, X, 1.0, sample_norms=[1, 2, np.nan, 4]), "sample_norms must not be negative"),
    (lambda: xent.dense_clipped_grads(DY, X, 1.0, sample_norms=[1.0]), r"sample_norms must have shape \(4,\)"),
]


@pytest.mark.parametrize(("call", "message"), FAULTS, ids=[message[:50] for _, message in FAULTS])
def test_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_dtypes():
    """One dtype for a layer, and which array has which is said."""
    with pytest.raises(TypeError, match=r"one dtype.*got x float32, weight float64"):
        xent.dense(X.astype(np.float32), W)
    with pytest.raises(TypeError, match="x float64, weight float64, bias float32"):
        xent.dense(X, W, B.astype(np.float32))
    with pytest.raises(TypeError, match="grad_y float32, x float64, weight float64, saved float64"):
        backward(dy=DY.astype(np.float32))
    with pytest.raises(TypeError, match="grad_z float32, x float64"):
        xent.dense_sample_norms(DY.astype(np.float32), X)
    for kind in (np.float16, np.longdouble, complex, object, "U1"):
        for name, call in {
            "x": lambda a: xent.dense(a, W),
            "weight": lambda a: xent.dense(X, a),
            "bias": lambda a: xent.dense(X, W, a),
            "saved": lambda a: backward(saved=a),
            "grad_z": lambda a: xent.dense_sample_grads(a, X),
            "sample_weight": lambda a: xent.dense_weighted_grads(DY, X, a),
            "sample_norms": lambda a: xent.dense_clipped_grads(DY, X, 1.0, sample_norms=a),
        }.items():
            with pytest.raises(TypeError, match=f"{name} must be real: float32, float64.*got dtype"):
                call(np.ones((4, 2)).astype(kind))
    with pytest.raises(TypeError, match="max_norm must be"):
        xent.dense_clipped_grads(DY, X, "1.0x")


Z = np.ones((4, 2))
# what writes, given an array for one of its outputs of shape (4, 2)
WRITERS = {
    "out": lambda a: xent.dense(X, W, B, "gelu", out=a),
    "saved": lambda a: xent.dense(X, W, B, "gelu", saved=a),
    "grad_z_out": lambda a: backward(grad_z_out=a),
    "out.x": lambda a: xent.dense_backward(X, DY, W.T, None, None, need="x", out=(a, None, None)),
    "out.weight": lambda a: xent.dense_backward(X.T.copy(), Z.T[:1].repeat(3, 0)[:, :2], np.ones((4, 2)), None,
                                                need="weight", out=(None, a, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_outputs(name):
    read_only = np.full((4, 2), CANARY)
    read_only.flags.writeable = False
    folded = np.lib.stride_tricks.as_strided(np.full(2, CANARY), (4, 2), (0, 8))
    for bad, message in (
        (np.full((4, 3), CANARY), r"must have shape \(4, 2\) and dtype float64.*got shape \(4, 3\)"),
        (np.full((4, 2), CANARY, np.float32), "dtype float64.*got.*dtype <f4"),
        (np.full((4, 2), CANARY, ">f8"), "native byte order.*dtype >f8"),
        (read_only, "is read-only"),
        (folded, "share memory"),
    ):
        with pytest.raises(ValueError, match=f"^{name} .*{message}"):
            WRITERS[name](bad)
        assert np.all(bad == CANARY)
    for bad in ([[0.0, 0.0]] * 4, 1.0, "out"):
        with pytest.raises(TypeError, match=f"^{name} must be a NumPy array, got {type(bad).__name__}"):
            WRITERS[name](bad)


def test_overlaps():
    """An output that shares memory with what is read, or with another output."""
    memory = np.arange(64.0)
    x, weight, bias = memory[:12].reshape(4, 3), memory[12:18].reshape(2, 3), memory[18:20]
    before = memory.copy()
    for name, out in {"x": memory[:8], "weight": memory[17:25], "bias": memory[19:27]}.items():
        with pytest.raises(ValueError, match=f"^out overlaps {name}"):
            xent.dense(x, weight, bias, out=out.reshape(4, 2))
        with pytest.raises(ValueError, match=f"^saved overlaps {name}"):
            xent.dense(x, weight, bias, "silu", saved=out.reshape(4, 2))
    with pytest.raises(ValueError, match=r"^out overlaps saved"):
        xent.dense(x, weight, bias, "silu", out=memory[40:48].reshape(4, 2), saved=memory[44:52].reshape(4, 2))
    dy, saved = memory[20:28].reshape(4, 2), memory[28:36].reshape(4, 2)
    for given, message in (
        ({"out": (memory[1:13].reshape(4, 3), None, None)}, "out.x overlaps x"),
        ({"out": (memory[20:32].reshape(4, 3), None, None)}, "out.x overlaps grad_y"),
        ({"out": (None, weight, None)}, "out.weight overlaps weight"),
        ({"out": (None, memory[40:46].reshape(2, 3), memory[45:47])}, "out.bias overlaps out.weight"),
        ({"grad_z_out": saved}, "grad_z_out overlaps saved"),
        ({"grad_z_out": memory[21:29].reshape(4, 2)}, "grad_z_out overlaps grad_y"),
        ({"grad_z_out": dy[::-1]}, "grad_z_out overlaps grad_y"),
        (
            {"grad_z_out": memory[50:58].reshape(4, 2), "out": (None, None, memory[57:59])},
            "grad_z_out overlaps out.bias",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            backward(dy, x, weight, saved, **given)
    with pytest.raises(ValueError, match="out overlaps grad_z"):
        xent.dense_sample_grads(dy, x, out=memory[:24].reshape(4, 2, 3))
    with pytest.raises(ValueError, match=r"out\.bias overlaps grad_z"):
        xent.dense_weighted_grads(dy, x, np.ones(4), out=(None, None, memory[20:22]))
    np.testing.assert_array_equal(memory, before)
    gaps = memory[:24].reshape(4, 6)  # neighbours in memory that share nothing
    xent.dense(gaps[:, :3], weight * 0, out=gaps[:, 3:5])
    np.testing.assert_array_equal(gaps[:, :3], before[:24].reshape(4, 6)[:, :3])


def test_reference():
    """The same faults, of the same kinds."""
    for call in (
        lambda: reference.dense(X, W.T),
        lambda: reference.dense(1.0, W),
        lambda: reference.dense(X, W, [1.0]),
        lambda: reference.dense(X, W, activation="ReLU"),
        lambda: reference.dense_backward(DY[:3], X, W, Y, "relu"),
        lambda: reference.dense_backward(DY, X, W, X, "relu"),
        lambda: reference.dense_backward(DY, X, W, Y, "relu", need="w"),
        lambda: reference.dense_backward(DY, X, W, Y, "relu", accumulate=True),
        lambda: reference.dense_sample_norms(DY[:3], X),
        lambda: reference.dense_weighted_grads(DY, X, [1.0]),
        lambda: reference.dense_clipped_grads(DY, X, -1.0),
        lambda: reference.dense_clipped_grads(DY, X, 1.0, sample_norms=[1.0, 2.0, -3.0, 4.0]),
    ):
        with pytest.raises(ValueError, match=r"was given|accepted|agree|nothing to add"):
            call()
    for call in (
        lambda: reference.dense(X, W, out=Y),
        lambda: reference.dense(X, W, activation="gelu", saved=Y),
        lambda: reference.dense_backward(DY, X, W, Y, out=(None, None, None)),
        lambda: reference.dense(X, [["a", "b", "c"]]),
    ):
        with pytest.raises(TypeError):
            call()


def test_crossings():
    """The kernels' own last line of defence: what would be read or written out of bounds."""
    y, z = np.ones((4, 2)), np.ones((4, 2))
    for arguments in ((y, np.ones(3), 1, None), (y, None, 1, np.ones((4, 3))), (y[:, ::-1], None, 1, None)):
        with pytest.raises(ValueError, match="contiguous native arrays of one dtype"):
            _kernels.bias_activation(*arguments)
    for arguments in ((y[0], None, 1, None), (np.ones((4, 2), int), None, 1, None)):
        with pytest.raises(TypeError, match=r"float32 or float64 of shape \(rows, columns\)"):
            _kernels.bias_activation(*arguments)
    for code in (-1, 9):
        with pytest.raises(ValueError, match="no activation"):
            _kernels.bias_activation(y, None, code, None)
    for arguments in (
        (y, np.ones((4, 2), np.float32), 1, z, None, False, None),
        (y, z, 1, y.astype(">f8"), None, False, None),
        (y, z, 1, y, np.ones(3), False, None),
        (y, z, 1, y, None, False, np.ones(3)),
        (y, z, 1, y, None, False, np.ones(4, np.float32)),
        (y, z[:, :1], 1, y, None, False, None),
    ):
        with pytest.raises(ValueError, match="contiguous native arrays of one dtype"):
            _kernels.activation_backward(*arguments)
    for arguments in ((y, None, 1, z, None, False, None), (y, z, 1, None, None, False, None)):
        with pytest.raises(ValueError, match="only the identity does without"):
            _kernels.activation_backward(*arguments)
    with pytest.raises(ValueError, match="contiguous native"):
        _kernels.row_squares(y, np.ones(3))
    read_only = np.frombuffer(y.tobytes()).reshape(4, 2)
    with pytest.raises(ValueError, match="contiguous native"):
        _kernels.bias_activation(read_only, None, 1, None)
    _kernels.activation_backward(read_only, read_only, 1, z, None, False, None)
