"""Layouts of the operands of loops: which are consts, which are carried, which are scanned.

The operands of `scan` are (consts, carry, xs), those of `while` (consts of the predicate, consts of the body, carry).
A layout is the sizes that the params of an equation give; parts are the operands, or anything else with one value for
each of them. Those of `cond` need no layout: the index comes first, and every branch takes all the others.
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
    """Lists with one value for each operand of a loop."""

    def __iter__(self) -> Iterator[list[T]]:
        return (getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def layout(self) -> Any:
        """The layout of a loop that has these operands."""
        raise NotImplementedError

    @property
    def params(self) -> dict[str, int]:
        """The params of a loop that has these operands."""
        return self.layout._asdict()

    def join(self) -> list[T]:
        """Return the values in the order of the operands."""
        return [value for part in self for value in part]

    def replace(self, **parts: list[T]) -> Self:
        """Return the parts with those given in the place of others."""
        return dataclasses.replace(self, **parts)

    def extend(self, other: Self) -> Self:
        """Return parts that have the values of `other` after their own: the operands of a loop that does the work of
        two."""
        return type(self)(*([*a, *b] for a, b in zip(self, other, strict=True)))

    def map(self, fun: Callable[[T], Any]) -> Self:
        """Return the results of a function of each value, in their parts."""
        return type(self)(*(list(map(fun, part)) for part in self))

    def select(self, mask: Self, wanted: bool = True) -> Self:
        """Return the values where the mask is `wanted`, in their parts."""
        return type(self)(*(select(a, m, wanted) for a, m in zip(self, mask, strict=True)))


@dataclass(frozen=True)
class ScanParts(_Parts[T]):
    """One value for each operand of a scan."""

    consts: list[T]
    carry: list[T]
    xs: list[T]

    @property
    def layout(self) -> ScanLayout:
        """The layout of a scan that has these operands."""
        return ScanLayout(len(self.consts), len(self.carry))


@dataclass(frozen=True)
class WhileParts(_Parts[T]):
    """One value for each operand of a while."""

    cond_consts: list[T]
    body_consts: list[T]
    carry: list[T]

    @property
    def layout(self) -> WhileLayout:
        """The layout of a while that has these operands."""
        return WhileLayout(len(self.cond_consts), len(self.body_consts))

    @property
    def of_cond(self) -> list[T]:
        """Those that the predicate takes."""
        return [*self.cond_consts, *self.carry]

    @property
    def of_body(self) -> list[T]:
        """Those that the body takes."""
        return [*self.body_consts, *self.carry]


class ScanLayout(NamedTuple):
    """How many of a scan's operands are consts, and how many are carried; its params of these names."""

    num_consts: int
    num_carry: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> ScanLayout:
        """Return the layout that an equation's params give."""
        return cls(params["num_consts"], params["num_carry"])

    def split(self, values: Sequence[T]) -> ScanParts[T]:
        """Split operands, or inputs of the body."""
        return ScanParts(*split_list(values, self))

    def split_results(self, values: Sequence[T]) -> tuple[list[T], list[T]]:
        """Split results, or outputs of the body: carry and ys."""
        return list(values[: self.num_carry]), list(values[self.num_carry :])


class WhileLayout(NamedTuple):
    """How many of a while's operands are consts of its predicate and of its body; its params of these names."""

    cond_nconsts: int
    body_nconsts: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> WhileLayout:
        """Return the layout that an equation's params give."""
        return cls(params["cond_nconsts"], params["body_nconsts"])

    def split(self, values: Sequence[T]) -> WhileParts[T]:
        """Split operands."""
        return WhileParts(*split_list(values, self))
