"""Second derivatives of the softmax cross-entropy with respect to the logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import Array, floating, native
from xent._problem import Checked, checked, complain

__all__ = ["cross_entropy_hessian_diag", "cross_entropy_hvp"]


def _second_derivative(problem: Checked, vector: Array | None) -> Array:
    logits = problem[0]
    out = np.empty(logits.shape, native(logits.dtype))
    fault = _kernels.hessian(*problem, vector, out)
    if fault is not None:
        complain(problem, fault)
    return out


def cross_entropy_hessian_diag(
    logits: Any,
    targets: Any,
    *,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
) -> Array:
    r"""Diagonal of the Hessian of the softmax cross-entropy with respect to the logits.

    .. math:: \frac{\partial^2 \ell}{\partial z_j^2} = s \big[ G\, p_j (1 - p_j) + 2 \zeta p_j^2 \big],
              \quad G = \sum_c w_c q'_c + 2 \zeta\, \mathrm{lse}

    Parameters
    ----------
    logits, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
        As for `cross_entropy`.

    Returns
    -------
    diag : ndarray
        Of the logits' shape and dtype; exact also where p is nearly 1.

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`.

    See Also
    --------
    cross_entropy_hvp

    Examples
    --------
    >>> import xent
    >>> xent.cross_entropy_hessian_diag([[0.0, 0.0]], [0])
    array([[0.25, 0.25]])
    """
    z = floating(logits, "logits")  # not of 16 bits
    problem = checked(
        z, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    )
    return _second_derivative(problem, None)


def cross_entropy_hvp(
    logits: Any,
    targets: Any,
    vector: Any,
    *,
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
) -> Array:
    r"""Hessian of the softmax cross-entropy times a vector.

    .. math:: (H v)_j = s\, p_j \big[ G (v_j - \mu) + 2 \zeta \mu \big],
              \quad \mu = \sum_c p_c v_c, \quad G = \sum_c w_c q'_c + 2 \zeta\, \mathrm{lse}

    Parameters
    ----------
    logits, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
        As for `cross_entropy`.
    vector : array_like
        The v, of the logits' shape.

    Returns
    -------
    hv : ndarray
        Of the logits' shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`; and a `vector` of another shape.

    See Also
    --------
    cross_entropy_hessian_diag

    Examples
    --------
    >>> import xent
    >>> xent.cross_entropy_hvp([[0.0, 0.0]], [0], [[1.0, -1.0]])
    array([[ 0.5, -0.5]])
    """
    z = floating(logits, "logits")  # not of 16 bits
    problem = checked(
        z, targets, axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    )
    v = floating(vector, "vector")
    if v.shape != problem[0].shape:
        raise ValueError(f"vector must have the logits' shape {problem[0].shape}; got shape {v.shape}")
    return _second_derivative(problem, v)
