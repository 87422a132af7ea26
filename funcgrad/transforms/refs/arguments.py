"""Refs among the arguments of a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.core.avals import ShapedArray
from funcgrad.core.traces import eval_trace
from funcgrad.errors import ArgumentError
from funcgrad.transforms.flattening import abstract
from funcgrad.transforms.refs.ref import Ref


def check_unaliased(refs: Sequence[Ref], operation: str) -> None:
    """Raise when a function gets one Ref in two ways."""
    twice = next((r for r in refs if list(refs).count(r) > 1), None)
    if twice is not None:
        raise ArgumentError(
            f"{operation}: one Ref of type {twice.aval} comes as two arguments, or as an argument and closed over",
            fix="give each Ref once",
        )


class RefArguments:
    """The Refs among a function's flat arguments, and Refs that stand for them while the function is traced.

    The traced function closes over the stand-ins, as over other Refs; they are known by identity when it is called.
    Where the trace is for one call only, Refs may stand for themselves (`reusable=False`).
    """

    def __init__(self, flat: Sequence[Any], operation: str, reusable: bool = True):
        self.operation = operation
        self.avals = [x.aval if isinstance(x, Ref) else abstract(x) for x in flat]
        refs = {i: x for i, x in enumerate(flat) if isinstance(x, Ref)}
        self.stand_ins = {i: Ref(None, r.aval) for i, r in refs.items()} if reusable else refs

    @property
    def array_avals(self) -> list[ShapedArray]:
        """The types of the arguments that are not Refs."""
        return self.of_array_places(self.avals)

    def of_array_places(self, values: Sequence[Any]) -> list[Any]:
        """From one value per argument, return the values of the arguments that are not Refs."""
        return [v for i, v in enumerate(values) if i not in self.stand_ins]

    def of_arrays(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        """Return `fun` as a function of the other arguments, with the stand-ins filled in."""
        if not self.stand_ins:
            return fun

        def filled(*arrays: Any) -> Any:
            rest = iter(arrays)
            return fun(*(self.stand_ins[i] if i in self.stand_ins else next(rest) for i in range(len(self.avals))))

        return filled

    def lasting(self, hoisted: Sequence[Any]) -> bool:
        """Whether all values that a function closes over are stand-ins, or Refs made outside of all transforms."""
        lasting = [*self.stand_ins.values()]
        return all(isinstance(h, Ref) and (h._trace is eval_trace or h in lasting) for h in hoisted)

    def resolve(self, hoisted: Sequence[Any], flat: Sequence[Any]) -> list[Any]:
        """Put the Refs of a call in the place of stand-ins; raise where a Ref comes in two ways."""
        if not hoisted and not self.stand_ins:
            return []
        given = {stand_in: flat[i] for i, stand_in in self.stand_ins.items()}
        arguments = [*given.values(), *(h for h in hoisted if isinstance(h, Ref) and h not in given)]
        check_unaliased(arguments, self.operation)
        return [given.get(h, h) if isinstance(h, Ref) else h for h in hoisted]
