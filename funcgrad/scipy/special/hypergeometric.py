"""The confluent and the Gaussian hypergeometric function, by their series.

A series is summed together with its derivatives with respect to the parameters, element by element, as far as needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.ops import special as sp
from funcgrad.scipy.special.declare import by_element, in_double, real_operands, with_partials
from funcgrad.scipy.special.gammas import gammasgn
from funcgrad.transforms.control_flow import while_loop

__all__ = ["hyp1f1", "hyp2f1"]

EPS = 2.0**-54


def _sum(x: Any, above: tuple, below: tuple, wanted: Any, limit: int, slopes: bool) -> list[Any]:
    """Σ Π (aᵢ)ₖ / Π (bⱼ)ₖ xᵏ/k!, and with `slopes` its derivatives with respect to all aᵢ and bⱼ; 1 unless `wanted`.

    The derivative of a term tₖ with respect to aᵢ is tₖ Σ 1/(aᵢ + j) over j < k.
    """
    parameters = (*above, *below)

    def going(state: tuple) -> Any:
        k, term, total, *_ = state
        return wanted & (k < limit) & ((abs(term) > EPS * abs(total)) | (k < least)) & jnp.isfinite(total)

    def step(state: tuple) -> tuple:
        k, term, total, *rest = state
        factors, totals = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        if slopes:
            # A factor that is 0 ends the series; so do its derivatives, which the sum has then missed.
            factors = [f + 1 / _nonzero(p + k) for f, p in zip(factors, parameters, strict=True)]
        for p in above:
            term = term * (p + k)
        for p in below:
            term = term / _nonzero(p + k)
        term = term * x / (k + 1)
        return k + 1, term, total + term, *factors, *(t + term * f for t, f in zip(totals, factors, strict=True))

    zero = jnp.zeros_like(x)
    # Terms of negative parameters may be small before others are large.
    least = jnp.minimum(jnp.maximum(zero + 2, 2 - jnp.minimum(*parameters[:2])), 200)
    count = len(parameters) if slopes else 0
    start = (zero, zero + 1, zero + 1, *[zero] * (2 * count))
    state = while_loop(going, step, start)
    signs = [1] * len(above) + [-1] * len(below)
    return [state[2], *(s * t for s, t in zip(signs, state[3 + count :], strict=False))]


def _nonzero(x: Any) -> Any:
    return jnp.where(x == 0, 1, x)


def _is_pole(x: Any) -> Any:
    return (x <= 0) & (x == jnp.floor(x))


# ---------------------------------------------------------------- 1F1


def _kummer(slopes: bool) -> Callable[..., Any]:
    """M(a, b, x), or its derivatives with respect to a and b.

    For x < 0 by M(a, b, x) = eˣ M(b − a, b, −x), so that terms do not cancel; for large x by its asymptotic series,
    https://dlmf.nist.gov/13.7.E1.
    """

    def element(a: Any, b: Any, x: Any) -> Any:
        negative = x < 0
        first, size = jnp.where(negative, b - a, a), abs(x)
        exponential = jnp.where(negative, jnp.exp(x), 1)
        finite = ~jnp.isnan(a + b + x)
        large = (size > 100) & (jnp.maximum(abs(first), abs(b)) < 0.1 * size) & ~_is_pole(first)
        value, *by = _sum(size, (first,), (b,), finite & (slopes | ~large), 3000, slopes)
        if slopes:
            by_a, by_b = by
            return (
                exponential * jnp.where(negative, -by_a, by_a),
                exponential * jnp.where(negative, by_a + by_b, by_b),
            )
        (rest,) = _sum(1 / _nonzero(size), (b - first, 1 - first), (), finite & large, 60, False)
        factor = sp.lgamma_p.bind(b) - sp.lgamma_p.bind(first) + (first - b) * jnp.log(_nonzero(size))
        sign = gammasgn(b) * gammasgn(first)
        far = sign * rest * jnp.exp(factor + jnp.where(negative, 0, x))
        return jnp.where(large, far, exponential * value)

    return by_element(element)


@in_double
def _hyp1f1(polynomial: Any, a: Any, b: Any, x: Any) -> Any:
    value = jnp.where(_is_pole(b) & (a != 0), jnp.inf, jnp.where(a == b, jnp.exp(x), _kummer(False)(a, b, x)))
    return jnp.where(jnp.isnan(a + b + x), jnp.nan, jnp.where((a == 0) | (x == 0) & ~_is_pole(b), 1, value))


_hyp1f1_slopes = in_double(lambda polynomial, a, b, x: _kummer(True)(a, b, x))
_hyp1f1_real = with_partials(
    _hyp1f1,
    (
        lambda out, a, b, x: _hyp1f1_slopes(a, b, x)[0],
        lambda out, a, b, x: _hyp1f1_slopes(a, b, x)[1],
        lambda out, a, b, x: a / b * _hyp1f1_real(a + 1, b + 1, x),
    ),
)


def hyp1f1(a: Any, b: Any, x: Any) -> Any:
    """Kummer's confluent hypergeometric function Σ (a)ₖ/(b)ₖ xᵏ/k!; ∞ where b is 0 or a negative integer.

    >>> hyp1f1(1.0, 2.0, 1.0)
    Array(1.7182819, dtype=float32)
    """
    return _hyp1f1_real(*real_operands("hyp1f1", a, b, x))


# ---------------------------------------------------------------- 2F1


def _unit_interval(a: Any, b: Any, c: Any, y: Any, slopes: bool) -> list[Any]:
    """F(a, b; c; y) for |y| < 1; if c < a + b, without slopes, by Euler's (1 − y)^(c − a − b) F(c − a, c − b; c; y)."""
    if slopes:
        return _sum(y, (a, b), (c,), jnp.isfinite(a + b + c) & (abs(y) < 1), 100_000, True)
    excess = c - a - b
    euler = (excess < 0) & ~_is_pole(a) & ~_is_pole(b)
    first, second = jnp.where(euler, c - a, a), jnp.where(euler, c - b, b)
    wanted = jnp.isfinite(a + b + c) & ((abs(y) < 1) | _is_pole(a) | _is_pole(b))
    (value,) = _sum(y, (first, second), (c,), wanted, 100_000, False)
    return [jnp.where(euler, (1 - y) ** excess, 1) * value]


