"""Every fault: its type, a message that says what was given and what is accepted, and nothing written to
`out`.
"""

import numpy as np
import pytest

import xent

Z = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 2, 0])
LOSSES = [
    xent.cross_entropy,
    xent.cross_entropy_with_grad,
    xent.cross_entropy_grad,
    xent.cross_entropy_hessian_diag,
    lambda z, y, **options: xent.cross_entropy_hvp(z, y, np.ones(np.shape(z)), **options),
]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=["loss", "with_grad", "grad", "hessian_diag", "hvp"])
each_reduction = pytest.mark.parametrize("function", [xent.logsumexp, xent.softmax, xent.log_softmax])
each_sigmoid = pytest.mark.parametrize("function", [xent.sigmoid_cross_entropy, xent.sigmoid_cross_entropy_with_grad])
BAD_DTYPES = [np.float16, np.longdouble, np.complex64, np.complex128, object, "U1", "M8[s]"]


def bad(dtype, shape=(4, 3)):
    return np.zeros(shape).astype(dtype) if np.dtype(dtype).kind != "M" else np.zeros(shape, dtype)


@each_loss
@pytest.mark.parametrize("dtype", BAD_DTYPES[1:])
def test_dtype_of_logits(loss, dtype):
    with pytest.raises(TypeError, match=r"logits must be real: float32, float64.* got dtype") as error:
        loss(bad(dtype), Y)
    assert str(np.dtype(dtype)) in str(error.value)


@each_loss
@pytest.mark.parametrize("dtype", [*BAD_DTYPES[1:], bool])
def test_dtype_of_targets(loss, dtype):
    for shape in ((4,), (4, 3)):
        with pytest.raises(TypeError, match=r"targets must be integers .* or float32 or float64 .*got dtype") as error:
            loss(Z, bad(dtype, shape))
        assert str(np.dtype(dtype)) in str(error.value)


@each_reduction
@pytest.mark.parametrize("dtype", BAD_DTYPES[1:])
def test_dtype_of_reductions(function, dtype):
    with pytest.raises(TypeError, match=r"must be real: float32, float64.*got dtype"):
        function(bad(dtype))


@each_sigmoid
@pytest.mark.parametrize("dtype", BAD_DTYPES)
def test_dtype_of_sigmoid(function, dtype):
    with pytest.raises(TypeError, match=r"logits must be real: float32, float64.*got dtype"):
        function(bad(dtype), Z)
    with pytest.raises(TypeError, match=r"targets must be bool, integers, float32 or float64; got dtype"):
        function(Z, bad(dtype))


@pytest.mark.parametrize("dtype", BAD_DTYPES)
def test_dtype_of_the_rest(dtype):
    with pytest.raises(TypeError, match="b must be real"):
        xent.logsumexp(Z, b=bad(dtype))
    with pytest.raises(TypeError, match="vector must be real"):
        xent.cross_entropy_hvp(Z, Y, bad(dtype))
    for name, shape in (("class_weight", (3,)), ("sample_weight", (4,))):
        with pytest.raises(TypeError, match=f"{name} must be real numbers.*got dtype"):
            xent.cross_entropy(Z, Y, **{name: bad(dtype, shape)})
    if dtype is not np.float16:
        with pytest.raises(TypeError, match="grad_loss must be real numbers, got dtype"):
            xent.cross_entropy_grad(Z, Y, bad(dtype, (4,)), reduction="none")


def test_ragged_lists():
    for function in (xent.logsumexp, xent.softmax, xent.log_softmax):
        with pytest.raises(ValueError, match="inhomogeneous"):
            function([[1.0, 2.0], [3.0]])
    with pytest.raises(ValueError, match="inhomogeneous"):
        xent.cross_entropy([[1.0, 2.0], [3.0]], [0, 0])


@each_loss
@pytest.mark.parametrize("shape", [(3,), (4, 1), (1, 4), (4, 3), (), (5,), (4, 3, 1)])
def test_shape_of_labels(loss, shape):
    with pytest.raises(ValueError, match="must have the logits' shape") as error:
        loss(Z, np.zeros(shape, int))
    assert "(4,)" in str(error.value)
    assert f"got shape {shape}" in str(error.value)


