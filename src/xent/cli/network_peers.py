"""A training step of a network, loss and all gradients, in each library that `xent bench` compares.

As in `peers`, an adapter does what a competent user of its library would write; arrays are converted, functions
compiled and results given their memory before anything is timed. `bare` is the unit: the step's products alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xent
from xent.cli import _console

Array = NDArray[Any]
Params = list[tuple[Array, Array]]
Run = Callable[[], Any]
Values = Callable[[Any], tuple[float, list[tuple[Array, Array]]]]  # the loss, and (dW, db) of each layer


@dataclass(frozen=True)
class Problem:
    """A network with relu and a batch; every number in it is finite, and stays so in the products."""

    params: Params
    x: Array
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, rows: int, sizes: tuple[int, ...], dtype: Any = np.float32) -> Problem:
        rng = np.random.default_rng((rows, *sizes))
        params = [
            (
                (rng.standard_normal((n, m)) * np.sqrt(2.0 / m)).astype(dtype),
                (0.1 * rng.standard_normal(n)).astype(dtype),
            )
            for m, n in pairwise(sizes)
        ]
        x = rng.standard_normal((rows, sizes[0])).astype(dtype)
        return cls(params, x, rng.integers(0, sizes[-1], rows))

    def truth(self) -> tuple[float, list[tuple[Array, Array]]]:
        """By the usual formulas in float64."""
        params = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in self.params]
        return numpy_step(params, self.x.astype(np.float64), self.labels)

    def products(self) -> list[tuple[Array, Array, Array]]:
        """(left, right, out) of the step's products in its order: forward; then dW and, but for the first, dX."""
        rows, dtype = len(self.x), self.x.dtype
        outputs = [np.zeros((rows, len(weight)), dtype) for weight, _ in self.params]
        inputs = [self.x, *outputs[:-1]]
        dz = [np.full_like(output, 1.0 / rows) for output in outputs]
        todo = [(h, weight.T, z) for h, (weight, _), z in zip(inputs, self.params, outputs, strict=True)]
        for i in reversed(range(len(self.params))):
            weight = self.params[i][0]
            todo.append((dz[i].T, inputs[i], np.empty_like(weight)))
            if i:
                todo.append((dz[i], weight, dz[i - 1]))
        return todo


def numpy_step(params: Params, x: Array, labels: NDArray[np.int64]) -> tuple[float, list[tuple[Array, Array]]]:
    """What one writes by hand."""
    inputs = [x]
    for weight, bias in params[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weight.T + bias, 0))
    z = inputs[-1] @ params[-1][0].T + params[-1][1]
    rows = np.arange(len(x))
    z -= z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - z[rows, labels])
    dz = e / total
    dz[rows, labels] -= 1
    dz /= len(x)
    grads: list[tuple[Array, Array]] = []
    for i in reversed(range(len(params))):
        grads.insert(0, (dz.T @ inputs[i], dz.sum(axis=0)))
        if i:
            dz = dz @ params[i][0] * (inputs[i] > 0)
    return loss, grads


def bare(problem: Problem, threads: int) -> tuple[Run, None]:
    """`np.matmul(..., out=)` and nothing else."""
    todo, matmul = problem.products(), np.matmul

    def run() -> None:
        for left, right, out in todo:
            matmul(left, right, out=out)

    return run, None


def xent_step(problem: Problem, threads: int, norms: bool = False) -> tuple[Run, Values]:
    """xent with a workspace, as in a training loop."""
    params, x, labels, workspace = problem.params, problem.x, problem.labels, xent.MlpWorkspace()

    def run() -> Any:
        return xent.mlp_with_grad(params, x, labels, workspace=workspace, per_sample_norms=norms)

    return run, lambda result: (float(result[0]), [(grad.weight, grad.bias) for grad in result[1]])


def numpy_by_hand(problem: Problem, threads: int) -> tuple[Run, Values]:
    """NumPy alone."""
    return lambda: numpy_step(problem.params, problem.x, problem.labels), lambda result: result


