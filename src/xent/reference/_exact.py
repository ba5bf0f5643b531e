"""What the reference stands on: 60-digit arithmetic, arrays as flat lists, and the checks of arguments.

An array is a shape and a flat list of its elements in C order. Floats become Decimals without error.
Infinities and NaN follow IEEE rules, since nothing traps. Exponents reach 10**+-999999: no intermediate
overflows.
"""

import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import wraps
from itertools import accumulate
from math import prod
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Nested: TypeAlias = float | list["Nested"]
Shape: TypeAlias = tuple[int, ...]

CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, traps=[])
AGREED = Decimal("1e-50")  # two numbers this close, relatively, are the same number
SMALLEST_NORMAL, MAX_FLOAT = Decimal(sys.float_info.min), Decimal(sys.float_info.max)
ZERO, ONE, INF, NAN = Decimal(0), Decimal(1), Decimal("Infinity"), Decimal("NaN")


class AxisError(ValueError, IndexError):
    """An axis that the array does not have; like `numpy.exceptions.AxisError` of both kinds."""


# ---- arithmetic


def exact(function: Callable[P, T]) -> Callable[P, T]:
    """Run the function in the 60-digit context, whatever context the caller has."""

    @wraps(function)
    def in_context(*args: P.args, **kwargs: P.kwargs) -> T:
        with localcontext(CONTEXT):
            return function(*args, **kwargs)

    return in_context


def total(terms: Iterable[Decimal]) -> Decimal:
    """sum_k terms[k]"""
    return sum(terms, ZERO)


def sums_of_others(terms: Sequence[Decimal]) -> list[Decimal]:
    """For each c, sum_{k != c} terms[k]: the terms before it plus the terms after it, nothing subtracted."""
    before = list(accumulate(terms, initial=ZERO))[:-1]
    after = list(accumulate(reversed(terms), initial=ZERO))[-2::-1]
    return [left + right for left, right in zip(before, after, strict=True)]


def log1p(x: Decimal) -> Decimal:
    """log |1 + x|, with all digits also for tiny x.

    Rounding u = 1 + x changes x to u - 1; log(u) / (u - 1) hardly notices, so it is scaled back by x (Kahan).
    """
    u = ONE + x
    return x if u == ONE else abs(u).ln() * x / (u - ONE)


def tanh_and_slope(u: Decimal) -> tuple[Decimal, Decimal]:
    """tanh(u) = (1 - E) / (1 + E) and 1 - tanh(u)^2 = 4 E / (1 + E)^2 with E = e^(-2 u), for u >= 0; odd and even.

    For a small u, 1 - E would lose as many digits as u has zeros: u - u^3 / 3 there.
    """
    if u.is_nan():
        return NAN, NAN
    if u.is_infinite():
        return ONE.copy_sign(u), ZERO
    e = (-2 * abs(u)).exp()
    tanh = (ONE - e) / (ONE + e) if abs(u) > Decimal("1e-15") else abs(u) - abs(u) ** 3 / 3
    return tanh.copy_sign(u), 4 * e / (ONE + e) ** 2


def times(weight: Decimal, value: Decimal) -> Decimal:
    """weight * value, where a weight of 0 silences any value: 0 * inf = 0."""
    return ZERO if weight == 0 else weight * value


def difference(x: Decimal, y: Decimal) -> Decimal:
    """x - y; exactly 0 if they agree to 50 digits, so that rounding at the 60th leaves no dust of 1e-60."""
    d = x - y
    return ZERO if abs(d) <= AGREED * max(abs(x), abs(y)) else d


def to_float(x: Decimal) -> float:
    """The float64 nearest to x; 0.0 below the smallest normal number."""
    return 0.0 if abs(x) < SMALLEST_NORMAL else float(x)


# ---- arrays


@dataclass(frozen=True, slots=True)
class Array:
    """`flat` are the elements in C order; `kind` is "b", "i" or "f", or "" if there is no element to tell."""

    shape: Shape
    flat: list[Any]
    kind: str

    def decimals(self) -> list[Decimal]:
        """The elements as float64 values (integers count as float64), without further error."""
        return [v if isinstance(v, Decimal) else Decimal(float(v)) for v in self.flat]


def as_array(x: Any, name: str) -> Array:
    """Read a number, a nested sequence or anything with .tolist(); TypeError unless bool, int or float."""
    if isinstance(x, Array):
        return x
    dtype = getattr(x, "dtype", None)
    kind, width = getattr(dtype, "kind", ""), getattr(dtype, "itemsize", 8)
    half = getattr(dtype, "name", "") == "bfloat16"
    if not half and (kind not in ("", *"biuf") or (kind == "f" and width not in (2, 4, 8))):
        raise TypeError(f"{name}: dtype {dtype} was given; real numbers of 16 to 64 bits and bool are accepted")
    flat: list[Any] = []
    shape = _flatten(x, flat, name)
    if flat:
        kinds = {"b" if isinstance(v, bool) else "i" if isinstance(v, int) else "f" for v in flat}
        return Array(shape, flat, max(kinds, key="bif".index))
    return Array(tuple(getattr(x, "shape", shape)), flat, "f" if half else "i" if kind == "u" else kind)


