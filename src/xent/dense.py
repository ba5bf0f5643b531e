r"""A dense layer, forward and backward.

For x (..., in), weight W (out, in) and bias b (out,), the batch axes flattened to rows i::

    z_i = W x_i + b        y_i = f(z_i)
    dz_i = dy_i f'(z_i)    dx_i = W^T dz_i    dW = sum_i dz_i x_i^T    db = sum_i dz_i

The products are NumPy's; bias and activation are one sweep over the product, dz and db one sweep over dy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xent import _kernels
from xent._activations import OF_Z, activation_code, saved_kind
from xent._arrays import Array, destination, floating
from xent._layer import (
    GRADS,
    DenseGrads,
    as_rows,
    batch_of,
    gradients_needed,
    norms_of,
    of_shape,
    one_dtype,
    plain_rows,
    put_norms,
    put_product,
    put_rows,
    work_rows,
)

__all__ = ["DenseGrads", "dense", "dense_backward", "saved_kind"]


def dense(
    x: Any,
    weight: Any,
    bias: Any = None,
    activation: str | None = None,
    *,
    out: Array | None = None,
    saved: Array | None = None,
) -> Array:
    r"""A dense layer: products, bias and activation.

    .. math:: y = f(x W^T + b)

    Parameters
    ----------
    x : array_like, shape (..., in)
        float32 or float64 (integers are taken as float64), with any batch axes.
    weight : array_like, shape (out, in)
        The W, of the dtype of x.
    bias : array_like, shape (out,), optional
        The b, of the dtype of x.
    activation : str, optional
        The f: None or "identity", "relu", "leaky_relu" (slope 0.01 below 0), "tanh", "sigmoid", "softplus", "gelu"
        (z Phi(z)), "gelu_tanh" (its approximation by a tanh), "silu".
    out : ndarray, shape (..., out), optional
        Where to put y.
    saved : ndarray, shape (..., out), optional
        Where to put z = x W^T + b, for an activation whose derivative is taken from z (see `saved_kind`).

    Returns
    -------
    y : ndarray, shape (..., out)
        In the dtype of x. z is NumPy's product plus b, rounded to the dtype; f(z) is within 1 ulp of the exact value
        (4 for "gelu" in float64), the same bits on every tier, and 0 below the smallest normal number.

    Raises
    ------
    TypeError
        A dtype that is not accepted, or more than one.
    ValueError
        A shape that does not fit, an activation that there is not, `saved` where y is what is wanted; an `out` or
        `saved` that does not fit, is read-only, or overlaps what is read. Nothing is written then.

    See Also
    --------
    dense_backward, saved_kind

    Notes
    -----
    A batch of several axes that cannot be merged in memory is copied; so is an `out` or `saved` that is not contiguous.

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> x, weight = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 0.5]])
    >>> xent.dense(x, weight, np.array([0.5, 0.0, 0.0]), "relu")
    array([[3.5, 0. , 1. ]])
    """
    code = activation_code(activation)
    arrays = {"x": floating(x, "x"), "weight": floating(weight, "weight")}
    if bias is not None:
        arrays["bias"] = floating(bias, "bias")
    x, weight, bias = arrays["x"], arrays["weight"], arrays.get("bias")
    dtype, batch = one_dtype(arrays), batch_of(x, weight)
    shape = (*batch, len(weight))
    if bias is not None:
        of_shape(bias, "bias", shape[-1:], "one per row of weight")
    if saved is not None:
        if code not in OF_Z:
            raise ValueError(f"saved is not used with activation {activation!r}: its derivative is taken from y")
        saved = arrays["saved"] = destination(saved, "saved", shape, dtype, dict(arrays))
    y = destination(out, "out", shape, dtype, arrays)
    rows = work_rows(y)
    np.matmul(as_rows(x), weight.T, out=rows)
    if code or bias is not None:
        z_rows = None if saved is None else work_rows(saved)
        _kernels.bias_activation(rows, None if bias is None else plain_rows(bias), code, z_rows)
        if saved is not None and z_rows is not None:
            put_rows(z_rows, saved)
    put_rows(rows, y)
    return y


def dense_backward(
    grad_y: Any,
    x: Any,
    weight: Any,
    saved: Any,
    activation: str | None = None,
    *,
    need: Iterable[str] = GRADS,
    out: Sequence[Array | None] | None = None,
    accumulate: bool = False,
    grad_z_out: Array | None = None,
    per_sample_norms: bool = False,
) -> Any:
    r"""The backward pass of `dense`: from d loss / d y to the gradients of x, weight and bias.

    .. math:: dz = dy \odot f'(z), \quad dx = dz\, W, \quad dW = dz^T x, \quad db = \sum_i dz_i

    Parameters
    ----------
    grad_y : array_like, shape (..., out)
        The gradient with respect to y.
    x : array_like, shape (..., in)
    weight : array_like, shape (out, in)
        As given to `dense`; all arrays of one dtype.
    saved : array_like, shape (..., out)
        What `saved_kind(activation)` says: y as `dense` returned it, or z as it saved it. Not read for the identity;
        may be None there.
    activation : str, optional
        As given to `dense`.
    need : any of "x", "weight", "bias", optional
        Which gradients to compute.
    out : DenseGrads or sequence of three, optional
        Where to put the gradients (x, weight, bias); None for a new array, and for those not needed.
    accumulate : bool, optional
        Add the gradients to what `out` holds.
    grad_z_out : ndarray, shape (..., out), optional
        Where to put dz. May be `grad_y` itself.
    per_sample_norms : bool, optional
        Also return the norm of each sample's own gradient, as `dense_sample_norms` does, with the bias if it is needed.

    Returns
    -------
    grads : DenseGrads
        With fields x, weight, bias; None where not needed.
    norms : ndarray, shape (...)
        Only with `per_sample_norms`.

    Raises
    ------
    TypeError
        A dtype that is not accepted, or more than one.
    ValueError
        A shape that does not fit; a name in `need` that there is not; an output that does not fit, is read-only,
        overlaps another array, or is not needed; `accumulate` without an output. Nothing is written then.

    See Also
    --------
    dense, dense_sample_norms, dense_weighted_grads

    Notes
    -----
    f' is taken at the number saved: in float32, tanh(10) is 1, and the slope there 0. Each dz is within 1 ulp (float32)
    or 6 (float64) of the exact product, in units of the largest term of f' where it has several ("gelu", "gelu_tanh",
    "silu"). db is the sum of the rounded dz, formed in double (float32) or two doubles and rounded once: the same bits
    for any number of threads. `accumulate` costs a temporary of the size of each product.

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> x, weight, dy = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1.0, 1.0]])
    >>> y = xent.dense(x, weight, activation="relu")
    >>> grads = xent.dense_backward(dy, x, weight, y, "relu")
    >>> grads.x, grads.bias
    (array([[1., 1.]]), array([1., 0.]))
    >>> xent.dense_backward(dy, x, weight, y, "relu", need=["weight"])
    DenseGrads(x=None, weight=array([[1., 2.],
           [0., 0.]]), bias=None)
    """
    code = activation_code(activation)
    arrays = {name: floating(a, name) for name, a in (("grad_y", grad_y), ("x", x), ("weight", weight))}
    if code:
        if saved is None:
            raise ValueError(
                f"saved must be given: the derivative of {activation!r} needs {saved_kind(activation)}; got None"
            )
        arrays["saved"] = floating(saved, "saved")
    dtype, batch = one_dtype(arrays), batch_of(arrays["x"], arrays["weight"])
    x, weight = arrays["x"], arrays["weight"]
    shape = (*batch, len(weight))
    of_shape(arrays["grad_y"], "grad_y", shape, "the batch of x and one per row of weight")
    if code:
        of_shape(arrays["saved"], "saved", shape, "that of grad_y")
    shapes = {"x": x.shape, "weight": weight.shape, "bias": shape[-1:]}
    grads = gradients_needed(need, out, accumulate, shapes, dtype, arrays)
    if grad_z_out is not None:
        others = arrays | {f"out.{name}": grad for name, grad in grads.items()}
        destination(grad_z_out, "grad_z_out", shape, dtype, others, in_place_of="grad_y")

    dz = plain_rows(arrays["grad_y"])
    squares = np.empty(len(dz)) if per_sample_norms else None
    db = grads.get("bias")
    if code or grad_z_out is not None or db is not None or squares is not None:
        saved_rows = plain_rows(arrays["saved"]) if code else None
        to = work_rows(grad_z_out) if grad_z_out is not None else np.empty_like(dz) if code else None
        sums = None if db is None else work_rows(db)
        if accumulate and sums is not None:
            sums[...] = db
        _kernels.activation_backward(dz, saved_rows, code, to, sums, accumulate, squares)
        if db is not None and sums is not None:
            put_rows(sums, db)
        if grad_z_out is not None and to is not None:
            put_rows(to, grad_z_out)
        dz = dz if to is None else to
    if "weight" in grads:
        put_product(dz.T, as_rows(x), grads["weight"], accumulate)
    if "x" in grads:
        put_product(dz, weight, grads["x"], accumulate)
    found = DenseGrads(*(grads.get(name) for name in GRADS))
    if squares is None:
        return found
    return found, put_norms(norms_of(dz, squares, plain_rows(x), db is not None), batch, dtype)
