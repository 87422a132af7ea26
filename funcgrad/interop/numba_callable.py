"""numba_callable: a function of arrays as one that numba's functions call, and as a C function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import dtypes
from funcgrad.compiler import pipeline, targets
from funcgrad.compiler.targets.numba import compiled, module
from funcgrad.core.avals import ShapedArray
from funcgrad.errors import ArgumentError
from funcgrad.transforms.flattening import name_of
from funcgrad.transforms.jit import jit
from funcgrad.transforms.jit.stages import Traced


def numba_callable(fun: Callable[..., Any], *examples: Any) -> Any:
    """Return `fun`, compiled for the types of `examples`, as a function that ``@njit`` code calls in nopython mode.

    It takes the leaves of the arguments as arrays, those without dimensions as numbers, and returns an array, a number,
    or a tuple of them. It can be called from Python too. What it computes is what ``jit(fun)`` computes: gradients,
    mapped functions and loops included.

    Raises ArgumentError where the program calls NumPy for an operation that has no kernel. Arrays of other shapes are a
    ValueError when the function is called.

    >>> import numba, numpy as np
    >>> import funcgrad as fg, funcgrad.numpy as jnp
    >>> slope = numba_callable(fg.grad(lambda x: jnp.sum(x**3)), np.ones(2, np.float32))
    >>> @numba.njit
    ... def descend(x):
    ...     for _ in range(10):
    ...         x = x - np.float32(0.1) * slope(x)
    ...     return x
    >>> descend(np.array([0.5, 1.0], np.float32)).round(3)
    array([0.188, 0.222], dtype=float32)
    """
    return _program(jit(fun).trace(*examples))


def low_level_callable(fun: Callable[..., Any], n_args: int = 1) -> Any:
    """Return a function of numbers as a `scipy.LowLevelCallable`, for SciPy's integrators and filters.

    Its C signature is ``double (double)``, or ``double (int, double *)`` for more than one argument, which are those
    that SciPy knows. Without 64-bit types it computes in float32. `.function` is the address, as ctypes has it.

    Raises ArgumentError unless `fun` returns one real number.

    >>> import scipy.integrate
    >>> import funcgrad as fg, funcgrad.numpy as jnp
    >>> slope = low_level_callable(fg.grad(jnp.sin))
    >>> round(scipy.integrate.quad(slope, 0, 1)[0], 4)
    0.8415
    """
    import numba
    import scipy

    traced = jit(fun).trace(*[0.0] * n_args)
    _check_number(traced, fun)
    program = _program(traced)
    if n_args == 1:
        signature = numba.float64(numba.float64)
        wrapper = "def wrapper(x):\n    return program(x)\n"
    else:
        signature = numba.float64(numba.intc, numba.types.CPointer(numba.float64))
        given = ", ".join(f"x[{i}]" for i in range(n_args))
        wrapper = f"def wrapper(n, x):\n    return program({given})\n"
    namespace = {"program": program}
    exec(compile(wrapper, "<low-level callable>", "exec"), namespace)
    return scipy.LowLevelCallable(numba.cfunc(signature)(namespace["wrapper"]).ctypes)


def _program(traced: Traced) -> Any:
    return compiled.load(*module.program(pipeline.planned(traced.jaxpr, targets.find("numba")), "program"))


def _check_number(traced: Traced, fun: Callable[..., Any]) -> None:
    out: list[ShapedArray] = traced.jaxpr.out_avals
    if len(out) != 1 or out[0].shape or not dtypes.is_float(out[0].dtype):
        shown = ", ".join(map(repr, out))
        raise ArgumentError(
            f"low_level_callable: {name_of(fun)} returns ({shown}) for numbers, where SciPy expects one real number",
            fix="return one number, e.g. a sum or an element",
        )


__all__ = ["low_level_callable", "numba_callable"]
