"""Tracers: the values that replace arrays while a function is traced or transformed."""

from __future__ import annotations

import itertools
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.core.array_types import ArrayLike
from funcgrad.core.traces import Trace
from funcgrad.errors import ConcretizationError, LeakedTracerError


class Tracer(ArrayLike):
    """Represents an array while a function is traced or transformed."""

    __slots__ = ("_trace", "__weakref__")
    _trace: Trace

    def concrete(self) -> np.ndarray | None:
        """Return the value if it is known (in `grad` outside of `jit`, where it has a derivative), else None."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.aval}>"

    def __format__(self, spec: str) -> str:
        """Format the value if it is known; otherwise return a placeholder that `formatted_in` recognizes."""
        value = self.concrete()
        if value is not None:
            return format(str(value) if value.shape else value[()], spec)
        number = next(_numbers)
        _formatted[number] = self._trace
        self._trace.__dict__.setdefault("formatted", {})[number] = self
        return f"{type(self).__name__}<{self.aval.short()}{spec and ':' + spec} #{number}>"

    def __bool__(self) -> bool:
        return bool(
            self._known(
                "used as a Python bool (in `if`, `while`, `and`, `or`, `not`)",
                "use funcgrad.numpy.where or lax.cond for a choice, & | ~ for logic, or make the argument static",
            )
        )

    def __int__(self) -> int:
        return int(self._known("converted with int()", "use .astype(int), or make the argument static"))

    def __index__(self) -> int:
        return self._known("used as a Python index, size or shape", self._static_remedy()).__index__()

    def item(self, *args: int) -> Any:
        """Return the value as a Python scalar, which is a constant to differentiation."""
        return self._known("read with .item()", "return the array and read it outside the transform").item(*args)

    # A known value has a derivative, or it would be no tracer. What follows gives numbers to compute with, and would
    # drop the derivative without a word.

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise self._refused("converted to a NumPy array", "use funcgrad.numpy instead of numpy")

    def __float__(self) -> float:
        raise self._refused("converted with float()", "use .astype(float), and funcgrad.numpy instead of math")

    def __complex__(self) -> complex:
        raise self._refused("converted with complex()", "use .astype(complex), and funcgrad.numpy instead of cmath")

    def tolist(self) -> Any:
        """Raise: lists of numbers have no derivative."""
        raise self._refused("read with .tolist()", "return the array and read it outside the transform")

    def tobytes(self) -> bytes:
        """Raise: bytes have no derivative."""
        raise self._refused("read with .tobytes()", "return the array and read it outside the transform")

    def __copy__(self) -> Tracer:
        return self

    def __deepcopy__(self, memo: Any) -> Tracer:  # it is immutable, and a copy would belong to no trace
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise self._refused("pickled", "return the array, and pickle what comes out of the transform")

    def _static_remedy(self) -> str:
        name = re.fullmatch(r" \(it is argument (\w+) of .*\)", self.origin())
        if name:
            return f"make it static: jit(..., static_argnames={name[1]!r})"
        return "take sizes from shapes and static arguments, which are known, not from values of arrays"

    def _known(self, use: str, fix: str) -> np.ndarray:
        """Return the value; raise ConcretizationError if it is not known."""
        check_not_leaked(self)
        value = self.concrete()
        if value is None:
            raise self._refused(use, fix)
        return value

    def _refused(self, use: str, fix: str) -> ConcretizationError:
        """Return the error for a use that needs a concrete value and would drop the derivative."""
        check_not_leaked(self)
        what, doing = f"a traced array of type {self.aval} was {use}", self._trace.description or "tracing"
        if self.concrete() is None:
            return ConcretizationError(f"{what}, but its value is not known while {doing}{self.origin()}", fix=fix)
        return ConcretizationError(
            f"{what}, which would drop its derivative while {doing}{self.origin()}",
            fix=f"{fix}; where no derivative is wanted, convert lax.stop_gradient(x)",
        )

    def origin(self) -> str:
        """Return a phrase for error messages that describes where the tracer comes from."""
        return ""


# The traces of tracers that were formatted, by the unique number in the text.
_formatted: weakref.WeakValueDictionary[int, Trace] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_TRACER = re.compile(r"\w+Tracer<[^<>:]*?(?::(?P<spec>.*?))? #(?P<number>\d+)>|\w+Tracer<[^<>#]*?>")


def formatted_in(text: str, replacement: Callable[[Any, str], str]) -> str:
    """Replace formatted tracers in a text by a function of (tracer, format spec).

    The function gets the text itself if the tracer was formatted by repr, or if its trace has finished.
    """

    def replaced(match: re.Match[str]) -> str:
        number = int(match["number"] or 0)
        trace = _formatted.get(number)
        tracer = trace.formatted.get(number) if trace is not None else None
        return replacement(match[0], "") if tracer is None else replacement(tracer, match["spec"] or "")

    return _TRACER.sub(replaced, text)


def check_not_leaked(tracer: Tracer) -> None:
    """Raise LeakedTracerError if the transform that made `tracer` has finished."""
    if not tracer._trace.valid:
        raise LeakedTracerError(
            f"a tracer of type {tracer.aval} outlived its transform ({tracer._trace.description or 'a transform'})"
            f"{tracer.origin()}",
            fix="do not keep traced values in globals, attributes or closures; return them from the function instead",
        )
    if tracer._trace.bypassed:
        raise LeakedTracerError(
            f"a function closes over a traced value of type {tracer.aval}{tracer.origin()}, but runs outside of the "
            f"transform that traces it ({tracer._trace.description or 'a transform'})",
            fix="pass the value as an argument; a custom rule says nothing about what its function closes over "
            "(closure_convert makes arguments of closed-over values)",
        )
