"""The arguments of a softmax cross-entropy, checked once for all functions that take them.

`checked` returns them as the kernels take them, in the kernels' order; the functions add their outputs and cross over.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy import ndarray

from xent import _kernels
from xent._arrays import (
    FLOAT32,
    Array,
    computed,
    describe_row,
    distinct,
    floating,
    is_half,
    labels,
    native,
    number,
    one_axis,
    output,
    reduction_code,
    weights,
)

_INF = float("inf")

# logits, class axes, class indices, probabilities, class_weight, sample_weight, label_smoothing, z_loss, normalizer
# (0: none), ignore_index, reduction
Checked = tuple[
    Array, int, Array | None, Array | None, Array | None, Array | None, float, float, float, int | None, int
]


def checked(
    logits: Any,
    targets: Any,
    axis: int,
    class_weight: Any,
    sample_weight: Any,
    label_smoothing: float,
    ignore_index: int | None,
    z_loss: float,
    reduction: str,
    normalizer: float | None,
) -> Checked:
    """Every argument of the loss, or the error that it deserves."""
    if type(logits) is not ndarray or logits.dtype is not FLOAT32:
        logits = floating(logits, "logits", halves=True)
    shape = logits.shape
    if not shape:
        raise ValueError("logits must have a class axis; got a 0-d array")
    if axis == -1:
        at, batch = len(shape) - 1, shape[:-1]
    else:
        at = one_axis(axis, len(shape))
        batch = shape[:at] + shape[at + 1 :]
    classes = shape[at]
    if classes == 0:
        raise ValueError(f"logits of shape {shape} have no classes along axis {axis}")

    if type(targets) is not ndarray:
        targets = np.asarray(targets)
    if is_half(targets.dtype):
        targets = targets.astype(FLOAT32)
    kind = targets.dtype.kind
    index = probabilities = None
    if kind in "iu":
        index = targets
        if targets.shape != batch or len(batch) > 1 or not targets.dtype.isnative:
            index = labels(targets, batch)
        if ignore_index is not None:
            ignore_index = _label(ignore_index)
    elif kind == "f" and targets.dtype.itemsize in (4, 8):
        if targets.shape != shape:
            raise ValueError(f"target probabilities must have the logits' shape {shape}; got shape {targets.shape}")
        if ignore_index is not None:
            raise ValueError("ignore_index goes with class indices, not with probabilities")
        probabilities = targets
    else:
        raise TypeError(
            f"targets must be integers (class indices) or float32 or float64 (probabilities); got dtype {targets.dtype}"
        )
    code = 0 if reduction == "mean" else reduction_code(reduction)
    divisor = 0.0
    if class_weight is not None:
        class_weight = weights(class_weight, "class_weight", (classes,), "one per class")
    if sample_weight is not None:
        sample_weight = weights(sample_weight, "sample_weight", batch, "one per row", scalar=True)
    if label_smoothing != 0.0:
        label_smoothing = number(label_smoothing, "label_smoothing", 0.0, 1.0, "a number from 0 to 1")
    if z_loss != 0.0:
        z_loss = number(z_loss, "z_loss", 0.0, _INF, "a finite number, not negative")
    if normalizer is not None:
        if code != 0:
            raise ValueError(f"normalizer goes with reduction='mean', not with {reduction!r}")
        divisor = number(normalizer, "normalizer", 5e-324, _INF, "a finite number above 0")
    return (
        logits,
        1 << at,
        index,
        probabilities,
        class_weight,
        sample_weight,
        label_smoothing,
        z_loss,
        divisor,
        ignore_index,
        code,
    )


def checked_softcap(softcap: Any) -> float:
    """The cap on the logits, 0 for none."""
    if softcap is None:
        return 0.0
    return number(softcap, "softcap", 2.0**-100, 2.0**100, "a number from 2**-100 to 2**100, or None")


def run(
    problem: Checked, want_loss: bool, grad: Array | None, grad_loss: Array | None, return_lse: bool, softcap: Any
) -> Any:
    """The loss (reduced, or per row), and with `return_lse` (loss, lse)."""
    cap = checked_softcap(softcap)
    if problem[10] != 2 and not return_lse:
        reduced: Any = _kernels.cross_entropy(*problem, grad_loss, grad, None, None, cap)
        if type(reduced) is tuple:
            complain(problem, reduced)
        return reduced
    rows = lse = None
    if return_lse or want_loss:
        logits, class_axes = problem[:2]
        batch = batch_shape(logits, class_axes)
        if want_loss and problem[10] == 2:
            rows = np.empty(batch, computed(logits.dtype))
        if return_lse:
            lse = np.empty(batch, computed(logits.dtype))
    loss: Any = _kernels.cross_entropy(*problem, grad_loss, grad, rows, lse, cap)
    if type(loss) is tuple:
        complain(problem, loss)
    if rows is not None:
        loss = rows[()]
    return (loss, lse[()]) if lse is not None else loss


def batch_shape(logits: Array, class_axes: int) -> tuple[int, ...]:
    """The logits' shape without the class axis."""
    return tuple(n for i, n in enumerate(logits.shape) if not class_axes >> i & 1)


def gradient_array(problem: Checked, out: Array | None) -> Array:
    """`out`, checked against everything that is read while it is written, or a new array."""
    logits = problem[0]
    dtype = logits.dtype
    if out is None:
        return np.empty(logits.shape, native(dtype))
    targets = problem[3] if problem[2] is None else problem[2]
    if not (
        type(out) is ndarray
        and out.dtype is dtype
        and dtype.isnative
        and out.shape == logits.shape
        and _kernels.is_clear(out, logits, targets)
    ):  # name what is wrong
        out = output(out, logits, logits.shape, native(dtype))
        if targets is not None:
            distinct(out, targets, "targets")
    if problem[4] is not None:
        distinct(out, problem[4], "class_weight")
    if problem[5] is not None:
        distinct(out, problem[5], "sample_weight")
    return out


def complain(problem: Checked, fault: tuple[int, Any, int]) -> NoReturn:
    """Raise what the kernels found wrong with the targets: (row, value there, how many rows)."""
    logits, class_axes, index = problem[:3]
    row, value, count = fault
    where = describe_row(row, batch_shape(logits, class_axes))
    more = f" ({count} rows have such a target)" if count > 1 else ""
    if index is not None:
        classes = logits.shape[class_axes.bit_length() - 1]
        raise ValueError(f"label {value} at {where} is outside 0..{classes - 1}{more}")
    raise ValueError(f"target probability {value} in {where}: probabilities must be finite and not negative{more}")


def _label(value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"ignore_index must be an integer or None, got {value!r}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"ignore_index must fit in 64 bits, got {value}")
    return int(value)
