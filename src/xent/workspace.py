"""The memory of a network's training step, and what of its arguments has been checked already."""

from __future__ import annotations

import operator
from itertools import chain
from typing import Any

from xent import _kernels
from xent._arrays import APART, Array, distinct, floating, native
from xent._layer import DenseGrads, as_rows
from xent._network import checked_grads, checked_layers, own_grads
from xent._step import Step

__all__ = ["MlpWorkspace"]

MOST_STEPS = 4  # for shapes of batches, with norms or without, whose arrays a workspace keeps


class MlpWorkspace:
    """The memory of `mlp_with_grad`, kept from call to call.

    The first call with a workspace checks everything and allocates; further calls with the same parameter arrays,
    whatever numbers they hold by then, and a batch of the same shape do neither. Nothing has to be said in advance:
    another network, another dtype or another shape is checked and allocated when it comes. The arrays of the last few
    shapes of batches are kept (the last batch of an epoch is often smaller). One thread at a time.

    Attributes
    ----------
    inputs : list of ndarray, shape (rows, in)
        The input of each layer in the last call, the batch flattened to rows: x, then each hidden layer's output.
    grad_z : list of ndarray, shape (rows, out)
        The gradient of each layer's pre-activation in the last call: with `inputs` what `dense_clipped_grads`,
        `dense_weighted_grads` and `dense_sample_grads` take.

    See Also
    --------
    mlp_with_grad

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> params = [(np.eye(2), np.zeros(2)), (np.eye(2), np.zeros(2))]
    >>> workspace = xent.MlpWorkspace()
    >>> for _ in range(3):
    ...     loss, grads = xent.mlp_with_grad(params, np.eye(2), [0, 1], workspace=workspace)
    ...     for (weight, bias), grad in zip(params, grads):
    ...         weight -= grad.weight
    ...         bias -= grad.bias
    >>> workspace.grad_z[0].shape
    (2, 2)
    """

    def __init__(self) -> None:
        self._layout: tuple[Any, ...] = ()
        self._bound: tuple[Any, ...] = ()  # what was checked, by identity: it need not be checked again
        self._alive: list[Any] = []  # the arrays with those identities
        self._own: tuple[list[DenseGrads], Array] | None = None
        self._grads: list[DenseGrads] = []
        self._written: list[Array] = []  # what nothing that is read may overlap: all gradients
        self._written_to = ""  # whose they are
        self._steps: dict[tuple[tuple[int, ...], bool], Step] = {}
        self._last: tuple[Array, Step] | None = None

    @property
    def inputs(self) -> list[Array]:
        """The input of each layer in the last call."""
        return [] if self._last is None else [self._last[0], *self._last[1].outputs[:-1]]

    @property
    def grad_z(self) -> list[Array]:
        """The gradient of each layer's pre-activation in the last call."""
        return [] if self._last is None else list(self._last[1].grad_z)

    def _take(
        self, params: Any, x: Any, activation: Any, out: Any, norms: bool
    ) -> tuple[Array, Step, list[DenseGrads]]:
        """x as rows, the step for its shape, and where the gradients go."""
        try:
            bound = (
                type(x),
                x.dtype,
                activation if activation is None or type(activation) is str else tuple(activation),
                *map(id, chain.from_iterable(params)),
                *(() if out is None else map(id, chain.from_iterable(out))),
            )
            step = self._steps.get((x.shape, norms)) if bound == self._bound else None
        except (AttributeError, TypeError):  # lists, or what is refused below
            bound, step = (), None
        if step is None or self._overlaps(x, step):
            x, step = self._prepare(params, x, activation, out, norms, bound)
        rows = x if x.ndim == 2 else as_rows(x)
        self._last = rows, step
        return rows, step, self._grads

    def _overlaps(self, x: Array, step: Step) -> bool:
        """Whether x may share memory with what the step writes."""
        for array in self._written:
            if _kernels.relation(array, x) != APART:
                return True
        return _kernels.relation(step.memory, x) != APART

    def _keep_apart(self, step: Step, array: Array, name: str) -> None:
        """Refuse an array that is read while the step writes over it."""
        distinct(step.memory, array, name, "the workspace")
        for written in self._written:
            distinct(written, array, name, self._written_to)

    def _prepare(
        self, params: Any, x: Any, activation: Any, out: Any, norms: bool, bound: tuple[Any, ...]
    ) -> tuple[Array, Step]:
        """Check everything, and allocate what is not there."""
        given, x = x, floating(x, "x")
        dtype = native(x.dtype)
        x = x.astype(dtype, copy=False)
        layers = checked_layers(params, activation, x)
        known, self._bound = self._bound, ()  # nothing is bound if something below raises
        layout = (dtype, *((layer.weight.shape, layer.bias is None, layer.code) for layer in layers))
        if layout != self._layout:
            self._layout, self._own = layout, None
            self._steps.clear()
        self._written_to = "the workspace" if out is None else "out"
        if out is not None:
            self._grads = checked_grads(out, layers, x)
            self._written = [array for grads in self._grads for array in grads if array is not None]
        else:
            self._own = self._own or own_grads(layers, dtype)
            self._grads, self._written = self._own[0], [self._own[1]]
        if not bound or bound != known:
            for step in self._steps.values():
                step.bind(layers, self._grads)
        if (x.shape, norms) not in self._steps:
            if len(self._steps) == MOST_STEPS:
                del self._steps[next(iter(self._steps))]
            self._steps[x.shape, norms] = Step(layers, x.shape, dtype, norms)
            self._steps[x.shape, norms].bind(layers, self._grads)
        step = self._steps[x.shape, norms]
        read = [("x", x), *((f"params[{i}]", a) for i, layer in enumerate(layers) for a in layer[:2] if a is not None)]
        for name, array in read:
            self._keep_apart(step, array, name)
        self._alive = list(chain.from_iterable(params))
        as_given = [a for layer in layers for a in layer[:2]]
        unchanged = x is given and all(map(operator.is_, as_given, self._alive))
        self._bound = bound if unchanged else ()
        return x, step
