"""Ordinary differential equations: `jax.experimental.ode`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax, tree
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.flatten_util import ravel_pytree
from funcgrad.transforms.custom_rules.closures import closure_convert
from funcgrad.transforms.custom_rules.vjp import custom_vjp
from funcgrad.transforms.derivatives import vjp
from funcgrad.transforms.vmap import vmap

__all__ = ["odeint"]

# The method of Dormand and Prince: stage i is at time t + C[i] h, from the slopes before it with weights A[i]. The last
# stage is the solution of order 5, and ERROR the weights of its difference from that of order 4, times 2/3 as in JAX.
# MIDDLE are those of the solution at t + h/2, by Shampine.
_C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = tuple(2 / 3 * w for w in (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40))
_MIDDLE = tuple(
    w / 2
    for w in (
        6025192743 / 30085553152,
        0,
        51252292925 / 65400821598,
        -2691868925 / 45128329728,
        187940372067 / 1594534317056,
        -1776094331 / 19743644256,
        11237099 / 235043384,
    )
)
_ORDER, _SAFETY, _FASTEST, _SLOWEST = 5, 0.9, 10.0, 0.2


class _Options(NamedTuple):
    rtol: float
    atol: float
    mxstep: float
    hmax: float


class _State(NamedTuple):
    """After a step from `before`, or at the start: the solution y and its slope f at time t, and the next step size."""

    y: Any
    f: Any
    t: Any
    dt: Any
    before: Any  # t, y and f at the start of the step, and y in the middle of it


def _combination(weights: Sequence[float], slopes: Sequence[Any]) -> Any:
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w]
    return functools.reduce(lambda a, b: a + b, terms)


def _try_step(func: Callable[..., Any], s: _State, options: _Options) -> tuple[Any, _State]:
    """Take a step; return whether its error is small enough, and the state after it."""
    dt = s.dt.astype(s.y.dtype)
    slopes, y = [s.f], s.y
    for c, row in zip(_C, _A, strict=True):
        y = s.y + dt * _combination(row, slopes)
        slopes.append(func(y, s.t + s.dt * c))
    tolerance = options.atol + options.rtol * jnp.maximum(jnp.abs(s.y), jnp.abs(y))
    ratio = jnp.sqrt(jnp.mean(jnp.square(jnp.abs(dt * _combination(_ERROR, slopes) / tolerance))))
    # The error is of order h⁵. NaNs make the step smaller.
    factor = _SAFETY * ratio ** (-1 / _ORDER)
    factor = jnp.clip(jnp.where(jnp.isnan(factor), 0, factor), jnp.where(ratio < 1, 1.0, _SLOWEST), _FASTEST)
    size = jnp.minimum(s.dt * factor.astype(s.dt.dtype), options.hmax)
    middle = s.y + dt * _combination(_MIDDLE, slopes)
    return ratio <= 1, _State(y, slopes[-1], s.t + s.dt, size, (s.t, s.y, s.f, middle))


def _interpolated(s: _State, t: Any) -> Any:
    """The value at t of the polynomial of degree 4 through the ends, slopes and middle of the last step."""
    start, y0, f0, middle = s.before
    moved = s.t > start
    h = (s.t - start).astype(y0.dtype)
    x = ((t - start) / jnp.where(moved, s.t - start, 1)).astype(y0.dtype)
    a = 2 * h * (s.f - f0) - 8 * (s.y + y0) + 16 * middle
    b = h * (5 * f0 - 3 * s.f) + 18 * y0 + 14 * s.y - 32 * middle
    c = h * (s.f - 4 * f0) - 11 * y0 - 5 * s.y + 16 * middle
    return (((a * x + b) * x + c) * x + h * f0) * x + y0


def _first_step_size(func: Callable[..., Any], y: Any, f: Any, t: Any, options: _Options) -> Any:
    """A step size for which an explicit Euler step is accurate.

    Source: Hairer, Nørsett, Wanner, "Solving ordinary differential equations I", section II.4.
    """
    scale = options.atol + jnp.abs(y) * options.rtol

    def norm(x: Any) -> Any:
        return jnp.linalg.norm(x / scale)

    d0, d1 = norm(y), norm(f)
    small = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = jnp.where(small, 1e-6, 0.01 * d0 / jnp.where(small, 1, d1))
    d2 = norm(func(y + h0.astype(y.dtype) * f, t + h0.astype(t.dtype)) - f) / h0
    largest = jnp.maximum(d1, d2)
    flat = largest <= 1e-15
    h1 = jnp.where(flat, jnp.maximum(1e-6, h0 * 1e-3), (0.01 / jnp.where(flat, 1, largest)) ** (1 / _ORDER))
    return jnp.minimum(jnp.minimum(100 * h0, h1), options.hmax).astype(t.dtype)


def _solve(func: Callable[..., Any], options: _Options, y0: Any, ts: Any) -> Any:
    """The solution at all times, for a vector y0."""

    def advance(state: _State, target: Any) -> tuple[_State, Any]:
        def going_on(carry: tuple[Any, _State]) -> Any:
            count, s = carry
            return (s.t < target) & (s.dt > 0) & (count < options.mxstep)

        def step(carry: tuple[Any, _State]) -> tuple[Any, _State]:
            count, s = carry
            accepted, new = _try_step(func, s, options)
            rejected = s._replace(dt=new.dt)
            return count + 1, tree.map(lambda a, b: jnp.where(accepted, a, b), new, rejected)

        _, state = lax.while_loop(going_on, step, (0, state))
        return state, _interpolated(state, target)

    f0 = func(y0, ts[0])
    dt = _first_step_size(func, y0, f0, ts[0], options)
    start = _State(y0, f0, ts[0], dt, (ts[0], y0, f0, y0))
    return jnp.concatenate([y0[None], lax.scan(advance, start, ts[1:])[1]])


def _on_vectors(func: Callable[..., Any], example: Any) -> tuple[Any, Callable[..., Any], Callable[[Any], Any]]:
    """A state as a vector, the function of such vectors, and the way back."""
    vector, unravel = ravel_pytree(example)
    structure = tree.structure(example)

    def flat(y: Any, t: Any, *args: Any) -> Any:
        slopes = func(unravel(y), t, *args)
        shapes = [[aval_of(x).shape for x in tree.leaves(z)] for z in (slopes, example)]
        if tree.structure(slopes) != structure or shapes[0] != shapes[1]:
            raise ShapeError(
                f"odeint: func returns {tree.structure(slopes)} of shapes {shapes[0]}; y0 is {structure} of shapes "
                f"{shapes[1]}",
                fix="return the derivative of each element of y",
            )
        return ravel_pytree(slopes)[0].astype(vector.dtype)

    return vector, flat, unravel


@functools.partial(custom_vjp, nondiff_argnums=(0, 1))
def _odeint(func: Callable[..., Any], options: _Options, y0: Any, ts: Any, args: tuple[Any, ...]) -> Any:
    vector, flat, unravel = _on_vectors(func, y0)
    return vmap(unravel)(_solve(lambda y, t: flat(y, t, *args), options, vector, ts))


def _odeint_fwd(func: Callable[..., Any], options: _Options, y0: Any, ts: Any, args: tuple[Any, ...]) -> Any:
    ys = _odeint(func, options, y0, ts, args)
    return ys, (ys, ts, args)


def _odeint_bwd(func: Callable[..., Any], options: _Options, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    """Solve the adjoint equations backward, from each time to the one before.

    With λ the cotangent of the state y at time t, dλ/dt = −(∂f/∂y)ᵀ λ, and those of the arguments θ change by
    −(∂f/∂θ)ᵀ λ; λ jumps by the cotangents of the results. The state is solved for again, so none is stored.

    Source: Pontryagin et al., "The mathematical theory of optimal processes", 1962; Chen et al., "Neural ordinary
    differential equations", 2018.
    """
    ys, ts, args = residuals
    leaves, structure = tree.flatten(args)
    smooth = [dtypes.is_inexact(aval_of(leaf).dtype) for leaf in leaves]

    def with_smooth(values: Sequence[Any], leaves: Sequence[Any]) -> Any:
        given = iter(values)
        return structure.unflatten([next(given) if s else leaf for s, leaf in zip(smooth, leaves, strict=True)])

    def adjoint(state: Any, minus_t: Any, *leaves: Any) -> Any:
        y, of_y, _, _ = state
        given = [leaf for s, leaf in zip(smooth, leaves, strict=True) if s]
        slope, pull = vjp(lambda y, t, given: func(y, t, *with_smooth(given, leaves)), y, -minus_t, given)
        return tree.map(jnp.negative, slope), *pull(of_y)

    def back(carry: Any, interval: Any) -> tuple[Any, Any]:
        of_y, of_start, of_args = carry
        y, t, before, of_result, of_result_before = interval
        # A later time of the result moves it along the slope.
        products = tree.map(lambda f, c: jnp.sum(f * c).real, func(y, t, *args), of_result)
        of_t = sum(tree.leaves(products)).astype(ts.dtype)
        state, times = (y, of_y, of_start - of_t, of_args), jnp.stack([-t, -before])
        solved = tree.map(lambda x: x[1], _odeint(adjoint, options, state, times, tuple(leaves)))
        _, of_y, of_start, of_args = solved
        return (tree.map(jnp.add, of_y, of_result_before), of_start, of_args), of_t

    def rows(x: Any, part: slice) -> Any:
        return tree.map(lambda leaf: leaf[part], x)

    late, early = slice(1, None), slice(None, -1)
    intervals = (rows(ys, late), ts[late], ts[early], rows(cotangents, late), rows(cotangents, early))
    zeros = [jnp.zeros_like(leaf) for s, leaf in zip(smooth, leaves, strict=True) if s]
    start = (tree.map(lambda x: x[-1], cotangents), jnp.zeros((), ts.dtype), zeros)
    (of_y, of_start, of_args), of_ts = lax.scan(back, start, intervals, reverse=True)
    none = [None] * len(leaves)
    return of_y, jnp.concatenate([of_start[None], of_ts]), with_smooth(of_args, none)


_odeint.defvjp(_odeint_fwd, _odeint_bwd)


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    *args: Any,
    rtol: float = 1.4e-8,
    atol: float = 1.4e-8,
    mxstep: float = np.inf,
    hmax: float = np.inf,
) -> Any:
    """Solve dy/dt = func(y, t, *args) from y = y0 at t[0]; return y at all times of the increasing vector t.

    The method is Dormand and Prince's of order 5, with steps as long as the tolerances allow; values between steps are
    interpolated. It runs under jit and vmap. Derivatives, in reverse mode, are solutions of the adjoint equations: by
    y0, t, `args` and the values that `func` closes over.

    Args:
      func: returns a pytree like y.
      y0: an array or a pytree of arrays; the result has their shapes, with the times as leading axis.
      args: further arguments of `func`, pytrees of arrays.
      rtol, atol: bounds of the error of each step, relative and absolute, for the root mean square of the elements.
      mxstep: the most steps between two times.
      hmax: the longest step.

    Source: Dormand, Prince, "A family of embedded Runge–Kutta formulae", 1980.

    Raises:
      DTypeError: `t` has integers. ArgumentError: an element of `args` is not an array.
      ShapeError: `func` does not return a pytree like y0, or t is not a vector.

    >>> import funcgrad.numpy as jnp
    >>> odeint(lambda y, t, rate: -rate * y, 8.0, jnp.array([0.0, 1.0, 2.0]), jnp.log(2.0)).round(3)
    Array([8., 4., 2.], dtype=float32)
    """
    for leaf in tree.leaves(args):
        try:
            aval_of(leaf)
        except TypeError:
            raise ArgumentError(
                f"odeint: an argument of func is {leaf!r:.60} of type {type(leaf).__name__}",
                fix="pass arrays in args, and let func close over the rest",
            ) from None
    t = jnp.asarray(t)
    if not dtypes.is_float(t.dtype):
        raise DTypeError(f"odeint: times are {t.aval}", fix="give times as floats")
    if t.ndim != 1 or not t.size:
        raise ShapeError(f"odeint: times are {t.aval}", fix="give a vector of one time or more")
    y0 = tree.map(lambda x: promote_inexact(x, operation="odeint")[0], y0)
    converted, values = closure_convert(func, y0, t[0], *args)
    return _odeint(converted, _Options(rtol, atol, mxstep, hmax), y0, t, (*args, *values))


_explain_missing_names(__name__)
