"""`xent info`: what is installed, and what of it runs here."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from xent import runtime
from xent.cli import _console

HELP = "show the version, the instruction set in use, threads, compiler and NumPy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`info` has no options."""


def run(args: argparse.Namespace) -> int:
    """Print `xent.runtime.config()` as a table."""
    config: Mapping[str, object] = runtime.config()
    _console.table(["", "value"], [[key.replace("_", " "), _text(value)] for key, value in config.items()])
    return 0


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)
