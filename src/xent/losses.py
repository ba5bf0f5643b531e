"""Softmax cross-entropy and sigmoid cross-entropy on logits, with gradients and second derivatives.

With q the target distribution of a row (one-hot for a class index; the given row for probabilities), w the class
weights, s the sample weight, e the label smoothing, C classes and lse = logsumexp(z)::

    q'_c     = (1 - e) q_c + (e / C) sum(q)
    loss_row = s [ sum_c w_c q'_c (lse - z_c) + z_loss lse^2 ]
    grad_row = s [ (sum_c w_c q'_c + 2 z_loss lse) p - w q' ]

``"mean"`` divides the sum of the rows by the sum of the row weights ``s sum_c w_c q_c``. With ``softcap=cap`` the z are
``cap tanh(x / cap)`` of the logits x that are given, and the gradient is multiplied by ``1 - tanh(x / cap)^2``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import Array, distinct, plain
from xent._problem import batch_shape, checked, gradient_array, run
from xent.hessian import cross_entropy_hessian_diag, cross_entropy_hvp
from xent.sigmoid import sigmoid_cross_entropy, sigmoid_cross_entropy_with_grad

__all__ = [
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_hessian_diag",
    "cross_entropy_hvp",
    "cross_entropy_with_grad",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_with_grad",
]

_NO_OPTIONS = (0.0, 0.0, "mean", False)  # label_smoothing, z_loss, reduction, return_lse


def _plain(logits: Any, targets: Any, out: Any, with_grad: bool, axis: Any, *options: Any) -> Any:
    """What a call without any option returns, where its arrays are plain too (see _kernels); else None."""
    return _kernels.plain_cross_entropy(logits, targets, axis, out, with_grad) if options == _NO_OPTIONS else None


def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    return_lse: bool = False,
) -> Any:
    r"""Softmax cross-entropy of logits and targets.

    .. math:: \ell = s \Big[ \sum_c w_c q'_c (\mathrm{lse}(z) - z_c) + \zeta\, \mathrm{lse}(z)^2 \Big],
              \quad q'_c = (1 - e) q_c + \tfrac{e}{C} \sum_k q_k

    Parameters
    ----------
    logits : array_like, shape (..., C, ...)
        The z: real numbers, unnormalised log-probabilities. float32 and float64 are computed as such, integers as
        float64, float16 and bfloat16 (of ml_dtypes) in float32.
    targets : array_like
        Integers (any width) of the logits' shape without the class axis: the class of each row, 0 .. C-1. Or floats of
        the logits' shape: a target distribution q per row, which need not sum to 1.
    axis : int, optional
        The class axis.
    class_weight : array_like, shape (C,), optional
        The w: finite, not negative.
    sample_weight : array_like, shape of a row index, or a number, optional
        The s: finite, not negative. A weight of 2 is the row twice, a weight of 0 is no row.
    label_smoothing : float, optional
        The e, in [0, 1]: that part of each target is spread evenly over the classes.
    ignore_index : int, optional
        Rows with this label count for nothing and are not read (loss, gradient and lse 0).
    z_loss : float, optional
        The zeta, not negative: the weight of lse squared.
    softcap : float, optional
        A cap, from 2**-100 to 2**100: the loss is that of ``cap * tanh(z / cap)``, each within 1 ulp and rounded to the
        logits' dtype. They are made in a scratch of a few rows per thread.
    reduction : {"mean", "sum", "none"}, optional
        "mean" divides the sum of the losses by the sum of the row weights ``s sum_c w_c q_c``; 0 if that is 0.
    normalizer : float, optional
        With "mean": divide by this number instead (for gradients accumulated over batches).
    return_lse : bool, optional
        Also return logsumexp of each row.

    Returns
    -------
    loss : scalar, or ndarray with one number per row for ``reduction="none"``
        In the logits' dtype, or float32 for those of 16 bits; each row within 2 ulp.
    lse : scalar or ndarray
        Only with `return_lse`: one number per row.

    Raises
    ------
    TypeError
        A dtype that is not accepted (complex, long double, bool targets, ...).
    ValueError
        A label outside 0 .. C-1, a negative or NaN probability, a shape or an option out of bounds, no classes.

    See Also
    --------
    cross_entropy_with_grad, cross_entropy_grad
    sigmoid_cross_entropy : when each class is a question of its own.

    References
    ----------
    .. [1] C. Szegedy et al., "Rethinking the Inception Architecture", 2016 (label smoothing).
    .. [2] A. Chowdhery et al., "PaLM", 2022 (z-loss).

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> logits = np.array([[2.0, 1.0, 0.0], [0.0, 30.0, 0.0]])
    >>> xent.cross_entropy(logits, [0, 1], reduction="none")
    array([4.07605964e-01, 1.87152459e-13])
    """
    if class_weight is sample_weight is ignore_index is softcap is normalizer is None:
        result = _plain(logits, targets, None, False, axis, label_smoothing, z_loss, reduction, return_lse)
        if result is not None:
            return result
    problem = checked(
        logits, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    )
    return run(problem, True, None, None, return_lse, softcap)


def cross_entropy_with_grad(
    logits: Any,
    targets: Any,
    *,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    return_lse: bool = False,
    out: Array | None = None,
) -> Any:
    r"""Softmax cross-entropy and its gradient with respect to the logits, in one sweep over them.

    .. math:: \frac{\partial \ell}{\partial z_j}
              = s \Big[ \Big(\sum_c w_c q'_c + 2 \zeta\, \mathrm{lse}\Big) p_j - w_j q'_j \Big]

    For a class index and no options that is p - 1 at the label and p elsewhere: every output learns.

    Parameters
    ----------
    logits, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, softcap
        As for `cross_entropy`.
    reduction, normalizer, return_lse
        As for `cross_entropy`.
    out : ndarray, optional
        Where to put the gradient: of the logits' shape and dtype. ``out=logits`` works in place.

    Returns
    -------
    loss : scalar, or ndarray with one number per row for ``reduction="none"``
    grad : ndarray
        Of the logits' shape and dtype: the gradient of the reduced loss, or of each row's own loss for "none". With a
        class index within 2 ulp in every element; with probabilities within 2 ulp of the larger of p and q. With
        `softcap` within 4 ulp of the gradient of the capped logits as they are rounded; a slope ``1 - tanh**2`` below
        the smallest normal number counts as 0.
    lse : scalar or ndarray
        Only with `return_lse`.

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`; and an `out` that does not fit, is read-only, or overlaps the logits other than
        exactly. Nothing is written then.

    See Also
    --------
    cross_entropy, cross_entropy_grad

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> loss, grad = xent.cross_entropy_with_grad(np.array([[0.0, -20.0, -25.0]], np.float32), [0])
    >>> print(f"{loss:.3e}", grad)
    2.075e-09 [[-2.0750417e-09  2.0611537e-09  1.3887944e-11]]
    """
    if class_weight is sample_weight is ignore_index is softcap is normalizer is None:
        result = _plain(logits, targets, out, True, axis, label_smoothing, z_loss, reduction, return_lse)
        if result is not None:
            return result
    problem = checked(
        logits, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    )
    grad = gradient_array(problem, out)
    if return_lse:
        loss, lse = run(problem, True, grad, None, True, softcap)
        return loss, grad, lse
    return run(problem, True, grad, None, False, softcap), grad


def cross_entropy_grad(
    logits: Any,
    targets: Any,
    grad_loss: Any = 1.0,
    *,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    return_lse: bool = False,
    out: Array | None = None,
) -> Any:
    r"""Gradient of the softmax cross-entropy with respect to the logits: the backward pass alone.

    Nothing needs to be saved from a forward pass; the bits are those of `cross_entropy_with_grad`, scaled by
    `grad_loss`.

    Parameters
    ----------
    logits, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, softcap
        As for `cross_entropy`.
    reduction, normalizer, return_lse, out
        As for `cross_entropy_with_grad`.
    grad_loss : float or array_like, optional
        The gradient with respect to the loss, d L / d loss: a number, or with ``reduction="none"`` one per row.

    Returns
    -------
    grad : ndarray
        Of the logits' shape and dtype.
    lse : scalar or ndarray
        Only with `return_lse`.

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy_with_grad`; and a `grad_loss` per row without ``reduction="none"``.

    See Also
    --------
    cross_entropy_with_grad

    Examples
    --------
    >>> import xent
    >>> xent.cross_entropy_grad([[0.0, 0.0]], [1])
    array([[ 0.5, -0.5]])
    """
    problem = checked(
        logits, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    )
    factors = np.asarray(grad_loss)
    if factors.dtype.kind not in "fiu" or factors.dtype.itemsize > 8:
        raise TypeError(f"grad_loss must be real numbers, got dtype {factors.dtype}")
    if factors.dtype.kind == "f" and factors.dtype.itemsize < 4:
        factors = factors.astype(np.float32)
    if factors.ndim and reduction != "none":
        raise ValueError(
            f"grad_loss must be one number unless reduction is 'none'; got shape {factors.shape} "
            f"with reduction={reduction!r}"
        )
    batch = batch_shape(*problem[:2])
    if factors.ndim and factors.shape != batch:
        raise ValueError(f"grad_loss must be one number or have shape {batch}; got shape {factors.shape}")
    grad = gradient_array(problem, out)
    if factors.ndim:
        distinct(grad, factors, "grad_loss")
    if return_lse:
        return grad, run(problem, False, grad, plain(factors), True, softcap)[1]
    run(problem, False, grad, plain(factors), False, softcap)
    return grad
