"""mlp_with_grad: its bits are those of the layers one by one; its numbers those of the reference and of differences."""

import itertools

import numpy as np
import pytest

import xent
from xent import _kernels, _step
from xent import reference as ref
from xent._activations import NAMES

OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "normalizer": {"normalizer": 3.0},
    "smoothing": {"label_smoothing": 0.1, "z_loss": 1e-2},
    "ignored": {"ignore_index": 2},
    "weights": {"sample_weight": "rows", "class_weight": "classes"},
}


def network(sizes, dtype=np.float64, seed=0, bias=True):
    """Parameters whose units are neither dead nor saturated."""
    rng = np.random.default_rng(seed)
    return [
        (
            (rng.standard_normal((n, m)) / np.sqrt(max(m, 1))).astype(dtype),
            (0.1 * rng.standard_normal(n)).astype(dtype) if bias else None,
        )
        for m, n in itertools.pairwise(sizes)
    ]


def batch(shape, classes, dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(dtype), rng.integers(0, classes, shape[:-1])


def options(name, targets, classes):
    rng = np.random.default_rng(2)
    found = dict(OPTIONS[name])
    if name == "weights":
        found["sample_weight"], found["class_weight"] = rng.random(targets.shape), rng.random(classes)
    return found


def layer_by_layer(params, x, targets, activation, **given):
    """What `mlp_with_grad` is one call for."""
    names = [activation] * (len(params) - 1) if not isinstance(activation, list) else activation
    passes, h = [], x
    for (weight, bias), name in zip(params, [*names, None], strict=True):
        saved = None
        if xent.saved_kind(name) == "z":
            saved = np.empty((*h.shape[:-1], len(weight)), h.dtype)
        y = xent.dense(h, weight, bias, name, saved=saved)
        passes.append((h, weight, bias, name, y if saved is None else saved))
        h = y
    loss, dy = xent.cross_entropy_with_grad(h, targets, **given)
    grads, squares = [], 0.0
    for h, weight, bias, name, saved in reversed(passes):
        need = ("x", "weight") if bias is None else ("x", "weight", "bias")
        found, norms = xent.dense_backward(dy, h, weight, saved, name, need=need, per_sample_norms=True)
        grads.insert(0, found)
        squares = squares + norms.astype(np.float64) ** 2
        dy = found.x
    return loss, grads, np.sqrt(squares)


def same_bits(found, expected):
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        assert got.x is None
        for field in ("weight", "bias"):
            a, b = getattr(got, field), getattr(wanted, field)
            assert (a is None) == (b is None)
            assert a is None or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


# ---- bits


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("bias", [True, False])
def test_the_bits_of_the_layers_one_by_one(activation, bias, dtype, tier):
    params = network([11, 17, 5, 4], dtype, bias=bias)
    x, targets = batch((9, 11), 4, dtype)
    loss, grads, norms = xent.mlp_with_grad(params, x, targets, activation=activation, per_sample_norms=True)
    expected = layer_by_layer(params, x, targets, activation)
    assert loss == expected[0]
    assert type(loss) is type(expected[0])
    same_bits(grads, expected[1])
    assert norms.dtype == dtype
    np.testing.assert_allclose(norms, expected[2], rtol=4 * np.finfo(dtype).eps)  # squared, added, rooted again


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu", None])
def test_norms_taken_late_or_in_the_sweeps(activation, bias, dtype, monkeypatch):
    """A small step takes its squares at the end, a large one on its way: no bit depends on it."""
    params = network([11, 17, 70, 5, 4], dtype, bias=bias)
    x, targets = batch((9, 11), 4, dtype)
    found = []
    for limit in (_step.LATE_AT_MOST, 0):
        monkeypatch.setattr(_step, "LATE_AT_MOST", limit)
        workspace = xent.MlpWorkspace()
        given = {"activation": activation, "workspace": workspace, "per_sample_norms": True}
        xent.mlp_with_grad(params, 2 * x, targets, **given)
        loss, grads, norms = xent.mlp_with_grad(params, x, targets, **given)
        assert workspace._last[1].late == (limit > 0)
        found.append((loss, [(g.weight.tobytes(), bias and g.bias.tobytes()) for g in grads], norms.tobytes()))
    assert found[0] == found[1]
    np.testing.assert_allclose(norms, layer_by_layer(params, x, targets, activation)[2], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", [(6,), (8, 6), (2, 3, 6)])
def test_the_options_of_the_loss(name, shape, dtype):
    params = network([6, 7, 3], dtype)
    x, targets = batch(shape, 3, dtype)
    given = options(name, targets, 3)
    loss, grads, lse = xent.mlp_with_grad(params, x, targets, return_lse=True, **given)
    (expected, expected_lse), (_, expected_grads, _) = (
        xent.cross_entropy(
            xent.dense(xent.dense(x, *params[0], "relu"), *params[1]), targets, return_lse=True, **given
        ),
        layer_by_layer(params, x, targets, "relu", **given),
    )
    assert np.array_equal(loss, expected)
    assert np.shape(loss) == (shape[:-1] if name == "none" else ())
    assert np.array_equal(lse, expected_lse)
    same_bits(grads, expected_grads)


def test_target_rows(dtype):
    params = network([6, 7, 3], dtype)
    x, _ = batch((8, 6), 3, dtype)
    q = np.random.default_rng(3).dirichlet(np.ones(3), 8)
    loss, grads = xent.mlp_with_grad(params, x, q, activation="tanh")
    expected = layer_by_layer(params, x, q, "tanh")
    assert loss == expected[0]
    same_bits(grads, expected[1])


def test_an_activation_for_each_layer():
    params = network([5, 6, 7, 8, 3])
    x, targets = batch((4, 5), 3)
    names = ["gelu", None, "sigmoid"]
    loss, grads = xent.mlp_with_grad(params, x, targets, activation=names)
    expected = layer_by_layer(params, x, targets, names)
    assert loss == expected[0]
    same_bits(grads, expected[1])
    assert xent.mlp_with_grad(params[:1], x[:, :5], targets % 6)[0] > 0.0  # one layer: no activation is used


def test_any_number_of_threads(dtype, threads):
    params = network([200, 300, 10], dtype)
    x, targets = batch((150, 200), 10, dtype)
    found = []
    for n in (1, 2, 3):
        xent.set_num_threads(n)
        found.append(xent.mlp_with_grad(params, x, targets, activation="gelu", per_sample_norms=True))
    for loss, grads, norms in found[1:]:
        assert loss == found[0][0]
        same_bits(grads, found[0][1])
        assert norms.tobytes() == found[0][2].tobytes()


@pytest.mark.parametrize("layout", ["reversed", "Fortran", "swapped", "misaligned"])
def test_layouts(layout, dtype):
    def laid_out(a):
        if layout == "reversed":
            return a[::-1].copy()[::-1]
        if layout == "Fortran":
            return a.copy(order="F")
        if layout == "swapped":
            return a.astype(a.dtype.newbyteorder())
        raw = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        raw[...] = a
        return raw

    params, (x, targets) = network([6, 7, 3], dtype), batch((8, 6), 3, dtype)
    given = [(laid_out(weight), laid_out(bias)) for weight, bias in params]
    workspace = xent.MlpWorkspace()
    expected = xent.mlp_with_grad(params, x, targets, per_sample_norms=True)
    for _ in range(2):
        found = xent.mlp_with_grad(given, laid_out(x), targets, per_sample_norms=True, workspace=workspace)
        np.testing.assert_allclose(found[0], expected[0], rtol=4 * np.finfo(dtype).eps)  # BLAS may add in another order
        for got, wanted in zip(found[1], expected[1], strict=True):
            np.testing.assert_allclose(got.weight, wanted.weight, atol=16 * np.finfo(dtype).eps)
            np.testing.assert_allclose(got.bias, wanted.bias, atol=16 * np.finfo(dtype).eps)
        np.testing.assert_allclose(found[2], expected[2], rtol=16 * np.finfo(dtype).eps)
        for weight, bias in given:  # what is copied must not be taken for the array itself
            weight *= 2
            bias *= 2
        expected = xent.mlp_with_grad([(2 * w, 2 * b) for w, b in params], x, targets, per_sample_norms=True)


# ---- numbers


@pytest.mark.parametrize("activation", NAMES)
def test_against_the_reference(activation, dtype, tier):
    params = network([4, 6, 5, 3], dtype)
    x, targets = batch((5, 4), 3, dtype)
    given = options("weights", targets, 3) | {"label_smoothing": 0.2, "z_loss": 0.05}
    given |= {"activation": activation, "return_lse": True, "per_sample_norms": True}
    found, exact = (f(params, x, targets, **given) for f in (xent.mlp_with_grad, ref.mlp_with_grad))
    # Each layer's products and roundings, 6 terms at most, three layers forward and back: under 100 roundings in all.
    eps = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(found[0], exact[0], rtol=eps)
    np.testing.assert_allclose(found[2], exact[2], rtol=eps)
    np.testing.assert_allclose(found[3], exact[3], rtol=eps)
    for got, wanted in zip(found[1], exact[1], strict=True):
        scale = np.max(np.abs(wanted.weight))
        np.testing.assert_allclose(got.weight, wanted.weight, rtol=0, atol=eps * scale)
        np.testing.assert_allclose(got.bias, wanted.bias, rtol=0, atol=eps * max(scale, np.max(np.abs(wanted.bias))))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu", "identity", "relu"])
def test_against_central_differences(activation, tier):
    params = network([4, 6, 5, 3])
    x, targets = batch((7, 4), 3)
    given = options("weights", targets, 3)
    _, grads = xent.mlp_with_grad(params, x, targets, activation=activation, **given)
    h = 1e-5
    for i, field in itertools.product(range(3), (0, 1)):
        array, slopes = params[i][field], np.empty_like(params[i][field])
        for at in np.ndindex(array.shape):
            kept, ends = array[at], []
            for step in (h, -h):
                array[at] = kept + step
                ends.append(xent.mlp_with_grad(params, x, targets, activation=activation, **given)[0])
            array[at] = kept
            slopes[at] = (ends[0] - ends[1]) / (2 * h)
        # h^2 f''' / 6 is about 1e-10, rounding eps / h about 1e-11; no relu of these samples is within h of its corner
        np.testing.assert_allclose(grads[i][1 + field], slopes, rtol=0, atol=2e-9)


LENGTHS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129]


@pytest.mark.parametrize("n", LENGTHS)
def test_lengths_around_lanes(n, dtype, every_tier):
    """float64 NumPy judges; errors grow with the square root of the lengths, which are under 130."""
    rng = np.random.default_rng(n)
    for rows, hidden in ((n, 13), (13, n), (n, n)):
        params = network([10, hidden, 6], dtype, seed=n)
        x, targets = batch((rows, 10), 6, dtype, seed=int(rng.integers(1000)))
        (w1, b1), (w2, b2) = [(w.astype(np.float64), b.astype(np.float64)) for w, b in params]
        h = np.tanh(x.astype(np.float64) @ w1.T + b1)
        z = h @ w2.T + b2
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        loss = -np.mean(np.log(p[np.arange(rows), targets]))
        p[np.arange(rows), targets] -= 1.0
        p /= rows
        dz = p @ w2 * (1.0 - h * h)
        norms = np.sqrt((p**2).sum(1) * ((h**2).sum(1) + 1) + (dz**2).sum(1) * ((x.astype(np.float64) ** 2).sum(1) + 1))
        for _ in every_tier():
            found = xent.mlp_with_grad(params, x, targets, activation="tanh", per_sample_norms=True)
            eps = 64 * np.finfo(dtype).eps
            np.testing.assert_allclose(found[0], loss, rtol=eps)
            for got, wanted in zip(found[1], [(dz.T @ x, dz.sum(0)), (p.T @ h, p.sum(0))], strict=True):
                np.testing.assert_allclose(got.weight, wanted[0], rtol=0, atol=eps * np.abs(wanted[0]).max())
                np.testing.assert_allclose(got.bias, wanted[1], rtol=0, atol=eps * (np.abs(wanted[1]).max() + 0.1))
            np.testing.assert_allclose(found[2], norms, rtol=eps)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("bias", [True, False])
def test_norms_are_those_of_a_loop_over_the_samples(reduction, bias, dtype):
    params = network([6, 9, 7, 4], dtype, bias=bias)
    x, targets = batch((10, 6), 4, dtype)
    weight = np.random.default_rng(5).random(10)
    weight[3] = 0.0
    norms = xent.mlp_with_grad(
        params, x, targets, sample_weight=weight, reduction=reduction, per_sample_norms=True, activation="silu"
    )[2]
    divisor = weight.sum() if reduction == "mean" else 1.0
    for i in range(10):
        _, grads = xent.mlp_with_grad(
            params, x[i], targets[i], sample_weight=weight[i], reduction="sum", activation="silu"
        )
        alone = np.concatenate([a.astype(np.float64).ravel() for grad in grads for a in grad if a is not None])
        np.testing.assert_allclose(norms[i], np.linalg.norm(alone) / divisor, rtol=64 * np.finfo(dtype).eps)
    assert norms[3] == 0.0


def test_autograd_agrees(dtype):
    torch = pytest.importorskip("torch")
    for name, f in (
        ("relu", torch.relu),
        ("leaky_relu", torch.nn.functional.leaky_relu),
        ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid),
        ("softplus", torch.nn.functional.softplus),
        ("gelu", torch.nn.functional.gelu),
        ("gelu_tanh", lambda z: torch.nn.functional.gelu(z, approximate="tanh")),
        ("silu", torch.nn.functional.silu),
    ):
        params, (x, targets) = network([20, 30, 25, 10], dtype), batch((40, 20), 10, dtype)
        leaves = [[torch.from_numpy(a.copy()).requires_grad_() for a in layer] for layer in params]
        h = torch.from_numpy(x)
        for weight, bias in leaves[:-1]:
            h = f(torch.nn.functional.linear(h, weight, bias))
        logits = torch.nn.functional.linear(h, *leaves[-1])
        theirs = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets), label_smoothing=0.1)
        theirs.backward()
        loss, grads = xent.mlp_with_grad(params, x, targets, activation=name, label_smoothing=0.1)
        eps = 200 * np.finfo(dtype).eps  # two computations, each with sums of 40 terms over three layers
        np.testing.assert_allclose(loss, theirs.item(), rtol=eps)
        for got, leaf in zip(grads, leaves, strict=True):
            np.testing.assert_allclose(got.weight, leaf[0].grad.numpy(), rtol=0, atol=eps * np.abs(got.weight).max())
            np.testing.assert_allclose(got.bias, leaf[1].grad.numpy(), rtol=0, atol=eps * np.abs(got.weight).max())


