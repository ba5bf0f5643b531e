"""The definition of sigmoid cross-entropy (each logit a yes-or-no question of its own), in 60-digit decimals.

For a logit z with target t in [0, 1], weight s and positive weight w:

    softplus(z) = log(1 + exp(z))        sigmoid(z) = 1 / (1 + exp(-z))        1 - sigmoid(z) = sigmoid(-z)

    loss = s [ w t softplus(-z) + (1 - t) softplus(z) ]
    grad = s [ (1 - t) sigmoid(z) - w t (1 - sigmoid(z)) ]

"mean" divides the sum over all elements by the sum of their s.
"""

from decimal import Decimal
from math import prod
from typing import Any

from xent.reference._exact import (
    ONE,
    ZERO,
    Nested,
    Shape,
    as_array,
    check_out,
    check_reduction,
    difference,
    exact,
    in_range,
    log1p,
    not_negative,
    rounded,
    times,
    to_float,
    total,
)


def _softplus(z: Decimal) -> Decimal:
    """log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|))"""
    return z if z.is_nan() else max(z, ZERO) + log1p((-abs(z)).exp())


def _sigmoid(z: Decimal) -> Decimal:
    """1 / (1 + exp(-z))"""
    return ONE / (ONE + (-z).exp())


def _loss(z: Decimal, t: Decimal, s: Decimal, w: Decimal) -> Decimal:
    """s [ w t softplus(-z) + (1 - t) softplus(z) ], with 0 * inf = 0; NaN if z is NaN, but 0 for a weight of 0"""
    loss = z if z.is_nan() else times(w * t, _softplus(-z)) + times(ONE - t, _softplus(z))
    return times(s, loss)


def _grad(z: Decimal, t: Decimal, s: Decimal, w: Decimal) -> Decimal:
    """s [ (1 - t) sigmoid(z) - w t (1 - sigmoid(z)) ], 0 for a weight of 0"""
    return times(s, difference((ONE - t) * _sigmoid(z), w * t * _sigmoid(-z)))


@exact
def sigmoid_cross_entropy(
    logits: Any, targets: Any, *, pos_weight: Any = None, sample_weight: Any = None, reduction: str = "mean"
) -> Nested:
    """w t softplus(-z) + (1 - t) softplus(z) of each logit, averaged: the loss for several labels at once.

    Parameters
    ----------
    logits : array_like
        Real numbers of any shape, (..., C); a single number too.
    targets : array_like of the shape of `logits`
        bool, integers or floats in [0, 1].
    pos_weight : number or array_like of shape (C,), optional
        w, finite and >= 0: the weight of the positives, by the last axis.
    sample_weight : number or array_like, optional
        s, finite and >= 0: one for all, one for each row (the shape of `logits` without the last axis), or
        one for each element.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum by the sum of s over all elements, and is 0 if that is 0.

    Returns
    -------
    float, or nested list of the shape of `logits` with reduction="none"

    Raises
    ------
    TypeError
        Elements that are not real numbers.
    ValueError
        A shape that does not fit, or a value outside what is stated above.

    Examples
    --------
    >>> from xent.reference import sigmoid_cross_entropy
    >>> sigmoid_cross_entropy([0.0, 4.0], [1, 0], reduction="none")
    [0.6931471805599453, 4.0181499279178094]
    """
    return _loss_and_grad(logits, targets, pos_weight, sample_weight, reduction)[0]


@exact
def sigmoid_cross_entropy_with_grad(
    logits: Any,
    targets: Any,
    *,
    pos_weight: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    out: None = None,
) -> tuple[Nested, Nested]:
    """`sigmoid_cross_entropy` and its gradient, (1 - t) sigmoid(z) - w t (1 - sigmoid(z)) for each logit.

    Parameters, errors: as `sigmoid_cross_entropy`; `out` must be None (TypeError).

    Returns
    -------
    loss, grad
        `grad` has the shape of `logits`: d loss / d logits, of the sum if reduction="none".

    Examples
    --------
    >>> from xent.reference import sigmoid_cross_entropy_with_grad
    >>> sigmoid_cross_entropy_with_grad([0.0, 0.0], [1, 0])
    (0.6931471805599453, [-0.25, 0.25])
    """
    check_out(out)
    return _loss_and_grad(logits, targets, pos_weight, sample_weight, reduction)


def _loss_and_grad(
    logits: Any, targets: Any, pos_weight: Any, sample_weight: Any, reduction: Any
) -> tuple[Nested, Nested]:
    """Check the arguments, apply the two formulas to each element, reduce."""
    array = as_array(logits, "logits")
    shape, z = array.shape, array.decimals()
    check_reduction(reduction)
    t = in_range(targets, "targets", "numbers from 0 to 1", ONE, shape)
    w = not_negative(1 if pos_weight is None else pos_weight, "pos_weight", (), shape[-1:])
    s = not_negative(1 if sample_weight is None else sample_weight, "sample_weight", (), shape[:-1], shape)
    w, s = _by_element(w, shape, last=True), _by_element(s, shape, last=False)

    losses = [_loss(*element) for element in zip(z, t, s, w, strict=True)]
    grads = [_grad(*element) for element in zip(z, t, s, w, strict=True)]
    if reduction == "none":
        return rounded(losses, shape), rounded(grads, shape)
    divisor = total(s) if reduction == "mean" else ONE
    if divisor == 0:  # nothing to average
        return 0.0, rounded([ZERO] * len(z), shape)
    return to_float(total(losses) / divisor), rounded([g / divisor for g in grads], shape)


def _by_element(values: list[Decimal], shape: Shape, last: bool) -> list[Decimal]:
    """One value for each element, from one for all, one for each place of the last axis, or one per row."""
    size = prod(shape)
    if not values or not size:
        return []
    repeat = size // len(values)
    return values * repeat if last else [v for v in values for _ in range(repeat)]
