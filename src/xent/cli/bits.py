"""Same bits everywhere: the same rows of logits through every tier, thread count, split and memory layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xent
from xent.cli import activations

Array = NDArray[Any]
Results = tuple[Array, ...]  # one array per output, rows first
Inputs = tuple[Array, NDArray[np.int64], Array]  # logits (N, C), labels (N,), probabilities (N, C)
Function = Callable[[Array, NDArray[np.int64], Array, int], Results]  # the last argument: the class axis

OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 1e-3, "ignore_index": 0}


def _lse(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    return (np.asarray(xent.logsumexp(z, axis=axis)),)


def _softmax(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    return (xent.softmax(z, axis=axis),)


def _log_softmax(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    return (xent.log_softmax(z, axis=axis),)


def _index(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    return tuple(xent.cross_entropy_with_grad(z, y, axis=axis, reduction="none", return_lse=True))


def _options(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    return tuple(xent.cross_entropy_with_grad(z, y, axis=axis, reduction="none", **OPTIONS))


def _probabilities(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    return tuple(xent.cross_entropy_with_grad(z, q, axis=axis, reduction="none"))


def _softcap(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    return tuple(xent.cross_entropy_with_grad(z, y, axis=axis, reduction="none", softcap=30.0))


def _mean(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
    loss, grad = xent.cross_entropy_with_grad(z, y, axis=axis)
    return np.asarray(loss), grad


def _layer(name: str, whole: bool) -> Function:
    """A row of logits as the pre-activations of a sample: y, dz and its norm; with `whole` the bias gradient too."""

    def function(z: Array, y: NDArray[np.int64], q: Array, axis: int) -> Results:
        z, q = np.moveaxis(z, axis, -1), np.moveaxis(q, axis, -1)
        dtype = z.dtype.newbyteorder("=")
        value = activations.values(name, np.array(z, dtype, order="C"))
        saved = z if xent.saved_kind(name) == "z" else value
        x, weight, dz = np.ones((len(z), 1), dtype), np.ones((z.shape[1], 1), dtype), np.empty_like(value)
        grads, norms = xent.dense_backward(q, x, weight, saved, name, need="bias", grad_z_out=dz, per_sample_norms=True)
        back = np.moveaxis(value, -1, axis), np.moveaxis(dz, -1, axis), norms
        return (*back, grads.bias) if whole else back

    return function


ROWWISE: dict[str, Function] = {
    "logsumexp": _lse,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "cross-entropy, index": _index,
    "cross-entropy, options": _options,
    "cross-entropy, probabilities": _probabilities,
    "cross-entropy, softcap": _softcap,
    "layer, gelu": _layer("gelu", False),
}
FUNCTIONS = ROWWISE | {'cross-entropy, "mean"': _mean, "layer, softplus": _layer("softplus", True)}


def inputs(dtype: np.dtype[Any], seed: int, full: bool) -> list[Inputs]:
    """Batches about lane and block lengths, one large enough for the threads, one with infinities and NaN."""
    rng = np.random.default_rng(seed)
    shapes = [(7, 1), (33, 10), (5, 63), (6, 65), (40, 257), (9, 2049), (400, 1000), (3, 9001)]
    shapes += [(4000, 10), (64, 32000), (2, 300_007)] if full else []
    batches = []
    for rows, classes in shapes:
        z = (4.0 * rng.standard_normal((rows, classes))).astype(dtype)
        z[rows // 2] *= 30  # one row with a wide spread
        if classes == 10:
            z[1, 3], z[2, 4], z[3, 5], z[4] = np.nan, np.inf, -np.inf, -np.inf
        q = rng.random((rows, classes)).astype(dtype)
        batches.append((z, rng.integers(0, classes, rows), q))
    return batches


def canonical(results: Results) -> list[bytes]:
    """The bytes of each output in C order and native byte order, every NaN the same."""
    outputs = []
    for array in results:
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
        array[np.isnan(array)] = np.nan
        outputs.append(array.tobytes())
    return outputs


def plain(batch: Inputs, function: Function) -> list[bytes]:
    """The bytes for C-contiguous logits in one call."""
    return canonical(function(*batch, -1))


def variants(batch: Inputs) -> Iterator[tuple[str, str, list[bytes]]]:
    """Every other way to ask for the same numbers: its name, the function, and the bytes that came out."""
    z, y, q = batch
    n = len(z)
    for name, function in FUNCTIONS.items():
        for layout, view in layouts(z):
            yield layout, name, canonical(function(view, y, q, -1))
        columns = function(np.ascontiguousarray(z.T), y, np.ascontiguousarray(q.T), 0)
        yield "class axis first", name, canonical(tuple(a.T if a.ndim == 2 else a for a in columns))
    for name, function in ROWWISE.items():
        cuts = sorted({0, n // 3, n // 3 + 1, n})
        pieces = [function(z[a:b], y[a:b], q[a:b], -1) for a, b in pairwise(cuts)]
        joined = tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
        yield "batch split", name, canonical(joined)
        turned = function(z[::-1].copy(), y[::-1].copy(), q[::-1].copy(), -1)
        yield "rows in reverse", name, canonical(tuple(a[::-1] for a in turned))
    own = z.copy()
    loss, grad = xent.cross_entropy_with_grad(own, y, out=own)
    yield "in place", 'cross-entropy, "mean"', canonical((np.asarray(loss), grad))
    own = z.copy()
    yield "in place", "softmax", canonical((xent.softmax(own, axis=-1, out=own),))
    strided = np.empty((n, 2 * z.shape[1]), z.dtype)[:, ::2]
    loss, grad = xent.cross_entropy_with_grad(z, y, out=strided)
    yield "strided out", 'cross-entropy, "mean"', canonical((np.asarray(loss), grad))


def layouts(z: Array) -> Iterator[tuple[str, Array]]:
    """The same logits, laid out otherwise in memory."""
    yield "Fortran order", np.asfortranarray(z)
    wide = np.zeros((2 * z.shape[0], 3 * z.shape[1]), z.dtype)
    wide[::2, ::3] = z
    yield "strided", wide[::2, ::3]
    backwards = z[::-1, ::-1].copy()
    yield "negative strides", backwards[::-1, ::-1]
    buffer = np.zeros(z.nbytes + 1, np.uint8)
    shifted = buffer[1:].view(z.dtype).reshape(z.shape)
    shifted[...] = z
    yield "misaligned", shifted
    yield "other byte order", z.astype(z.dtype.newbyteorder())
