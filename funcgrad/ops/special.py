"""Elementwise special functions: error, gamma, zeta, beta and Bessel functions; and reduce_precision."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.array_types import aval_of
from funcgrad.core.lowering import ScalarBuilder
from funcgrad.ops.arithmetic import exp_p, log1p_p, log_p, pow_p, sign_p
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.ops.elementwise import Unknown, elementwise, linear
from funcgrad.ops.logic import eq_p
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import full


def _scipy(name: str) -> Callable[..., Any]:
    """Return a SciPy function, imported at its first use, that computes narrow floats in float32."""

    @functools.wraps(_scipy)
    def evaluate(*xs: Any) -> Any:
        from scipy import special  # heavy: only when such a function is evaluated

        dtype = xs[0].dtype
        wide = np.float32 if dtype in (dtypes.float16, dtypes.bfloat16) else dtype
        return np.asarray(getattr(special, name)(*(x.astype(wide) for x in xs))).astype(dtype)

    return evaluate


def _odd(function: Callable[..., Any]) -> Callable[..., Any]:
    """f(−x) = −f(x), at −0 too."""
    return lambda x: np.copysign(function(x), x)


_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
_HALF_SQRT_PI = math.sqrt(math.pi) / 2
REAL_ONLY = ("float",)

erf_p = elementwise(
    "erf", _scipy("erf"), derivative=lambda ans, x: exp_p.bind(-(x * x)) * _TWO_OVER_SQRT_PI, kinds=REAL_ONLY
)
erfc_p = elementwise(
    "erfc", _scipy("erfc"), derivative=lambda ans, x: exp_p.bind(-(x * x)) * -_TWO_OVER_SQRT_PI, kinds=REAL_ONLY
)
erf_inv_p = elementwise(
    "erf_inv", _odd(_scipy("erfinv")), derivative=lambda ans, x: exp_p.bind(ans * ans) * _HALF_SQRT_PI, kinds=REAL_ONLY
)


def _except_at(function: Callable[..., Any], point: float, value: float) -> Callable[..., Any]:
    """Replace the value at one point, where SciPy differs from C and XLA."""
    return lambda x: np.where(x == point, x.dtype.type(value), function(x))


def _log_gamma(x: Any) -> Any:
    """gammaln, which SciPy returns as infinite at subnormal numbers, where ln Γ(x) = −ln |x|."""
    subnormal = (x != 0) & (np.abs(x) < dtypes.finfo(x.dtype).tiny)
    value = np.where(subnormal, -np.log(np.abs(x)), _scipy("gammaln")(x))
    return np.where(x == -np.inf, x.dtype.type(np.inf), value)


lgamma_p = elementwise(
    "lgamma",
    _log_gamma,
    derivative=lambda ans, x: digamma_p.bind(x),
    kinds=REAL_ONLY,
)
digamma_p = elementwise(
    "digamma",
    _except_at(_scipy("digamma"), 0, np.nan),
    derivative=lambda ans, x: polygamma(1, x),
    kinds=REAL_ONLY,
)

# ---------------------------------------------------------------- zeta and polygamma


def _const(value: float, x: Any) -> Any:
    """A scalar constant of the dtype of `x`."""
    return full((), value, aval_of(x).dtype)


def _in_double(function: Callable[..., Any]) -> Callable[..., Any]:
    """Evaluate a NumPy formula in float64, and round once to the dtype of the operands."""
    return lambda *xs: np.asarray(function(*(x.astype(np.float64) for x in xs))).astype(xs[0].dtype)


def _zeta(s: Any, q: Any) -> Any:
    """ζ(s, q) = Σ (q + k)⁻ˢ; at its poles infinite for even s, where they have a sign, and else NaN."""
    from scipy import special

    pole = (q <= 0) & (q == np.floor(q)) & (s != 1)
    return np.where(pole, np.where((s > 1) & (s % 2 == 0), np.inf, np.nan), special.zeta(s, q))


def _polygamma(m: Any, x: Any) -> Any:
    """ψ⁽ᵐ⁾(x) = (−1)ᵐ⁺¹ m! ζ(m + 1, x) for integers m > 0, and digamma for m = 0."""
    from scipy import special

    sign = np.where(m % 2 == 0, -1.0, 1.0)
    out = np.where(m == 0, digamma_p.evaluate(x), sign * special.gamma(m + 1) * _zeta(m + 1, x))
    return np.where((m >= 0) & (m == np.floor(m)), out, np.nan)


zeta_p = elementwise(
    "zeta",
    _in_double(_zeta),
    # ∂/∂q ζ(s, q) = −s ζ(s + 1, q)
    derivative=(Unknown("zeta in its first operand"), lambda ans, s, q: -s * zeta_p.bind(s + 1, q)),
    kinds=REAL_ONLY,
)
polygamma_p = elementwise(
    "polygamma",
    _in_double(_polygamma),
    derivative=(Unknown("polygamma in its order"), lambda ans, m, x: polygamma_p.bind(m + 1, x)),
    kinds=REAL_ONLY,
)


def polygamma(m: int, x: Any) -> Any:
    """The m-th derivative of digamma."""
    return polygamma_p.bind(_const(m, x), x)


# ---------------------------------------------------------------- incomplete gamma and beta functions


def _power_and_logarithm(x: Any, y: Any, log: Any) -> tuple[Any, Any]:
    """Return (p, l) with xʸ = p·eˡ, where l may be large; x = 0 is no special point for p. `log` is log x.

    With s = x held constant, or 1 where x is 0, that is p = (x/s)ʸ and l = y·log s.
    """
    at_zero = eq_p.bind(x, _const(0, x))
    shape, dtype = aval_of(x).shape, aval_of(x).dtype
    unit = select_n_p.bind(at_zero, stop_gradient_p.bind(x), full(shape, 1, dtype))
    log = select_n_p.bind(at_zero, stop_gradient_p.bind(log), full(shape, 0, dtype))
    return pow_p.bind(x / unit, y), y * log


def _gamma_density(a: Any, x: Any) -> Any:
    """∂/∂x P(a, x) = xᵃ⁻¹ e⁻ˣ / Γ(a)"""
    power, logarithm = _power_and_logarithm(x, a - 1, log_p.bind(x))
    return power * exp_p.bind(logarithm - x - lgamma_p.bind(a))


def _gamma_density_by_a(a: Any, x: Any) -> Any:
    """∂²P/∂a∂x = ∂P/∂x · (log x − ψ(a))"""
    return _gamma_density(a, x) * (log_p.bind(x) - digamma_p.bind(a))


def _igamma_by_a(a: Any, x: Any) -> Any:
    """∂P(a, x)/∂a by a central difference of fourth order: about 11 digits."""
    from scipy import special

    step = 2e-3 * np.where(a < 1, a, np.sqrt(a))
    near, far = (special.gammainc(a + k * step, x) - special.gammainc(a - k * step, x) for k in (1, 2))
    return np.where((a > 0) & (x >= 0), (8 * near - far) / (12 * step), np.nan)


def _random_gamma_grad(a: Any, x: Any) -> Any:
    """∂x/∂a of a sample of the gamma distribution at a fixed quantile: −(∂P/∂a) / (∂P/∂x)."""
    from scipy import special

    grad = -_igamma_by_a(a, x) * np.exp(x - special.xlogy(a - 1, x) + special.gammaln(a))
    return np.where((a > 0) & (x == 0), 0.0, grad)


igamma_grad_a_p = elementwise(
    "igamma_grad_a",
    _in_double(_igamma_by_a),
    derivative=(Unknown("igamma_grad_a in a"), lambda ans, a, x: _gamma_density_by_a(a, x)),
    kinds=REAL_ONLY,
)
random_gamma_grad_p = elementwise(
    "random_gamma_grad",
    _in_double(_random_gamma_grad),
    derivative=(Unknown("random_gamma_grad"),) * 2,
    kinds=REAL_ONLY,
)
igamma_p = elementwise(
    "igamma",
    _in_double(_scipy("gammainc")),
    derivative=(lambda ans, a, x: igamma_grad_a_p.bind(a, x), lambda ans, a, x: _gamma_density(a, x)),
    kinds=REAL_ONLY,
)
igammac_p = elementwise(
    "igammac",
    _in_double(_scipy("gammaincc")),
    derivative=(lambda ans, a, x: -igamma_grad_a_p.bind(a, x), lambda ans, a, x: -_gamma_density(a, x)),
    kinds=REAL_ONLY,
)


def _beta_density(ans: Any, a: Any, b: Any, x: Any) -> Any:
    """∂/∂x I(x; a, b) = xᵃ⁻¹ (1 − x)ᵇ⁻¹ / B(a, b)"""
    log_beta = lgamma_p.bind(a) + lgamma_p.bind(b) - lgamma_p.bind(a + b)
    of_x, log_of_x = _power_and_logarithm(x, a - 1, log_p.bind(x))
    of_rest, log_of_rest = _power_and_logarithm(1 - x, b - 1, log1p_p.bind(-x))
    return of_x * of_rest * exp_p.bind(log_of_x + log_of_rest - log_beta)


def _incomplete_beta(a: Any, b: Any, x: Any) -> Any:
    from scipy import special

    return np.where((a > 0) & (b > 0), special.betainc(a, b, x), np.nan)


regularized_incomplete_beta_p = elementwise(
    "regularized_incomplete_beta",
    _in_double(_incomplete_beta),
    derivative=(Unknown("betainc in a"), Unknown("betainc in b"), _beta_density),
    kinds=REAL_ONLY,
)

# ---------------------------------------------------------------- Bessel functions, scaled by exp(−|x|)


def _bessel_ive(x: Any, *, order: int) -> Any:
    return np.where(np.isinf(x), x.dtype.type(0), _scipy("ive")(np.full_like(x, order), x))


def _ive_derivative(ans: Any, x: Any, *, order: int) -> Any:
    """I'ₙ = (Iₙ₋₁ + Iₙ₊₁)/2, and that of the factor e^−|x|."""
    return (bessel_ive(order - 1, x) + bessel_ive(order + 1, x)) * 0.5 - sign_p.bind(x) * ans


