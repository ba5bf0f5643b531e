"""If the output layer's gradient is zero, is the hidden layer's? Propositions and counterexamples, to the last bit.

Every number in the constructions is a small sum of powers of two, so that nothing rounds: zeros are exact zeros, and
the gradients that are not zero are known exactly. docs/hidden_gradient.md tells the story.
"""

import numpy as np
import pytest

import xent
from xent import reference as ref

# One unit, two classes. Both samples of x are sent to h = 1, both logits are 0, both probabilities 1/2.
HIDDEN = ([[1.0, -1.0]], [1.0])
OUTPUT = ([[1.0], [-1.0]], [-1.0, 1.0])
X = [[1.0, 1.0], [2.0, 2.0]]
OPPOSITE = [0, 1]
SMOOTH = ["tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu", "leaky_relu", "relu", "identity"]


def arrays(params, dtype):
    return [(np.array(w, dtype), None if b is None else np.array(b, dtype)) for w, b in params]


def same(got, expected):
    """Equal to the last bit; no sign of a zero is asked for."""
    assert np.array_equal(np.asarray(got, np.float64), np.asarray(expected, np.float64))


@pytest.fixture(params=["compiled", "reference"])
def both(request, dtype, tier):
    """gradients(params, x, targets, **options) and the report, of the compiled functions or of the reference."""

    def compiled(params, x, targets, **given):
        params, x = arrays(params, dtype), np.array(x, dtype)
        return xent.mlp_with_grad(params, x, targets, **given)[1], xent.gradient_flow(params, x, targets, **given)

    def reference(params, x, targets, **given):
        return ref.mlp_with_grad(params, x, targets, **given)[1], ref.gradient_flow(params, x, targets, **given)

    return compiled if request.param == "compiled" else reference


# ---- proposition 1: one sample, an output layer with a bias


def test_one_sample_with_a_bias(both):
    """db = dz: if it is zero, so is W^T dz, and with it everything below."""
    grads, report = both([HIDDEN, OUTPUT], X[:1], [[0.5, 0.5]])  # p = q
    for grad in grads:
        assert not np.any(grad.weight)
        assert not np.any(grad.bias)
    assert [layer.verdict for layer in report.layers] == ["a", "a"]
    assert report.died_at == 1
    assert report.layers[1].words == "zero for every sample, so every layer below is zero too"


