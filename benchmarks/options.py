"""What options and the other losses take: a part of shapes.py."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import xent

Call = Callable[[], Any]
SHAPES = [(65536, 10), (16384, 100), (8192, 1000), (1024, 32000)]


def calls(rng: np.random.Generator, rows: int, classes: int) -> dict[str, Call]:
    """Loss and gradient with `out=`, of each kind, and `logsumexp` with weights, once the first row was right."""
    z, y = rng.standard_normal((rows, classes), dtype=np.float32), rng.integers(0, classes, rows)
    q, out, weight = rng.random(z.shape, dtype=np.float32), np.empty_like(z), rng.random(classes)
    ignored = np.where(rng.random(rows) < 0.1, -100, y)
    ignored[0] = y[0]  # of which the first row's loss is checked
    masked = np.where(rng.random(z.shape) < 1 / 3, np.float32(-np.inf), z)
    masked[np.arange(rows), y] = z[np.arange(rows), y]
    logits = {"logits of deviation 10": 10 * z, "a third of the logits -inf": masked}  # z in all others
    loss = xent.cross_entropy_with_grad
    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "class indices": (loss, y, {}),
        **dict.fromkeys(logits, (loss, y, {})),
        "a tenth ignored": (loss, ignored, {"ignore_index": -100}),
        "a tenth of weight 0": (loss, y, {"sample_weight": (ignored == y).astype(np.float32)}),
        "weights of 2, sum": (loss, y, {"sample_weight": np.full(rows, 2, np.float32), "reduction": "sum"}),
        "class_weight": (loss, y, {"class_weight": weight}),
        "z_loss": (loss, y, {"z_loss": 1e-4}),
        "softcap": (loss, y, {"softcap": 30.0}),
        "label_smoothing": (loss, y, {"label_smoothing": 0.1}),
        "target rows": (loss, q, {}),
        "sigmoid_cross_entropy": (xent.sigmoid_cross_entropy_with_grad, q, {}),
    }
    pairs = {"logsumexp, b=": (xent.logsumexp(z[0], b=q[0]), xent.reference.logsumexp(z[0].tolist(), b=q[0].tolist()))}
    for name, (function, targets, options) in kinds.items():
        twin = getattr(xent.reference, function.__name__)
        of_first = {key: its[:1] if key == "sample_weight" else its for key, its in options.items()}
        first = logits.get(name, z)[:1]
        exact = twin(first.tolist(), targets[:1].tolist(), **of_first)
        pairs[name] = function(first, targets[:1], **of_first)[0], exact[0]
    for name, (got, truth) in pairs.items():
        if not math.isclose(got, truth, rel_tol=1e-6):
            raise SystemExit(f"{name}: {got} instead of {truth}; nothing was timed")
    timed: dict[str, Call] = {
        name: functools.partial(function, logits.get(name, z), targets, out=out, **options)
        for name, (function, targets, options) in kinds.items()
    }
    return {**timed, "logsumexp, b=": lambda: xent.logsumexp(z, axis=1, b=q)}
