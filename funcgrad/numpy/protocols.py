"""NumPy functions called on tracers: `np.sin(x)` is `funcgrad.numpy.sin(x)`, and is differentiated like it.

NumPy dispatches to its operands through `__array_ufunc__` (NEP 13) and `__array_function__` (NEP 18). If this package
has a function of the same name, a tracer calls it. Otherwise the call raises: NumPy would need concrete values, which
a tracer may not have, and the derivative would be lost.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError

# From each NumPy function to the function of this package that tracers call in its place.
COUNTERPARTS: dict[Any, Callable[..., Any]] = {}


def register(theirs: ModuleType, ours: Mapping[str, Any]) -> None:
    """Register the functions of a namespace as counterparts of the NumPy functions with the same names."""
    for name, function in ours.items():
        namesake = getattr(theirs, name, None)
        if callable(namesake) and callable(function) and not isinstance(namesake, type):
            COUNTERPARTS[namesake] = function


def array_ufunc(self: Tracer, ufunc: np.ufunc, method: str, *operands: Any, out: Any = None, **options: Any) -> Any:
    """Call the counterpart of a ufunc, or of one of its methods such as ``np.add.reduce``."""
    if any(map(_has_another_override, operands)):
        return NotImplemented
    function = COUNTERPARTS.get(ufunc)
    if method != "__call__":
        function = getattr(function, method, None)
    if function is None:
        raise _no_counterpart(self, _ufunc_name(ufunc, method))
    if out is not None and not (out[0] is operands[0] and _at_augmented_assignment(sys._getframe(1))):
        raise ArgumentError(
            f"{_ufunc_name(ufunc, method)}: cannot write a traced array of type {self.aval} into the NumPy array out=",
            fix="use the returned array",
        )
    if options and method == "__call__":
        raise ArgumentError(
            f"{_ufunc_name(ufunc, method)} of a traced array of type {self.aval} was called with {', '.join(options)}=",
            fix="pass the operands alone; .astype is for dtype=, funcgrad.numpy.where for where=",
        )
    return function(*operands, **options)


def _ufunc_name(ufunc: np.ufunc, method: str) -> str:
    """Return the name of a ufunc or of one of its methods as users write it: ``np.add.reduce``."""
    name = ufunc.__name__ if getattr(np, ufunc.__name__, None) is not ufunc else f"np.{ufunc.__name__}"
    return name if method == "__call__" else f"{name}.{method}"


def array_function(self: Tracer, function: Any, classes: Iterable[type], args: Any, options: Any) -> Any:
    """Call the counterpart of a NumPy function that is not a ufunc."""
    if not all(issubclass(cls, (Tracer, np.ndarray)) for cls in classes):
        return NotImplemented
    counterpart = COUNTERPARTS.get(function)
    if counterpart is None:
        raise _no_counterpart(self, f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1))
    return counterpart(*args, **options)


def _has_another_override(operand: Any) -> bool:
    """Whether an operand overrides ufuncs itself. NumPy tries that override after we return NotImplemented."""
    override = getattr(type(operand), "__array_ufunc__", None)
    return override not in (None, np.ndarray.__array_ufunc__, array_ufunc)


def _no_counterpart(tracer: Tracer, name: str) -> ConcretizationError:
    return ConcretizationError(
        f"{name} was called with a traced array of type {tracer.aval}{tracer.origin()}, and funcgrad.numpy has no "
        "function of that name",
        fix="write it with functions of funcgrad.numpy; or use pure_callback, and custom_jvp for its derivative",
    )


def _at_augmented_assignment(frame: FrameType) -> bool:
    """Whether a frame is executing ``a += b``, which NumPy dispatches exactly like ``np.add(a, b, out=a)``.

    The assignment rebinds `a` to the result, as it does outside transforms. The call would leave `a` unchanged.
    """
    here = next(i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti)
    return here.opname == "BINARY_OP" and here.argrepr.endswith("=")
