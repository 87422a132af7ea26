"""Complex numbers as pairs: no program with complex numbers calls NumPy, values are right to the last places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler import pipeline, targets
from funcgrad.compiler.program.instructions import HostCall, Routine, routines
from funcgrad.testing import assert_close

RNG = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(np.complex64)


Z, W, V, SQUARE, KERNEL = draw(6, 8), draw(6, 8), draw(50), draw(6, 6), draw(3, 3)
ROWS = np.array([3, 1, 3, 5])
FUNCTIONS = """exp exp2 expm1 log log1p log2 log10 sqrt sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arccosh
arctanh abs sign square conj reciprocal negative angle real imag isnan isinf isfinite iscomplex""".split()  # noqa: SIM905


def escape(c: Any) -> Any:
    return lax.while_loop(
        lambda s: (jnp.abs(s[0]) < 2) & (s[1] < 30), lambda s: (s[0] * s[0] + c, s[1] + 1), (c * 0, 0)
    )


def until_large(x: Any) -> Any:
    return lax.while_loop(lambda c: jnp.max(jnp.abs(c[0])) < 100, lambda c: (c[0] * c[0] + c[1], c[1]), (x, x))


PROGRAMS: dict[str, tuple[Any, ...]] = {
    **{name: (getattr(jnp, name), Z) for name in FUNCTIONS},
    "rsqrt and logistic": (lambda x: (lax.rsqrt(x), lax.logistic(x)), Z),
    "arithmetic": (lambda x, y: (x + y, x - 2, x * y, 1j / y, x / y, x == y, x != y, x.astype(bool)), Z, W),
    "real factors": (lambda x: (x * x.real, 2.0 * x, x / 3, x.imag + x, x * jnp.float32(2)), Z),
    "powers": (lambda x, y: (x**y, x**3, x**-2, x**0, x**0.5, jnp.power(x, 2.5), lax.integer_pow(x, -1)), Z, W),
    "scalars": (lambda a, x: (a * x, x / a, abs(a), a.real, jnp.where(x.real > 0, a, x)), np.complex64(1 + 2j), Z),
    "sums": (lambda x: (jnp.sum(x), jnp.sum(x, 0), jnp.mean(x, 1), jnp.var(x), jnp.std(x, 0), jnp.nansum(x)), Z),
    "products": (lambda x: (jnp.prod(x), jnp.prod(x, 0), jnp.prod(x, 1), jnp.prod(x[:0], 0)), Z),
    "extremes": (lambda x: (jnp.max(x, 0), jnp.min(x), lax.max(x, x[::-1]), jnp.any(x), jnp.all(x, 1)), Z),
    "cumulative": (lambda x: (jnp.cumsum(x, 0), jnp.cumprod(x, 1), lax.cumprod(x, 0, reverse=True), jnp.diff(x)), Z),
    "associative scan": (lambda x: lax.associative_scan(jnp.multiply, x), Z),
    "sorts": (lambda x: (jnp.sort(x, 0), jnp.argsort(x, 1), lax.sort((x, x.real), num_keys=1)), Z),
    "gathers": (lambda x: (x[ROWS], x[:, ROWS], x[ROWS, ROWS], x[2], x[::2, ::-1], jnp.take(x, ROWS, 1)), Z),
    "fill": (lambda x: x.at[np.array([1, 99])].get(mode="fill"), Z),
    "scatters": (lambda x, y: (x.at[ROWS].set(y[:4]), x.at[ROWS].add(y[:4]), x.at[2:4].set(0)), Z, W),
    "scattered products": (lambda x, y: (x.at[ROWS].multiply(y[:4]), x.at[ROWS, ROWS].max(y[0, :4])), Z, W),
    "windows": (lambda x, i: (lax.dynamic_slice(x, (i, 0), (2, 3)), lax.dynamic_update_slice(x, x[:2], (i, 1))), Z, 2),
    "movement": (lambda x: (x.T, x.reshape(-1), jnp.roll(x, 1, 0), jnp.tile(x, (2, 1)), jnp.pad(x, 2), jnp.flip(x)), Z),
    "joins": (lambda x, y: (jnp.concatenate([x, y], 1), jnp.stack([x, y], -1), jnp.where(x.real > 0, x, y)), Z, W),
    "long joins": (lambda x: (jnp.concatenate([*x]), jnp.concatenate([r * 2 for r in (*x, *x)])), Z),
    "bits": (lambda x: (jnp.stack([x.real, x.imag], -1).view(np.complex64), x.view(np.float32)), Z),
    "constants": (lambda x: (x + W, jnp.eye(8, dtype=np.complex64), lax.iota(np.complex64, 5), x * 0 + 1j), Z),
    "matrix products": (lambda x, y: (x @ y.T, jnp.vdot(x, y), jnp.einsum("ij,ij->i", x, y), x.conj().T @ y), Z, W),
    "small products": (lambda x: (x[:2, :2] @ x[:2, :2], x[0] @ x[1]), Z),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ jnp.conj(x).T + 10 * jnp.eye(6)), SQUARE),
    "convolutions": (lambda x: (jnp.convolve(x, x[:5]), jnp.correlate(x, x[:5])), V),
    "images": (lambda x, k: lax.conv(x[None, None], k[None, None], (1, 1), "SAME"), Z, KERNEL),
    "window sums": (lambda x: lax.reduce_window(x, np.complex64(0), lax.add, (2, 2), (1, 1), "VALID"), Z),
    "barrier": (lambda x: lax.optimization_barrier((x * 2, x.real)), Z),
    "scan": (lambda x: lax.scan(lambda c, a: (c * 0.5j + a, c * jnp.conj(a)), x[0], x), Z),
    "scan of scalars": (lambda x: lax.scan(lambda c, a: (c * 0.5j + a, c), x[0], x), V),
    "map": (lambda x: lax.map(lambda row: jnp.sum(row * 1j), x), Z),
    "while": (until_large, Z),
    "updates in a loop": (lambda x: lax.fori_loop(1, 50, lambda i, a: a.at[i].set(a[i - 1] * 1j + a[i]), x), V),
    "products in a loop": (lambda x: lax.fori_loop(0, 10, lambda i, a: a @ x * 0.2 + x, x), KERNEL),
    "branches": (lambda x: lax.cond(x.real.sum() > 0, lambda a: a * 1j, jnp.conj, x), Z),
    "lanes": (fg.vmap(escape), V),
    "gradient": (fg.grad(lambda x: jnp.sum(jnp.abs(jnp.exp(x) * x) ** 2)), Z),
    "gradient of a loop": (fg.grad(lambda x: jnp.abs(lax.fori_loop(0, 5, lambda i, a: a * a * 0.1 + x, x)).sum()), V),
}
"""Programs of all primitives and forms that take complex numbers."""


def host_calls(routine: Routine) -> Iterator[str]:
    for instruction in routine.instructions:
        if isinstance(instruction.callee, HostCall):
            yield instruction.callee.primitive.name
        for _, inner in routines(instruction.callee):
            yield from host_calls(inner)


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_with_complex_numbers_calls_numpy(name: str) -> None:
    function, *args = PROGRAMS[name]
    closed = fg.make_jaxpr(function)(*args)
    for target, missing in (("llvm", set()), ("numba", {"cholesky"})):
        assert set(host_calls(pipeline.planned(closed, targets.find(target)).routine)) <= missing
    assert_close(fg.jit(function)(*args), function(*map(jnp.asarray, args)), rtol=1e-4, atol=1e-4)


def test_parts_of_arrays_in_memory_are_views() -> None:
    lowered = fg.jit(lambda x, y: x * y).lower(Z, W)
    assert lowered.as_text("groups") == "0: loops over [6, 8]: mul mul sub mul mul add complex"
    assert lowered.as_text("kernels").count("x0[p*2 + 1]") == 2


def test_complex_numbers_between_operations_are_no_arrays() -> None:
    lowered = fg.jit(lambda x: jnp.sum(jnp.abs(jnp.exp(1j * x) + x) ** 2)).lower(Z)
    assert "complex" not in lowered.as_text("simplified")
    assert len(lowered.as_text("groups").splitlines()) == 1


def test_views_of_complex_numbers_in_memory_reach_blas() -> None:
    assert fg.jit(lambda x, y: x.T @ y).lower(Z, W).as_text("groups") == "0: contract: dot_general"


# ---------------------------------------------------------------- accuracy

# The error in units in the last place of the magnitude of the result; see docs/accuracy.md.
BOUNDS = {
    "abs": 2.0,
    "acos": 3.0,
    "acosh": 3.0,
    "asin": 3.0,
    "asinh": 3.0,
    "atan": 2.5,
    "atanh": 2.5,
    "cos": 3.0,
    "cosh": 3.0,
    "div": 3.0,
    "exp": 2.5,
    "expm1": 3.0,
    "log": 2.5,
    "log1p": 3.0,
    "logistic": 5.0,
    "mul": 2.0,
    "rsqrt": 4.0,
    "sin": 3.0,
    "sinh": 3.0,
    "sqrt": 2.5,
    "tan": 5.0,
    "tanh": 5.0,
}


def points(dtype: str, count: int) -> np.ndarray:
    """Complex numbers of all sizes, near the unit circle, and near ±1 and ±i."""
    rng = np.random.default_rng(3)

    def wide(low: float, high: float) -> np.ndarray:
        return rng.choice([-1, 1], count) * 10 ** rng.uniform(low, high, count)

    circle = np.exp(1j * rng.uniform(-4, 4, count)) * (1 + wide(-8, -1))
    beside = rng.choice([1, -1, 1j, -1j, 0], count) + wide(-9, -1) + 1j * wide(-9, -1)
    parts = [wide(a, b) + 1j * wide(a, b) for a, b in ((-1, 1), (-4, 1.6), (-12, 0))]
    return np.concatenate([*parts, circle, beside]).astype(dtype)


def reference(name: str) -> Callable[..., Any]:
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.prec = 160
    own: dict[str, Callable[..., Any]] = {
        "abs": abs,
        "div": lambda x, y: x / y,
        "expm1": lambda x: mpmath.exp(x) - 1,
        "log1p": lambda x: mpmath.log(1 + x),
        "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
        "mul": lambda x, y: x * y,
        "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    }
    found = own.get(name) or getattr(mpmath, name)
    return lambda *xs: mpmath.mpc(found(*(mpmath.mpc(complex(x)) for x in xs)))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", BOUNDS)
def test_errors_of_complex_functions(name: str, dtype: str) -> None:
    expected = reference(name)
    with fg.enable_x64():
        x = points(dtype, 40)
        args = [x, np.roll(x, 7)] if name in ("mul", "div") else [x]
        found = np.asarray(fg.jit(getattr(lax, name))(*args))
    real = found.real.dtype.type
    for at, value in enumerate(found):
        exact = expected(*(a[at] for a in args))
        size = abs(exact)
        if np.finfo(real).tiny * 1e6 < size < np.finfo(real).max / 4:
            error = abs(complex(value) - exact) / float(np.spacing(real(size)))
            assert error <= BOUNDS[name], (name, [a[at] for a in args], value, complex(exact))


@pytest.mark.parametrize("scale", [1e-38, 1e38])
def test_functions_of_extreme_numbers_do_not_overflow(scale: float) -> None:
    z = np.array([1 + 1j, 2 - 1j, -2 + 0.5j], np.complex64) * np.float32(scale)
    for function, exact in ((jnp.abs, np.abs), (jnp.sqrt, np.sqrt), (jnp.log, np.log), (lambda x: x / x, np.ones_like)):
        assert_close(fg.jit(function)(z), exact(z.astype(np.complex128)).astype(function(jnp.asarray(z)).dtype))


def test_exponentials_overflow_where_their_parts_do() -> None:
    z = np.array([89 + 0.75j, 89.5 + 0.75j, -200 + 3j], np.complex64)
    for function, exact in ((jnp.exp, np.exp), (jnp.sinh, np.sinh), (jnp.cosh, np.cosh)):
        expected = exact(z.astype(np.complex128))
        with np.errstate(over="ignore"):
            assert_close(fg.jit(function)(z), expected.astype(np.complex64), rtol=1e-4)


def test_a_logistic_function_is_finite() -> None:
    z = jnp.array([-200 + 1j, 200 + 1j, -1000 + 0.5j])
    assert_close(fg.jit(lax.logistic)(z), lax.logistic(z))
    assert bool(jnp.all(jnp.isfinite(lax.logistic(z))))


def test_reciprocals_of_infinities_are_zero() -> None:
    z = jnp.array([complex(0, math.inf), complex(math.inf, 1)])
    for function in (lax.reciprocal, fg.jit(lax.reciprocal)):
        assert_close(function(z), np.zeros(2, np.complex64))
