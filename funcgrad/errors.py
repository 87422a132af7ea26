"""Error classes, whose messages have the operation, the values, the user's line, and a remedy.

Every error that funcgrad raises for bad input is one of these classes. Each also derives from the builtin exception
that a NumPy or JAX user would expect to catch (`TypeError`, `ValueError`, `IndexError`, `NameError`, `MemoryError`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from types import FrameType, ModuleType
from typing import NamedTuple

import numpy as np
import optree

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STANDARD = os.path.dirname(os.__file__) + os.sep
_BOUNDARIES = _PACKAGE + "tracebacks.py"
_TOP = __name__.partition(".")[0]
# Files whose frames are internal: the library, and code between it and the user. NumPy, for example, calls tracers.
_INTERNAL = (
    _PACKAGE,
    _STANDARD + "functools.py",
    _STANDARD + "contextlib.py",
    "<frozen",
    "<string>",
    *(os.path.dirname(os.path.abspath(module.__file__)) + os.sep for module in (np, optree)),
)


class SourceLocation(NamedTuple):
    """A line of user code: file, line number, enclosing function, and the active named scopes."""

    filename: str
    line: int
    function: str
    scope: str = ""

    def __str__(self) -> str:
        where = f"{_cell(self.filename) or os.path.basename(self.filename)}:{self.line} in {self.function}"
        return f"{where} ({self.scope})" if self.scope else where


def _cell(filename: str) -> str | None:
    """The label of a notebook cell that IPython compiled under this filename, as in its tracebacks: In[3]."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    names = getattr(shell, "compile", None)
    label = names.format_code_name(filename) if hasattr(names, "format_code_name") else None
    return label[1] if label else None


class _Scopes(threading.local):
    """The active named scopes of this thread, joined by slashes."""

    path = ""


scopes = _Scopes()


@functools.lru_cache(maxsize=4096)
def is_own(filename: str) -> bool:
    """Whether frames of a file are filtered from tracebacks: those of funcgrad, and of decorators around it."""
    return filename.startswith((_PACKAGE, _STANDARD + "functools.py", _STANDARD + "contextlib.py"))


@functools.lru_cache(maxsize=4096)
def is_internal(filename: str) -> bool:
    """Whether a file is part of funcgrad, or of the libraries between it and user code; see `_INTERNAL`."""
    return filename.startswith(_INTERNAL)


def _user_frame() -> tuple[FrameType | None, FrameType | None, int]:
    """Return the innermost user frame, the library frame that it called, and the depth of the user frame."""
    frame, called, depth = sys._getframe(1), None, 0
    while frame is not None and is_internal(frame.f_code.co_filename):
        if frame.f_code.co_filename != _BOUNDARIES:
            called = frame
        frame, depth = frame.f_back, depth + 1
    return frame, called, depth


def user_location() -> SourceLocation | None:
    """Return the location of the innermost user frame, or None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            return SourceLocation(code.co_filename, frame.f_lineno, code.co_name, scopes.path)
        frame = frame.f_back
    return None


def called_function() -> str:
    """Return the name of the library function that the user called, if it is public, otherwise ""."""
    _, frame, _ = _user_frame()
    if frame is None or not frame.f_code.co_qualname.isidentifier():
        return ""
    name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
    places = (_TOP, f"{_TOP}.lax", module.rpartition(".")[0], module if module.count(".") == 1 else "")
    public = any(callable(vars(sys.modules[place]).get(name)) for place in places if place in sys.modules)
    return name if public and not name.startswith("_") else ""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the user's line."""
    warnings.warn(message, category, stacklevel=_user_frame()[2] + 1)


def missing_name(module: str, name: str) -> AttributeError:
    """Return the error for a missing name of a public module, with close matches."""
    message = f"module {module!r} has no attribute {name!r}"
    if not name.startswith("_"):  # tools look up private names
        close = difflib.get_close_matches(name, [n for n in dir(sys.modules[module]) if n[0] != "_"], 3, 0.7)
        like = f"; close matches: {', '.join(close)}" if close else ""
        message += f": not in funcgrad, see docs/coverage.md{like}"
    return AttributeError(message, name=name, obj=sys.modules[module])


def explain_missing_names(module: str, submodules: Sequence[str] = ()) -> None:
    """Give a public module a `__getattr__` that imports `submodules` when first used, and raises `missing_name`.

    A `__getattr__` in the source of the module would make type checkers accept every name.
    """

    def __getattr__(name: str) -> ModuleType:
        if name in submodules:
            return importlib.import_module(f"{module}.{name}")
        raise missing_name(module, name)

    names = vars(sys.modules[module])
    names["__getattr__"] = __getattr__
    if submodules:
        names["__dir__"] = lambda: sorted({*names, *submodules})


