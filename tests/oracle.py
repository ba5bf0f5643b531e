"""The truth that tests compare with: the formulas as they stand, in mpmath, for one row at a time.

Independent of `xent.reference` in method: nothing is rearranged, no maximum subtracted (mpmath's exponents
have no bounds), 1 - p and p - q are plain subtractions; instead, each row is computed in so many digits
that what cancels leaves more than 40 right (`_digits`). Rows are taken at their exact values; results are
mpf or lists of mpf. Entries may be -inf; for +inf, NaN or nothing finite there are only conventions: test
them one by one.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any

import numpy as np
from mpmath import mp, mpf

Row = Sequence[float] | np.ndarray
DIGITS = 60


def exact(row: Any) -> list[mpf]:
    """The values as they are: every float is an mpf."""
    return [mpf(float(v)) for v in np.asarray(row).ravel()]


def _digits(row: Row) -> int:
    """60, and the places from the largest to the smallest e^z (e^-800 is 0 to float64), and those of z."""
    z = [float(v) for v in row if math.isfinite(v)] or [0.0]
    return DIGITS + int(min(max(z) - min(z), 800.0) / 2.3 + math.log10(max(map(abs, z)) + 1))


def _in_digits(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compute in the digits that the row (the first argument) needs."""

    @wraps(function)
    def compute(row: Row, *args: Any, **kwargs: Any) -> Any:
        with mp.workdps(_digits(row)):
            return function(row, *args, **kwargs)

    return compute


@lru_cache(maxsize=8)
def _exp(z: tuple[float, ...], digits: int) -> tuple[list[mpf], mpf]:
    """e^z and its sum, kept for the next function that asks about the same row."""
    e = [mp.exp(mpf(v)) for v in z]
    return e, sum(e)


def _minus(x: mpf, y: mpf) -> mpf:
    """x - y; 0 if only the last 15 of the digits carried differ: then the two are equal."""
    d = x - y
    return mpf(0) if mp.isfinite(d) and abs(d) <= mpf(10) ** (15 - mp.dps) * abs(x) else d


@_in_digits
def lse_row(row: Row, b: Row | None = None) -> mpf:
    """log(sum_k b_k e^(a_k)); the logarithm of the absolute value where the sum is negative."""
    e, total = _exp(tuple(map(float, row)), mp.dps)
    return mp.log(total if b is None else abs(sum(x * y for x, y in zip(exact(b), e, strict=True))))


@_in_digits
def softmax_row(row: Row) -> list[mpf]:
    """e^(z_c) / sum_k e^(z_k)"""
    e, total = _exp(tuple(map(float, row)), mp.dps)
    return [x / total for x in e]


@_in_digits
def log_softmax_row(row: Row) -> list[mpf]:
    """z_c - lse"""
    lse = lse_row(row)
    return [_minus(z, lse) for z in exact(row)]


def weighted_targets(
    size: int, target: Any, class_weight: Row | None = None, label_smoothing: float = 0.0
) -> list[mpf]:
    """w q' with q' = (1-e) q + (e/C) sum(q), for a label or a row q."""
    q = [mpf(c == target) for c in range(size)] if np.ndim(target) == 0 else exact(target)
    w = [mpf(1)] * size if class_weight is None else exact(class_weight)
    e = mpf(float(label_smoothing))
    share = e * sum(q) / size
    return [w_c * ((1 - e) * q_c + share) for w_c, q_c in zip(w, q, strict=True)]


# `options` are class_weight, label_smoothing, sample_weight (the row's, s) and z_loss, as in cross_entropy.


def _scales(
    sample_weight: float = 1.0, z_loss: float = 0.0, **options: Any
) -> tuple[mpf, mpf, dict[str, Any]]:
    """s, z_loss and the options left, which are those of the targets."""
    return mpf(float(sample_weight)), mpf(float(z_loss)), options


@_in_digits
def loss_row(row: Row, target: Any, **options: Any) -> mpf:
    """s [ sum_c w_c q'_c (lse - z_c) + z_loss lse^2 ], 0 * inf = 0"""
    s, zl, rest = _scales(**options)
    t, lse = weighted_targets(len(row), target, **rest), lse_row(row)
    terms = [t_c * _minus(lse, z) for t_c, z in zip(t, exact(row), strict=True) if t_c]
    return s * (sum(terms) + zl * lse**2)


@_in_digits
def grad_row(row: Row, target: Any, **options: Any) -> list[mpf]:
    """s [ (sum_c w_c q'_c + 2 z_loss lse) p - w q' ]"""
    s, zl, rest = _scales(**options)
    t, p = weighted_targets(len(row), target, **rest), softmax_row(row)
    a = sum(t) + 2 * zl * lse_row(row)
    return [s * _minus(a * x, t_c) for x, t_c in zip(p, t, strict=True)]