def _gauss(slopes: bool) -> Callable[..., Any]:
    """F(a, b; c; x), or its derivatives with respect to a, b and c.

    For x < −1/2 by Pfaff's F(a, b; c; x) = (1 − x)⁻ᵃ F(a, c − b; c; x/(x − 1)).
    """

    def element(a: Any, b: Any, c: Any, x: Any) -> Any:
        polynomial = _is_pole(a) | _is_pole(b)
        pfaff = (x < -0.5) & (slopes | ~polynomial)
        y, second = jnp.where(pfaff, x / (x - 1), x), jnp.where(pfaff, c - b, b)
        value, *by = _unit_interval(a, second, c, y, slopes)
        factor = jnp.where(pfaff, (1 - jnp.where(pfaff, x, 0)) ** -a, 1)
        if not slopes:
            return factor * value
        by_a, by_b, by_c = by
        log = jnp.log1p(jnp.where(pfaff, -x, 0))
        return (
            factor * (by_a - log * value),
            factor * jnp.where(pfaff, -by_b, by_b),
            factor * (by_c + jnp.where(pfaff, by_b, 0)),
        )

    return by_element(element)


@in_double
def _hyp2f1(polynomial: Any, a: Any, b: Any, c: Any, x: Any) -> Any:
    excess = c - a - b
    value = _gauss(False)(a, b, c, x)
    signs = gammasgn(c) * gammasgn(excess) * gammasgn(c - a) * gammasgn(c - b)
    terms = (sp.lgamma_p.bind(v) for v in (c, excess, c - a, c - b))
    at_one = next(terms) + next(terms) - next(terms) - next(terms)
    at_one = jnp.where(excess > 0, jnp.where(_is_pole(c - a) | _is_pole(c - b), 0, signs * jnp.exp(at_one)), jnp.inf)
    finite_sum = _is_pole(a) | _is_pole(b)
    value = jnp.where(finite_sum, value, jnp.where(x == 1, at_one, jnp.where(x > 1, jnp.inf, value)))
    ends_first = (_is_pole(a) & (a > c)) | (_is_pole(b) & (b > c))
    value = jnp.where(_is_pole(c) & ~ends_first, jnp.inf, value)
    value = jnp.where((x == 0) | ((a == 0) | (b == 0)) & (c != 0), 1, value)
    return jnp.where(jnp.isnan(a + b + c + x), jnp.nan, value)


_hyp2f1_slopes = in_double(lambda polynomial, a, b, c, x: _gauss(True)(a, b, c, x))
_hyp2f1_real = with_partials(
    _hyp2f1,
    (
        lambda out, a, b, c, x: _hyp2f1_slopes(a, b, c, x)[0],
        lambda out, a, b, c, x: _hyp2f1_slopes(a, b, c, x)[1],
        lambda out, a, b, c, x: _hyp2f1_slopes(a, b, c, x)[2],
        lambda out, a, b, c, x: a * b / c * _hyp2f1_real(a + 1, b + 1, c + 1, x),
    ),
)


def hyp2f1(a: Any, b: Any, c: Any, x: Any) -> Any:
    """Gauss' hypergeometric function Σ (a)ₖ(b)ₖ/(c)ₖ xᵏ/k!; ∞ for x > 1 and where c is 0 or a negative integer.

    >>> hyp2f1(1.0, 1.0, 2.0, 0.5)
    Array(1.3862944, dtype=float32)
    """
    return _hyp2f1_real(*real_operands("hyp2f1", a, b, c, x))
