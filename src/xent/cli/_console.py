"""Tables, progress bars and messages: with rich where it is installed, in plain text where it is not.

No other module of the package imports rich, and none needs to know whether it is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-~=+*#"


class CommandError(Exception):
    """A command cannot run as asked; the text tells the user what to change."""


def installed(module: str) -> bool:
    """Whether an optional package is there, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False
    except ValueError:  # imported by hand, or hidden: sys.modules says which
        return sys.modules.get(module) is not None


def optional(module: str, extra: str) -> Any:
    """Import an optional module, or say which extra of xent brings it."""
    top = module.partition(".")[0]
    if not installed(top):
        raise CommandError(f"{top} is not installed; pip install 'xent[{extra}]' brings it")
    return importlib.import_module(module)


def _rich_console() -> Any:
    """A rich console on the present sys.stdout, or None where rich is not installed."""
    if not installed("rich"):
        return None
    console = importlib.import_module("rich.console").Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:  # a pipe or a file has no width: do not fold tables at 80
        console.width = 160
    return console


def say(text: str = "") -> None:
    """One line of ordinary output, printed as it stands."""
    print(_encodable(text), flush=True)


def warn(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def heading(text: str) -> None:
    """The title of a section."""
    console = _rich_console()
    if console is None:
        say(f"\n{text}\n{'=' * len(text)}")
    else:
        console.print()
        console.rule(text, align="left")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table; a column whose name starts with ">" is aligned right (the ">" is not shown)."""
    lines = [[_encodable(cell) for cell in row] for row in rows]
    names = [name.removeprefix(">") for name in columns]
    right = [name.startswith(">") for name in columns]
    console = _rich_console()
    if console is not None:
        text = importlib.import_module("rich.text").Text
        grid = importlib.import_module("rich.table").Table(title=title or None, title_justify="left")
        for name, is_right in zip(names, right, strict=True):
            grid.add_column(name, justify="right" if is_right else "left", overflow="fold")
        for line in lines:
            grid.add_row(*(text(cell) for cell in line))
        console.print(grid)
        return
    widths = [max(len(row[i]) for row in [names, *lines]) for i in range(len(names))]
    if title:
        say(title)
    for row in [names, ["-" * width for width in widths], *lines]:
        cells = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        say("  ".join(cells).rstrip())


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar for `total` steps; the yielded function advances it by one. Silent if stdout is no terminal."""
    if not sys.stdout.isatty():
        yield lambda: None
        return
    console = _rich_console()
    if console is not None:
        bar = importlib.import_module("rich.progress").Progress(console=console, transient=True)
        with bar:
            task = bar.add_task(description, total=total)
            yield lambda: bar.advance(task)
        return
    width, done = 30, 0

    def advance() -> None:
        nonlocal done
        done += 1
        filled = min(width, width * done // max(total, 1))
        print(f"\r{description} [{'#' * filled}{'.' * (width - filled)}] {done}/{total}", end="", flush=True)

    try:
        yield advance
    finally:
        print("\r" + " " * (len(description) + width + 24) + "\r", end="", flush=True)


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """The values as one line of bars, the largest highest, "?" if not finite; at most `width` are shown."""
    step = max(1.0, len(values) / width)
    shown = [values[int(i * step)] for i in range(min(len(values), width))]
    finite = [value for value in shown if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = (high - low) or 1.0
    bars = BARS if _encodable(BARS) == BARS else PLAIN_BARS
    return "".join(bars[int((value - low) / span * 7.999)] if math.isfinite(value) else "?" for value in shown)


def _encodable(text: str) -> str:
    """The text with what standard output cannot encode replaced by "?"."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)
