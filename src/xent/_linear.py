"""The arguments of a linear layer with cross-entropy, checked; how its logits are cut into blocks."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import APART, FOLDED, READ_ONLY, Array, floating, native, plain
from xent._blas import long_parts
from xent._problem import Checked, checked, checked_softcap, complain
from xent.dense import DenseGrads

Weights = Array | None
BlockOfTargets = Callable[[int, int], Any]

MAX_BYTES = 58 * 2**20
# A block of fewer rows than this keeps the BLAS from its peak for longer than making the logits twice would take.
FEW_ROWS = 32
# Blocks are of a multiple of this many rows, which is how BLAS takes them; some 2 % faster than an odd number.
EVEN_ROWS = 8
# Tiles of classes: rows of at most this many, so that a tile of BLOCK_CLASSES stays in the last-level cache.
TILE_ROWS = 512
NAMES = ("x", "weight", "bias")


class Rows:
    """The rows of an array (..., n) by number, of all of them or of a selection; views where that is possible."""

    def __init__(self, array: Array, selection: Array | None) -> None:
        self.array, self.selection = array, selection
        self.batch = array.shape[:-1]
        steps = [(n, s) for n, s in zip(self.batch, array.strides, strict=False) if n != 1]
        merged = all(s == n * t for (_, s), (n, t) in pairwise(steps))
        count = int(np.prod(self.batch, dtype=np.int64))
        self.flat = array.reshape(count, array.shape[-1]) if merged or not array.size else None

    def is_view(self) -> bool:
        """Whether blocks of rows are parts of the array, not copies."""
        return self.flat is not None and self.selection is None

    def where(self, first: int, last: int) -> Any:
        """The index of rows first .. last - 1 of the selection."""
        rows = np.arange(first, last) if self.selection is None else self.selection[first:last]
        if self.flat is not None:
            return slice(first, last) if self.selection is None else rows
        return np.unravel_index(rows, self.batch)

    def __call__(self, first: int, last: int, columns: slice = slice(None)) -> Array:
        where = self.where(first, last)
        index = where if isinstance(where, tuple) else (where,)
        found: Array = (self.array if self.flat is None else self.flat)[(*index, columns)]
        return found

    def put(self, first: int, last: int, values: Array) -> None:
        (self.array if self.flat is None else self.flat)[self.where(first, last)] = values


@dataclass
class Problem:
    """A checked call. Of the vectors with one number per row: those of the rows that count, `rows` (None: all)."""

    x: Array
    weight: Array
    bias: Array | None
    labels: Array | None
    probabilities: Array | BlockOfTargets | None
    class_weight: Weights
    sample_weight: Weights
    grad_loss: Weights
    label_smoothing: float
    z_loss: float
    softcap: float
    divisor: float
    reduction: int
    batch: tuple[int, ...]
    rows: Array | None
    silent: Array | None  # rows of weight 0, of which only lse is wanted
    count: int
    dtype: np.dtype[Any]
    max_bytes: int

    @property
    def classes(self) -> int:
        return len(self.weight)


def prepare(
    x: Any, weight: Any, targets: Any, bias: Any, grad_loss: Any, softcap: Any, max_bytes: Any, return_lse: bool,
    options: tuple[Any, ...],
) -> Problem:  # fmt: skip
    """Every argument, or the error that it deserves. `options`: those of `checked` after the axis."""
    x, weight = floating(x, "x"), floating(weight, "weight")
    if weight.ndim != 2:
        raise ValueError(f"weight must have shape (classes, features); got shape {weight.shape}")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x must have shape (..., {weight.shape[1]}), as weight has {weight.shape}; got {x.shape}")
    dtype = native(x.dtype)
    arrays = {"weight": weight}
    if bias is not None:
        bias = floating(bias, "bias")
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"bias must have shape {weight.shape[:1]}, one per class; got shape {bias.shape}")
        arrays["bias"] = bias
    for name, array in arrays.items():
        if native(array.dtype) != dtype:
            raise TypeError(f"x and {name} must have one dtype; got {dtype} and {native(array.dtype)}")
    batch = x.shape[:-1]
    shape = np.broadcast_to(np.zeros((), dtype), (*batch, len(weight)))  # what `checked` asks the logits for
    problem = checked(shape, shape if callable(targets) else targets, -1, *options)
    limit = MAX_BYTES if max_bytes is None else positive(max_bytes, "max_bytes")
    found = Problem(
        x, weight, None if bias is None else np.ascontiguousarray(bias, dtype), problem[2],
        targets if callable(targets) else problem[3], problem[4], problem[5],
        checked_grad_loss(grad_loss, problem, batch), problem[6], problem[7], checked_softcap(softcap), 1.0,
        problem[10], batch, None, None, 0, dtype, limit,
    )  # fmt: skip
    choose_rows(found, problem[9], return_lse)
    found.divisor = divisor_of(found, problem)
    return found


def positive(value: Any, name: str) -> int:
    try:
        n = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a positive integer, got {value!r}") from None
    if isinstance(value, bool) or n < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return n


def checked_grad_loss(grad_loss: Any, problem: Checked, batch: tuple[int, ...]) -> Array | None:
    """The factors of the gradients: None, one number or one per row."""
    factors = np.asarray(grad_loss)
    if factors.dtype.kind not in "fiu" or factors.dtype.itemsize > 8:
        raise TypeError(f"grad_loss must be real numbers, got dtype {factors.dtype}")
    if factors.ndim and (problem[10] != 2 or factors.shape != batch):
        raise ValueError(
            f"grad_loss must be one number, or with reduction='none' have shape {batch}; got shape {factors.shape}"
        )
    if factors.ndim == 0 and factors == 1:
        return None
    return plain(factors.astype(np.float32) if factors.dtype == np.float16 else factors)


def choose_rows(p: Problem, ignore_index: int | None, return_lse: bool) -> None:
    """Leave out the rows that count for nothing: ignored ones, and those of weight 0."""
    p.count = int(np.prod(p.batch, dtype=np.int64))
    keep = np.ones(p.count, bool)
    if p.labels is not None and ignore_index is not None:
        keep = (p.labels != ignore_index).reshape(p.count)
    if p.sample_weight is not None:
        zero = np.broadcast_to(p.sample_weight == 0, p.batch).reshape(p.count)
        if return_lse and (zero & keep).any():
            p.silent = np.flatnonzero(zero & keep)
        keep = keep & ~zero
    p.rows = None if keep.all() else np.flatnonzero(keep)
    p.count = p.count if p.rows is None else len(p.rows)


def of_rows(values: Array | None, rows: Array | None) -> Array | None:
    """One number for all rows, or one per row of those that count."""
    if values is None or values.ndim == 0:
        return values
    flat = values.reshape(-1)
    return flat if rows is None else flat[rows]


def divisor_of(p: Problem, problem: Checked) -> float:
    """What the losses are divided by; every target is checked on the way."""
    total = 0.0
    if not callable(p.probabilities):
        weight = _kernels.target_weight(*problem)
        if isinstance(weight, tuple):
            complain(problem, weight)
        total = weight
    elif p.reduction == 0 and problem[8] == 0.0:
        weights = of_rows(p.sample_weight, p.rows)
        step = row_step(p, p.count)
        for first in range(0, p.count, step):
            last = min(p.count, first + step)
            for a, b in runs(p.rows, first, last):
                q = block_of_targets(p, p.probabilities, *numbers(p.rows, a, b))
                weight = _kernels.target_weight(q, 2, None, q, p.class_weight, part(weights, a, b), *rest())
                total += weight if isinstance(weight, float) else 0.0
    if p.reduction != 0:
        return 1.0
    return problem[8] or total


def rest() -> tuple[float, float, float, None, int]:
    """label_smoothing, z_loss, normalizer, ignore_index and reduction of a check of targets."""
    return 0.0, 0.0, 0.0, None, 0


def part(values: Array | None, first: int, last: int) -> Array | None:
    return values if values is None or values.ndim == 0 else values[first:last]


def numbers(rows: Array | None, first: int, last: int) -> tuple[int, int]:
    """The first and the last row, plus one, of a run of neighbours."""
    return (first, last) if rows is None else (int(rows[first]), int(rows[last - 1]) + 1)


def runs(rows: Array | None, first: int, last: int) -> list[tuple[int, int]]:
    """The parts of first .. last - 1 in which the rows are neighbours."""
    if rows is None or first == last:
        return [(first, last)] if last > first else []
    cuts = first + 1 + np.flatnonzero(np.diff(rows[first:last]) != 1)
    ends = [first, *map(int, cuts), last]
    return list(pairwise(ends))


def block_of_targets(p: Problem, targets: BlockOfTargets, first: int, last: int) -> Array:
    """The target rows first .. last - 1 as the caller makes them, checked."""
    q = np.asarray(targets(first, last))
    shape = (last - first, p.classes)
    if q.dtype.kind != "f" or q.dtype.itemsize not in (4, 8):
        raise TypeError(f"targets({first}, {last}) must return float32 or float64, got dtype {q.dtype}")
    if q.shape != shape:
        raise ValueError(f"targets({first}, {last}) must return shape {shape}, got shape {q.shape}")
    fault = _kernels.target_weight(q, 2, None, q, None, None, *rest())
    if isinstance(fault, tuple):
        row, value, _ = fault
        raise ValueError(
            f"target probability {value} in row {first + row}: probabilities must be finite and not negative"
        )
    return q


def line(classes: int, dtype: np.dtype[Any]) -> int:
    """Elements from row to row of a block: whole cache lines, and no multiple of a page, as then the rows would share
    few places of the caches. 1.5 % of the products at 50,257 classes, 5 % at 32,768.
    """
    unit = 64 // dtype.itemsize
    elements = -(-classes // unit) * unit
    return elements + unit if elements * dtype.itemsize % 4096 == 0 else elements


def new_block(rows: int, classes: int, dtype: np.dtype[Any]) -> Array:
    """A block whose rows begin at a cache line, as NumPy's arrays do not: 1.7 % of a call with gradients."""
    stride = line(classes, dtype)
    memory = np.empty(rows * stride + 64 // dtype.itemsize, dtype)
    start = -memory.ctypes.data % 64 // dtype.itemsize
    return memory[start : start + rows * stride].reshape(rows, stride)[:, :classes]


def copied_target(p: Problem) -> int:
    """Bytes for each target probability where those of a block are a copy."""
    q = p.probabilities
    return q.itemsize if isinstance(q, np.ndarray) and not Rows(q, p.rows).is_view() else 0


def row_step(p: Problem, rows: int) -> int:
    """How many whole rows go into a block of logits; 1 at least. All blocks of a call but the last are of this size."""
    size = line(p.classes, p.dtype) * p.dtype.itemsize
    copies = long_parts(p.dtype) - 1  # of the gradient of x
    if not Rows(p.x, p.rows).is_view():  # the rows of x, and of their gradient, are copied
        copies += 2
    size += copies * p.x.shape[-1] * p.dtype.itemsize
    size += p.classes * copied_target(p)
    fits = max(1, p.max_bytes // max(size, 1))
    unit = EVEN_ROWS if fits >= EVEN_ROWS else 1
    fits -= fits % unit
    even: int = -(-rows // max(1, -(-rows // fits)))
    return max(1, min(-(-even // unit) * unit, rows))


def tile_steps(p: Problem, rows: int) -> tuple[int, int]:
    """Rows and classes of a tile: classes in whole blocks of the kernels where a few rows of them fit."""
    budget, block = p.max_bytes // (p.dtype.itemsize + copied_target(p)), int(_kernels.BLOCK_CLASSES)
    classes = block if budget >= block * FEW_ROWS else max(64, budget // FEW_ROWS)
    step = max(1, min(rows, budget // classes, TILE_ROWS))
    return -(-rows // max(1, -(-rows // step))), min(classes, p.classes)


def wanted_grads(p: Problem, need: Any, out: Any, accumulate: bool, targets: Any) -> DenseGrads:
    """The arrays that gradients go to, new ones where none are given; None where none are wanted."""
    if isinstance(need, str) or not set(need) <= set(NAMES):
        raise ValueError(f"need must be some of 'x', 'weight', 'bias'; got {need!r}")
    given = (None, None, None) if out is None else tuple(out)
    if len(given) != 3:
        raise ValueError(f"out must be the arrays or None for x, weight and bias; got {len(given)} of them")
    arrays: list[Array | None] = []
    inputs = [p.x, p.weight, p.bias, p.class_weight, p.sample_weight, p.grad_loss, targets]
    for name, array, like in zip(NAMES, given, (p.x, p.weight, p.bias), strict=True):
        if like is None or name not in need:
            if array is not None:
                raise ValueError(f"out has an array for {name}, whose gradient is not asked for")
            arrays.append(None)
        elif array is None:
            if accumulate:
                raise ValueError(f"accumulate=True needs an array in out for {name}")
            arrays.append(np.empty(like.shape, p.dtype))
        else:
            if not isinstance(array, np.ndarray):
                raise TypeError(f"out for {name} must be a NumPy array, got {type(array).__name__}")
            if array.shape != like.shape or array.dtype != p.dtype:
                raise ValueError(
                    f"out for {name} must have shape {like.shape} and dtype {p.dtype} (native byte order); "
                    f"got shape {array.shape} and dtype {array.dtype.str}"
                )
            for other in [*inputs, *arrays]:
                if isinstance(other, np.ndarray):
                    refuse_overlap(array, other, name)
            arrays.append(array)
    return DenseGrads(*arrays)


def refuse_overlap(array: Array, other: Array, name: str) -> None:
    """An output may share no memory with anything else."""
    relation = _kernels.relation(array, other)
    if relation == READ_ONLY:
        raise ValueError(f"out for {name} is read-only")
    if relation == FOLDED:
        raise ValueError(f"out for {name} has elements that share memory (a stride of 0)")
    if relation != APART and np.shares_memory(array, other):
        raise ValueError(f"out for {name} overlaps an input or another output")
