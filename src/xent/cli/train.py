"""`xent train`: learn handwritten digits, with `xent.cross_entropy_with_grad` as the loss.

Multinomial logistic regression on 1,797 images of 8 x 8 pixels, four fifths of them for training. NumPy does
the two matrix products, xent everything between the logits and their gradient. Fails (exit status 1) if
fewer than 95 % of the images held out are recognised."""

from __future__ import annotations

import argparse
import math
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import xent
from xent.cli import _console
from xent.cli._data import SOURCE, Digits, load_digits

HELP = "train a digit classifier with xent as its loss, and test it"
REQUIRED_ACCURACY = 0.95
CLASSES = 10

Floats = NDArray[np.float64]


class Run(NamedTuple):
    """What a training run leaves: the parameters, and the objective after each epoch or iteration."""

    weight: Floats  # (pixels, classes)
    bias: Floats  # (classes,)
    losses: list[float]
    unit: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    parser.add_argument(
        "--optimizer",
        choices=("sgd", "lbfgs"),
        default="sgd",
        help="sgd: mini-batches with momentum, needs NumPy alone; lbfgs: full batches, needs SciPy",
    )
    parser.add_argument("--epochs", type=_positive_int, default=40, help="passes over the images (sgd)")
    parser.add_argument("--iterations", type=_positive_int, default=100, help="most steps to take (lbfgs)")
    parser.add_argument("--batch-size", type=_positive_int, default=64, help="images per step (sgd)")
    parser.add_argument("--learning-rate", type=_positive, default=0.1, help="length of a step (sgd)")
    parser.add_argument("--momentum", type=_fraction, default=0.9, help="share of the last step kept (sgd)")
    parser.add_argument("--l2", type=_not_negative, default=1e-4, help="penalty on squared weights")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the images (sgd)")
    parser.add_argument("--plot", metavar="FILE.png", help="save the loss curve here (needs matplotlib)")


def run(args: argparse.Namespace) -> int:
    """Train, show the loss curve, test; 0 if the accuracy is as required."""
    if args.plot:
        _console.optional("matplotlib", "plot")  # before the work, not after it
    digits = load_digits()
    _console.say(f"data: {SOURCE}")
    counts = f"{len(digits.train_y)} images to learn from, {len(digits.test_y)} held out"
    _console.say(f"{counts}; optimizer {args.optimizer}")
    start = time.perf_counter()
    result = lbfgs(digits, args) if args.optimizer == "lbfgs" else sgd(digits, args)
    seconds = time.perf_counter() - start
    _show_curve(result)
    scores = [
        accuracy(result, digits.train_x, digits.train_y),
        accuracy(result, digits.test_x, digits.test_y),
    ]
    _console.say(f"accuracy: {scores[0]:.4f} on the training images, {scores[1]:.4f} on those held out")
    _console.say(f"time: {seconds:.2f} s for {len(result.losses)} {result.unit}s")
    if args.plot:
        from xent.cli import plot

        plot.loss_curve(result.losses, result.unit, args.plot)
        _console.say(f"loss curve saved to {args.plot}")
    if scores[1] >= REQUIRED_ACCURACY:
        return 0
    _console.say(f"FAILED: {scores[1]:.4f} is less than the {REQUIRED_ACCURACY} required")
    return 1


def accuracy(model: Run, x: Floats, labels: NDArray[np.int64]) -> float:
    """The share of rows of x (images, pixels) whose largest logit is that of their label."""
    return float(np.mean(np.argmax(x @ model.weight + model.bias, axis=1) == labels))


def sgd(digits: Digits, args: argparse.Namespace) -> Run:
    """Mini-batch gradient descent with momentum in float32; images shuffled anew in each epoch."""
    x = digits.train_x.astype(np.float32)
    rng = np.random.default_rng(args.seed)
    weight = np.zeros((x.shape[1], CLASSES), np.float32)
    bias = np.zeros(CLASSES, np.float32)
    step_weight, step_bias = np.zeros_like(weight), np.zeros_like(bias)
    losses: list[float] = []

    with _console.progress("epochs", args.epochs) as advance:
        for _ in range(args.epochs):
            total = 0.0
            order = rng.permutation(len(x))
            for first in range(0, len(x), args.batch_size):
                batch = order[first : first + args.batch_size]
                images, labels = x[batch], digits.train_y[batch]
                logits = images @ weight + bias
                loss, dlogits = xent.cross_entropy_with_grad(logits, labels, out=logits)  # in place
                dweight = images.T @ dlogits + args.l2 * weight
                step_weight = args.momentum * step_weight - args.learning_rate * dweight
                step_bias = args.momentum * step_bias - args.learning_rate * dlogits.sum(axis=0)
                weight += step_weight
                bias += step_bias
                total += float(loss) * len(batch)
            losses.append(total / len(x) + 0.5 * args.l2 * float(np.sum(weight * weight)))
            advance()
    return Run(weight.astype(np.float64), bias.astype(np.float64), losses, "epoch")


def lbfgs(digits: Digits, args: argparse.Namespace) -> Run:
    """Full-batch L-BFGS in float64, by `scipy.optimize.minimize`."""
    minimize = _console.optional("scipy.optimize", "train").minimize
    x, labels = digits.train_x, digits.train_y
    pixels = x.shape[1]
    latest = 0.0

    def objective(theta: Floats) -> tuple[float, Floats]:
        nonlocal latest
        weight, bias = _unpack(theta, pixels)
        logits = x @ weight + bias
        loss, dlogits = xent.cross_entropy_with_grad(logits, labels, out=logits)
        dweight = x.T @ dlogits + args.l2 * weight
        latest = float(loss) + 0.5 * args.l2 * float(np.sum(weight * weight))
        return latest, np.concatenate([dweight.ravel(), dlogits.sum(axis=0)])

    losses: list[float] = []
    with _console.progress("iterations", args.iterations) as advance:

        def callback(theta: Floats) -> None:
            losses.append(latest)  # the line search ends at the point that it accepts
            advance()

        found = minimize(
            objective,
            np.zeros((pixels + 1) * CLASSES),
            jac=True,
            method="L-BFGS-B",
            callback=callback,
            options={"maxiter": args.iterations},
        )
    weight, bias = _unpack(found.x, pixels)
    return Run(weight, bias, losses or [float(found.fun)], "iteration")


def _unpack(theta: Floats, pixels: int) -> tuple[Floats, Floats]:
    """The parameters as weight (pixels, classes) and bias (classes,): views."""
    return theta[: pixels * CLASSES].reshape(pixels, CLASSES), theta[pixels * CLASSES :]


def _show_curve(result: Run) -> None:
    """The loss as a line of bars, and as a table of about eight rows."""
    losses = result.losses
    _console.say(f"loss: {_console.sparkline([math.log(max(loss, 1e-300)) for loss in losses])} (logarithmic)")
    picked = sorted({round(i * (len(losses) - 1) / 7) for i in range(8)})
    _console.table([f">{result.unit}", ">loss"], [[str(i + 1), f"{losses[i]:.5f}"] for i in picked])


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a finite number greater than 0")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a finite number, 0 or more")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 0 and less than 1")
    return value
