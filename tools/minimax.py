"""The polynomial coefficients in csrc/kernels/elementary.h.

    python tools/minimax.py          print them, with the bound that each polynomial keeps
    python tools/minimax.py --check  exit status 1 if elementary.h has others

Weighted minimax by Lawson's iteration: least squares over Chebyshev points, each point's weight multiplied by
the error found there until all errors are alike. 40 digits; coefficients rounded once to double at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mpmath import cos, exp, ln, log, lu_solve, matrix, mp, mpf, nstr, pi

HEADER = Path(__file__).resolve().parents[1] / "csrc" / "kernels" / "elementary.h"
Function = Callable[[mpf], mpf]


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


def polynomials() -> list[tuple[str, list[mpf], mpf]]:
    """(what it is, coefficients from the lowest power on, relative error of the exponential made of it)."""
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with csrc/kernels/elementary.h")
    args = parser.parse_args()
    mp.dps = 40
    ln2_high = float(ln(2))
    constants = [1 / ln(2), ln(2), ln(2) - mpf(ln2_high)]
    print("log2 e, ln 2 in two parts:", *map(hexadecimal, constants))
    wanted = list(map(hexadecimal, constants))
    for name, coefficients, error in polynomials():
        print(f"{name}; relative error of e^x 2^{nstr(log(error, 2), 4)}")
        for c in reversed(coefficients):
            print("   ", hexadecimal(c))
        wanted += map(hexadecimal, coefficients)
    if args.check:
        text = HEADER.read_text()
        have = {
            float.fromhex(word.rstrip(",;)").rstrip("f"))
            for word in text.split()
            if word.startswith("0x1.") and "p" in word
        }
        missing = [c for c in wanted if float.fromhex(c) not in have]
        print("not in elementary.h: " + " ".join(missing) if missing else "elementary.h has them all")
        return 1 if missing else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
