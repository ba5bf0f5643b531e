"""A linear layer and the softmax cross-entropy of its logits in one: the logits are never there as a whole.

With logits ``z = softcap(x W^T + b)``, ``softcap(v) = cap tanh(v / cap)`` or v itself, and the loss of `xent.losses`::

    dv = dz (1 - (z / cap)^2)      dx = dv W      dW = dv^T x      db = sum of dv over the rows

Blocks of logits of at most `max_bytes` are made, turned into losses and gradients where they stand, used and
overwritten by the next. docs/linear.md says how, and what holds about memory and about bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xent._linear import prepare, wanted_grads
from xent._linear_blocks import solve
from xent.dense import DenseGrads

__all__ = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]


def linear_cross_entropy(
    x: Any,
    weight: Any,
    targets: Any,
    bias: Any = None,
    *,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    return_lse: bool = False,
    max_bytes: int | None = None,
) -> Any:
    r"""Softmax cross-entropy of the logits of a linear layer, ``x @ weight.T + bias``, without an array of them.

    .. math:: \ell = \mathrm{cross\_entropy}(\mathrm{cap} \tanh((x W^T + b) / \mathrm{cap}), \mathrm{targets})

    Parameters
    ----------
    x : array_like, shape (..., D)
        The layer's input: a row for each target.
    weight : array_like, shape (C, D)
        A row for each class; may be a `numpy.memmap`.
    targets : array_like or callable
        Integers of shape (...): the class of each row. Or floats of shape (..., C): a target distribution per row. Or a
        function that makes these for a block of rows: ``targets(first, last)`` returns those of rows first .. last - 1
        (counted over all leading axes), shape (last - first, C). With "mean" and no `normalizer` it is called twice for
        each block, first for the sum of the weights.
    bias : array_like, shape (C,), optional
    class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
        As for `cross_entropy`. Rows that are ignored or have weight 0 are left out of the products.
    softcap : float, optional
        The cap: logits become ``cap * tanh(z / cap)`` (Gemma 2 has 30 there), from 2**-100 to 2**100.
    return_lse : bool, optional
        Also return logsumexp of each row.
    max_bytes : int, optional
        The size of the block of logits, with the copies of rows that go with it; at least that of 64 logits. 58 MiB if
        not given.

    Returns
    -------
    loss : scalar, or ndarray of shape (...) for ``reduction="none"``
    lse : scalar or ndarray
        Only with `return_lse`.

    Raises
    ------
    TypeError
        A dtype that is not accepted; `x`, `weight` and `bias` of different dtypes.
    ValueError
        Shapes that do not fit, a bad target, an option out of bounds.

    See Also
    --------
    linear_cross_entropy_with_grad, cross_entropy
    LogSumExpState : when the classes are spread over processes.

    References
    ----------
    .. [1] E. Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024, arXiv:2411.09009.
    .. [2] Gemma Team, "Gemma 2", 2024, arXiv:2408.00118 (softcap).

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> rng = np.random.default_rng(0)
    >>> x, weight, labels = rng.normal(size=(6, 3)), rng.normal(size=(50, 3)), rng.integers(0, 50, 6)
    >>> loss = xent.linear_cross_entropy(x, weight, labels, max_bytes=1000)
    >>> bool(np.isclose(loss, xent.cross_entropy(x @ weight.T, labels), rtol=1e-14))
    True
    """
    options = class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    problem = prepare(x, weight, targets, bias, 1.0, softcap, max_bytes, return_lse, options)
    loss, lse = solve(problem, DenseGrads(None, None, None), False, return_lse)
    return (loss, lse) if return_lse else loss


def linear_cross_entropy_with_grad(
    x: Any,
    weight: Any,
    targets: Any,
    bias: Any = None,
    grad_loss: Any = 1.0,
    *,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    return_lse: bool = False,
    max_bytes: int | None = None,
    need: Iterable[str] = ("x", "weight", "bias"),
    out: Any = None,
    accumulate: bool = False,
) -> Any:
    r"""The same with its gradients with respect to `x`, `weight` and `bias`.

    .. math:: \frac{\partial \ell}{\partial x} = \dot z\, W, \quad
              \frac{\partial \ell}{\partial W} = \dot z^T x, \quad
              \frac{\partial \ell}{\partial b} = \sum_i \dot z_i, \quad
              \dot z = \frac{\partial \ell}{\partial (x W^T + b)}

    Three products, and one exponential per logit. Where fewer than 32 rows of logits fit into `max_bytes`, the classes
    are taken in tiles too, and the logits are made twice: four products.

    Parameters
    ----------
    x, weight, targets, bias, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, softcap
        As for `linear_cross_entropy`.
    reduction, normalizer, return_lse, max_bytes
        As for `linear_cross_entropy`.
    grad_loss : float or array_like, optional
        The gradient with respect to the loss: a number, or with ``reduction="none"`` one per row. The gradients are
        those of the sum over the rows of ``grad_loss * loss``.
    need : iterable of {"x", "weight", "bias"}, optional
        The gradients to compute: without "weight" for a frozen layer, say.
    out : DenseGrads or tuple of three, optional
        Arrays for the gradients of x, weight and bias, None for a new one. They may overlap nothing else.
    accumulate : bool, optional
        Add to what the arrays in `out` hold.

    Returns
    -------
    loss : scalar, or ndarray of shape (...) for ``reduction="none"``
    grads : DenseGrads
        The named tuple (x, weight, bias); None what `need` leaves out, and the bias if there is none.
    lse : scalar or ndarray
        Only with `return_lse`.

    Raises
    ------
    TypeError, ValueError
        As for `linear_cross_entropy`; and a name in `need`, or an array in `out`, that does not fit. Nothing is written
        then, unless it is a target that a function makes that is at fault and a `normalizer` or another reduction than
        "mean" made the first look at it the last.

    See Also
    --------
    linear_cross_entropy, cross_entropy_with_grad

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> x, weight = np.array([[1.0, 2.0]]), np.zeros((4, 2))
    >>> loss, grads = xent.linear_cross_entropy_with_grad(x, weight, [3], need=("weight",))
    >>> grads.weight
    array([[ 0.25,  0.5 ],
           [ 0.25,  0.5 ],
           [ 0.25,  0.5 ],
           [-0.75, -1.5 ]])
    >>> grads.x is None
    True
    """
    options = class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    problem = prepare(x, weight, targets, bias, grad_loss, softcap, max_bytes, return_lse, options)
    grads = wanted_grads(problem, tuple(need) if not isinstance(need, str) else need, out, accumulate, targets)
    loss, lse = solve(problem, grads, accumulate, return_lse)
    return (loss, grads, lse) if return_lse else (loss, grads)
