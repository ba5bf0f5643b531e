"""Sigmoid cross-entropy: each class a yes-or-no question of its own; the loss for several labels on one sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import (
    Array,
    describe_row,
    distinct,
    floating,
    native,
    output,
    reduction_code,
    weights,
)

__all__ = ["sigmoid_cross_entropy", "sigmoid_cross_entropy_with_grad"]


def _run(logits: Array, targets: Any, pos_weight: Any, sample_weight: Any, reduction: str, grad: Array | None) -> Any:
    shape, dtype = logits.shape, native(logits.dtype)
    code = reduction_code(reduction)
    targets = np.asarray(targets)
    if targets.dtype.kind not in "fiub" or targets.dtype.itemsize not in (1, 2, 4, 8) or targets.dtype == np.float16:
        raise TypeError(f"targets must be bool, integers, float32 or float64; got dtype {targets.dtype}")
    if targets.shape != shape:
        raise ValueError(f"targets must have the logits' shape {shape}; got shape {targets.shape}")
    classes = shape[-1:]
    row_weight = element_weight = None
    if pos_weight is not None:
        pos_weight = weights(pos_weight, "pos_weight", classes, "one per class, or be one number", scalar=True)
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight)
        if sample_weight.shape == shape and shape:
            element_weight = weights(sample_weight, "sample_weight", shape, "one per element")
        else:
            what = f"one per row, or {shape}, one per element"
            row_weight = weights(sample_weight, "sample_weight", shape[:-1], what, scalar=True)
    if grad is not None:
        for given, name in ((targets, "targets"), (sample_weight, "sample_weight"), (pos_weight, "pos_weight")):
            if given is not None:
                distinct(grad, given, name)
    losses = np.empty(shape, dtype) if code == 2 else None
    class_axes = 1 << (len(shape) - 1) if shape else 0
    loss = _kernels.sigmoid(logits, class_axes, targets, pos_weight, row_weight, element_weight, code, grad, losses)
    if type(loss) is tuple:
        row, value, count = loss
        where = describe_row(row, shape[:-1])
        more = f" ({count} rows have such a target)" if count > 1 else ""
        raise ValueError(f"target {value} in {where} is outside [0, 1]{more}")
    return loss if losses is None else losses[()]


def sigmoid_cross_entropy(
    logits: Any, targets: Any, *, pos_weight: Any = None, sample_weight: Any = None, reduction: str = "mean"
) -> Any:
    r"""Sigmoid (binary) cross-entropy of logits and targets, element by element.

    .. math:: \ell = s \big[ w\, t\, \mathrm{softplus}(-z) + (1 - t)\, \mathrm{softplus}(z) \big]

    Parameters
    ----------
    logits : array_like
        The z, of any shape; the last axis counts the classes (labels), the others the rows (samples).
    targets : array_like
        The t, of the logits' shape: bool, integers or floats, each in [0, 1].
    pos_weight : array_like, shape (C,), or a number, optional
        The w: how much a positive counts.
    sample_weight : array_like, optional
        The s: a number, one per row (the logits' shape without its last axis), or one per element.
    reduction : {"mean", "sum", "none"}, optional
        "mean" divides by the sum of the weights s over all elements; 0 if that is 0.

    Returns
    -------
    loss : scalar, or ndarray of the logits' shape for ``reduction="none"``
        In the logits' dtype; each element within 2 ulp.

    Raises
    ------
    TypeError
        A dtype that is not accepted.
    ValueError
        A target outside [0, 1], a weight that is negative or not finite, a shape that does not fit.

    See Also
    --------
    cross_entropy : when the classes exclude each other.

    Examples
    --------
    >>> import xent
    >>> xent.sigmoid_cross_entropy([[0.0, 40.0, -40.0]], [[1, 1, 1]], reduction="none")
    array([[6.93147181e-01, 4.24835426e-18, 4.00000000e+01]])
    """
    return _run(floating(logits, "logits"), targets, pos_weight, sample_weight, reduction, None)


def sigmoid_cross_entropy_with_grad(
    logits: Any,
    targets: Any,
    *,
    pos_weight: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    out: Array | None = None,
) -> Any:
    r"""Sigmoid cross-entropy and its gradient with respect to the logits.

    .. math:: \frac{\partial \ell}{\partial z} = s \big[ (1 - t)\, \sigma(z) - w\, t\, \sigma(-z) \big]

    Parameters
    ----------
    logits, targets, pos_weight, sample_weight, reduction
        As for `sigmoid_cross_entropy`.
    out : ndarray, optional
        Where to put the gradient: of the logits' shape and dtype. ``out=logits`` works in place.

    Returns
    -------
    loss : scalar, or ndarray of the logits' shape for ``reduction="none"``
    grad : ndarray
        Of the logits' shape and dtype: of the reduced loss, or of each element's own for "none".

    Raises
    ------
    TypeError, ValueError
        As for `sigmoid_cross_entropy`; and an `out` that does not fit, is read-only, or overlaps the logits other than
        exactly.

    See Also
    --------
    cross_entropy_with_grad

    Examples
    --------
    >>> import xent
    >>> xent.sigmoid_cross_entropy_with_grad([0.0, 0.0], [1, 0], reduction="sum")
    (np.float64(1.3862943611198906), array([-0.5,  0.5]))
    """
    logits = floating(logits, "logits")
    grad = output(out, logits, logits.shape, native(logits.dtype))
    return _run(logits, targets, pos_weight, sample_weight, reduction, grad), grad
