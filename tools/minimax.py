"""The polynomial coefficients in csrc/kernels/elementary.h, activation_f32.h and activation_f64.h.

    python tools/minimax.py          print them, with the bound that each polynomial keeps
    python tools/minimax.py --check  exit status 1 if a header has others

Weighted minimax by Lawson's iteration: least squares over Chebyshev points, each point's weight multiplied by
the error found there until all errors are alike. 60 digits; coefficients rounded once to double at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mpmath import atanh, cos, erf, erfc, exp, ln, log, lu_solve, matrix, mp, mpf, nstr, pi, sqrt, tanh

KERNELS = Path(__file__).resolve().parents[1] / "csrc" / "kernels"
Function = Callable[[mpf], mpf]
ALMOST_0 = mpf(10) ** -12  # where a fit over w = a^2 begins
Polynomial = tuple[str, list[mpf], mpf]  # what it is, coefficients from the lowest power on, relative error


def minimax(
    f: Function, weight: Function, terms: int, low: mpf, high: mpf, points: int = 240, rounds: int = 60
) -> tuple[list[mpf], mpf]:
    """c with f(x) ~ sum c[i] x^i over [low, high], and the largest weight(x) |f(x) - sum|."""
    xs = [(low + high) / 2 + (high - low) / 2 * cos(pi * (2 * k + 1) / (2 * points)) for k in range(points)]
    values, weights = [f(x) for x in xs], [weight(x) for x in xs]
    powers = [[x**j for j in range(terms)] for x in xs]
    emphasis = [mpf(1) / points] * points
    best: tuple[list[mpf], mpf] = ([], mp.inf)
    for _ in range(rounds):
        normal, right = matrix(terms, terms), matrix(terms, 1)
        for power, value, w, e in zip(powers, values, weights, emphasis, strict=True):
            k = e * w * w
            for i in range(terms):
                right[i] += k * power[i] * value
                for j in range(i + 1):
                    normal[i, j] += k * power[i] * power[j]
        for i in range(terms):
            for j in range(i):
                normal[j, i] = normal[i, j]
        c = list(lu_solve(normal, right))
        errors = [
            abs(w * (value - sum(cj * pj for cj, pj in zip(c, power, strict=True))))
            for power, value, w in zip(powers, values, weights, strict=True)
        ]
        if max(errors) < best[1]:
            best = c, max(errors)
        emphasis = [e * error for e, error in zip(emphasis, errors, strict=True)]
        total = sum(emphasis)
        emphasis = [e / total for e in emphasis]
    return best


def minimax_in_float32(f: Function, weight: Function, terms: int, reach: mpf) -> tuple[list[mpf], mpf]:
    """The same with coefficients that are float32: rounded from the lowest on, the others fitted anew after each."""
    fixed: list[mpf] = []

    def left(x: mpf) -> mpf:
        return f(x) - sum(c * x**i for i, c in enumerate(fixed))

    for k in range(terms):
        c, _ = minimax(
            lambda x, k=k: left(x) / x**k, lambda x, k=k: weight(x) * abs(x) ** k, terms - k, -reach, reach, 200, 40
        )
        fixed.append(mpf(float(np.float32(float(c[0])))))
    points = [reach * (mpf(i) / 500 - 1 + mpf(1) / 10**6) for i in range(1001)]
    return fixed, max(weight(x) * abs(left(x)) for x in points)


def hexadecimal(x: mpf) -> str:
    """As elementary.h writes it: no trailing zeros."""
    mantissa, exponent = float(x).hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}" if "." in mantissa else f"{mantissa}p{exponent}"


def exponentials() -> list[Polynomial]:
    """Of elementary.h; the error is that of the exponential made of it."""
    ln2 = ln(2)
    half = mpf(1) / 2
    float32 = minimax(lambda f: (exp(f * ln2) - 1) / f, lambda f: abs(f) * exp(-f * ln2), 6, -half, half)
    reach = ln2 / 2 * (1 + mpf(2) ** -20)  # n is found by a rounded product
    float64 = minimax(lambda r: (exp(r) - 1 - r) / r**2, lambda r: r * r * exp(-r), 10, -reach, reach)
    reach32 = ln2 / 2 * (1 + mpf(2) ** -16)
    terms32 = minimax_in_float32(lambda r: (exp(r) - 1 - r) / r**2, lambda r: r * r * exp(-r), 5, reach32)
    return [
        ("float32, its terms: (e^r - 1 - r) / r^2, |r| <= ln(2) / 2", *terms32),
        ("float32, once a row: (2^f - 1) / f, |f| <= 1/2", *float32),
        ("float64: (e^r - 1 - r) / r^2, |r| <= ln(2) / 2", *float64),
    ]


def relative(f: Function, terms: int, low: mpf, high: mpf) -> tuple[list[mpf], mpf]:
    """`minimax` of the relative error of f itself."""
    return minimax(f, lambda x: 1 / f(x), terms, low, high, points=110, rounds=30)


def odd(f: Function, slope: int, terms: int, largest: mpf) -> tuple[list[mpf], mpf]:
    """c with f(a) ~ a (slope + w sum c[i] w^i), w = a^2, |a| <= largest, and the relative error of f."""

    def rest(w: mpf) -> mpf:
        return (f(sqrt(w)) / sqrt(w) - slope) / w

    return minimax(rest, lambda w: w * sqrt(w) / f(sqrt(w)), terms, ALMOST_0, largest**2, points=110, rounds=30)


def tail(middle: int, reach: int, terms: int) -> tuple[list[mpf], mpf]:
    """e^(a^2/2) Q(a) (a + middle) over t = (a - middle) / (a + middle), 0 <= a <= reach."""

    def f(t: mpf) -> mpf:
        a = middle * (1 + t) / (1 - t)
        return exp(a * a / 2) * erfc(a / sqrt(mpf(2))) / 2 * (a + middle)

    return relative(f, terms, mpf(-1), mpf(reach - middle) / (reach + middle))


def activations_f32() -> list[Polynomial]:
    ln2, half = ln(2), mpf(1) / 2
    return [
        ("(2^f - 1) / f, |f| <= 1/2", *relative(lambda f: (exp(f * ln2) - 1) / f, 7, -half, half)),
        ("(2 atanh(s) / s - 2) / s^2, s <= 1/3", *odd(lambda s: 2 * atanh(s), 2, 5, mpf(1) / 3)),
        ("e^(a^2/2) Q(a) (a + 3), a <= 15", *tail(3, 15, 11)),
    ]


def activations_f64() -> list[Polynomial]:
    def middle(w: mpf) -> mpf:
        return erf(sqrt(w / 2)) / (2 * sqrt(w))

    return [
        ("(tanh(a) / a - 1) / a^2, a <= 0.3", *odd(tanh, 1, 8, mpf("0.3"))),
        ("(1/2 - Q(a)) / a, a <= 1", *relative(middle, 11, ALMOST_0, mpf(1))),
        ("e^(a^2/2) Q(a) (a + 5), a <= 39", *tail(5, 39, 24)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the headers in csrc/kernels")
    args = parser.parse_args()
    mp.dps = 60
    root, cubic = 2 * sqrt(2 / pi), mpf("0.044715")
    constants = {
        "elementary.h": [1 / ln(2), *in_two(ln(2))],
        "activation_f32.h": [1 / sqrt(2 * pi), root, root * cubic],
        "activation_f64.h": [in_two(root)[1], *in_two(cubic)],
    }
    fits = {
        "elementary.h": exponentials,
        "activation_f32.h": activations_f32,
        "activation_f64.h": activations_f64,
    }
    status = 0
    for header, polynomials in fits.items():
        print(f"{header}: constants", *map(hexadecimal, constants[header]))
        wanted = list(map(hexadecimal, constants[header]))
        for name, coefficients, error in polynomials():
            print(f"{name}; relative error 2^{nstr(log(error, 2), 4)}")
            for c in reversed(coefficients):
                print("   ", hexadecimal(c))
            wanted += map(hexadecimal, coefficients)
        if args.check:
            text = (KERNELS / header).read_text()
            words = (word.strip("{},;)").rstrip("f") for word in text.split())
            have = {float.fromhex(word) for word in words if word.lstrip("-").startswith("0x1.") and "p" in word}
            missing = [c for c in wanted if float.fromhex(c) not in have]
            print(f"not in {header}: " + " ".join(missing) if missing else f"{header} has them all")
            status |= bool(missing)
    return status


def in_two(x: mpf) -> list[mpf]:
    """x as a double and what is left."""
    return [mpf(float(x)), x - mpf(float(x))]


if __name__ == "__main__":
    sys.exit(main())
