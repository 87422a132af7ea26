"""Values that have a type and are never computed: zero tangents, and linear operands of transpose rules."""

from __future__ import annotations

from typing import Any

from funcgrad.core.array_types import SymbolicValue, aval_of


class Zero(SymbolicValue):
    """A symbolic zero tangent or cotangent."""

    __slots__ = ()

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: self.aval.ndim)
    size = property(lambda self: self.aval.size)
    weak_type = property(lambda self: self.aval.weak_type)

    @classmethod
    def from_primal_value(cls, value: Any) -> Zero:
        """Return the zero tangent of a value."""
        return cls(aval_of(value).tangent())


class UndefinedPrimal(SymbolicValue):
    """A linear operand of a transpose rule, which has a type but no value."""

    __slots__ = ()


def is_undefined(x: Any) -> bool:
    """Whether `x` is a linear operand of a transpose rule."""
    return type(x) is UndefinedPrimal
