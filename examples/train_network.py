"""The same network trained twice on three spirals: with plain NumPy, and with xent in the place of its gradients.

    python examples/train_network.py

`numpy_step` is what one writes by hand; `xent_step` replaces it. Both take the parameters and a batch, both return the
loss and the gradients, and the loop around them is the same. Needs nothing but NumPy and xent.
"""

import time
from itertools import pairwise

import numpy as np

import xent

SIZES = [2, 64, 32, 3]  # points in the plane, two hidden layers with relu, three classes
EPOCHS, BATCH, RATE, MOMENTUM = 60, 128, 0.05, 0.9


# ---- what one writes by hand


def numpy_step(params, x, labels):
    """Forward, softmax cross-entropy, backward."""
    outputs = [x]
    for weight, bias in params[:-1]:
        outputs.append(np.maximum(outputs[-1] @ weight.T + bias, 0))
    weight, bias = params[-1]
    logits = outputs[-1] @ weight.T + bias

    rows = np.arange(len(x))
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, labels]).mean()  # inf where p underflows, 0 where it rounds to 1
    dz = p
    dz[rows, labels] -= 1
    dz /= len(x)

    grads = []
    for (weight, _), h in zip(params[::-1], outputs[::-1], strict=True):
        grads.append((dz.T @ h, dz.sum(axis=0)))
        dz = dz @ weight * (h > 0)
    return loss, grads[::-1]


# ---- what replaces it


def make_xent_step():
    """The workspace is optional: with it, a step allocates no arrays."""
    workspace = xent.MlpWorkspace()

    def xent_step(params, x, labels):
        loss, grads = xent.mlp_with_grad(params, x, labels, activation="relu", workspace=workspace)
        return loss, [(grad.weight, grad.bias) for grad in grads]

    return xent_step


# ---- the rest is the same for both


def spirals(rng, points=600):
    """Three arms of points (3 * points, 2) in float32, and the arm of each."""
    along = np.linspace(0.1, 1.0, points)
    arms = [
        np.stack([along * np.cos(a), along * np.sin(a)], 1) for a in (4 * along + k * 2 * np.pi / 3 for k in range(3))
    ]
    x = np.concatenate(arms) + 0.02 * rng.standard_normal((3 * points, 2))
    return x.astype(np.float32), np.repeat(np.arange(3), points)


def start(rng):
    return [
        ((rng.standard_normal((n, m)) * np.sqrt(2 / m)).astype(np.float32), np.zeros(n, np.float32))
        for m, n in pairwise(SIZES)
    ]


def train(step, x, labels, seed=0):
    """SGD with momentum; the parameters, the mean loss of each epoch, and the seconds spent in `step`."""
    rng = np.random.default_rng(seed)
    params = start(rng)
    moves = [(np.zeros_like(weight), np.zeros_like(bias)) for weight, bias in params]
    losses, seconds = [], 0.0
    for _ in range(EPOCHS):
        total = 0.0
        order = rng.permutation(len(x))
        for first in range(0, len(x), BATCH):
            batch = order[first : first + BATCH]
            images, their_labels = x[batch], labels[batch]
            began = time.perf_counter()
            loss, grads = step(params, images, their_labels)
            seconds += time.perf_counter() - began
            for layer, move, grad in zip(params, moves, grads, strict=True):
                for array, moved, slope in zip(layer, move, grad, strict=True):
                    moved *= MOMENTUM
                    moved -= RATE * slope
                    array += moved
            total += float(loss) * len(batch)
        losses.append(total / len(x))
    return params, losses, seconds


def accuracy(params, x, labels):
    h = x
    for weight, bias in params[:-1]:
        h = xent.dense(h, weight, bias, "relu")
    return np.mean(np.argmax(xent.dense(h, *params[-1]), axis=1) == labels)


def main():
    x, labels = spirals(np.random.default_rng(1))
    by_numpy, numpy_losses, numpy_seconds = train(numpy_step, x, labels)
    by_xent, xent_losses, xent_seconds = train(make_xent_step(), x, labels)

    print("epoch   loss, NumPy   loss, xent")
    for epoch in range(0, EPOCHS, 10):
        print(f"{epoch + 1:5d}   {numpy_losses[epoch]:11.6f}   {xent_losses[epoch]:10.6f}")
    print(f"accuracy: NumPy {accuracy(by_numpy, x, labels):.4f}, xent {accuracy(by_xent, x, labels):.4f}")
    steps = EPOCHS * -(-len(x) // BATCH)
    print(f"a step:   NumPy {1e6 * numpy_seconds / steps:.0f} us, xent {1e6 * xent_seconds / steps:.0f} us")
    print()
    print(xent.gradient_flow(by_xent, x, labels))


if __name__ == "__main__":
    main()
