"""Products that `numpy.matmul` cannot make, or makes slowly, by NumPy's own BLAS.

A product added to what is there, ``out += a @ b``: gemm with beta = 1. It is called where NumPy's extension module
leads to it under one of the names that NumPy's builds use, and where it passes a trial on small integers;
`accumulation` says whether. Otherwise the product is made with `numpy.matmul` in slabs of rows of `out`, which are then
added.

A product of long rows, (m, k) by (k, n) with k far above m and n: a part of k for each of BLAS's threads, side by side
in OpenBLAS's gemm_batch. In its gemm the threads share out m or n, and hand each other what they have packed, some
hundred times a product: as fast or up to a quarter slower, from hour to hour, on a virtual machine.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from xent._arrays import Array

__all__ = ["accumulation", "add_product", "long_parts", "long_product"]

SLAB_BYTES = 2**20
LONG_PARTS = 4  # beyond as many threads, what they add up in the end costs more
# multiplications of a part, at least: OpenBLAS 0.3.31 crashes in gemm_batch with parts of fewer than about 2**20
LONG_WORK = 2**23
LONG_RATIO = 4  # of k to m and n, at least
LONG_STEP = 64  # parts begin at multiples of this
_ROW_MAJOR, _NO_TRANS, _TRANS = 101, 111, 112
# name, type of its integers: OpenBLAS in NumPy's wheels; ILP64 and LP64 builds of OpenBLAS, BLIS, MKL, Accelerate
_NAMES = (
    ("scipy_cblas_{}gemm64_", ctypes.c_int64),
    ("cblas_{}gemm64_", ctypes.c_int64),
    ("cblas_{}gemm", ctypes.c_int),
)
# of OpenBLAS alone, where each is found under the pattern of the line above
_BATCH_NAMES = ("scipy_cblas_{}gemm_batch64_", "cblas_{}gemm_batch64_", "cblas_{}gemm_batch")
_THREADS_NAMES = (
    "scipy_openblas_get_num_threads64_",
    "openblas_get_num_threads64_",
    "openblas_get_num_threads",
)


def accumulation() -> str:
    """How products are added to an array: the BLAS function that does it, or what is done instead."""
    found = _gemm("s")
    return f"{found[0]} of NumPy's BLAS" if found and _gemm("d") else "numpy.matmul in slabs, then added"


def add_product(a: Array, b: Array, out: Array) -> None:
    """``out += a @ b``: matrices (m, k), (k, n), (m, n) of one dtype, float32 or float64."""
    if out.size == 0 or a.shape[1] == 0:
        return
    gemm = _gemm("s" if out.dtype.itemsize == 4 else "d")
    left, right, to = _stored(a), _stored(b), _stored(out)
    if gemm and left and right and to and to[0] == _NO_TRANS:
        gemm[1](*left, *right, to[1], a, b, out)
        return
    rows = max(1, SLAB_BYTES // (out.shape[1] * out.itemsize))
    product = np.empty((min(rows, len(out)), out.shape[1]), out.dtype)
    for i in range(0, len(out), rows):
        part = out[i : i + rows]
        np.matmul(a[i : i + rows], b, out=product[: len(part)])
        part += product[: len(part)]


def long_parts(dtype: Any) -> int:
    """Into how many parts `long_product` cuts a product: the number of BLAS's threads where they are few, or 1."""
    batch = _batch("s" if np.dtype(dtype).itemsize == 4 else "d")
    threads = batch[0]() if batch else 1
    return threads if threads <= LONG_PARTS else 1


