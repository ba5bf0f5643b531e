"""The definition of a dense layer, forward and backward, in 60-digit decimals.

For each sample i of the batch, with weight W (out, in):

    z_i  = W x_i + b          y_i  = f(z_i)
    dz_i = dy_i f'(z_i)       dx_i = W^T dz_i        dW = sum_i dz_i x_i^T        db = sum_i dz_i

Nothing is rounded on the way; `xent` rounds z and dz to the dtype.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from xent.reference._exact import ZERO, Nested, Shape, as_array, check_out, exact, rounded, total
from xent.reference._layer import Rows, columns, dot, norm, read_layer, read_rows
from xent.reference.activations import find

GRADS = ("x", "weight", "bias")


class DenseGrads(NamedTuple):
    """The gradients of a dense layer as nested lists of floats; None for those not asked for."""

    x: Nested | None
    weight: Nested | None
    bias: Nested | None


@exact
def dense(
    x: Any, weight: Any, bias: Any = None, activation: str | None = None, *, out: None = None, saved: None = None
) -> Nested:
    """f(x W^T + b) for each sample.

    Parameters
    ----------
    x : array_like, shape (..., in)
    weight : array_like, shape (out, in)
    bias : array_like, shape (out,), optional
    activation : str, optional
        The name of f; see `activations`.
    out, saved : None

    Returns
    -------
    y : nested list, shape (..., out)

    Raises
    ------
    TypeError
        Elements that are not real numbers; an `out` or `saved`.
    ValueError
        A shape that does not fit, an activation that there is not.

    Examples
    --------
    >>> from xent.reference import dense
    >>> dense([[1.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]], [0.5, 0.0], "relu")
    [[3.5, 0.0]]
    """
    check_out(out)
    check_out(saved)
    f, _ = find(activation)
    x_rows, batch, w = read_layer(x, weight)
    b = [ZERO] * len(w)
    if bias is not None:
        given = as_array(bias, "bias")
        if given.shape != (len(w),):
            raise ValueError(f"bias: shape {given.shape} was given; {(len(w),)} is accepted")
        b = given.decimals()
    y = [f(dot(w_k, row) + b_k) for row in x_rows for w_k, b_k in zip(w, b, strict=True)]
    return rounded(y, (*batch, len(w)))


@exact
def dense_backward(
    grad_y: Any,
    x: Any,
    weight: Any,
    saved: Any,
    activation: str | None = None,
    *,
    need: Iterable[str] = GRADS,
    out: None = None,
    accumulate: bool = False,
    grad_z_out: None = None,
    per_sample_norms: bool = False,
) -> Any:
    """From d loss / d y to the gradients of x, weight and bias.

    Parameters
    ----------
    grad_y : array_like, shape (..., out)
    x : array_like, shape (..., in)
    weight : array_like, shape (out, in)
    saved : array_like, shape (..., out)
        y or z, as `saved_kind` says; not read for the identity.
    activation : str, optional
    need : any of "x", "weight", "bias"
    out, grad_z_out : None
    accumulate : bool
        Must be false: there is nothing to add to.
    per_sample_norms : bool
        Also return sqrt(||dz_i||^2 (||x_i||^2 + 1)) of each sample; without the 1 if the bias is not needed.

    Returns
    -------
    grads : DenseGrads
    norms : nested list of the batch shape
        Only with `per_sample_norms`.

    Raises
    ------
    TypeError, ValueError
        As for `dense`; a name in `need` that there is not.

    Examples
    --------
    >>> from xent.reference import dense_backward
    >>> dense_backward([[1.0, 1.0]], [[1.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]], [[3.0, 0.0]], "relu")
    DenseGrads(x=[[1.0, 1.0]], weight=[[1.0, 2.0], [0.0, 0.0]], bias=[1.0, 0.0])
    """
    check_out(out)
    check_out(grad_z_out)
    if accumulate:
        raise ValueError("accumulate: the reference has nothing to add to")
    wanted = {need} if isinstance(need, str) else set(need)
    if not wanted <= set(GRADS):
        raise ValueError(f"need: {sorted(wanted, key=str)} was given; {GRADS} are accepted")
    _, slope = find(activation)
    x_rows, batch, w = read_layer(x, weight)
    dz = read_rows(grad_y, "grad_y", batch, len(w))
    if activation not in (None, "identity"):
        at = read_rows(saved, "saved", batch, len(w))
        dz = [[g * slope(s) for g, s in zip(*rows, strict=True)] for rows in zip(dz, at, strict=True)]
    inputs = as_array(x, "x").shape[-1]
    grads: dict[str, Nested] = {}
    if "x" in wanted:
        w_columns = columns(w, inputs)
        grads["x"] = rounded([dot(row, c) for row in dz for c in w_columns], (*batch, inputs))
    if "weight" in wanted:
        grads["weight"] = outer_sum(dz, x_rows, (len(w), inputs))
    if "bias" in wanted:
        grads["bias"] = rounded([total(c) for c in columns(dz, len(w))], (len(w),))
    found = DenseGrads(*(grads.get(name) for name in GRADS))
    if not per_sample_norms:
        return found
    norms = [norm(z, row, "bias" in wanted) for z, row in zip(dz, x_rows, strict=True)]
    return found, rounded(norms, batch)


def outer_sum(dz: Rows, x: Rows, shape: Shape) -> Nested:
    """sum_i dz_i x_i^T"""
    z_columns, x_columns = columns(dz, shape[0]), columns(x, shape[1])
    return rounded([dot(z, c) for z in z_columns for c in x_columns], shape)


@exact
def dense_sample_norms(grad_z: Any, x: Any, *, bias: bool = True) -> Nested:
    """sqrt(||dz_i||^2 (||x_i||^2 + 1)) of each sample: the norm of its gradient dz_i (x_i, 1)^T, which is not formed.

    Parameters: `grad_z` (..., out), `x` (..., in), `bias`: without one the 1 is left out. Returns a nested list of the
    batch shape. Raises TypeError, ValueError as `dense` does.

    Examples
    --------
    >>> from xent.reference import dense_sample_norms
    >>> dense_sample_norms([[3.0, 4.0]], [[2.0, 2.0]])
    [15.0]
    """
    dz, x_rows, batch, _ = _samples(grad_z, x)
    return rounded([norm(z, row, bias) for z, row in zip(dz, x_rows, strict=True)], batch)


@exact
def dense_sample_grads(grad_z: Any, x: Any, *, out: None = None) -> Nested:
    """dz_i x_i^T of each sample: a nested list of shape (..., out, in).

    Examples
    --------
    >>> from xent.reference import dense_sample_grads
    >>> dense_sample_grads([[1.0, 2.0]], [[3.0, 4.0]])
    [[[3.0, 4.0], [6.0, 8.0]]]
    """
    check_out(out)
    dz, x_rows, batch, shape = _samples(grad_z, x)
    values = [z * v for z_row, row in zip(dz, x_rows, strict=True) for z in z_row for v in row]
    return rounded(values, (*batch, *shape))


@exact
def dense_weighted_grads(grad_z: Any, x: Any, sample_weight: Any, *, out: None = None) -> DenseGrads:
    """sum_i s_i dz_i x_i^T and sum_i s_i dz_i, for weights s of the batch shape and of either sign.

    Examples
    --------
    >>> from xent.reference import dense_weighted_grads
    >>> dense_weighted_grads([[1.0], [1.0]], [[3.0, 4.0], [1.0, 0.0]], [1.0, -0.5])
    DenseGrads(x=None, weight=[[2.5, 4.0]], bias=[0.5])
    """
    check_out(out)
    dz, x_rows, batch, shape = _samples(grad_z, x)
    s = as_array(sample_weight, "sample_weight")
    if s.shape != batch:
        raise ValueError(f"sample_weight: shape {s.shape} was given; {batch} is accepted")
    return _weighted(dz, x_rows, s.decimals(), shape)


@exact
def dense_clipped_grads(
    grad_z: Any, x: Any, max_norm: float, *, sample_norms: Any = None, bias: bool = True, out: None = None
) -> DenseGrads:
    """The sum of the samples' gradients, each scaled to a norm of at most `max_norm`: s_i = min(1, max_norm / n_i).

    The n_i are `sample_norms`, or the layer's own; `bias` is None in the result of a layer without one.

    Examples
    --------
    >>> from xent.reference import dense_clipped_grads
    >>> dense_clipped_grads([[3.0], [0.1]], [[4.0], [0.0]], 1.0, bias=False)
    DenseGrads(x=None, weight=[[1.0]], bias=None)
    """
    check_out(out)
    dz, x_rows, batch, shape = _samples(grad_z, x)
    (limit,) = as_array(max_norm, "max_norm").decimals()
    if not ZERO <= limit < Decimal("inf"):
        raise ValueError(f"max_norm: {max_norm} was given; a finite number >= 0 is accepted")
    norms = [norm(z, row, bias) for z, row in zip(dz, x_rows, strict=True)]
    if sample_norms is not None:
        given = as_array(sample_norms, "sample_norms")
        norms = given.decimals()
        if given.shape != batch or not all(n >= 0 for n in norms):
            raise ValueError(f"sample_norms: numbers >= 0 of shape {batch} are accepted")
    found = _weighted(dz, x_rows, [limit / n if n > limit else Decimal(1) for n in norms], shape)
    return found if bias else found._replace(bias=None)


def _samples(grad_z: Any, x: Any) -> tuple[Rows, Rows, Shape, Shape]:
    """The rows of dz and x, the batch shape, and (out, in)."""
    z_shape, x_shape = as_array(grad_z, "grad_z").shape, as_array(x, "x").shape
    if not z_shape or not x_shape or z_shape[:-1] != x_shape[:-1]:
        raise ValueError(f"grad_z: shape {z_shape} was given for x of shape {x_shape}; their batches must agree")
    batch = x_shape[:-1]
    dz = read_rows(grad_z, "grad_z", batch, z_shape[-1])
    return dz, read_rows(x, "x", batch, x_shape[-1]), batch, (z_shape[-1], x_shape[-1])


def _weighted(dz: Rows, x: Rows, s: list[Decimal], shape: Shape) -> DenseGrads:
    scaled = [[s_i * z for z in row] for s_i, row in zip(s, dz, strict=True)]
    bias = rounded([total(c) for c in columns(scaled, shape[0])], shape[:1])
    return DenseGrads(None, outer_sum(scaled, x, shape), bias)
