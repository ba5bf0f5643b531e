"""The memory of mlp_with_grad: what a workspace and `out` keep, what they notice, and that a step allocates nothing."""

import sys
import tracemalloc

import numpy as np
import pytest
from test_mlp import batch, network, same_bits

import xent

STEADY_BYTES = 2048  # the scalar, the list and the tuple that are returned; far less than any array of the step


def agrees(workspace, params, x, targets, **given):
    found = xent.mlp_with_grad(params, x, targets, workspace=workspace, **given)
    expected = xent.mlp_with_grad(params, x, targets, **given)
    assert np.array_equal(found[0], expected[0])
    same_bits(found[1], expected[1])
    for got, wanted in zip(found[2:], expected[2:], strict=True):
        assert np.array_equal(got, wanted)
    return found


def test_it_follows_whatever_changes(dtype):
    params, (x, targets) = network([6, 9, 4], dtype), batch((8, 6), 4, dtype)
    workspace = xent.MlpWorkspace()
    first = agrees(workspace, params, x, targets)[1]
    for weight, bias in params:  # the same arrays with other numbers
        weight *= 2
        bias += 1
    assert agrees(workspace, params, x, targets)[1][0].weight is first[0].weight
    agrees(workspace, params, x[:5], targets[:5])  # other shapes of batches
    agrees(workspace, params, x[None], targets[None])
    agrees(workspace, params, x[0], targets[0])
    agrees(workspace, params, x, targets)
    agrees(workspace, params, x[1:6], targets[1:6])
    agrees(workspace, params, x[::2], targets[::2])
    params[1] = (params[1][0] * 3, params[1][1])  # another array in the same list
    assert agrees(workspace, params, x, targets)[1][0].weight is first[0].weight
    params[0] = (params[0][0], None)  # no bias
    agrees(workspace, params, x, targets)
    agrees(workspace, params, x, targets, activation="gelu")
    agrees(workspace, params, x, targets, activation=["tanh"])
    first = agrees(workspace, params, x, targets, activation=["tanh"], per_sample_norms=True)[1]
    assert agrees(workspace, params, x, targets, activation=["tanh"])[1][0].weight is first[0].weight
    agrees(workspace, params, x, targets, activation=["tanh"], per_sample_norms=True)
    agrees(workspace, params, x, targets, return_lse=True, label_smoothing=0.1)
    agrees(workspace, params, x, targets, reduction="none")
    agrees(workspace, network([6, 4], dtype), x, targets)  # another network
    agrees(workspace, network([6, 9, 9, 4], dtype), x, targets)
    other = np.dtype(np.float32 if dtype == np.float64 else np.float64)
    agrees(workspace, network([6, 9, 4], other), x.astype(other), targets)


def test_lists_are_read_anew():
    workspace, params = xent.MlpWorkspace(), [([[1.0, 2.0], [0.5, -1.0]], [0.0, 0.5])]
    agrees(workspace, params, [[1.0, 2.0]], [0])
    params[0][0][0][1] = 5.0
    agrees(workspace, params, [[1.0, 2.0]], [0])
    integers = np.array([[1, 2], [3, 4]])
    agrees(workspace, [(integers, None)], [[1.0, 2.0]], [0])
    integers += 1
    agrees(workspace, [(integers, None)], [[1.0, 2.0]], [0])


def test_other_kinds_of_arrays(dtype):
    """What has a dtype and a shape and is no ndarray, and subclasses, after a call with a plain array."""

    class Wrapped:
        def __init__(self, array):
            self.array, self.dtype, self.shape, self.ndim = array, array.dtype, array.shape, array.ndim

        def __array__(self, dtype=None, copy=None):
            return self.array

    params, (x, targets) = network([6, 9, 4], dtype), batch((8, 6), 4, dtype)
    workspace = xent.MlpWorkspace()
    expected = agrees(workspace, params, x, targets)[0]
    for other in (Wrapped(x), x.view(type("Sub", (np.ndarray,), {})), np.ma.masked_array(x), x.tolist()):
        if isinstance(other, list) and dtype == np.float32:
            continue  # a list is float64
        for _ in range(2):
            assert xent.mlp_with_grad(params, other, targets, workspace=workspace)[0] == expected


