"""A multilayer network: softmax cross-entropy and all gradients in one call."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any

from xent import _kernels
from xent._arrays import APART, Array, distinct, floating, native
from xent._layer import DenseGrads, as_rows
from xent._network import Params, checked_grads, checked_layers, own_grads
from xent._problem import checked, run
from xent._step import Step

__all__ = ["MlpWorkspace", "mlp_with_grad"]

MOST_SHAPES = 4  # of batches, whose arrays a workspace keeps


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
        self._written: list[Array] = []  # what x must not overlap: all gradients
        self._steps: dict[tuple[int, ...], Step] = {}
        self._last: tuple[Array, Step] | None = None

    @property
    def inputs(self) -> list[Array]:
        """The input of each layer in the last call."""
        return [] if self._last is None else [self._last[0], *self._last[1].outputs[:-1]]

    @property
    def grad_z(self) -> list[Array]:
        """The gradient of each layer's pre-activation in the last call."""
        return [] if self._last is None else list(self._last[1].grad_z)

    def _take(self, params: Any, x: Any, activation: Any, out: Any, norms: bool) -> tuple[Array, Step]:
        """x as rows, and the step for its shape."""
        try:
            bound = (
                x.dtype,
                activation if activation is None or type(activation) is str else tuple(activation),
                norms,
                *map(id, chain.from_iterable(params)),
                *(() if out is None else map(id, chain.from_iterable(out))),
            )
            step = self._steps.get(x.shape) if bound == self._bound else None
        except (AttributeError, TypeError):  # lists, or what is refused below
            bound, step = (), None
        if step is None or any(_kernels.relation(array, x) != APART for array in (step.memory, *self._written)):
            x, step = self._prepare(params, x, activation, out, norms, bound)
        self._last = x if x.ndim == 2 else as_rows(x), step
        return self._last

    def _prepare(
        self, params: Any, x: Any, activation: Any, out: Any, norms: bool, bound: tuple[Any, ...]
    ) -> tuple[Array, Step]:
        """Check everything, and allocate what is not there."""
        given, x = x, floating(x, "x")
        dtype = native(x.dtype)
        x = x.astype(dtype, copy=False)
        layers = checked_layers(params, activation, x)
        layout = (dtype, norms, *((layer.weight.shape, layer.bias is None, layer.code) for layer in layers))
        if layout != self._layout:
            self._layout, self._own = layout, None
            self._steps.clear()
        if out is not None:
            self._grads = checked_grads(out, layers, x)
            self._written = [array for grads in self._grads for array in grads if array is not None]
        else:
            self._own = self._own or own_grads(layers, dtype)
            self._grads, self._written = self._own[0], [self._own[1]]
        if not bound or bound != self._bound:
            for step in self._steps.values():
                step.bind(layers, self._grads)
        if x.shape not in self._steps:
            if len(self._steps) == MOST_SHAPES:
                del self._steps[next(iter(self._steps))]
            self._steps[x.shape] = Step(layers, x.shape, dtype, norms)
            self._steps[x.shape].bind(layers, self._grads)
        step = self._steps[x.shape]
        read = [("x", x), *((f"params[{i}]", a) for i, layer in enumerate(layers) for a in layer[:2] if a is not None)]
        for name, array in read:
            for written in (step.memory, *self._written):
                distinct(written, array, name, "the workspace")
        self._alive = list(chain.from_iterable(params))
        as_given = [a for layer in layers for a in layer[:2]]
        unchanged = x is given and all(map(operator.is_, as_given, self._alive))
        self._bound = bound if unchanged else ()
        return x, step


