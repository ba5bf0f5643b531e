"""The rows that softmax functions are tried on, and their truth, computed once for all tests and tiers."""

from functools import cache
from typing import Any

import cases
import numpy as np
import oracle
import pytest
from mpmath import mp, mpf

import xent


def params(found: list[cases.Case]) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in found]


ALL = [case for kind in (np.float32, np.float64) for case in cases.rows(kind) + cases.masked_rows(kind)]
ROWS = params(ALL)
SHORT_ROWS = params([case for case in ALL if len(case.logits) <= 70])
FEW_LONG_ROWS = params([case for case in ALL if case.name.endswith(("normal10-2049", "shuffled", "first-2065"))])


@cache
def _truth(name: str, row: bytes, kind: np.dtype) -> oracle.Truth:
    z = np.frombuffer(row, kind)
    if name == "lse":
        return oracle.Truth(oracle.lse_row(z), kind, oracle.gap_row(z))
    return oracle.Truth({"softmax": oracle.softmax_row, "log_softmax": oracle.log_softmax_row}[name](z), kind)


def lse(z: np.ndarray) -> oracle.Truth:
    """In ulps of the larger of |lse| and |max|."""
    return _truth("lse", z.tobytes(), z.dtype)


def softmax(z: np.ndarray) -> oracle.Truth:
    return _truth("softmax", z.tobytes(), z.dtype)


def log_softmax(z: np.ndarray) -> oracle.Truth:
    return _truth("log_softmax", z.tobytes(), z.dtype)


@cache
def _at_labels(row: bytes, kind: np.dtype, labels: tuple[int, ...]) -> oracle.Truth:
    z = np.frombuffer(row, kind)
    return oracle.Truth([oracle.minus_one_row(z, label) for label in labels], kind)


def at_labels(z: np.ndarray, labels: tuple[int, ...]) -> oracle.Truth:
    """The gradient at the label, p - 1, for each label."""
    return _at_labels(z.tobytes(), z.dtype, labels)


class Million:
    """A row of 10^6 logits with 37 distinct values, so that its truth is a sum of 37 terms: logits =
    values[where].
    """

    def __init__(self, kind: Any) -> None:
        rng = np.random.default_rng(6)
        self.values = rng.normal(0, 4, 37).astype(kind)
        self.where = rng.integers(0, 37, 1_000_000)
        self.logits = self.values[self.where]
        counts = np.bincount(self.where, minlength=37)
        with mp.workdps(oracle.DIGITS):
            z = oracle.exact(self.values)
            e = [mp.exp(v) for v in z]
            total = sum(int(n) * x for n, x in zip(counts, e, strict=True))
            self.lse = mp.log(total)
            self.p = [x / total for x in e]
            self.log_p = [v - self.lse for v in z]
            self.gap = max(self.lse, mpf(max(z)))


million = cache(Million)
BATCH_SIZES = (1, 2, 15, 16, 17, 33)  # about the rows that a kernel takes side by side


def central_differences(z: np.ndarray, targets: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """d loss / d z of every logit by (loss(z + h) - loss(z - h)) / 2 h, and the gradient that is to match."""
    h, slopes = 1e-5, np.empty_like(z)
    for c in range(z.shape[1]):
        up, down = z.copy(), z.copy()
        up[:, c] += h
        down[:, c] -= h
        losses = [xent.cross_entropy(x, targets, reduction="none", **options) for x in (up, down)]
        slopes[:, c] = (losses[0] - losses[1]) / (2 * h)
    return slopes, xent.cross_entropy_grad(z, targets, reduction="sum", **options)
