"""Small calls: arrays that kernels take as they are, without options, go a short way (src/xent/_plain.pxi). What it
returns has the bits of the long way, and where something is at fault, the long way says what."""

import ml_dtypes
import numpy as np
import pytest

import xent
from xent import _kernels

DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
SHAPES = [(10,), (1, 1), (5, 3), (32, 10), (2, 3, 4), (2, 1, 3, 2), (3, 200)]


def logits(shape, dtype):
    return np.random.default_rng(0).normal(0, 3, shape).astype(dtype)


def labels(z, axis, dtype=np.int64):
    shape = z.shape[: axis % z.ndim] + z.shape[axis % z.ndim + 1 :]
    return np.random.default_rng(1).integers(0, z.shape[axis], shape).astype(dtype)


def same(a, b):
    assert type(a) is type(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


@pytest.fixture
def long_way(monkeypatch):
    """From its call on, nothing is plain; what the short way returned till then."""
    returned = []

    def watch(name):
        short = getattr(_kernels, name)

        def watched(*given):
            returned.append(short(*given))
            return returned[-1]

        monkeypatch.setattr(_kernels, name, watched)

    names = "plain_cross_entropy", "plain_logsumexp", "plain_softmax"
    for name in names:
        watch(name)

    def begin():
        for name in names:
            monkeypatch.setattr(_kernels, name, lambda *given: None)
        return returned

    return begin


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_axis(shape, dtype, long_way):
    z = logits(shape, dtype)
    grads = []

    def results():
        found = []
        for axis in range(-z.ndim, z.ndim):
            y = labels(z, axis)
            found.append(xent.cross_entropy(z, y, axis=axis))
            for out in (None, np.full_like(z, 7), z.copy()):
                loss, grad = xent.cross_entropy_with_grad(z, y, axis=axis, out=out)
                found += [loss, grad]
                grads.append((grad, out))
        for axis in (None, *range(-z.ndim, z.ndim)):
            for function in (xent.softmax, xent.log_softmax):
                found.append(function(z, axis))
                in_place = z.copy()
                function(in_place, axis, out=in_place)
                found += [in_place, function(z, axis, out=np.full_like(z, 7))]
            if z.itemsize > 2:
                found.append(xent.logsumexp(z, axis))
                found.append(xent.logsumexp(z, axis, out=np.full(np.shape(found[-1]), 7, dtype)))
        return found

    short = results()
    went = long_way()
    assert len(went) == 8 * z.ndim + (6 if z.itemsize == 2 else 8) * (2 * z.ndim + 1)
    assert all(x is not None for x in went)
    for a, b in zip(short, results(), strict=True):
        same(a, b)
    assert all(grad is out for grad, out in grads if out is not None)


@pytest.mark.parametrize("integers", [np.uint8, np.int16, np.int32, np.uint64], ids=lambda t: np.dtype(t).name)
def test_labels_of_any_width(integers, long_way):
    z = logits((5, 3), np.float32)
    short = xent.cross_entropy(z, labels(z, 1, integers), axis=1)
    assert long_way() == [short]
    same(short, xent.cross_entropy(z, labels(z, 1, integers), axis=1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_odd_numbers_and_many_of_them(dtype, long_way):
    """Beyond LONG_WORK, from which the GIL is released; rows with what is not finite."""
    z = logits((200, 100), dtype)
    z[::7, 0] = np.nan
    z[::11, -1] = np.inf
    z[::13] = -np.inf

    def results():
        loss, grad = xent.cross_entropy_with_grad(z, labels(z, 0), axis=0)
        return loss, grad, xent.softmax(z, 1), xent.log_softmax(z, 1), xent.softmax(z, 0), xent.cross_entropy(z[1:7], y)

    y = labels(z[1:7], 1)
    short = results()
    assert all(x is not None for x in long_way())
    for a, b in zip(short, results(), strict=True):
        same(a, b)


def views():
    z = logits((6, 4), np.float32)
    yield "strides", z[::2, ::-1], True
    yield "Fortran order", np.asfortranarray(z), True
    yield "read-only", np.lib.stride_tricks.as_strided(z, writeable=False), True
    yield "byte order", z.astype(">f4"), False
    yield "a subclass", z.view(np.recarray), False
    yield "integers", z.astype(np.int64), False
    yield "a list", z.tolist(), False
    room = np.zeros(z.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(z.shape)
    room[...] = z
    yield "misaligned", room, True


@pytest.mark.parametrize(("z", "plain"), [pytest.param(z, plain, id=name) for name, z, plain in views()])
def test_what_is_plain(z, plain, long_way):
    y = labels(np.asarray(z), 1)

    def results():
        return xent.cross_entropy(z, y), xent.logsumexp(z, 1), xent.softmax(z, 1), xent.log_softmax(z, axis=0)

    short = results()
    assert [x is not None for x in long_way()] == 4 * [plain]
    for a, b in zip(short, results(), strict=True):
        same(a, b)


z = logits((4, 4), np.float32)
read_only = z.copy()
read_only.flags.writeable = False
pairs = np.zeros((4, 2), np.int64)
FAULTS = {
    "axis above": lambda: xent.softmax(z, 2),
    "axis below": lambda: xent.logsumexp(z, -3),
    "axis beyond": lambda: xent.cross_entropy(z, [0] * 4, axis=2**80),
    "axis no integer": lambda: xent.softmax(z, 1.0),
    "out of another shape": lambda: xent.softmax(z, 1, out=np.empty((4, 5), np.float32)),
    "out of fewer axes": lambda: xent.logsumexp(z, 1, out=np.empty((), np.float32)),
    "out of another dtype": lambda: xent.log_softmax(z, 1, out=np.empty((4, 4))),
    "out of another byte order": lambda: xent.log_softmax(z, 1, out=np.empty((4, 4), ">f4")),
    "out read-only": lambda: xent.softmax(z, 1, out=read_only),
    "out folded": lambda: xent.softmax(z, 1, out=np.broadcast_to(z[:1], (4, 4))),
    "out a list": lambda: xent.softmax(z, 1, out=z.tolist()),
    "out overlaps": lambda: xent.softmax(z, 1, out=z[::-1]),
    "out within": lambda: xent.logsumexp(z, 1, out=z[0]),
    "gradient overlaps": lambda: xent.cross_entropy_with_grad(z, [0] * 4, axis=0, out=z[::-1]),
    "gradient over labels": lambda: xent.cross_entropy_with_grad(z, pairs[:, 0], axis=0, out=pairs.view(np.float32)),
    "a label too large": lambda: xent.cross_entropy(z, np.array([0, 4, 0, 0]), axis=0),
    "labels of another shape": lambda: xent.cross_entropy(z, np.zeros(3, int), axis=0),
    "no classes": lambda: xent.cross_entropy(z[:0], np.zeros(4, int), axis=0),
}


@pytest.mark.parametrize("call", FAULTS.values(), ids=FAULTS)
def test_faults_have_one_text(call, long_way):
    before = z.tobytes()
    with pytest.raises((ValueError, TypeError)) as short:
        call()
    assert [x for x in long_way() if x is not None] == []
    with pytest.raises(type(short.value)) as long:
        call()
    assert str(short.value) == str(long.value)
    assert z.tobytes() == before


def test_arguments_that_go_the_long_way(long_way):
    z, y = logits((5, 3), np.float32), np.zeros((5, 4), np.int64)[:, 0]
    deep, its = logits((4, 5, 3), np.float32), labels(logits((4, 5, 3), np.float32), 2)
    backwards, misaligned = np.zeros(5, np.float32)[::-1], np.zeros(21, np.uint8)[1:].view(np.float32)

    def results():
        return (
            xent.softmax(z, np.int64(1)),
            xent.softmax(z, (0, 1)),
            xent.logsumexp(z, (1,)),
            xent.logsumexp(z, 1, out=backwards).copy(),
            xent.logsumexp(z, 1, out=misaligned).copy(),
            xent.cross_entropy(deep, np.asfortranarray(its)),
            xent.cross_entropy(z, y, axis=np.int8(-1)),
        )

    short = results()
    assert long_way() == [None] * len(short)
    for a, b in zip(short, results(), strict=True):
        same(a, b)


def test_sizes_of_zero_and_no_axes(long_way):
    def results():
        return (
            xent.softmax(np.empty((0, 3)), 1),
            xent.softmax(np.float32(2.0)),
            xent.softmax(np.float32(2.0), -1),
            xent.logsumexp(np.empty((2, 0)), 1),
            xent.logsumexp(np.empty((0, 2)), 1),
        )

    short = results()
    long_way()
    for a, b in zip(short, results(), strict=True):
        same(a, b)
