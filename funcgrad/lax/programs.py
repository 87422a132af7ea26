"""Names of programs near to XLA: tokens, composites, staged values and constraints."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.shardings import with_sharding_constraint as with_sharding_constraint
from funcgrad.ops.shapes import full
from funcgrad.transforms.jit import jit

__all__ = ["after_all", "composite", "create_token", "stage", "with_sharding_constraint"]


def create_token(_: Any = None) -> Any:
    """Return a token, an array without elements. Effects are in the order of the program, with or without tokens."""
    return full((0,), False, dtypes.bool_)


def after_all(*operands: Any) -> Any:
    """Return a token for the effects of several tokens."""
    return create_token()


def composite(decomposition: Callable[..., Any], name: str, version: int = 0) -> Callable[..., Any]:
    """Return a function as one named equation of a jaxpr, which compilers may know by its name; here it is a `jit`.

    Keyword arguments are static, and must hash.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> tangent = composite(lambda x: jnp.sin(x) / jnp.cos(x), "my.tangent")
    >>> fg.make_jaxpr(tangent)(1.0).eqns[0].params["name"]
    'my.tangent'
    """

    @functools.lru_cache
    def with_attributes(*items: tuple[str, Any]) -> Callable[..., Any]:
        def decomposed(*args: Any) -> Any:
            return decomposition(*args, **dict(items))

        decomposed.__name__ = decomposed.__qualname__ = name
        return jit(decomposed)

    @functools.wraps(decomposition)
    def call(*args: Any, **attributes: Any) -> Any:
        return with_attributes(*attributes.items())(*args)

    return call


def stage(x: Any, /) -> Any:
    """Return a value as an array.

    >>> stage(1.0)
    Array(1., dtype=float32, weak_type=True)
    """
    return as_operand(x, "stage")