@each_loss
@pytest.mark.parametrize("shape", [(4,), (3, 4), (4, 1), (4, 3, 1), ()])
def test_shape_of_probabilities(loss, shape):
    with pytest.raises(ValueError, match=r"must have the logits' shape \(4, 3\); got shape") as error:
        loss(Z, np.zeros(shape))
    assert f"got shape {shape}" in str(error.value)


@each_loss
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, ">i2", ">i8"])
def test_negative_labels(loss, dtype):
    with pytest.raises(ValueError, match=r"label -7 at row 1 is outside 0\.\.2 \(2 rows"):
        loss(Z, np.array([0, -7, 3, 1], dtype))


@each_loss
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.uint32, np.uint64, np.int64, ">u4", ">u8"])
def test_labels_past_the_last_class(loss, dtype):
    with pytest.raises(ValueError, match=r"label 3 at row 3 is outside 0\.\.2$"):
        loss(Z, np.array([0, 1, 2, 3], dtype))


@each_loss
def test_extreme_labels(loss):
    for dtype, value in (
        (np.uint64, 2**64 - 1),
        (np.uint64, 2**63),
        (np.int64, -(2**63)),
        (np.uint32, 2**32 - 1),
    ):
        with pytest.raises(ValueError, match=f"label {value} at row 2 is outside"):
            loss(Z, np.array([0, 1, value, 0], dtype))
    # uint64 labels whose bits are those of ignore_index are not ignored
    with pytest.raises(ValueError, match=f"label {2**64 - 100} at row 0"):
        loss(Z, np.array([2**64 - 100, 1, 0, 0], np.uint64), ignore_index=-100)


def test_int8_labels_of_many_classes():
    """An int8 cannot name class 128, and -1 is not class 255."""
    z = np.zeros((2, 300))
    assert xent.cross_entropy(z, np.array([127, 0], np.int8)) == pytest.approx(np.log(300))
    with pytest.raises(ValueError, match=r"label -1 at row 1 is outside 0\.\.299"):
        xent.cross_entropy(z, np.array([127, -1], np.int8))


def test_first_bad_row_of_many():
    """Over all groups of rows and threads: the first, its place in the batch, and how many."""
    y = np.zeros((100, 500), int)
    y[37, 499] = y[37, 500 - 1] = -3
    y[38:] = 10
    with pytest.raises(ValueError, match=rf"label -3 at row \(37, 499\) is outside 0\.\.9 \({1 + 62 * 500} rows"):
        xent.cross_entropy(np.zeros((100, 500, 10)), y)


@each_loss
@pytest.mark.parametrize("value", [-1e-30, np.nan, np.inf, -np.inf, -5.0])
def test_bad_probabilities(loss, value):
    q = np.full((4, 3), 0.3)
    q[2, 1] = value
    q[3] = value
    with pytest.raises(ValueError, match=r"target probability .* in row 2: .*finite and not negative \(2 rows"):
        loss(Z, q)


@each_sigmoid
@pytest.mark.parametrize("value", [-1e-30, 1.0000001, np.nan, np.inf, 2])
def test_bad_sigmoid_targets(function, value):
    t = np.zeros((4, 3))
    t[1, 2] = value
    with pytest.raises(ValueError, match=r"target .* in row 1 is outside \[0, 1\]"):
        function(Z, t)


@each_loss
def test_no_classes(loss):
    for shape in ((0,), (4, 0), (0, 0)):
        with pytest.raises(ValueError, match="no classes"):
            loss(np.zeros(shape), np.zeros(shape[:-1], int))
    with pytest.raises(ValueError, match="class axis"):
        loss(1.0, 0)


