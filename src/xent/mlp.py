"""A multilayer network: softmax cross-entropy and all gradients in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xent._arrays import Array
from xent._network import Params
from xent._problem import checked, run
from xent.workspace import MlpWorkspace

__all__ = ["mlp_with_grad"]


def mlp_with_grad(
    params: Params,
    x: Any,
    targets: Any,
    *,
    activation: str | Sequence[str | None] | None = "relu",
    axis: int = -1,
    class_weight: Any = None,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    normalizer: float | None = None,
    return_lse: bool = False,
    out: Sequence[Sequence[Array | None]] | None = None,
    workspace: MlpWorkspace | None = None,
    per_sample_norms: bool = False,
) -> Any:
    r"""Softmax cross-entropy of a network of dense layers, and the gradients of all its parameters.

    .. math:: h_0 = x, \quad h_{i+1} = f_i(h_i W_i^T + b_i), \quad
              \ell = \mathrm{cross\_entropy}(h_{L-1} W_{L-1}^T + b_{L-1}, \mathrm{targets})

    Parameters
    ----------
    params : sequence of (weight, bias)
        One pair per layer: weight (out, in), bias (out,) or None; all of one dtype, that of x. The last layer has no
        activation: its outputs are the logits.
    x : array_like, shape (..., in)
        float32 or float64 (integers are taken as float64), with any batch axes.
    targets : array_like
        As for `cross_entropy`: integers of shape (...), or a target distribution per row, floats of shape (..., C).
    activation : str, None, or list of them, optional
        As for `dense`: one for all hidden layers, or one for each.
    axis : int, optional
        The class axis: there is only the last.
    class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer, return_lse
        As for `cross_entropy`. With ``reduction="none"`` the gradients are those of the sum.
    out : sequence of DenseGrads, optional
        Where to put the gradients, as a call returned them; None for a new array.
    workspace : MlpWorkspace, optional
        Memory kept from call to call; then everything returned but the loss and lse lies in it and is overwritten by
        the next call.
    per_sample_norms : bool, optional
        Also return the norm of each sample's own gradient.

    Returns
    -------
    loss : scalar, or ndarray with one number per sample for ``reduction="none"``
    grads : list of DenseGrads
        One per layer with fields weight and bias (None where there is no bias). x is None: the gradient with respect
        to the input of layer i is ``workspace.grad_z[i] @ params[i][0]``.
    lse : scalar or ndarray
        Only with `return_lse`.
    norms : ndarray, shape (...)
        Only with `per_sample_norms`: of sample n's part of the gradients of all layers together, which add up to
        `grads`; "mean" has divided them. In closed form, :math:`\sum_i \|dz_i\|^2 (\|h_i\|^2 + 1)` under the root, with
        no gradient of a sample ever formed. Squares are summed in double: those of float64 beyond 1e+-150 leave it.

    Raises
    ------
    TypeError, ValueError
        As for `dense` and `cross_entropy`, by the place in `params`; layers that do not follow one another. An `out`
        that does not fit, is read-only, or overlaps another array. Nothing is written to the gradients then.

    See Also
    --------
    MlpWorkspace, dense, dense_backward, gradient_flow

    Notes
    -----
    The bits are those of `dense`, `cross_entropy_with_grad` and `dense_backward` called one after another, if x lies in
    C or Fortran order (of other strides NumPy's products may differ in the last bit). The products have the threads of
    NumPy's BLAS, everything else those of xent.

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> params = [(np.array([[1.0, -1.0], [0.5, 0.5]]), np.zeros(2)), (np.eye(2), np.zeros(2))]
    >>> loss, grads = xent.mlp_with_grad(params, [[1.0, 1.0]], [1])
    >>> print(f"{loss:.4f}")
    0.3133
    >>> grads[1].bias
    array([ 0.26894142, -0.26894142])
    >>> grads[0].weight
    array([[ 0.        ,  0.        ],
           [-0.26894142, -0.26894142]])
    """
    if workspace is None:
        workspace = MlpWorkspace()
    elif not isinstance(workspace, MlpWorkspace):
        raise TypeError(f"workspace must be an MlpWorkspace or None, got {type(workspace).__name__}")
    rows, step, grads = workspace._take(params, x, activation, out, bool(per_sample_norms))
    logits = step.logits
    if axis != -1 and axis != logits.ndim - 1:
        raise ValueError(f"axis must be -1, the outputs of the last layer are the classes; got {axis!r}")
    problem = checked(
        logits, targets, -1, class_weight, sample_weight, label_smoothing, ignore_index, z_loss, reduction, normalizer
    )
    if out is not None or not problem[3] is problem[4] is problem[5] is None:
        for name, array in zip(("targets", "targets", "class_weight", "sample_weight"), problem[2:6], strict=True):
            if array is not None:
                workspace._keep_apart(step, array, name)
    step.run_forward(rows)
    result: Any = run(problem, True, logits, None, return_lse, None)
    step.run_backward(rows)
    grads = list(grads)
    norms = step.norms
    if norms is None:
        return (result[0], grads, result[1]) if return_lse else (result, grads)
    if step.one_sample:
        norms = norms[()]
    return (result[0], grads, result[1], norms) if return_lse else (result, grads, norms)