@pytest.mark.parametrize("activation", SMOOTH)
def test_one_sample_with_a_bias_at_random(activation, dtype):
    """The other way round: wherever the hidden layer has a gradient, the output layer's bias has one."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        m, n, c = rng.integers(1, 6, 3)
        params = [(rng.standard_normal((n, m)), rng.standard_normal(n)), (rng.standard_normal((c, n)), np.zeros(c))]
        params = arrays(params, dtype)
        x, q = rng.standard_normal((1, m)).astype(dtype), np.full((1, c), 1.0 / c)
        if rng.random() < 0.5:  # equal logits for an even target: p - q is zero, or what is left of it
            params[1][0][...] = params[1][0][:1]
        report = xent.gradient_flow(params, x, q, activation=activation)
        hidden, output = report.layers
        assert output.bias_norm != 0.0 or (hidden.weight_norm == 0.0 == hidden.bias_norm)


# ---- proposition 2: a batch


def test_counterexample_for_a_batch(both):
    """The output layer's sums are exactly zero, the hidden layer's are not."""
    (hidden, output), report = both([HIDDEN, OUTPUT], X, OPPOSITE)
    same(output.weight, [[0.0], [0.0]])
    same(output.bias, [0.0, 0.0])
    same(hidden.weight, [[0.5, 0.5]])
    assert [layer.verdict for layer in report.layers] == ["d", "b"]
    flow = report.layers[1]
    assert flow.cancelled == 1.0
    assert flow.zero_samples == flow.dead_units == flow.silent_below == []
    assert flow.signal == "zero after summing"
    assert flow.words == "the gradient cancelled over the batch; layers below may still learn"
    assert report.died_at is None


def test_each_sample_of_it_obeys_proposition_1(both):
    """dz of the two samples, one by one: (-1/2, 1/2) and (1/2, -1/2)."""
    (_, first), _ = both([HIDDEN, OUTPUT], X[:1], OPPOSITE[:1])
    (_, second), _ = both([HIDDEN, OUTPUT], X[1:], OPPOSITE[1:])
    same(first.bias, [-0.5, 0.5])
    same(second.bias, [0.5, -0.5])


def test_a_batch_in_which_every_sample_is_zero(both):
    """What a batch does need: dz = 0 sample by sample."""
    grads, report = both([HIDDEN, OUTPUT], X, [[0.5, 0.5], [0.5, 0.5]])
    assert not any(np.any(a) for grad in grads for a in (grad.weight, grad.bias))
    assert [layer.verdict for layer in report.layers] == ["a", "a"]
    assert report.layers[0].dead_units == [0]
    assert report.layers[1].zero_samples == [0, 1]


def test_the_sum_of_norms_does_not_cancel(both):
    """A batch can use proposition 1 after all, if it adds up norms in place of gradients."""
    _, report = both([HIDDEN, OUTPUT], X, OPPOSITE)
    # two samples with ||dz|| = 1/4 sqrt 2 and ||(h, 1)|| = sqrt 2
    assert report.layers[1].sample_norm_sum == pytest.approx(1.0, rel=1e-6)


# ---- proposition 3: the weights alone


@pytest.mark.parametrize("activation", ["identity", "tanh", "leaky_relu", "gelu", "silu"])
def test_counterexample_for_the_weights_alone(activation, both):
    """h = f(0) = 0 makes dW = dz h^T zero for one sample; f'(0) is not zero, so the hidden layer learns."""
    params = [([[1.0, -1.0]], [0.0]), ([[1.0], [-1.0]], [0.0, 0.0])]
    (hidden, output), report = both(params, [[1.0, 1.0]], [0], activation=activation)
    same(output.weight, [[0.0], [0.0]])
    same(output.bias, [-0.5, 0.5])
    slope = {"identity": 1.0, "tanh": 1.0, "leaky_relu": 0.01, "gelu": 0.5, "silu": 0.5}[activation]
    same(hidden.weight, np.full((1, 2), -slope, np.asarray(hidden.weight).dtype))
    assert [layer.verdict for layer in report.layers] == ["d", "c"]
    assert report.layers[1].zero_inputs == [0]
    assert report.layers[1].words == (
        "only the weights' gradient is zero, because the inputs are: the bias shows the signal is alive"
    )


def test_without_a_bias_nothing_shows_it(both):
    params = [([[1.0, -1.0]], None), ([[1.0], [-1.0]], None)]
    (hidden, output), report = both(params, [[1.0, 1.0]], [0], activation="tanh")
    assert not np.any(output.weight)
    assert output.bias is None
    same(hidden.weight, [[-1.0, -1.0]])
    assert report.layers[1].verdict == "c"
    assert report.layers[1].words.endswith("dz shows the signal is alive")


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softplus"])
def test_where_the_weights_alone_are_enough(activation, dtype):
    """For one sample. sigmoid and softplus have no h = 0; relu has, and there its slope is 0 as well."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        params = [
            (rng.choice([-1.0, 0.0, 1.0], (3, 4)), rng.choice([-1.0, 0.0], 3)),
            (rng.choice([-1.0, 1.0], (2, 3)), np.zeros(2)),
        ]
        x = rng.choice([-1.0, 0.0, 1.0], (1, 4)).astype(dtype)
        hidden, output = xent.mlp_with_grad(arrays(params, dtype), x, [0], activation=activation)[1]
        if not output.weight.any():
            assert not hidden.weight.any()
            assert not hidden.bias.any()


def test_and_in_a_batch_the_weights_alone_cancel_too(both):
    """sum dz_i h_i = 0 with no h_i = 0: the bias's sum is not zero then."""
    params = [([[1.0]], [0.0]), ([[0.0], [0.0]], [0.0, 0.0])]
    (hidden, output), report = both(params, [[1.0], [-1.0]], [0, 0], activation="identity")
    same(output.weight, [[0.0], [0.0]])
    same(output.bias, [-0.5, 0.5])
    assert not np.any(hidden.weight)  # W = 0 lets nothing through: a fourth way, neither of the three
    assert report.layers[1].verdict == "b"
    assert report.layers[1].words.startswith("the weights' gradient cancelled over the batch (the bias's did not)")
    assert report.layers[1].signal == "zero for all"
    assert report.layers[0].verdict == "a"


# ---- the conjecture for convolutions: a convolution is a dense layer on patches


