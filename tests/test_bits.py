"""The same bits from every tier, thread count, batch split, row position, layout, alignment and byte order,
in place or not, after any history, and with flush-to-zero and denormals-are-zero switched on by somebody
else.

`golden_bits.txt` pins the hashes of the results of fixed inputs; after a change that is meant to change bits:
python tests/test_bits.py > tests/golden_bits.txt
"""

import ctypes
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xent
from xent import _kernels

GOLDEN = Path(__file__).with_name("golden_bits.txt")
SHAPES = [
    (1, 1),
    (33, 2),
    (70, 10),
    (17, 63),
    (16, 64),
    (15, 65),
    (5, 1000),
    (3, 2047),
    (4, 2049),
    (2, 6145),
    (40, 2000),
]


def logits(rows, classes, dtype):
    """From integers alone, so that no other library's bits matter: rows of ordinary, wide and huge spread."""
    k = np.arange(rows * classes, dtype=np.uint64).reshape(rows, classes)
    mixed = (k * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)) >> np.uint64(40)
    z = (mixed.astype(np.int64) - 2**23).astype(np.float64) / 2**20  # in [-8, 8)
    scale = np.array([1, 0.125, 16, 1, 4096])[np.arange(rows) % 5]
    return (z * scale[:, None]).astype(dtype)


def inputs(rows, classes, dtype):
    z = logits(rows, classes, dtype)
    y = (np.arange(rows) * 7 + 3) % classes
    q = (np.abs(logits(rows, classes, np.float64)) % 1).astype(dtype)
    return z, y, q


def layers(z, q):
    """Every activation, z being the products; and its backward pass, q being the gradients: dz, db and norms."""
    z, q = (np.array(a, a.dtype.newbyteorder("="), order="C") for a in (z, q))
    found = []
    for code in range(9):
        y, saved, dz, db, squares = z.copy(), np.empty_like(z), np.empty_like(z), z[0].copy(), np.empty(len(z))
        _kernels.bias_activation(y, z[-1].copy(), code, saved)
        _kernels.activation_backward(q, saved if code > 5 else y, code, dz, db, True, squares)
        found += [y, saved, dz, db, squares]
    return found


OPTIONS = {"label_smoothing": 0.125, "z_loss": 0.0625, "ignore_index": 0}
ROWWISE = {
    "logsumexp": lambda z, y, q, axis=-1: [xent.logsumexp(z, axis=axis)],
    "weighted logsumexp": lambda z, y, q, axis=-1: xent.logsumexp(z, axis=axis, b=q - 0.25, return_sign=True),
    "softmax": lambda z, y, q, axis=-1: [xent.softmax(z, axis=axis)],
    "log_softmax": lambda z, y, q, axis=-1: [xent.log_softmax(z, axis=axis)],
    "index": lambda z, y, q, axis=-1: xent.cross_entropy_with_grad(z, y, reduction="none", return_lse=True, axis=axis),
    "options": lambda z, y, q, axis=-1: xent.cross_entropy_with_grad(z, y, reduction="none", axis=axis, **OPTIONS),
    "probabilities": lambda z, y, q, axis=-1: xent.cross_entropy_with_grad(z, q, reduction="none", axis=axis),
    "hessian_diag": lambda z, y, q, axis=-1: [xent.cross_entropy_hessian_diag(z, y, reduction="none", axis=axis)],
    "hvp": lambda z, y, q, axis=-1: [xent.cross_entropy_hvp(z, y, q, reduction="none", axis=axis)],
}
WHOLE = {
    "mean": lambda z, y, q: xent.cross_entropy_with_grad(z, y),
    "sum": lambda z, y, q: [xent.cross_entropy(z, y, reduction="sum", sample_weight=np.arange(len(z)))],
    "mean, probabilities": lambda z, y, q: xent.cross_entropy_with_grad(z, q, class_weight=np.arange(z.shape[1])),
    "sigmoid": lambda z, y, q: xent.sigmoid_cross_entropy_with_grad(z, q),
    "layers": lambda z, y, q: layers(z, q),
}
functions = pytest.mark.parametrize("function", (ROWWISE | WHOLE).values(), ids=ROWWISE | WHOLE)
rowwise = pytest.mark.parametrize("function", ROWWISE.values(), ids=ROWWISE)


def bits(results):
    """The bytes of each result in C order, NaN of any kind as one."""
    found = []
    for a in results:
        a = np.array(a, order="C")
        a[np.isnan(a)] = np.nan
        found.append(a.tobytes())
    return found


