"""The libraries that `xent bench` measures xent against, each behind the same small adapter.

An adapter does for its library what a competent user of it would write; arrays are converted to the library's
own type, and functions compiled, before anything is timed. Where a library has no function for an operation
the operation is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xent
from xent.cli import _console

LOSS_GRAD, LSE, SOFTMAX, LOG_SOFTMAX = OPERATIONS = ("loss+grad", "lse", "softmax", "log_softmax")

Array = NDArray[Any]
Values = tuple[Any, ...]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Job:
    """One operation of one library on one batch."""

    run: Callable[[], Any]  # what is timed
    values: Callable[[Any], Values]  # its result in NumPy: (mean loss, gradient), (lse,), (softmax,) or (log_softmax,)
    reset: Callable[[], None] = _nothing  # before a run, untimed


Maker = Callable[[Array, Array], Job]  # from logits (N, C) and labels (N,)


@dataclass(frozen=True)
class Peer:
    """A library: who it is, how many threads it was given, what it can do."""

    name: str
    version: str
    threads: str
    jobs: dict[str, Maker] = field(default_factory=dict)
    busy: bool = False  # its threads (OpenMP's) wait busily for a while after a call


def _same(*values: Any) -> Values:
    return values


def _pair(values: Any) -> Values:
    return tuple(values)


def xent_warm(threads: int) -> Peer:
    """xent with `out=` given: the memory of the result is there already."""

    def loss_grad(z: Array, y: Array) -> Job:
        out = np.empty_like(z)
        return Job(lambda: xent.cross_entropy_with_grad(z, y, out=out), _pair)

    def lse(z: Array, y: Array) -> Job:
        out = np.empty(len(z), z.dtype)
        return Job(lambda: xent.logsumexp(z, axis=-1, out=out), _same)

    def softmax(z: Array, y: Array) -> Job:
        out = np.empty_like(z)
        return Job(lambda: xent.softmax(z, axis=-1, out=out), _same)

    def log_softmax(z: Array, y: Array) -> Job:
        out = np.empty_like(z)
        return Job(lambda: xent.log_softmax(z, axis=-1, out=out), _same)

    jobs: dict[str, Maker] = {LOSS_GRAD: loss_grad, LSE: lse, SOFTMAX: softmax, LOG_SOFTMAX: log_softmax}
    return Peer("xent", xent.__version__, str(threads), jobs)


def xent_fresh(threads: int) -> Peer:
    """xent without `out=`: each call allocates its result."""
    jobs: dict[str, Maker] = {
        LOSS_GRAD: lambda z, y: Job(lambda: xent.cross_entropy_with_grad(z, y), _pair),
        LSE: lambda z, y: Job(lambda: xent.logsumexp(z, axis=-1), _same),
        SOFTMAX: lambda z, y: Job(lambda: xent.softmax(z, axis=-1), _same),
        LOG_SOFTMAX: lambda z, y: Job(lambda: xent.log_softmax(z, axis=-1), _same),
    }
    return Peer("xent fresh", xent.__version__, str(threads), jobs)


def xent_in_place(threads: int) -> Peer:
    """xent with `out=logits`; the logits are restored before each measurement."""

    def loss_grad(z: Array, y: Array) -> Job:
        own = z.copy()
        return Job(lambda: xent.cross_entropy_with_grad(own, y, out=own), _pair, lambda: np.copyto(own, z))

    def softmax(z: Array, y: Array) -> Job:
        own = z.copy()
        return Job(lambda: xent.softmax(own, axis=-1, out=own), _same, lambda: np.copyto(own, z))

    def log_softmax(z: Array, y: Array) -> Job:
        own = z.copy()
        return Job(lambda: xent.log_softmax(own, axis=-1, out=own), _same, lambda: np.copyto(own, z))

    jobs: dict[str, Maker] = {LOSS_GRAD: loss_grad, SOFTMAX: softmax, LOG_SOFTMAX: log_softmax}
    return Peer("xent in place", xent.__version__, str(threads), jobs)


def numpy_peer(threads: int) -> Peer:
    """The usual formula, subtracting the maximum, with as few temporaries as NumPy allows."""

    def exponentials(z: Array) -> tuple[Array, Array, Array]:
        top = z.max(axis=1, keepdims=True)
        e = z - top
        np.exp(e, out=e)
        return top, e, e.sum(axis=1, keepdims=True)

    def loss_grad(z: Array, y: Array) -> Job:
        rows = np.arange(len(z))

        def run() -> Values:
            top, grad, total = exponentials(z)
            loss = np.mean((np.log(total) + top)[:, 0] - z[rows, y])
            grad /= total
            grad[rows, y] -= 1
            grad /= len(z)
            return loss, grad

        return Job(run, _pair)

    def lse(z: Array, y: Array) -> Job:
        def run() -> Array:
            top, _, total = exponentials(z)
            result: Array = (np.log(total) + top)[:, 0]
            return result

        return Job(run, _same)

    def softmax(z: Array, y: Array) -> Job:
        def run() -> Array:
            _, e, total = exponentials(z)
            e /= total
            return e

        return Job(run, _same)

    def log_softmax(z: Array, y: Array) -> Job:
        def run() -> Array:
            below: Array = z - z.max(axis=1, keepdims=True)
            below -= np.log(np.exp(below).sum(axis=1, keepdims=True))
            return below

        return Job(run, _same)

    jobs: dict[str, Maker] = {LOSS_GRAD: loss_grad, LSE: lse, SOFTMAX: softmax, LOG_SOFTMAX: log_softmax}
    return Peer("numpy", np.__version__, "1", jobs)


def scipy_peer(threads: int) -> Peer:
    """`scipy.special`, which is single-threaded; the gradient from `log_softmax`."""
    special = _console.optional("scipy.special", "bench")

    def loss_grad(z: Array, y: Array) -> Job:
        rows = np.arange(len(z))

        def run() -> Values:
            log_p = special.log_softmax(z, axis=1)
            loss = -np.mean(log_p[rows, y])
            grad = np.exp(log_p, out=log_p)
            grad[rows, y] -= 1
            grad /= len(z)
            return loss, grad

        return Job(run, _pair)

    jobs: dict[str, Maker] = {
        LOSS_GRAD: loss_grad,
        LSE: lambda z, y: Job(lambda: special.logsumexp(z, axis=1), _same),
        SOFTMAX: lambda z, y: Job(lambda: special.softmax(z, axis=1), _same),
        LOG_SOFTMAX: lambda z, y: Job(lambda: special.log_softmax(z, axis=1), _same),
    }
    return Peer("scipy", _console.optional("scipy", "bench").__version__, "1", jobs)


def sklearn_peer(threads: int) -> Peer:
    """The compiled loss behind `LogisticRegression`; the average over the rows is not charged to it."""
    loss_module = _console.optional("sklearn._loss.loss", "bench")
    extmath = _console.optional("sklearn.utils.extmath", "bench")

    def loss_grad(z: Array, y: Array) -> Job:
        loss = loss_module.HalfMultinomialLoss(n_classes=z.shape[1])
        labels = y.astype(z.dtype)  # the type that it asks for
        losses, grads = np.empty(len(z), z.dtype), np.empty_like(z)

        def run() -> Values:
            loss.loss_gradient(labels, z, loss_out=losses, gradient_out=grads, n_threads=threads)
            return np.mean(losses), grads

        return Job(run, lambda result: (result[0], result[1] / len(z)))

    jobs: dict[str, Maker] = {
        LOSS_GRAD: loss_grad,
        SOFTMAX: lambda z, y: Job(lambda: extmath.softmax(z), _same),
    }
    version = _console.optional("sklearn", "bench").__version__
    return Peer("sklearn", version, f"{threads} (softmax: 1)", jobs, busy=True)


def torch_peer(threads: int, compiled: bool = False) -> Peer:
    """PyTorch on the CPU: `cross_entropy` and its backward pass, eager or through `torch.compile`."""
    torch = _console.optional("torch", "bench")
    torch.set_num_threads(threads)
    wrap = torch.compile if compiled else lambda function: function

    def loss_grad(z: Array, y: Array) -> Job:
        leaf, labels = torch.from_numpy(z.copy()).requires_grad_(), torch.from_numpy(y)
        loss_of = wrap(torch.nn.functional.cross_entropy)

        def run() -> Values:
            loss = loss_of(leaf, labels)
            return loss, torch.autograd.grad(loss, leaf)[0]

        return Job(run, lambda result: (result[0].item(), result[1].numpy()))

    def reduce(function: Any) -> Maker:
        def make(z: Array, y: Array) -> Job:
            tensor, call = torch.from_numpy(z), wrap(function)
            return Job(lambda: call(tensor, dim=1), lambda result: (result.numpy(),))

        return make

    name = "torch.compile" if compiled else "torch"
    jobs = {LOSS_GRAD: loss_grad, LSE: reduce(torch.logsumexp), SOFTMAX: reduce(torch.softmax)}
    jobs[LOG_SOFTMAX] = reduce(torch.log_softmax)
    return Peer(name, torch.__version__, str(torch.get_num_threads()), jobs, busy=True)


def jax_peer(threads: int) -> Peer:
    """JAX on the CPU, jitted. Its threads can be set only before it is first imported."""
    if "jax" in sys.modules:
        given = "as already started"
    else:
        os.environ["NPROC"] = str(threads)  # the size of XLA's thread pool
        if threads == 1:
            flags = os.environ.get("XLA_FLAGS", "")
            os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        given = str(threads)
    jax = _console.optional("jax", "bench")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)  # float32 arrays stay float32
    jnp, special = jax.numpy, jax.nn

    def mean_loss(z: Any, y: Any) -> Any:
        picked = jnp.take_along_axis(z, y[:, None], axis=1)[:, 0]
        return jnp.mean(special.logsumexp(z, axis=1) - picked)

    def job(function: Any, values: Callable[[Any], Values]) -> Maker:
        def make(z: Array, y: Array) -> Job:
            arrays = (jnp.asarray(z), jnp.asarray(y))
            return Job(lambda: jax.block_until_ready(function(*arrays)), values)

        return make

    jobs = {
        LOSS_GRAD: job(jax.jit(jax.value_and_grad(mean_loss)), lambda r: (float(r[0]), np.asarray(r[1]))),
        LSE: job(jax.jit(lambda z, y: special.logsumexp(z, axis=1)), lambda r: (np.asarray(r),)),
        SOFTMAX: job(jax.jit(lambda z, y: special.softmax(z, axis=1)), lambda r: (np.asarray(r),)),
        LOG_SOFTMAX: job(jax.jit(lambda z, y: special.log_softmax(z, axis=1)), lambda r: (np.asarray(r),)),
    }
    return Peer("jax", jax.__version__, given, jobs)


OURS: tuple[Callable[[int], Peer], ...] = (xent_warm, xent_fresh, xent_in_place)

# name -> (the module that must be there, how to build the adapter)
PEERS: dict[str, tuple[str, Callable[[int], Peer]]] = {
    "numpy": ("numpy", numpy_peer),
    "scipy": ("scipy", scipy_peer),
    "sklearn": ("sklearn", sklearn_peer),
    "torch": ("torch", torch_peer),
    "torch.compile": ("torch", lambda threads: torch_peer(threads, compiled=True)),
    "jax": ("jax", jax_peer),
}
DEFAULT_PEERS = ("numpy", "scipy", "sklearn", "torch", "jax")  # torch.compile takes long: on request
