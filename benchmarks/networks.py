"""What a network's loss and gradients cost in the step's bare products: the table of limits that this is held to.

    python benchmarks/networks.py                # 2 threads, all networks, every library installed: about a minute
    python benchmarks/networks.py --threads 2 --seconds 10 --peers "" --check

float32, relu, class indices, a workspace. The unit is `np.matmul(..., out=)` of the same shapes in the same order,
forward, then the gradients of the weights and, but for the first layer, of the inputs, in the same process and the same
round; the figure is the median over the rounds. Each result is compared with float64 arithmetic before it is timed.
The products have `--threads` threads of BLAS where threadpoolctl is installed, xent and PyTorch as many of their own.

"norms / plain" is the step with the norms of the samples' gradients by the step without them. `--check`: exit status 1
if a limit is exceeded or a result is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import xent
from xent import runtime
from xent.cli.bench import cpu_name
from xent.cli.bench_network import FULL_SHAPES, report
from xent.cli.network_peers import OURS, STEPS, WITH_NORMS

# rows and sizes -> the limit in bare products; larger networks have that of the largest named
LIMITS = {(32, (64, 32, 10)): 2.0, (128, (784, 128, 10)): 1.25, (256, (784, 512, 256, 10)): 1.08}
LARGER = 1.08
NORMS_LIMIT = 1.03  # the step with norms by the step without


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of each library (default 2)")
    parser.add_argument("--seconds", type=float, default=5.0, help="to measure each network (default 5)")
    parser.add_argument("--peers", default=",".join(list(STEPS)[3:]), help="comma separated; default: all")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a limit is exceeded")
    args = parser.parse_args()
    before = xent.get_num_threads()
    xent.set_num_threads(args.threads)
    print(f"xent {xent.__version__}, tier {runtime.config()['tier']}, NumPy {np.__version__}, {cpu_name()}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    if load > 0.3:
        print(f"load average {load:.2f}: other programs will disturb the figures")
    try:
        records = report(FULL_SHAPES, [name for name in args.peers.split(",") if name], args.threads, args.seconds)
    finally:
        xent.set_num_threads(before)
    print()
    faults = verdict(records)
    if args.json:
        Path(args.json).write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(f"\n{len(faults)} limits exceeded or results wrong" + "".join(f"\n- {line}" for line in faults))
    return 1 if args.check and faults else 0


def verdict(records: list[dict[str, Any]]) -> list[str]:
    """Print ratios and limits side by side; what exceeds its limit."""
    faults = [
        f"{r['library']}, {r['rows']}, {r['sizes']}: {r['problem']}"
        for r in records
        if r["problem"] and r["library"] in (OURS, WITH_NORMS)
    ]
    print("| batch, sizes | step | limit | with norms | norms / plain | limit |\n|---|---|---|---|---|---|")
    for shape in FULL_SHAPES:
        here = {r["library"]: r for r in records if (r["rows"], tuple(r["sizes"])) == shape and not r["problem"]}
        if OURS not in here or WITH_NORMS not in here:
            continue
        name, limit = f"{shape[0]}, {'-'.join(map(str, shape[1]))}", LIMITS.get(shape, LARGER)
        plain, norms, over = here[OURS]["ratio"], here[WITH_NORMS]["ratio"], here[WITH_NORMS]["over_plain"]
        print(f"| {name} | {plain:.3f} | {limit} | {norms:.3f} | {over:.3f} | {NORMS_LIMIT} |")
        if not plain <= limit:
            faults.append(f"{name}: {plain:.3f} bare products, limit {limit}")
        if not over <= NORMS_LIMIT:
            faults.append(f"{name}: norms cost {over - 1:.1%} more, limit {NORMS_LIMIT - 1:.0%}")
    return faults


if __name__ == "__main__":
    raise SystemExit(main())
