"""The definition of softmax cross-entropy, its gradient and its Hessian, in 60-digit decimals.

For a row of logits z with p = softmax(z) and lse = logsumexp(z), target distribution q, class weights w and
sample weight s:

    q'_c = (1 - e) q_c + (e/C) sum(q)      smoothed by e        t_c = w_c q'_c        A = sum_c t_c

    loss    = s [ sum_c t_c (lse - z_c) + z_loss lse^2 ]
    grad    = s [ (A + 2 z_loss lse) p - t ]
    Hessian = s [ (A + 2 z_loss lse) (diag(p) - p p^T) + 2 z_loss p p^T ]

"mean" divides the sum over the rows by the sum of s sum_c w_c q_c (unsmoothed), or by `normalizer`.
"""

from decimal import Decimal
from typing import Any

from xent.reference._batch import Row, take_apart
from xent.reference._exact import (
    INF,
    NAN,
    ZERO,
    Nested,
    check_out,
    difference,
    exact,
    of_shape,
    sums_of_others,
    times,
    total,
)


def _loss(row: Row) -> Decimal:
    """s [ sum_c t_c (lse - z_c) + z_loss lse^2 ], with 0 * inf = 0; NaN if no logit is above -inf"""
    if not row.m > -INF:
        return NAN
    data = total(times(t, -log_p) for t, log_p in zip(row.t, row.log_p, strict=True))
    return row.s * (data + times(row.z_loss, row.lse * row.lse))


def _pull(row: Row) -> Decimal:
    """2 z_loss lse: the derivative of z_loss lse^2 by lse"""
    return times(2 * row.z_loss, row.lse)


def _grad(row: Row) -> list[Decimal]:
    """s [ (A + 2 z_loss lse) p - t ]

    A is t_c plus the other t, so A p_c - t_c = (sum of the other t) p_c - t_c (1 - p_c). For a label y that
    is p_c elsewhere and -(1 - p_y) at y itself, where p_y - 1 would lose every digit as p_y nears 1. With a cap,
    times the slope, d z_c / d logit_c.
    """
    classes = zip(row.p, row.not_p, row.t, sums_of_others(row.t), strict=True)
    pull = _pull(row)
    grad = [row.s * difference((others + pull) * p, t * not_p) for p, not_p, t, others in classes]
    return [times(slope, g) for slope, g in zip(row.slope, grad, strict=True)]


def _hessian_diag(row: Row) -> list[Decimal]:
    """s [ (A + 2 z_loss lse) p (1 - p) + 2 z_loss p^2 ]"""
    a = total(row.t) + _pull(row)
    return [row.s * p * (a * not_p + 2 * row.z_loss * p) for p, not_p in zip(row.p, row.not_p, strict=True)]


def _hvp(row: Row, v: list[Decimal]) -> list[Decimal]:
    """s [ (A + 2 z_loss lse) p (v - p.v) + 2 z_loss p (p.v) ]

    v - p.v does not see a constant in v. With the v of the largest logit taken off all of them, u = v - v_m,
    the product p.u holds only what the other logits add, however little that is.
    """
    v_m = v[row.z.index(row.m)] if row.m.is_finite() else ZERO
    u = [v_c - v_m for v_c in v]
    p_u = total(p * u_c for p, u_c in zip(row.p, u, strict=True))
    p_v = p_u + v_m
    a, b = total(row.t) + _pull(row), 2 * row.z_loss * p_v
    return [row.s * p * (a * difference(u_c, p_u) + b) for p, u_c in zip(row.p, u, strict=True)]


