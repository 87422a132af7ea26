"""Modified Bessel functions of the first kind, scaled by e^-|x|: bessel_i0e bessel_i1e bessel_ive."""

from __future__ import annotations

from funcgrad.compiler.targets.llvm.vector_math import coefficients
from funcgrad.compiler.targets.llvm.vector_math.constants import INF
from funcgrad.compiler.targets.llvm.vector_math.exponential import exp
from funcgrad.compiler.targets.llvm.vector_math.registry import math_function
from funcgrad.compiler.targets.llvm.vector_math.scalar import (
    F32,
    Scalar,
    absolute,
    copysign,
    floor,
    fma,
    horner,
    repeat,
    select,
    sqrt,
)


def scaled(a: Scalar, near: coefficients.Coefficients, far: coefficients.Coefficients) -> tuple[Scalar, Scalar]:
    """e^-a times a polynomial in a² to 8, and a polynomial in 1 / a over sqrt(a) beyond."""
    return exp(-a) * horner(a * a, near), horner(fma(1.0 / a, 16.0, -1.0), far) / sqrt(a)


@math_function(f32=3.0, f64=3.0)
def bessel_i0e(x: Scalar) -> Scalar:
    """e^-|x| I0(x): e^-|x| times a polynomial in x² to 8, then a polynomial in 1/|x| over sqrt(|x|)."""
    a = absolute(x)
    near, far = scaled(a, coefficients.BESSEL_I0, coefficients.BESSEL_I0_FAR)
    return select(a.same(INF), 0.0, select(a <= 8.0, near, far))


@math_function(f32=4.0, f64=4.0)
def bessel_i1e(x: Scalar) -> Scalar:
    """e^-|x| I1(x), like `bessel_i0e`."""
    a = absolute(x)
    near, far = scaled(a, coefficients.BESSEL_I1, coefficients.BESSEL_I1_FAR)
    return copysign(select(a.same(INF), 0.0, select(a <= 8.0, near * a, far)), x)


@math_function(f32=1.0, f64=16.0, loops=True)
def bessel_ive(order: Scalar, x: Scalar) -> Scalar:
    """e^-|x| I(x) of an integer order >= 0, from that of orders 0 and 1; float32 in float64.

    For x >= order² by the recurrence I(n + 1) = I(n - 1) - (2 n / x) I(n), in which errors grow little then. For
    smaller x by the ratios I(n) / I(n - 1) = x / (2 n + x I(n + 1) / I(n)), from an order so large that the ratio does
    not matter (J. C. P. Miller; https://dlmf.nist.gov/10.74.iv).
    """
    type, n, a = x.type, order.to_f64(), absolute(x.to_f64())
    first = bessel_i0e(a)
    upward = (a >= n * n) & (a > 30.0) & (a < INF)
    downward = (a > 0.0) & ~upward & (a < INF)
    enough = 40.0 if type == F32 else 80.0
    start = floor(sqrt(fma(a, enough, n * n))) + 20.0

    def up(k, low, high):
        return k + 1.0, high, fma(-(k + k) / a, high, low)

    one = a.like(1.0)
    _, value, _ = repeat(10000, [one, first, bessel_i1e(a)], lambda k, *_: upward & (k <= n), up)

    def down(k, ratio, product):
        ratio = a / fma(a, ratio, k + k)
        return k - 1.0, ratio, select(k <= n, product * ratio, product)

    _, _, product = repeat(100000, [start, a.like(0.0), one], lambda k, *_: downward & (k > 0.0), down)
    value = select(upward, value, first * product)
    value = select(a.same(0.0) & (n > 0.0), 0.0, value)
    half = n * 0.5
    odd = ~floor(half).same(half)
    return select(odd & (x.to_f64() < 0.0), -value, value).to(type)
