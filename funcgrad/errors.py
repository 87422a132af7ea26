"""Error classes: the operation, both values, the user's own line, and the remedy.

Every error funcgrad raises on bad input is one of these classes. Each also derives from the builtin exception that a
NumPy or JAX user would expect to catch (`TypeError`, `ValueError`, `IndexError`, `NameError`, `MemoryError`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_INTERNAL = (_PACKAGE, os.path.dirname(os.__file__) + os.sep + "functools.py",
             os.path.dirname(os.__file__) + os.sep + "contextlib.py", "<frozen", "<string>")  # fmt: skip


class SourceLocation(NamedTuple):
    """A line of user code: file, line number, the function around it, and the named scopes that were open."""

    filename: str
    line: int
    function: str
    scope: str = ""

    def __str__(self) -> str:
        where = f"{_cell(self.filename) or os.path.basename(self.filename)}:{self.line} in {self.function}"
        return f"{where} ({self.scope})" if self.scope else where


def _cell(filename: str) -> str | None:
    """The cell of a notebook that IPython compiled under this name, as its tracebacks call it: In[3]."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    names = getattr(shell, "compile", None)
    label = names.format_code_name(filename) if hasattr(names, "format_code_name") else None
    return label[1] if label else None


class _Scopes(threading.local):
    """The named scopes that are open in this thread, joined by slashes."""

    path = ""


scopes = _Scopes()


def is_internal(filename: str) -> bool:
    """Whether a file is one of funcgrad's own, or of what it goes through to call back: frames there are not shown."""
    return filename.startswith(_INTERNAL)


def user_location() -> SourceLocation | None:
    """Return the innermost stack frame that is not funcgrad's own, or None when there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            return SourceLocation(code.co_filename, frame.f_lineno, code.co_name, scopes.path)
        frame = frame.f_back
    return None


# Set by core.tracing, which is above: it describes the transforms under way ("tracing jit(loss)").
describe_context: Callable[[], str] = lambda: ""  # noqa: E731


class FuncgradError(Exception):
    """Base of all funcgrad errors; formats the location and the remedy below the message.

    >>> print(ShapeError("add: shapes differ: f32[2] and f32[3]", fix="broadcast one of them").summary)
    add: shapes differ: f32[2] and f32[3]
    """

    def __init__(self, summary: str, *, fix: str = "", location: SourceLocation | None = None):
        self.summary, self.fix = summary, fix
        self.location = location or user_location()
        context = describe_context()
        where = ", ".join(
            p for p in (f"at {self.location}" if self.location else "", context and f"while {context}") if p
        )
        super().__init__("\n  ".join([summary, *([where] if where else []), *([f"fix: {fix}"] if fix else [])]))


class ShapeError(FuncgradError, TypeError, ValueError):
    """Shapes do not fit the operation."""


class DTypeError(FuncgradError, TypeError):
    """A dtype is unknown, or the operation does not take it."""


class TypePromotionError(DTypeError, ValueError):
    """Two dtypes have no implicit common type."""


class ArgumentError(FuncgradError, TypeError, ValueError):
    """An argument that is not an array is wrong: an axis, a count, a mode, a tree structure."""


class IndexingError(FuncgradError, TypeError, IndexError):
    """An index is of the wrong kind, or there are too many."""


class NotDifferentiableError(FuncgradError, TypeError, ValueError):
    """A derivative was asked for that does not exist: non-scalar output, integer input, no rule."""


class NonFiniteError(FuncgradError, FloatingPointError):
    """An operation made a NaN or an infinity while `debug_nans` or `debug_infs` is on."""


class MissingRuleError(FuncgradError, NotImplementedError):
    """A primitive lacks the rule that a transform asked for."""


class ConcretizationError(FuncgradError, TypeError):
    """A tracer was used where a concrete Python value is needed."""


class LeakedTracerError(FuncgradError):
    """A tracer outlived the transform that made it."""


class StaticArgumentError(FuncgradError, TypeError, ValueError):
    """A static argument is not hashable, or static_argnums/static_argnames do not fit the function."""


class BatchingError(FuncgradError, TypeError, ValueError):
    """vmap's in_axes, out_axes or sizes do not fit."""


class UnboundAxisError(FuncgradError, NameError):
    """A collective names an axis that no enclosing vmap has."""


class DeletedArrayError(FuncgradError, RuntimeError):
    """The array's buffer was donated or deleted."""


class AllocationError(FuncgradError, MemoryError):
    """The array would not fit in memory."""


class DependencyError(FuncgradError, ImportError):
    """An optional part of the library needs a package that is not installed."""


class JaxprError(FuncgradError):
    """A jaxpr breaks a rule of the intermediate form; a bug in a transform, not in user code."""
