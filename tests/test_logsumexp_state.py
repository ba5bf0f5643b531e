"""logsumexp in parts: the bits of the whole however it is grouped, and what is refused."""

import inspect
import pickle

import numpy as np
import oracle
import pytest

import xent
from xent import LogSumExpState, _kernels, reference

BLOCK = _kernels.BLOCK_CLASSES


def row_kinds(dtype, classes):
    """Rows with every kind of block: plain, guarded, far, empty, infinite, NaN, and one large logit."""
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 5, (9, classes))
    z[1] *= 60
    z[2] = np.linspace(-3e4, 3e4, classes)
    z[3] += 1e5
    z[4, : classes // 2] = -np.inf
    z[5] = -np.inf
    z[6, classes // 3] = np.inf
    z[7, classes // 5] = np.nan
    z[8, classes // 7] = 2e5
    return z.astype(dtype)


def state_of(z, cuts=(), start=None):
    state = LogSumExpState(start)
    for part in np.split(z, cuts, axis=-1):
        state.update(part)
    return state


def same(a, b):
    np.testing.assert_array_equal(a, b)
    assert np.asarray(a).dtype == np.asarray(b).dtype
    assert np.array_equal(np.signbit(a), np.signbit(b))


@pytest.mark.parametrize("classes", [1, 100, BLOCK, BLOCK + 1, 4 * BLOCK, 5 * BLOCK + 17])
def test_bits_of_aligned_parts(classes, dtype, tier):
    z = row_kinds(dtype, classes)
    whole = xent.logsumexp(z, axis=-1)
    edges = list(range(BLOCK, classes, BLOCK))
    groupings = [[], edges, edges[::2], edges[1::2], edges[-1:]]
    for cuts in groupings:
        same(state_of(z, cuts).value(), whole)
        pieces = np.split(z, cuts, axis=-1)
        left = LogSumExpState()
        for piece in pieces:  # ((a + b) + c) + d
            left.merge(state_of(piece))
        same(left.value(), whole)
        right = LogSumExpState()
        for piece in reversed(pieces):  # a + (b + (c + d))
            merged = state_of(piece)
            merged.merge(right)
            right = merged
        same(right.value(), whole)
        starts = [0, *cuts]
        anyhow = LogSumExpState(0)
        for i in np.random.default_rng(0).permutation(len(pieces)):  # in any order
            anyhow.merge(state_of(pieces[i], start=starts[i]))
        same(anyhow.value(), whole)
        assert anyhow.classes == classes


@pytest.mark.parametrize("cuts", [[1], [3, 700], [BLOCK - 1], [BLOCK + 5, 2 * BLOCK]])
def test_parts_of_any_length(cuts, dtype):
    """Within 2 ulp of the truth, wherever the cuts are."""
    z = np.random.default_rng(2).normal(0, 4, 2 * BLOCK + 9).astype(dtype)
    truth = oracle.Truth(oracle.lse_row(z), z.dtype, oracle.gap_row(z))
    oracle.check("LogSumExpState", state_of(z, cuts).value(), truth, 2)


def test_no_classes():
    state = LogSumExpState()
    assert state.value() == -np.inf
    assert state.classes == 0
    state.update(np.zeros((2, 0), np.float32))
    same(state.value(), np.full(2, -np.inf, np.float32))
    state.update(np.zeros((2, 3), np.float32))
    same(state.value(), np.full(2, np.log(np.float32(3))))


def test_a_state_goes_on_after_a_value():
    z = np.random.default_rng(0).normal(size=3 * BLOCK)
    state = LogSumExpState()
    for i in range(3):
        state.update(z[i * BLOCK : (i + 1) * BLOCK])
        same(state.value(), xent.logsumexp(z[: (i + 1) * BLOCK]))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axis(axis):
    z = np.random.default_rng(0).normal(size=(4, 5, 6))
    state = LogSumExpState()
    state.update(z, axis=axis)
    same(state.value(), xent.logsumexp(z, axis=axis))


def test_pickle_and_merge_leave_the_other_as_it_is():
    z = np.random.default_rng(0).normal(size=(3, 3 * BLOCK))
    left, right = state_of(z[:, :BLOCK]), pickle.loads(pickle.dumps(state_of(z[:, BLOCK:])))
    before = right.value().copy()
    left.merge(right)
    same(left.value(), xent.logsumexp(z, axis=-1))
    same(right.value(), before)
    left.update(z[:, :5])
    assert right.classes == 2 * BLOCK


def test_memmap(tmp_path):
    z = np.random.default_rng(0).normal(size=(2, 2 * BLOCK)).astype(np.float32)
    z.tofile(tmp_path / "z")
    mapped = np.memmap(tmp_path / "z", np.float32, "r", shape=z.shape)
    same(state_of(mapped, [BLOCK]).value(), xent.logsumexp(z, axis=-1))


def test_reference():
    z = np.random.default_rng(0).normal(size=(2, 3, 10))
    ours, theirs = LogSumExpState(), reference.LogSumExpState()
    for state, kind in ((ours, LogSumExpState), (theirs, reference.LogSumExpState)):
        state.update(z[..., :4])
        other = kind(7)
        other.update(z[..., 7:])
        state.merge(other)
        late = kind(4)
        late.update(np.moveaxis(z[..., 4:7], -1, 0), axis=0)
        state.merge(late)
        assert state.classes == 10
    np.testing.assert_allclose(ours.value(), theirs.value(), rtol=1e-15)
    with pytest.raises(ValueError, match="class 4 is in both"):
        theirs.merge(late)


@pytest.mark.parametrize("name", ["update", "merge", "value"])
def test_methods_are_the_reference_s(name):
    ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (LogSumExpState, reference.LogSumExpState))
    assert list(ours.parameters) == list(theirs.parameters)
    for parameter in ours.parameters:
        assert ours.parameters[parameter].default == theirs.parameters[parameter].default
    assert inspect.getdoc(getattr(LogSumExpState, name))


def test_refused():
    state = state_of(np.zeros((2, 5)))
    for start in (-1, 1.5, True, "0"):
        with pytest.raises(ValueError, match="start must be a class number from 0, or None; got"):
            LogSumExpState(start)
    with pytest.raises(ValueError, match="block must have a class axis"):
        state.update(1.0)
    with pytest.raises(ValueError, match=r"rows of shape \(2,\) were given before; got shape \(3,\)"):
        state.update(np.zeros((3, 5)))
    with pytest.raises(TypeError, match="logits of dtype float64 were given before; got dtype float32"):
        state.update(np.zeros((2, 5), np.float32))
    with pytest.raises(TypeError, match="block must be real"):
        state.update([[1j], [0]])
    with pytest.raises(TypeError, match="other must be a LogSumExpState, got list"):
        state.merge([])
    with pytest.raises(ValueError, match="class 3 is in both states"):
        state.merge(state_of(np.zeros((2, 5)), start=3))
    with pytest.raises(ValueError, match="were given before"):
        state.merge(state_of(np.zeros(5)))
    assert state.classes == 5
