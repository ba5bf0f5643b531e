"""The definition of logsumexp, softmax and log_softmax, in 60-digit decimals.

With z a row of logits and m = max(z):

    e_c = exp(z_c - m)        p_c = e_c / sum_k e_k        lse = m + log(sum_k e_k)

The largest e is exactly 1, so sum_k e_k = 1 + (the others) and its logarithm is log1p of the others: when p
is nearly 1, they are all there is. SciPy's signatures, SciPy's results at infinities and NaN.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cached_property
from typing import Any

from xent.reference._exact import (
    INF,
    NAN,
    ONE,
    ZERO,
    Array,
    Nested,
    as_array,
    broadcast,
    broadcast_shapes,
    check_out,
    exact,
    groups,
    log1p,
    normal_axes,
    rounded,
    sums_of_others,
    total,
)


class SoftRow:
    """What follows from one row of logits z, shape (C,), each by its formula and each only when asked for.

    A NaN, a +inf, or nothing but -inf makes e and with it p NaN, by inf - inf = NaN; lse and log_p keep what
    they can: lse = m, and a finite z_c under m = +inf has log p_c = -inf.
    """

    def __init__(self, z: Sequence[Decimal]) -> None:
        self.z = z
        self.m = NAN if any(v.is_nan() for v in z) else max(z, default=-INF)

    @cached_property
    def e(self) -> list[Decimal]:
        """e_c = exp(z_c - m)"""
        return [(v - self.m).exp() for v in self.z]

    @cached_property
    def sum_e(self) -> Decimal:
        """sum_k e_k"""
        return total(self.e)

    @cached_property
    def others(self) -> list[Decimal]:
        """sum_{k != c} e_k for each c"""
        return sums_of_others(self.e)

    @cached_property
    def p(self) -> list[Decimal]:
        """p_c = e_c / sum_k e_k"""
        return [e / self.sum_e for e in self.e]

    @cached_property
    def not_p(self) -> list[Decimal]:
        """1 - p_c = (sum_{k != c} e_k) / sum_k e_k: no subtraction, so p = 1 - 1e-300 keeps its 1e-300"""
        return [others / self.sum_e for others in self.others]

    @cached_property
    def log_sum_e(self) -> Decimal:
        """log(sum_k e_k) = log1p(sum of the others), since the largest is 1"""
        return log1p(self.others[self.z.index(self.m)]) if self.m.is_finite() else ZERO

    @cached_property
    def lse(self) -> Decimal:
        """lse = m + log(sum_k e_k)"""
        return self.m + self.log_sum_e

    @cached_property
    def log_p(self) -> list[Decimal]:
        """log p_c = z_c - lse = (z_c - m) - log(sum_k e_k): both parts <= 0, nothing cancels"""
        return [(v - self.m) - self.log_sum_e for v in self.z]


@exact
def logsumexp(
    a: Any,
    axis: Any = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    out: None = None,
) -> Nested | tuple[Nested, Nested]:
    """log(sum_k b_k exp(a_k)) over `axis`.

    Parameters
    ----------
    a : array_like
        Real numbers of any shape.
    axis : int, tuple of ints or None
        The axes summed over; None for all of them.
    b : array_like, optional
        Factors, broadcast against `a`; may be negative. Where b is 0, nothing is added, whatever a is.
    keepdims : bool
        Keep the axes summed over, with length 1.
    return_sign : bool
        Return also the sign of the sum; without it a negative sum gives NaN.
    out : None
        The reference returns lists.

    Returns
    -------
    lse : float or nested list
        log|sum|; -inf for an empty sum or a sum of 0.
    sign : float or nested list
        1, 0, -1 or NaN; only with `return_sign`. As in SciPy, an empty sum has sign -1.

    Raises
    ------
    TypeError
        Elements that are not real numbers; `out` other than None.
    ValueError
        An axis out of bounds or named twice; shapes that do not broadcast.

    Examples
    --------
    >>> from xent.reference import logsumexp
    >>> logsumexp([0.0, 0.0])
    0.6931471805599453
    >>> logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    (1.5413248546129181, -1.0)
    """
    check_out(out)
    terms = as_array(a, "a")
    factors = Array((), [1], "i") if b is None else as_array(b, "b")
    shape = broadcast_shapes(terms.shape, factors.shape) or (1,)  # SciPy takes a number for an array of one
    a_k, b_k = broadcast(terms, shape), broadcast(factors, shape)

    axes = normal_axes(axis, len(shape))
    sums = [log_of_sum([(b_k[i], a_k[i]) for i in group]) for group in groups(shape, axes)]
    kept = tuple(1 if k in axes else n for k, n in enumerate(shape) if keepdims or k not in axes)
    sign = rounded([s for _, s in sums], kept)
    if return_sign:
        return rounded([log for log, _ in sums], kept), sign
    return rounded([NAN if s < 0 and log != -INF else log for log, s in sums], kept)


def log_of_sum(terms: list[tuple[Decimal, Decimal]]) -> tuple[Decimal, Decimal]:
    """log|S| and sign(S) of S = sum_k b_k exp(a_k), for pairs (b_k, a_k)."""
    if not terms:
        return -INF, -ONE  # SciPy: the sign of -inf
    terms = [(b, a) for b, a in terms if b != 0]
    if any(b.is_nan() or a.is_nan() or (b.is_infinite() and a == -INF) for b, a in terms):
        return NAN, NAN
    infinite = {ONE.copy_sign(b) for b, a in terms if b.is_infinite() or a == INF}
    if infinite:
        return (INF, infinite.pop()) if len(infinite) == 1 else (NAN, NAN)

    # Equal exponents first: their factors add up exactly, so what cancels is gone and what is left is not 0.
    factor: dict[Decimal, Fraction] = {}
    for b, a in terms:
        if a != -INF:
            factor[a] = factor.get(a, Fraction(0)) + Fraction(b)
    factor = {a: b for a, b in factor.items() if b}
    if not factor:
        return -INF, ZERO

    # S = b_m e^m (1 + x), with x the sum of all other terms relative to that of the largest exponent m. Where
    # 1 + x cancels to fewer than 40 digits, it is computed again with twice as many.
    m = max(factor)
    with localcontext() as context:
        while True:
            weight = {a: Decimal(f.numerator) / f.denominator for a, f in factor.items()}
            others = [weight[a] / weight[m] * (a - m).exp() for a in factor if a != m]
            x = total(others)
            if abs(ONE + x) > ONE.scaleb(40 - context.prec) * (ONE + total(map(abs, others))):
                return m + (abs(weight[m]).ln() + log1p(x)), ONE.copy_sign(weight[m] * (ONE + x))
            context.prec *= 2


@exact
def softmax(x: Any, axis: Any = None, *, out: None = None) -> Nested:
    """exp(x_c) / sum_k exp(x_k), the sum running over `axis`.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    axis : int, tuple of ints or None
        The axes over which the result sums to 1; None for all of them.
    out : None
        The reference returns lists.

    Returns
    -------
    float or nested list
        Of the shape of `x`. A row with NaN or +inf, or with nothing but -inf, is NaN throughout.

    Raises
    ------
    TypeError, ValueError
        As `logsumexp`.

    Examples
    --------
    >>> from xent.reference import softmax
    >>> softmax([0.0, 0.0])
    [0.5, 0.5]
    """
    check_out(out)
    return _by_row(lambda row: row.p, x, axis)


@exact
def log_softmax(x: Any, axis: Any = None, *, out: None = None) -> Nested:
    """x_c - log(sum_k exp(x_k)), the sum running over `axis`: the logarithm of `softmax`, at any size.

    Parameters
    ----------
    x, axis, out
        As `softmax`.

    Returns
    -------
    float or nested list
        Of the shape of `x`. Beside a +inf, finite entries are -inf and the +inf itself NaN.

    Raises
    ------
    TypeError, ValueError
        As `logsumexp`.

    Examples
    --------
    >>> from xent.reference import log_softmax
    >>> log_softmax([1000.0, 0.0])
    [0.0, -1000.0]
    >>> log_softmax([0.0, -50.0])
    [-1.9287498479639178e-22, -50.0]
    """
    check_out(out)
    return _by_row(lambda row: row.log_p, x, axis)


def _by_row(formula: Callable[[SoftRow], list[Decimal]], x: Any, axis: Any) -> Nested:
    """Apply the formula to each row along `axis`; the results stand where the logits stood."""
    array = as_array(x, "x")
    z = array.decimals()
    result = [NAN] * len(z)
    for group in groups(array.shape, normal_axes(axis, len(array.shape))):
        for i, value in zip(group, formula(SoftRow([z[i] for i in group])), strict=True):
            result[i] = value
    return rounded(result, array.shape)