@_in_digits
def hessian_diag_row(row: Row, target: Any, **options: Any) -> list[mpf]:
    """s [ (A + 2 z_loss lse) p (1 - p) + 2 z_loss p^2 ]"""
    s, zl, rest = _scales(**options)
    a = sum(weighted_targets(len(row), target, **rest)) + 2 * zl * lse_row(row)
    return [s * (a * p * _minus(mpf(1), p) + 2 * zl * p**2) for p in softmax_row(row)]


@_in_digits
def hvp_row(row: Row, target: Any, vector: Row, **options: Any) -> list[mpf]:
    """s [ (A + 2 z_loss lse) (p v - p (p.v)) + 2 z_loss p (p.v) ]"""
    s, zl, rest = _scales(**options)
    p, v = softmax_row(row), exact(vector)
    a = sum(weighted_targets(len(row), target, **rest)) + 2 * zl * lse_row(row)
    pv = sum(x * y for x, y in zip(p, v, strict=True))
    return [s * (a * _minus(x * y, x * pv) + 2 * zl * x * pv) for x, y in zip(p, v, strict=True)]


def sigmoid_row(
    row: Row, targets: Row, *, pos_weight: Row | float = 1.0, sample_weight: Row | float = 1.0
) -> tuple[list[mpf], list[mpf]]:
    """Each element's loss, s [ w t log(1 + e^-z) + (1-t) log(1 + e^z) ], and its derivative by z."""
    w, s = exact(np.broadcast_to(pos_weight, len(row))), exact(np.broadcast_to(sample_weight, len(row)))
    loss, grad = [], []
    for z, t, w_c, s_c in zip(exact(row), exact(targets), w, s, strict=True):
        with mp.workdps(_digits([min(max(float(z), -800.0), 800.0), 0.0])):
            up, down = mp.log(1 + mp.exp(z)), mp.log(1 + mp.exp(-z))
            loss.append(s_c * ((w_c * t * down if t else 0) + ((1 - t) * up if t != 1 else 0)))
            grad.append(s_c * ((1 - t) / (1 + mp.exp(-z)) - w_c * t / (1 + mp.exp(z))))
    return loss, grad


def ulp_error(got: Any, truth: Any, dtype: Any, scale: Any = None) -> Any:
    """|got - truth| in ulps of `dtype` at |truth| (or at |scale|, where terms of that size cancel).

    The ulp is at least that of the smallest normal number. A truth below that number must be flushed to 0,
    anything else is an infinite error (within 4 ulp of it, 0 or a normal number will do). So is NaN for
    anything but NaN, and an infinity for a truth that does not round to it. Lists and arrays give an array
    of errors.
    """
    if np.ndim(got) or isinstance(truth, list):
        flat, size = np.asarray(got).ravel(), np.size(got)
        truths, scales = np.ravel(np.array(truth, object)), np.ravel(np.array(scale, object))
        if truths.size != size or scales.size not in (1, size):
            raise ValueError(f"{size} results, {truths.size} truths, {scales.size} scales")
        rows = zip(flat, truths, np.broadcast_to(scales, size), strict=True)
        return np.array([_ulps(g, t, dtype, s) for g, t, s in rows], float).reshape(np.shape(got))
    return _ulps(got, truth, dtype, scale)


def _ulps(got: Any, truth: Any, dtype: Any, scale: Any) -> float:
    info = np.finfo(dtype)
    with mp.workdps(DIGITS):
        value, true = mpf(float(got)), mpf(truth)
        if mp.isnan(value) or mp.isnan(true):
            return 0.0 if mp.isnan(value) and mp.isnan(true) else math.inf
        tiny, eps = mpf(float(info.tiny)), mpf(float(info.eps))
        if abs(true) >= mpf(float(info.max)) * (1 + eps / 4):  # rounds to infinity
            return 0.0 if mp.isinf(value) and value * true > 0 else math.inf
        if mp.isinf(value):
            return math.inf
        near = abs(abs(true) - tiny) <= 4 * eps * tiny
        if value == 0 and (abs(true) < tiny or near):
            return 0.0
        if abs(true) < tiny and not near and scale is None:
            return math.inf
        size = max(abs(true if scale is None else mpf(scale)), tiny)
        ulp = mp.ldexp(eps, int(mp.frexp(size)[1]) - 1)
        return float(abs(value - true) / ulp)
