"""Tables from primitives to their rules, which live in the primitives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from funcgrad.core.primitives import Primitive, registry
from funcgrad.errors import ArgumentError
from funcgrad.extend.core import Primitive as OpenPrimitive

Rule = Callable[..., Any]


class Rules(MutableMapping[Primitive, Rule]):
    """The rules of one kind, by primitive. Rules of the library's own primitives can be read, not set."""

    def __init__(self, kind: str, convert: Callable[[Rule], Rule] = lambda rule: rule):
        self._kind, self._convert = kind, convert

    def __getitem__(self, primitive: Primitive) -> Rule:
        rule = getattr(primitive, self._kind)
        if rule is None:
            raise KeyError(primitive)
        return rule

    def __setitem__(self, primitive: Primitive, rule: Rule) -> None:
        if not isinstance(primitive, OpenPrimitive):
            raise ArgumentError(
                f"{primitive}: the rules of this primitive are fixed where it is declared ({primitive.origin})",
                fix="use custom_jvp, custom_vjp or custom_vmap for a function, or a primitive of extend.core.Primitive",
            )
        setattr(primitive, self._kind, self._convert(rule))

    def __delitem__(self, primitive: Primitive) -> None:
        self[primitive] = None  # ty: ignore[invalid-assignment]

    def __iter__(self) -> Iterator[Primitive]:
        return (p for p in registry.values() if getattr(p, self._kind) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
