"""Fit the polynomials of `funcgrad.scipy.special` and write its `coefficients.py`.

Run `python tools/fit_special.py` (needs mpmath, numpy, scipy; about a minute).

Each polynomial interpolates its target at Chebyshev nodes with 60 digits. It gets as many terms as a relative error of
2^-55 in the function needs, and a shorter one for results in float32 of 2^-29.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from pathlib import Path

import mpmath as mp

mp.mp.dps = 60
OUTPUT = Path(__file__).parent.parent / "funcgrad/scipy/special/coefficients.py"
EI_ROOT = mp.findroot(mp.ei, 0.3725)
CI_ROOT = mp.findroot(mp.ci, 0.6165)


def tail(low: float, shift: float) -> Callable:
    """The map from v in [-1, 1) to x in [low, ∞), v = 1 - 2 (low + shift) / (x + shift)."""
    return lambda v: 2 * (low + shift) / (1 - v) - shift


def dawson(x: mp.mpf) -> mp.mpf:
    """exp(-x²) times the integral of exp(t²) from 0 to x."""
    return mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x)


def scaled_ei(x: mp.mpf) -> mp.mpf:
    """x exp(-x) Ei(x)."""
    return x * mp.exp(-x) * mp.ei(x)


def sine_auxiliary(x: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """f and g with Si(x) = π/2 - f cos x - g sin x and Ci(x) = f sin x - g cos x."""
    si, ci, s, c = mp.si(x) - mp.pi / 2, mp.ci(x), mp.sin(x), mp.cos(x)
    return ci * s - si * c, -ci * c - si * s


def fresnel_auxiliary(x: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """f and g with S(x) = 1/2 - f cos(πx²/2) - g sin(πx²/2) and C(x) = 1/2 + f sin(πx²/2) - g cos(πx²/2)."""
    angle = mp.pi * x * x / 2
    s, c, left_s, left_c = mp.sin(angle), mp.cos(angle), mp.mpf(1) / 2 - mp.fresnels(x), mp.mpf(1) / 2 - mp.fresnelc(x)
    return left_s * c - left_c * s, left_c * c + left_s * s


def normal_quantile(r: mp.mpf) -> mp.mpf:
    """The r-th standard normal number in the sense that ndtr(-result) = exp(-r²)."""
    goal = -r * r
    return mp.findroot(lambda y: mp.log(mp.erfc(y / mp.sqrt(2)) / 2) - goal, mp.sqrt(2) * r - mp.mpf(1) / 2)


def stirling(x: mp.mpf) -> mp.mpf:
    """lgamma(x) - (x - 1/2) log x + x - log(2π)/2."""
    with mp.workdps(90):
        return mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2


# name: (meaning, target as a function of x, x as a function of the argument, factor from an error of the polynomial to
# a relative error (None: 1 / target), low, high)
FITS: dict[str, tuple] = {
    "ERFCX": (
        "(1 + 2x) exp(x²) erfc(x) in 1 - 8 / (x + 4), x ≥ 0",
        lambda x: (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x),
        tail(0, 4),
        None,
        -1,
        1,
    ),
    "DAWSON_NEAR": ("dawsn(x) / x in x² - 2, x ≤ 2", lambda x: dawson(x) / x, lambda v: mp.sqrt(v + 2), None, -2, 2),
    "DAWSON_MIDDLE": ("x dawsn(x) in x - 3, 2 ≤ x ≤ 4", lambda x: x * dawson(x), lambda v: v + 3, None, -1, 1),
    "DAWSON_FAR": (
        "x dawsn(x) in 32 / x² - 1, x ≥ 4",
        lambda x: x * dawson(x),
        lambda v: mp.sqrt(32 / (v + 1)),
        None,
        -1,
        1,
    ),
    "E1_NEAR": (
        "(exp1(x) + log(x) + γ) / x in x - 1/2, x ≤ 1",
        lambda x: (mp.e1(x) + mp.log(x) + mp.euler) / x,
        lambda v: v + mp.mpf(1) / 2,
        lambda x: x / mp.e1(x),
        -0.5,
        0.5,
    ),
    "E1_FAR": (
        "(x + 1) exp(x) exp1(x) in 1 - 6 / (x + 2), x ≥ 1",
        lambda x: (x + 1) * mp.exp(x) * mp.e1(x),
        tail(1, 2),
        None,
        -1,
        1,
    ),
    "EI_NEAR": (
        "(expi(x) - log(x / root)) / (x - root) in x - 3, x ≤ 6",
        lambda x: (mp.ei(x) - mp.log(x / EI_ROOT)) / (x - EI_ROOT),
        lambda v: v + 3,
        lambda x: (x - EI_ROOT) / mp.ei(x),
        -3,
        3,
    ),
    "EI_6": ("x exp(-x) expi(x) in 24 / x - 3, 6 ≤ x ≤ 12", scaled_ei, lambda v: 24 / (v + 3), None, -1, 1),
    "EI_12": ("x exp(-x) expi(x) in 48 / x - 3, 12 ≤ x ≤ 24", scaled_ei, lambda v: 48 / (v + 3), None, -1, 1),
    "EI_24": ("x exp(-x) expi(x) in 48 / x - 1, x ≥ 24", scaled_ei, lambda v: 48 / (v + 1), None, -1, 1),
    "SI_NEAR": ("Si(x) / x in x² - 8, x ≤ 4", lambda x: mp.si(x) / x, lambda v: mp.sqrt(v + 8), None, -8, 8),
    "CI_NEAR": (
        "(Ci(x) - log(x / root)) / (x² - root²) in x² - 8, x ≤ 4",
        lambda x: (mp.ci(x) - mp.log(x / CI_ROOT)) / (x**2 - CI_ROOT**2),
        lambda v: mp.sqrt(v + 8),
        lambda x: min(abs((x**2 - CI_ROOT**2) / mp.ci(x)), 8),
        -8,
        8,
    ),
    "SINE_F": (
        "x f(x) in 1 - 20 / (x + 6), x ≥ 4",
        lambda x: x * sine_auxiliary(x)[0],
        tail(4, 6),
        None,
        -1,
        1,
    ),
    "SINE_G": (
        "x² g(x) in 1 - 20 / (x + 6), x ≥ 4",
        lambda x: x**2 * sine_auxiliary(x)[1],
        tail(4, 6),
        None,
        -1,
        1,
    ),
    "FRESNEL_S": (
        "S(x) / x³ in x⁴ - 2.5, x⁴ ≤ 5",
        lambda x: mp.fresnels(x) / x**3,
        lambda v: (v + 2.5) ** 0.25,
        None,
        -2.5,
        2.5,
    ),
    "FRESNEL_C": (
        "C(x) / x in x⁴ - 2.5, x⁴ ≤ 5",
        lambda x: mp.fresnelc(x) / x,
        lambda v: (v + 2.5) ** 0.25,
        None,
        -2.5,
        2.5,
    ),
    "FRESNEL_F": (
        "x f(x) in 1 - 6 / (x + 1.5), x ≥ 1.5",
        lambda x: x * fresnel_auxiliary(x)[0],
        tail(1.5, 1.5),
        None,
        -1,
        1,
    ),
    "FRESNEL_G": (
        "x³ g(x) in 1 - 6 / (x + 1.5), x ≥ 1.5",
        lambda x: x**3 * fresnel_auxiliary(x)[1],
        tail(1.5, 1.5),
        None,
        -1,
        1,
    ),
    "DEBYE": (
        "(spence(exp(-u)) - u + u²/4) / u³ in u², |u| ≤ log 2",
        lambda u: (mp.polylog(2, -mp.expm1(-u)) - u + u * u / 4) / u**3,
        mp.sqrt,
        lambda u: u * u,
        0,
        mp.log(2) ** 2,
    ),
    "NDTRI": (
        "-ndtri(exp(-r²)) / r in 1 - 11 / (r + 4), 1.4 ≤ r ≤ 27.3",
        lambda r: normal_quantile(r) / r,
        tail(1.5, 4),
        None,
        -1.04,
        0.65,
    ),
    "GAMMA": ("gamma(x) in x - 2.5, 2 ≤ x ≤ 3", mp.gamma, lambda v: v + 2.5, None, -0.5, 0.5),
    "GAMMA_FAR": (
        "gamma(x) / (√(2π) x^(x - 1/2) exp(-x)) in 1/x, x ≥ 8",
        lambda x: mp.exp(stirling(x)),
        lambda v: 1 / v,
        None,
        0,
        0.125,
    ),
    "STIRLING": (
        "x (gammaln(x) - (x - 1/2) log x + x - log(2π)/2) in 1/x², x ≥ 8",
        lambda x: x * stirling(x),
        lambda v: 1 / mp.sqrt(v),
        None,
        0,
        mp.mpf(1) / 64,
    ),
}


def interpolant(target: Callable, low: mp.mpf, high: mp.mpf, count: int) -> list[mp.mpf]:
    """The coefficients of the interpolant at Chebyshev nodes, by powers of the argument."""
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    with mp.workdps(120):
        matrix = mp.matrix([[v**power for power in range(count)] for v in nodes])
        return list(mp.lu_solve(matrix, mp.matrix([target(v) for v in nodes])))


def fit(target: Callable, factor: Callable, low: float, high: float, precision: int) -> tuple[list[float], str]:
    """The shortest polynomial with an error below 2^-precision, rounded to double precision, and its error."""
    low, high = mp.mpf(low), mp.mpf(high)
    samples = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (k + mp.mpf("0.437")) / 120) for k in range(120)]
    values, factors = [target(v) for v in samples], [abs(factor(v)) for v in samples]

    def error(coefficients: list) -> mp.mpf:
        found = [mp.polyval(list(reversed(coefficients)), v) for v in samples]
        return max(f * abs(v - p) for f, v, p in zip(factors, values, found, strict=True))

    count = precision // 6
    while error(coefficients := interpolant(target, low, high, count)) > mp.mpf(2) ** -precision:
        count += 1
    rounded = [float(c) for c in coefficients]
    return rounded, f"2^{float(mp.log(error([mp.mpf(c) for c in rounded]), 2)):.1f}"


HEADER = '''"""Polynomial coefficients, lowest power first. Written by tools/fit_special.py; do not edit.

