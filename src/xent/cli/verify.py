"""`xent verify`: the compiled kernels against exact arithmetic, on every instruction set of this machine.

Two checks. Accuracy: random and adversarial inputs through every function, the greatest error in units in the
last place (ulp) beside the bound that xent promises. Bits: the same rows of logits give the same bytes on
every tier, with 1 to 4 threads, however the batch is split, ordered or laid out in memory. Fails (exit status
1) if a bound is exceeded or a bit differs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import xent
from xent import _kernels
from xent.cli import _console, accuracy, bits, cases

HELP = "check every kernel on this machine: errors in ulp, and the same bits everywhere"
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
THREADS = (1, 2, 3, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `verify`."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about ten seconds; this is the default")
    size.add_argument("--full", action="store_true", help="more of everything, up to 131,073 classes")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")


def run(args: argparse.Namespace) -> int:
    """Both checks on every tier; 0 if all is as promised."""
    start = time.perf_counter()
    with _as_before():
        accurate = check_accuracy(args.seed, args.full)
        same = check_bits(args.seed, args.full)
    verdict = "passed" if accurate and same else "FAILED"
    seconds = time.perf_counter() - start
    _console.say(f"verify {verdict}: tiers {', '.join(_kernels.tiers())}; {seconds:.1f} s")
    return 0 if accurate and same else 1


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave tier and threads as they were."""
    tier, threads = _kernels.tier(), xent.get_num_threads()
    try:
        yield
    finally:
        _kernels.set_tier(tier)
        xent.set_num_threads(threads)


def _force(tier: str) -> None:
    """Switch to the tier and read it back."""
    _kernels.set_tier(tier)
    if _kernels.tier() != tier:
        raise _console.CommandError(f"tier {tier} was asked for, {_kernels.tier()} runs")


def check_accuracy(seed: int, full: bool) -> bool:
    """Print the greatest error of each function beside its bound; whether all are within it."""
    tiers = _kernels.tiers()
    found: dict[tuple[str, str, str], tuple[float, str]] = {}  # by function, dtype and tier
    numbers = 0
    for dtype in DTYPES:
        planned = list(cases.cases(dtype, seed, full))
        numbers += sum(case.logits.size for case in planned)
        judged = []
        with _console.progress(f"exact results, {dtype}", len(planned)) as advance:
            for case in planned:
                judged.append(accuracy.judge(case))
                advance()
        with _console.progress(f"kernels, {dtype}", len(planned) * len(tiers)) as advance:
            for tier in tiers:
                _force(tier)
                for name, result in accuracy.worst(judged, advance).items():
                    found[name, str(dtype), tier] = result
    passed = True
    rows = []
    for name, (bound, _) in accuracy.BOUNDS.items():
        for dtype in DTYPES:
            results = {tier: found[name, str(dtype), tier] for tier in tiers}
            within = all(error <= bound for error, _ in results.values())  # NaN is not
            passed &= within
            _, case_name = max(results.values(), key=lambda result: result[0])
            shown = [f"{error:.3f}" for error, _ in results.values()]
            verdict = f"{bound:g}" if within else f"{bound:g} FAILED"
            rows.append([name, str(dtype), *shown, verdict, case_name])
    _console.table(
        ["function", "dtype", *(f">{tier}" for tier in tiers), "bound", "worst at"],
        rows,
        title=f"accuracy: greatest error in ulp, {numbers} logits, seed {seed}",
    )
    others: dict[str, list[str]] = {}
    for name, (_, unit) in accuracy.BOUNDS.items():
        if unit != "result":
            others.setdefault(unit, []).append(name)
    notes = [f"of the {unit}: {', '.join(names)}" for unit, names in others.items()]
    _console.say(f"(ulp of the exact result; {'; '.join(notes)})")
    return passed


def check_bits(seed: int, full: bool) -> bool:
    """Print for each way of asking how often the bytes were the same; whether they always were."""
    tiers = _kernels.tiers()
    counts: dict[str, dict[str, list[int]]] = {}  # way -> tier -> [compared, different]
    different: dict[tuple[str, str], None] = {}  # (way, function), in order of discovery
    batches = [batch for dtype in DTYPES for batch in bits.inputs(dtype, seed, full)]

    def count(way: str, function: str, same: bool) -> None:
        tally = counts.setdefault(way, {name: [0, 0] for name in tiers})[_kernels.tier()]
        tally[0] += 1
        if not same:
            tally[1] += 1
            different[way, function] = None

    with _console.progress("bits", len(batches)) as advance:
        for batch in batches:
            _force(tiers[0])
            xent.set_num_threads(1)
            expected = {name: bits.plain(batch, function) for name, function in bits.FUNCTIONS.items()}
            for tier in tiers:
                _force(tier)
                for threads in THREADS:
                    xent.set_num_threads(threads)
                    way = f"{threads} thread{'s'[: threads > 1]}"
                    for name, function in bits.FUNCTIONS.items():
                        count(way, name, bits.plain(batch, function) == expected[name])
                xent.set_num_threads(2)
                for way, name, got in bits.variants(batch):
                    count(way, name, got == expected[name])
            advance()

    def cell(compared: int, unequal: int) -> str:
        return f"{compared} same" if compared and not unequal else f"{unequal} of {compared} DIFFER"

    _console.table(
        ["the same rows, by", *(f">{tier}" for tier in tiers)],
        [[way, *(cell(*by_tier[tier]) for tier in tiers)] for way, by_tier in counts.items()],
        title=f"bits: results compared with those of tier {tiers[0]}, 1 thread",
    )
    for way, name in different:
        _console.say(f"DIFFERENT: {name}, {way}")
    return bool(counts) and not different