@each_loss
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"axis": 2}, np.exceptions.AxisError, "axis 2"),
        ({"axis": -3}, np.exceptions.AxisError, "axis -3"),
        ({"axis": 1.0}, TypeError, "axis must be an integer, got 1.0"),
        ({"axis": None}, TypeError, "axis must be an integer, got None"),
        ({"axis": (0, 1)}, TypeError, "axis must be an integer"),
        ({"reduction": "avg"}, ValueError, "'mean', 'sum' or 'none', got 'avg'"),
        ({"reduction": None}, ValueError, "'mean', 'sum' or 'none', got None"),
        ({"reduction": []}, ValueError, "'mean', 'sum' or 'none'"),
        ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be a number from 0 to 1, got -0.1"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be a number from 0 to 1, got 1.5"),
        ({"label_smoothing": np.nan}, ValueError, "label_smoothing must be"),
        ({"label_smoothing": "x"}, TypeError, "label_smoothing must be"),
        ({"z_loss": -1.0}, ValueError, "z_loss must be a finite number, not negative, got -1.0"),
        ({"z_loss": np.inf}, ValueError, "z_loss must be"),
        ({"z_loss": np.nan}, ValueError, "z_loss must be"),
        ({"normalizer": 0}, ValueError, "normalizer must be a finite number above 0, got 0"),
        ({"normalizer": -2.0}, ValueError, "normalizer must be"),
        ({"normalizer": np.inf}, ValueError, "normalizer must be"),
        ({"normalizer": np.nan}, ValueError, "normalizer must be"),
        (
            {"normalizer": 2.0, "reduction": "sum"},
            ValueError,
            "normalizer goes with reduction='mean', not with 'sum'",
        ),
        ({"normalizer": 2.0, "reduction": "none"}, ValueError, "normalizer goes with"),
        ({"class_weight": [1.0, 2.0]}, ValueError, r"class_weight must have shape \(3,\).*got shape \(2,\)"),
        ({"class_weight": 1.0}, ValueError, r"class_weight must have shape \(3,\)"),
        (
            {"class_weight": [1.0, -2.0, 0]},
            ValueError,
            "class_weight must be finite and not negative; got -2.0",
        ),
        (
            {"class_weight": [1.0, np.nan, 0]},
            ValueError,
            "class_weight must be finite and not negative; got nan",
        ),
        ({"class_weight": [1, -1, 0]}, ValueError, "class_weight must be finite and not negative; got -1"),
        (
            {"sample_weight": [1.0, 2.0]},
            ValueError,
            r"sample_weight must have shape \(4,\).*got shape \(2,\)",
        ),
        ({"sample_weight": [1.0, np.inf, 0, 0]}, ValueError, "sample_weight must be finite"),
        ({"sample_weight": -1.0}, ValueError, "sample_weight must be finite and not negative; got -1.0"),
        ({"ignore_index": 1.0}, TypeError, "ignore_index must be an integer or None, got 1.0"),
        ({"ignore_index": True}, TypeError, "ignore_index must be an integer or None, got True"),
    ],
    ids=str,
)
def test_options(loss, options, kind, message):
    with pytest.raises(kind, match=message):
        loss(Z, Y, **options)


@each_loss
def test_ignore_index_and_probabilities(loss):
    with pytest.raises(ValueError, match="ignore_index goes with class indices"):
        loss(Z, Z, ignore_index=1)


def test_arguments_of_one_function():
    with pytest.raises(ValueError, match=r"vector must have the logits' shape \(4, 3\); got shape \(3,\)"):
        xent.cross_entropy_hvp(Z, Y, np.ones(3))
    with pytest.raises(ValueError, match=r"grad_loss must be one number unless reduction is 'none'; got shape \(4,\)"):
        xent.cross_entropy_grad(Z, Y, np.ones(4))
    with pytest.raises(ValueError, match=r"grad_loss must be one number or have shape \(4,\); got shape \(3,\)"):
        xent.cross_entropy_grad(Z, Y, np.ones(3), reduction="none")
    with pytest.raises(ValueError, match="broadcast"):
        xent.logsumexp(Z, b=np.ones(5))


@each_sigmoid
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pos_weight": [1.0, 2.0]}, r"pos_weight must have shape \(3,\).*got shape \(2,\)"),
        ({"pos_weight": -1}, "pos_weight must be finite and not negative"),
        ({"pos_weight": np.nan}, "pos_weight must be finite and not negative"),
        ({"sample_weight": [1.0] * 3}, r"sample_weight must have shape \(4,\).*\(4, 3\).*got shape \(3,\)"),
        ({"sample_weight": -Z}, "sample_weight must be finite and not negative"),
        ({"reduction": "avg"}, "reduction must be"),
    ],
)
def test_sigmoid_options(function, options, message):
    with pytest.raises(ValueError, match=message):
        function(Z, np.zeros((4, 3)), **options)
    with pytest.raises(ValueError, match=r"targets must have the logits' shape \(4, 3\); got shape \(4,\)"):
        function(Z, Y)


