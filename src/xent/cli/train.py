"""`xent train`: learn handwritten digits, with xent for the loss and the gradients.

Multinomial logistic regression on 1,797 images of 8 x 8 pixels, four fifths of them for training; with `--hidden`
a network. NumPy does the products of matrices, xent everything else between the images and the gradients. Fails
(exit status 1) if fewer than 95 % of the images held out are recognised, 97 % with `--hidden`."""

from __future__ import annotations

import argparse
import math
import time

from numpy.random import default_rng

import xent
from xent._activations import NAMES
from xent.cli import _console, network
from xent.cli._data import SOURCE, Digits, load_digits
from xent.cli.network import IMMORTAL, Params, Run

HELP = "train a digit classifier with xent as its loss, and test it"
REQUIRED_ACCURACY = {False: 0.95, True: 0.97}  # without and with hidden layers
REPORTED_IMAGES = 256
DEAD_EPOCHS = 5  # of training from a start that is dead


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
    parser.add_argument("--hidden", type=_sizes, default=(), help="units of the hidden layers, for example 128,64")
    parser.add_argument("--activation", choices=NAMES, default="relu", help="of the hidden layers")
    parser.add_argument("--noise", type=_not_negative, default=0.3, help="on the pixels, with --hidden (sgd)")
    parser.add_argument("--report", action="store_true", help="what became of the gradients, before and after")
    parser.add_argument("--seed", type=int, default=0, help="of the start, the order of the images and the noise")
    parser.add_argument("--plot", metavar="FILE.png", help="save the loss curve here (needs matplotlib)")


def run(args: argparse.Namespace) -> int:
    """Train, show the loss curve, test; 0 if the accuracy is as required."""
    if args.plot:
        _console.optional("matplotlib", "plot")  # before the work, not after it
    digits = load_digits()
    _console.say(f"data: {SOURCE}")
    counts = f"{len(digits.train_y)} images to learn from, {len(digits.test_y)} held out"
    layers = " - ".join(map(str, (digits.train_x.shape[1], *args.hidden, network.CLASSES)))
    _console.say(f"{counts}; optimizer {args.optimizer}; layers {layers}")
    begin = network.start(digits.train_x.shape[1], args)
    if args.report:
        report("at the start", begin, digits, args)
    start = time.perf_counter()
    result = _train(begin, digits, args)
    seconds = time.perf_counter() - start
    _show_curve(result)
    scores = _scores(result.params, digits, args)
    _console.say(f"accuracy: {scores[0]:.4f} on the training images, {scores[1]:.4f} on those held out")
    _console.say(f"time: {seconds:.2f} s for {len(result.losses)} {result.unit}s")
    if args.report:
        report("after training", result.params, digits, args)
        if args.hidden:
            _show_a_dead_start(digits, args)
    if args.plot:
        from xent.cli import plot

        plot.loss_curve(result.losses, result.unit, args.plot)
        _console.say(f"loss curve saved to {args.plot}")
    required = REQUIRED_ACCURACY[bool(args.hidden)]
    if scores[1] >= required:
        return 0
    _console.say(f"FAILED: {scores[1]:.4f} is less than the {required} required")
    return 1


def _train(params: Params, digits: Digits, args: argparse.Namespace) -> Run:
    return network.lbfgs(params, digits, args) if args.optimizer == "lbfgs" else network.sgd(params, digits, args)


def _scores(params: Params, digits: Digits, args: argparse.Namespace) -> list[float]:
    """The accuracy on the training images and on those held out."""
    dtype = params[0][0].dtype
    return [
        network.accuracy(params, images.astype(dtype), labels, args.activation)
        for images, labels in ((digits.train_x, digits.train_y), (digits.test_x, digits.test_y))
    ]


def report(when: str, params: Params, digits: Digits, args: argparse.Namespace) -> None:
    """Print `gradient_flow` for some of the training images."""
    _console.heading(f"gradients {when}")
    some = default_rng(0).permutation(len(digits.train_y))[:REPORTED_IMAGES]
    images = digits.train_x[some].astype(params[0][0].dtype)
    _console.say(str(xent.gradient_flow(params, images, digits.train_y[some], activation=args.activation)))


def _show_a_dead_start(digits: Digits, args: argparse.Namespace) -> None:
    """A start whose last hidden layer is off for every image, and some training: nothing below ever moves."""
    if args.activation in IMMORTAL:
        _console.say(f"no start is dead with {args.activation}: its slope is nowhere 0")
        return
    dead = network.start(digits.train_x.shape[1], args, dead=True)
    report(f"at a start built to be dead (biases of {network.OFF:g} in the last hidden layer)", dead, digits, args)
    few = argparse.Namespace(**{**vars(args), "epochs": DEAD_EPOCHS, "iterations": DEAD_EPOCHS})
    result = _train(dead, digits, few)
    report(f"{len(result.losses)} {result.unit}s later", result.params, digits, args)
    _console.say(f"accuracy from the dead start: {_scores(result.params, digits, args)[1]:.4f} on those held out")


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


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_positive_int(item) for item in text.split(","))
