"""A small language model of Python's own sources, trained with a loss that never holds its logits.

    python examples/language_model.py             # 32,000 words, two minutes on two cores
    python examples/language_model.py --quick     # 2,000 words, seconds

The text is the standard library of the Python that runs this, cut into words, numbers and signs. Each word is
predicted from the four before it:

    h = tanh(concatenated embeddings of the context @ A.T + a)        z = h @ W.T + b

z has a column for each word of the vocabulary. Here `xent.linear_cross_entropy_with_grad` goes from h to the loss and
to the gradients of h, W and b in blocks; the rest of the network is eight lines of NumPy, its steps are Adam's.
Every twentieth file is held out: perplexity is measured there, before, during and after. Exit status 1 if it does not
fall by half.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import re
import sys
import sysconfig
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import xent

CONTEXT, EMBEDDING, HIDDEN = 4, 64, 128
WORDS = re.compile(r"[A-Za-z_]\w*|\d+|\n|[^\w\s]")
UNKNOWN = "<unknown>"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small vocabulary, a few steps")
    parser.add_argument("--vocabulary", type=int, help="words (32000; quick: 2000)")
    parser.add_argument("--steps", type=int, help="of training (200; quick: 60)")
    parser.add_argument("--batch", type=int, help="words per step (2048; quick: 512)")
    parser.add_argument("--max-bytes", type=int, help="of a block of logits (32 MiB; quick: 1 MiB)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    size = args.vocabulary or (2000 if args.quick else 32000)
    steps, batch = args.steps or (60 if args.quick else 200), args.batch or (512 if args.quick else 2048)

    max_bytes = args.max_bytes or (2**20 if args.quick else 2**25)

    start = time.perf_counter()
    training, held_out, words = read_library(size, 80 if args.quick else None)
    print(
        f"{len(training):,} words of training, {len(held_out):,} held out, vocabulary {len(words):,} "
        f"({time.perf_counter() - start:.1f} s)"
    )
    rng = np.random.default_rng(args.seed)
    model = Model(len(words), max_bytes, rng)
    some = rng.integers(CONTEXT, len(held_out), min(len(held_out), 4 * batch))
    before = model.perplexity(held_out, some)
    print(f"perplexity held out, before training: {before:,.0f}")
    print(model.memory(training, rng.integers(CONTEXT, len(training), batch)))

    after, losses, start = before, [], time.perf_counter()
    with progress("training", steps) as advance:
        for step in range(steps):
            rate = 3e-3 * min(1.0, (step + 1) / 20) * (0.05 + 0.95 * (1 - step / steps))
            losses.append(model.train(training, rng.integers(CONTEXT, len(training), batch), rate))
            advance(f"loss {np.mean(losses[-20:]):.2f}, held-out perplexity {after:,.0f}")
            if (step + 1) % max(1, steps // 6) == 0:
                after = model.perplexity(held_out, some)
                print(f"step {step + 1:>4}: loss {np.mean(losses[-20:]):.3f}, held-out perplexity {after:,.1f}")
    seconds = time.perf_counter() - start
    after = model.perplexity(held_out, some)
    print(f"{steps} steps of {batch} words in {seconds:.0f} s ({steps * batch / seconds:,.0f} words a second)")
    print(f"perplexity held out: {before:,.0f} before, {after:,.1f} after")
    for text in ("import os\nimport", "def __init__(", "for i in"):
        print(f"  {text!r} ... {', '.join(map(repr, model.next_words(text, words)))}")
    return 0 if after < before / 2 else 1


# ---- the text


def read_library(size: int, most_files: int | None) -> tuple[Any, Any, list[str]]:
    """The standard library as word numbers, to train on and held out, and the words, the most frequent first."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [f for f in sorted(root.rglob("*.py")) if not {"site-packages", "dist-packages"} & set(f.parts)]
    if most_files:
        files = files[:: max(1, len(files) // most_files)]
    texts = [WORDS.findall(f.read_text(encoding="utf-8", errors="replace")) for f in files]
    train = [word for i, text in enumerate(texts) if i % 20 for word in text]
    test = [word for i, text in enumerate(texts) if not i % 20 for word in text]
    words = [UNKNOWN, *(word for word, _ in Counter(train).most_common(size - 1))]
    number = {word: i for i, word in enumerate(words)}
    return *(np.array([number.get(word, 0) for word in text], np.int32) for text in (train, test)), words


# ---- the model


class Model:
    """Parameters, the averages of Adam, and the arrays that gradients are written to."""

    def __init__(self, size: int, max_bytes: int, rng: np.random.Generator) -> None:
        def normal(*shape: int) -> Any:
            return (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)

        self.parameters = {
            "embedding": normal(size, EMBEDDING) * np.float32(math.sqrt(EMBEDDING) / 10),
            "A": normal(HIDDEN, CONTEXT * EMBEDDING),
            "a": np.zeros(HIDDEN, np.float32),
            "W": normal(size, HIDDEN),
            "b": np.zeros(size, np.float32),
        }
        self.averages = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in self.parameters.items()}
        self.grads = {name: np.zeros_like(p) for name, p in self.parameters.items()}
        self.max_bytes, self.steps = max_bytes, 0

    def hidden(self, contexts: Any) -> tuple[Any, Any]:
        """The embeddings of contexts (N, 4), side by side, and h (N, 128)."""
        p = self.parameters
        inputs = p["embedding"][contexts].reshape(len(contexts), -1)
        return inputs, np.tanh(inputs @ p["A"].T + p["a"])

    def train(self, text: Any, places: Any, rate: float) -> float:
        """One step on the words at these places; their mean loss."""
        p, g = self.parameters, self.grads
        contexts = text[places[:, None] + np.arange(-CONTEXT, 0)]
        inputs, h = self.hidden(contexts)
        loss, dense = xent.linear_cross_entropy_with_grad(
            h, p["W"], text[places], p["b"], out=(None, g["W"], g["b"]), max_bytes=self.max_bytes
        )
        du = dense.x * (1 - h * h)
        np.matmul(du.T, inputs, out=g["A"])
        np.sum(du, axis=0, out=g["a"])
        scatter(g["embedding"], contexts.ravel(), (du @ p["A"]).reshape(-1, EMBEDDING))
        self.steps += 1
        for name in p:
            adam(p[name], g[name], *self.averages[name], rate, self.steps)
        return float(loss)

    def perplexity(self, text: Any, places: Any) -> float:
        """e to the mean loss."""
        _, h = self.hidden(text[places[:, None] + np.arange(-CONTEXT, 0)])
        p = self.parameters
        return math.exp(xent.linear_cross_entropy(h, p["W"], text[places], p["b"], max_bytes=self.max_bytes))

    def memory(self, text: Any, places: Any) -> str:
        """What a call takes beside what its logits would, as measured."""
        _, h = self.hidden(text[places[:, None] + np.arange(-CONTEXT, 0)])
        p, g = self.parameters, self.grads
        out = (np.empty_like(h), g["W"], g["b"])
        tracemalloc.start()
        xent.linear_cross_entropy_with_grad(h, p["W"], text[places], p["b"], out=out, max_bytes=self.max_bytes)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        logits = 4 * len(places) * len(p["W"])
        return (
            f"memory of loss and gradients: {peak / 2**20:.1f} MiB; full logits would take {logits / 2**20:.0f} MiB, "
            f"and their gradient as much again"
        )

    def next_words(self, text: str, words: list[str], count: int = 5) -> list[str]:
        """The likeliest words after a text."""
        number = {word: i for i, word in enumerate(words)}
        context = [number.get(word, 0) for word in WORDS.findall("\n\n\n\n" + text)][-CONTEXT:]
        _, h = self.hidden(np.array([context]))
        z = (h @ self.parameters["W"].T + self.parameters["b"])[0]
        z[0] = -np.inf
        return [words[i] for i in np.argsort(-z)[:count]]


def scatter(to: Any, rows: Any, values: Any) -> None:
    """to[rows] = the sums of the values of equal rows; 0 elsewhere."""
    order = np.argsort(rows, kind="stable")
    found, starts = np.unique(rows[order], return_index=True)
    to[...] = 0
    to[found] = np.add.reduceat(values[order], starts, axis=0)


def adam(p: Any, g: Any, mean: Any, square: Any, rate: float, step: int) -> None:
    """p -= rate * mean / (sqrt(square) + eps); g is overwritten."""
    mean *= np.float32(0.9)
    mean += np.float32(0.1) * g
    np.multiply(g, g, out=g)
    square *= np.float32(0.99)
    square += np.float32(0.01) * g
    np.sqrt(square, out=g)
    g += np.float32(1e-8)
    np.divide(mean, g, out=g)
    g *= np.float32(rate * math.sqrt(1 - 0.99**step) / (1 - 0.9**step))
    p -= g


# ---- the progress bar


@contextmanager
def progress(title: str, total: int) -> Iterator[Any]:
    """A bar where rich is installed and somebody looks at it; nothing otherwise."""
    if importlib.util.find_spec("rich") is None or not sys.stdout.isatty():
        yield lambda text: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, text="")
        yield lambda text: bar.update(task, advance=1, text=text)


if __name__ == "__main__":
    raise SystemExit(main())
