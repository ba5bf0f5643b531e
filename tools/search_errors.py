"""A search for the worst float32 errors of softmax, its losses and logsumexp, over rows chosen for it.

    python tools/search_errors.py                     60 rounds, 1.4 10^8 probabilities, some three minutes
    python tools/search_errors.py --rounds 2 --seed 5

Rows of 2 to 100 classes, 400,000 logits a time: normal, tied, near odd halves of ln 2 (where the reduction of e^x has
its largest errors), one far above the rest, and all but one tied. The truth is the x87's 64-bit arithmetic, 2^-40 of
a unit here; on other processors, whose long double is no longer than a double, 2^-29. Printed: the worst of each in
ulp of the exact result (logsumexp: of the larger of |lse| and |max|), and the row. Nothing is asserted: the bounds
are in tests/.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

import xent

Exact = NDArray[np.longdouble]
CLASSES = (2, 3, 5, 17, 40, 100)
SIZE = 400_000
SMALLEST = 2.0**-125  # results below may have been made 0

worst: dict[str, tuple[float, list[float]]] = {}


def rows(rng: np.random.Generator, classes: int) -> NDArray[np.float32]:
    n, kind, scale = SIZE // classes, rng.integers(0, 5), rng.choice([0.3, 1, 3, 10, 25])
    x = rng.normal(0, scale, (n, classes)).astype(np.float32)
    if kind == 1:
        x[:, 1:] = x[:, 1:2]
    elif kind == 2:
        edge = rng.integers(-40, 40, x.shape) * 0.5 + rng.choice([0.499, -0.499, 0, 0.45], x.shape)
        x = (edge * np.log(2) + rng.normal(0, 1e-3, x.shape)).astype(np.float32)
    elif kind == 3:
        x[:, 0] += rng.uniform(0, 20, n).astype(np.float32)
    elif kind == 4:
        tied = (rng.integers(-9, 9, n) + rng.choice([0.48, -0.48], n)) * np.log(2) + rng.normal(0, 0.01, n)
        x[:] = tied[:, None]
        x[:, 0] += rng.normal(0, 5, n).astype(np.float32)
    return x


def note(
    name: str, got: NDArray[np.float32], exact: Exact, x: NDArray[np.float32], unit_of: Exact | None = None
) -> None:
    """Keep the worst error of `got`, whose first axis is that of the rows x; NaN is the worst there is."""
    size = np.abs(exact if unit_of is None else unit_of)
    unit = np.exp2(np.floor(np.log2(np.where(size < SMALLEST, 1, size))) - 23)
    error = np.where(np.abs(exact) < SMALLEST, 0, np.abs(got - exact) / unit)
    at = np.unravel_index(int(np.argmax(error)), error.shape)
    if not float(error[at]) <= worst.get(name, (0.0, []))[0]:
        worst[name] = float(error[at]), x[at[0], :4].tolist()


def try_rows(x: NDArray[np.float32], rng: np.random.Generator) -> None:
    n, classes = x.shape
    each, largest = np.arange(n), x.argmax(axis=1)
    y = np.where(rng.random(n) < 0.5, largest, rng.integers(0, classes, n))
    z: Exact = x.astype(np.longdouble)
    e = np.exp(z - z[each, largest][:, None])
    total = e.sum(axis=1, keepdims=True)
    rest = e.copy()
    rest[each, largest] = 0
    log_s = np.log1p(rest.sum(axis=1))
    lse = z[each, largest] + log_s
    rest[each, largest], rest[each, y] = e[each, largest], 0
    p, at_label = e / total, -(rest.sum(axis=1) / total[:, 0])

    loss, grad = xent.cross_entropy_with_grad(x, y, reduction="none")
    note("softmax", xent.softmax(x, axis=1), p, x)
    note("log_softmax", xent.log_softmax(x, axis=1), (z - z[each, largest][:, None]) - log_s[:, None], x)
    note("logsumexp", xent.logsumexp(x, axis=1), lse, x, np.maximum(np.abs(lse), np.abs(z[each, largest])))
    note("loss", loss, (z[each, largest] - z[each, y]) + log_s, x)
    note("gradient at the label", grad[each, y], at_label, x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, tried = np.random.default_rng(args.seed), 0
    for _ in range(args.rounds):
        for classes in CLASSES:
            x = rows(rng, classes)
            try_rows(x, rng)
            tried += x.size
    print(f"{tried:,} logits, seed {args.seed}")
    for name, (error, row) in worst.items():
        print(f"{name:22} {error:.4f} ulp, in a row that begins {row}")


if __name__ == "__main__":
    main()
