"""The classifier of `xent train`: dense layers over the pixels, their start, and two ways to train them.

Without hidden layers it is multinomial logistic regression.
"""

from __future__ import annotations

import argparse
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import xent
from xent.cli import _console
from xent.cli._data import Digits

Array = NDArray[Any]
Params = list[tuple[Array, Array]]  # weight (out, in) and bias (out,) of each layer

CLASSES = 10
OFF = -100.0  # a bias that no image outweighs
IMMORTAL = ("identity", "leaky_relu")  # their slope is nowhere 0


class Run(NamedTuple):
    """What a training run leaves: the parameters, and the objective after each epoch or iteration."""

    params: Params
    losses: list[float]
    unit: str


def start(pixels: int, args: argparse.Namespace, dead: bool = False) -> Params:
    """Weights by He's rule, half as large in the output layer and 0 if it is the only one; biases 0.

    `dead`: the units of the last hidden layer are all off.
    """
    rng = np.random.default_rng(args.seed)
    sizes = [pixels, *args.hidden, CLASSES]
    params = [(np.sqrt(2.0 / m) * rng.standard_normal((n, m)), np.zeros(n)) for m, n in pairwise(sizes)]
    params[-1][0][...] *= 0.5 if args.hidden else 0.0
    if dead:
        params[-2][1][...] = OFF
    return params


def logits(params: Params, x: Array, activation: str) -> Array:
    """Of images x (images, pixels), as shape (images, classes)."""
    for weight, bias in params[:-1]:
        x = xent.dense(x, weight, bias, activation)
    return xent.dense(x, *params[-1])


def accuracy(params: Params, x: Array, labels: NDArray[np.int64], activation: str) -> float:
    """The share of images whose largest logit is that of their label."""
    return float(np.mean(np.argmax(logits(params, x, activation), axis=1) == labels))


def penalty(params: Params, l2: float) -> float:
    """l2 / 2 times the sum of the squared weights."""
    return 0.5 * l2 * sum(float(np.sum(weight * weight)) for weight, _ in params)


def sgd(params: Params, digits: Digits, args: argparse.Namespace) -> Run:
    """Mini-batches with momentum in float32, the steps shrinking to 0; images shuffled anew in each epoch.

    A network of hidden layers sees each image with other noise each time, or it would learn them by heart.
    """
    params = [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in params]
    x = digits.train_x.astype(np.float32)
    noise = np.float32(args.noise if args.hidden else 0.0)
    rng = np.random.default_rng(args.seed)
    steps = [(np.zeros_like(weight), np.zeros_like(bias)) for weight, bias in params]
    workspace = xent.MlpWorkspace()
    losses: list[float] = []
    with _console.progress("epochs", args.epochs) as advance:
        for epoch in range(args.epochs):
            total = 0.0
            rate = args.learning_rate * (1.0 - epoch / args.epochs)
            order = rng.permutation(len(x))
            for first in range(0, len(x), args.batch_size):
                batch = order[first : first + args.batch_size]
                images, labels = x[batch], digits.train_y[batch]
                if noise:
                    images += noise * rng.standard_normal(images.shape, dtype=np.float32)
                loss, grads = xent.mlp_with_grad(
                    params, images, labels, activation=args.activation, workspace=workspace
                )
                for (weight, bias), (step_weight, step_bias), grad in zip(params, steps, grads, strict=True):
                    step_weight *= args.momentum
                    step_weight -= rate * (grad.weight + args.l2 * weight)
                    weight += step_weight
                    step_bias *= args.momentum
                    step_bias -= rate * grad.bias
                    bias += step_bias
                total += float(loss) * len(batch)
            losses.append(total / len(x) + penalty(params, args.l2))
            advance()
    return Run(params, losses, "epoch")


def lbfgs(params: Params, digits: Digits, args: argparse.Namespace) -> Run:
    """Full-batch L-BFGS in float64, by `scipy.optimize.minimize`; its vector holds the parameters one after another."""
    minimize = _console.optional("scipy.optimize", "train").minimize
    theta, params = _as_vector(params)
    slope, grads = _as_vector(params)
    out = [(None, *grad) for grad in grads]
    workspace = xent.MlpWorkspace()
    latest = 0.0

    def objective(at: Array) -> tuple[float, Array]:
        nonlocal latest
        theta[...] = at
        loss, _ = xent.mlp_with_grad(
            params, digits.train_x, digits.train_y, activation=args.activation, out=out, workspace=workspace
        )
        for (weight, _), (of_weight, _) in zip(params, grads, strict=True):
            of_weight += args.l2 * weight
        latest = float(loss) + penalty(params, args.l2)
        return latest, slope.copy()

    losses: list[float] = []
    with _console.progress("iterations", args.iterations) as advance:

        def callback(_: Array) -> None:
            losses.append(latest)  # the line search ends at the point that it accepts
            advance()

        options = {"maxiter": args.iterations}
        found = minimize(objective, theta.copy(), jac=True, method="L-BFGS-B", callback=callback, options=options)
    theta[...] = found.x
    return Run(params, losses or [float(found.fun)], "iteration")


def _as_vector(params: Params) -> tuple[Array, Params]:
    """A vector with the numbers of all parameters, and the parameters as views of it."""
    vector = np.concatenate([array.ravel() for array in chain.from_iterable(params)])
    views, at = [], 0
    for weight, bias in params:
        middle, end = at + weight.size, at + weight.size + bias.size
        views.append((vector[at:middle].reshape(weight.shape), vector[middle:end]))
        at = end
    return vector, views