# ---- nothing there


@pytest.mark.parametrize("sizes", [[0, 4, 3], [4, 0, 3], [4, 5, 0, 3], [0, 3]])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_layers_without_units(sizes, rows, dtype, tier):
    params = network(sizes, dtype)
    x, targets = batch((rows, sizes[0]), 3, dtype)
    loss, grads, norms = xent.mlp_with_grad(params, x, targets, per_sample_norms=True)
    expected = layer_by_layer(params, x, targets, "relu")
    assert loss == expected[0]
    same_bits(grads, expected[1])
    assert norms.shape == (rows,)
    exact = ref.mlp_with_grad(params, x, targets, per_sample_norms=True)
    np.testing.assert_allclose(loss, exact[0], rtol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(norms, exact[2], rtol=100 * np.finfo(dtype).eps)
    for got, wanted in zip(grads, exact[1], strict=True):
        np.testing.assert_allclose(got.weight.ravel(), np.ravel(wanted.weight), atol=100 * np.finfo(dtype).eps)
        np.testing.assert_allclose(got.bias, wanted.bias, atol=100 * np.finfo(dtype).eps)
    assert all(np.isfinite(a).all() for grad in grads for a in grad if a is not None)


def test_no_samples(dtype):
    params = network([4, 5, 3], dtype)
    for shape in ((0, 4), (2, 0, 4)):
        x, targets = batch(shape, 3, dtype)
        loss, grads, norms = xent.mlp_with_grad(params, x, targets, per_sample_norms=True)
        assert loss == 0.0
        assert norms.shape == shape[:-1]
        assert not any(a.any() for grad in grads for a in (grad.weight, grad.bias))
        assert [grad.weight.shape for grad in grads] == [(5, 4), (3, 5)]


def test_no_classes():
    with pytest.raises(ValueError, match="no classes"):
        xent.mlp_with_grad(network([4, 5, 0]), *batch((2, 4), 1))


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8, 11])
def test_norms_are_those_of_a_row_alone(tier, dtype, rows, layers):
    """Four rows at a time or one: the same bits; what is below the smallest normal number is 0, a NaN stays one."""
    rng = np.random.default_rng(rows)
    squares = rng.random((2, layers, rows)) * 10.0 ** rng.integers(-60, 30, (2, layers, rows))
    squares[:, :, rows // 2] = [[float(np.finfo(dtype).tiny) ** 2 / 1e6], [1.0]]  # float64: 0, all that is below it
    squares[0, 0, -1] = np.nan if rows > 3 else 1.0
    biases = rng.integers(0, 2, layers).astype(float)
    x = rng.normal(size=(rows, 7)).astype(dtype)
    norms, alone = np.empty(rows, dtype), np.empty(rows, dtype)
    _kernels.NetworkNorms(squares.copy(), biases, norms, 7, []).run(x)
    for r in range(rows):
        own = np.ascontiguousarray(squares[:, :, r : r + 1])
        _kernels.NetworkNorms(own, biases, alone[r : r + 1], 7, []).run(x[r : r + 1])
    np.testing.assert_array_equal(norms.view(f"u{norms.itemsize}"), alone.view(f"u{norms.itemsize}"))
    assert np.isnan(norms[-1]) == (rows > 3)
    assert rows < 2 or norms[rows // 2] == 0


def test_norm_of_one_sample(dtype):
    """A number, that of a batch of one, which further steps leave as it is."""
    params, (x, labels) = network([5, 4, 3], dtype), batch((1, 5), 3, dtype)
    workspace = xent.MlpWorkspace()
    of_batch = xent.mlp_with_grad(params, x, labels, per_sample_norms=True)[-1]
    norm = xent.mlp_with_grad(params, x[0], labels[0], workspace=workspace, per_sample_norms=True)[-1]
    assert type(norm) is np.dtype(dtype).type
    assert of_batch.shape == (1,)
    assert norm == of_batch[0]
    xent.mlp_with_grad(params, 2 * x[0], labels[0], workspace=workspace, per_sample_norms=True)
    assert norm == of_batch[0]


def test_what_is_read_by_the_loss_is_not_written_to():
    """Targets and weights in `out`, or in the gradients of the workspace, are refused, and keep their numbers."""
    params = network([3, 3, 3])
    x, labels = batch((3, 3), 3)
    new = [(None, None, None)]
    q, weight = np.full((3, 3), 1 / 3), np.ones(3)
    as_bias = labels.copy()
    for targets, options, out in (
        (q, {}, [*new, (None, q, None)]),
        (labels, {"sample_weight": weight}, [(None, None, weight), *new]),
        (labels, {"class_weight": weight}, [*new, (None, None, weight)]),
        (as_bias, {}, [(None, None, as_bias.view(np.float64)), *new]),
    ):
        before = [a.copy() for a in (q, weight, as_bias)]
        with pytest.raises(ValueError, match="out overlaps"):
            xent.mlp_with_grad(params, x, targets, out=out, **options)
        for a, b in zip(before, (q, weight, as_bias), strict=True):
            np.testing.assert_array_equal(a, b)
    workspace = xent.MlpWorkspace()
    _, grads = xent.mlp_with_grad(params, x, labels, workspace=workspace)
    grads[0].weight[...] = 0.25
    with pytest.raises(ValueError, match="the workspace overlaps targets"):
        xent.mlp_with_grad(params, x, grads[0].weight, workspace=workspace)
    assert (grads[0].weight == 0.25).all()
