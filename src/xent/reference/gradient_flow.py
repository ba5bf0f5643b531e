"""The definition of the report on a network's gradients: sample by sample, layer by layer."""

from collections.abc import Sequence
from math import fsum, hypot, isfinite, prod
from typing import Any

from xent._flow import ROUNDINGS, GradientFlow, LayerFlow, signal_of, verdict_of
from xent.reference._exact import as_array
from xent.reference.dense import dense_backward
from xent.reference.losses import cross_entropy_with_grad
from xent.reference.mlp import Pass, forward, rows_like

Rows = list[list[float]]
EPSILON = 2.0**-52


def gradient_flow(
    params: Sequence[tuple[Any, Any]],
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
    """A report on the gradients of a network for one batch.

    Parameters, errors: as `mlp_with_grad`. Returns a GradientFlow, whose fields `xent.gradient_flow` describes.

    Examples
    --------
    >>> from xent.reference import gradient_flow
    >>> report = gradient_flow([([[1.0], [-1.0]], [0.0, 0.0])], [[0.0]], [1])
    >>> report.layers[0].verdict, report.layers[0].bias_norm
    ('c', 0.7071067811865476)
    """
    layers = forward(params, x, activation)
    logits = layers[-1].y
    loss, dy = cross_entropy_with_grad(
        logits,
        targets,
        class_weight=class_weight,
        sample_weight=sample_weight,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        z_loss=z_loss,
        reduction=reduction,
        normalizer=normalizer,
    )
    dy_rows = rows_of(rows_like(dy, as_array(x, "x").shape[:-1], as_array(layers[-1].weight, "weight").shape[0]))
    flows: list[LayerFlow] = []
    for index in reversed(range(len(layers))):
        flow, dy_rows = _flow(index, layers[index], dy_rows)
        flows.insert(0, flow)
    return GradientFlow(fsum(as_array(loss, "loss").flat), len(dy_rows), flows)


def rows_of(nested: Any) -> Rows:
    """(..., n) as a list of rows."""
    array = as_array(nested, "rows")
    n = array.shape[-1]
    return [array.flat[i * n : (i + 1) * n] for i in range(prod(array.shape[:-1]))]


def _flow(index: int, layer: Pass, dy: Rows) -> tuple[LayerFlow, Rows]:
    """The facts of one layer, and the dh that it sends to the one below."""
    h, saved = rows_of(layer.h), rows_of(layer.saved)
    weight = as_array(layer.weight, "weight")
    outputs, inputs = weight.shape
    dz: Rows = []
    dh: Rows = []
    for dy_i, h_i, saved_i in zip(dy, h, saved, strict=True):  # the bias's gradient of one sample is its dz
        alone = dense_backward([dy_i], [h_i], layer.weight, [saved_i], layer.activation, need=("x", "bias"))
        dz.append(alone.bias)
        dh.append(alone.x[0])

    of_weight = [[fsum(z[k] * v[j] for z, v in zip(dz, h, strict=True)) for j in range(inputs)] for k in range(outputs)]
    of_bias = [fsum(column) for column in zip(*dz, strict=True)]
    weight_norm = hypot(*(v for row in of_weight for v in row))
    bias_norm = None if layer.bias is None else hypot(*of_bias)
    signal = hypot(*(fsum(column) for column in zip(*dh, strict=True)))
    one = 0.0 if layer.bias is None else 1.0
    summed = fsum(hypot(*z) * hypot(*v, one) for z, v in zip(dz, h, strict=True))
    left = hypot(weight_norm, bias_norm or 0.0)
    cancelled = 1.0 - left / summed if summed else 0.0
    rounding = ROUNDINGS * EPSILON

    silent = [not any(z) for z in dz]
    silent_below = [n for n, row in enumerate(dh) if not any(row)]
    verdict, words = verdict_of(
        samples=len(dz),
        finite=all(isfinite(v) for z in dz for v in z) and isfinite(left),
        silent=all(silent),
        inputs_silent=all(quiet or not any(v) for quiet, v in zip(silent, h, strict=True)),
        weight_left=weight_norm > rounding * fsum(hypot(*z) * hypot(*v) for z, v in zip(dz, h, strict=True)),
        bias_left=None if bias_norm is None else bias_norm > rounding * fsum(hypot(*z) for z in dz),
        lowest=index == 0,
    )
    flow = LayerFlow(
        index=index,
        inputs=inputs,
        outputs=outputs,
        activation=layer.activation or "identity",
        weight_norm=weight_norm,
        bias_norm=bias_norm,
        sample_norm_sum=summed,
        cancelled=cancelled if cancelled != cancelled else max(0.0, cancelled),
        zero_samples=[n for n, quiet in enumerate(silent) if quiet],
        dead_units=[k for k in range(outputs) if not any(z[k] for z in dz)],
        zero_inputs=[j for j in range(inputs) if not any(v[j] for v in h)],
        signal=signal_of(len(dz), len(silent_below), signal, rounding * fsum(hypot(*row) for row in dh)),
        silent_below=silent_below,
        verdict=verdict,
        words=words,
    )
    return flow, dh
