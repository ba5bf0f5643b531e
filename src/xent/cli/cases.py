"""The inputs of `xent verify`: random ones, and ones chosen to defeat the usual formulas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LN2 = float(np.log(2.0))


@dataclass(frozen=True)
class Case:
    """Named arguments. `kind` "softmax": logits (N, C), labels (N,), probabilities (N, C) or None.

    "sigmoid": logits and targets (as `probabilities`) of shape (N,). "exp", "activation": the arguments as logits (N,).
    """

    name: str
    kind: str
    logits: Array
    labels: NDArray[np.int64]
    probabilities: Array | None = None


def cases(dtype: np.dtype[Any], seed: int, full: bool) -> Iterator[Case]:
    """Every case in one dtype; `full` has about ten times as many numbers."""
    rng = np.random.default_rng(seed)
    for name, rows in _rows(dtype, rng, full):
        yield from _with_targets(name, np.asarray(rows, dtype), rng)
    yield from _special(dtype)
    yield from _elementwise(dtype, rng, 20_000 if full else 2_000)


def _rows(dtype: np.dtype[Any], rng: np.random.Generator, full: bool) -> Iterator[tuple[str, Array]]:
    """Finite logits (R, C) by name."""
    more = 5 if full else 1
    low = float(np.log(np.finfo(dtype).tiny))  # exp of less is below the smallest normal number
    for classes in (1, 2, 3, 10, 31, 33, 63, 64, 65, 127, 129, 257):
        yield f"normal, {classes} classes", 3.0 * rng.standard_normal((max(2, 60 // classes) * more, classes))
    for classes in (1000, 2047, 2048, 2049, 4097):
        yield f"normal, {classes} classes", 3.0 * rng.standard_normal((1, classes))
    for spread in (0.01, 10.0, 100.0, 1000.0):
        yield f"uniform within +-{spread:g}", rng.uniform(-spread, spread, (4 * more, 40))
    yield "ties", np.repeat(rng.standard_normal((4, 1)), 65, axis=1)
    yield "ties of two", np.repeat(rng.standard_normal((4, 33)), 2, axis=1)
    yield "near ties", 1.0 + np.finfo(dtype).eps * rng.integers(0, 4, (4, 20))
    yield "one huge", _one_larger(rng, 30, [1e2, 1e3, 1e4, 1e30])
    yield "one far above", _one_larger(rng, 30, list(np.linspace(8.0, -low, 12 * more)))
    yield "two classes, p near 1", np.stack([np.zeros(60), -np.linspace(1.0, 1.02 * -low, 60)], axis=1)
    yield "p about the smallest normal", rng.uniform(low - 4.0, low + 4.0, (3 * more, 50)) * _not_first(50)
    yield "lse near 0", -np.log(30.0) + 1e-3 * rng.standard_normal((6 * more, 30))
    yield "lse nearly cancels", np.stack([[-x, np.log1p(-np.exp(-x))] for x in np.linspace(0.01, 5.0, 20)])
    yield "halves of ln 2", (rng.integers(-40, 40, (4 * more, 50)) + 0.5) * LN2
    yield "multiples of ln 2", rng.integers(-40, 40, (4 * more, 50)) * LN2
    yield "all far below 0", -1e4 + rng.standard_normal((2, 70))
    yield "all far above 0", 1e4 + rng.standard_normal((2, 70))
    signs = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 0.5], [-1.0, -1.0, -1.0]])
    yield "largest numbers", signs * float(np.finfo(dtype).max)
    yield "rising", np.linspace(-200.0, 200.0, 2500)[None]
    yield "falling", np.linspace(200.0, -200.0, 2500)[None]
    yield "each block far above", (100.0 * (np.arange(4200) // 700) + rng.standard_normal(4200))[None]
    yield "largest in the last place", np.append(rng.standard_normal(2100), 60.0)[None]
    if full:
        yield "normal, 40009 classes", 3.0 * rng.standard_normal((1, 40009))
        yield "one above 131072 equal", np.append(np.zeros(131072), 12.0)[None]
        yield "uniform within +-20, 30000 classes", rng.uniform(-20.0, 20.0, (1, 30000))


def _not_first(classes: int) -> Array:
    """Zero for the first class, one for the others: the first keeps the logit 0."""
    return np.append(0.0, np.ones(classes - 1))


def _one_larger(rng: np.random.Generator, classes: int, heights: list[float]) -> Array:
    """Normal rows, in each of which one class stands out by the given height."""
    rows = rng.standard_normal((len(heights), classes))
    rows[np.arange(len(heights)), rng.integers(0, classes, len(heights))] += heights
    return rows


def _with_targets(name: str, rows: Array, rng: np.random.Generator) -> Iterator[Case]:
    """The rows with labels likeliest, unlikeliest and random in turn, and soft, sparse and heavy targets."""
    classes = rows.shape[1]
    few = rows[: max(1, 6000 // classes)]
    choices = np.stack([few.argmax(axis=1), few.argmin(axis=1), rng.integers(0, classes, len(few))])
    soft = rng.dirichlet(np.ones(classes), len(few))
    sparse = np.zeros((len(few), classes))
    sparse[np.arange(len(few)), choices[0]] += 1.0
    sparse[np.arange(len(few)), choices[2]] += 0.5
    kinds = ("", ", unlikely label", ", random label")
    for kind, labels, q in zip(kinds, choices, (soft, sparse, 3.0 * soft), strict=True):
        yield Case(name + kind, "softmax", few, labels, q.astype(rows.dtype))
        if classes >= 20_000:
            break


def _special(dtype: np.dtype[Any]) -> Iterator[Case]:
    """Infinities and NaN: each in its own row only."""
    inf, nan = np.inf, np.nan
    rows = np.array(
        [
            [0.0, 1.0, 2.0, 3.0],
            [nan, 1.0, 2.0, 3.0],
            [-inf, -inf, -inf, -inf],
            [0.0, -inf, 2.0, 3.0],
            [-inf, -inf, -inf, 3.0],
            [0.0, 1.0, inf, 3.0],
            [inf, 1.0, inf, 3.0],
            [-inf, nan, inf, 3.0],
            [-0.0, 0.0, -0.0, 0.0],
            [3.0, 2.0, 1.0, 0.0],
        ],
        dtype,
    )
    for label in range(4):
        q = np.full(rows.shape, 0.0, dtype)
        q[:, label] = 1.0
        yield Case("infinities and NaN", "softmax", rows, np.full(len(rows), label), q)


def _elementwise(dtype: np.dtype[Any], rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Arguments of exp, of the sigmoid loss and of the activations."""
    info = np.finfo(dtype)
    low, high = float(np.log(info.tiny)), float(np.log(info.max))
    none = np.zeros(0, np.int64)
    halves = ((np.arange(low / LN2, high / LN2) + 0.5) * LN2).astype(dtype)
    eps, tiny, inf = float(info.eps), float(info.tiny), np.inf
    edges = np.asarray([0.0, -0.0, low, high, 1.0, -1.0, eps, -eps, tiny, inf, -inf, np.nan])
    near = np.concatenate([np.nextafter(halves, dtype.type(toward)) for toward in (inf, -inf)])
    arguments = {
        "uniform": rng.uniform(low * 1.01, high * 1.01, count),
        "small": rng.uniform(-1.0, 1.0, count),
        "tiny": np.ldexp(rng.uniform(-1.0, 1.0, 200), rng.integers(-60, 0, 200)),
        "beside odd halves of ln 2": near,
        "edges": np.concatenate([edges, *(np.linspace(x - 2.0, x + 2.0, 101) for x in (low, high))]),
    }
    for name, x in arguments.items():
        yield Case(f"exp, {name}", "exp", x.astype(dtype), none)
    for name, z in arguments.items():
        z = z[: count // 4].astype(dtype)
        for kind, targets in {
            "targets 0": np.zeros(len(z)),
            "targets 1": np.ones(len(z)),
            "targets between": rng.random(len(z)),
        }.items():
            yield Case(f"sigmoid, {name}, {kind}", "sigmoid", z, none, targets.astype(dtype))
        yield Case(f"activations, {name}", "activation", z[:: 1 + len(z) // (count // 10)], none)
    yield Case("activations, about 0", "activation", rng.normal(0.0, 3.0, count // 10).astype(dtype), none)