_hooks: list[Callable[[], str]] = []


def on_error(hook: Callable[[], str]) -> Callable[[], str]:
    """Register a function to call whenever an error is created; it returns the context to add to the message, or "".

    Modules above this one can affect errors only through these hooks: `core.traces` describes the active transforms,
    and `tracebacks` hides the frames of the library.
    """
    _hooks.append(hook)
    return hook


def _prefix_with_caller(summary: str) -> str:
    """Prefix a message with the function that the user called, if another one failed: "logspace: linspace: …"."""
    name = called_function()
    operation = summary.partition(":")[0]
    return summary if not name or re.search(rf"\b{name}\b", operation) else f"{name}: {summary}"


class FuncgradError(Exception):
    """Base class of all funcgrad errors; formats the location and the remedy below the message.

    >>> print(ShapeError("add: shapes differ: f32[2] and f32[3]", fix="broadcast one of them").summary)
    add: shapes differ: f32[2] and f32[3]
    """

    def __init__(self, summary: str, *, fix: str = "", location: SourceLocation | None = None):
        if location is None:
            summary = _prefix_with_caller(summary)
        context = ", ".join(filter(None, [hook() for hook in _hooks]))
        self.summary, self.fix = summary, fix
        self.location = location or user_location()
        where = ", ".join(
            p for p in (f"at {self.location}" if self.location else "", context and f"while {context}") if p
        )
        super().__init__("\n  ".join([summary, *([where] if where else []), *([f"fix: {fix}"] if fix else [])]))


class ShapeError(FuncgradError, TypeError, ValueError):
    """Shapes do not fit the operation."""


class DTypeError(FuncgradError, TypeError, ValueError):
    """A dtype is unknown, or the operation does not take it."""


class TypePromotionError(DTypeError):
    """Two dtypes have no implicit common type."""


class ArgumentError(FuncgradError, TypeError, ValueError):
    """An argument that is not an array is wrong: an axis, a count, a mode, a tree structure."""


class IntegerOverflowError(FuncgradError, OverflowError):
    """A Python integer does not fit the dtype of arrays that it is used with."""


class UnsupportedError(FuncgradError, TypeError, ValueError, NotImplementedError):
    """An option of NumPy or JAX that has no counterpart here."""


class IndexingError(FuncgradError, TypeError, ValueError, IndexError):
    """An index is of the wrong kind, or there are too many."""


class NotDifferentiableError(FuncgradError, TypeError, ValueError):
    """The requested derivative does not exist: non-scalar output, integer input, or no rule."""


class NonFiniteError(FuncgradError, FloatingPointError):
    """An operation made a NaN or an infinity while `debug_nans` or `debug_infs` is on."""


class MissingRuleError(FuncgradError, NotImplementedError):
    """A primitive has no rule for a transform."""


class ConcretizationError(FuncgradError, TypeError):
    """A tracer was used where a concrete Python value is needed."""


class NonConcreteBooleanIndexError(ConcretizationError, IndexError):
    """An array was indexed with a traced mask: the shape of the result depends on its values."""


class LeakedTracerError(FuncgradError, TypeError):
    """A tracer outlived the transform that made it."""


class StaticArgumentError(FuncgradError, TypeError, ValueError):
    """A static argument is not hashable, or static_argnums/static_argnames do not fit the function."""


class BatchingError(FuncgradError, TypeError, ValueError):
    """The in_axes, out_axes or axis sizes of vmap do not fit the arguments or results."""


class UnboundAxisError(FuncgradError, NameError):
    """A collective names an axis that no enclosing vmap has."""


class DeletedArrayError(FuncgradError, RuntimeError):
    """The array's buffer was donated or deleted."""


class AllocationError(FuncgradError, MemoryError):
    """The array would not fit in memory."""


class DependencyError(FuncgradError, ImportError):
    """An optional part of the library needs a package that is not installed."""


class WorkerError(FuncgradError, RuntimeError):
    """A worker process of a DataLoader raised, was killed, or did not answer in time."""


class CheckpointError(FuncgradError, ValueError):
    """A checkpoint is damaged, is not one of funcgrad, or does not fit the structure to restore."""


class JaxprError(FuncgradError, TypeError):
    """A jaxpr breaks a rule of the intermediate form; a bug in a transform, not in user code."""


# The names of JAX, for programs that catch them.
ConcretizationTypeError = TracerArrayConversionError = TracerBoolConversionError = ConcretizationError
TracerIntegerConversionError = ConcretizationError
UnexpectedTracerError, JaxprTypeError = LeakedTracerError, JaxprError
JAXIndexError, JAXTypeError, JaxRuntimeError = IndexError, TypeError, RuntimeError
