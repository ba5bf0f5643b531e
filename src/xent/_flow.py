"""The report of `gradient_flow`: its fields, its verdicts in words, its table and its plot. Standard library only."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from math import isfinite
from typing import Any

# A sum is taken for 0 if it is less than this many units of rounding of what was summed: each term is itself rounded.
ROUNDINGS = 16

COLUMNS = "layer", "|dW|", "|db|", "sum of samples", "cancelled", "dz = 0", "dead units", "zero inputs", "signal below"


@dataclass(frozen=True)
class LayerFlow:
    """What a batch does to one layer with input h, pre-activation z = h W^T + b and dz = d loss / d z.

    Attributes
    ----------
    index : int
        Its place in `params`.
    inputs, outputs : int
    activation : str
    weight_norm : float
        Of the batch's gradient of the weight, || sum_i dz_i h_i^T ||.
    bias_norm : float or None
        Of the batch's gradient of the bias, || sum_i dz_i ||; None without a bias.
    sample_norm_sum : float
        The sum of the norms of the samples' own gradients, of weight and bias together.
    cancelled : float
        The share of it that is lost in the sum over the batch: 0 for one sample, 1 if nothing is left.
    zero_samples : list of int
        The samples with dz_i = 0.
    dead_units : list of int
        The outputs whose dz is 0 for every sample.
    zero_inputs : list of int
        The inputs that are 0 for every sample.
    signal : {"alive", "zero for some", "zero after summing", "zero for all", "not a number"}
        What goes on to the layer below, dh_i = W^T dz_i, as it is for the samples one by one, and summed.
    silent_below : list of int
        The samples with dh_i = 0.
    verdict : {"a", "b", "c", "d", "?"}
        (a) zero for every sample, so every layer below is zero too; (b) cancelled over the batch, layers below may
        still learn; (c) only the weights' gradient is zero, because the inputs are: the signal is alive; (d) alive;
        (?) a NaN or an infinity.
    words : str
        The verdict in a sentence.
    """

    index: int
    inputs: int
    outputs: int
    activation: str
    weight_norm: float
    bias_norm: float | None
    sample_norm_sum: float
    cancelled: float
    zero_samples: list[int]
    dead_units: list[int]
    zero_inputs: list[int]
    signal: str
    silent_below: list[int]
    verdict: str
    words: str


@dataclass(frozen=True)
class GradientFlow:
    """The gradients of a network for one batch, layer by layer; `str` shows it as a table from the output down.

    Attributes
    ----------
    loss : float
        The reduced loss; the sum of the losses for ``reduction="none"``.
    samples : int
        How many there are in the batch.
    layers : list of LayerFlow
        In the order of `params`: the output layer is the last.
    """

    loss: float
    samples: int
    layers: list[LayerFlow]

    @property
    def died_at(self) -> int | None:
        """The place in `params` of the uppermost layer whose gradient is zero for every sample; None if there is none.

        All layers below it are zero too.
        """
        return max((layer.index for layer in self.layers if layer.verdict == "a"), default=None)

    def __str__(self) -> str:
        rows = [COLUMNS] + [self._row(layer) for layer in reversed(self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        verdicts = [f"({layer.verdict}) layer {layer.index}: {layer.words}" for layer in reversed(self.layers)]
        return "\n".join([f"gradient flow, {self.samples} samples, loss {self.loss:.6g}", *lines, *verdicts])

    def _row(self, layer: LayerFlow) -> tuple[str, ...]:
        return (
            f"{layer.index}: {layer.inputs} -> {layer.outputs} {layer.activation}",
            f"{layer.weight_norm:.3g}",
            "-" if layer.bias_norm is None else f"{layer.bias_norm:.3g}",
            f"{layer.sample_norm_sum:.3g}",
            f"{layer.cancelled:.1%}",
            f"{len(layer.zero_samples)} of {self.samples}",
            f"{len(layer.dead_units)} of {layer.outputs}",
            f"{len(layer.zero_inputs)} of {layer.inputs}",
            layer.signal,
        )

    def plot(self, path: str | None = None) -> Any:
        """Draw it with matplotlib: the norms of each layer, and the shares that are cancelled, dead and silent.

        Parameters
        ----------
        path : str, optional
            Save the figure here.

        Returns
        -------
        figure : matplotlib.figure.Figure

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        if importlib.util.find_spec("matplotlib") is None:
            raise ImportError("matplotlib is not installed; pip install 'xent[plot]' brings it")
        figure = importlib.import_module("matplotlib.figure").Figure(figsize=(10, 4), layout="constrained")
        norms, shares = figure.subplots(1, 2)
        at = range(len(self.layers))
        names = [f"{layer.index}\n{layer.inputs} to {layer.outputs}" for layer in self.layers]
        lines = {
            "sum of the samples' norms": [layer.sample_norm_sum for layer in self.layers],
            "weight, summed over the batch": [layer.weight_norm for layer in self.layers],
            "bias, summed over the batch": [
                float("nan" if b is None else b) for b in (f.bias_norm for f in self.layers)
            ],
        }
        for (label, values), marker in zip(lines.items(), "osv", strict=True):
            norms.plot(at, values, marker=marker, label=label)
        positive = [value for values in lines.values() for value in values if value > 0.0 and isfinite(value)]
        norms.set_yscale("symlog", linthresh=min(positive, default=1.0))  # a norm of 0 has its place too
        norms.set_ylabel("norm of the gradient")
        bars = {
            "cancelled in the batch": [layer.cancelled for layer in self.layers],
            "samples with dz = 0": [_share(layer.zero_samples, self.samples) for layer in self.layers],
            "dead units": [_share(layer.dead_units, layer.outputs) for layer in self.layers],
            "inputs that are 0": [_share(layer.zero_inputs, layer.inputs) for layer in self.layers],
        }
        for k, (label, values) in enumerate(bars.items()):
            shares.bar([i + 0.2 * (k - 1.5) for i in at], values, 0.2, label=label)
        shares.set_ylim(0.0, 1.05)
        shares.set_ylabel("share")
        for panel in (norms, shares):
            panel.set_xticks(list(at), names)
            panel.set_xlabel("layer (input first)")
            panel.grid(True, axis="y", alpha=0.3)
            panel.legend(frameon=False, fontsize=8)
        figure.suptitle(f"gradient flow, {self.samples} samples, loss {self.loss:.4g}", fontsize=10)
        if path is not None:
            figure.savefig(path, dpi=130)
        return figure


