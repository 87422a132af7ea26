"""Lowerings of primitives, under JAX's names. There is no MLIR: a lowering is a function of other operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.core.lowering import Rewrite
from funcgrad.core.primitives import Primitive
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.interpreters.tables import Rules

_lowerings = Rules("lowering")


def lower_fun(fun: Callable[..., Any], multiple_results: bool = True) -> Rewrite:
    """Return the lowering that replaces a primitive by the operations of a function."""
    return Rewrite(fun)


def register_lowering(primitive: Primitive, rule: Any, platform: str | None = None, **options: Any) -> Any:
    """Set how compiled programs compute a primitive; the rule is made by `lower_fun`."""
    _lowerings[primitive] = rule
    return rule


_explain_missing_names(__name__)
