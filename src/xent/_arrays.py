"""What every function asks of its arguments before a kernel sees them; one text per fault.

Each check returns the argument as the kernels take it, or raises. Nothing here makes a copy of an array of logits
that already is float32 or float64: strides, alignment and byte order are the kernels' business.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xent import _kernels

Array = NDArray[Any]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)

REDUCTIONS = {"mean": 0, "sum": 1, "none": 2}


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether this is float16, or bfloat16 of the package ml_dtypes."""
    return dtype.itemsize == 2 and (dtype.kind == "f" or (dtype.kind == "V" and _is_bfloat16(dtype)))


@lru_cache(16)
def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    return dtype.name == "bfloat16"  # which takes 2 us to be formed


def floating(x: Any, name: str, *, halves: bool = False) -> Array:
    """`x` as an array of float32 or float64 of either byte order; integers and bools become float64.

    `halves`: float16 and bfloat16 stay what they are.
    """
    array: Array = x if type(x) is np.ndarray else np.asarray(x)  # drops subclasses, a masked array's mask too
    dtype = array.dtype
    if dtype is FLOAT32 or dtype is FLOAT64:
        return array
    if dtype.kind == "f" and dtype.itemsize in (4, 8):
        return array
    if dtype.kind in "iub":
        return array.astype(np.float64)
    if halves and is_half(dtype):
        return array
    accepted = "float32, float64, float16, bfloat16" if halves else "float32, float64"
    raise TypeError(f"{name} must be real: {accepted}, or integers (taken as float64); got dtype {dtype}")


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the results of an array of this dtype."""
    return FLOAT32 if dtype.itemsize == 4 else dtype.newbyteorder("=") if is_half(dtype) else FLOAT64


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that an array of this dtype is computed in, and that its losses have."""
    return FLOAT64 if dtype.itemsize == 8 else FLOAT32


def one_axis(axis: Any, ndim: int) -> int:
    """`axis` counted from the front."""
    try:
        i = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an integer, got {axis!r}") from None
    if not -ndim <= i < ndim:
        raise np.exceptions.AxisError(i, ndim)
    return i % ndim


def axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` (None: all; an int; a tuple of ints) as a tuple counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple):
        # NumPy lets axis 0 and -1 of a 0-d array pass: the array has one element.
        return () if ndim == 0 and operator.index(axis) in (0, -1) else (one_axis(axis, ndim),)
    found = tuple(one_axis(a, ndim) for a in axis)
    if len(set(found)) != len(found):
        raise ValueError(f"axis {axis} names an axis twice")
    return found


def mask_of(class_axes: tuple[int, ...]) -> int:
    """The set of axes as the kernels take it: bit i for axis i."""
    return sum(1 << a for a in class_axes)


def output(out: Any, like: Array, shape: tuple[int, ...], dtype: np.dtype[Any], *, in_place: bool = True) -> Array:
    """`out`, checked, or a new array.

    `in_place`: whether it may be exactly `like`.
    """
    if out is None:
        return np.empty(shape, dtype)
    if type(out) is not np.ndarray or out.dtype is not dtype or out.shape != shape:
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
        if out.shape != shape or out.dtype != dtype:
            raise ValueError(
                f"out must have shape {shape} and dtype {dtype} (native byte order); "
                f"got shape {out.shape} and dtype {out.dtype.str}"
            )
    relation = _kernels.relation(out, like)
    if relation == APART or (relation == SAME and in_place and like.dtype.isnative):
        return out
    if relation == READ_ONLY:
        raise ValueError("out is read-only")
    if relation == FOLDED:
        raise ValueError("out has elements that share memory (a stride of 0)")
    _refuse_overlap(out, like, "an input without being exactly that array")
    return out


APART, SAME, NEAR, FOLDED, READ_ONLY = range(5)


def _refuse_overlap(out: Array, other: Array, name: str, out_name: str = "out") -> None:
    try:
        overlap = np.shares_memory(out, other, max_work=10_000_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        overlap = True
    if overlap:
        raise ValueError(f"{out_name} overlaps {name}")


def distinct(out: Array, other: Array, name: str, out_name: str = "out") -> None:
    """Refuse an `out` that overlaps an input that is read while it is written."""
    if _kernels.relation(out, other) != APART:
        _refuse_overlap(out, other, name, out_name)


def destination(
    given: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], apart: dict[str, Array], in_place_of: str = ""
) -> Array:
    """An array to write to, checked, or a new one.

    `apart`: what it must not overlap, by name; it may be exactly the one named `in_place_of`.
    """
    if given is None:
        return np.empty(shape, dtype)
    if not isinstance(given, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(given).__name__}")
    if given.shape != shape or given.dtype != dtype:
        raise ValueError(
            f"{name} must have shape {shape} and dtype {dtype} (native byte order); "
            f"got shape {given.shape} and dtype {given.dtype.str}"
        )
    for other_name, other in apart.items():
        relation = _kernels.relation(given, other)
        if relation == READ_ONLY:
            raise ValueError(f"{name} is read-only")
        if relation == FOLDED:
            raise ValueError(f"{name} has elements that share memory (a stride of 0)")
        if relation == APART or (relation == SAME and other_name == in_place_of):
            continue
        _refuse_overlap(given, other, other_name, name)
    return given


def reduction_code(reduction: Any) -> int:
    try:
        return REDUCTIONS[reduction]
    except (KeyError, TypeError):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}") from None


def number(value: Any, name: str, low: float, high: float, accepted: str) -> float:
    """A finite number in [low, high]."""
    try:
        x = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {accepted}, got {value!r}") from None
    if not (low <= x <= high and x - x == 0.0):
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    return x


def weights(value: Any, name: str, shape: tuple[int, ...], what: str, *, scalar: bool = False) -> Array:
    """Finite numbers >= 0 of the given shape, contiguous and native; floats stay, integers become float64."""
    w = np.asarray(value)
    if w.dtype.kind not in "fiub" or w.dtype.itemsize > 8 or (w.dtype.kind == "f" and w.dtype.itemsize < 4):
        raise TypeError(f"{name} must be real numbers (float32, float64 or integers), got dtype {w.dtype}")
    if w.shape != shape and not (scalar and w.ndim == 0):
        raise ValueError(f"{name} must have shape {shape}, {what}; got shape {w.shape}")
    if w.size and not (np.minimum.reduce(w, axis=None) >= 0 and np.maximum.reduce(w, axis=None) < np.inf):
        bad = ~((w >= 0) & np.isfinite(w))
        raise ValueError(f"{name} must be finite and not negative; got {w[bad].flat[0]}")
    return plain(w)


def plain(w: Array) -> Array:
    """In native order, and if of more than one axis contiguous: what the kernels step through."""
    if not w.dtype.isnative:
        w = w.astype(w.dtype.newbyteorder("="))
    return w if w.ndim < 2 or w.flags.c_contiguous else w.copy(order="C")


def labels(targets: Array, shape: tuple[int, ...]) -> Array:
    """Class indices of the batch shape, of any integer dtype, without a cast."""
    if targets.shape != shape:
        raise ValueError(
            f"class indices must have the logits' shape without the class axis, {shape}; got shape {targets.shape}"
        )
    return plain(targets)


def describe_row(row: int, shape: tuple[int, ...]) -> str:
    """A row's number as an index into the batch."""
    return f"row {row}" if len(shape) == 1 else f"row {tuple(int(i) for i in np.unravel_index(row, shape))}"
