"""The definition: every public function of `xent` once more, in plain Python, for reading and for judging.

Standard library only. Everything is computed with 60 decimal digits and rounded to a float once, at the end:
a result is the float64 nearest to the exact one (0.0 below the smallest normal number, 2**-1022). Names and
signatures are those of `xent`. Arguments are numbers, nested sequences or anything with ``.tolist()``;
results are floats and nested lists of floats.

Read `reductions` first (softmax and the log-sum-exp), then `losses`, `sigmoid` and `linear_cross_entropy`; for layers
`activations`, `dense`, `mlp` and `gradient_flow`. `_exact` holds the arithmetic, `_batch` and `_layer` take a batch
apart into rows.
"""

from xent.reference.activations import saved_kind
from xent.reference.dense import (
    DenseGrads,
    dense,
    dense_backward,
    dense_clipped_grads,
    dense_sample_grads,
    dense_sample_norms,
    dense_weighted_grads,
)
from xent.reference.gradient_flow import gradient_flow
from xent.reference.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from xent.reference.logsumexp_state import LogSumExpState
from xent.reference.losses import (
    cross_entropy,
    cross_entropy_grad,
    cross_entropy_hessian_diag,
    cross_entropy_hvp,
    cross_entropy_with_grad,
)
from xent.reference.mlp import mlp_with_grad
from xent.reference.reductions import log_softmax, logsumexp, softmax
from xent.reference.sigmoid import sigmoid_cross_entropy, sigmoid_cross_entropy_with_grad

__all__ = [
    "DenseGrads",
    "LogSumExpState",
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_hessian_diag",
    "cross_entropy_hvp",
    "cross_entropy_with_grad",
    "dense",
    "dense_backward",
    "dense_clipped_grads",
    "dense_sample_grads",
    "dense_sample_norms",
    "dense_weighted_grads",
    "gradient_flow",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "logsumexp",
    "mlp_with_grad",
    "saved_kind",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_with_grad",
    "softmax",
]
