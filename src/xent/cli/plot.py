"""The two figures of the command line, drawn with matplotlib without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xent.cli import _console
from xent.cli.peers import OPERATIONS

STYLES: dict[str, dict[str, Any]] = {  # ours stand out; one colour per library in every panel
    "xent": {"color": "#c1121f", "marker": "o", "linewidth": 2.4},
    "xent in place": {"color": "#c1121f", "marker": "v", "linestyle": "--"},
    "xent fresh": {"color": "#e58a8f", "marker": "^", "linestyle": ":"},
    "numpy": {"color": "#4d4d4d", "marker": "s"},
    "scipy": {"color": "#0072b2", "marker": "D"},
    "sklearn": {"color": "#e69f00", "marker": "P"},
    "torch": {"color": "#009e73", "marker": "X"},
    "torch.compile": {"color": "#56b4e9", "marker": "X", "linestyle": "--"},
    "jax": {"color": "#9467bd", "marker": "*"},
}


def _pyplot() -> Any:
    _console.optional("matplotlib", "plot").use("Agg")
    return _console.optional("matplotlib.pyplot", "plot")


def bench(report: Mapping[str, Any], path: str) -> None:
    """Cost in copies against shape: a panel per operation, a line per library."""
    plt = _pyplot()
    records = [record for record in report["results"] if record["correct"]]
    figure, panels = plt.subplots(1, len(OPERATIONS), figsize=(15, 5.4), sharey=True, layout="constrained")
    for panel, operation in zip(panels, OPERATIONS, strict=True):
        own = [record for record in records if record["operation"] == operation]
        shapes = list(dict.fromkeys((record["rows"], record["classes"]) for record in own))
        for name in report["libraries"]:
            points = {(r["rows"], r["classes"]): r["copies"] for r in own if r["library"] == name}
            if points:
                positions = [shapes.index(shape) for shape in points]
                panel.plot(positions, list(points.values()), label=name, **STYLES.get(name, {"marker": "."}))
        panel.axhline(1.0, color="black", linewidth=0.8, alpha=0.6)
        panel.set_title(operation)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        names = [f"{rows} x {classes}" for rows, classes in shapes]
        panel.set_xticks(range(len(shapes)), names, rotation=45, ha="right")
        panel.set_xlabel("rows x classes")
        panel.grid(True, which="major", alpha=0.3)
    panels[0].set_ylabel("time / time of np.copyto of the logits")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    threads = ", ".join(f"{name} {item['threads']}" for name, item in report["libraries"].items())
    figure.suptitle(
        f"Cost in copies of {report['dtype']} logits (lower is better)\n"
        f"{report['cpu']}, tier {report['tier']}, {report['date'][:10]}; threads: {threads}",
        fontsize=10,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def loss_curve(losses: Sequence[float], unit: str, path: str) -> None:
    """The training loss after each epoch or iteration."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.plot(range(1, len(losses) + 1), losses, **STYLES["xent"], markersize=3)
    axes.set_yscale("log")
    axes.set_xlabel(unit)
    axes.set_ylabel("mean cross-entropy + l2 penalty")
    axes.set_title("Training loss, handwritten digits")
    axes.grid(True, which="both", alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)
