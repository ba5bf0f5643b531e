"""The truth that tests compare with: the formulas as they stand, in mpmath, for one row at a time.

Independent of `xent.reference` in method: nothing is rearranged, no maximum subtracted (mpmath's exponents
have no bounds), 1 - p and p - q are plain subtractions; instead, each row is computed in so many digits
that what cancels leaves more than 40 right (`_digits`). Rows are taken at their exact values; results are
mpf or lists of mpf. Entries may be -inf; for +inf, NaN or nothing finite there are only conventions: test
them one by one.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
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


@_in_digits
def minus_one_row(row: Row, label: int) -> mpf:
    """p_y - 1 of one label y, with all its digits"""
    e, total = _exp(tuple(map(float, row)), mp.dps)
    return _minus(e[label] / total, mpf(1))


def weighted_targets(
    size: int, target: Any, class_weight: Row | None = None, label_smoothing: float = 0.0
) -> list[mpf]:
    """w q' with q' = (1-e) q + (e/C) sum(q), for a label or a row q."""
    q = [mpf(int(c == target)) for c in range(size)] if np.ndim(target) == 0 else exact(target)
    w = [mpf(1)] * size if class_weight is None else exact(class_weight)
    e = mpf(float(label_smoothing))
    share = e * sum(q) / size
    return [w_c * ((1 - e) * q_c + share) for w_c, q_c in zip(w, q, strict=True)]


# `options` are class_weight, label_smoothing, sample_weight (the row's, s) and z_loss, as in cross_entropy.


def _scales(sample_weight: float = 1.0, z_loss: float = 0.0, **options: Any) -> tuple[mpf, mpf, dict[str, Any]]:
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


@_in_digits
def gap_row(row: Row) -> mpf:
    """max(|lse|, |max|): the size of what is added up in lse = max + log(1 + s)"""
    top = max(v for v in map(float, row) if not math.isnan(v))
    return max(abs(lse_row(row)), abs(mpf(top)))


@_in_digits
def loss_scale_row(row: Row, target: Any, **options: Any) -> mpf:
    """s [ sum_c t_c (lse - z_c) + z_loss max(|lse|, |max|)^2 ]: the loss's terms, where lse may have
    cancelled
    """
    s, zl, rest = _scales(**options)
    return loss_row(row, target, **rest) * s + s * zl * gap_row(row) ** 2


@_in_digits
def grad_scale_row(row: Row, target: Any, **options: Any) -> list[mpf]:
    """s max(A p, 2 z_loss max(|lse|, |max|) p, w q'): the larger of the terms whose difference is the
    gradient
    """
    s, zl, rest = _scales(**options)
    t = weighted_targets(len(row), target, **rest)
    a = max(sum(t), 2 * zl * gap_row(row) if zl else 0)
    return [s * max(a * x, t_c) for x, t_c in zip(softmax_row(row), t, strict=True)]


@_in_digits
def hessian_scale_row(row: Row, target: Any, **options: Any) -> list[mpf]:
    """s max(A p (1 - p), 2 z_loss max(|lse|, |max|) p (1 - p), 2 z_loss p^2)"""
    s, zl, rest = _scales(**options)
    a = max(sum(weighted_targets(len(row), target, **rest)), 2 * zl * gap_row(row) if zl else 0)
    return [s * max(a * p * _minus(mpf(1), p), 2 * zl * p**2) for p in softmax_row(row)]


@_in_digits
def hvp_scale_row(row: Row, target: Any, vector: Row, **options: Any) -> list[mpf]:
    """s p max(A, 2 z_loss max(|lse|, |max|), 2 z_loss) max(|v_c|, p.|v|): the largest term of Hv's sums"""
    s, zl, rest = _scales(**options)
    p, v = softmax_row(row), [abs(x) for x in exact(vector)]
    a = max(sum(weighted_targets(len(row), target, **rest)), 2 * zl, 2 * zl * gap_row(row) if zl else 0)
    pv = sum(x * y for x, y in zip(p, v, strict=True))
    return [s * a * x * max(y, pv) for x, y in zip(p, v, strict=True)]


class Truth:
    """Exact numbers, kept as (high + low) 2^power, against which results of a dtype are measured in ulps.

    The ulp is that of `dtype` at |truth| (or at |scale|, where terms of that size cancel), and at least that
    of the smallest normal number. Conversion is slow, `errors` is fast: a truth is made once for all tiers.
    """

    def __init__(self, values: Any, dtype: Any, scale: Any = None) -> None:
        info = np.finfo(dtype)
        truths = np.array(values, object)
        self.dtype, self.shape = info.dtype, truths.shape
        scales = truths if scale is None else np.broadcast_to(np.array(scale, object), self.shape)
        self.cancels = scale is not None
        with mp.workdps(DIGITS):
            tiny, eps = mpf(float(info.tiny)), mpf(float(info.eps))
            over = mpf(float(info.max)) * (1 + eps / 4)  # rounds to infinity from here
            parts = [_parts(t, s, tiny, eps, over) for t, s in zip(truths.ravel(), scales.ravel(), strict=True)]
        columns = zip(*parts, strict=True) if parts else [[]] * 6
        self.high, self.low, self.power, self.unit, self.limit, self.vanishing = (
            np.array(column, kind).reshape(self.shape)
            for column, kind in zip(columns, (float, float, int, int, float, int), strict=True)
        )

    def __getitem__(self, index: Any) -> "Truth":
        """The truth of some of the results, chosen as NumPy does."""
        part = copy(self)
        for name in ("high", "low", "power", "unit", "limit", "vanishing"):
            setattr(part, name, np.asarray(getattr(self, name)[index]))
        part.shape = part.high.shape
        return part

    def errors(self, got: Any) -> np.ndarray:
        """|got - truth| in ulps.

        A truth below the smallest normal number must come out as 0, anything else is an infinite error
        (within 4 ulp of it, 0 or a normal number will do; where terms cancel, their ulp decides). So is NaN
        for anything but NaN, a subnormal, and an infinity for a truth that does not round to it.
        """
        value = np.asarray(got, float)
        if value.shape != self.shape:
            raise ValueError(f"{value.size} results {value.shape}, {self.high.size} truths {self.shape}")
        tiny = float(np.finfo(self.dtype).tiny)
        with np.errstate(all="ignore"):
            mantissa, power = np.frexp(value)
            shift = np.clip(power - self.power, -4000, 4000)
            away = np.abs((np.ldexp(mantissa, shift) - self.high) - self.low)
            error = np.ldexp(away, np.clip(self.power - self.unit, -4000, 4000))
        subnormal = (value != 0) & (np.abs(value) < tiny)
        error = np.where(subnormal | ~np.isfinite(value) | ~np.isfinite(error), np.inf, error)
        if not self.cancels:
            error = np.where(self.vanishing == 2, np.where(value == 0, 0.0, np.inf), error)
        error = np.where((self.vanishing > 0) & (value == 0), 0.0, error)
        error = np.where(np.isinf(self.limit), np.where(value == self.limit, 0.0, np.inf), error)
        return np.where(np.isnan(self.limit), np.where(np.isnan(value), 0.0, np.inf), error)


def _parts(truth: mpf, scale: mpf, tiny: mpf, eps: mpf, over: mpf) -> tuple[float, float, int, int, float, int]:
    """high, low, power; the exponent of the ulp; NaN or inf if that is what is due; 1 if it may be 0, 2 if it
    must.
    """
    truth, scale = mpf(truth), abs(mpf(scale))
    if mp.isnan(truth) or abs(truth) >= over:
        return 0.0, 0.0, 0, 0, math.nan if mp.isnan(truth) else math.inf * mp.sign(truth), 0
    mantissa, power = mp.frexp(truth if abs(truth) > mpf(2) ** -9999 else 0)
    high = float(mantissa)
    size = max(abs(truth) if not mp.isfinite(scale) else scale, tiny)
    unit = int(mp.frexp(size)[1]) + int(mp.frexp(eps)[1]) - 2
    near = abs(abs(truth) - tiny) <= 4 * eps * tiny
    vanishing = 1 if near else 2 if abs(truth) < tiny else 0
    return high, float(mantissa - high), int(power), unit, 0.0, vanishing


def ulp_error(got: Any, truth: Any, dtype: Any, scale: Any = None) -> Any:
    """The errors of one result, or of lists or arrays of them: see Truth."""
    return Truth(truth, dtype, scale).errors(np.asarray(got, float))[()]


WORST: dict[tuple[str, str], tuple[float, float]] = {}


def check(what: str, got: Any, truth: Truth, bound: float) -> None:
    """Assert that the results are of the truth's dtype and within `bound` ulps of it; keep the worst error
    seen.
    """
    assert np.asarray(got).dtype == truth.dtype
    errors = truth.errors(got)
    worst = float(np.max(errors, initial=0.0))
    key = what, str(truth.dtype)
    WORST[key] = max(WORST.get(key, (0.0, 0.0))[0], worst), bound
    assert worst <= bound, f"{what}: {worst} ulp at {np.unravel_index(np.argmax(errors), truth.shape)}, bound {bound}"
