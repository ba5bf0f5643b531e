"""A network's parameters and outputs, checked layer by layer; what does not fit is named by its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xent._activations import activation_code
from xent._arrays import Array, destination, floating, native
from xent._layer import DenseGrads, of_shape, one_dtype

Params = Sequence[tuple[Any, Any]]


class Layer(NamedTuple):
    """One layer as the products and kernels take it."""

    weight: Array  # (out, in)
    bias: Array | None  # (out,)
    code: int  # of the activation


def checked_layers(params: Params, activation: Any, x: Array) -> list[Layer]:
    """The layers that lead from x (..., in) to the logits."""
    if x.ndim == 0:
        raise ValueError("x must have shape (..., in); got a 0-d array")
    pairs = _pairs(params)
    codes = [*activation_codes(activation, len(pairs) - 1), 0]
    arrays, layers = {"x": x}, []
    inputs, source = x.shape[-1], f"the last axis of x of shape {x.shape}"
    for i, (weight, bias) in enumerate(pairs):
        name = f"params[{i}]"
        w = arrays[f"{name} weight"] = floating(weight, f"{name} weight")
        if w.ndim != 2 or w.shape[1] != inputs:
            turned = w.ndim == 2 and w.shape[0] == inputs
            hint = ", which looks like (in, out): give weight.T" if turned else ""
            raise ValueError(f"{name} weight must have shape (out, {inputs}), {source}; got shape {w.shape}{hint}")
        b = None
        if bias is not None:
            b = arrays[f"{name} bias"] = floating(bias, f"{name} bias")
            of_shape(b, f"{name} bias", w.shape[:1], "one per row of weight")
            b = np.require(b, native(b.dtype), ["C", "A"])
        layers.append(Layer(w, b, codes[i]))
        inputs, source = len(w), f"the outputs of {name}"
    one_dtype(arrays)
    return layers


def _pairs(params: Any) -> list[tuple[Any, Any]]:
    """The (weight, bias) of each layer."""
    if not isinstance(params, Sequence) or isinstance(params, str):
        raise TypeError(f"params must be a sequence of (weight, bias) pairs, got {type(params).__name__}")
    pairs = list(params)
    if not pairs:
        raise ValueError("params must have at least one layer; got none")
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            what = f"an array of shape {pair.shape}" if isinstance(pair, np.ndarray) else type(pair).__name__
            raise ValueError(f"params[{i}] must be (weight, bias), where the bias may be None; got {what}")
    return pairs


def activation_codes(activation: Any, hidden: int) -> list[int]:
    """One per hidden layer, from one name for all of them or a name for each."""
    if activation is None or isinstance(activation, str):
        return [activation_code(activation)] * hidden
    if not isinstance(activation, tuple | list) or len(activation) != hidden:
        raise ValueError(
            f"activation must be one name, or a list of one for each of the {hidden} hidden layers; got {activation!r}"
        )
    return [activation_code(name) for name in activation]


def checked_grads(out: Sequence[Sequence[Array | None]], layers: list[Layer], x: Array) -> list[DenseGrads]:
    """The arrays given for the gradients, held against all others; a new one where None is given."""
    given = [tuple(grads) for grads in out]
    if len(given) != len(layers) or any(len(grads) != 3 for grads in given):
        raise ValueError(
            f"out must hold (None, weight, bias) for each of the {len(layers)} layers, as in what is returned; got "
            f"{len(given)} of length {sorted({len(grads) for grads in given})}"
        )
    dtype, apart = native(x.dtype), {"x": x}
    for i, layer in enumerate(layers):
        apart[f"params[{i}] weight"] = layer.weight
        if layer.bias is not None:
            apart[f"params[{i}] bias"] = layer.bias
    found = []
    for i, (layer, (of_x, of_weight, of_bias)) in enumerate(zip(layers, given, strict=True)):
        if of_x is not None or (layer.bias is None and of_bias is not None):
            raise ValueError(f"out[{i}].{'bias' if of_x is None else 'x'} is given, but no such gradient is computed")
        weight = apart[f"out[{i}].weight"] = destination(
            of_weight, f"out[{i}].weight", layer.weight.shape, dtype, apart
        )
        bias = None
        if layer.bias is not None:
            bias = apart[f"out[{i}].bias"] = destination(of_bias, f"out[{i}].bias", layer.bias.shape, dtype, apart)
        found.append(DenseGrads(None, weight, bias))
    return found


def own_grads(layers: list[Layer], dtype: np.dtype[Any]) -> tuple[list[DenseGrads], Array]:
    """New arrays for the gradients, and the block of memory that they lie in."""
    arrays, block = carve([a.shape for layer in layers for a in layer[:2] if a is not None], dtype)
    taken = iter(arrays)
    grads = [DenseGrads(None, next(taken), None if layer.bias is None else next(taken)) for layer in layers]
    return grads, block


def carve(shapes: list[tuple[int, ...]], dtype: np.dtype[Any]) -> tuple[list[Array], Array]:
    """Arrays of these shapes, each from the start of a cache line, and the one block of memory that they lie in."""
    line = 64 // dtype.itemsize
    lengths = [-(-math.prod(shape) // line) * line for shape in shapes]
    block: Array = np.empty(sum(lengths) + line, dtype)
    at = -block.ctypes.data % 64 // dtype.itemsize
    arrays = []
    for shape, length in zip(shapes, lengths, strict=True):
        arrays.append(block[at : at + math.prod(shape)].reshape(shape))
        at += length
    return arrays, block
