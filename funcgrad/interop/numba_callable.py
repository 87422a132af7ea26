"""Compiled functions for numba and SciPy: numba_callable and low_level_callable."""

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
    """Compile `fun` for the types of `examples`, as a function that ``@njit`` code can call in nopython mode.

    It takes the leaves of the arguments as arrays (0-d leaves as numbers), and returns an array, a number, or a tuple
    of them. It computes the same as ``jit(fun)``, and `fun` may contain gradients, mapped functions and loops. Python
    can call it too; a call with arrays of other shapes raises ValueError.

    Raises:
      ArgumentError: the program calls NumPy for an operation that has no kernel.

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
    """Compile a function of numbers as a `scipy.LowLevelCallable`, for SciPy's integrators and filters.

    Its C signature is ``double (double)``, or ``double (int, double *)`` for more than one argument, as SciPy expects.
    It computes in float32 unless 64-bit types are enabled. `.function` is the ctypes function pointer.

    Raises:
      ArgumentError: `fun` does not return a single real number.

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
            f"low_level_callable: {name_of(fun)} returns ({shown}) for numbers, but SciPy expects a single real number",
            fix="return a single number, e.g. a sum or an element",
        )


__all__ = ["low_level_callable", "numba_callable"]