def sklearn_step(problem: Problem, threads: int) -> tuple[Run, Values]:
    """The step inside `MLPClassifier.partial_fit`, without its optimiser."""
    network = _console.optional("sklearn.neural_network", "bench")
    sizes = [len(bias) for _, bias in problem.params]
    model = network.MLPClassifier(tuple(sizes[:-1]), alpha=0.0)
    model.partial_fit(problem.x, problem.labels, classes=np.arange(sizes[-1]))  # sets it up
    model.coefs_ = [weight.T.copy() for weight, _ in problem.params]
    model.intercepts_ = [bias.copy() for _, bias in problem.params]
    one_hot = np.eye(sizes[-1], dtype=bool)[problem.labels]
    lists: list[list[Any]] = [
        [problem.x, *([None] * len(sizes))],
        [None] * len(sizes),
        [np.empty_like(coef) for coef in model.coefs_],
        [np.empty_like(intercept) for intercept in model.intercepts_],
    ]
    weights = [None] * ("sample_weight" in inspect.signature(model._backprop).parameters)

    def run() -> Any:
        return model._backprop(problem.x, one_hot, *weights, *lists)

    return run, lambda result: (float(result[0]), [(w.T, b) for w, b in zip(result[1], result[2], strict=True)])


def torch_step(problem: Problem, threads: int) -> tuple[Run, Values]:
    """PyTorch, eager."""
    torch = _console.optional("torch", "bench")
    torch.set_num_threads(threads)
    functional = torch.nn.functional
    leaves = [[torch.from_numpy(a.copy()).requires_grad_() for a in layer] for layer in problem.params]
    flat = [leaf for layer in leaves for leaf in layer]
    x, labels = torch.from_numpy(problem.x), torch.from_numpy(problem.labels)

    def run() -> Any:
        h = x
        for weight, bias in leaves[:-1]:
            h = torch.relu(functional.linear(h, weight, bias))
        loss = functional.cross_entropy(functional.linear(h, *leaves[-1]), labels)
        return loss, torch.autograd.grad(loss, flat)

    def values(result: Any) -> tuple[float, list[tuple[Array, Array]]]:
        arrays = [grad.numpy() for grad in result[1]]
        return result[0].item(), list(zip(arrays[::2], arrays[1::2], strict=True))

    return run, values


def jax_step(problem: Problem, threads: int) -> tuple[Run, Values]:
    """JAX, `jit(value_and_grad)`; its threads are set before it is first imported (see `peers.jax_peer`)."""
    jax = _console.optional("jax", "bench")
    jnp = jax.numpy

    def loss_of(params: Any, x: Any, labels: Any) -> Any:
        h = x
        for weight, bias in params[:-1]:
            h = jax.nn.relu(h @ weight.T + bias)
        z = h @ params[-1][0].T + params[-1][1]
        picked = jnp.take_along_axis(z, labels[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - picked)

    step = jax.jit(jax.value_and_grad(loss_of))
    params = [tuple(jnp.asarray(a) for a in layer) for layer in problem.params]
    x, labels = jnp.asarray(problem.x), jnp.asarray(problem.labels)
    return (
        lambda: jax.block_until_ready(step(params, x, labels)),
        lambda result: (float(result[0]), [(np.asarray(w), np.asarray(b)) for w, b in result[1]]),
    )


BARE, OURS, WITH_NORMS = "bare products", "xent", "xent, with norms"

# name -> (the module that must be there, how to set the step up)
STEPS: dict[str, tuple[str, Callable[[Problem, int], tuple[Run, Values | None]]]] = {
    BARE: ("numpy", bare),
    OURS: ("numpy", xent_step),
    WITH_NORMS: ("numpy", lambda problem, threads: xent_step(problem, threads, norms=True)),
    "numpy": ("numpy", numpy_by_hand),
    "sklearn": ("sklearn", sklearn_step),
    "torch": ("torch", torch_step),
    "jax": ("jax", jax_step),
}