bessel_i0e_p = elementwise(
    "bessel_i0e",
    _scipy("i0e"),
    derivative=lambda ans, x: bessel_i1e_p.bind(x) - sign_p.bind(x) * ans,
    kinds=REAL_ONLY,
)
bessel_i1e_p = elementwise(
    "bessel_i1e",
    _odd(_scipy("i1e")),
    derivative=lambda ans, x: _ive_derivative(ans, x, order=1),
    kinds=REAL_ONLY,
)
bessel_ive_p = elementwise(
    "bessel_ive",
    _bessel_ive,
    derivative=_ive_derivative,
    scalar=lambda build, x, order: build.op("bessel_ive", build.const(order, x.dtype), x),
    kinds=REAL_ONLY,
)


def bessel_ive(order: int, x: Any) -> Any:
    """The modified Bessel function of integer order, times e^−|x|."""
    if order > 1:
        return bessel_ive_p.bind(x, order=order)
    return (bessel_i1e_p if order else bessel_i0e_p).bind(x)


# ---------------------------------------------------------------- rounding to fewer bits


def _rounding_formula(build: ScalarBuilder, x: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    """The scalar formula of reduce_precision."""
    info, bits = dtypes.finfo(x.dtype), np.dtype(f"u{x.dtype.itemsize}")
    drop, out = info.nmant - mantissa_bits, x
    if drop > 0:
        pattern = build.op("bitcast", x, dtype=bits)
        last = build.op("shift_right_logical", pattern, build.const(drop, bits))
        half = build.op("and", last, build.const(1, bits))
        half = build.op("add", half, build.const((1 << (drop - 1)) - 1, bits))
        mask = build.const((1 << 8 * bits.itemsize) - (1 << drop), bits)
        rounded = build.op("bitcast", build.op("and", build.op("add", pattern, half), mask), dtype=x.dtype)
        out = build.op("select", build.op("is_finite", x), rounded, x)
    if exponent_bits < 8 * bits.itemsize - info.nmant - 1:
        bias, magnitude, sign = (1 << (exponent_bits - 1)) - 1, build.op("abs", out), build.op("sign", out)
        for comparison, limit, value in (("ge", 2.0 ** (bias + 1), np.inf), ("lt", 2.0 ** (1 - bias), 0.0)):
            beyond = build.op(comparison, magnitude, build.const(limit, x.dtype))
            infinite = build.op("mul", sign, build.const(value, x.dtype))
            out = build.op("select", beyond, infinite, out)
    return out


def _reduce_precision(x: Any, *, exponent_bits: int, mantissa_bits: int) -> Any:
    """Round to nearest even at the last mantissa bit that is kept; then overflow gives ∞ and underflow 0."""
    info = dtypes.finfo(x.dtype)
    drop = info.nmant - mantissa_bits
    if drop > 0:
        unsigned = np.dtype(f"u{x.dtype.itemsize}")
        one = unsigned.type(1)
        bits = x.view(unsigned)
        half = (one << unsigned.type(drop - 1)) - one
        rounded = bits + half + ((bits >> unsigned.type(drop)) & one)
        kept = (rounded & ~((one << unsigned.type(drop)) - one)).view(x.dtype)
        x = np.where(np.isfinite(x), kept, x)
    if exponent_bits < x.dtype.itemsize * 8 - info.nmant - 1:
        bias = (1 << (exponent_bits - 1)) - 1
        wide = np.abs(x.astype(np.float64))
        x = np.where(wide >= 2.0 ** (bias + 1), np.copysign(np.inf, x), x).astype(x.dtype)
        x = np.where(wide < 2.0 ** (1 - bias), np.copysign(0, x), x).astype(x.dtype)
    return x.astype(x.dtype)


reduce_precision_p = linear(
    "reduce_precision",
    lambda x, **bits: _reduce_precision(np.ascontiguousarray(x).reshape(x.shape), **bits).astype(x.dtype),
    lambda ct, x, **bits: reduce_precision_p.bind(ct, **bits),
    scalar=_rounding_formula,
    kinds=REAL_ONLY,
    may_make_nan=False,
    modes=(),
)
