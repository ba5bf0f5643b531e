"""The activations' part of `xent verify`: values and derivatives against the reference's formulas in 60 digits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xent
from xent import _kernels
from xent._activations import CODES
from xent.reference.activations import find, sigmoid

Array = NDArray[Any]
SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu")

# name -> (the greatest error allowed in ulp, the number whose ulp it is); only float64 comes near those above 2
BOUNDS: dict[str, tuple[float, str]] = {
    **{name: (4.0 if name == "gelu" else 2.0, "result") for name in SMOOTH},
    **{f"{name}, slope": (5.0 if xent.saved_kind(name) == "z" else 3.0, "larger term") for name in SMOOTH},
}


def values(name: str, z: Array) -> Array:
    """f(z) as the kernels give it."""
    y = z.reshape(1, -1).copy()
    _kernels.bias_activation(y, None, CODES[name], None)
    return y.reshape(z.shape)


def slopes(name: str, saved: Array) -> Array:
    """f' of what is saved."""
    one = np.ones((1, saved.size), saved.dtype)
    _kernels.activation_backward(one, np.ascontiguousarray(saved).reshape(1, -1), CODES[name], one, None, False, None)
    return one.reshape(saved.shape)


def computed(z: Array) -> Iterator[tuple[str, Array]]:
    """Every value and derivative at z, or at what is saved there."""
    for name in SMOOTH:
        y = values(name, z)
        yield name, y
        yield f"{name}, slope", slopes(name, z if xent.saved_kind(name) == "z" else y)


def truths(z: Array, of: Callable[..., Any]) -> dict[str, Any]:
    """The same, exactly: `of(values, shape, scale)` makes a truth."""
    found = {}
    for name in SMOOTH:
        f, slope = find(name)
        found[name] = of(map(f, _decimals(z)), z.shape)
        saved = z if xent.saved_kind(name) == "z" else values(name, z)
        exact = [slope(s) for s in _decimals(saved)]
        found[f"{name}, slope"] = of(exact, z.shape, _scales(name, saved, exact))
    return found


def _scales(name: str, saved: Array, exact: Iterable[Decimal]) -> list[Decimal]:
    """The largest of f', its first term (the gate f(z) / z) and its second."""
    if xent.saved_kind(name) == "y":
        return [abs(e) for e in exact]
    scales = []
    for z, e in zip(_decimals(saved), exact, strict=True):
        gate = find(name)[0](z) / z if z and z.is_finite() else sigmoid(z)
        scales.append(max(abs(e), abs(gate), abs(e - gate)) if z.is_finite() else abs(e))
    return scales


def _decimals(x: Array) -> list[Decimal]:
    return [Decimal(float(v)) for v in x.ravel()]
