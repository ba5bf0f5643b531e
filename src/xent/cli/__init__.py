"""The command line: `python -m xent` or `xent`, with the commands info, verify, train and bench."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from types import ModuleType

from xent.cli import _console, bench, info, train, verify

__all__ = ["main"]

COMMANDS: dict[str, ModuleType] = {"info": info, "verify": verify, "train": train, "bench": bench}

DESCRIPTION = """\
xent: fast, exact softmax cross-entropy for NumPy.

Without a command: info, verify --quick, train and bench --quick, one after another, in under a minute."""

EPILOG = """\
The exit status is 0 if everything asked for succeeded, 1 if a check failed, 2 if a command could not run.
`xent COMMAND --help` shows the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, or all of them in their quick form; return the exit status."""
    args = _parser().parse_args(argv)
    if args.command is not None:
        return _run(args.command, args)
    return _run_all()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xent",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for name, module in COMMANDS.items():
        sub = commands.add_parser(name, help=module.HELP, description=module.__doc__, formatter_class=_HelpFormatter)
        module.add_arguments(sub)
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The module's docstring as written; each option with its default, if it has one to name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == ():
            return action.help
        return super()._get_help_string(action)


def _run(name: str, args: argparse.Namespace) -> int:
    try:
        status = COMMANDS[name].run(args)
    except (_console.CommandError, OSError) as error:  # OSError: a file that cannot be written
        _console.warn(f"xent {name}: {error}")
        return 2
    return int(status)


def _run_all() -> int:
    """Every command in its quick form; 1 if any of them fails."""
    parser = _parser()
    rows: list[list[str]] = []
    failed = False
    for argv in (["info"], ["verify", "--quick"], ["train"], ["bench", "--quick"]):
        _console.heading("xent " + " ".join(argv))
        start = time.perf_counter()
        status = _run(argv[0], parser.parse_args(argv))
        rows.append([argv[0], "ok" if status == 0 else "FAILED", f"{time.perf_counter() - start:.1f} s"])
        failed |= status != 0
    _console.heading("summary")
    _console.table(["command", "result", ">time"], rows)
    return 1 if failed else 0
