"""The blocks of a linear layer with cross-entropy: logits made, used and forgotten.

whole rows:  z = x_b W^T;  losses, dz in place of z;  dx_b = dz W;  dW += dz^T x_b;  db += sum_b dz
tiles:       for all tiles of classes z = x_b W_t^T, the rows' sums;  then for all tiles again z, dz, dx, dW, db
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import Array
from xent._blas import add_product, long_product
from xent._linear import (
    FEW_ROWS,
    Problem,
    Rows,
    block_of_targets,
    new_block,
    numbers,
    of_rows,
    part,
    row_step,
    runs,
    tile_steps,
)
from xent.dense import DenseGrads

# Products with W are made this many classes at a time where they go to W's gradient: BLAS keeps buffers by their size.
SLAB_CLASSES = 3072

# class_weight, sample_weight, label_smoothing, z_loss, divisor, bias, softcap, grad_loss
Options = tuple[Array | None, Array | None, float, float, float, Array | None, float, Array | None]


class Sweep:
    """One call over its blocks: what it has of buffers and outputs."""

    def __init__(self, p: Problem, grads: DenseGrads, accumulate: bool, rows: Array | None, silent: bool) -> None:
        self.p, self.grads = p, grads
        self.count = p.count if rows is None else len(rows)
        self.rows = rows
        self.wants_grad = any(g is not None for g in grads)
        self.add_x, self.add_weight = accumulate, accumulate
        self.x = Rows(p.x, rows)
        self.dx = None if grads.x is None else Rows(grads.x, rows)
        given = p.probabilities
        self.q = Rows(given, rows) if isinstance(given, np.ndarray) and not silent else None
        self.labels = of_rows(p.labels, rows)
        self.sample_weight, self.grad_loss = of_rows(p.sample_weight, rows), of_rows(p.grad_loss, rows)
        self.bias_sums = np.zeros((2, p.classes if grads.bias is not None else 0))
        self.losses = np.zeros(self.count, p.dtype)
        self.lse = np.zeros(self.count, p.dtype)
        self.sums: list[float] = []

    def targets(self, first: int, last: int) -> Array | None:
        """The target rows of a block, where there are any."""
        if self.q is not None:
            return self.q(first, last)
        made = self.p.probabilities
        if made is None or isinstance(made, np.ndarray):
            return None
        blocks = [block_of_targets(self.p, made, *numbers(self.rows, a, b)) for a, b in runs(self.rows, first, last)]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def run(self) -> None:
        """All blocks."""
        _kernels.between_products(True)
        try:
            self._run_blocks()
        finally:
            _kernels.between_products(False)

    def _run_blocks(self) -> None:
        p = self.p
        step = row_step(p, self.count)
        hard = p.probabilities is None and p.label_smoothing == 0.0
        few = step < min(FEW_ROWS, self.count) and not callable(p.probabilities)
        if few or (hard and not self.wants_grad):
            self._run_tiles()
            return
        block = new_block(min(step, self.count), p.classes, p.dtype)
        for first in range(0, self.count, step):
            last = min(self.count, first + step)
            x = self.x(first, last)
            z = block[: last - first]
            np.matmul(x, p.weight.T, out=z)
            self.sums += _kernels.loss_block(
                z, part(self.labels, first, last), self.targets(first, last),
                *self._options(first, last, p.bias, p.softcap),
                z if self.wants_grad else None, self.losses[first:last], self.lse[first:last],
            )  # fmt: skip
            if self.wants_grad:
                self._products(z, x, first, last, 0)
            self.add_weight = True

    def _run_tiles(self) -> None:
        p = self.p
        step, classes = tile_steps(p, self.count)
        block = new_block(step, classes, p.dtype)
        twice = self.wants_grad or p.probabilities is not None or p.label_smoothing != 0.0
        starts = range(0, p.classes, classes)
        for first in range(0, self.count, max(step, 1)):
            last = min(self.count, first + step)
            x, labels = self.x(first, last), part(self.labels, first, last)
            states = np.zeros((last - first, _kernels.ROW_BYTES), np.uint8)
            add_x = self.add_x
            for pass_, c in [(0, c) for c in starts] + [(1, c) for c in starts if twice]:
                end = min(p.classes, c + classes)
                z = block[: last - first, : end - c]
                np.matmul(x, p.weight[c:end].T, out=z)
                bias = None if p.bias is None else p.bias[c:end]
                _kernels.loss_tile(
                    pass_, c, p.classes, states, z, labels,
                    None if self.q is None else self.q(first, last, slice(c, end)),
                    *self._options(first, last, bias, p.softcap),
                    z if pass_ and self.wants_grad else None, None, None,
                )  # fmt: skip
                if pass_ and self.wants_grad:
                    self._products(z, x, first, last, c)
                    self.add_x = True
            self.add_x, self.add_weight = add_x, True
            self.sums += _kernels.loss_tile(
                2, 0, p.classes, states, block[: last - first, :1], labels, None,
                *self._options(first, last, None, 0.0), None, self.losses[first:last], self.lse[first:last],
            )  # fmt: skip

    def _options(self, first: int, last: int, bias: Array | None, softcap: float) -> Options:
        """The arguments of the kernels from class_weight to grad_loss."""
        p = self.p
        weights = p.class_weight, part(self.sample_weight, first, last)
        return *weights, p.label_smoothing, p.z_loss, p.divisor, bias, softcap, part(self.grad_loss, first, last)

    def _products(self, dz: Array, x: Array, first: int, last: int, c: int) -> None:
        """Gradients of a block of logits from class c on to the arrays they belong to."""
        weight = self.p.weight[c : c + dz.shape[1]]
        if self.grads.bias is not None:
            _kernels.column_sums(dz, *self.bias_sums[:, c : c + dz.shape[1]])
        if self.grads.weight is not None:
            for i in range(0, dz.shape[1], SLAB_CLASSES):
                slab = dz[:, i : i + SLAB_CLASSES].T
                to = self.grads.weight[c + i : c + i + SLAB_CLASSES][: len(slab)]
                if self.add_weight:
                    add_product(slab, x, to)
                else:
                    np.matmul(slab, x, out=to)
        if self.dx is not None and self.dx.is_view():
            long_product(dz, weight, self.dx(first, last), self.add_x)
        elif self.dx is not None:
            product = np.empty((last - first, weight.shape[1]), dz.dtype)
            long_product(dz, weight, product, False)
            self.dx.put(first, last, self.dx(first, last) + product if self.add_x else product)


def solve(p: Problem, grads: DenseGrads, accumulate: bool, return_lse: bool) -> tuple[Any, Any]:
    """The loss, and lse if asked for; the gradients to their arrays."""
    sweep = Sweep(p, grads, accumulate, p.rows, False)
    if not accumulate and (p.rows is not None or p.count == 0):
        for array in (grads.x, grads.weight) if p.count == 0 else (grads.x,):
            if array is not None:
                array[...] = 0
    with np.errstate(all="ignore"):  # infinities and NaN are the rows' own affair
        sweep.run()
        if grads.bias is not None:
            sums, lost = sweep.bias_sums
            np.add(sums + lost, grads.bias if accumulate else 0.0, out=grads.bias, casting="same_kind")
        total = sum(sweep.sums)
        total = math.fsum(sweep.sums) if math.isfinite(total) else total
        mean = 0.0 if p.reduction == 0 and not p.divisor > 0.0 else total / p.divisor
        loss: Any = p.dtype.type(math.nan if math.isnan(mean) else mean)  # one NaN, whatever its sign was on the way
    if abs(mean) < float(np.finfo(p.dtype).tiny):
        loss = p.dtype.type(0)
    if p.reduction == 2:
        loss = spread(p, sweep.losses, None)[()]
    if not return_lse:
        return loss, None
    extra = None
    if p.silent is not None:
        extra = Sweep(silenced(p), DenseGrads(None, None, None), False, p.silent, True)
        extra.run()
    return loss, spread(p, sweep.lse, None if extra is None else extra.lse)[()]


def silenced(p: Problem) -> Problem:
    """The same rows as if for any label: of those, lse is the same."""
    values = dict(vars(p))
    labels = np.zeros(p.batch, np.int64)
    values.update(labels=labels, probabilities=None, label_smoothing=0.0, class_weight=None, sample_weight=None)
    return Problem(**values)


def spread(p: Problem, values: Array, silent: Array | None) -> Array:
    """Numbers of the rows that count as an array of all rows, with 0, or those of silent rows, in between."""
    if p.rows is None:
        return values.reshape(p.batch)
    full = np.zeros(int(np.prod(p.batch, dtype=np.int64)), p.dtype)
    full[p.rows] = values
    if silent is not None:
        full[p.silent] = silent
    return full.reshape(p.batch)