def digest(name, dtype):
    """One hash over all shapes, in little-endian."""
    sha = hashlib.sha256()
    for shape in SHAPES:
        for a in (ROWWISE | WHOLE)[name](*inputs(*shape, dtype)):
            a = np.array(a, order="C")
            a[np.isnan(a)] = np.nan
            sha.update(a.astype(a.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()[:32]


def golden_lines():
    return [f"{np.dtype(d)} {digest(n, d)} {n}" for d in (np.float32, np.float64) for n in ROWWISE | WHOLE]


def test_golden_bits(tier):
    assert golden_lines() == GOLDEN.read_text().splitlines()


@functions
def test_threads(tier, dtype, function, threads):
    for shape in ((400, 100), (7, 9000), (5000, 10)):
        z, y, q = inputs(*shape, dtype)
        xent.set_num_threads(1)
        expected = bits(function(z, y, q))
        for n in range(2, 9):
            xent.set_num_threads(n)
            assert bits(function(z, y, q)) == expected, n


@functions
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiers(dtype, function, shape, every_tier):
    results = {name: bits(function(*inputs(*shape, dtype))) for name in every_tier()}
    assert all(result == results[_kernels.tiers()[0]] for result in results.values())


@rowwise
@pytest.mark.parametrize("shape", [(70, 10), (40, 65), (9, 2049)], ids=str)
def test_splits_and_positions(tier, dtype, function, shape):
    z, y, q = inputs(*shape, dtype)
    whole = [np.asarray(a) for a in function(z, y, q)]
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 7, 15, 16, 17, 31):
        for start in range(0, shape[0], 11):
            part = slice(start, start + size)
            assert bits(function(z[part], y[part], q[part])) == bits(a[part] for a in whole), (start, size)
    order = rng.permutation(shape[0])
    assert bits(function(z[order], y[order], q[order])) == bits(a[order] for a in whole)
    alone = function(z[4], y[4], q[4])
    assert bits(alone) == bits(a[4] for a in whole)


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    assert not raw.flags.aligned
    return raw


def strided(a, steps):
    """`a` as a view with these steps in a larger array, whose other elements are NaN."""
    big = np.full([n * abs(s) for n, s in zip(a.shape, steps, strict=True)], np.nan, a.dtype)
    view = big[tuple(slice(None, None, s) for s in steps)]
    view[...] = a
    return view


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided classes": lambda a: strided(a, (1, 3)),
    "strided rows": lambda a: strided(a, (2, 1)),
    "negative classes": lambda a: strided(a, (1, -1)),
    "negative rows": lambda a: strided(a, (-1, 1)),
    "negative, strided": lambda a: strided(a, (-2, -3)),
    "misaligned": misaligned,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "swapped and misaligned": lambda a: misaligned(a.astype(a.dtype.newbyteorder())),
    "offset by one": lambda a: np.concatenate([[0], a.ravel()]).astype(a.dtype)[1:].reshape(a.shape),
}


@functions
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tier, dtype, function, layout):
    for shape in ((33, 10), (5, 65), (3, 2049)):
        z, y, q = inputs(*shape, dtype)
        expected = bits(function(z, y, q))
        assert bits(function(layout(z), y, q)) == expected
        assert bits(function(z, y, layout(q))) == expected
        assert bits(function(layout(z), y, layout(q))) == expected


@rowwise
def test_class_axis_first(tier, dtype, function):
    for shape in ((33, 10), (5, 65), (3, 2049)):
        z, y, q = inputs(*shape, dtype)
        expected = function(z, y, q)
        for a, b in ((z.T, q.T), (z.T.copy(), q.T.copy())):
            got = [r.T if np.ndim(r) == 2 else r for r in function(a, y, b, axis=0)]
            assert bits(got) == bits(expected)


