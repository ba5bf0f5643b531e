"""What a linear layer with cross-entropy costs beside its bare matrix products, in time and in memory.

    python benchmarks/linear.py                  # the table of limits; about two minutes
    python benchmarks/linear.py --peers          # and NumPy in blocks, PyTorch, JAX, those that are installed
    python benchmarks/linear.py --plot linear.png --json linear.json
    python benchmarks/linear.py --shapes 1024,768,32000 --rounds 5 --check

float32, class indices. Loss and gradients are timed beside the three products with full logits, `np.matmul` with
`out=`: x W^T, dz W, dz^T x. The loss alone is timed beside its one product, made in blocks of rows of 64 MiB of
logits. Both take turns in one process; the figure is the median over the rounds of the quotient of one round. The
result is compared with float64 arithmetic before it is timed; a wrong one stops the program.

Memory is the growth of the resident set's peak during one call, the first one of a process of its own, in which
inputs and gradients are resident: what BLAS keeps for itself counts too. `--check`: exit status 1 if a limit is
exceeded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from ratios import peak, reset_peak, timed

import xent
from xent import runtime
from xent.cli.bench import cpu_name

Shape = tuple[int, int, int]  # rows, features, classes
WITH_GRAD, LOSS = "loss and gradients", "loss alone"
# what is timed, (rows, features, classes) -> the limit in bare products
LIMITS: dict[tuple[str, Shape], float] = {
    (WITH_GRAD, (1024, 768, 32000)): 1.08,
    (WITH_GRAD, (4096, 512, 50257)): 1.10,
    (LOSS, (8192, 256, 128256)): 1.10,
}
MEMORY_LIMIT = 64 * 2**20
BLOCK_BYTES = 64 * 2**20
PLOT_CLASSES = (4096, 8192, 16384, 32768, 65536, 131072)
PLOT_ROWS, PLOT_FEATURES = 1024, 512
# Of the norm of the exact result. Products of float32 leave some 3e-7 of it on these shapes.
TOLERANCE = 2e-6


def main() -> int:
    args = arguments()
    if args.worker:
        name, what, *shape = args.worker
        print(json.dumps(worker(name, what, tuple(map(int, shape)), args.threads)))
        return 0
    config = runtime.config()
    print(
        f"xent {xent.__version__}, tier {config['tier']}, NumPy {np.__version__}, {cpu_name()}, {args.threads} threads"
    )
    print(f"products added by: {config['accumulation']}")
    xent.set_num_threads(args.threads)
    report: dict[str, Any] = {"config": config, "cpu": cpu_name(), "threads": args.threads}
    report["results"] = [measure(what, shape, args) for what, shape in args.shapes]
    if args.plot:
        report["curves"] = curves(args.threads)
        plot(report["curves"], args.plot)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    over = [r for r in report["results"] if not (r["ratio"] <= r["limit"] and r["bytes"] <= MEMORY_LIMIT)]
    print(f"\n{len(over)} limits exceeded")
    return 1 if args.check and over else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=shapes, default=list(LIMITS), help="rows,features,classes[,loss];...")
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of xent (default 2)")
    parser.add_argument("--rounds", type=int, default=7, help="per shape (default 7)")
    parser.add_argument("--peers", action="store_true", help="other libraries too")
    parser.add_argument("--no-memory", action="store_true", help="leave out the processes of their own")
    parser.add_argument("--plot", metavar="FILE", help="time and memory against the number of classes")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a limit is exceeded")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    return parser.parse_args()


def shapes(text: str) -> list[tuple[str, Shape]]:
    found = []
    for item in text.split(";"):
        b, d, c, *loss = item.split(",")
        found.append((LOSS if loss else WITH_GRAD, (int(b), int(d), int(c))))
    return found


class Layer:
    """Inputs, and arrays for the gradients; all resident."""

    def __init__(self, shape: Shape) -> None:
        rows, features, classes = shape
        rng = np.random.default_rng(shape)
        self.x = rng.standard_normal((rows, features), dtype=np.float32)
        self.weight = rng.standard_normal((classes, features), dtype=np.float32)
        self.weight *= np.float32(2 / features**0.5)
        self.labels = rng.integers(0, classes, rows)
        self.grads = xent.DenseGrads(np.full_like(self.x, np.nan), np.full_like(self.weight, np.nan), None)

    def call(self, what: str) -> Callable[[], Any]:
        x, w, y, out = self.x, self.weight, self.labels, self.grads
        if what == LOSS:
            return lambda: xent.linear_cross_entropy(x, w, y)
        return lambda: xent.linear_cross_entropy_with_grad(x, w, y, out=out)[0]

    def bare(self, what: str) -> Callable[[], Any]:
        """The products alone."""
        rows, classes = len(self.x), len(self.weight)
        x, w = self.x, self.weight
        if what == WITH_GRAD:
            z, dx, dw = np.ones((rows, classes), np.float32), np.ones_like(x), np.ones_like(w)

            def three() -> None:
                np.matmul(x, w.T, out=z)
                np.matmul(z, w, out=dx)
                np.matmul(z.T, x, out=dw)

            return three
        step = max(1, BLOCK_BYTES // (4 * classes))
        block = np.ones((step, classes), np.float32)

        def one() -> None:
            for first in range(0, rows, step):
                np.matmul(x[first : first + step], w.T, out=block[: len(x[first : first + step])])

        return one

    def check(self, loss: float, grads: Any) -> float:
        """The greatest error of loss and gradients, as a share of the norm; the gradients on a sample."""
        x, y = self.x.astype(np.float64), self.labels
        rows, classes = len(x), len(self.weight)
        lse, at_label = np.zeros(rows), np.zeros(rows)
        top, sums = np.full(rows, -np.inf), np.zeros(rows)
        for first in range(0, classes, 4096):
            z = x @ self.weight[first : first + 4096].T.astype(np.float64)
            high = np.maximum(top, z.max(axis=1))
            sums = sums * np.exp(top - high) + np.exp(z - high[:, None]).sum(axis=1)
            top = high
            mine = (y >= first) & (y < first + 4096)
            at_label[mine] = z[mine, y[mine] - first]
        lse = top + np.log(sums)
        truth = float(np.mean(lse - at_label))
        errors = [abs(loss - truth) / truth]
        if grads is not None:
            some = np.random.default_rng(0).permutation(classes)[:256]
            dz = np.exp(x @ self.weight[some].T.astype(np.float64) - lse[:, None])
            dz -= y[:, None] == some
            errors.append(share(grads.weight[some], dz.T @ x / rows))
            few = np.arange(0, rows, max(1, rows // 8))
            dz = np.exp(x[few] @ self.weight.T.astype(np.float64) - lse[few, None])
            dz[np.arange(len(few)), y[few]] -= 1
            errors.append(share(grads.x[few], dz @ self.weight.astype(np.float64) / rows))
        return max(e if e == e else np.inf for e in errors)


def share(got: Any, truth: Any) -> float:
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


def measure(what: str, shape: Shape, args: argparse.Namespace) -> dict[str, Any]:
    """One line of the table: time in bare products, memory of each library."""
    layer = Layer(shape)
    call = layer.call(what)
    error = layer.check(float(call()), layer.grads if what == WITH_GRAD else None)
    if not error <= TOLERANCE:
        raise SystemExit(f"{what}, {shape}: wrong by {error:.2g} of the norm; nothing was timed")
    bare = layer.bare(what)
    bare()
    pairs = []
    for i in range(args.rounds):
        turns = [bare, call] if i % 2 else [call, bare]
        times = {turn: timed(turn) for turn in turns}
        pairs.append((times[call], times[bare]))
    del layer, call, bare, turns, times
    seconds, products = (statistics.median(column) for column in zip(*pairs, strict=True))
    result = {"what": what, "shape": shape, "seconds": seconds, "products": products, "error": error}
    result["ratio"] = statistics.median(mine / theirs for mine, theirs in pairs)
    result["quartiles"] = [float(q) for q in np.quantile([a / b for a, b in pairs], [0.25, 0.75])]
    result["best"] = min(mine for mine, _ in pairs) / min(theirs for _, theirs in pairs)
    result["limit"] = LIMITS.get((what, shape), float("inf"))
    result["bytes"] = 0 if args.no_memory else run_worker("xent", what, shape, args.threads)["bytes"]
    logits = 4 * shape[0] * shape[2] / 2**20
    print(
        f"\n{what}, {' x '.join(map(str, shape))}: {seconds:.3f} s, {result['ratio']:.3f} of the products' "
        f"{products:.3f} s, the best of both {result['best']:.3f} (limit {result['limit']}), error {error:.1e}; "
        f"{result['bytes'] / 2**20:.0f} MiB beyond inputs and gradients (logits: {logits:.0f} MiB)",
        flush=True,
    )
    if args.peers:
        result["peers"] = {}
        for name in peers(what):
            found = run_worker(name, what, shape, args.threads)
            result["peers"][name] = found
            print(f"  {name:<14} {found['seconds'] / products:5.2f} of the products, {found['bytes'] / 2**20:6.0f} MiB")
    return result


# ---- other libraries, each in a process of its own


def peers(what: str) -> list[str]:
    names = ["NumPy in blocks"]
    if importlib.util.find_spec("torch"):
        names.append("torch")
        import torch

        if hasattr(torch.nn, "LinearCrossEntropyOptions"):
            names.append("torch, chunked")
    if importlib.util.find_spec("jax"):
        names.append("JAX")
    return names


def run_worker(name: str, what: str, shape: Shape, threads: int) -> dict[str, float]:
    count = str(threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "NPROC": count}
    command = [sys.executable, __file__, "--worker", name, what, *map(str, shape), "--threads", count]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def worker(name: str, what: str, shape: Shape, threads: int) -> dict[str, float]:
    """Peak growth of the first call, and the median time of those after it."""
    layer = Layer(shape)
    call = {
        "xent": lambda: layer.call(what),
        "NumPy in blocks": lambda: numpy_blocks(layer, what),
        "torch": lambda: torch_call(layer, what, threads, False),
        "torch, chunked": lambda: torch_call(layer, what, threads, True),
        "JAX": lambda: jax_call(layer, what),
    }[name]()
    xent.set_num_threads(threads)
    before = reset_peak()
    call()
    growth = max(0, peak() - before)
    return {"bytes": growth, "seconds": statistics.median(timed(call) for _ in range(3))}


def numpy_blocks(layer: Layer, what: str) -> Callable[[], Any]:
    """Row blocks of 64 MiB of logits, in place, as one would write it."""
    x, w, y, (dx, dw, _) = layer.x, layer.weight, layer.labels, layer.grads
    step = max(1, BLOCK_BYTES // (4 * len(w)))

    def run() -> float:
        total = 0.0
        for first in range(0, len(x), step):
            part, labels = x[first : first + step], y[first : first + step]
            z = part @ w.T
            rows = np.arange(len(z))
            at_label = z[rows, labels]
            top = z.max(axis=1, keepdims=True)
            z -= top
            np.exp(z, out=z)
            sums = z.sum(axis=1, keepdims=True)
            total += float(np.sum(np.log(sums) + top) - at_label.sum())
            if what == WITH_GRAD:
                z /= sums * len(x)
                z[rows, labels] -= 1 / len(x)
                np.matmul(z, w, out=dx[first : first + step])
                if first:
                    dw[...] += z.T @ part
                else:
                    np.matmul(z.T, part, out=dw)
        return total / len(x)

    return run


def torch_call(layer: Layer, what: str, threads: int, chunked: bool) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(threads)
    functional = torch.nn.functional
    x, w, y = (torch.from_numpy(a) for a in (layer.x, layer.weight, layer.labels))
    if what == WITH_GRAD:
        x.requires_grad_(), w.requires_grad_()
        x.grad, w.grad = (torch.from_numpy(a) for a in layer.grads[:2])

    def loss() -> Any:
        if chunked:
            return functional.linear_cross_entropy(x, w, y, options=torch.nn.LinearCrossEntropyOptions())
        return functional.cross_entropy(functional.linear(x, w), y)

    def run() -> float:
        if what == LOSS:
            with torch.no_grad():
                return loss().item()
        value = loss()
        value.backward()
        return value.item()

    return run


def jax_call(layer: Layer, what: str) -> Callable[[], Any]:
    import jax

    jax.config.update("jax_platforms", "cpu")
    x, w, y = (jax.numpy.asarray(a) for a in (layer.x, layer.weight, layer.labels))
    if what == WITH_GRAD:
        layer.grads = xent.DenseGrads(None, None, None)  # it makes its own, which are not counted

    def loss(x: Any, w: Any) -> Any:
        z = x @ w.T
        picked = jax.numpy.take_along_axis(z, y[:, None], axis=1)[:, 0]
        return jax.numpy.mean(jax.nn.logsumexp(z, axis=1) - picked)

    function = jax.jit(jax.value_and_grad(loss, (0, 1)) if what == WITH_GRAD else loss)
    return lambda: jax.block_until_ready(function(x, w))


# ---- the plot


def curves(threads: int) -> dict[str, list[dict[str, float]]]:
    """Time and memory of every library against the number of classes."""
    found: dict[str, list[dict[str, float]]] = {}
    for name in ["xent", *peers(WITH_GRAD)]:
        for classes in PLOT_CLASSES:
            start = time.perf_counter()
            point = run_worker(name, WITH_GRAD, (PLOT_ROWS, PLOT_FEATURES, classes), threads)
            found.setdefault(name, []).append(point | {"classes": classes})
            print(f"{name}, {classes} classes: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return found


def plot(found: dict[str, list[dict[str, float]]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, points in found.items():
        classes = [p["classes"] for p in points]
        width = 2.4 if name == "xent" else 1.2
        left.plot(classes, [p["seconds"] for p in points], marker="o", linewidth=width, label=name)
        right.plot(classes, [p["bytes"] / 2**20 for p in points], marker="o", linewidth=width, label=name)
    logits = [4 * PLOT_ROWS * c / 2**20 for c in PLOT_CLASSES]
    right.plot(PLOT_CLASSES, logits, color="black", linewidth=0.8, linestyle=":", label="one array of logits")
    left.set_ylabel("seconds")
    right.set_ylabel("MiB beyond inputs and gradients")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("classes")
        axes.grid(alpha=0.3)
    right.legend()
    figure.suptitle(f"Loss and gradients of a linear layer, {PLOT_ROWS} rows, {PLOT_FEATURES} features, float32")
    figure.savefig(path, dpi=130)
    print(path)


if __name__ == "__main__":
    raise SystemExit(main())
