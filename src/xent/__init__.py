"""xent: the fast, exact loss backend for NumPy."""

from xent import reference
from xent.dense import DenseGrads, dense, dense_backward, saved_kind
from xent.gradient_flow import gradient_flow
from xent.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from xent.logsumexp_state import LogSumExpState
from xent.losses import (
    cross_entropy,
    cross_entropy_grad,
    cross_entropy_hessian_diag,
    cross_entropy_hvp,
    cross_entropy_with_grad,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_with_grad,
)
from xent.mlp import mlp_with_grad
from xent.per_sample import dense_clipped_grads, dense_sample_grads, dense_sample_norms, dense_weighted_grads
from xent.reductions import log_softmax, logsumexp, softmax
from xent.runtime import __version__, get_num_threads, set_num_threads, show_config
from xent.workspace import MlpWorkspace

__all__ = [
    "DenseGrads",
    "LogSumExpState",
    "MlpWorkspace",
    "__version__",
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
    "get_num_threads",
    "gradient_flow",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "logsumexp",
    "mlp_with_grad",
    "reference",
    "saved_kind",
    "set_num_threads",
    "show_config",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_with_grad",
    "softmax",
]
