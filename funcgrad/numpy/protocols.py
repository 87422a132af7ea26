"""NumPy's own functions called on traced arrays: `np.sin(x)` is `funcgrad.numpy.sin(x)`, derivative and all.

NumPy asks its operands what its functions do (NEP 13 for ufuncs, NEP 18 for the others). Where this package has a
function of the same name, a tracer answers with that; otherwise the call raises, since NumPy would compute with
numbers, which traced arrays do not have or would lose their derivative with.
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

# NumPy's functions, and ours that tracers answer with.
COUNTERPARTS: dict[Any, Callable[..., Any]] = {}


def register(theirs: ModuleType, ours: Mapping[str, Any]) -> None:
    """Make functions of a namespace the counterparts of those that have the same name in a module of NumPy's."""
    for name, function in ours.items():
        namesake = getattr(theirs, name, None)
        if callable(namesake) and callable(function) and not isinstance(namesake, type):
            COUNTERPARTS[namesake] = function


def array_ufunc(self: Tracer, ufunc: np.ufunc, method: str, *operands: Any, out: Any = None, **options: Any) -> Any:
    """Apply the counterpart of a ufunc, or of a method of it such as ``np.add.reduce``."""
    if any(map(_has_another_override, operands)):
        return NotImplemented
    function = COUNTERPARTS.get(ufunc)
    if method != "__call__":
        function = getattr(function, method, None)
    if function is None:
        raise _no_counterpart(self, _shown(ufunc, method))
    if out is not None and not (out[0] is operands[0] and _at_augmented_assignment(sys._getframe(1))):
        raise ArgumentError(
            f"{_shown(ufunc, method)}: a traced array of type {self.aval} cannot be written into the NumPy array out=",
            fix="use the returned array",
        )
    if options and method == "__call__":
        raise ArgumentError(
            f"{_shown(ufunc, method)} of a traced array of type {self.aval} was called with {', '.join(options)}=",
            fix="pass the operands alone; .astype is for dtype=, funcgrad.numpy.where for where=",
        )
    return function(*operands, **options)


def _shown(ufunc: np.ufunc, method: str) -> str:
    """Return what a user calls a ufunc or a method of it: ``np.add.reduce``."""
    name = ufunc.__name__ if getattr(np, ufunc.__name__, None) is not ufunc else f"np.{ufunc.__name__}"
    return name if method == "__call__" else f"{name}.{method}"


def array_function(self: Tracer, function: Any, classes: Iterable[type], args: Any, options: Any) -> Any:
    """Apply the counterpart of a function of NumPy that is no ufunc."""
    if not all(issubclass(cls, (Tracer, np.ndarray)) for cls in classes):
        return NotImplemented
    counterpart = COUNTERPARTS.get(function)
    if counterpart is None:
        raise _no_counterpart(self, f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1))
    return counterpart(*args, **options)


def _has_another_override(operand: Any) -> bool:
    """Whether an operand has an answer of its own to ufuncs; it then gets its turn through NotImplemented."""
    override = getattr(type(operand), "__array_ufunc__", None)
    return override not in (None, np.ndarray.__array_ufunc__, array_ufunc)


def _no_counterpart(tracer: Tracer, name: str) -> ConcretizationError:
    return ConcretizationError(
        f"{name} was called with a traced array of type {tracer.aval}{tracer.origin()}, and funcgrad.numpy has no "
        "function of that name",
        fix="write it with functions of funcgrad.numpy; or use pure_callback, and custom_jvp for its derivative",
    )


def _at_augmented_assignment(frame: FrameType) -> bool:
    """Whether a frame is at ``a += b``; NumPy asks the same for it as for ``np.add(a, b, out=a)``.

    The assignment binds `a` to the result, as it does outside of transforms. A call would leave `a` as it is.
    """
    here = next(i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti)
    return here.opname == "BINARY_OP" and here.argrepr.endswith("=")
