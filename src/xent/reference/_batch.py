"""The checks of a cross-entropy's arguments, and the batch taken apart into rows and put together again."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from xent.reference import _exact as ex
from xent.reference._exact import ONE, ZERO, Array, Nested, Shape, total
from xent.reference.reductions import SoftRow


class Row(SoftRow):
    """A row of logits (z, e, p, 1 - p, lse, log p: see SoftRow) with its targets and weights.

    With a cap, z_c = cap tanh(x_c / cap) of the logits x, and slope_c = 1 - tanh(x_c / cap)^2; else z = x.
    t_c = w_c q'_c with q'_c = (1 - e) q_c + (e/C) sum(q); weight = s sum_c w_c q_c, unsmoothed.
    """

    def __init__(
        self,
        x: list[Decimal],
        q: list[Decimal],
        w: list[Decimal],
        s: Decimal,
        e: Decimal,
        z_loss: Decimal,
        cap: Decimal | None,
    ) -> None:
        capped = [(v, ONE) for v in x] if cap is None else [ex.tanh_and_slope(v / cap) for v in x]
        super().__init__([v if cap is None else cap * v for v, _ in capped])
        self.slope = [slope for _, slope in capped]
        share = e * total(q) / len(q)
        self.t = [w_c * ((ONE - e) * q_c + share) for w_c, q_c in zip(w, q, strict=True)]
        self.weight = s * total(w_c * q_c for w_c, q_c in zip(w, q, strict=True))
        self.s = s
        self.z_loss = z_loss


@dataclass(frozen=True, slots=True)
class Batch:
    """The checked arguments: the rows (None where ignored), the places of their logits, the reduction.

    A row with sample weight 0 is no row: its loss and gradient are 0, whatever its logits (0 * inf and 0 * NaN too).
    """

    shape: Shape
    batch: Shape
    places: list[list[int]]
    rows: list[Row | None]
    reduction: str
    divisor: Decimal

    def of_rows(self, formula: Callable[[Row], Decimal]) -> list[Decimal]:
        """The formula for each row; 0 where a row is ignored or has weight 0."""
        return [formula(row) if row is not None and row.s else ZERO for row in self.rows]

    def lse(self) -> Nested:
        """The lse of each row; 0 where a row is ignored."""
        return ex.rounded([ZERO if row is None else row.lse for row in self.rows], self.batch)

    def reduced(self, formula: Callable[[Row], Decimal]) -> Nested:
        """The formula of each row, their sum, or their sum by the divisor (0 by a divisor of 0)."""
        values = self.of_rows(formula)
        if self.reduction == "none":
            return ex.rounded(values, self.batch)
        return ex.to_float(total(values) / self.divisor if self.divisor else ZERO)

    def like_logits(
        self,
        formula: Callable[..., list[Decimal]],
        *arguments: list[list[Decimal]],
        g: Sequence[Decimal] = (),
    ) -> Nested:
        """formula(row, its arguments) by the divisor and times its g, where the row's logits stand."""
        result = [ZERO] * sum(map(len, self.places))
        for n, (row, places) in enumerate(zip(self.rows, self.places, strict=True)):
            if row is None or not row.s or not self.divisor:
                continue
            for i, value in zip(places, formula(row, *(argument[n] for argument in arguments)), strict=True):
                result[i] = (g[n] * value if g else value) / self.divisor
        return ex.rounded(result, self.shape)


