"""`xent bench`: what loss + gradient, log-sum-exp, (log-)softmax and a network's step cost, beside other libraries.

Every result is compared with float64 arithmetic before it is timed. The unit is the copy: the time that
`np.copyto` of the same logits takes on one thread, in the same round; for networks it is the step's products of
matrices. All libraries take turns within a round; the figure shown is the median over the rounds. Fails (exit
status 1) if a result of xent is wrong."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path

import numpy as np

import xent
from xent import runtime
from xent.cli import _console, bench_network
from xent.cli.bench_measure import Record, Shape, measure
from xent.cli.network_peers import STEPS
from xent.cli.peers import DEFAULT_PEERS, OPERATIONS, OURS, PEERS, Peer

HELP = "measure speed against NumPy and whichever of SciPy, scikit-learn, PyTorch and JAX are installed"

QUICK_SHAPES: list[Shape] = [(32, 10), (4096, 10), (1024, 1000), (64, 32000)]
FULL_SHAPES: list[Shape] = [
    (32, 10),
    (1024, 10),
    (65536, 10),
    (1024, 100),
    (1024, 1000),
    (8192, 1000),
    (1024, 32000),
    (512, 50257),
    (256, 131072),
]
SECONDS = {True: 0.25, False: 2.0}  # --quick or not: how long to measure one operation on one shape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    parser.add_argument("--quick", action="store_true", help="few shapes, measured for about ten seconds")
    parser.add_argument("--shapes", type=_shapes, help="rows x classes, for example 32x10,8192x1000; no networks")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the logits")
    parser.add_argument(
        "--threads", type=_threads, help="for every library that has threads; default: xent's own setting"
    )
    parser.add_argument(
        "--peers",
        default=",".join(DEFAULT_PEERS),
        help=f"libraries to compare with, comma separated, of {', '.join(PEERS)}",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures here, with CPU, tier, threads, versions")
    parser.add_argument("--plot", metavar="FILE.png", help="draw cost in copies by shape (needs matplotlib)")


def run(args: argparse.Namespace) -> int:
    """Check, measure, report."""
    if args.plot:
        _console.optional("matplotlib", "plot")  # before the work, not after it
    shapes = args.shapes or (QUICK_SHAPES if args.quick else FULL_SHAPES)
    before = xent.get_num_threads()
    threads = args.threads or before
    xent.set_num_threads(threads)
    try:
        libraries, missing = libraries_of(args.peers.split(","), threads)
        report = environment(libraries, missing, threads, args.dtype)
        _introduce(report)
        records: list[Record] = []
        with _console.progress("measuring", len(shapes) * len(OPERATIONS)) as advance:
            for shape in shapes:
                for operation in OPERATIONS:
                    records += measure(operation, shape, np.dtype(args.dtype), libraries, SECONDS[args.quick])
                    advance()
        _show(records, [library.name for library in libraries])
        networks: list[Record] = []
        if not args.shapes and args.dtype == "float32":
            chosen = bench_network.QUICK_SHAPES if args.quick else bench_network.FULL_SHAPES
            others = [name for name in args.peers.split(",") if name in STEPS]
            networks = bench_network.report(chosen, others, threads, SECONDS[args.quick])
    finally:
        xent.set_num_threads(before)
    report["results"], report["networks"] = records, networks
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        _console.say(f"figures saved to {args.json}")
    if args.plot:
        from xent.cli import plot

        plot.bench(report, args.plot)
        _console.say(f"plot saved to {args.plot}")
    wrong = [record for record in records if not record["correct"]]
    for record in wrong:
        _console.say("WRONG: {library}, {operation}, {rows}x{classes}: {problem}; not timed".format(**record))
    wrong_networks = [record for record in networks if record["problem"]]
    for record in wrong_networks:
        _console.say("WRONG: {library}, network {rows}, {sizes}: {problem}; not timed".format(**record))
    return 1 if any(record["library"].startswith("xent") for record in wrong + wrong_networks) else 0


def libraries_of(names: list[str], threads: int) -> tuple[list[Peer], dict[str, str]]:
    """The adapters, ours first, and for each that is missing why."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise _console.CommandError(f"unknown peer {', '.join(unknown)}; known: {', '.join(PEERS)}")
    libraries, missing = [make(threads) for make in OURS], {}
    for name in names:
        module, make = PEERS[name]
        if not _console.installed(module):
            missing[name] = "not installed"
            continue
        try:
            libraries.append(make(threads))
        except (ImportError, AttributeError) as error:  # there, but broken or without what we call
            missing[name] = f"unusable: {error}"
    return libraries, missing


def environment(libraries: list[Peer], missing: dict[str, str], threads: int, dtype: str) -> Record:
    """What the figures depend on: the head of a report."""
    config = {key: value if isinstance(value, int) else str(value) for key, value in runtime.config().items()}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "system": platform.platform(),
        "load_average": _load(),
        "python": platform.python_version(),
        "tier": config.get("tier"),
        "threads": threads,
        "dtype": dtype,
        "config": config,
        "libraries": {item.name: {"version": item.version, "threads": item.threads} for item in libraries},
        "left_out": missing,
    }


def _introduce(report: Record) -> None:
    _console.say(f"{report['cpu']}; tier {report['tier']}; {report['dtype']} logits")
    if (report["load_average"] or 0.0) > 0.5:
        _console.say(f"load average {report['load_average']:.1f}: other programs will disturb the figures")
    rows = [[name, item["version"], item["threads"]] for name, item in report["libraries"].items()]
    rows += [[name, reason, "-"] for name, reason in report["left_out"].items()]
    _console.table(["library", "version", ">threads"], rows)


def _show(records: list[Record], names: list[str]) -> None:
    """One table per operation: a row per shape, a column per library."""
    for operation in OPERATIONS:
        own = [record for record in records if record["operation"] == operation]
        columns = [name for name in names if any(record["library"] == name for record in own)]
        rows = []
        for shape in dict.fromkeys((record["rows"], record["classes"]) for record in own):
            here = {r["library"]: r for r in own if (r["rows"], r["classes"]) == shape}
            copy = next((r["copy_seconds"] for r in here.values() if r["correct"]), float("nan"))
            cells = [_cell(here[name]) for name in columns]
            rows.append([f"{shape[0]} x {shape[1]}", f"{1e6 * copy:.4g} us", *cells])
        headers = ["rows x classes", ">one copy", *(f">{name}" for name in columns)]
        _console.table(headers, rows, title=f"\n{operation}: cost in copies of the logits")


def _cell(record: Record) -> str:
    return f"{record['copies']:.3g}" if record["correct"] else "wrong"


def cpu_name() -> str:
    """The processor's name, as well as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _load() -> float | None:
    """Programs that ran on average in the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _shapes(text: str) -> list[Shape]:
    shapes = []
    for item in text.split(","):
        rows, _, classes = item.strip().partition("x")
        if not (rows.isdigit() and classes.isdigit() and int(rows) > 0 and int(classes) > 0):
            raise argparse.ArgumentTypeError(f"{item!r}: write rows x classes, like 32x10,8192x1000")
        shapes.append((int(rows), int(classes)))
    return shapes


def _threads(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value