@exact
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
) -> Nested | tuple[Nested, Nested]:
    """sum_c w_c q'_c (lse - z_c) + z_loss lse^2 of each row of logits, averaged.

    Parameters
    ----------
    logits : array_like, shape (..., C, ...)
        Classes along `axis`; every index of the other axes (the batch shape) is a row.
    targets : array_like
        Integers of the batch shape: the class of each row. Or floats of the shape of `logits`: the
        probability of each class, >= 0; they need not sum to 1.
    axis : int
        The class axis.
    class_weight : array_like, shape (C,), optional
        w, finite and >= 0; 1 if not given.
    sample_weight : array_like of the batch shape or a number, optional
        s, finite and >= 0; 1 if not given.
    label_smoothing : float
        e in [0, 1]: q'_c = (1 - e) q_c + (e/C) sum(q).
    ignore_index : int, optional
        Rows with this label are not read; their loss, gradient and lse are 0, their weight too.
    z_loss : float
        Weight of lse^2, finite and >= 0.
    softcap : float, optional
        z = softcap tanh(logits / softcap) instead of the logits; from 2**-100 to 2**100.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum by sum_rows s sum_c w_c q_c, and is 0 if that is 0.
    normalizer : float, optional
        With "mean": divide by this finite number > 0 instead.
    return_lse : bool
        Return the lse of each row too.

    Returns
    -------
    loss : float, or nested list of the batch shape with reduction="none"
    lse : float or nested list of the batch shape
        Only with `return_lse`.

    Raises
    ------
    TypeError
        Elements that are not real numbers; bool targets; an `ignore_index` that is not an int.
    ValueError
        No classes; a shape that does not fit; a label out of range; a value outside what is stated above;
        `ignore_index` with probabilities; `normalizer` without "mean".

    Examples
    --------
    >>> from xent.reference import cross_entropy
    >>> cross_entropy([[0.0, 0.0], [3.0, -1.0]], [0, 1], reduction="none")
    [0.6931471805599453, 4.0181499279178094]
    >>> cross_entropy([0.0, -50.0], 0)
    1.9287498479639178e-22
    """
    options = axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    batch = take_apart(logits, targets, *options, softcap)
    loss = batch.reduced(_loss)
    return (loss, batch.lse()) if return_lse else loss


@exact
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
    out: None = None,
) -> tuple[Nested, ...]:
    """`cross_entropy` and its gradient by the logits, (A + 2 z_loss lse) p - w q' for each row.

    Parameters, errors: as `cross_entropy`; `out` must be None (TypeError).

    Returns
    -------
    loss, grad, and lse with `return_lse`
        `grad` has the shape of `logits`: d loss / d logits, of the sum if reduction="none".

    Examples
    --------
    >>> from xent.reference import cross_entropy_with_grad
    >>> cross_entropy_with_grad([0.0, 0.0], 1)
    (0.6931471805599453, [0.5, -0.5])
    """
    check_out(out)
    options = axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    batch = take_apart(logits, targets, *options, softcap)
    loss, grad = batch.reduced(_loss), batch.like_logits(_grad)
    return (loss, grad, batch.lse()) if return_lse else (loss, grad)


@exact
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
    out: None = None,
) -> Nested | tuple[Nested, Nested]:
    """The gradient of `cross_entropy` by the logits, times `grad_loss`: the backward pass alone.

    Parameters, errors: as `cross_entropy_with_grad`, and

    grad_loss : float, or array_like of the batch shape with reduction="none"
        The gradient that arrives at the loss; any other shape is a ValueError.

    Returns
    -------
    grad, and lse with `return_lse`

    Examples
    --------
    >>> from xent.reference import cross_entropy_grad
    >>> cross_entropy_grad([0.0, 0.0], 1, 10.0)
    [5.0, -5.0]
    """
    check_out(out)
    options = axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    batch = take_apart(logits, targets, *options, softcap)
    g = of_shape(grad_loss, "grad_loss", (), *([batch.batch] if reduction == "none" else []))
    g = g if len(g) == len(batch.rows) else g * len(batch.rows)
    grad = batch.like_logits(_grad, g=g)
    return (grad, batch.lse()) if return_lse else grad


@exact
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
) -> Nested:
    """The Hessian's diagonal, d2 loss / d logits2: (A + 2 z_loss lse) p (1 - p) + 2 z_loss p^2 for each row.

    Parameters, errors: as `cross_entropy`. Returns a nested list of the shape of `logits`.

    Examples
    --------
    >>> from xent.reference import cross_entropy_hessian_diag
    >>> cross_entropy_hessian_diag([0.0, 0.0], 1)
    [0.25, 0.25]
    """
    options = axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    batch = take_apart(logits, targets, *options)
    return batch.like_logits(_hessian_diag)


@exact
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
) -> Nested:
    """The Hessian of `cross_entropy` by the logits, times a vector of the shape of `logits`.

    Parameters, errors: as `cross_entropy`; another shape of `vector` is a ValueError. Returns a nested list
    of the shape of `logits`.

    Examples
    --------
    >>> from xent.reference import cross_entropy_hvp
    >>> cross_entropy_hvp([0.0, 0.0], 1, [1.0, 0.0])
    [0.25, -0.25]
    """
    options = axis, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    batch = take_apart(logits, targets, *options)
    v = of_shape(vector, "vector", batch.shape)
    return batch.like_logits(_hvp, [[v[i] for i in places] for places in batch.places])
