"""A dense layer's arguments: checked by name and shape, and as the products and kernels take them.

The products are NumPy's, over the batch flattened to rows; the kernels take contiguous rows. What is laid out
otherwise is copied on the way in or out, and only that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xent import _kernels
from xent._arrays import Array, destination, native


class DenseGrads(NamedTuple):
    """The gradients of a dense layer; None for those not asked for.

    Attributes
    ----------
    x : ndarray, shape (..., in)
    weight : ndarray, shape (out, in)
    bias : ndarray, shape (out,)
    """

    x: Array | None
    weight: Array | None
    bias: Array | None


GRADS = DenseGrads._fields

# A sum of squares of float64 above this has lost nothing that counts: below 2^-1022 they are 0.
LEAST_SQUARE = 2.0**-900


def one_dtype(arrays: dict[str, Array]) -> np.dtype[Any]:
    """The dtype, of native order, that all of them have."""
    dtypes = {name: native(array.dtype) for name, array in arrays.items()}
    if len(set(dtypes.values())) > 1:
        given = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"the arrays of a layer must have one dtype, float32 or float64; got {given}")
    return next(iter(dtypes.values()))


def batch_of(x: Array, weight: Array | None = None) -> tuple[int, ...]:
    """The batch shape of x (..., in), held against weight (out, in)."""
    if x.ndim == 0:
        raise ValueError("x must have shape (..., in); got a 0-d array")
    if weight is None:
        return x.shape[:-1]
    inputs = x.shape[-1]
    if weight.ndim != 2 or weight.shape[1] != inputs:
        turned = weight.ndim == 2 and weight.shape[0] == inputs
        hint = ", which looks like (in, out): give weight.T" if turned else ""
        raise ValueError(
            f"weight must have shape (out, in) with in = {inputs}, the last axis of x of shape {x.shape}; "
            f"got shape {weight.shape}{hint}"
        )
    return x.shape[:-1]


def of_shape(array: Array, name: str, shape: tuple[int, ...], what: str) -> Array:
    """The array, if it has that shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, {what}; got shape {array.shape}")
    return array


def gradients_needed(
    need: Iterable[str],
    out: Sequence[Array | None] | None,
    accumulate: bool,
    shapes: dict[str, tuple[int, ...]],
    dtype: np.dtype[Any],
    inputs: dict[str, Array],
) -> dict[str, Array]:
    """Those of x, weight and bias that are needed: the arrays given, held against all others, or new ones."""
    wanted = frozenset([need] if isinstance(need, str) else need)
    if not wanted <= set(GRADS):
        raise ValueError(f"need must name some of 'x', 'weight', 'bias'; got {sorted(wanted, key=str)}")
    given = (None, None, None) if out is None else tuple(out)
    if len(given) != len(GRADS):
        raise ValueError(f"out must be (x, weight, bias), None for those not given; got {len(given)} of them")
    apart, grads = dict(inputs), {}
    for name, array in zip(GRADS, given, strict=True):
        if name not in wanted:
            if array is not None:
                raise ValueError(f"out.{name} is given, but need has no {name!r}")
            continue
        if array is None and accumulate:
            raise ValueError(f"accumulate adds to out.{name}, which is not given")
        grads[name] = destination(array, f"out.{name}", shapes[name], dtype, apart)
        apart[f"out.{name}"] = grads[name]
    return grads


def as_rows(array: Array) -> Array:
    """(..., n) as (rows, n): a view where the batch axes can be merged, else a copy."""
    return array if array.ndim == 2 else array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def plain_rows(array: Array) -> Array:
    """(..., n) as contiguous, aligned rows in native order: a view of such an array, a copy of any other."""
    rows = as_rows(array)
    if rows.flags.c_contiguous and rows.flags.aligned and rows.dtype.isnative:
        return rows
    return np.array(rows, native(rows.dtype), order="C", copy=True)


def work_rows(array: Array) -> Array:
    """Rows for the kernels to write to: of the array itself if it is contiguous and aligned, else new ones."""
    return as_rows(array) if array.flags.carray else np.empty_like(as_rows(array), order="C")


def put_rows(rows: Array, array: Array) -> None:
    """The work rows' numbers to where they belong, if they are not there."""
    if not array.flags.carray:
        array[...] = rows.reshape(array.shape)


def put_product(left: Array, right: Array, to: Array, accumulate: bool) -> None:
    """to = left @ right, or += it."""
    if accumulate:
        to += np.matmul(left, right).reshape(to.shape)
    elif to.flags.carray:
        np.matmul(left, right, out=to.reshape(left.shape[0], right.shape[1]))
    else:
        to[...] = np.matmul(left, right).reshape(to.shape)


def scaled_norms(rows: Array) -> Any:
    """The norm over the last axis in double; no square overflows or vanishes."""
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0.0).astype(np.float64)
    scale = np.where((largest > 0.0) & (largest < np.inf), largest, 1.0)
    scaled = rows / scale
    return np.sqrt(np.sum(scaled * scaled, axis=-1)) * scale[..., 0]


def _row_norms(rows: Array, squares: Array, plus: float) -> Array:
    """sqrt(||row_i||^2 + plus), in double, from the squares; of float64, where these may have left its range, anew."""
    norms: Array = np.sqrt(squares + plus)
    if rows.dtype.itemsize == 8:
        far = np.flatnonzero(~((squares > LEAST_SQUARE) & (squares < np.inf)))
        norms[far] = np.hypot(scaled_norms(rows[far]), math.sqrt(plus))
    return norms


def norms_of(dz_rows: Array, squares_z: Array, x_rows: Array, bias: bool) -> Array:
    """sqrt(||dz_i||^2 (||x_i||^2 + 1)), without the 1 if there is no bias, in double; squares_z are those of dz."""
    squares_x = np.empty(len(x_rows))
    _kernels.row_squares(x_rows, squares_x)
    with np.errstate(all="ignore"):
        return _row_norms(dz_rows, squares_z, 0.0) * _row_norms(x_rows, squares_x, 1.0 if bias else 0.0)


def put_norms(norms: Array, batch: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The norms in that dtype; what it cannot hold is an infinity or 0."""
    with np.errstate(all="ignore"):
        return norms.astype(dtype).reshape(batch)