@each_reduction
def test_axes(function):
    for axis in (2, -3, (0, 2)):
        with pytest.raises(np.exceptions.AxisError, match="out of bounds"):
            function(Z, axis=axis)
    with pytest.raises(ValueError, match="names an axis twice"):
        function(Z, axis=(1, -1))
    for axis in (1.0, "1", (0.0,)):
        with pytest.raises(TypeError):
            function(Z, axis=axis)


# ---- out

WRITERS = {
    "softmax": lambda z, out: xent.softmax(z, axis=-1, out=out),
    "log_softmax": lambda z, out: xent.log_softmax(z, axis=-1, out=out),
    "with_grad": lambda z, out: xent.cross_entropy_with_grad(z, Y, out=out),
    "grad": lambda z, out: xent.cross_entropy_grad(z, Y, out=out),
    "sigmoid": lambda z, out: xent.sigmoid_cross_entropy_with_grad(z, np.zeros((4, 3)), out=out),
}
each_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
CANARY = -12345.0


def read_only():
    out = np.full((4, 3), CANARY)
    out.flags.writeable = False
    return out


@each_writer
@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.full((4, 3), CANARY, np.float32), "dtype float64 .*dtype <f4"),
        (np.full((4, 3), CANARY, ">f8"), "dtype float64 .*native byte order"),
        (np.full((4, 3), -123, np.int64), "must have shape"),
        (np.full((3, 4), CANARY), r"must have shape \(4, 3\).*got shape \(3, 4\)"),
        (np.full((4, 3, 1), CANARY), r"must have shape \(4, 3\).*got shape \(4, 3, 1\)"),
        (np.full(12, CANARY), "must have shape"),
        (read_only(), "out is read-only"),
        (np.broadcast_to(np.full(3, CANARY), (4, 3)), "read-only|stride of 0"),
        (np.lib.stride_tricks.as_strided(np.full(3, CANARY), (4, 3), (0, 8)), "stride of 0"),
    ],
    ids=["float32", "big-endian", "int", "transposed", "rank", "flat", "read-only", "broadcast", "stride 0"],
)
def test_bad_out(write, out, message):
    before = out.copy()
    with pytest.raises(ValueError, match=message):
        write(Z, out)
    np.testing.assert_array_equal(out, before)


@each_writer
@pytest.mark.parametrize(
    "out",
    [[[0.0] * 3] * 4, 1.0, "out", memoryview(np.zeros((4, 3)))],
    ids=["list", "float", "str", "memoryview"],
)
def test_out_is_no_array(write, out):
    with pytest.raises(TypeError, match=f"out must be a NumPy array, got {type(out).__name__}"):
        write(Z, out)


def overlaps():
    """name -> (logits, out) on one buffer, of shape (4, 3), overlapping otherwise than exactly."""
    a = np.arange(64.0)
    square = np.arange(16.0).reshape(4, 4)
    return {
        "next element": (a[:12].reshape(4, 3), a[1:13].reshape(4, 3)),
        "next row": (a[:12].reshape(4, 3), a[3:15].reshape(4, 3)),
        "before": (a[6:18].reshape(4, 3), a[:12].reshape(4, 3)),
        "reversed rows": (a[:12].reshape(4, 3), a[:12].reshape(4, 3)[::-1]),
        "reversed classes": (a[:12].reshape(4, 3), a[:12].reshape(4, 3)[:, ::-1]),
        "reversed": (a[:12][::-1].reshape(4, 3), a[:12].reshape(4, 3)),
        "transposed": (square[:, :3], square.T[:, :3]),
        "Fortran": (a[:12].reshape(4, 3), a[:12].reshape(3, 4).T),
        "strided": (a[:24:2].reshape(4, 3), a[:12].reshape(4, 3)),
        "shared first row": (square[:, :3], square[0:4, 1:4]),
        "other stride": (a[:60].reshape(4, 15)[:, :3], a[:60].reshape(4, 15)[:, :6:2]),
    }


