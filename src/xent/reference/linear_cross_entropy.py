"""The definition of a linear layer with softmax cross-entropy: exact products, then the losses of `losses`.

For rows x of shape (N, D), W of shape (C, D), b of shape (C,):

    v = x W^T + b        z = v, or cap tanh(v / cap)        loss, dv as for logits v with softcap=cap
    dx = dv W            dW = dv^T x                        db = sum_i dv_i
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from math import prod
from typing import Any, NamedTuple

from xent.reference import _exact as ex
from xent.reference._batch import Batch, take_apart
from xent.reference._exact import ZERO, Array, Nested, exact, rounded, total
from xent.reference.dense import DenseGrads
from xent.reference.losses import _grad, _loss

Options = tuple[Any, Any, Any, Any, Any, Any, Any]  # from class_weight to normalizer, without softcap


class Layer(NamedTuple):
    """Rows of x (N, D), rows of W (C, D), the shapes, and the batch of their logits."""

    x: list[list[Decimal]]
    weight: list[list[Decimal]]
    x_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    batch: Batch


def _layer(x: Any, weight: Any, targets: Any, bias: Any, softcap: Any, options: Options) -> Layer:
    """The logits' rows: v_c = sum_d x_d W_cd + b_c."""
    xs, ws = ex.as_array(x, "x"), ex.as_array(weight, "weight")
    if len(ws.shape) != 2:
        raise ValueError(f"weight: shape {ws.shape} was given; (classes, features) is accepted")
    classes, features = ws.shape
    if not xs.shape or xs.shape[-1] != features:
        raise ValueError(f"x: shape {xs.shape} was given; (..., {features}) is accepted")
    batch = xs.shape[:-1]
    b = [ZERO] * classes if bias is None else ex.of_shape(bias, "bias", (classes,))
    x_rows, w_rows = _rows(xs, prod(batch)), _rows(ws, classes)
    logits = [
        total(x_d * w_d for x_d, w_d in zip(row, w, strict=True)) + b_c
        for row in x_rows
        for w, b_c in zip(w_rows, b, strict=True)
    ]
    if callable(targets):
        q = ex.as_array(targets(0, prod(batch)), "targets")
        targets = Array((*batch, classes), q.flat, q.kind)
    given = Array((*batch, classes), logits, "f")
    return Layer(x_rows, w_rows, xs.shape, ws.shape, take_apart(given, targets, -1, *options, softcap))


def _rows(array: Array, count: int) -> list[list[Decimal]]:
    values, n = array.decimals(), array.shape[-1]
    return [values[i * n : (i + 1) * n] for i in range(count)]


@exact
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
) -> Nested | tuple[Nested, Nested]:
    """`cross_entropy` of the logits x W^T + b.

    Parameters
    ----------
    x : array_like, shape (..., D)
    weight : array_like, shape (C, D)
    targets : array_like, or a function of (first, last)
        As for `cross_entropy`; or the function that makes the targets of rows first .. last - 1.
    bias : array_like, shape (C,), optional
    class_weight, sample_weight, label_smoothing, ignore_index, z_loss, softcap, reduction, normalizer, return_lse
        As for `cross_entropy`.
    max_bytes : int, optional
        Makes no difference here.

    Returns
    -------
    loss, and lse with `return_lse`

    Raises
    ------
    TypeError, ValueError
        As for `cross_entropy`, and for shapes that do not fit.

    Examples
    --------
    >>> from xent.reference import linear_cross_entropy
    >>> linear_cross_entropy([[1.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]], [1])
    0.6931471805599453
    """
    options = class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    batch = _layer(x, weight, targets, bias, softcap, options).batch
    loss = batch.reduced(_loss)
    return (loss, batch.lse()) if return_lse else loss


@exact
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
    out: None = None,
    accumulate: bool = False,
) -> tuple[Any, ...]:
    """The same with the gradients of sum_i grad_loss_i loss_i with respect to x, W and b.

    Parameters, errors: as `linear_cross_entropy`; `grad_loss` as for `cross_entropy_grad`; and

    need : iterable of {"x", "weight", "bias"}
        The gradients wanted.
    out, accumulate
        None and False: there is nothing to write into.

    Returns
    -------
    loss, DenseGrads(x, weight, bias), and lse with `return_lse`

    Examples
    --------
    >>> from xent.reference import linear_cross_entropy_with_grad
    >>> linear_cross_entropy_with_grad([[1.0]], [[0.0], [0.0]], [1], need=("weight",))[1].weight
    [[0.5], [-0.5]]
    """
    ex.check_out(out)
    if accumulate:
        raise ValueError("accumulate: the reference returns lists; only False is accepted")
    if isinstance(need, str) or not set(need) <= {"x", "weight", "bias"}:
        raise ValueError(f"need: {need!r} was given; some of 'x', 'weight', 'bias' are accepted")
    options = class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    layer = _layer(x, weight, targets, bias, softcap, options)
    batch, wanted = layer.batch, set(need)
    dv = _logit_grads(batch, _factors(grad_loss, batch))
    features = range(layer.weight_shape[1])
    dx = [total(g * w[d] for g, w in zip(row, layer.weight, strict=True)) for row in dv for d in features]
    columns = [[row[c] for row in dv] for c in range(layer.weight_shape[0])]
    dw = [total(g * row[d] for g, row in zip(g_c, layer.x, strict=True) if g) for g_c in columns for d in features]
    grads = DenseGrads(
        rounded(dx, layer.x_shape) if "x" in wanted else None,
        rounded(dw, layer.weight_shape) if "weight" in wanted else None,
        rounded([total(g_c) for g_c in columns], layer.weight_shape[:1])
        if "bias" in wanted and bias is not None
        else None,
    )
    loss = batch.reduced(_loss)
    return (loss, grads, batch.lse()) if return_lse else (loss, grads)


def _factors(grad_loss: Any, batch: Batch) -> list[Decimal]:
    """grad_loss of each row."""
    g = ex.of_shape(grad_loss, "grad_loss", (), *([batch.batch] if batch.reduction == "none" else []))
    return g if len(g) == len(batch.rows) else g * len(batch.rows)


def _logit_grads(batch: Batch, g: list[Decimal]) -> list[list[Decimal]]:
    """d loss / d v of each row, unrounded; zeros where a row counts for nothing."""
    nothing = [ZERO] * batch.shape[-1]
    divisor: Callable[[Decimal], Decimal] = lambda v: v / batch.divisor  # noqa: E731
    return [
        nothing if row is None or not row.s or not batch.divisor else [divisor(g_n * v) for v in _grad(row)]
        for row, g_n in zip(batch.rows, g, strict=True)
    ]
