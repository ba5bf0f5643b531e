"""The definition of the activations and of their derivatives, in 60-digit decimals.

    relu(z) = max(z, 0)                  leaky_relu(z) = z, below 0: 0.01 z     softplus(z) = log(1 + exp(z))
    sigmoid(z) = 1 / (1 + exp(-z))       tanh(z) = 2 sigmoid(2 z) - 1           silu(z) = z sigmoid(z)
    gelu(z) = z Phi(z), Phi the normal distribution function
    gelu_tanh(z) = z (1 + tanh u) / 2 = z sigmoid(2 u), u = sqrt(2/pi) (z + 0.044715 z^3)

A derivative is a function of what is saved: of y where that is enough, of z for gelu, gelu_tanh and silu.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

from xent.reference._exact import NAN, ONE, ZERO, log1p

Real = Callable[[Decimal], Decimal]

HALF, TWO = Decimal("0.5"), Decimal(2)
SLOPE = Decimal.from_float(0.01)  # of leaky_relu below 0: the float64, as the kernels have it
CUBIC = Decimal("0.044715")
FAR = Decimal(50)  # beyond it exp(-z^2 / 2) is 0 to any float


def pi_to(digits: int) -> Decimal:
    """pi by Machin: 16 arctan(1/5) - 4 arctan(1/239)"""
    unit: int = 10 ** (digits + 10)

    def arctan_of_inverse(n: int) -> int:
        power: int = unit // n
        total = power
        k, sign = 3, -1
        while power:
            power //= n * n
            total += sign * (power // k)
            k, sign = k + 2, -sign
        return total

    return Decimal(f"{16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)}E-{digits + 10}")


PI = pi_to(70)


def saved_kind(activation: str | None) -> str:
    """What `dense_backward` wants as `saved`: "y", the output, or "z", the pre-activation.

    Parameters: `activation`, a name or None. Returns "z" for "gelu", "gelu_tanh" and "silu", else "y". Raises
    ValueError for a name that there is not.

    Examples
    --------
    >>> from xent.reference import saved_kind
    >>> saved_kind("gelu")
    'z'
    """
    find(activation)
    return "z" if activation in ("gelu", "gelu_tanh", "silu") else "y"


def find(activation: Any) -> tuple[Real, Real]:
    """f and f' of that name."""
    try:
        return ACTIVATIONS[activation]
    except (KeyError, TypeError):
        accepted = ", ".join(name for name in ACTIVATIONS if name)
        raise ValueError(f"activation: {activation!r} was given; None, {accepted} are accepted") from None


def sigmoid(z: Decimal) -> Decimal:
    """1 / (1 + exp(-z))"""
    return ONE / (ONE + (-z).exp())


def tanh(z: Decimal) -> Decimal:
    """(1 - e) / (1 + e), e = exp(-2 |z|): 1 - e loses digits near 0, where z - z^3/3 + 2 z^5/15 does not"""
    if abs(z) < Decimal("1e-12"):
        return z - z**3 / 3 + 2 * z**5 / 15
    e = (-2 * abs(z)).exp()
    return ((ONE - e) / (ONE + e)).copy_sign(z)


def softplus(z: Decimal) -> Decimal:
    """log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|))"""
    return z if z.is_nan() else max(z, ZERO) + log1p((-abs(z)).exp())


def one_minus_exp(y: Decimal) -> Decimal:
    """1 - exp(-y), all its digits also for small y"""
    if abs(y) < Decimal("1e-12"):
        return y - y**2 / 2 + y**3 / 6 - y**4 / 24
    return ONE - (-y).exp()


def density(z: Decimal) -> Decimal:
    """phi(z) = exp(-z^2 / 2) / sqrt(2 pi)"""
    return ZERO if abs(z) > FAR else (-z * z / 2).exp() / (2 * PI).sqrt()


def tail(a: Decimal) -> Decimal:
    """Q(a) = 1/2 - phi(a) (a + a^3/3 + a^5/(3 5) + ...), a >= 0, in so many digits that the difference has 60"""
    if a > FAR:
        return ZERO
    with localcontext() as context:
        context.prec += 10 + int(a * a / 4)
        term = total = a
        n = 1
        while term > total.scaleb(-context.prec):
            n += 2
            term *= a * a / n
            total += term
        return HALF - (-a * a / 2).exp() / (2 * pi_to(context.prec)).sqrt() * total


def normal(z: Decimal) -> Decimal:
    """Phi(z)"""
    if z.is_nan():
        return z
    return tail(-z) if z < 0 else ONE - tail(z)


def gated(gate: Real) -> Real:
    """z gate(z); 0 at -inf"""
    return lambda z: ZERO if z == Decimal("-inf") else z * gate(z)


def _u2(z: Decimal) -> Decimal:
    """2 u = 2 sqrt(2 / pi) (z + 0.044715 z^3)"""
    return 2 * (2 / PI).sqrt() * (z + CUBIC * z**3)


def _gelu_slope(z: Decimal) -> Decimal:
    """Phi(z) + z phi(z)"""
    return normal(z) + (ZERO if z.is_infinite() else z * density(z))


def _gated_slope(u: Real, u_slope: Real) -> Real:
    """Of z sigmoid(u): sigmoid(u) + z u' sigmoid(u) sigmoid(-u)"""

    def slope(z: Decimal) -> Decimal:
        if z.is_infinite():
            return ONE if z > 0 else ZERO
        s, not_s = sigmoid(u(z)), sigmoid(-u(z))
        return s + z * u_slope(z) * s * not_s

    return slope


def _relu_slope(below: Decimal) -> Real:
    """1 above 0, else `below`"""
    return lambda y: NAN if y.is_nan() else ONE if y > 0 else below


def _u2_slope(z: Decimal) -> Decimal:
    return 2 * (2 / PI).sqrt() * (ONE + 3 * CUBIC * z**2)


IDENTITY: tuple[Real, Real] = (lambda z: z, lambda y: ONE)
ACTIVATIONS: dict[str | None, tuple[Real, Real]] = {
    None: IDENTITY,
    "identity": IDENTITY,
    "relu": (lambda z: z if z.is_nan() else max(z, ZERO), _relu_slope(ZERO)),
    "leaky_relu": (lambda z: z if z.is_nan() or z > 0 else SLOPE * z, _relu_slope(SLOPE)),
    "tanh": (tanh, lambda y: (ONE - y) * (ONE + y)),
    "sigmoid": (sigmoid, lambda y: y * (ONE - y)),
    "softplus": (softplus, one_minus_exp),
    "gelu": (gated(normal), _gelu_slope),
    "gelu_tanh": (gated(lambda z: sigmoid(_u2(z))), _gated_slope(_u2, _u2_slope)),
    "silu": (gated(sigmoid), _gated_slope(lambda z: z, lambda z: ONE)),
}