def _flatten(x: Any, flat: list[Any], name: str) -> Shape:
    """Append the elements of x to `flat`; return the shape of x."""
    x = x.tolist() if hasattr(x, "tolist") else x
    if isinstance(x, list | tuple):
        shapes = [_flatten(v, flat, name) for v in x]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"{name}: the nested sequence is ragged")
        return (len(x), *(shapes[0] if shapes else ()))
    if not isinstance(x, int | float):
        raise TypeError(f"{name}: elements of type {type(x).__name__} are not supported; give real numbers")
    flat.append(x)
    return ()


def rounded(values: Sequence[Decimal], shape: Shape) -> Nested:
    """Decimals in C order as nested lists of floats; a float for shape ()."""
    if not shape:
        return to_float(values[0])
    step = prod(shape[1:])
    return [rounded(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def broadcast_shapes(a: Shape, b: Shape) -> Shape:
    """NumPy's rule: align at the right; a length of 1 stretches."""
    ndim = max(len(a), len(b))
    pairs = zip((1,) * (ndim - len(a)) + a, (1,) * (ndim - len(b)) + b, strict=True)
    shape = tuple(n if m == 1 else m for m, n in pairs)
    if any(m not in (1, n) for s in (a, b) for m, n in zip(reversed(s), reversed(shape), strict=False)):
        raise ValueError(f"a of shape {a} and b of shape {b} do not broadcast")
    return shape


def broadcast(array: Array, shape: Shape) -> list[Decimal]:
    """The elements of the array stretched to `shape`, in C order."""
    own = (1,) * (len(shape) - len(array.shape)) + array.shape
    strides = [0 if n == 1 else prod(own[k + 1 :]) for k, n in enumerate(own)]
    values = array.decimals()
    return [values[i] for i in _offsets(shape, strides)]


def normal_axes(axis: Any, ndim: int) -> Shape:
    """None (all), an int or a tuple of ints, negative ones from the end, as a sorted tuple."""
    if axis is None:
        return tuple(range(ndim))
    given = tuple(operator.index(k) for k in (axis if isinstance(axis, tuple) else (axis,)))
    span = max(ndim, 1)  # a number takes axis 0 and -1, as in NumPy
    for k in given:
        if not -span <= k < span:
            raise AxisError(f"axis {k} is out of bounds for an array of dimension {ndim}")
    axes = sorted(k % span for k in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis {axis} names an axis twice")
    return tuple(axes) if ndim else ()


def groups(shape: Shape, axes: Shape) -> list[list[int]]:
    """For each index of the other axes, in C order: the flat positions of its elements along `axes`."""
    strides = [prod(shape[k + 1 :]) for k in range(len(shape))]
    kept = [k for k in range(len(shape)) if k not in axes]
    inner = _offsets([shape[k] for k in axes], [strides[k] for k in axes])
    return [[o + i for i in inner] for o in _offsets([shape[k] for k in kept], [strides[k] for k in kept])]


def _offsets(lengths: Sequence[int], strides: Sequence[int]) -> list[int]:
    """sum_k index[k] * strides[k] for every index, in C order."""
    offsets = [0]
    for length, stride in zip(lengths, strides, strict=True):
        offsets = [o + i * stride for o in offsets for i in range(length)]
    return offsets


# ---- checks: TypeError for a wrong kind of thing, ValueError for a wrong value or shape


def check_out(out: None) -> None:
    """The reference returns lists, so there is nothing to write into."""
    if out is not None:
        raise TypeError("out: the reference returns lists; only None is accepted")


def of_shape(x: Any, name: str, *shapes: Shape) -> list[Decimal]:
    """Real numbers in one of the shapes accepted, in C order."""
    array = as_array(x, name)
    if array.shape not in shapes:
        accepted = " or ".join(map(str, shapes))
        raise ValueError(f"{name}: shape {array.shape} was given; {accepted} is accepted")
    return array.decimals()


def in_range(x: Any, name: str, accepted: str, largest: Decimal, *shapes: Shape) -> list[Decimal]:
    """Numbers from 0 to the largest, in one of the shapes accepted."""
    values = of_shape(x, name, *shapes)
    bad = [v for v in values if not ZERO <= v <= largest]
    if bad:
        raise ValueError(f"{name}: {float(bad[0])} was given; {accepted} are accepted")
    return values


def not_negative(x: Any, name: str, *shapes: Shape) -> list[Decimal]:
    """Finite numbers >= 0 in one of the shapes accepted."""
    return in_range(x, name, "finite numbers >= 0", MAX_FLOAT, *shapes)


def check_reduction(reduction: Any) -> None:
    """One of the three words."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction: {reduction!r} was given; "mean", "sum" and "none" are accepted')