def test_out(dtype):
    params, (x, targets) = network([6, 9, 4], dtype), batch((8, 6), 4, dtype)
    expected = xent.mlp_with_grad(params, x, targets)[1]
    given = xent.mlp_with_grad(params, 2 * x, targets)[1]
    found = xent.mlp_with_grad(params, x, targets, out=given)[1]
    same_bits(found, expected)
    assert all(a is b for got, mine in zip(found, given, strict=True) for a, b in zip(got, mine, strict=True))
    workspace = xent.MlpWorkspace()
    for _ in range(2):
        given[0].weight[...] = given[1].bias[...] = 0
        same_bits(xent.mlp_with_grad(params, x, targets, out=given, workspace=workspace)[1], expected)
    same_bits(given, expected)
    own = xent.mlp_with_grad(params, x, targets, workspace=workspace)[1]
    assert own[0].weight is not given[0].weight
    # arrays that no product can write to, and places that are left to the call
    strided = np.empty((9, 12), dtype)[:, ::2]
    fortran = np.empty((4, 9), dtype, order="F")
    every_other = np.empty(8, dtype)[::2]
    found = xent.mlp_with_grad(params, x, targets, out=[(None, strided, None), (None, fortran, every_other)])[1]
    same_bits(found, expected)
    assert found[0].weight is strided
    assert found[1].weight is fortran
    assert found[1].bias is every_other


