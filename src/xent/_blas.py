"""A product added to what is there, ``out += a @ b``, which `numpy.matmul` cannot do.

NumPy's own BLAS can (gemm with beta = 1). It is called where NumPy's extension module leads to it under one of the
names that NumPy's builds use, and where it passes a trial on small integers; `accumulation` says whether. Otherwise the
product is made with `numpy.matmul` in slabs of rows of `out`, which are then added.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from xent._arrays import Array

__all__ = ["accumulation", "add_product"]

SLAB_BYTES = 2**20
_ROW_MAJOR, _NO_TRANS, _TRANS = 101, 111, 112
# name, type of its integers: OpenBLAS in NumPy's wheels; ILP64 and LP64 builds of OpenBLAS, BLIS, MKL, Accelerate
_NAMES = (
    ("scipy_cblas_{}gemm64_", ctypes.c_int64),
    ("cblas_{}gemm64_", ctypes.c_int64),
    ("cblas_{}gemm", ctypes.c_int),
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
def _gemm(kind: str) -> tuple[str, Gemm] | None:
    """The gemm of NumPy's BLAS for "s" or "d", with its name; None where it is not found or fails its trial."""
    module = sys.modules.get("numpy._core._multiarray_umath") or sys.modules.get("numpy.core._multiarray_umath")
    path = getattr(module, "__file__", None)
    if path is None:
        return None
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    for name, integer in _NAMES:
        function = getattr(library, name.format(kind), None)
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
