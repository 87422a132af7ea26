"""Fit the polynomials of `funcgrad.compiler.targets.llvm.vector_math` and write its `coefficients.py`.

Run `python tools/fit_polynomials.py` (needs mpmath, numpy, scipy; a quarter of a minute).

Each fit minimizes ``max |weight(x) (target(x) - P(x))|`` over an interval, where ``weight`` turns an error of
the polynomial into the relative error of the function it serves. It takes two steps: interpolation at
Chebyshev nodes with 60 digits, then a linear program on a dense grid for the small correction that levels the
error. The low coefficients are rounded to the working precision one after the other, each time refitting the
rest, so that rounding them costs no accuracy (the idea of Brisebarre and Chevillard's fpminimax, greedily).
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mpmath as mp
import numpy as np
from scipy.optimize import linprog

mp.mp.dps = 60
OUTPUT = Path(__file__).parent.parent / "funcgrad/compiler/targets/llvm/vector_math/coefficients.py"
ROUNDED_ONE_BY_ONE = 5
PI_OVER_4 = mp.pi / 4
HALF_LN2 = mp.log(2) / 2
DIGAMMA_ROOT = mp.findroot(mp.digamma, 1.4616)


@dataclass(frozen=True)
class Fit:
    """A polynomial: ``target`` on [low, high], and the number of terms for each precision (0 if not needed)."""

    name: str
    meaning: str
    target: Callable
    weight: Callable
    low: float
    high: float
    f32_terms: int
    f64_terms: int


def chebyshev_basis(count: int, low: mp.mpf, high: mp.mpf) -> list[list[mp.mpf]]:
    """Monomial coefficients of T_0 … T_{count-1} mapped to [low, high]."""
    slope, shift = 2 / (high - low), -(high + low) / (high - low)
    basis = [[mp.mpf(1)], [shift, slope]]
    while len(basis) < count:
        last, before = basis[-1], basis[-2]
        new = [mp.mpf(0)] * (len(last) + 1)
        for power, c in enumerate(last):
            new[power] += 2 * shift * c
            new[power + 1] += 2 * slope * c
        for power, c in enumerate(before):
            new[power] -= c
        basis.append(new)
    return basis[:count]


def evaluate(coefficients, x):
    return mp.polyval(list(reversed(coefficients)), x)


def level(residual, weights, xs, lowest_power: int, basis) -> list[mp.mpf]:
    """The coefficients of P that minimize max |weights (residual - x^lowest_power P(x))|."""
    scale = max(abs(w * r) for w, r in zip(weights, residual, strict=True))
    columns = [[float(w * x**lowest_power * evaluate(b, x)) for w, x in zip(weights, xs, strict=True)] for b in basis]
    matrix = np.array(columns).T
    norms = np.abs(matrix).max(axis=0)
    rhs = np.array([float(w * r / scale) for w, r in zip(weights, residual, strict=True)])
    ones = np.ones((len(xs), 1))
    matrix = matrix / norms
    solution = linprog(
        np.r_[np.zeros(len(basis)), 1],
        A_ub=np.block([[matrix, -ones], [-matrix, -ones]]),
        b_ub=np.r_[rhs, -rhs],
        bounds=(None, None),
    ).x
    result = [mp.mpf(0)] * len(basis)
    for b, value, norm in zip(basis, solution[:-1], norms, strict=True):
        for power, c in enumerate(b):
            result[power] += mp.mpf(float(value)) * scale / mp.mpf(float(norm)) * c
    return result


def minimax(fit: Fit, terms: int, round_to: Callable) -> tuple[list, float]:
    """The rounded coefficients, and log2 of their largest weighted error."""
    low, high = mp.mpf(fit.low), mp.mpf(fit.high)
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle + half * mp.cos(mp.pi * (2 * k + 1) / (2 * terms)) for k in range(terms)]
    matrix = mp.matrix([[x**power for power in range(terms)] for x in nodes])
    coefficients = list(mp.lu_solve(matrix, mp.matrix([fit.target(x) for x in nodes])))
    count = 24 * terms
    xs = [middle + half * mp.cos(mp.pi * (k + mp.mpf("0.437")) / count) for k in range(count)]
    values, weights = [fit.target(x) for x in xs], [abs(fit.weight(x)) for x in xs]
    for fixed in range(min(ROUNDED_ONE_BY_ONE, terms)):
        residual = [v - evaluate(coefficients, x) for v, x in zip(values, xs, strict=True)]
        correction = level(residual, weights, xs, fixed, chebyshev_basis(terms - fixed, low, high))
        for power, c in enumerate(correction):
            coefficients[fixed + power] += c
        coefficients[fixed] = mp.mpf(float(round_to(coefficients[fixed])))
    rounded = [round_to(c) for c in coefficients]
    exact = [mp.mpf(float(c)) for c in rounded]
    error = max(abs(w * (v - evaluate(exact, x))) for v, w, x in zip(values, weights, xs, strict=True))
    return rounded, float(mp.log(error, 2))


def erfc_scaled(t):
    """(1 + 2a) exp(a²) erfc(a) with a = 4 (1 + t) / (1 - t), which maps [0, ∞) to [-1, 1)."""
    a = 4 * (1 + t) / (1 - t)
    return (1 + 2 * a) * mp.exp(a * a) * mp.erfc(a)


def erf_inv_over_x(w):
    """erf_inv(x) / x as a function of w = -log(1 - x²)."""
    with mp.workdps(120):
        x = mp.sqrt(-mp.expm1(-w))
        z = mp.sqrt(w) / mp.mpf("1.1")
        return (
            mp.findroot(lambda y: mp.log(mp.erfc(y)) - mp.log(mp.exp(-w) / (1 + x)), z) / x
            if w > 1
            else (mp.findroot(lambda y: mp.erf(y) - x, z) / x)
        )


def stirling(u):
    """x (lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2) as a function of u = 1 / x²."""
    with mp.workdps(120):
        x = 1 / mp.sqrt(u)
        return x * (mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)


def digamma_tail(u):
    """x² (log x - 1 / (2x) - digamma(x)) as a function of u = 1 / x²."""
    with mp.workdps(120):
        x = 1 / mp.sqrt(u)
        return x * x * (mp.log(x) - 1 / (2 * x) - mp.digamma(x))


def bessel_far(order):
    """sqrt(x) exp(-x) I(x) for x = 16 / (1 + t), the modified Bessel function of an order."""

    def value(t):
        if t == -1:
            return 1 / mp.sqrt(2 * mp.pi)
        x = 16 / (1 + t)
        return mp.sqrt(x) * mp.exp(-x) * mp.besseli(order, x)

    return value


@functools.cache
def temme_series(k, count=150):
    """Coefficients of c_k(eta), the terms of the uniform expansion of the incomplete gamma functions.

    See https://dlmf.nist.gov/8.12: c_0 = 1 / mu - 1 / eta, where eta²/2 = mu - log(1 + mu), and then 8.12.12. mu as a
    power series of eta satisfies mu mu' = eta (1 + mu).
    """
    if k == 0:
        mu = [mp.mpf(0), mp.mpf(1)]
        for n in range(2, count + 3):
            mu.append((mu[n - 1] - sum(j * mu[n + 1 - j] * mu[j] for j in range(2, n))) / (n + 1))
        return [-mp.mpf(1) / 3] + [(n + 2) * mu[n + 2] for n in range(1, count)]
    before, first = temme_series(k - 1, count + 2), temme_series(0, count)
    return [(-1) ** k * scaled_gamma_series(k) * first[n] + (n + 2) * before[n + 2] for n in range(count)]


@functools.cache
def scaled_gamma_series(k):
    """The coefficient of a^-k of gamma(a) / (sqrt(2 pi / a) (a / e)^a), https://dlmf.nist.gov/5.11.3."""
    if k == 0:
        return mp.mpf(1)
    odd = range(1, k + 1, 2)
    return sum(mp.bernoulli(j + 1) / (j + 1) * scaled_gamma_series(k - j) for j in odd) / k


