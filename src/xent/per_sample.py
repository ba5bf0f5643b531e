r"""Per-sample gradients of a dense layer, without forming them where a closed form will do.

Sample i, with dz_i (out,) from `dense_backward(..., grad_z_out=)` and x_i (in,), has the gradients::

    dW_i = dz_i x_i^T    db_i = dz_i    ||dW_i||^2 + ||db_i||^2 = ||dz_i||^2 (||x_i||^2 + 1)

so norms need two sums of squares per sample, and any weighted sum of the gradients is one product more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import Array, destination, floating, native, number
from xent._layer import (
    DenseGrads,
    as_rows,
    batch_of,
    norms_of,
    of_shape,
    one_dtype,
    plain_rows,
    put_norms,
    put_product,
)

__all__ = ["dense_clipped_grads", "dense_sample_grads", "dense_sample_norms", "dense_weighted_grads"]


def _checked(grad_z: Any, x: Any, arrays: dict[str, Array]) -> tuple[Array, Array, tuple[int, ...]]:
    """grad_z and x, and the batch shape that they share; both are put into `arrays`."""
    arrays["grad_z"], arrays["x"] = floating(grad_z, "grad_z"), floating(x, "x")
    one_dtype(arrays)
    batch = batch_of(arrays["x"])
    dz = arrays["grad_z"]
    if dz.ndim == 0 or dz.shape[:-1] != batch:
        raise ValueError(f"grad_z must have shape (*{batch}, out), the batch of x; got shape {dz.shape}")
    return dz, arrays["x"], batch


def dense_sample_norms(grad_z: Any, x: Any, *, bias: bool = True) -> Array:
    r"""The norm of each sample's gradient of weight and bias, in closed form.

    .. math:: \sqrt{\lVert dz_i \rVert^2 \, (\lVert x_i \rVert^2 + 1)}

    Parameters
    ----------
    grad_z : array_like, shape (..., out)
        The dz of `dense_backward`.
    x : array_like, shape (..., in)
        The layer's input, of the same dtype.
    bias : bool, optional
        Whether the layer has a bias; without one, the 1 is left out.

    Returns
    -------
    norms : ndarray, shape (...)
        In the dtype of x. Squares are summed in double; a subnormal number counts as 0.

    Raises
    ------
    TypeError, ValueError
        A dtype that is not accepted, or more than one; batches that differ.

    See Also
    --------
    dense_backward : gives the same with ``per_sample_norms=True``.
    dense_clipped_grads

    Examples
    --------
    >>> import xent
    >>> xent.dense_sample_norms([[3.0, 4.0], [0.0, 0.0]], [[2.0, 2.0], [1.0, 1.0]])
    array([15.,  0.])
    """
    dz, x, batch = _checked(grad_z, x, {})
    return put_norms(_norms(dz, x, bias), batch, native(x.dtype))


def _norms(dz: Array, x: Array, bias: bool) -> Array:
    """In double, one per row."""
    dz_rows = plain_rows(dz)
    squares = np.empty(len(dz_rows))
    _kernels.row_squares(dz_rows, squares)
    return norms_of(dz_rows, squares, plain_rows(x), bias)


def dense_sample_grads(grad_z: Any, x: Any, *, out: Array | None = None) -> Array:
    r"""Each sample's gradient of the weight, dz_i x_i^T. That of the bias is dz_i itself.

    Parameters
    ----------
    grad_z : array_like, shape (..., out)
        The dz of `dense_backward`.
    x : array_like, shape (..., in)
        The layer's input, of the same dtype.
    out : ndarray, shape (..., out, in), optional
        Where to put the gradients.

    Returns
    -------
    grads : ndarray, shape (..., out, in)

    Raises
    ------
    TypeError, ValueError
        As for `dense_sample_norms`; and an `out` that does not fit, is read-only, or overlaps what is read.

    See Also
    --------
    dense_sample_norms, dense_weighted_grads : what often is all that is wanted of them, without the array.

    Examples
    --------
    >>> import xent
    >>> xent.dense_sample_grads([[1.0, 2.0]], [[3.0, 4.0]])
    array([[[3., 4.],
            [6., 8.]]])
    """
    arrays: dict[str, Array] = {}
    dz, x, batch = _checked(grad_z, x, arrays)
    dtype = one_dtype(arrays)
    grads = destination(out, "out", (*batch, dz.shape[-1], x.shape[-1]), dtype, arrays)
    np.multiply(dz[..., :, None], x[..., None, :], out=grads)
    return grads


def dense_weighted_grads(grad_z: Any, x: Any, sample_weight: Any, *, out: Any = None) -> DenseGrads:
    r"""The weighted sum of the per-sample gradients, with one product and no array of them.

    .. math:: dW = \sum_i s_i\, dz_i x_i^T, \quad db = \sum_i s_i\, dz_i

    Parameters
    ----------
    grad_z : array_like, shape (..., out)
        The dz of `dense_backward`.
    x : array_like, shape (..., in)
        The layer's input, of the same dtype.
    sample_weight : array_like, shape (...)
        The s: real numbers of either sign (influence scores have both), rounded to the dtype of x; where one would be
        below its smallest normal number, dz is scaled in double.
    out : DenseGrads or sequence of three, optional
        Where to put the gradients; the first, of x, must be None.

    Returns
    -------
    grads : DenseGrads
        Fields weight (out, in) and bias (out,); x is None.

    Raises
    ------
    TypeError, ValueError
        As for `dense_sample_norms`; weights of another shape; an `out` that does not fit.

    See Also
    --------
    dense_clipped_grads, dense_sample_grads

    Examples
    --------
    >>> import xent
    >>> xent.dense_weighted_grads([[1.0], [1.0]], [[3.0, 4.0], [1.0, 0.0]], [1.0, -0.5])
    DenseGrads(x=None, weight=array([[2.5, 4. ]]), bias=array([0.5]))
    """
    arrays: dict[str, Array] = {}
    dz, x, batch = _checked(grad_z, x, arrays)
    weight = of_shape(floating(sample_weight, "sample_weight"), "sample_weight", batch, "one per sample")
    return _weighted(dz, x, weight, out, arrays | {"sample_weight": weight})


def dense_clipped_grads(
    grad_z: Any, x: Any, max_norm: float, *, sample_norms: Any = None, bias: bool = True, out: Any = None
) -> DenseGrads:
    r"""The sum of the per-sample gradients, each scaled down to a norm of at most `max_norm` (as DP-SGD does).

    .. math:: \sum_i \min\!\Big(1, \frac{c}{n_i}\Big) (dz_i x_i^T,\; dz_i)

    Parameters
    ----------
    grad_z : array_like, shape (..., out)
        The dz of `dense_backward`.
    x : array_like, shape (..., in)
        The layer's input, of the same dtype.
    max_norm : float
        The c: a finite number, not negative.
    sample_norms : array_like, shape (...), optional
        The n_i, not negative: of a whole network, where its samples are clipped as wholes. This layer's own
        (`dense_sample_norms`) if not given.
    bias : bool, optional
        Whether the layer has a bias, for its own norms; without one the result's bias is None. A sample whose norm is
        beyond double (1e308) is left out.
    out : DenseGrads or sequence of three, optional
        Where to put the gradients; the first, of x, must be None.

    Returns
    -------
    grads : DenseGrads
        Fields weight (out, in) and bias (out,); x is None.

    Raises
    ------
    TypeError, ValueError
        As for `dense_weighted_grads`; a `max_norm` that is negative or not finite; norms that are negative or NaN.

    See Also
    --------
    dense_sample_norms, dense_weighted_grads

    Examples
    --------
    >>> import xent
    >>> xent.dense_clipped_grads([[3.0], [0.1]], [[4.0], [0.0]], 1.0, bias=False)
    DenseGrads(x=None, weight=array([[1.]]), bias=None)
    """
    arrays: dict[str, Array] = {}
    dz, x, batch = _checked(grad_z, x, arrays)
    limit = number(max_norm, "max_norm", 0.0, float("inf"), "a finite number, not negative")
    if sample_norms is None:
        norms = _norms(dz, x, bias)
    else:
        norms = of_shape(floating(sample_norms, "sample_norms"), "sample_norms", batch, "one per sample")
        if not (norms >= 0).all():
            raise ValueError("sample_norms must not be negative or NaN")
        arrays["sample_norms"] = norms
    with np.errstate(all="ignore"):
        factors = np.where(norms > limit, limit / norms.astype(np.float64), 1.0)
    return _weighted(dz, x, factors, out, arrays, bias)


def _weighted(dz: Array, x: Array, weight: Array, out: Any, apart: dict[str, Array], bias: bool = True) -> DenseGrads:
    """The sums, of checked arrays: one sweep for s dz, one for db, one product for dW. `apart`: what is read."""
    given = (None, None, None) if out is None else tuple(out)
    if len(given) != 3 or given[0] is not None or (given[2] is not None and not bias):
        raise ValueError("out must be (None, weight, bias), with None for what is not given or not there")
    dtype, features = native(x.dtype), dz.shape[-1]
    grads = destination(given[1], "out.weight", (features, x.shape[-1]), dtype, apart)
    sums = destination(given[2], "out.bias", (features,), dtype, apart | {"out.weight": grads}) if bias else None
    factors = weight.reshape(-1, 1)
    with np.errstate(all="ignore"):
        rounded = factors.astype(dtype)
        if ((np.abs(rounded) < np.finfo(dtype).tiny) & (factors != 0)).any():
            scaled = np.multiply(as_rows(dz), factors, dtype=np.float64, order="C").astype(dtype)
        else:
            scaled = np.multiply(as_rows(dz), rounded, dtype=dtype, order="C")
    if sums is not None:
        db = sums if sums.flags.carray else np.empty_like(sums)
        _kernels.activation_backward(scaled, None, 0, None, db, False, None)
        if db is not sums:
            sums[...] = db
    put_product(scaled.T, as_rows(x), grads, False)
    return DenseGrads(None, grads, sums)