def long_product(a: Array, b: Array, out: Array, add: bool) -> None:
    """``out (+)= a @ b``, as `add_product`, for k far above m and n. Takes `long_parts` - 1 arrays like `out`."""
    parts, k = long_parts(out.dtype), a.shape[1]
    batch = _batch("s" if out.dtype.itemsize == 4 else "d")
    to = _stored(out)
    long = k >= LONG_RATIO * max(*out.shape, parts * LONG_STEP) and out.size * k >= parts * LONG_WORK
    if not (batch and parts > 1 and long and _stored(a) and _stored(b) and to and to[0] == _NO_TRANS):
        if add:
            add_product(a, b, out)
        else:
            np.matmul(a, b, out=out)
        return
    ends = [k * i // parts // LONG_STEP * LONG_STEP for i in range(parts)] + [k]
    others = [np.empty(out.shape, out.dtype) for _ in range(parts - 1)]
    jobs = [(a[:, i:j], b[i:j], each) for (i, j), each in zip(pairwise(ends), [out, *others], strict=True)]
    batch[1](jobs, [float(add)] + [0.0] * (parts - 1))
    for other in others:
        out += other


def _stored(m: Array) -> tuple[int, int] | None:
    """How BLAS sees a matrix: as it stands or transposed, and the elements from one line to the next; None: not."""
    size = m.itemsize
    if not (m.dtype.isnative and m.flags.aligned):
        return None
    for code, lines, line, step, stride in (
        (_NO_TRANS, m.shape[0], m.shape[1], m.strides[1], m.strides[0]),
        (_TRANS, m.shape[1], m.shape[0], m.strides[0], m.strides[1]),
    ):
        if (step == size or line == 1) and (lines == 1 or (stride % size == 0 and stride >= line * size)):
            return code, line if lines == 1 else stride // size
    return None


Gemm = Callable[[int, int, int, int, int, Array, Array, Array], None]


@functools.cache
def _library() -> Any:
    """NumPy's extension module, through which its BLAS is found; None where there is none."""
    module = sys.modules.get("numpy._core._multiarray_umath") or sys.modules.get("numpy.core._multiarray_umath")
    path = getattr(module, "__file__", None)
    try:
        return path and ctypes.CDLL(path)
    except OSError:
        return None


@functools.cache
def _gemm(kind: str) -> tuple[str, Gemm] | None:
    """The gemm of NumPy's BLAS for "s" or "d", with its name; None where it is not found or fails its trial."""
    for name, integer in _NAMES:
        function = getattr(_library(), name.format(kind), None)
        if function is not None:
            call = _bound(function, kind, integer)
            return (name.format("{s,d}"), call) if _passes(call, np.float32 if kind == "s" else np.float64) else None
    return None


def _bound(function: Any, kind: str, integer: Any) -> Gemm:
    """cblas_?gemm with its types; alpha = beta = 1."""
    real = ctypes.c_float if kind == "s" else ctypes.c_double
    code, pointer = ctypes.c_int, ctypes.c_void_p
    function.argtypes = [code, code, code, integer, integer, integer]
    function.argtypes += [real, pointer, integer, pointer, integer, real, pointer, integer]
    function.restype = None

    def call(a_code: int, lda: int, b_code: int, ldb: int, ldc: int, a: Array, b: Array, out: Array) -> None:
        m, n, k = *out.shape, a.shape[1]
        data = a.ctypes.data, b.ctypes.data, out.ctypes.data
        function(_ROW_MAJOR, a_code, b_code, m, n, k, 1.0, data[0], lda, data[1], ldb, 1.0, data[2], ldc)

    return call


def _passes(call: Gemm, dtype: Any) -> bool:
    """Whether small integers, of which every product and sum is exact, come out right, in all four orders."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((5, 3), (3, 7), (5, 7)))
    for left in (a, np.asfortranarray(a)):
        for right in (b, np.asfortranarray(b)):
            out = np.full((5, 9), 77, dtype)
            out[:, :7] = c
            stored = _stored(left), _stored(right)
            call(*(stored[0] or (0, 0)), *(stored[1] or (0, 0)), 9, left, right, out[:, :7])
            if not (np.array_equal(out[:, :7], c + a @ b) and (out[:, 7:] == 77).all()):
                return False
    return True


Job = tuple[Array, Array, Array]  # a, b, out
Batch = Callable[[list[Job], list[float]], None]


@functools.cache
def _batch(kind: str) -> tuple[Callable[[], int], Batch] | None:
    """The number of BLAS's threads, and out = beta out + a b of several jobs at once, each on one of them; or None."""
    for (_, integer), name, threads in zip(_NAMES, _BATCH_NAMES, _THREADS_NAMES, strict=True):
        function, count = getattr(_library(), name.format(kind), None), getattr(_library(), threads, None)
        if function is not None and count is not None:
            call = _bound_batch(function, kind, integer)
            count.argtypes, count.restype = [], ctypes.c_int
            return (count, call) if _batch_passes(call, np.float32 if kind == "s" else np.float64) else None
    return None


def _bound_batch(function: Any, kind: str, integer: Any) -> Batch:
    """cblas_?gemm_batch with its types, each job a group of its own; alpha = 1."""
    real = ctypes.c_float if kind == "s" else ctypes.c_double
    code, pointer = ctypes.c_int, ctypes.c_void_p
    function.argtypes = [code, *[pointer] * 13, integer, pointer]
    function.restype = None

    def call(jobs: list[Job], betas: list[float]) -> None:
        n = len(jobs)
        arrays = list(zip(*jobs, strict=True))
        stored = [[_stored(m) or (0, 0) for m in each] for each in arrays]
        codes = [(code * n)(*(c for c, _ in each)) for each in stored]
        lines = [(integer * n)(*(line for _, line in each)) for each in stored]
        data = [(pointer * n)(*(m.ctypes.data for m in each)) for each in arrays]
        sizes = [(integer * n)(*each) for each in zip(*((*out.shape, a.shape[1]) for a, _, out in jobs), strict=True)]
        ones = (integer * n)(*[1] * n)
        function(
            _ROW_MAJOR, codes[0], codes[1], *sizes, (real * n)(*[1.0] * n), data[0], lines[0], data[1], lines[1],
            (real * n)(*betas), data[2], lines[2], n, ones,
        )  # fmt: skip

    return call


def _batch_passes(call: Batch, dtype: Any) -> bool:
    """The same trial, of parts as large as the smallest that are ever made: smaller ones are not safe to try."""
    rng = np.random.default_rng(0)
    m, n = 200, 208
    half = -(-LONG_WORK // (m * n))
    a, b, c = (rng.integers(-9, 9, shape, np.int8).astype(dtype) for shape in ((m, 2 * half), (2 * half, n), (m, n)))
    out, other = np.empty((m, n + 6), dtype), np.empty((m, n), dtype)
    for left in (a, np.asfortranarray(a)):
        for right in (b, np.asfortranarray(b)):
            out[:, :n], out[:, n:], other[:] = c, 77, np.nan
            call([(left[:, :half], right[:half], out[:, :n]), (left[:, half:], right[half:], other)], [1.0, 0.0])
            if not (np.array_equal(out[:, :n] + other, c + a @ b) and (out[:, n:] == 77).all()):
                return False
    return True
