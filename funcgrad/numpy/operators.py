"""The one point where operators and methods are given to arrays and tracers."""

from __future__ import annotations

from typing import Any

from funcgrad.core.tracing import ArrayLike
from funcgrad.numpy import at, index_expressions, ufuncs


def _reflected(function: Any) -> Any:
    return lambda self, other: function(other, self)


_BINARY = {"add": ufuncs.add, "sub": ufuncs.subtract, "mul": ufuncs.multiply, "truediv": ufuncs.divide}
for _name, _function in _BINARY.items():
    setattr(ArrayLike, f"__{_name}__", lambda self, other, f=_function: f(self, other))
    setattr(ArrayLike, f"__r{_name}__", _reflected(_function))
ArrayLike.__neg__ = lambda self: ufuncs.negative(self)

ArrayLike.__getitem__ = index_expressions.getitem
ArrayLike.__iter__ = index_expressions.iterate
ArrayLike.__setitem__ = at.setitem
ArrayLike.at = property(at.IndexHelper, doc=at.IndexHelper.__doc__)
