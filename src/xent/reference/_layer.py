"""The rows and matrices of a dense layer, read and checked."""

from collections.abc import Sequence
from decimal import Decimal
from math import prod
from typing import Any, TypeAlias

from xent.reference._exact import ONE, ZERO, Shape, as_array, total

Rows: TypeAlias = list[list[Decimal]]


def read_rows(array: Any, name: str, batch: Shape, size: int) -> Rows:
    """An array of shape (*batch, size), a row for each sample in C order."""
    given = as_array(array, name)
    if given.shape != (*batch, size):
        raise ValueError(f"{name}: shape {given.shape} was given; {(*batch, size)} is accepted")
    values = given.decimals()
    return [values[i * size : (i + 1) * size] for i in range(prod(batch))]


def read_layer(x: Any, weight: Any) -> tuple[Rows, Shape, Rows]:
    """The samples of x (..., in), the batch shape, the rows of weight (out, in)."""
    x_shape, w_shape = as_array(x, "x").shape, as_array(weight, "weight").shape
    if not x_shape:
        raise ValueError("x: a number was given; an array of shape (..., in) is accepted")
    if len(w_shape) != 2 or w_shape[1] != x_shape[-1]:
        raise ValueError(f"weight: shape {w_shape} was given for x of shape {x_shape}; (out, in) is accepted")
    batch = x_shape[:-1]
    return read_rows(x, "x", batch, x_shape[-1]), batch, read_rows(weight, "weight", w_shape[:1], w_shape[1])


def dot(a: Sequence[Decimal], b: Sequence[Decimal]) -> Decimal:
    """sum_k a_k b_k"""
    return total(p * q for p, q in zip(a, b, strict=True))


def columns(rows: Rows, size: int) -> Rows:
    """The transpose; `size` empty columns of no rows."""
    return [[row[k] for row in rows] for k in range(size)]


def norm(dz: Sequence[Decimal], x: Sequence[Decimal], bias: bool) -> Decimal:
    """sqrt(||dz||^2 (||x||^2 + 1)), without the 1 if there is no bias"""
    return (dot(dz, dz) * (dot(x, x) + (ONE if bias else ZERO))).sqrt()
