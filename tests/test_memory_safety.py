"""No byte outside an array is read or written: pages without access right after, and right before, each
array.
"""

import ctypes
import ctypes.util
import mmap
import sys

import numpy as np
import pytest

import xent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")

PAGE = mmap.PAGESIZE
LENGTHS = [*range(1, 20), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 2047, 2048, 2049, 4097]


class Guarded:
    """Arrays that end (or begin) where a page begins that may not be touched."""

    def __init__(self):
        self.maps = []
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def array(self, values, at_end):
        values = np.ascontiguousarray(values)
        pages = max(1, -(-values.nbytes // PAGE))
        space = mmap.mmap(-1, (pages + 2) * PAGE)
        whole = np.frombuffer(space, np.uint8)
        start = whole.ctypes.data
        for guard in (start, start + (pages + 1) * PAGE):
            assert self.libc.mprotect(guard, PAGE, 0) == 0
        self.maps.append((space, start, pages))
        offset = PAGE + (pages * PAGE - values.nbytes if at_end else 0)
        view = whole[offset : offset + values.nbytes].view(values.dtype).reshape(values.shape)
        view[...] = values
        return view

    def release(self):
        for _, start, pages in self.maps:
            self.libc.mprotect(start, (pages + 2) * PAGE, 3)


@pytest.fixture
def guarded():
    made = Guarded()
    yield made.array
    made.release()


def all_calls(z, y, q, w, out):
    n = z.shape[1]
    xent.logsumexp(z, axis=1)
    xent.logsumexp(z, axis=1, b=q)
    xent.softmax(z, axis=1, out=out)
    xent.log_softmax(z, axis=1, out=out)
    xent.cross_entropy_with_grad(z, y, out=out, class_weight=w[:n])
    xent.cross_entropy_with_grad(z, y, out=out, label_smoothing=0.1, ignore_index=0)
    xent.cross_entropy_with_grad(z, q, out=out, sample_weight=w[: len(z)])
    xent.cross_entropy_hvp(z, y, q)
    xent.sigmoid_cross_entropy_with_grad(z, q, out=out, pos_weight=w[:n])
    xent.cross_entropy_with_grad(out, y, out=out)
    xent.softmax(out, axis=1, out=out)


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
@pytest.mark.parametrize("rows", [32, 47, 100])
def test_guard_pages_around_columns(tier, dtype, guarded, rows, at_end):
    """Rows side by side, of so many classes that they are packed a block of them at a time."""
    for n in (2049, 4097):
        z = np.random.default_rng(n).normal(0, 1, (n, rows)).astype(dtype)
        x, y, out = (guarded(a, at_end) for a in (z, np.arange(rows), z))
        xent.logsumexp(x, axis=0)
        xent.softmax(x, axis=0, out=out)
        xent.log_softmax(x, axis=0, out=out)
        xent.cross_entropy(x, y, axis=0)
        xent.cross_entropy_with_grad(x, y, axis=0, out=out)
        xent.cross_entropy_with_grad(x, y, axis=0, out=x)


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
@pytest.mark.parametrize("rows", [1, 3, 17])
def test_guard_pages(tier, dtype, guarded, rows, at_end):
    for n in LENGTHS if rows == 1 else [*LENGTHS[:30:3], 256]:
        rng = np.random.default_rng(n)
        z = rng.normal(0, (1, 100)[n % 2], (rows, n)).astype(dtype)
        arrays = [
            z,
            rng.integers(0, n, rows).astype(np.int32),
            rng.random((rows, n)).astype(dtype),
            rng.random(max(rows, n)),
        ]
        all_calls(*(guarded(a, at_end) for a in arrays), guarded(np.zeros_like(z), at_end))


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
def test_guard_pages_of_views(tier, dtype, guarded, at_end):
    """Strided, reversed, swapped and transposed rows, whose last element is the last one of the page."""
    for rows, n in ((3, 7), (2, 65), (16, 10), (2, 2049)):
        values = np.random.default_rng(n).normal(size=(rows, n)).astype(dtype)
        flat = guarded(np.repeat(values, 2, axis=1)[:, :-1] if rows == 1 else np.repeat(values, 2, axis=1), at_end)
        swapped = guarded(values.astype(dtype.newbyteorder()), at_end)
        straight, fortran = guarded(values, at_end), guarded(values.T, at_end).T
        y = guarded(np.zeros(rows, np.int8), at_end)
        for z in (flat[:, ::2], flat[:, 1::2], straight[::-1, ::-1], swapped, fortran):
            out = guarded(np.zeros((rows, n), dtype), at_end)
            for target in (out, out[::-1, ::-1], guarded(np.zeros((n, rows), dtype), at_end).T):
                xent.softmax(z, axis=1, out=target)
                xent.cross_entropy_with_grad(z, y, out=target)
                xent.cross_entropy_with_grad(z, np.abs(z), out=target)


@pytest.mark.parametrize("steps", [(1, 1), (2, 1), (1, 3), (-1, 1), (1, -2), (-2, -3)], ids=str)
@pytest.mark.parametrize("n", [1, 10, 64, 65, 2049])
def test_canaries(tier, dtype, steps, n):
    """Elements of the buffer that are not in the view of `out` stay as they were."""
    rows = 17 if n < 100 else 2
    rng = np.random.default_rng(n)
    z, y = rng.normal(0, 9, (rows, n)).astype(dtype), rng.integers(0, n, rows)
    margin = 3
    big = np.full((rows * 2 + 2 * margin, n * 3 + 2 * margin), 777, dtype)
    inner = big[margin : margin + rows * abs(steps[0]), margin : margin + n * abs(steps[1])]
    out = inner[:: steps[0], :: steps[1]]
    for write in (
        lambda: xent.softmax(z, axis=1, out=out),
        lambda: xent.log_softmax(z, axis=1, out=out),
        lambda: xent.cross_entropy_grad(z, y, out=out),
        lambda: xent.cross_entropy_grad(z, np.abs(z), out=out),
        lambda: xent.sigmoid_cross_entropy_with_grad(z, np.ones_like(z), out=out),
    ):
        big[...] = 777
        write()
        assert np.all(out != 777)
        assert np.count_nonzero(big != 777) == out.size
