"""Layouts of the operands of loops: consts, carry and scanned operands.

The operands of `scan` are (consts, carry, xs); those of `while` are (consts of the predicate, consts of the body,
carry). A layout has the sizes of these parts, from the params of the equation. It splits the operands, or any list with
one value per operand. `cond` needs no layout: the index comes first, and each branch takes all other operands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Self, TypeVar

from funcgrad.core.masks import select, split_list

T = TypeVar("T")


@dataclass(frozen=True)
class _Parts(Generic[T]):
    """Lists with one value per operand of a loop."""

    def __iter__(self) -> Iterator[list[T]]:
        return (getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def layout(self) -> Any:
        """The layout of a loop with these operands."""
        raise NotImplementedError

    @property
    def params(self) -> dict[str, int]:
        """The params of a loop with these operands."""
        return self.layout._asdict()

    def join(self) -> list[T]:
        """Return the values in the order of the operands."""
        return [value for part in self for value in part]

    def replace(self, **parts: list[T]) -> Self:
        """Return the parts with the given ones replaced."""
        return dataclasses.replace(self, **parts)

    def extend(self, other: Self) -> Self:
        """Append the values of `other` to each part: the operands of a loop that combines two."""
        return type(self)(*([*a, *b] for a, b in zip(self, other, strict=True)))

    def map(self, fun: Callable[[T], Any]) -> Self:
        """Apply a function to each value."""
        return type(self)(*(list(map(fun, part)) for part in self))

    def select(self, mask: _Parts[bool], wanted: bool = True) -> Self:
        """Return the values where the mask is `wanted`, in their parts."""
        return type(self)(*(select(a, m, wanted) for a, m in zip(self, mask, strict=True)))


@dataclass(frozen=True)
class ScanParts(_Parts[T]):
    """One value per operand of a scan."""

    consts: list[T]
    carry: list[T]
    xs: list[T]

    @property
    def layout(self) -> ScanLayout:
        """The layout of a scan with these operands."""
        return ScanLayout(len(self.consts), len(self.carry))


@dataclass(frozen=True)
class WhileParts(_Parts[T]):
    """One value per operand of a while."""

    cond_consts: list[T]
    body_consts: list[T]
    carry: list[T]

    @property
    def layout(self) -> WhileLayout:
        """The layout of a while with these operands."""
        return WhileLayout(len(self.cond_consts), len(self.body_consts))

    @property
    def of_cond(self) -> list[T]:
        """The operands of the predicate."""
        return [*self.cond_consts, *self.carry]

    @property
    def of_body(self) -> list[T]:
        """The operands of the body."""
        return [*self.body_consts, *self.carry]


class ScanLayout(NamedTuple):
    """The numbers of consts and carried operands of a scan, as in its params."""

    num_consts: int
    num_carry: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> ScanLayout:
        """Return the layout given by the params of an equation."""
        return cls(params["num_consts"], params["num_carry"])

    def split(self, values: Sequence[T]) -> ScanParts[T]:
        """Split the operands, or the inputs of the body."""
        return ScanParts(*split_list(values, self))

    def split_results(self, values: Sequence[T]) -> tuple[list[T], list[T]]:
        """Split the results, or the outputs of the body, into carry and ys."""
        return list(values[: self.num_carry]), list(values[self.num_carry :])


class WhileLayout(NamedTuple):
    """The numbers of consts of the predicate and of the body of a while, as in its params."""

    cond_nconsts: int
    body_nconsts: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> WhileLayout:
        """Return the layout given by the params of an equation."""
        return cls(params["cond_nconsts"], params["body_nconsts"])

    def split(self, values: Sequence[T]) -> WhileParts[T]:
        """Split the operands."""
        return WhileParts(*split_list(values, self))