def mlp_with_grad(
    params: Params,
    x: Any,
    targets: Any,
    *,
    activation: str | Sequence[str | None] | None = "relu",
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    return_lse: bool = False,
    out: Sequence[Sequence[Array | None]] | None = None,
    workspace: MlpWorkspace | None = None,
    per_sample_norms: bool = False,
) -> Any:
    r"""Softmax cross-entropy of a network of dense layers, and the gradients of all its parameters.

    .. math:: h_0 = x, \quad h_{i+1} = f_i(h_i W_i^T + b_i), \quad
              \ell = \mathrm{cross\_entropy}(h_{L-1} W_{L-1}^T + b_{L-1}, \mathrm{targets})

    Parameters
    ----------
    params : sequence of (weight, bias)
        One pair per layer: weight (out, in), bias (out,) or None; all of one dtype, that of x. The last layer has no
        activation: its outputs are the logits.
    x : array_like, shape (..., in)
        float32 or float64 (integers are taken as float64), with any batch axes.
    targets : array_like
        As for `cross_entropy`: integers of shape (...), or a target distribution per row, floats of shape (..., C).
    activation : str, None, or list of them, optional
        As for `dense`: one for all hidden layers, or one for each.
    axis : int, optional
        The class axis: there is only the last.
    class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer, return_lse
        As for `cross_entropy`. With ``reduction="none"`` the gradients are those of the sum.
    out : sequence of DenseGrads, optional
        Where to put the gradients, as a call returned them; None for a new array.
    workspace : MlpWorkspace, optional
        Memory kept from call to call; then everything returned but the loss lies in it and is overwritten by the next
        call.
    per_sample_norms : bool, optional
        Also return the norm of each sample's own gradient.

    Returns
    -------
    loss : scalar, or ndarray with one number per sample for ``reduction="none"``
    grads : list of DenseGrads
        One per layer with fields weight and bias (None where there is no bias). x is None: the gradient with respect
        to the input of layer i is ``workspace.grad_z[i] @ params[i][0]``.
    lse : scalar or ndarray
        Only with `return_lse`.
    norms : ndarray, shape (...)
        Only with `per_sample_norms`: of sample n's part of the gradients of all layers together, which add up to
        `grads`; "mean" has divided them. In closed form, :math:`\sum_i \|dz_i\|^2 (\|h_i\|^2 + 1)` under the root, with
        no gradient of a sample ever formed.

    Raises
    ------
    TypeError, ValueError
        As for `dense` and `cross_entropy`, by the place in `params`; layers that do not follow one another. An `out`
        that does not fit, is read-only, or overlaps another array. Nothing is written to the gradients then.

    See Also
    --------
    MlpWorkspace, dense, dense_backward, gradient_flow

    Notes
    -----
    The bits are those of `dense`, `cross_entropy_with_grad` and `dense_backward` called one after another. The
    products have the threads of NumPy's BLAS, everything else those of xent.

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> params = [(np.array([[1.0, -1.0], [0.5, 0.5]]), np.zeros(2)), (np.eye(2), np.zeros(2))]
    >>> loss, grads = xent.mlp_with_grad(params, [[1.0, 1.0]], [1])
    >>> print(f"{loss:.4f}")
    0.3133
    >>> grads[1].bias
    array([ 0.26894142, -0.26894142])
    >>> grads[0].weight
    array([[ 0.        ,  0.        ],
           [-0.26894142, -0.26894142]])
    """
    if workspace is None:
        workspace = MlpWorkspace()
    elif not isinstance(workspace, MlpWorkspace):
        raise TypeError(f"workspace must be an MlpWorkspace or None, got {type(workspace).__name__}")
    rows, step = workspace._take(params, x, activation, out, bool(per_sample_norms))
    logits = step.logits
    if axis != -1 and axis != logits.ndim - 1:
        raise ValueError(f"axis must be -1, the outputs of the last layer are the classes; got {axis!r}")
    problem = checked(
        logits, targets, -1, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    )
    for name, array in zip(("targets", "class_weight", "sample_weight"), problem[3:6], strict=True):
        if array is not None:
            distinct(step.memory, array, name, "the workspace")
    step.run_forward(rows)
    result: Any = run(problem, True, logits, None, return_lse, None)
    step.run_backward(rows)
    grads = list(workspace._grads)
    if not (return_lse or per_sample_norms):
        return result, grads
    found = (result[0], grads, result[1]) if return_lse else (result, grads)
    return (*found, step.sample_norms(rows)) if per_sample_norms else found