def patches(image, width, stride):
    """The patches (positions, width * channels) of an image (length, channels) of one dimension."""
    starts = range(0, len(image) - width + 1, stride)
    return np.stack([image[s : s + width].reshape(-1) for s in starts])


def test_a_convolution_is_a_dense_layer_on_patches(dtype):
    """The same numbers as sliding the kernel over the image."""
    rng = np.random.default_rng(2)
    image, kernel, bias = rng.standard_normal((9, 2)), rng.standard_normal((3, 4, 2)), rng.standard_normal(3)
    slid = [
        [sum((image[s + t] * kernel[o, t]).sum() for t in range(4)) + bias[o] for o in range(3)] for s in range(0, 6, 1)
    ]
    y = xent.dense(patches(image, 4, 1).astype(dtype), kernel.reshape(3, 8).astype(dtype), bias.astype(dtype))
    np.testing.assert_allclose(y, slid, rtol=0, atol=64 * np.finfo(dtype).eps)


def test_counterexample_for_one_image(dtype, tier):
    """One image, a class at each position: the positions are a batch, and cancel as one.

    The image is (1, 1, 2, 2), the hidden kernel (1, -1) with stride 2, the output a 1 x 1 kernel: at its two positions
    the numbers of the counterexample for a batch. The output layer has a bias, the image is one, and yet.
    """
    image = np.array([[1.0], [1.0], [2.0], [2.0]], dtype)
    x = patches(image, 2, 2)[None]  # one image, two positions, two numbers
    assert x.shape == (1, 2, 2)
    params = arrays([HIDDEN, OUTPUT], dtype)
    _, (hidden, output) = xent.mlp_with_grad(params, x, np.array([OPPOSITE]))
    same(output.weight, [[0.0], [0.0]])
    same(output.bias, [0.0, 0.0])
    same(hidden.weight, [[0.5, 0.5]])
    report = xent.gradient_flow(params, x, np.array([OPPOSITE]))
    assert [layer.verdict for layer in report.layers] == ["d", "b"]
    assert report.samples == 2  # rows: positions


def test_zero_at_every_position_carries_over(dtype):
    """What does carry over: dz = 0 at each position, not only in the sum, and all below is zero."""
    x = patches(np.array([[1.0], [1.0], [2.0], [2.0]], dtype), 2, 2)[None]
    report = xent.gradient_flow(arrays([HIDDEN, OUTPUT], dtype), x, np.full((1, 2, 2), 0.5, dtype))
    assert [layer.verdict for layer in report.layers] == ["a", "a"]


def test_the_mean_over_positions_restores_it(dtype):
    """One image, a linear convolution, the mean over all positions as its logits: db = dz of the mean.

    Every position gets the same dz / positions, so nothing can cancel: it is as for one sample.
    """
    rng = np.random.default_rng(3)
    for _ in range(20):
        positions, width, classes = rng.integers(1, 6, 3)
        x, weight = rng.standard_normal((positions, width)), rng.standard_normal((classes, width))
        logits = xent.dense(x, weight).mean(axis=0)
        _, dlogits = xent.cross_entropy_with_grad(logits, np.array(0))
        dz = np.tile(dlogits / positions, (positions, 1))
        db = xent.dense_backward(dz, x, weight, None, need="bias").bias
        assert bool(db.any()) == bool(dz.any())


def test_overlapping_patches_cancel_once_more(dtype):
    """A sum that a dense layer does not have: a pixel adds up what its patches send down.

    Positions 0 and 1 of the kernel (1, 1) share pixel 1. With dz = (1, -1) it gets 1 - 1 = 0, though both positions
    send something; with dz = (1, -1, 1, -1) around a ring, every pixel gets zero.
    """
    weight = np.ones((1, 2), dtype)
    line = xent.dense_backward(np.array([[1.0], [-1.0]], dtype), np.ones((2, 2), dtype), weight, None, need="x").x
    assert line.any(axis=1).all()
    same([line[0, 0], line[0, 1] + line[1, 0], line[1, 1]], [1.0, 0.0, -1.0])
    dz = np.array([[1.0], [-1.0], [1.0], [-1.0]], dtype)
    ring = xent.dense_backward(dz, np.ones((4, 2), dtype), weight, None, need="x").x
    same([ring[k, 0] + ring[k - 1, 1] for k in range(4)], np.zeros(4))
