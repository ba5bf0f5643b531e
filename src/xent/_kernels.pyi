"""The compiled kernels. Arguments are checked by the callers; csrc/xent.h says what each of them means."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[Any]
_Scalar: TypeAlias = np.float32 | np.float64
_Fault: TypeAlias = tuple[int, int | float, int]  # row, value, how many

def cross_entropy(
    logits: _Array,
    class_axes: int,
    labels: _Array | None,
    probabilities: _Array | None,
    class_weight: _Array | None,
    sample_weight: _Array | None,
    label_smoothing: float,
    z_loss: float,
    normalizer: float,
    ignore_index: int | None,
    reduction: int,
    grad_loss: _Array | None,
    grad: _Array | None,
    loss_rows: _Array | None,
    lse_rows: _Array | None,
    softcap: float = 0.0,
) -> _Scalar | _Fault: ...
def loss_block(  # the vectors and numbers in the order of xent.h
    logits: _Array,
    labels: _Array | None,
    probabilities: _Array | None,
    class_weight: _Array | None,
    sample_weight: _Array | None,
    label_smoothing: float,
    z_loss: float,
    divisor: float,
    bias: _Array | None,
    softcap: float,
    grad_loss: _Array | None,
    grad: _Array | None,
    loss_rows: _Array | None,
    lse_rows: _Array | None,
) -> tuple[float, float]: ...
def loss_tile(
    step: int,
    first: int,
    classes: int,
    rows: _Array,
    logits: _Array,
    labels: _Array | None,
    probabilities: _Array | None,
    class_weight: _Array | None,
    sample_weight: _Array | None,
    label_smoothing: float,
    z_loss: float,
    divisor: float,
    bias: _Array | None,
    softcap: float,
    grad_loss: _Array | None,
    grad: _Array | None,
    loss_rows: _Array | None,
    lse_rows: _Array | None,
) -> tuple[float, float]: ...
def target_weight(
    logits: _Array,
    class_axes: int,
    labels: _Array | None,
    probabilities: _Array | None,
    class_weight: _Array | None,
    sample_weight: _Array | None,
    label_smoothing: float,
    z_loss: float,
    normalizer: float,
    ignore_index: int | None,
    reduction: int,
) -> float | _Fault: ...
def block_sums(x: _Array, class_axes: int, sums: _Array) -> None: ...
def sums_lse(sums: _Array, out: _Array) -> None: ...
def column_sums(z: _Array, sums: _Array, lost: _Array) -> None: ...

BLOCK_CLASSES: int
ROW_BYTES: int
SUM_BYTES: int

def hessian(
    logits: _Array,
    class_axes: int,
    labels: _Array | None,
    probabilities: _Array | None,
    class_weight: _Array | None,
    sample_weight: _Array | None,
    label_smoothing: float,
    z_loss: float,
    normalizer: float,
    ignore_index: int | None,
    reduction: int,
    vector: _Array | None,
    out: _Array,
) -> _Fault | None: ...
def sigmoid(
    logits: _Array,
    class_axes: int,
    targets: _Array,
    pos_weight: _Array | None,
    row_weight: _Array | None,
    element_weight: _Array | None,
    reduction: int,
    grad: _Array | None,
    losses: _Array | None,
) -> _Scalar | _Fault: ...
def plain_cross_entropy(logits: Any, targets: Any, axis: Any, grad: Any, with_grad: bool) -> Any: ...
def plain_logsumexp(a: Any, axis: Any, out: Any) -> Any: ...
def plain_softmax(a: Any, axis: Any, out: Any, logarithm: bool) -> Any: ...
def logsumexp(x: _Array, class_axes: int, weights: _Array | None, out: _Array, sign: _Array | None) -> None: ...
def softmax(x: _Array, class_axes: int, out: _Array, logarithm: bool) -> None: ...
def bias_activation(
    y: _Array, bias: _Array | None, activation: int, saved: _Array | None, squares: _Array | None = None
) -> None: ...
def activation_backward(
    grad_y: _Array,
    saved: _Array | None,
    activation: int,
    grad_z: _Array | None,
    grad_bias: _Array | None,
    accumulate: bool,
    squares: _Array | None,
) -> None: ...
def row_squares(x: _Array, out: _Array) -> None: ...

class NetworkNorms:
    def __init__(
        self, squares: _Array, biases: _Array, norms: _Array, columns: int, late: list[tuple[_Array, _Array]]
    ) -> None: ...
    def run(self, x: _Array) -> None: ...

class ForwardSweep:
    def __init__(
        self, y: _Array, bias: _Array | None, activation: int, saved: _Array | None, squares: _Array | None
    ) -> None: ...
    def run(self) -> None: ...

class BackwardSweep:
    def __init__(
        self,
        dz: _Array,
        saved: _Array | None,
        activation: int,
        grad_bias: _Array | None,
        squares: _Array | None,
        norms: NetworkNorms | None = None,
    ) -> None: ...
    def run(self, x: _Array) -> None: ...

def exp(x: _Array, out: _Array) -> None: ...
def relation(out: _Array, other: _Array) -> int: ...
def is_clear(out: _Array, logits: _Array, targets: _Array | None) -> bool: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def between_products(begin: bool) -> None: ...
def tier() -> str: ...
def tiers() -> list[str]: ...
def set_tier(name: str) -> None: ...
def compiler() -> str: ...
def version() -> str: ...
