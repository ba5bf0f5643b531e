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


def bench(report: Mapping[str, Any], path: str, *, dpi: int = 130, by_classes: bool = False) -> None:
    """Cost in copies against shape, or against the number of classes: a panel per operation, a line per library."""
    plt = _pyplot()
    records = [record for record in report["results"] if record["correct"]]
    size = (10, 8) if by_classes else (12, 9)
    figure, grid = plt.subplots(2, len(OPERATIONS) // 2, figsize=size, sharey=True, layout="constrained")
    panels = list(grid.flat)
    for panel, operation in zip(panels, OPERATIONS, strict=True):
        own = [record for record in records if record["operation"] == operation]
        shapes = list(dict.fromkeys((record["rows"], record["classes"]) for record in own))
        for name in report["libraries"]:
            points = {(r["rows"], r["classes"]): r["copies"] for r in own if r["library"] == name}
            if points:
                positions = [shape[1] if by_classes else shapes.index(shape) for shape in points]
                panel.plot(positions, list(points.values()), label=name, **STYLES.get(name, {"marker": "."}))
        panel.axhline(1.0, color="black", linewidth=0.8, alpha=0.6)
        panel.set_title(operation)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        if by_classes:
            panel.set_xscale("log")
        else:
            names = [f"{rows} x {classes}" for rows, classes in shapes]
            panel.set_xticks(range(len(shapes)), names, rotation=45, ha="right")
        panel.grid(True, which="major", alpha=0.3)
    for panel in grid[-1]:
        panel.set_xlabel("classes" if by_classes else "rows x classes")
    for panel in grid[:, 0]:
        panel.set_ylabel("time / time of np.copyto of the logits")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    threads = ", ".join(f"{name} {item['threads']}" for name, item in report["libraries"].items())
    figure.suptitle(
        f"Cost in copies of {report['dtype']} logits (lower is better)\n"
        f"{report['cpu']}, tier {report['tier']}, {report['date'][:10]}\n"
        f"threads: {threads}",
        fontsize=10,
    )
    figure.savefig(path, dpi=dpi)
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
