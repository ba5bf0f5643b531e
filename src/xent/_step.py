"""The arrays of a training step for one shape of batch, and its products and sweeps bound to them.

For layer i of n rows, from the input h_i (h_0 = x) to the logits::

    z_i = h_i W_i^T + b_i    h_(i+1) = f_i(z_i)    dz_i = (dz_(i+1) W_(i+1)) f_i'(z_i)    dW_i = dz_i^T h_i

Forward and backward cost what the products cost, and one sweep each over h_(i+1) and dz_i.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from xent import _kernels
from xent._activations import OF_Z
from xent._arrays import Array
from xent._layer import DenseGrads, plain_rows
from xent._network import Layer, carve

# The product of two matrices as np.matmul gives it, bit for bit, with 0.4 us less before it starts.
product = np.dot


class Forward(NamedTuple):
    """output = f(h weight_t + bias), for h the output before."""

    weight_t: Array
    output: Array
    bias: Array | None
    code: int
    saved: Array | None
    sweep: bool  # whether there is anything to do but the product


class Backward(NamedTuple):
    """dz *= f'(saved), of_bias = its sum over the rows; of_weight = dz_t h; below = dz weight."""

    sweep: bool
    dz: Array
    saved: Array | None
    code: int
    of_bias: Array | None
    squares: Array | None
    dz_t: Array
    h: Array | None  # None for x
    of_weight: Array
    weight: Array
    below: Array | None


class Step:
    """Everything that a step writes to, but for the gradients of the parameters: allocated once.

    Attributes
    ----------
    logits : ndarray, shape (..., C)
        Of the batch's shape. Their gradient takes their place.
    outputs, grad_z : list of ndarray, shape (rows, out)
        h_(i+1) and dz_i of each layer; the last of both is `logits`.
    norms : ndarray, shape (...), or None
        The norm of each sample's gradient.
    memory : ndarray
        The block that holds them.
    """

    def __init__(self, layers: list[Layer], x_shape: tuple[int, ...], dtype: np.dtype[Any], norms: bool) -> None:
        batch, rows = x_shape[:-1], math.prod(x_shape[:-1])
        widths = [len(layer.weight) for layer in layers]
        of_z = [width for width, layer in zip(widths, layers, strict=True) if layer.code in OF_Z]
        carved, self.memory = carve([(rows, width) for width in [*widths, *widths[:-1], *of_z]], dtype)
        arrays = iter(carved)
        self.outputs = [next(arrays) for _ in widths]
        self.grad_z = [next(arrays) for _ in widths[:-1]] + self.outputs[-1:]
        self.saved = [next(arrays) if layer.code in OF_Z else None for layer in layers]
        self.logits = self.outputs[-1].reshape(*batch, widths[-1])
        self.norms = np.empty(batch, dtype) if norms else None
        # ||dz_i||^2 of each layer and row, then ||h_i||^2
        self.squares = np.empty((2, len(layers), rows)) if norms else None
        self.input_squares = [] if self.squares is None else list(self.squares[1])

    def bind(self, layers: list[Layer], grads: list[DenseGrads]) -> None:
        """Take these parameters and these arrays for their gradients."""
        self.copies: list[tuple[Array, Array]] = []  # from what a product can write to, to what was given
        self.biases = np.array([layer.bias is not None for layer in layers], np.float64)
        self.forward = [
            Forward(layer.weight.T, y, layer.bias, layer.code, z, layer.bias is not None or layer.code != 0)
            for layer, y, z in zip(layers, self.outputs, self.saved, strict=True)
        ]
        self.backward = [self._backward(i, layers[i], grads[i]) for i in reversed(range(len(layers)))]

    def _backward(self, i: int, layer: Layer, grads: DenseGrads) -> Backward:
        dz, of_bias = self.grad_z[i], self._writable(grads.bias)
        of_weight = self._writable(grads.weight)
        assert of_weight is not None
        return Backward(
            sweep=layer.code != 0 or of_bias is not None or self.squares is not None,
            dz=dz,
            saved=None if layer.code == 0 else self.outputs[i] if self.saved[i] is None else self.saved[i],
            code=layer.code,
            of_bias=of_bias,
            squares=None if self.squares is None else self.squares[0, i],
            dz_t=dz.T,
            h=self.outputs[i - 1] if i else None,
            of_weight=of_weight,
            weight=layer.weight,
            below=self.grad_z[i - 1] if i else None,
        )

    def _writable(self, array: Array | None) -> Array | None:
        """The array, if a product can write to it; else another, to be copied to it."""
        if array is None or array.flags.carray:
            return array
        work = np.empty(array.shape, array.dtype)
        self.copies.append((work, array))
        return work

    def run_forward(self, x: Array) -> None:
        """From x (rows, in) to the logits."""
        h = x
        for weight_t, y, bias, code, z, sweep in self.forward:
            product(h, weight_t, y)
            if sweep:
                _kernels.bias_activation(y, bias, code, z)
            h = y

    def run_backward(self, x: Array) -> None:
        """From the gradient of the logits to those of the parameters."""
        for sweep, dz, saved, code, of_bias, squares, dz_t, h, of_weight, weight, below in self.backward:
            if sweep:
                _kernels.activation_backward(dz, saved, code, dz if code else None, of_bias, False, squares)
            product(dz_t, x if h is None else h, of_weight)
            if below is not None:
                product(dz, weight, below)
        for work, array in self.copies:
            array[...] = work

    def sample_norms(self, x: Array) -> Any:
        """sqrt(sum_i ||dz_i||^2 (||h_i||^2 + 1)) of each row, after `run_backward`; without the 1 where no bias is."""
        assert self.norms is not None
        assert self.squares is not None
        of_x, *others = self.input_squares
        try:
            _kernels.row_squares(x, of_x)
        except ValueError:  # not contiguous rows
            _kernels.row_squares(plain_rows(x), of_x)
        for y, squares in zip(self.outputs, others, strict=False):
            _kernels.row_squares(y, squares)
        _kernels.network_norms(self.squares, self.biases, self.norms)
        return self.norms[()]
