"""What options and the other losses take: a part of shapes.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import xent

Call = Callable[[], Any]
SHAPES = [(65536, 10), (16384, 100), (8192, 1000), (1024, 32000)]
PLAIN = "class indices"


def calls(rng: np.random.Generator, rows: int, classes: int, dtype: Any = np.float32) -> dict[str, Call]:
    """Loss and gradient with `out=`, of each kind, once the first row's loss was right; `logsumexp` with weights."""
    z, y = rng.standard_normal((rows, classes)).astype(dtype), rng.integers(0, classes, rows)
    q, out, weight = rng.random(z.shape).astype(dtype), np.empty_like(z), rng.random(classes)
    loss = xent.cross_entropy_with_grad
    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        PLAIN: (loss, y, {}),
        "class_weight": (loss, y, {"class_weight": weight}),
        "z_loss": (loss, y, {"z_loss": 1e-4}),
        "softcap": (loss, y, {"softcap": 30.0}),
        "label_smoothing": (loss, y, {"label_smoothing": 0.1}),
        "target rows": (loss, q, {}),
        "sigmoid_cross_entropy": (xent.sigmoid_cross_entropy_with_grad, q, {}),
    }
    for name, (function, targets, options) in kinds.items():
        got = function(z[:1], targets[:1], **options)[0]
        truth = getattr(xent.reference, function.__name__)(z[:1].tolist(), targets[:1].tolist(), **options)[0]
        if not math.isclose(got, truth, rel_tol=1e-6):
            raise SystemExit(f"{name}: {got} instead of {truth}; nothing was timed")
    return {
        **{name: lambda f=f, t=t, o=o: f(z, t, out=out, **o) for name, (f, t, o) in kinds.items()},
        "logsumexp, b=": lambda: xent.logsumexp(z, axis=1, b=q),
    }