WRITERS = {
    "softmax": lambda z, y, q, out: xent.softmax(z, axis=-1, out=out),
    "log_softmax": lambda z, y, q, out: xent.log_softmax(z, axis=-1, out=out),
    "index": lambda z, y, q, out: xent.cross_entropy_with_grad(z, y, out=out)[1],
    "smoothed": lambda z, y, q, out: xent.cross_entropy_with_grad(z, y, out=out, label_smoothing=0.1)[1],
    "probabilities": lambda z, y, q, out: xent.cross_entropy_with_grad(z, q, out=out)[1],
    "sigmoid": lambda z, y, q, out: xent.sigmoid_cross_entropy_with_grad(z, q, out=out)[1],
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_place_and_other_outs(tier, dtype, write, shape):
    z, y, q = inputs(*shape, dtype)
    expected = bits([write(z, y, q, None)])
    here = z.copy()
    assert write(here, y, q, here) is here
    assert bits([here]) == expected
    for layout in ("Fortran", "strided classes", "negative, strided", "misaligned"):
        out = LAYOUTS[layout](np.zeros_like(z))
        assert bits([write(z, y, q, out)]) == expected
        here = LAYOUTS[layout](z.copy())
        assert bits([write(here, y, q, here)]) == expected


@rowwise
@pytest.mark.parametrize("classes", [10, 65, 2049, 5000])
def test_history_does_not_matter(tier, dtype, function, classes):
    """What rows before one have made a kernel expect (wide, huge, infinite, NaN) changes no bit of it."""
    z, y, q = inputs(5, classes, dtype)
    expected = bits([np.asarray(a)[1:2] for a in function(z[:2], y[:2], q[:2])])
    outlier = {
        "wide": (0, -5e3),
        "huge": (3e38, 1.0),
        "low": (-1e30, 0.0),
        "inf": (np.inf, 0),
        "-inf": (0, -np.inf),
        "nan": (np.nan, 1),
    }
    for name, (one, other) in outlier.items():
        before = z[:2].copy()
        before[0, ::2], before[0, 1::2] = one, other
        got = function(before, y[:2], q[:2])
        assert bits([np.asarray(a)[1:2] for a in got]) == expected, name


@rowwise
def test_plain_and_careful_blocks(tier, dtype, function):
    """A block at the border of the range that is summed directly; beside it, blocks out of the range."""
    for low, high in (
        (-57, 60),
        (-640, 600),
        (-56.99, 59.99),
        (-57.01, 60.01),
        (0, 88.7),
        (-87.3, 0),
        (-103, 70),
    ):
        z, y, q = inputs(6, 4100, dtype)
        z = np.clip(z, low, high)
        z[1, 0], z[2, 2048], z[3, 4099], z[4, :2048] = low, high, low, high
        rows = [bits(np.asarray(a)[k] for a in function(z, y, q)) for k in range(6)]
        assert rows == [
            bits(np.asarray(a)[0] for a in function(z[k : k + 1], y[k : k + 1], q[k : k + 1])) for k in range(6)
        ]


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    """get() and set(): the floating-point control register of this thread."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler to reach the control register with")
    folder = tmp_path_factory.mktemp("control")
    (folder / "control.c").write_text(
        """
        #if defined(__x86_64__)
        #include <xmmintrin.h>
        unsigned long get(void) { return _mm_getcsr(); }
        void set(unsigned long v) { _mm_setcsr((unsigned)v); }
        unsigned long flushing(void) { return 0x8040; } /* FTZ and DAZ */
        #elif defined(__aarch64__)
        unsigned long get(void) { unsigned long v; __asm__("mrs %0, fpcr" : "=r"(v)); return v; }
        void set(unsigned long v) { __asm__ volatile("msr fpcr, %0" :: "r"(v)); }
        unsigned long flushing(void) { return 1ul << 24; } /* FZ */
        #endif
        """
    )
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", folder / "control.so", folder / "control.c"], check=True)
    library = ctypes.CDLL(str(folder / "control.so"))
    if not hasattr(library, "get"):
        pytest.skip("an architecture whose control register this test does not know")
    library.get.restype = library.flushing.restype = ctypes.c_ulong
    library.set.argtypes = [ctypes.c_ulong]
    return library


def border_logits(rows, classes, dtype):
    """Rows whose probabilities run down through the smallest normal number, and subnormal logits."""
    info = np.finfo(dtype)
    z = logits(rows, classes, dtype)
    z[0] = np.linspace(float(np.log(info.tiny)) - 20, float(np.log(info.tiny)) + 20, classes)
    z[0, -1] = 0
    z[1] = info.smallest_subnormal * np.arange(classes)
    z[2] = info.tiny / 2
    z[3, 0] = 200
    return z


@functions
@pytest.mark.parametrize("n_threads", [1, 2])
def test_flush_to_zero(tier, dtype, function, control, threads, n_threads):
    """Set in the calling thread, whose share of the rows it would change; workers (2 threads) keep their own
    control register, so that the batch would also differ within itself.
    """
    xent.set_num_threads(n_threads)
    normal = control.get()
    for shape in ((40, 10), (33, 65), (40, 2049)):
        _, y, q = inputs(*shape, dtype)
        z = border_logits(*shape, dtype)
        expected = bits(function(z, y, q))
        try:
            control.set(normal | control.flushing())
            assert dtype.type(np.finfo(dtype).tiny) * dtype.type(0.5) == 0  # it is on
            got = function(z, y, q)
        finally:
            control.set(normal)
        assert bits(got) == expected


if __name__ == "__main__":
    sys.stdout.write("\n".join(golden_lines()) + "\n")
