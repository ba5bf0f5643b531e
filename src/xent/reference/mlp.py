"""The definition of a network: `dense`, `cross_entropy_with_grad` and `dense_backward`, one after another.

    h_0 = x        h_(i+1) = f_i(W_i h_i + b_i)        the last layer has no f: its outputs are the logits

Each function rounds its result to float64, once.
"""

from collections.abc import Sequence
from math import hypot, prod
from typing import Any, NamedTuple

from xent.reference._exact import AxisError, Nested, Shape, as_array
from xent.reference.activations import find, saved_kind
from xent.reference.dense import DenseGrads, dense, dense_backward
from xent.reference.losses import cross_entropy_with_grad


class Pass(NamedTuple):
    """One layer in the forward pass: its input, its parameters, and what the backward pass needs."""

    h: Any
    weight: Any
    bias: Any
    activation: str | None
    saved: Any
    y: Any


class Empty:
    """An array of no samples, whose shape nested lists would not tell."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def tolist(self) -> list[Any]:
        return []


def rows_like(nested: Any, batch: Shape, width: int) -> Any:
    """Nested lists of shape (*batch, width), also where there are no samples."""
    return nested if prod(batch) else Empty((*batch, width))


def forward(params: Any, x: Any, activation: Any) -> list[Pass]:
    """The layers from x to the logits."""
    layers = list(params)
    if not layers or any(not isinstance(layer, tuple | list) or len(layer) != 2 for layer in layers):
        raise ValueError("params: at least one layer, each a pair (weight, bias), is accepted")
    one = activation is None or isinstance(activation, str)
    names = [activation] * (len(layers) - 1) if one else list(activation)
    if len(names) != len(layers) - 1:
        raise ValueError(f"activation: {names} was given; one name, or {len(layers) - 1} of them, are accepted")
    passes: list[Pass] = []
    h = x
    for i, ((weight, bias), name) in enumerate(zip(layers, [*names, None], strict=True)):
        find(name)
        try:
            y = dense(h, weight, bias, name)
            saved = dense(h, weight, bias) if saved_kind(name) == "z" else y
            batch, width = as_array(x, "x").shape[:-1], as_array(weight, "weight").shape[0]
        except (TypeError, ValueError) as error:
            raise type(error)(f"params[{i}]: {error}") from None
        y, saved = rows_like(y, batch, width), rows_like(saved, batch, width)
        passes.append(Pass(h, weight, bias, name, saved, y))
        h = y
    return passes


def mlp_with_grad(
    params: Sequence[tuple[Any, Any]],
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
    out: None = None,
    workspace: None = None,
    per_sample_norms: bool = False,
) -> Any:
    """Loss and gradients of a network.

    Parameters
    ----------
    params : sequence of (weight, bias)
        Weights (out, in), biases (out,) or None.
    x : array_like, shape (..., in)
    targets, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer, return_lse
        As for `cross_entropy`; the gradients are those of the sum for "none".
    activation : str, None or sequence of them
        One for all hidden layers, or one for each.
    axis : int
        The last.
    out, workspace : None
        The reference returns lists.
    per_sample_norms : bool
        Return also, for each sample, the norm of its part of all gradients.

    Returns
    -------
    loss, grads, and lse with `return_lse`, and norms with `per_sample_norms`
        `grads` holds for each layer DenseGrads with x=None.

    Raises
    ------
    TypeError, ValueError
        As for `dense`, with the place in `params`, and `cross_entropy`.

    Examples
    --------
    >>> from xent.reference import mlp_with_grad
    >>> mlp_with_grad([([[1.0], [-1.0]], [0.0, 0.0])], [[0.0]], [1])
    (0.6931471805599453, [DenseGrads(x=None, weight=[[0.0], [0.0]], bias=[0.5, -0.5])])
    """
    if out is not None or workspace is not None:
        raise TypeError("out, workspace: the reference returns lists; only None is accepted")
    layers = forward(params, x, activation)
    batch = as_array(x, "x").shape[:-1]
    if axis not in (-1, len(batch)):
        raise AxisError(f"axis: {axis} was given; the last axis is accepted")
    loss, dy, lse = cross_entropy_with_grad(
        layers[-1].y,
        targets,
        class_weight=class_weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        z_loss=z_loss,
        reduction=reduction,
        normalizer=normalizer,
        return_lse=True,
    )
    dy = rows_like(dy, batch, as_array(layers[-1].weight, "weight").shape[0])
    grads: list[DenseGrads] = []
    norms: list[Nested] = []
    for h, weight, bias, name, saved, _ in reversed(layers):
        need = ("x", "weight") if bias is None else ("x", "weight", "bias")
        found, of_layer = dense_backward(dy, h, weight, saved, name, need=need, per_sample_norms=True)
        grads.insert(0, found._replace(x=None))
        norms.append(of_layer)
        dy = rows_like(found.x, batch, as_array(weight, "weight").shape[1])
    result = [loss, grads, *([lse] if return_lse else []), *([_together(norms)] if per_sample_norms else [])]
    return tuple(result)


def _together(norms: list[Any]) -> Any:
    """sqrt(sum_k n_k^2), number by number of nested lists."""
    if isinstance(norms[0], list):
        return [_together(list(each)) for each in zip(*norms, strict=True)]
    return hypot(*norms)