@each_writer
@pytest.mark.parametrize("name", overlaps())
def test_overlapping_out(write, name):
    z, out = overlaps()[name]
    before = z.copy(), out.copy()
    with pytest.raises(ValueError, match="out overlaps"):
        write(z, out)
    np.testing.assert_array_equal(z, before[0])
    np.testing.assert_array_equal(out, before[1])


@each_writer
def test_interleaved_out_is_fine(write):
    """The same range of memory, but no element in common."""
    a = np.arange(24.0)
    z, out = a[::2].reshape(4, 3), a[1::2].reshape(4, 3)
    fresh = np.empty((4, 3))
    write(z.copy(), fresh)
    write(z, out)
    np.testing.assert_array_equal(out, fresh)
    np.testing.assert_array_equal(z, np.arange(0.0, 24.0, 2).reshape(4, 3))


def test_overlap_of_float32_with_float64():
    a = np.zeros(24)
    with pytest.raises(ValueError, match="out overlaps"):
        xent.softmax(a[:12].reshape(4, 3), axis=1, out=a[:12][::-1].reshape(4, 3))
    z = a.view(np.float32)[:12].reshape(4, 3)
    with pytest.raises(ValueError, match="out overlaps"):
        xent.softmax(z, axis=1, out=a.view(np.float32)[2:14].reshape(4, 3))


@pytest.mark.parametrize("function", [xent.cross_entropy_with_grad, xent.cross_entropy_grad])
def test_out_overlapping_other_inputs(function):
    a = np.zeros((4, 3))
    with pytest.raises(ValueError, match="out overlaps targets"):
        function(Z, a, out=a)
    with pytest.raises(ValueError, match="out overlaps targets"):
        function(Z, a.ravel().view(np.int64)[:4], out=a)
    with pytest.raises(ValueError, match="out overlaps class_weight"):
        function(Z, Y, class_weight=a[0], out=a)
    with pytest.raises(ValueError, match="out overlaps sample_weight"):
        function(Z, Y, sample_weight=a.ravel()[:4], out=a)
    assert not a.any()


def test_out_overlapping_grad_loss():
    a = np.ones((4, 3))
    with pytest.raises(ValueError, match="out overlaps grad_loss"):
        xent.cross_entropy_grad(Z, Y, a.ravel()[:4], reduction="none", out=a)
    assert np.all(a == 1)


def test_out_overlapping_b_and_a_of_logsumexp():
    a, b = np.zeros((4, 4)), np.ones((4, 4))
    with pytest.raises(ValueError, match="out overlaps b"):
        xent.logsumexp(a, axis=1, b=b, out=b[0])
    with pytest.raises(ValueError, match="out overlaps"):
        xent.logsumexp(a, axis=1, out=a[0])
    with pytest.raises(ValueError, match="must have shape"):
        xent.logsumexp(a, axis=1, out=np.zeros(3))


@pytest.mark.parametrize("targets", [np.array([0, 1, 9, 0]), np.array([0, 1, -1, 0]), np.full((4, 3), np.nan)])
def test_bad_targets_leave_out_alone(targets):
    for out in (np.full((4, 3), CANARY), Z.copy()):
        before = out.copy()
        logits = Z if out[0, 0] == CANARY else out
        for function in (xent.cross_entropy_with_grad, xent.cross_entropy_grad):
            with pytest.raises(ValueError, match=r"label|probability"):
                function(logits, targets, out=out)
            np.testing.assert_array_equal(out, before)
    out = np.full((4, 3), CANARY)
    with pytest.raises(ValueError, match="outside"):
        xent.sigmoid_cross_entropy_with_grad(Z, np.full((4, 3), np.nan), out=out)
    assert np.all(out == CANARY)


def test_threads_and_tiers():
    for n in (0, -1, 1.5, "2", True, None):
        with pytest.raises(ValueError, match="positive integer"):
            xent.set_num_threads(n)
    with pytest.raises(ValueError, match="no tier 'v9' here: this build and CPU have "):
        xent._kernels.set_tier("v9")
