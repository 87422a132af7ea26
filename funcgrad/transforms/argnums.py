"""The arguments that `argnums` chooses for differentiation, and the function of those alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, NotDifferentiableError
from funcgrad.transforms.flattening import (
    Names,
    arguments_of,
    as_arrays,
    name_of,
)


def _positions(args: tuple, argnums: int | Sequence[int], transform: str) -> tuple[tuple[int, ...], bool]:
    """Return argnums as nonnegative positions, and whether a single int was given."""
    single = isinstance(argnums, int)
    given = (argnums,) if single else tuple(argnums)
    positions = []
    for n in given:
        if not -len(args) <= n < len(args):
            raise ArgumentError(
                f"{transform}: argnums={argnums} but the function was called with {len(args)} positional arguments",
                fix="choose argnums among the positional arguments; keyword arguments are not differentiated",
            )
        positions.append(n % len(args))
    return tuple(positions), single


def _check_differentiable(
    x: Any, transform: str, name: str, what: Callable[[], str], holomorphic: bool, allow_int: bool
) -> None:
    dtype = aval_of(x).dtype
    if holomorphic:
        if not dtypes.is_complex(dtype):
            raise NotDifferentiableError(
                f"{transform} of {name}: with holomorphic=True inputs must be complex, {what()} is {aval_of(x)}",
                fix="cast the input with .astype(complex), or drop holomorphic",
            )
    elif not dtypes.is_inexact(dtype) and not allow_int:
        raise NotDifferentiableError(
            f"{transform} of {name}: {what()} has type {aval_of(x)}, which is not real or complex",
            fix="pass floats (2.0, not 2), choose other argnums, or give allow_int=True for float0 zeros",
        )
    elif dtypes.is_complex(dtype) and transform in ("jacfwd",):
        raise NotDifferentiableError(
            f"{transform} of {name}: {what()} has complex type {aval_of(x)}", fix="give holomorphic=True"
        )


class Chosen(NamedTuple):
    """The arguments to differentiate: their leaves and structure, and the function of those leaves alone."""

    leaves: list[Any]
    structure: Any
    single: bool
    fun: Callable[..., Any]

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Return leaves in the structure of the chosen arguments; one alone is not wrapped in a tuple."""
        parts = self.structure.unflatten(leaves)
        return parts[0] if self.single else parts


def choose(
    fun: Any,
    args: tuple,
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    transform: str,
    holomorphic: bool,
    allow_int: bool = False,
) -> Chosen:
    """Return the arguments at the positions `argnums`; raise unless they can be differentiated."""
    positions, single = _positions(args, argnums, f"{transform} of {name_of(fun)}")
    leaves, structure = tree.flatten(tuple(args[i] for i in positions))
    names = _names_of_chosen(fun, args, positions)
    leaves = as_arrays(leaves, f"{transform} of {name_of(fun)}", names)
    for i, x in enumerate(leaves):
        _check_differentiable(x, transform, name_of(fun), lambda i=i: names()[i], holomorphic, allow_int)

    def of_chosen(*values: Any) -> Any:
        full_args = list(args)
        for i, v in zip(positions, structure.unflatten(values), strict=True):
            full_args[i] = v
        return fun(*full_args, **kwargs)

    of_chosen.__name__ = name_of(fun)
    return Chosen(leaves, structure, single, of_chosen)


def _names_of_chosen(fun: Callable[..., Any], args: tuple, positions: Sequence[int]) -> Names:
    """Name the leaves of the arguments at some positions."""

    def names() -> list[str]:
        every = iter(arguments_of(fun, tree.structure((args, {})))())
        by_argument = [list(itertools.islice(every, tree.structure(a).num_leaves)) for a in args]
        return [name for i in positions for name in by_argument[i]]

    return names