def temme(k):
    return lambda eta: mp.polyval(temme_series(k)[::-1], eta)


def one(_):
    return mp.mpf(1)


ROOT = mp.sqrt
FITS = [
    Fit(
        "EXP",
        "(exp(r) - 1 - r) / r², |r| <= ln(2)/2",
        lambda r: (mp.expm1(r) - r) / r**2,
        lambda r: r,
        -HALF_LN2 * 1.01,
        HALF_LN2 * 1.01,
        6,
        11,
    ),
    Fit(
        "EXP2",
        "(2^r - 1) / r, |r| <= 1/2",
        lambda r: (mp.mpf(2) ** r - 1) / r,
        lambda r: r,
        -0.501,
        0.501,
        6,
        12,
    ),
    Fit(
        "LOG",
        "(log(1 + f) - f + f²/2) / f³, sqrt(1/2) <= 1 + f <= sqrt(2)",
        lambda f: (mp.log1p(f) - f + f * f / 2) / f**3,
        lambda f: f**3 / mp.log1p(f),
        mp.sqrt(0.5) - 1,
        mp.sqrt(2) - 1,
        9,
        0,
    ),
    Fit(
        "LOG2",
        "(log2(1 + f) - f log2(e)) / f²",
        lambda f: (mp.log1p(f) - f) / f**2 / mp.log(2),
        lambda f: f**2 / mp.log1p(f),
        mp.sqrt(0.5) - 1,
        mp.sqrt(2) - 1,
        10,
        0,
    ),
    Fit(
        "ATANH",
        "(2 atanh(s) - 2 s) / s³ in z = s², |s| <= 3 - 2 sqrt(2)",
        lambda z: 2 * (mp.atanh(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z,
        0,
        0.02945,
        0,
        7,
    ),
    Fit(
        "ATANH_SHORT",
        "(2 atanh(s) - 2 s) / s³ in z = s², |s| <= 3 - 2 sqrt(2), for f32 functions in f64",
        lambda z: 2 * (mp.atanh(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z,
        0,
        0.02945,
        0,
        6,
    ),
    Fit(
        "LOG_TAIL",
        "(2 atanh(s) - 2 s - 2 s³/3) / s⁵ in z = s², for the double-double logarithm of pow",
        lambda z: 2 * (mp.atanh(ROOT(z)) - ROOT(z) - ROOT(z) ** 3 / 3) / ROOT(z) ** 5,
        lambda z: z * z,
        0,
        0.02945,
        0,
        8,
    ),
    Fit(
        "LOG2_SHORT",
        "2 log2(e) atanh(s) / s in z = s², |s| <= 3 - 2 sqrt(2), for pow in f32",
        lambda z: 2 * mp.atanh(ROOT(z)) / ROOT(z) / mp.log(2),
        lambda z: mp.mpf(1) / 3,
        0,
        0.02945,
        0,
        6,
    ),
    Fit(
        "SINE",
        "(sin(r) - r) / r³ in z = r², |r| <= pi/2",
        lambda z: (mp.sin(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z * ROOT(z) / mp.sin(ROOT(z)),
        0,
        (mp.pi / 2) ** 2,
        5,
        9,
    ),
    Fit(
        "SINE_QUARTER",
        "(sin(r) - r) / r³ in z = r², |r| <= pi/4",
        lambda z: (mp.sin(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z,
        0,
        (PI_OVER_4 * 1.13) ** 2,
        4,
        7,
    ),
    Fit(
        "COSINE_QUARTER",
        "(cos(r) - 1 + r²/2) / r⁴ in z = r², |r| <= pi/4",
        lambda z: (mp.cos(ROOT(z)) - 1 + z / 2) / z**2,
        lambda z: z * z,
        0,
        (PI_OVER_4 * 1.13) ** 2,
        4,
        7,
    ),
    Fit(
        "ASIN",
        "(asin(x) - x) / x³ in z = x², |x| <= 1/2",
        lambda z: (mp.asin(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z,
        0,
        0.25,
        6,
        13,
    ),
    Fit(
        "ATAN",
        "(atan(x) - x) / x³ in z = x², |x| <= 1",
        lambda z: (mp.atan(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z,
        0,
        1,
        10,
        21,
    ),
    Fit(
        "SINH",
        "(sinh(x) - x) / x³ in z = x², |x| <= 1",
        lambda z: (mp.sinh(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z,
        0,
        1,
        4,
        8,
    ),
    Fit(
        "ASINH",
        "(asinh(x) - x) / x³ in z = x², |x| <= 1/2",
        lambda z: (mp.asinh(ROOT(z)) - ROOT(z)) / ROOT(z) ** 3,
        lambda z: z,
        0,
        0.25,
        0,
        12,
    ),
    Fit(
        "ERF_SMALL",
        "erf(x) / x - 1 in z = x², |x| <= 1",
        lambda z: mp.erf(ROOT(z)) / ROOT(z) - 1,
        one,
        0,
        1.0,
        7,
        14,
    ),
    Fit(
        "ERF_LARGE",
        "log(erfc(a)), 0.9 <= a <= 4",
        lambda a: mp.log(mp.erfc(a)),
        lambda a: mp.erfc(a) / mp.erf(a),
        0.9,
        4.0,
        8,
        0,
    ),
    Fit(
        "ERFC",
        "(1 + 2a) exp(a²) erfc(a) in t = (a - 4) / (a + 4)",
        erfc_scaled,
        lambda t: 1 / erfc_scaled(t),
        -1,
        0.75,
        12,
        25,
    ),
    Fit(
        "ERF_INV_CENTER",
        "erf_inv(x) / x in w - 3.125, w = -log(1 - x²) <= 6.25",
        lambda v: erf_inv_over_x(v + mp.mpf("3.125")),
        lambda v: 1 / erf_inv_over_x(v + mp.mpf("3.125")),
        -3.125,
        3.125,
        0,
        24,
    ),
    Fit(
        "ERF_INV_MIDDLE",
        "erf_inv(x) / x in sqrt(w) - 3.25, 6.25 <= w <= 16",
        lambda v: erf_inv_over_x((v + mp.mpf("3.25")) ** 2),
        one,
        -0.75,
        0.75,
        0,
        20,
    ),
    Fit(
        "ERF_INV_TAIL",
        "erf_inv(x) / x in sqrt(w) - 5, 16 <= w <= 36.1",
        lambda v: erf_inv_over_x((v + 5) ** 2),
        one,
        -1.0,
        1.01,
        0,
        19,
    ),
    Fit("CBRT", "cbrt(m), 1/2 <= m <= 4, a first guess", mp.cbrt, lambda m: 1 / mp.cbrt(m), 0.5, 4, 5, 5),
    Fit(
        "LGAMMA",
        "lgamma(2 + t) / t, -3/4 <= t <= 1/4",
        lambda t: mp.loggamma(2 + t) / t,
        lambda t: 1 / (mp.loggamma(2 + t) / t),
        -0.75,
        0.25,
        0,
        22,
    ),
    Fit(
        "LGAMMA_SHORT",
        "lgamma(2 + t) / t, -3/4 <= t <= 1/4, for f32 in f64",
        lambda t: mp.loggamma(2 + t) / t,
        lambda t: 1 / (mp.loggamma(2 + t) / t),
        -0.75,
        0.25,
        0,
        11,
    ),
    Fit(
        "LGAMMA_STIRLING_SHORT",
        "x (lgamma(x) - (x - 1/2) log x + x - log(2 pi)/2) in 1/x², x >= 2.25, for f32 in f64",
        stirling,
        lambda u: mp.sqrt(u),
        1e-12,
        1 / 2.25**2,
        0,
        8,
    ),
    Fit(
        "LGAMMA_STIRLING",
        "x (lgamma(x) - (x - 1/2) log x + x - log(2 pi)/2) in 1/x², x >= 7.5",
        stirling,
        one,
        1e-12,
        1 / 7.5**2,
        0,
        8,
    ),
    Fit(
        "DIGAMMA",
        "digamma(x) / (x - root) in x - 1.5, 1 <= x <= 2",
        lambda t: mp.digamma(t + 1.5) / (t + 1.5 - DIGAMMA_ROOT),
        one,
        -0.5,
        0.5,
        0,
        22,
    ),
    Fit(
        "DIGAMMA_TAIL",
        "x² (log x - 1/(2x) - digamma(x)) in 1/x², x >= 8",
        digamma_tail,
        lambda u: u,
        1e-12,
        1 / 64,
        0,
        8,
    ),
    *(
        Fit(
            f"BESSEL_I{order}",
            f"I{order}(x){' / x' if order else ''} in z = x², x <= 8",
            lambda z, order=order: mp.besseli(order, ROOT(z)) / ROOT(z) ** order if z else mp.mpf(2) ** -order,
            lambda z, order=order: ROOT(z) ** order / mp.besseli(order, ROOT(z)) if z else mp.mpf(2) ** order,
            0,
            64,
            12,
            22,
        )
        for order in (0, 1)
    ),
    *(
        Fit(
            f"BESSEL_I{order}_FAR",
            f"sqrt(x) exp(-x) I{order}(x) in t = 16 / x - 1, x >= 8",
            bessel_far(order),
            one,
            -1,
            1,
            9,
            23,
        )
        for order in (0, 1)
    ),
    *(
        Fit(
            f"TEMME_{k}",
            f"c_{k}(eta) of https://dlmf.nist.gov/8.12.10, |eta| <= 1",
            temme(k),
            lambda _, k=k: mp.mpf(30) ** -k,
            -1,
            1,
            0,
            terms,
        )
        for k, terms in enumerate((26, 21, 18, 15, 13, 11, 9, 6, 4, 2, 1))
    ),
]

HEADER = '''"""Polynomial coefficients, lowest power first. Written by tools/fit_polynomials.py; do not edit.

The comment above a table is what it approximates; after a precision stands the largest relative error that
the polynomial alone causes in the function, as a power of two.
"""

from typing import NamedTuple


class Coefficients(NamedTuple):
    """The coefficients for each precision; empty where a function has no use for one."""

    f32: tuple[float, ...]
    f64: tuple[float, ...]

'''


def table(row: list) -> str:
    """A tuple of numbers, wrapped and indented; f32 numbers in full, because some are used in f64 arithmetic."""
    text = textwrap.fill(", ".join(repr(float(c)) for c in row), 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"(\n{text},\n    )" if row else "()"


def main() -> None:
    blocks = [HEADER]
    for fit in FITS:
        found = {}
        for precision, terms, round_to in (
            ("f32", fit.f32_terms, lambda c: np.float32(float(c))),
            ("f64", fit.f64_terms, float),
        ):
            found[precision] = minimax(fit, terms, round_to) if terms else ([], None)
        errors = ", ".join(f"{p} 2^{e:.1f}" for p, (_, e) in found.items() if e is not None)
        print(f"{fit.name:16s} {errors}", flush=True)
        rows = "".join(f"    {precision}={table(row)},\n" for precision, (row, _) in found.items())
        blocks.append(f"\n# {fit.meaning}: {errors}.\n{fit.name} = Coefficients(\n{rows})\n")
    OUTPUT.write_text("".join(blocks))


if __name__ == "__main__":
    main()
