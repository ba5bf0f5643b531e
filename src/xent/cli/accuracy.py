"""How far the compiled kernels are from the truth, in units in the last place (ulp).

The truth of a row is `xent.reference.reductions.SoftRow` in 60 digits, unrounded: lse, p, 1 - p and log p,
from which loss and gradient follow by one line each; the sigmoid of z is the softmax of (z, 0). It is kept as
two float64, `high + low`, so that an error of a small part of an ulp can be seen in float64 results too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xent
from xent import _kernels
from xent.cli import activations
from xent.cli.cases import Case
from xent.reference._exact import exact
from xent.reference.reductions import SoftRow

Floats = NDArray[np.float64]

EXP, LSE, SOFTMAX, LOG_SOFTMAX = "exp", "logsumexp", "softmax", "log_softmax"
LOSS, GRAD, MEAN_GRAD = "loss, index", "gradient, index", 'gradient, index, "mean"'
LOSS_Q, GRAD_Q = "loss, probabilities", "gradient, probabilities"
SIGMOID_LOSS, SIGMOID_GRAD = "sigmoid loss", "sigmoid gradient"

# function -> (the greatest error allowed in ulp, the number whose ulp it is)
BOUNDS: dict[str, tuple[float, str]] = {
    EXP: (1.0, "result"),
    LSE: (2.0, "max(|lse|, |max|)"),
    SOFTMAX: (2.0, "result"),
    LOG_SOFTMAX: (2.0, "result"),
    LOSS: (2.0, "result"),
    GRAD: (2.0, "result"),
    MEAN_GRAD: (2.0, "result"),
    LOSS_Q: (2.0, "result"),
    GRAD_Q: (2.0, "max(p, q)"),
    SIGMOID_LOSS: (2.0, "result"),
    SIGMOID_GRAD: (2.0, "larger term"),
} | activations.BOUNDS


@dataclass
class Truth:
    """Exact results as high + low, and the number whose ulp is the unit (by default the result itself)."""

    high: Floats
    low: Floats
    scale: Floats

    @classmethod
    def of(cls, values: Iterable[Decimal], shape: tuple[int, ...], scale: Iterable[Decimal] | None = None) -> Truth:
        """From Decimals in C order."""
        exact_values = list(values)
        high = [float(value) for value in exact_values]
        low = [
            float(value - Decimal(h)) if np.isfinite(h) else 0.0 for value, h in zip(exact_values, high, strict=True)
        ]
        own = np.abs(high)
        just_below = np.asarray(low) * np.sign(high) < 0  # rounded up: the ulp is that of the number itself
        units = np.where(just_below, np.nextafter(own, 0.0), own)
        if scale is not None:
            units = np.fmax(units, [abs(float(value)) for value in scale])
        return cls(np.reshape(high, shape), np.reshape(low, shape), units.reshape(shape))


@dataclass
class Judged:
    """One case in one dtype: the arguments, and the truth of every function that applies to it."""

    case: Case
    truths: dict[str, Truth] = field(default_factory=dict)


def ulp(number: Floats, dtype: np.dtype[Any]) -> Floats:
    """The unit in the last place of |number| in the dtype; that of the smallest normal number below it."""
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.clip(number, float(info.tiny), float(info.max)))
        unit: Floats = np.ldexp(1.0, exponent - (info.nmant + 1))
    return unit


def errors(got: NDArray[Any], truth: Truth) -> Floats:
    """The error of each element in ulp; infinite where a NaN, an infinity or a subnormal is out of place.

    Results below the smallest normal number are 0, so there 0 is as right as the truth; within two ulp of it
    either will do.
    """
    info = np.finfo(got.dtype)
    tiny = float(info.tiny)
    value = got.astype(np.float64)
    unit = ulp(truth.scale, got.dtype)
    with np.errstate(all="ignore"):
        distance = np.abs((value - truth.high) - truth.low) / unit
        to_zero = np.abs(value) / unit
        may_vanish = np.abs(truth.high) < tiny * (1.0 + 2.0 * float(info.eps))
        distance = np.where(may_vanish, np.fmin(distance, to_zero), distance)
        expected = truth.high.astype(got.dtype)
    distance = np.where(np.isinf(expected), np.where(got == expected, 0.0, np.inf), distance)
    distance = np.where(np.isnan(expected), np.where(np.isnan(got), 0.0, np.inf), distance)
    subnormal = (value != 0.0) & (np.abs(value) < tiny)
    return np.where(np.isnan(distance) | subnormal, np.inf, distance)


@exact
def judge(case: Case) -> Judged:
    """The truth of everything that this case asks."""
    truths: dict[str, Truth] = {}
    if case.kind == "exp":
        truths[EXP] = Truth.of((Decimal(float(x)).exp() for x in case.logits), case.logits.shape)
    elif case.kind == "sigmoid":
        truths |= _sigmoid(case)
    elif case.kind == "activation":
        truths |= activations.truths(case.logits, Truth.of)
    else:
        truths |= _softmax(case)
    return Judged(case, truths)


def _softmax(case: Case) -> dict[str, Truth]:
    """For rows of logits (N, C), labels (N,) and probabilities (N, C)."""
    shape = case.logits.shape
    rows = [_soft_row(row.tobytes(), row.dtype) for row in case.logits]
    tops = [row.m for row in rows]
    truths = {
        LSE: Truth.of((row.lse for row in rows), shape[:1], tops),
        SOFTMAX: Truth.of((p for row in rows for p in row.p), shape),
        LOG_SOFTMAX: Truth.of((v for row in rows for v in row.log_p), shape),
    }
    grads: list[Decimal] = []
    losses: list[Decimal] = []
    for row, label in zip(rows, case.labels, strict=True):
        losses.append(-row.log_p[label] if row.m > -Decimal("inf") else Decimal("nan"))
        grads += [*row.p[:label], -row.not_p[label], *row.p[label + 1 :]]
    truths[LOSS] = Truth.of(losses, shape[:1])
    truths[GRAD] = Truth.of(grads, shape)
    truths[MEAN_GRAD] = Truth.of((g / shape[0] for g in grads), shape)
    if case.probabilities is None:
        return truths
    losses_q: list[Decimal] = []
    grads_q: list[Decimal] = []
    scales: list[Decimal] = []
    for row, given in zip(rows, case.probabilities, strict=True):
        q = [Decimal(float(v)) for v in given]
        mass = sum(q, Decimal(0))
        terms = (q_c * -log_p for q_c, log_p in zip(q, row.log_p, strict=True) if q_c)
        losses_q.append(sum(terms, Decimal(0)))
        for q_c, p, not_p in zip(q, row.p, row.not_p, strict=True):
            grads_q.append((mass - q_c) * p - q_c * not_p)
            scales.append(max(mass * p, q_c))
    truths[LOSS_Q] = Truth.of(losses_q, shape[:1])
    truths[GRAD_Q] = Truth.of(grads_q, shape, scales)
    return truths


def _sigmoid(case: Case) -> dict[str, Truth]:
    """For logits (N,) and targets in [0, 1] of the same shape."""
    if case.probabilities is None:
        raise AssertionError(f"{case.name}: a sigmoid case needs targets")
    losses: list[Decimal] = []
    grads: list[Decimal] = []
    scales: list[Decimal] = []
    for z, t in zip(case.logits, case.probabilities, strict=True):
        positive, negative = Decimal(float(t)), 1 - Decimal(float(t))
        p, not_p, log_p, log_not_p = _of_sigmoid(Decimal(float(z)))
        terms = (weight * -log for weight, log in ((positive, log_p), (negative, log_not_p)) if weight)
        losses.append(log_p if log_p.is_nan() else sum(terms, Decimal(0)))
        up, down = negative * p, positive * not_p
        grads.append(up - down)
        scales.append(max(up, down))
    shape = case.logits.shape
    return {SIGMOID_LOSS: Truth.of(losses, shape), SIGMOID_GRAD: Truth.of(grads, shape, scales)}


def _of_sigmoid(z: Decimal) -> tuple[Decimal, ...]:
    """p = sigmoid(z), 1 - p, log p, log(1 - p), from the softmax of (z, 0); limits at the infinities."""
    if z.is_infinite():
        zero, one, infinite = Decimal(0), Decimal(1), Decimal("-inf")
        return (one, zero, zero, infinite) if z > 0 else (zero, one, infinite, zero)
    row = SoftRow([z, Decimal(0)])
    return row.p[0], row.not_p[0], row.log_p[0], row.log_p[1]


@lru_cache(maxsize=128)
def _soft_row(logits: bytes, dtype: np.dtype[Any]) -> SoftRow:
    """A row once for all its labels."""
    return SoftRow([Decimal(float(v)) for v in np.frombuffer(logits, dtype)])


def compute(case: Case) -> Iterator[tuple[str, NDArray[Any]]]:
    """What the compiled kernels of the present tier give for the case, function by function."""
    z = case.logits
    if case.kind == "exp":
        out = np.empty_like(z)
        _kernels.exp(z, out)
        yield EXP, out
        return
    if case.kind == "sigmoid":
        loss, grad = xent.sigmoid_cross_entropy_with_grad(z, case.probabilities, reduction="none")
        yield SIGMOID_LOSS, loss
        yield SIGMOID_GRAD, grad
        return
    if case.kind == "activation":
        yield from activations.computed(z)
        return
    yield LSE, xent.logsumexp(z, axis=-1)
    yield SOFTMAX, xent.softmax(z, axis=-1)
    yield LOG_SOFTMAX, xent.log_softmax(z, axis=-1)
    loss, grad = xent.cross_entropy_with_grad(z, case.labels, reduction="none")
    yield LOSS, loss
    yield GRAD, grad
    yield MEAN_GRAD, xent.cross_entropy_with_grad(z, case.labels)[1]
    if case.probabilities is not None:
        loss, grad = xent.cross_entropy_with_grad(z, case.probabilities, reduction="none")
        yield LOSS_Q, loss
        yield GRAD_Q, grad


def worst(judged: Sequence[Judged], advance: Callable[[], None]) -> dict[str, tuple[float, str]]:
    """For each function the greatest error over the cases, and the name of the case, on the present tier."""
    found: dict[str, tuple[float, str]] = {}
    for item in judged:
        for name, got in compute(item.case):
            got, truth = np.asarray(got), item.truths[name]
            right_kind = got.shape == truth.high.shape and got.dtype == item.case.logits.dtype
            error = float(np.max(errors(got, truth), initial=0.0)) if right_kind else np.inf
            if name not in found or not error <= found[name][0]:
                found[name] = (error, item.case.name)
        advance()
    return found
