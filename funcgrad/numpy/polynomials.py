"""Polynomials, given by their vectors of coefficients with the highest power first."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, promote_dtypes, promote_inexact
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.numpy.creation import arange, asarray, ones, zeros
from funcgrad.numpy.joining import concatenate
from funcgrad.numpy.linalg import eigvals, inv, lstsq
from funcgrad.numpy.matrices import eye, vander
from funcgrad.numpy.products import outer
from funcgrad.numpy.shapes import trim_zeros
from funcgrad.numpy.signals import convolve
from funcgrad.ops import shapes, slicing

__all__ = [
    "poly",
    "polyadd",
    "polyder",
    "polydiv",
    "polyfit",
    "polyint",
    "polymul",
    "polysub",
    "polyval",
    "roots",
]


def _coefficients(p: Any, operation: str) -> Any:
    p = asarray(p) if isinstance(p, (list, tuple)) else as_operand(p, operation)
    p = p if p.aval.ndim else shapes.reshape(p, (1,))
    if p.aval.ndim != 1:
        raise ShapeError(f"{operation}: coefficients are {p.aval}", fix="pass a vector, highest power first")
    return p


def polyval(p: Any, x: Any, *, unroll: int = 16) -> Any:
    """Evaluate a polynomial at x by Horner's rule: (…(p₀x + p₁)x + …)x + pₙ.

    The coefficients are along the first axis of `p`; its other axes broadcast with `x`.

    >>> polyval([1.0, 0.0, -1.0], 3.0)
    Array(8., dtype=float32)
    """
    p = asarray(p) if isinstance(p, (list, tuple)) else as_operand(p, "polyval")
    x = asarray(x) if isinstance(x, (list, tuple)) else as_operand(x, "polyval")
    p, x = promote_dtypes(p, x, operation="polyval")
    shape = uf.promotion.broadcast_shapes(x.aval.shape, p.aval.shape[1:], operation="polyval")
    out = zeros(shape, x.aval.dtype)
    for i in range(p.aval.shape[0]):
        out = out * x + p[i]
    return out


def roots(p: Any, *, strip_zeros: bool = True) -> Any:
    """The roots of a polynomial, which are the eigenvalues of its companion matrix; complex.

    Zeros at the ends of `p` are removed first, so the number of roots depends on values. Under jit, use
    `strip_zeros=False`: leading coefficients must not be zero then.

    >>> roots([1.0, -3.0, 2.0])
    Array([2.+0.j, 1.+0.j], dtype=complex64)
    """
    (p,) = promote_inexact(_coefficients(p, "roots"), operation="roots")
    at_zero = 0
    if strip_zeros:
        if isinstance(p, Tracer) and p.concrete() is None:
            raise ConcretizationError(
                f"roots: the number of leading zeros of {p.aval} is not known while tracing",
                fix="pass strip_zeros=False",
            )
        places = np.flatnonzero(np.asarray(p.concrete() if isinstance(p, Tracer) else p))
        first, last = (int(places[0]), int(places[-1])) if places.size else (0, -1)
        at_zero = p.aval.size - 1 - last if places.size else 0
        p = p[first : last + 1]
    n = p.aval.size - 1
    complex_type = dtypes.complex_dtype(p.aval.dtype)
    found = zeros((at_zero,), complex_type)
    if n < 1:
        return found
    companion = concatenate([shapes.reshape(-p[1:] / p[0], (1, n)), eye(n - 1, n, dtype=p.aval.dtype)])
    return concatenate([eigvals(companion), found])


def polyfit(
    x: Any, y: Any, deg: int, rcond: float | None = None, full: bool = False, w: Any = None, cov: Any = False
) -> Any:
    """The coefficients of the polynomial of degree `deg` with the least squared error at the points (x, y).

    `w` are weights of the errors. With `full`, returns also the residuals, rank, singular values and `rcond`; with
    `cov`, the covariance matrix of the coefficients, "unscaled" or scaled by the squared error.

    >>> polyfit(np.arange(3.0), np.array([1.0, 3.0, 5.0]), 1).round(3)
    Array([2., 1.], dtype=float32)
    """
    if deg < 0:
        raise ArgumentError(f"polyfit: deg is {deg}", fix="give a degree of 0 or more")
    x, y = promote_inexact(asarray(x), asarray(y), operation="polyfit")
    if x.aval.ndim != 1 or y.aval.ndim not in (1, 2) or x.aval.shape[0] != y.aval.shape[0]:
        raise ShapeError(
            f"polyfit: x is {x.aval}, y is {y.aval}", fix="pass a vector x, and y with as many elements or rows"
        )
    order = deg + 1
    rcond = x.aval.size * float(dtypes.finfo(dtypes.real_dtype(x.aval.dtype)).eps) if rcond is None else rcond
    left, right = vander(x, order), y
    if w is not None:
        (weights,) = promote_inexact(asarray(w), operation="polyfit")
        left = left * weights[:, None]
        right = right * (weights[:, None] if y.aval.ndim == 2 else weights)
    scale = uf.sqrt(uf.square(left).sum(0))
    solution, residuals, rank, singular = lstsq(left / scale, right, rcond)
    solution = (solution.T / scale).T
    if full:
        return solution, residuals, rank, singular, asarray(rcond)
    if not cov:
        return solution
    inverse = inv(left.T @ left / outer(scale, scale)) / outer(scale, scale)
    if cov != "unscaled":
        if x.aval.size <= order:
            raise ArgumentError(
                f"polyfit: {x.aval.size} points do not determine the error of {order} coefficients",
                fix="pass more points",
            )
        inverse = (inverse if y.aval.ndim == 1 else inverse[:, :, None]) * (residuals / (x.aval.size - order))
    return solution, inverse


def polyadd(a1: Any, a2: Any) -> Any:
    """Sum of two polynomials."""
    a, b = promote_dtypes(_coefficients(a1, "polyadd"), _coefficients(a2, "polyadd"), operation="polyadd")
    n = builtins.max(a.aval.size, b.aval.size)
    a, b = (slicing.pad(v, np.zeros((), v.aval.dtype), [(n - v.aval.size, 0, 0)]) for v in (a, b))
    return uf.add(a, b)


def polysub(a1: Any, a2: Any) -> Any:
    """Difference of two polynomials."""
    a, b = promote_dtypes(_coefficients(a1, "polysub"), _coefficients(a2, "polysub"), operation="polysub")
    return polyadd(a, uf.negative(b))


def polymul(a1: Any, a2: Any, *, trim_leading_zeros: bool = False) -> Any:
    """Product of two polynomials: the convolution of their coefficients."""
    a, b = promote_inexact(_coefficients(a1, "polymul"), _coefficients(a2, "polymul"), operation="polymul")
    if trim_leading_zeros:
        a, b = trim_zeros(a, "f"), trim_zeros(b, "f")
    a, b = (v if v.aval.size else zeros((1,), v.aval.dtype) for v in (a, b))
    return convolve(a, b, "full")


def polydiv(u: Any, v: Any, *, trim_leading_zeros: bool = False) -> tuple[Any, Any]:
    """Return (quotient, remainder) of u / v. The leading coefficient of v must not be zero."""
    u, v = promote_inexact(_coefficients(u, "polydiv"), _coefficients(v, "polydiv"), operation="polydiv")
    m, n = u.aval.size - 1, v.aval.size - 1
    rest, quotient = u, []
    for k in range(m - n + 1):
        d = rest[k] / v[0]
        quotient.append(d)
        rest = rest.at[k : k + n + 1].add(-d * v)
    q = concatenate([shapes.reshape(d, (1,)) for d in quotient]) if quotient else zeros((1,), u.aval.dtype)
    return q, trim_zeros(rest, "f") if trim_leading_zeros else rest


def polyder(p: Any, m: int = 1) -> Any:
    """The m-th derivative of a polynomial."""
    if m < 0:
        raise ArgumentError(f"polyder: m is {m}", fix="differentiate 0 or more times")
    (p,) = promote_inexact(_coefficients(p, "polyder"), operation="polyder")
    for _ in range(m):
        n = p.aval.size - 1
        p = p[:-1] * arange(n, 0, -1).astype(p.aval.dtype)
    return p


def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """The m-th antiderivative of a polynomial; `k` gives the constants of integration, 0 by default."""
    if m < 0:
        raise ArgumentError(f"polyint: m is {m}", fix="integrate 0 or more times")
    p = _coefficients(p, "polyint")
    if p.aval.dtype == dtypes.bool_:
        p = p.astype(int)
    (p,) = promote_inexact(p, operation="polyint")
    constants = zeros((m,), p.aval.dtype) if k is None else _coefficients(k, "polyint").astype(p.aval.dtype)
    if constants.aval.size == 1:
        constants = concatenate([constants] * m) if m else constants[:0]
    if constants.aval.size != m:
        raise ArgumentError(
            f"polyint: {constants.aval.size} constants for {m} integrations", fix="give one, or one each"
        )
    for i in range(m):
        n = p.aval.size
        p = concatenate([p / arange(n, 0, -1).astype(p.aval.dtype), constants[i : i + 1]])
    return p


def poly(seq_of_zeros: Any) -> Any:
    """The monic polynomial with the given roots: ∏ᵢ (x − rᵢ)."""
    (r,) = promote_inexact(_coefficients(seq_of_zeros, "poly"), operation="poly")
    out = ones((1,), r.aval.dtype)
    for i in range(r.aval.size):
        out = convolve(out, concatenate([ones((1,), r.aval.dtype), -r[i : i + 1]]))
    return out
