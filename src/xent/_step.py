"""The arrays of a training step for one shape of batch, and its products and sweeps bound to them.

For layer i of n rows, from the input h_i (h_0 = x) to the logits::

    z_i = h_i W_i^T + b_i    h_(i+1) = f_i(z_i)    dz_i = (dz_(i+1) W_(i+1)) f_i'(z_i)    dW_i = dz_i^T h_i

Forward and backward cost what the products cost, and one sweep each over h_(i+1) and dz_i.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xent import _kernels
from xent._activations import OF_Z
from xent._arrays import Array
from xent._layer import DenseGrads, plain_rows
from xent._network import Layer, carve

# np.dot gives the bits of np.matmul (of matrices in C or Fortran order) with 0.4 us less before it starts, but clears
# the array first, which takes longer of more numbers than this (128, 784-128-10: 1.05 bare products instead of 1.06).
CLEARED_AT_MOST = 2**14

# Numbers in the arrays of a step up to which all squares of rows are taken in one call at its end, not in the sweep
# over each array: caches near by have them still, and what takes them is brought to its own once (norms of
# 128, 64-64-10 cost 2.5 to 3.3 % of the step instead of 3.7 to 4.1; but of 2048, 256-256-256-10 5.9 instead of 1.8).
LATE_AT_MOST = 2**15


def product_to(array: Array) -> Callable[[Array, Array, Array], Any]:
    """The product of two matrices, put into an array like this."""
    return np.dot if array.size <= CLEARED_AT_MOST else np.matmul


class Forward(NamedTuple):
    """output = h weight_t for h the output before; then sweep, if there is anything to do: f(output + bias)."""

    product: Callable[[Array, Array, Array], Any]
    weight_t: Array
    output: Array
    sweep: Callable[[], None] | None


class Backward(NamedTuple):
    """sweep, if there is anything to do: dz *= f'(saved), its sums; of_weight = dz_t h; below = dz weight."""

    sweep: Callable[[Array], None] | None
    dz: Array
    dz_t: Array
    h: Array | None  # None for x
    product: Callable[[Array, Array, Array], Any]
    of_weight: Array
    weight: Array
    product_below: Callable[[Array, Array, Array], Any]
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
    one_sample : bool
        Whether x is a single sample, and its norm a number; `norms.ndim`, asked each time, is 150 instructions more.
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
        self.one_sample = not batch
        # ||dz_i||^2 of each layer and row, then ||h_i||^2
        self.squares = np.empty((2, len(layers), rows)) if norms else None
        self.late = norms and self.memory.size <= LATE_AT_MOST

    def bind(self, layers: list[Layer], grads: list[DenseGrads]) -> None:
        """Take these parameters and these arrays for their gradients."""
        self.copies: list[tuple[Array, Array]] = []  # from what a product can write to, to what was given
        biases = np.array([layer.bias is not None for layer in layers], np.float64)
        columns = layers[0].weight.shape[1]
        norms = None
        if self.norms is not None and self.squares is not None:
            late: list[tuple[Array, Array]] = []
            if self.late:
                late = [
                    *zip(self.grad_z, self.squares[0], strict=True),
                    *zip(self.outputs[:-1], self.squares[1, 1:], strict=True),
                ]
            norms = _kernels.NetworkNorms(self.squares, biases, self.norms, columns, late)
        self.forward = [self._forward(i, layer) for i, layer in enumerate(layers)]
        self.backward = [
            self._backward(i, layers[i], grads[i], None if i else norms) for i in reversed(range(len(layers)))
        ]

    def _forward(self, i: int, layer: Layer) -> Forward:
        y, squares = self.outputs[i], None
        if self.squares is not None and not self.late and i + 1 < len(self.outputs):
            squares = self.squares[1, i + 1]
        run: Callable[[], None] | None = None
        if layer.bias is not None or layer.code != 0:
            run = _kernels.ForwardSweep(y, layer.bias, layer.code, self.saved[i], squares).run
        elif squares is not None:
            run = partial(_kernels.row_squares, y, squares)  # y stays as the product left it
        return Forward(product_to(y), layer.weight.T, y, run)

    def _backward(self, i: int, layer: Layer, grads: DenseGrads, norms: _kernels.NetworkNorms | None) -> Backward:
        dz, of_bias, run = self.grad_z[i], self._writable(grads.bias), None
        of_weight = self._writable(grads.weight)
        assert of_weight is not None
        if layer.code != 0 or of_bias is not None or self.squares is not None:
            y_or_z = self.outputs[i] if self.saved[i] is None else self.saved[i]
            saved = None if layer.code == 0 else y_or_z
            squares = None if self.squares is None or self.late else self.squares[0, i]
            run = _kernels.BackwardSweep(dz, saved, layer.code, of_bias, squares, norms).run
        below = self.grad_z[i - 1] if i else None
        return Backward(
            sweep=run,
            dz=dz,
            dz_t=dz.T,
            h=self.outputs[i - 1] if i else None,
            product=product_to(of_weight),
            of_weight=of_weight,
            weight=layer.weight,
            product_below=product_to(dz if below is None else below),
            below=below,
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
        for product, weight_t, y, sweep in self.forward:
            product(h, weight_t, y)
            if sweep is not None:
                sweep()
            h = y

    def run_backward(self, x: Array) -> None:
        """From the gradient of the logits to those of the parameters, and to the norms: of each row
        sqrt(sum_i ||dz_i||^2 (||h_i||^2 + 1)), without the 1 where no bias is."""
        for sweep, dz, dz_t, h, product, of_weight, weight, product_below, below in self.backward:
            if sweep is not None:
                try:
                    sweep(x)
                except BufferError:  # not contiguous rows
                    sweep(plain_rows(x))
            product(dz_t, x if h is None else h, of_weight)
            if below is not None:
                product_below(dz, weight, below)
        for work, array in self.copies:
            array[...] = work
