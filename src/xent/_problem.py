"""The arguments of a softmax cross-entropy, checked and described once for all functions that take them."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy import ndarray

from xent import _kernels
from xent._arrays import (
    FLOAT32,
    Array,
    describe_row,
    distinct,
    floating,
    labels,
    native,
    number,
    one_axis,
    output,
    reduction_code,
    weights,
)

_INF = float("inf")


class Problem:
    """The checked arguments of a cross-entropy."""

    __slots__ = ("batch", "class_axes", "dtype", "logits", "options", "reduction", "targets")

    def __init__(
        self,
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
    ) -> None:
        if type(logits) is ndarray and logits.dtype is FLOAT32:
            self.dtype = FLOAT32
        else:
            logits = floating(logits, "logits")
            self.dtype = native(logits.dtype)
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
        self.batch = batch
        self.logits = logits
        self.class_axes = 1 << at
        self.reduction = 0 if reduction == "mean" else reduction_code(reduction)

        if type(targets) is not ndarray:
            targets = np.asarray(targets)
        kind = targets.dtype.kind
        index = probabilities = None
        if kind in "iu":
            index = targets if targets.shape == batch and len(batch) == 1 and targets.dtype.isnative else labels(targets, batch)
            if ignore_index is not None:
                ignore_index = _label(ignore_index)
        elif kind == "f" and targets.dtype.itemsize in (4, 8):
            if targets.shape != shape:
                raise ValueError(
                    f"target probabilities must have the logits' shape {shape}; got shape {targets.shape}"
                )
            if ignore_index is not None:
                raise ValueError("ignore_index goes with class indices, not with probabilities")
            probabilities = targets
        else:
            raise TypeError(
                "targets must be integers (class indices) or float32 or float64 (probabilities); "
                f"got dtype {targets.dtype}"
            )
        self.targets = targets
        if class_weight is not None:
            class_weight = weights(class_weight, "class_weight", (classes,), "one per class")
        if sample_weight is not None:
            sample_weight = weights(sample_weight, "sample_weight", batch, "one per row", scalar=True)
        if label_smoothing != 0.0:
            label_smoothing = number(label_smoothing, "label_smoothing", 0.0, 1.0, "a number from 0 to 1")
        if z_loss != 0.0:
            z_loss = number(z_loss, "z_loss", 0.0, _INF, "a finite number, not negative")
        divisor = 0.0
        if normalizer is not None:
            if self.reduction != 0:
                raise ValueError(f"normalizer goes with reduction='mean', not with {reduction!r}")
            divisor = number(normalizer, "normalizer", 5e-324, _INF, "a finite number above 0")
        self.options = (
            index,
            probabilities,
            class_weight,
            sample_weight,
            label_smoothing,
            z_loss,
            divisor,
            ignore_index,
        )

    def run(self, want_loss: bool, grad: Array | None, grad_loss: Array | None, return_lse: bool) -> tuple[Any, Any]:
        """The loss (reduced, or per row) and the lse, or None where not wanted."""
        index, probabilities, class_weight, sample_weight, smoothing, z_loss, divisor, ignore = self.options
        rows = np.empty(self.batch, self.dtype) if want_loss and self.reduction == 2 else None
        lse = np.empty(self.batch, self.dtype) if return_lse else None
        loss = _kernels.cross_entropy(
            self.logits, self.class_axes, index, probabilities, class_weight, sample_weight, grad_loss,
            smoothing, z_loss, divisor, ignore, self.reduction, grad, rows, lse,
        )  # fmt: skip
        if type(loss) is tuple:
            self.complain(loss)
        return loss if rows is None else rows[()], None if lse is None else lse[()]

    def gradient_array(self, out: Array | None) -> Array:
        """`out`, checked against everything that is read while it is written, or a new array."""
        if out is None:
            return np.empty(self.logits.shape, self.dtype)
        logits, targets, dtype = self.logits, self.targets, self.dtype
        if not (
            type(out) is ndarray
            and out.dtype is dtype
            and logits.dtype is dtype
            and out.shape == logits.shape
            and _kernels.is_clear(out, logits, targets)
        ):  # name what is wrong
            out = output(out, logits, logits.shape, dtype)
            distinct(out, targets, "targets")
        _, _, class_weight, sample_weight, *_ = self.options
        if class_weight is not None:
            distinct(out, class_weight, "class_weight")
        if sample_weight is not None:
            distinct(out, sample_weight, "sample_weight")
        return out

    def complain(self, fault: tuple[int, Any, int]) -> NoReturn:
        row, value, count = fault
        where = describe_row(row, self.batch)
        more = f" ({count} rows have such a target)" if count > 1 else ""
        if self.options[0] is not None:
            classes = self.logits.size // max(1, self.targets.size)
            raise ValueError(f"label {value} at {where} is outside 0..{classes - 1}{more}")
        raise ValueError(
            f"target probability {value} in {where}: probabilities must be finite and not negative{more}"
        )


def _label(value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"ignore_index must be an integer or None, got {value!r}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"ignore_index must fit in 64 bits, got {value}")
    return int(value)
