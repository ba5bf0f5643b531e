"""What a batch does to each layer of a network: where a gradient died, and where it only cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xent._activations import NAMES
from xent._arrays import Array
from xent._flow import ROUNDINGS, GradientFlow, LayerFlow, signal_of, verdict_of
from xent._layer import scaled_norms
from xent._network import Layer, Params, checked_layers
from xent.mlp import mlp_with_grad
from xent.workspace import MlpWorkspace

__all__ = ["gradient_flow"]


def gradient_flow(
    params: Params,
    x: Any,
    targets: Any,
    *,
    activation: str | Sequence[str | None] | None = "relu",
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
) -> GradientFlow:
    r"""A report on the gradients of a network for one batch, layer by layer.

    A gradient of a batch is a sum over its samples, :math:`dW = \sum_i dz_i h_i^T`, and can be zero in different ways:
    because every dz_i is, because the h_i are, or because the terms cancel. Only the first kills what lies below.

    Parameters
    ----------
    params, x, targets, activation
        As for `mlp_with_grad`.
    class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
        As for `cross_entropy`.

    Returns
    -------
    report : GradientFlow
        With ``loss``, ``samples``, ``died_at`` and ``layers``. Each layer has ``weight_norm`` and ``bias_norm`` (of the
        sums over the batch), ``sample_norm_sum``, ``cancelled``, ``zero_samples``, ``dead_units``, ``zero_inputs``,
        ``signal`` and ``silent_below`` (of what goes to the layer below), ``verdict`` ("a" to "d") and ``words``.
        ``str(report)`` is a table, ``report.plot()`` a figure (needs matplotlib).

    Raises
    ------
    TypeError, ValueError
        As for `mlp_with_grad`.

    See Also
    --------
    mlp_with_grad

    Notes
    -----
    Everything is as the network computes it in its dtype: a dz that underflows, or a tanh that is 1, counts as zero.
    The sums are formed in float64 and count as zero if they are within 16 roundings of what was summed.

    Examples
    --------
    >>> import numpy as np
    >>> import xent

    Two samples pull the output layer in opposite directions; it stands still, and the hidden layer learns:

    >>> hidden = np.array([[1.0, -1.0]]), np.array([1.0])
    >>> output = np.array([[1.0], [-1.0]]), np.array([-1.0, 1.0])
    >>> report = xent.gradient_flow([hidden, output], [[1.0, 1.0], [2.0, 2.0]], [0, 1])
    >>> for layer in reversed(report.layers):
    ...     print(f"({layer.verdict}) {layer.words}")
    (b) the gradient cancelled over the batch; layers below may still learn
    (d) alive (the bias's gradient cancelled over the batch)
    >>> report.layers[1].weight_norm, report.layers[0].weight_norm, report.layers[1].cancelled
    (0.0, 0.7071067811865476, 1.0)
    """
    workspace = MlpWorkspace()
    loss, _ = mlp_with_grad(
        params,
        x,
        targets,
        activation=activation,
        class_weight=class_weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        z_loss=z_loss,
        reduction=reduction,
        normalizer=normalizer,
        workspace=workspace,
    )
    inputs, grad_z = workspace.inputs, workspace.grad_z
    layers = checked_layers(params, activation, inputs[0])
    flows = [_flow(i, *at) for i, at in enumerate(zip(layers, inputs, grad_z, strict=True))]
    return GradientFlow(float(np.sum(loss)), len(inputs[0]), flows)


def _flow(index: int, layer: Layer, h: Array, dz: Array) -> LayerFlow:
    """The facts of one layer, from its input h (rows, in) and dz (rows, out)."""
    rounding = ROUNDINGS * float(np.finfo(dz.dtype).eps)
    with np.errstate(all="ignore"):
        dh = np.matmul(dz, layer.weight)
        dz_i, dh_i = scaled_norms(dz), scaled_norms(dh)
        h_i = scaled_norms(h)
        bias_norm = None if layer.bias is None else float(scaled_norms(dz.sum(axis=0, dtype=np.float64)))
        weight_norm = float(scaled_norms(np.matmul(dz.T.astype(np.float64), h.astype(np.float64)).reshape(-1)))
        each = dz_i * (h_i if layer.bias is None else np.hypot(h_i, 1.0))
        summed, left = float(each.sum()), float(np.hypot(weight_norm, bias_norm or 0.0))
        cancelled = 1.0 - left / summed if summed else 0.0
        weight_left = weight_norm > rounding * float(np.sum(dz_i * h_i))
        bias_left = None if bias_norm is None else bias_norm > rounding * float(dz_i.sum())
        signal = float(scaled_norms(dh.sum(axis=0, dtype=np.float64)))
    silent, silent_below = ~dz.any(axis=1), ~dh.any(axis=1)
    verdict, words = verdict_of(
        samples=len(h),
        finite=bool(np.isfinite(dz).all() and np.isfinite(left)),
        silent=bool(silent.all()),
        inputs_silent=bool((silent | ~h.any(axis=1)).all()),
        weight_left=weight_left,
        bias_left=bias_left,
        lowest=index == 0,
    )
    return LayerFlow(
        index=index,
        inputs=layer.weight.shape[1],
        outputs=layer.weight.shape[0],
        activation=NAMES[layer.code],
        weight_norm=weight_norm,
        bias_norm=bias_norm,
        sample_norm_sum=summed,
        cancelled=min(1.0, max(0.0, cancelled)) if cancelled == cancelled else cancelled,
        zero_samples=np.flatnonzero(silent).tolist(),
        dead_units=np.flatnonzero(~dz.any(axis=0)).tolist(),
        zero_inputs=np.flatnonzero(~h.any(axis=0)).tolist(),
        signal=signal_of(len(h), int(silent_below.sum()), signal, rounding * float(dh_i.sum())),
        silent_below=np.flatnonzero(silent_below).tolist(),
        verdict=verdict,
        words=words,
    )
