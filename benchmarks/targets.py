"""Loss and gradient with target rows, smoothed labels and several labels (sigmoid), beside PyTorch and JAX.

    python benchmarks/targets.py                 # 2 threads: about three minutes, most of it torch.compile's
    python benchmarks/targets.py --shapes 65536x10,8192x1000 --threads 1 --peers torch,jax

float32 logits and targets; xent with `out=`. Everything takes turns in one process, as in `xent bench`: each is warm
when it is timed, and after a library whose threads wait busily there is a rest. Figures are medians, in ns per logit;
those by xent's are medians of the rounds' ratios. Results are compared with float64 arithmetic before they are timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from tables import markdown, shapes

import xent
from xent import runtime
from xent.cli.bench import cpu_name
from xent.cli.bench_measure import rounds
from xent.cli.peers import Job

Call = Callable[[], Any]
SHAPES = [(65536, 10), (1_000_000, 3), (65536, 32), (16384, 100), (8192, 1000), (1024, 32000)]
EPS = 0.1
ROWS, SMOOTHED, SIGMOID = KINDS = ("target rows", "smoothed labels", "sigmoid")


class Batch:
    """Logits, labels, target rows that sum to 1, and sets of labels."""

    def __init__(self, shape: tuple[int, int]) -> None:
        rng = np.random.default_rng(shape)
        self.z = rng.standard_normal(shape, dtype=np.float32)
        self.y = rng.integers(0, shape[1], shape[0])
        self.rows = rng.random(shape, dtype=np.float32)
        self.rows /= self.rows.sum(axis=1, keepdims=True)
        self.sets = (rng.random(shape) < 0.2).astype(np.float32)

    def exact(self, kind: str) -> tuple[float, Any]:
        """Mean loss and gradient in float64."""
        z = self.z.astype(np.float64)
        if kind == SIGMOID:
            softplus = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))
            return float((softplus - z * self.sets).mean()), (1 / (1 + np.exp(-z)) - self.sets) / z.size
        q = self.rows.astype(np.float64)
        if kind == SMOOTHED:
            q = np.full(z.shape, EPS / z.shape[1])
            q[np.arange(len(z)), self.y] += 1 - EPS
        e = np.exp(z - z.max(axis=1, keepdims=True))
        log_p = z - z.max(axis=1, keepdims=True) - np.log(e.sum(axis=1, keepdims=True))
        divisor = q.sum() if kind == ROWS else len(z)
        mass = q.sum(axis=1, keepdims=True)
        return float(-(q * log_p).sum() / divisor), (mass * np.exp(log_p) - q) / divisor


def of_xent(b: Batch) -> dict[str, Call]:
    out = np.empty_like(b.z)
    return {
        ROWS: lambda: xent.cross_entropy_with_grad(b.z, b.rows, out=out),
        SMOOTHED: lambda: xent.cross_entropy_with_grad(b.z, b.y, label_smoothing=EPS, out=out),
        SIGMOID: lambda: xent.sigmoid_cross_entropy_with_grad(b.z, b.sets, out=out),
    }


def of_torch(b: Batch, compiled: bool = False) -> dict[str, Call]:
    import torch
    from torch.nn import functional

    wrap = torch.compile if compiled else lambda function: function
    z = torch.from_numpy(b.z.copy()).requires_grad_()
    y, rows, sets = (torch.from_numpy(a) for a in (b.y, b.rows, b.sets))

    def call(function: Any) -> Call:
        loss_of = wrap(function)

        def run() -> Any:
            loss = loss_of(z)
            return loss.detach(), torch.autograd.grad(loss, z)[0]

        return run

    return {
        ROWS: call(lambda z: functional.cross_entropy(z, rows)),
        SMOOTHED: call(lambda z: functional.cross_entropy(z, y, label_smoothing=EPS)),
        SIGMOID: call(lambda z: functional.binary_cross_entropy_with_logits(z, sets)),
    }


def of_jax(b: Batch) -> dict[str, Call]:
    import jax
    import jax.numpy as jnp

    z, y, rows, sets = (jnp.asarray(a) for a in (b.z, b.y, b.rows, b.sets))

    def smoothed(z: Any, y: Any) -> Any:
        log_p = jax.nn.log_softmax(z)
        at_label = jnp.take_along_axis(log_p, y[:, None], axis=1)[:, 0]
        return -jnp.mean((1 - EPS) * at_label + EPS * log_p.mean(axis=1))

    def call(function: Any, targets: Any) -> Call:
        loss_of = jax.jit(jax.value_and_grad(function))
        return lambda: jax.block_until_ready(loss_of(z, targets))

    return {
        ROWS: call(lambda z, q: -jnp.mean((q * jax.nn.log_softmax(z)).sum(axis=1)), rows),
        SMOOTHED: call(smoothed, y),
        SIGMOID: call(lambda z, t: jnp.mean(jax.nn.softplus(z) - z * t), sets),
    }


PEERS: dict[str, Callable[[Batch], dict[str, Call]]] = {
    "torch": of_torch,
    "torch.compile": lambda b: of_torch(b, compiled=True),
    "jax": of_jax,
}
BUSY = {"torch", "torch.compile"}


def main() -> int:
    args = arguments()
    os.environ["NPROC"] = str(args.threads)  # the size of XLA's pool, read once
    xent.set_num_threads(args.threads)
    if any(name.startswith("torch") for name in args.peers):
        import torch

        torch.set_num_threads(args.threads)
    print(f"xent {xent.__version__}, tier {runtime.config()['tier']}, {args.threads} threads, {cpu_name()}\n")
    lines = []
    for shape in args.shapes:
        batch = Batch(shape)
        jobs = {"xent": of_xent(batch), **{name: PEERS[name](batch) for name in args.peers}}
        for kind in KINDS:
            calls = {name: its[kind] for name, its in jobs.items()}
            exact = batch.exact(kind)
            for name, call in calls.items():
                check(f"{name}, {kind}, {shape[0]} x {shape[1]}", call(), exact)
            jobs_of_kind = {name: Job(call, lambda value: ()) for name, call in calls.items()}
            times = rounds(jobs_of_kind, BUSY, batch.z, args.seconds)
            ns = {name: 1e9 * statistics.median(its) / batch.z.size for name, its in times.items()}
            others = [min(round_of) for round_of in zip(*(times[name] for name in args.peers), strict=True)]
            ratios = [other / mine for other, mine in zip(others, times["xent"], strict=True)] if others else []
            ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
            lines.append([f"{kind}, {shape[0]} x {shape[1]}", *(f"{ns[name]:.2f}" for name in calls), ratio])
    print(markdown(["ns per logit", "xent", *args.peers, "fastest other / xent"], lines))
    return 0


def check(what: str, got: Any, exact: tuple[float, Any]) -> None:
    """Stop unless both are right to what float32 arithmetic can do."""
    loss, grad = float(got[0]), np.asarray(got[1], np.float64)
    error = np.max(np.abs(grad - exact[1])) / np.max(np.abs(exact[1]))
    if not (abs(loss - exact[0]) <= 1e-5 * abs(exact[0]) and error <= 1e-5):
        raise SystemExit(f"{what}: loss {loss} instead of {exact[0]}, gradient off by {error:.2g}; nothing was timed")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="rows x classes: 8192x1000,1024x32000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="per shape and kind (default 3)")
    parser.add_argument(
        "--peers", type=lambda names: names.split(",") if names else [], default=list(PEERS), help=",".join(PEERS)
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
