"""The definition of a logsumexp in parts: the logits of each row are kept, and summed at the end."""

from typing import Any

from xent.reference import _exact as ex
from xent.reference._exact import Array, Nested
from xent.reference.reductions import logsumexp


class LogSumExpState:
    """logsumexp of rows whose classes come in blocks.

    Examples
    --------
    >>> from xent.reference import LogSumExpState
    >>> state = LogSumExpState()
    >>> state.update([0.0])
    >>> state.update([0.0])
    >>> state.value()
    0.6931471805599453
    """

    def __init__(self, start: int | None = None) -> None:
        if start is not None and (isinstance(start, bool) or not isinstance(start, int) or start < 0):
            raise ValueError(f"start: {start!r} was given; a class number from 0, or None, is accepted")
        self.start = start
        self._shape: tuple[int, ...] | None = None
        self._logits: dict[int, list[float]] = {}  # class -> one logit per row
        self._next = start or 0

    @property
    def classes(self) -> int:
        return len(self._logits)

    def update(self, block: Any, axis: int = -1) -> None:
        """Add the next classes of every row: logits of shape (..., n, ...)."""
        array = ex.as_array(block, "block")
        if not array.shape:
            raise ValueError("block: a number was given; rows are accepted")
        (k,) = ex.normal_axes(axis, len(array.shape))
        self._accept(array.shape[:k] + array.shape[k + 1 :])
        for place in zip(*ex.groups(array.shape, (k,)), strict=True) if array.flat else []:
            self._logits[self._next] = [array.flat[i] for i in place]
            self._next += 1

    def merge(self, other: "LogSumExpState") -> None:
        """Add the classes of another state: after those that are here, or where its `start` says."""
        if not isinstance(other, LogSumExpState):
            raise TypeError(f"other: {type(other).__name__} was given; a LogSumExpState is accepted")
        if other._shape is None:
            return
        self._accept(other._shape)
        shift = self._next - min(other._logits, default=self._next) if other.start is None else 0
        theirs = {c + shift: logits for c, logits in other._logits.items()}
        if theirs.keys() & self._logits.keys():
            raise ValueError(f"class {min(theirs.keys() & self._logits.keys())} is in both states")
        self._logits |= theirs
        self._next = max([self._next, *(c + 1 for c in theirs)])

    def value(self) -> Nested:
        """log sum_c e^z_c of each row; -inf of nothing."""
        shape = self._shape or ()
        columns = [self._logits[c] for c in sorted(self._logits)]
        rows = [v for row in zip(*columns, strict=True) for v in row]
        return logsumexp(Array((*shape, len(columns)), rows, "f"), axis=-1)  # type: ignore[return-value]

    def _accept(self, shape: tuple[int, ...]) -> None:
        if self._shape is not None and shape != self._shape:
            raise ValueError(f"block: rows of shape {shape} were given, {self._shape} before")
        self._shape = shape
