"""The plots of a report, drawn with matplotlib; cost by classes is that of `xent bench --plot`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xent.cli import _console, plot

Record = Mapping[str, Any]
DPI, COLOURS = 100, 64
OURS, COPY = plot.STYLES["xent"]["color"], plot.STYLES["numpy"]["color"]


@contextmanager
def figure(head: Record, title: str, path: Path) -> Any:
    """Axes to draw on; saved at the end, with what the figures depend on in the title."""
    plt = plot._pyplot()
    made, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    yield axes
    under = f"{head['cpu']}, tier {head['tier']}, {head['threads']} threads, {head['date'][:10]}"
    axes.set_title(f"{title}\n{under}", fontsize=10)
    axes.grid(True, which="major", alpha=0.3)
    made.savefig(path, dpi=DPI)
    plt.close(made)


def classes(head: Record, records: Sequence[Record], path: Path) -> None:
    plot.bench({**head, "results": records}, str(path), dpi=DPI, by_classes=True)


def sweep(head: Record, records: Sequence[Record], path: Path) -> None:
    with figure(head, "cross_entropy_with_grad, float32, 2^21 logits in rows of 1 to 300 classes", path) as axes:
        axes.plot([r["classes"] for r in records], [r["ns_per_logit"] for r in records], color=OURS, linewidth=1.2)
        axes.set_yscale("log")
        axes.set_yticks([0.3, 0.5, 1, 2, 4, 8], ["0.3", "0.5", "1", "2", "4", "8"])
        axes.minorticks_off()
        axes.set_xlabel("classes")
        axes.set_ylabel("ns per logit")


def growth(head: Record, records: Sequence[Record], path: Path) -> None:
    with figure(head, "Loss and gradient in place, rows of 1,000 classes, beside a copy", path) as axes:
        sizes = [r["logits"] for r in records]
        axes.plot(sizes, [r["ns_per_logit"] for r in records], color=OURS, marker="o", label="cross_entropy_with_grad")
        axes.plot(sizes, [r["copy_ns_per_logit"] for r in records], color=COPY, marker="s", label="np.copyto, 1 thread")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("logits")
        axes.set_ylabel("ns per logit")
        axes.legend(frameon=False)


def layouts(head: Record, records: Sequence[Record], path: Path) -> None:
    """Bars: a group per layout, a bar per operation."""
    names = list(dict.fromkeys(r["layout"] for r in records))
    operations = list(dict.fromkeys(r["operation"] for r in records))
    with figure(head, "Other layouts: time by that of contiguous rows", path) as axes:
        for i, operation in enumerate(operations):
            own = {r["layout"]: r["ratio"] for r in records if r["operation"] == operation}
            spots = [names.index(name) + (i - (len(operations) - 1) / 2) * 0.16 for name in own]
            axes.barh(spots, list(own.values()), 0.16, label=operation)
        axes.axvline(1.0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("time / time of contiguous rows")
        axes.legend(frameon=False, fontsize=8)


def draw(part: str, head: Record, records: Sequence[Record], path: Path) -> None:
    """The part's plot, in a palette: a quarter of the bytes."""
    FIGURES[part](head, records, path)
    with _console.optional("PIL.Image", "plot").open(path) as image:
        small = image.convert("RGB").quantize(COLOURS)
    small.save(path, optimize=True)


# part of the report -> how it is drawn; the file is docs/plots/<part>.png
FIGURES: dict[str, Callable[[Record, Sequence[Record], Path], None]] = {
    "classes": classes, "sweep": sweep, "growth": growth, "layouts": layouts,
}  # fmt: skip
