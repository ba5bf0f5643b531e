"""log-sum-exp, softmax and log-softmax: the signatures of `scipy.special`, so that they drop in."""

from __future__ import annotations

from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import Array, axes, computed, distinct, floating, is_half, mask_of, native, output

__all__ = ["log_softmax", "logsumexp", "softmax"]


def logsumexp(
    a: Any,
    axis: int | tuple[int, ...] | None = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    out: Array | None = None,
) -> Any:
    r"""Logarithm of the sum of exponentials.

    .. math:: \mathrm{lse}(a) = \log \sum_c b_c e^{a_c}

    computed as :math:`m + \log(1 + s)` with the largest term apart, so that neither a huge `a` overflows nor a small
    rest is lost.

    Parameters
    ----------
    a : array_like
        Real numbers of any shape. float32 and float64 are computed as such, integers as float64, float16 and bfloat16
        in float32; the result is rounded to their dtype.
    axis : int, tuple of int or None, optional
        The axis or axes summed over; all by default.
    b : array_like, optional
        Factors of the exponentials, of either sign; broadcast against `a`. Where `b` is 0 the element of `a` adds
        nothing, even if it is infinite or NaN.
    keepdims : bool, optional
        Keep the reduced axes with size 1.
    return_sign : bool, optional
        Also return the sign of the sum, and the logarithm of its absolute value. Without it a negative sum gives NaN.
    out : ndarray, optional
        Where to put the result (of the result's shape and dtype).

    Returns
    -------
    res : scalar or ndarray
        Within 2 ulp of the larger of \|res\| and \|max a\| (without `b`). -inf for an empty sum.
    sgn : scalar or ndarray
        Only with `return_sign`: 1, 0 or -1.

    Raises
    ------
    TypeError
        `a` or `b` is complex, longdouble or not a number; or of 16 bits where `b` is given.
    ValueError
        An axis named twice, shapes that do not broadcast, or an `out` that does not fit or overlaps `a`.

    See Also
    --------
    softmax : the gradient of this function.

    References
    ----------
    .. [1] M. Dukhan, A. Ablavatski, "Two-Pass Softmax Algorithm", 2020, arXiv:2001.04438.
    .. [2] M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018, arXiv:1805.02867.

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> float(xent.logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    >>> xent.logsumexp(np.array([[0.0, -40.0], [1.0, 1.0]]), axis=1)
    array([4.24835426e-18, 1.69314718e+00])
    """
    if b is None and not keepdims and not return_sign:
        plain = _kernels.plain_logsumexp(a, axis, out)
        if plain is not None:
            return plain
    a = floating(a, "a", halves=b is None)
    if b is not None:
        b = floating(b, "b")
        if a.dtype.itemsize != b.dtype.itemsize:  # float32 with float64
            a = a.astype(np.float64, copy=False)
        a, b = np.broadcast_arrays(a, b)
    over = axes(axis, a.ndim)
    kept = tuple(1 if i in over else n for i, n in enumerate(a.shape))
    shape = kept if keepdims else tuple(n for i, n in enumerate(a.shape) if i not in over)
    dtype = native(a.dtype)
    given = out is not None
    result = output(out, a, shape, dtype, in_place=False)
    if b is not None:
        distinct(result, b, "b")
    direct = result.flags.c_contiguous and result.flags.aligned and not is_half(dtype)
    rows = result if direct else np.empty(shape, computed(dtype))
    sign = np.empty(shape, rows.dtype) if return_sign else None
    if 0 in a.shape:
        rows.fill(-np.inf)
        if sign is not None:
            sign.fill(-1.0)  # as SciPy: the sign of -inf
    else:
        _kernels.logsumexp(a, mask_of(over), b, rows, sign)
        if sign is not None and b is None:
            sign[...] = np.where(np.isnan(rows), rows, rows > -np.inf)
    if rows is not result:
        with np.errstate(over="ignore"):  # a sum beyond the largest number of 16 bits
            result[...] = rows
    value = result if given else result[()]
    return (value, sign[()]) if sign is not None else value


def _map(x: Any, axis: Any, out: Array | None, logarithm: bool) -> Any:
    """The softmax, or its logarithm."""
    plain = _kernels.plain_softmax(x, axis, out, logarithm)
    if plain is not None:
        return plain
    x = floating(x, "x", halves=True)
    over = axes(axis, x.ndim)
    result = output(out, x, x.shape, native(x.dtype))
    if x.size:
        _kernels.softmax(x, mask_of(over), result, logarithm)
    return result if out is not None else result[()]


def softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Array | None = None) -> Any:
    r"""Exponentials that sum to 1.

    .. math:: p_c = e^{x_c} / \sum_k e^{x_k}

    Parameters
    ----------
    x : array_like
        Real numbers of any shape. float32 and float64 are computed as such, integers as float64, float16 and bfloat16
        in float32; the result is rounded to their dtype.
    axis : int, tuple of int or None, optional
        The axis or axes over which the result sums to 1; all by default.
    out : ndarray, optional
        Where to put the result: of `x`'s shape and dtype. ``out=x`` works in place.

    Returns
    -------
    p : ndarray (a scalar for 0-d `x`)
        Of `x`'s shape; within 2 ulp, below the smallest normal number 0. A row with a NaN or +inf, or with nothing
        but -inf, is NaN.

    Raises
    ------
    TypeError
        `x` is complex, longdouble or not a number.
    ValueError
        An axis named twice, or an `out` that does not fit, is read-only, or overlaps `x` other than exactly.

    See Also
    --------
    log_softmax, logsumexp

    Examples
    --------
    >>> import xent
    >>> xent.softmax([0.0, 0.0, 1000.0])
    array([0., 0., 1.])
    """
    return _map(x, axis, out, False)


def log_softmax(x: Any, axis: int | tuple[int, ...] | None = None, *, out: Array | None = None) -> Any:
    r"""Logarithm of the softmax.

    .. math:: \log p_c = x_c - \mathrm{lse}(x) = (x_c - \max x) - \log(1 + s)

    Both terms of the last form are of one sign, so that nothing cancels.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape. float32 and float64 are computed as such, integers as float64, float16 and bfloat16
        in float32; the result is rounded to their dtype.
    axis : int, tuple of int or None, optional
        The axis or axes over which the softmax sums to 1; all by default.
    out : ndarray, optional
        Where to put the result: of `x`'s shape and dtype. ``out=x`` works in place.

    Returns
    -------
    log_p : ndarray (a scalar for 0-d `x`)
        Of `x`'s shape; within 2 ulp, also where p is nearly 1.

    Raises
    ------
    TypeError
        `x` is complex, longdouble or not a number.
    ValueError
        An axis named twice, or an `out` that does not fit, is read-only, or overlaps `x` other than exactly.

    See Also
    --------
    softmax, logsumexp

    Examples
    --------
    >>> import xent
    >>> xent.log_softmax([0.0, -40.0])
    array([-4.24835426e-18, -4.00000000e+01])
    """
    return _map(x, axis, out, True)