def take_apart(
    logits: Any,
    targets: Any,
    axis: Any,
    class_weight: Any,
    sample_weight: Any,
    label_smoothing: Any,
    ignore_index: Any,
    z_loss: Any,
    reduction: Any,
    normalizer: Any,
    softcap: Any = None,
) -> Batch:
    """Check the arguments and take the batch apart into rows."""
    array, given = ex.as_array(logits, "logits"), ex.as_array(targets, "targets")
    if not array.shape:
        raise ValueError("logits: a number was given; a loss needs a class axis")
    (k,) = ex.normal_axes(operator.index(axis), len(array.shape))
    shape, batch, classes = array.shape, array.shape[:k] + array.shape[k + 1 :], array.shape[k]
    if classes == 0:
        raise ValueError(f"logits: shape {shape} has no classes along axis {axis}")
    places = ex.groups(shape, (k,))

    ex.check_reduction(reduction)
    divisor = None if normalizer is None else _normalizer(normalizer, reduction)
    (e,) = ex.in_range(label_smoothing, "label_smoothing", "0 to 1", ONE, ())
    (zl,) = ex.not_negative(z_loss, "z_loss", ())
    w = [ONE] * classes if class_weight is None else ex.not_negative(class_weight, "class_weight", (classes,))
    s = ex.not_negative(1 if sample_weight is None else sample_weight, "sample_weight", batch, ())
    s = s if len(s) == len(places) else s * len(places)

    cap = None if softcap is None else _cap(softcap)

    if given.kind == "b":
        raise TypeError("targets: bool was given; integers (classes) and floats (probabilities) are accepted")
    if given.kind == "i" or (given.kind == "" and given.shape == batch):
        labels = _index_labels(given, batch, classes, ignore_index)
        q = [None if y is None else [ONE if c == y else ZERO for c in range(classes)] for y in labels]
    else:
        q = [*_probabilities(given, shape, places, ignore_index)]

    z = array.decimals()
    rows = [
        None if q_n is None else Row([z[i] for i in place], q_n, w, s_n, e, zl, cap)
        for place, q_n, s_n in zip(places, q, s, strict=True)
    ]
    if divisor is None:
        divisor = total(row.weight for row in rows if row is not None) if reduction == "mean" else ONE
    return Batch(shape, batch, places, rows, reduction, divisor)


def _index_labels(targets: Array, batch: Shape, classes: int, ignore_index: Any) -> list[int | None]:
    """The label of each row, None where it equals ignore_index."""
    is_int = hasattr(ignore_index, "__index__") and not isinstance(ignore_index, bool)
    if ignore_index is not None and not is_int:
        raise TypeError(f"ignore_index: {ignore_index!r} was given; an int or None is accepted")
    if targets.shape != batch:
        raise ValueError(f"targets: integers of shape {targets.shape} for rows of shape {batch}")
    labels = [None if y == ignore_index else y for y in targets.flat]
    bad = [row for row, y in enumerate(labels) if y is not None and not 0 <= y < classes]
    if bad:
        first = f"label {labels[bad[0]]} in row {bad[0]} is not in [0, {classes})"
        raise ValueError(f"targets: {first} ({len(bad)} such rows)")
    return labels


def _probabilities(targets: Array, shape: Shape, rows: list[list[int]], ignore_index: Any) -> list[list[Decimal]]:
    """The target distribution of each row."""
    if ignore_index is not None:
        raise ValueError("ignore_index: probabilities have no index to ignore; use sample_weight")
    if targets.shape != shape:
        raise ValueError(f"targets: floats of shape {targets.shape} for logits of shape {shape}")
    for n, row in enumerate(rows):
        bad = [targets.flat[i] for i in row if not 0 <= targets.flat[i] < float("inf")]
        if bad:
            raise ValueError(f"targets: probability {bad[0]} in row {n}; finite numbers >= 0 are accepted")
    values = targets.decimals()
    return [[values[i] for i in row] for row in rows]


def _cap(softcap: Any) -> Decimal:
    """The cap, a number from 2**-100 to 2**100."""
    (cap,) = ex.of_shape(softcap, "softcap", ())
    if not Decimal(2) ** -100 <= cap <= Decimal(2) ** 100:
        raise ValueError(f"softcap: {softcap} was given; a number from 2**-100 to 2**100 is accepted")
    return cap


def _normalizer(normalizer: Any, reduction: str) -> Decimal:
    """The divisor given, a finite number > 0, for "mean"."""
    if reduction != "mean":
        raise ValueError(f'normalizer: accepted with reduction="mean" only, not with {reduction!r}')
    (divisor,) = ex.of_shape(normalizer, "normalizer", ())
    if not ZERO < divisor < ex.INF:
        raise ValueError(f"normalizer: {normalizer} was given; a finite number > 0 is accepted")
    return divisor
