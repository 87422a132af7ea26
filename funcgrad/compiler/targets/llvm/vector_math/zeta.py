"""The Hurwitz zeta function and polygamma."""

from __future__ import annotations

from fractions import Fraction
from math import factorial

from funcgrad.compiler.targets.llvm.vector_math.constants import INF, NAN
from funcgrad.compiler.targets.llvm.vector_math.exponential import exp, log, pow
from funcgrad.compiler.targets.llvm.vector_math.registry import math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import F32, Scalar, absolute, floor, fma, repeat, select
from funcgrad.compiler.targets.llvm.vector_math.special import digamma

# B(2k) / (2k)!, https://dlmf.nist.gov/24.2, for k = 1 …
BERNOULLI = [
    Fraction(numerator, denominator * factorial(2 * k))
    for k, (numerator, denominator) in enumerate(
        (
            *((1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798)),
            *((-174611, 330), (854513, 138), (-236364091, 2730), (8553103, 6), (-23749461029, 870)),
            *((8615841276005, 14322), (-7709321041217, 510)),
        ),
        start=1,
    )
]
FARTHEST = 10_000  # terms added for a negative q


def even(n: Scalar) -> Scalar:
    return floor(n * 0.5).same(n * 0.5)


def hurwitz(s: Scalar, q: Scalar, short: bool) -> Scalar:
    """Σ (q + k)^-s in f64, if `short` to the precision of f32: some terms, then Euler and Maclaurin's formula.

    See https://dlmf.nist.gov/25.11.E5. The n-th of its terms is about ((s + n) / (2 pi (q + k)))^(2 n) of the sum.
    """
    terms, first = (8, 5.0) if short else (16, 9.0)
    enough = fma(s, 0.55, first)

    def power_of(w: Scalar) -> Scalar:
        if not short:
            return pow(w, -s)
        size = exp(-s * log(absolute(w)))
        return select((w < 0.0) & ~even(s), -size, size)

    sensible = (s > 1.0) & (s < INF) & (q > -float(FARTHEST)) & (q < INF)

    def going(w, total, last):
        return sensible & (w < enough) & ((last > absolute(total) * 2.0**-60) | (w <= 1.0))

    def step(w, total, last):
        term = power_of(w)
        return w + 1.0, total + term, absolute(term)

    w, total, _ = repeat(FARTHEST + 20, [q, q.like(0.0), q.like(INF)], going, step)
    power = power_of(w)
    inverse = 1.0 / w
    # s (s + 1) … (s + 2k - 2) w^(-s - 2k + 1) B(2k) / (2k)!, innermost first.
    tail = s.like(0.0)
    for k in reversed(range(terms)):
        rising = s * inverse if k == 0 else ((s + (2.0 * k - 1)) * inverse) * ((s + 2.0 * k) * inverse)
        tail = rising * (tail + float(BERNOULLI[k]))
    total = total + power * (w / (s - 1.0) + (tail + 0.5))
    return select(sensible, total, NAN)


def zeta_in_f64(s: Scalar, q: Scalar, short: bool) -> Scalar:
    """`hurwitz` with its limits: inf at s = 1 and at poles of even s, NaN where the sign of the pole is unknown."""
    value = hurwitz(s, q, short)
    limit = select(s.same(INF), select(q < 1.0, INF, select(q.same(1.0), q.like(1.0), 0.0)), value)
    limit = select(q.same(INF), 0.0, limit)
    pole = (q <= 0.0) & floor(q).same(q)
    limit = select(pole, select(even(s), q.like(INF), NAN), limit)
    limit = select(~pole & (q < 0.0) & ~floor(s).same(s), NAN, limit)
    limit = select(s < 1.0, NAN, limit)
    limit = select(s.is_nan() | q.is_nan(), NAN, limit)
    return select(s.same(1.0), INF, limit)


@math_function(f32=1.0, f64=6.0, loops=True)
def zeta(s: Scalar, q: Scalar) -> Scalar:
    """The Hurwitz zeta function: a few terms, then Euler and Maclaurin's formula; float32 in float64."""
    return zeta_in_f64(s.to_f64(), q.to_f64(), s.type == F32).to(s.type)


@math_function(f32=1.0, f64=8.0, loops=True)
def polygamma(m: Scalar, x: Scalar) -> Scalar:
    """The m-th derivative of digamma: (-1)^(m + 1) m! zeta(m + 1, x), https://dlmf.nist.gov/25.11.E12."""
    type, m, q = m.type, m.to_f64(), x.to_f64()
    value = zeta_in_f64(m + 1.0, q, type == F32)
    integer = (m >= 0.0) & floor(m).same(m)

    def step(k, product):
        return k + 1.0, product * k

    one = m.like(1.0)
    _, product = repeat(171, [one, one], lambda k, _: integer & (k <= m), step)
    value = value * select(even(m), -product, product)
    return select(integer, select(m.same(0.0), digamma(q), value), NAN).to(type)