The comment above a table is what it approximates, with the largest relative error that it causes in the function.
"""

from typing import NamedTuple


class Table(NamedTuple):
    """Coefficients of a polynomial for float64, and of a shorter one for results in float32."""

    short: tuple[float, ...]
    full: tuple[float, ...]

'''


def main() -> None:
    """Fit every polynomial and write the module."""
    blocks = [HEADER]
    for name, (meaning, target, argument, factor, low, high) in FITS.items():

        @functools.cache
        def of_argument(v: mp.mpf, target: Callable = target, argument: Callable = argument) -> mp.mpf:
            return target(argument(v))

        def of_error(v: mp.mpf, factor: Callable | None = factor, argument: Callable = argument) -> mp.mpf:
            return factor(argument(v)) if factor else 1 / of_argument(v)

        rows, notes = zip(*(fit(of_argument, of_error, low, high, p) for p in (29, 55)), strict=True)
        print(f"{name:14s} {[len(r) for r in rows]} terms, {notes}", flush=True)
        blocks.append(f"\n# {meaning}: {', '.join(notes)}.\n{name} = Table(\n")
        for field, row in zip(("short", "full"), rows, strict=True):
            numbers = ", ".join(map(repr, row))
            text = textwrap.fill(numbers, 112, initial_indent=" " * 8, subsequent_indent=" " * 8)
            blocks.append(f"    {field}=(\n{text},\n    ),\n")
        blocks.append(")\n")
    OUTPUT.write_text("".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    main()
