"""The gradients of a dense layer."""

from __future__ import annotations

from typing import NamedTuple

from xent._arrays import Array

__all__ = ["DenseGrads"]


class DenseGrads(NamedTuple):
    """Gradients with respect to a dense layer's input, weight and bias; None where not asked for."""

    x: Array | None
    weight: Array | None
    bias: Array | None