def _share(found: list[int], of: int) -> float:
    return len(found) / of if of else 0.0


def verdict_of(
    *,
    samples: int,
    finite: bool,
    silent: bool,
    inputs_silent: bool,
    weight_left: bool,
    bias_left: bool | None,
    lowest: bool,
) -> tuple[str, str]:
    """The verdict on a layer and its words.

    Parameters
    ----------
    samples : int
    finite : bool
        No dz, and no norm of a sum over the batch, is NaN or infinite.
    silent : bool
        dz_i = 0 for every sample.
    inputs_silent : bool
        For every sample with dz_i != 0 the input h_i is 0.
    weight_left, bias_left : bool; None without a bias
        Whether the sum over the batch is more than rounding leaves.
    lowest : bool
        There is no layer below.
    """
    if not finite:
        return "?", "not a number: the gradient has a NaN or an infinity"
    below = "" if lowest else ", so every layer below is zero too"
    if samples == 0:
        return "a", f"no samples{below}"
    if silent:
        return "a", f"zero for every sample{below}"
    if inputs_silent and bias_left is not False:
        which = "dz" if bias_left is None else "the bias"
        return "c", f"only the weights' gradient is zero, because the inputs are: {which} shows the signal is alive"
    if inputs_silent or not weight_left:
        what = "the bias's gradient" if inputs_silent else "the weights' gradient" if bias_left else "the gradient"
        but = " (the bias's did not)" if bias_left else " (the inputs are zero)" if inputs_silent else ""
        return "b", f"{what} cancelled over the batch{but}" + ("" if lowest else "; layers below may still learn")
    return "d", "alive" + (" (the bias's gradient cancelled over the batch)" if bias_left is False else "")


def signal_of(samples: int, silent: int, norm: float, rounding: float) -> str:
    """What goes below, from how many samples send nothing, the norm of the sum, and what rounding leaves."""
    if silent == samples:
        return "zero for all"
    if not isfinite(norm):
        return "not a number"
    if norm <= rounding:
        return "zero after summing"
    return "zero for some" if silent else "alive"