def test_what_the_last_call_computed(dtype):
    """`inputs` and `grad_z`: enough for the clipped sum of the samples' gradients of the whole network."""
    params, (x, targets) = network([6, 9, 4], dtype), batch((8, 6), 4, dtype)
    workspace = xent.MlpWorkspace()
    assert workspace.inputs == workspace.grad_z == []
    _, grads, norms = xent.mlp_with_grad(
        params, x, targets, workspace=workspace, reduction="sum", per_sample_norms=True
    )
    limit = float(np.median(norms))
    clipped = [
        xent.dense_clipped_grads(dz, h, limit, sample_norms=norms)
        for h, dz in zip(workspace.inputs, workspace.grad_z, strict=True)
    ]
    factors = np.minimum(1, limit / norms.astype(np.float64))
    _, expected = xent.mlp_with_grad(params, x, targets, sample_weight=factors, reduction="sum")
    for got, wanted in zip(clipped, expected, strict=True):
        np.testing.assert_allclose(got.weight, wanted.weight, rtol=0, atol=64 * np.finfo(dtype).eps)
        np.testing.assert_allclose(got.bias, wanted.bias, rtol=0, atol=64 * np.finfo(dtype).eps)
    sums = xent.dense_weighted_grads(workspace.grad_z[0], workspace.inputs[0], np.ones(8))
    np.testing.assert_allclose(sums.weight, grads[0].weight, rtol=0, atol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norms", [False, True])
def test_a_step_allocates_nothing(activation, norms, dtype):
    params, (x, targets) = network([64, 32, 10], dtype), batch((256, 64), 10, dtype)
    rest, workspace = slice(0, 100), xent.MlpWorkspace()

    def step():
        xent.mlp_with_grad(params, x, targets, activation=activation, workspace=workspace, per_sample_norms=norms)
        xent.mlp_with_grad(
            params, x[rest], targets[rest], activation=activation, workspace=workspace, per_sample_norms=norms
        )

    for _ in range(20):  # the interpreter, too, is warm by then
        step()
    tracemalloc.start()
    try:
        step()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < STEADY_BYTES
    assert after - before < STEADY_BYTES
    blocks = sys.getallocatedblocks()
    for _ in range(200):
        step()
    assert sys.getallocatedblocks() - blocks < 20  # nothing is kept from step to step


def test_weights_are_checked_without_a_copy(dtype):
    params, (x, targets) = network([4, 3], dtype), batch((20000, 4), 3, dtype)
    given = {
        "sample_weight": np.ones(20000, dtype),
        "class_weight": np.ones(3, dtype),
        "workspace": xent.MlpWorkspace(),
    }
    for _ in range(3):
        xent.mlp_with_grad(params, x, targets, **given)
    tracemalloc.start()
    try:
        xent.mlp_with_grad(params, x, targets, **given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20000  # a byte per row: the smallest array of that length


def test_without_a_workspace_it_allocates():
    """The bound of the test above would notice the smallest array of the step."""
    params, (x, targets) = network([64, 32, 10]), batch((256, 64), 10)
    xent.mlp_with_grad(params, x, targets)
    tracemalloc.start()
    try:
        xent.mlp_with_grad(params, x, targets)
        assert tracemalloc.get_traced_memory()[1] > 256 * 10 * 8 > STEADY_BYTES
    finally:
        tracemalloc.stop()


def test_only_a_few_shapes_are_kept():
    params, (x, targets) = network([6, 9, 4]), batch((40, 6), 4)
    workspace = xent.MlpWorkspace()
    for n in range(1, 40):
        agrees(workspace, params, x[:n], targets[:n])
    assert len(workspace._steps) <= 4


def test_what_is_kept_is_not_read_as_input():
    params, (x, targets) = network([6, 6, 6]), batch((6, 6), 6)
    workspace = xent.MlpWorkspace()
    grads = xent.mlp_with_grad(params, x, targets, workspace=workspace)[1]
    for given in (grads[1].weight, workspace.grad_z[0], workspace.inputs[1], workspace.grad_z[1]):
        with pytest.raises(ValueError, match="the workspace overlaps x"):
            xent.mlp_with_grad(params, given, targets, workspace=workspace)
    with pytest.raises(ValueError, match=r"the workspace overlaps params\[0\]"):
        xent.mlp_with_grad([(grads[0].weight, params[0][1]), *params[1:]], x, targets, workspace=workspace)
    with pytest.raises(ValueError, match="the workspace overlaps targets"):
        xent.mlp_with_grad(params, x, workspace.grad_z[1], workspace=workspace)
    agrees(workspace, params, x, targets)
    agrees(workspace, params, grads[1].weight.copy(), targets)


def test_bound_arrays_are_looked_at_again():
    """The biases and their gradients are others' arrays: what no longer fits is refused, not written to."""
    params, (x, targets), workspace = network([6, 7, 3], np.float32), batch((8, 6), 3, np.float32), xent.MlpWorkspace()
    _, grads, norms = xent.mlp_with_grad(params, x, targets, workspace=workspace, per_sample_norms=True)
    for array in (grads[0].bias, norms):
        array.flags.writeable = False
        with pytest.raises(ValueError, match="writable"):
            xent.mlp_with_grad(params, x, targets, workspace=workspace, per_sample_norms=True)
        array.flags.writeable = True
    params[0][1].dtype = np.int32
    with pytest.raises((TypeError, ValueError)):
        xent.mlp_with_grad(params, x, targets, workspace=workspace, per_sample_norms=True)


def test_norms_of_a_network_without_biases_or_activations(dtype):
    """Where a layer has no sweep of its own in the forward pass; the loss is as without norms."""
    params, (x, targets) = network([6, 70, 3], dtype, bias=False), batch((20, 6), 3, dtype)
    loss, grads, norms = xent.mlp_with_grad(params, x, targets, activation=None, per_sample_norms=True)
    plain, plain_grads = xent.mlp_with_grad(params, x, targets, activation=None)
    assert loss == plain
    assert all(a.weight.tobytes() == b.weight.tobytes() for a, b in zip(grads, plain_grads, strict=True))
    exact = xent.reference.mlp_with_grad(params, x, targets, activation=None, per_sample_norms=True)[2]
    np.testing.assert_allclose(norms, exact, rtol=100 * np.finfo(dtype).eps)
