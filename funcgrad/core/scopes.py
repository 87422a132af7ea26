"""Context managers that name equations, give them a source location, or bind axis names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from funcgrad import errors
from funcgrad.core.traces import state
from funcgrad.errors import ArgumentError, SourceLocation


class named_scope(contextlib.ContextDecorator):
    """Name the equations of a ``with`` block or of a decorated function.

    The source location of an equation has the names of the active scopes, joined by slashes. Error messages and
    `jit(f).lower(x).as_text("groups")` show them.

    >>> import funcgrad as fg
    >>> def f(x):
    ...     with named_scope("encoder"), named_scope("attention"):
    ...         return fg.numpy.sin(x)
    >>> fg.make_jaxpr(f)(1.0).eqns[0].source.scope
    'encoder/attention'
    """

    def __init__(self, name: str):
        if not isinstance(name, str):
            raise ArgumentError(f"named_scope: name={name!r} is not a string", fix="pass a string")
        self.name = name

    def _recreate_cm(self) -> named_scope:  # a decorated function may be recursive
        return named_scope(self.name)

    def __enter__(self) -> None:
        self.outside = errors.scopes.path
        errors.scopes.path = f"{self.outside}/{self.name}" if self.outside else self.name

    def __exit__(self, *exc: object) -> None:
        errors.scopes.path = self.outside


class source_of:
    """Give the equations recorded within a ``with`` block a source location, unless an outer block already does."""

    __slots__ = ("location", "previous")

    def __init__(self, location: SourceLocation | None):
        self.location = location

    def __enter__(self) -> None:
        self.previous = state.source
        state.source = self.previous or self.location

    def __exit__(self, *exc: object) -> None:
        state.source = self.previous


@contextlib.contextmanager
def bound_axis(name: Any, size: int) -> Iterator[None]:
    """Bind a vmap axis name within a ``with`` block; None binds nothing."""
    old = state.axis_sizes
    if name is not None:
        state.axis_sizes = {**old, name: size}
    try:
        yield
    finally:
        state.axis_sizes = old


def computed_at(location: SourceLocation | None) -> str:
    """Return " (it was computed at file:line …)", or "" without a location."""
    return f" (it was computed at {location})" if location else ""
