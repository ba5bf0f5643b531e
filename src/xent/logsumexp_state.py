"""logsumexp over blocks of classes that come one after the other, or from several processes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from xent import _kernels
from xent._arrays import Array, floating, native, one_axis

__all__ = ["LogSumExpState"]


class LogSumExpState:
    r"""logsumexp of rows whose classes come in blocks: a sum that can be continued, merged, pickled.

    .. math:: \mathrm{lse} = \log \sum_c e^{z_c}

    What is kept of each 8,192 classes of a row (`block_classes`) is the sum of their exponentials as the kernels make
    it: its largest term and the rest, relative to a power of two, 128 bytes. Nothing is rounded when states are merged,
    and `value` adds these sums in the order of their classes, rescaled by exact powers of two: where every block given
    to `update` but a row's last has a multiple of `block_classes` classes, the bits are those of `logsumexp` of the
    whole row, however the blocks are grouped into updates and states, and in whatever grouping the states are merged.
    With other lengths the result is within the same 2 ulp, and its last bit may depend on where the cuts are.

    Parameters
    ----------
    start : int, optional
        The first class of this state's blocks, for states that are to be merged in any order. Without it the classes
        of a state that is merged into another follow those that are there.

    Attributes
    ----------
    block_classes : int
        The classes that are summed at once; it may be another in another version.
    classes : int
        The number of classes seen.

    See Also
    --------
    logsumexp, linear_cross_entropy

    Notes
    -----
    Exponents of float32 and float64 beyond 65,536 are summed relative to e^max, not to a power of two; merging them is
    within the same bound, and has the same bits as `logsumexp`.

    Examples
    --------
    >>> import numpy as np
    >>> import xent
    >>> logits = np.random.default_rng(0).normal(0, 9, (2, 40000))
    >>> left, right = xent.LogSumExpState(), xent.LogSumExpState()
    >>> left.update(logits[:, :16384])
    >>> right.update(logits[:, 16384:])
    >>> left.merge(right)
    >>> bool((left.value() == xent.logsumexp(logits, axis=-1)).all())
    True
    """

    block_classes: int = _kernels.BLOCK_CLASSES

    def __init__(self, start: int | None = None) -> None:
        if start is not None and (isinstance(start, bool) or not isinstance(start, int | np.integer) or start < 0):
            raise ValueError(f"start must be a class number from 0, or None; got {start!r}")
        self.start = None if start is None else int(start)
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None
        self._parts: list[tuple[int, int, Array]] = []  # first class, classes, (blocks, rows, SUM_BYTES)
        self._next = self.start or 0

    @property
    def classes(self) -> int:
        return sum(count for _, count, _ in self._parts)

    def update(self, block: Any, axis: int = -1) -> None:
        """Add the next classes of every row.

        Parameters
        ----------
        block : array_like, shape (..., n, ...)
            Logits of the n classes that follow: float32 or float64, integers as float64, the same at every update. Rows
            may be of any shape, also the same at every update. Only read, 8,192 classes at a time: a memmap will do.
        axis : int, optional
            The class axis.

        Raises
        ------
        TypeError
            A dtype that is not accepted, or not that of the blocks before.
        ValueError
            Another batch shape than that of the blocks before; a number instead of a row.
        """
        z = floating(block, "block")
        if z.ndim == 0:
            raise ValueError("block must have a class axis; got a 0-d array")
        at = one_axis(axis, z.ndim)
        self._accept(z.shape[:at] + z.shape[at + 1 :], native(z.dtype))
        count = z.shape[at]
        if count:
            blocks = -(-count // self.block_classes)
            sums = np.zeros((blocks, z.size // count, _kernels.SUM_BYTES), np.uint8)
            _kernels.block_sums(z, 1 << at, sums)
            self._parts.append((self._next, count, sums))
            self._next += count

    def merge(self, other: LogSumExpState) -> None:
        """Add the classes of another state of the same rows, which stays as it is.

        Raises
        ------
        TypeError
            `other` is no state, or of another dtype.
        ValueError
            Another batch shape; or `other` has a `start` and holds classes that are already here.
        """
        if not isinstance(other, LogSumExpState):
            raise TypeError(f"other must be a LogSumExpState, got {type(other).__name__}")
        if other._shape is None or other._dtype is None:
            return
        shift = self._next - other._first() if other.start is None else 0
        parts = [(first + shift, count, sums) for first, count, sums in other._parts]
        joined = sorted(self._parts + parts, key=lambda part: part[0])
        for (first, count, _), (second, _, _) in pairwise(joined):
            if first + count > second:
                raise ValueError(f"class {second} is in both states; give them the start of their classes")
        self._accept(other._shape, other._dtype)
        self._parts = joined
        self._next = max([self._next, *(first + count for first, count, _ in joined[-1:])])

    def value(self) -> Any:
        """logsumexp of the classes seen: a scalar, or an array of the rows' shape, in the logits' dtype; -inf of none.

        Within 2 ulp of the larger of abs(lse) and abs(max).
        """
        shape, dtype = self._shape or (), self._dtype or np.dtype(np.float64)
        out = np.full(shape, -np.inf, dtype)
        if self._parts and out.size:
            _kernels.sums_lse(np.concatenate([sums for _, _, sums in self._parts]), out)
        return out[()]

    def _first(self) -> int:
        return self._parts[0][0] if self._parts else self._next

    def _accept(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Take on the rows' shape and dtype, or compare."""
        if self._shape is not None and shape != self._shape:
            raise ValueError(f"rows of shape {self._shape} were given before; got shape {shape}")
        if self._dtype is not None and dtype != self._dtype:
            raise TypeError(f"logits of dtype {self._dtype} were given before; got dtype {dtype}")
        self._shape, self._dtype = shape, dtype
