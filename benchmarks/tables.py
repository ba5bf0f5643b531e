"""Records of measurements as Markdown tables, and such tables in their marked places of a page.

A place is what stands between `<!-- report: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
PLACE = re.compile(r"(<!-- report: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def shapes(text: str) -> list[tuple[int, int]]:
    """Those of a command line: 8192x1000,1024x32000."""
    return [(int(n), int(c)) for n, c in (item.split("x") for item in text.split(","))]


def fill(page: str, blocks: Mapping[str, str]) -> str:
    """The page with the marked places that have a block filled; the others stay as they are."""

    def filled(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        return f"{start}\n{blocks[name].strip()}\n\n{end}" if name in blocks else match.group()

    return PLACE.sub(filled, page)


def places(page: str) -> list[str]:
    return [match.group(2) for match in PLACE.finditer(page)]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first, *others = ("| " + " | ".join(cells) + " |" for cells in [head, *rows])
    return re.sub(r"\|  (?=\|)", "| ", "\n".join([first, "|" + "---|" * len(head), *others]))


def pivot(
    records: Iterable[Record],
    row: Callable[[Record], str],
    column: Callable[[Record], str],
    cell: Callable[[Record], str],
    corner: str = "",
) -> str:
    """A line per row, a column per column, in order of appearance; several cells in one place are parted by " / "."""
    cells: dict[str, dict[str, list[str]]] = {}
    columns: dict[str, None] = {}
    for record in records:
        columns[column(record)] = None
        cells.setdefault(row(record), {}).setdefault(column(record), []).append(cell(record))
    rows = [[name, *(" / ".join(line.get(c, [])) for c in columns)] for name, line in cells.items()]
    return markdown([corner, *columns], rows)


def short(x: float) -> str:
    """0.82, 1.07, 5.1, 12: as many digits as are worth reading."""
    return f"{x:.2f}" if x < 1.995 else f"{x:.1f}" if x < 9.95 else f"{x:.0f}"


SHOWN = (1, 2, 3, 4, 8, 10, 16, 17, 31, 32, 33, 64, 65, 100, 127, 128, 129, 150, 200, 300)


def worst_of(records: Sequence[Record]) -> float:
    """Of all from 4 classes on; the limit is 1.5."""
    return max(r["by_neighbours"] for r in records if r["classes"] > 3)


def of_shapes(part: str, records: Sequence[Record]) -> str:
    """Of a part of shapes.py."""
    if part == "sweep":
        lines = [[f"{r['classes']}", f"{r['ns_per_logit']:.2f}", f"{r['by_neighbours']:.2f}"] for r in records
                 if r["classes"] in SHOWN]  # fmt: skip
        text = markdown(["classes", "ns per logit", "by the median of its neighbours"], lines)
        return f"{text}\n\nThe worst from 4 classes on: {worst_of(records):.2f} of its neighbours (limit 1.5)."
    if part == "few":
        lines = [
            [f"{r['rows']} x {r['classes']}", f"{r['ns_per_row']:.1f}", f"{r['ns_per_logit']:.2f}"] for r in records
        ]
        return markdown(["rows x classes", "ns per row", "ns per logit"], lines)
    if part == "small":
        return markdown(
            ["call", "us", "in np.add"], [[r["call"], f"{r['us']:.2f}", f"{r['in_add']:.1f}"] for r in records]
        )
    if part == "options":
        return pivot(
            records,
            lambda r: r["operation"],
            lambda r: f"{r['rows']} x {r['classes']}",
            lambda r: short(r["ns_per_logit"]),
            "ns per logit",
        )

    def row(r: Record) -> str:
        return r["layout"] if part == "layouts" else f"{r['dtype']}, {r['rows']} x {r['classes']}"

    corner = "by contiguous rows" if part == "layouts" else "by float32"
    return pivot(records, row, lambda r: r["operation"], lambda r: f"{r['ratio']:.2f}", corner)
