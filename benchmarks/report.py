"""Everything that README and docs/benchmarks.md show of speed, in one run: one JSON, their tables, their plots.

    python benchmarks/report.py                               # all parts, 2 threads: about twenty minutes, 9 GB
    python benchmarks/report.py --parts sweep layouts         # some; the others stay as they were measured
    python benchmarks/report.py --from                        # measures nothing: tables and plots anew from the JSON

copies    our operations on 1 and 2 threads, in copies of the logits       | `ratios.py`
sweep, few, small, layouts, dtypes, options                                 | `shapes.py`
memory    beyond inputs and outputs                                         | `ratios.py`
growth    a thousand to 10^9 logits                                         | `growth.py`
networks  steps of networks, in their bare products                         | `networks.py`
linear    a linear layer with its loss, time and memory                     | `linear.py`
classes   every library that is installed, about 2^22 logits in rows of 1 to 1,000,000 classes
peers     the same on few classes and on long rows; `float64` in float64    | as `xent bench`

Results are checked before they are timed. Libraries take turns in one process, each with calls to warm up; after those
whose threads wait busily, PyTorch and scikit-learn, all rest until they sleep (see `xent.cli.bench_measure`). Libraries
that are missing are left out and named. The JSON is written after each part; parts measured with another CPU, tier,
number of threads or version than the present one are dropped from it, and each part has its own date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import figures
import growth
import linear
import ratios
import shapes
from tables import fill, of_shapes, pivot, places, short

import xent
from xent.cli import bench, bench_network
from xent.cli.bench_measure import REST, Record, measure
from xent.cli.network_peers import BARE, STEPS, WITH_NORMS
from xent.cli.peers import DEFAULT_PEERS, LOSS_GRAD, OPERATIONS, Peer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "report.json"
PLOTS = ROOT / "docs" / "plots"
PAGES = [ROOT / "README.md", ROOT / "docs" / "benchmarks.md"]
CLASSES = [1, 3, 10, 32, 100, 320, 1000, 3200, 10_000, 32_000, 100_000, 320_000, 1_000_000]
LOGITS = 2**22
PEER_SHAPES = [(65536, 10), (1_000_000, 3), (65536, 32), (16384, 100), (8192, 1000), (1024, 32000)]
FLOAT64_SHAPES = [(65536, 10), (8192, 1000), (512, 32000)]
NAMES = {"xent": "xent", "xent fresh": "xent, fresh", "xent in place": "xent, in place", "numpy": "NumPy",
         "scipy": "SciPy", "sklearn": "scikit-learn", "torch": "PyTorch", "jax": "JAX"}  # fmt: skip
NAMES_IN_NETWORKS = {**NAMES, WITH_NORMS: "with per-sample norms", "numpy": "NumPy by hand"}
NAMES_IN_LINEAR = {**NAMES, "NumPy in blocks": "NumPy in blocks of 64 MiB",
                   "torch": "PyTorch `cross_entropy(linear(x, W))`",
                   "torch, chunked": "PyTorch `linear_cross_entropy`, chunked", "JAX": "JAX, `jit`"}  # fmt: skip


# ---- measuring


def beside(libraries: list[Peer], grid: list[tuple[int, int]], dtype: str, seconds: float) -> list[Record]:
    """Every operation on every shape, in every library that has it."""
    kind = np.dtype(dtype)
    return [
        r for shape in grid for operation in OPERATIONS for r in measure(operation, shape, kind, libraries, seconds)
    ]


def networks(threads: int) -> list[Record]:
    """Steps of the networks, by every library installed."""
    return bench_network.report(bench_network.FULL_SHAPES, list(STEPS)[3:], threads, 5.0)


def with_linear_layer(threads: int) -> list[Record]:
    """A record per shape and library: time in bare products, and memory."""
    options = argparse.Namespace(rounds=7, threads=threads, no_memory=False, peers=True)
    records = []
    for what, shape in linear.LIMITS:
        found = linear.measure(what, shape, options)
        own = {"seconds": found["seconds"], "bytes": found["bytes"]}
        for library, its in {"xent": own, **found["peers"]}.items():
            ratio = found["ratio"] if its is own else its["seconds"] / found["products"]
            records.append(
                {"library": library, "what": what, "shape": list(shape), "ratio": ratio, "bytes": its["bytes"]}
            )
    return records


def parts_of(libraries: list[Peer], threads: int) -> dict[str, Callable[[], list[Record]]]:
    """What measures each part, ours first: before the other libraries have run, none of their threads wait."""
    long = [*ratios.SHAPES, (33, 1_000_000)]
    by_classes = [(max(1, LOGITS // c), c) for c in CLASSES]
    rng = np.random.default_rng(0)
    parts: dict[str, Callable[[], list[Record]]] = {
        name: lambda part=part: part(rng, 9) for name, part in shapes.PARTS.items()
    }
    parts["copies"] = lambda: [r for shape in long for r in ratios.ratios(shape, [1, 2], 21, "")]
    parts["memory"] = lambda: ratios.memory(threads)
    parts["growth"] = lambda: growth.growth(1e9)
    parts["networks"] = lambda: networks(threads)
    parts["linear"] = lambda: with_linear_layer(threads)
    parts["peers"] = lambda: beside(libraries, PEER_SHAPES, "float32", 2.0)
    parts["float64"] = lambda: beside(libraries, FLOAT64_SHAPES, "float64", 1.0)
    parts["classes"] = lambda: beside(libraries, by_classes, "float32", 0.7)
    return parts


def identity(head: Record) -> tuple[Any, ...]:
    """What has to be the same for parts to stand beside each other."""
    versions = {name: item["version"] for name, item in head["libraries"].items()}
    return head["cpu"], head["tier"], head["threads"], head["python"], tuple(sorted(versions.items()))


def dump(report: Record, path: Path) -> None:
    """A line per record, five digits per number."""
    text = json.dumps(report, allow_nan=False)
    rounded = json.loads(text, parse_float=lambda x: float(f"{float(x):.5g}"))
    lines = json.dumps(rounded).replace('[{"', '[\n{"').replace('}, {"', '},\n{"')
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(lines + "\n", encoding="utf-8")
    os.replace(new, path)


def load(path: Path) -> Record:
    report: Record = json.loads(path.read_text(encoding="utf-8"))
    return report


def run(names: list[str], threads: int, path: Path) -> Record:
    """Measure the parts, and write the report after each."""
    libraries, missing = bench.libraries_of(list(DEFAULT_PEERS), threads)
    head = bench.environment(libraries, missing, threads, "float32")
    report: Record = {"head": head, "parts": {}}
    if path.exists():
        before = load(path)
        if identity(before["head"]) == identity(head):
            report["parts"] = before["parts"]
        else:
            print(f"{path}: of another machine or other versions; measured anew from here on")
    known = parts_of(libraries, threads)
    for name in [n for n in known if n in names]:
        xent.set_num_threads(threads)
        began, now = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        part = {"date": now, "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None}
        report["parts"][name] = {**part, "records": known[name]()}
        dump(report, path)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return load(path) if report["parts"] else report  # as written: pages are to say what the file says


# ---- tables and plots


def libraries_table(records: list[Record], operations: list[str]) -> str:
    """In copies, a line per operation and shape, a column per library; what was wrong says so."""
    chosen = [r for r in records if r["operation"] in operations]
    chosen.sort(key=lambda r: operations.index(r["operation"]))

    def row(r: Record) -> str:
        shape = f"{r['rows']} x {r['classes']}"
        return f"{r['operation']}, {shape}" if len(operations) > 1 else shape

    def cell(r: Record) -> str:
        if not r["correct"]:
            return "wrong" if r["problem"].startswith(("differs", "loss", "shape")) else "fails"
        return short(r["copies"])

    return pivot(chosen, row, lambda r: NAMES[r["library"]], cell, "in copies")


def networks_table(records: list[Record]) -> str:
    """In bare products, a line per network."""
    units = {(r["rows"], *r["sizes"]): r["seconds"] for r in records if r["library"] == BARE}

    def row(r: Record) -> str:
        us = 1e6 * units[r["rows"], *r["sizes"]]
        unit = f"{us:.3g} us" if us < 999.5 else f"{us / 1000:.3g} ms"
        return f"{r['rows']}, {'-'.join(map(str, r['sizes']))} ({unit})"

    chosen = [r for r in records if r["library"] != BARE]
    return pivot(
        chosen,
        row,
        lambda r: NAMES_IN_NETWORKS[r["library"]],
        lambda r: "wrong" if r["problem"] else short(r["ratio"]),
        "batch, sizes (bare products)",
    )


def linear_table(records: list[Record]) -> str:
    """In bare products, and memory; a line per library."""
    alone = {linear.LOSS: ", loss alone", linear.WITH_GRAD: ""}
    return pivot(
        records,
        lambda r: NAMES_IN_LINEAR[r["library"]],
        lambda r: " x ".join(map(str, r["shape"])) + alone[r["what"]],
        lambda r: f"{short(r['ratio'])}, {r['bytes'] / 2**20:.0f} MiB",
    )


def machine(report: Record) -> str:
    """One sentence: what the figures depend on."""
    head = report["head"]
    versions = ", ".join(
        f"{NAMES[name]} {item['version']}" for name, item in head["libraries"].items() if " " not in name
    )
    absent = "".join(f"; without {name} ({why})" for name, why in head["left_out"].items())
    dates = sorted({part["date"][:10] for part in report["parts"].values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"(`python benchmarks/report.py`, {when}: {head['cpu']}, tier {head['tier']}, {head['threads']} threads where "
        f"nothing else is said, Python {head['python']}, {versions}{absent}. Libraries take turns, each with "
        f"calls to warm up, and with a rest of {1e3 * REST:g} ms after those whose threads still wait busily.)"
    )


def blocks_of(report: Record) -> dict[str, str]:
    """Name of the marked place -> what stands there; of the parts that the report has."""
    records = {name: part["records"] for name, part in report["parts"].items()}
    made = {"machine": lambda: machine(report)}
    made |= {name: lambda name=name: of_shapes(name, records[name]) for name in shapes.PARTS}
    made |= {"copies": lambda: ratios.table(records["copies"]), "growth": lambda: growth.table(records["growth"])}
    made["memory"] = lambda: ratios.memory_table(records["memory"])
    made["networks"] = lambda: networks_table(records["networks"])
    made["linear"] = lambda: linear_table(records["linear"])
    made["peers"] = lambda: libraries_table(records["peers"], list(OPERATIONS))
    made["peers-loss"] = lambda: libraries_table(records["peers"], [LOSS_GRAD])
    made["float64"] = lambda: libraries_table(records["float64"], list(OPERATIONS))
    made["classes"] = lambda: libraries_table(records["classes"], [LOSS_GRAD])
    return {name: make() for name, make in made.items() if name == "machine" or name.partition("-")[0] in records}


def render(report: Record) -> None:
    """Pages and plots from the report; a page's places that it has nothing for are named and left."""
    blocks = blocks_of(report)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(fill(text, blocks), encoding="utf-8")
        unknown = [name for name in places(text) if name not in blocks]
        print(
            f"{page.name}: {len(places(text)) - len(unknown)} places filled{', left: ' * bool(unknown)}"
            + ", ".join(unknown)
        )
    PLOTS.mkdir(parents=True, exist_ok=True)
    for name in figures.FIGURES:
        if name in report["parts"]:
            part = report["parts"][name]
            figures.draw(name, {**report["head"], "date": part["date"]}, part["records"], PLOTS / f"{name}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=parts_of([], 1), default=list(parts_of([], 1)))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are written")
    parser.add_argument(
        "--from", dest="source", type=Path, nargs="?", const=RESULTS, help="a report; nothing is measured"
    )
    parser.add_argument("--no-pages", action="store_true", help="leave README, docs and plots as they are")
    args = parser.parse_args()
    report = load(args.source) if args.source else run(args.parts, args.threads, args.json)
    if not args.no_pages:
        render(report)
    wrong = [r for part in report["parts"].values() for r in part["records"] if r.get("problem")]
    for r in wrong:
        what = [str(r[key]) for key in ("library", "operation", "rows", "classes", "sizes") if key in r]
        print(f"WRONG: {', '.join(what)}: {r['problem']}; not timed")
    return 1 if any(r["library"].startswith("xent") for r in wrong) else 0


if __name__ == "__main__":
    raise SystemExit(main())
