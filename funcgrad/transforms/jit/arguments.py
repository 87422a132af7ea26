"""The arguments of a jitted function: which are static, which are donated, and which are traced."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from funcgrad import tree
from funcgrad.errors import StaticArgumentError
from funcgrad.transforms.flattening import name_of

STATIC_REMEDY = "pass an array or a number, or make the argument static (static_argnums, static_argnames)"
# Stands among the traced arguments where a static one was; an empty pytree.
_NOTHING = None

Static = tuple[tuple[int | str, type, Any], ...]
"""Static arguments: position or name, type, and value of each."""


class SplitArguments(NamedTuple):
    """The static arguments of a call, the traced ones, and which leaves of those are donated."""

    static: Static
    args: tuple
    kwargs: dict[str, Any]
    donated: Sequence[bool]


class ArgumentRoles(NamedTuple):
    """Which arguments are static or donated: positions, and names for keywords."""

    static_nums: tuple[int, ...]
    static_names: frozenset[str]
    donate_nums: tuple[int, ...]
    donate_names: frozenset[str]

    def split(self, args: tuple, kwargs: dict[str, Any], name: str) -> SplitArguments:
        """Separate static from traced arguments of a call of the function `name`."""
        if not any(self):
            return SplitArguments((), args, kwargs, ())
        n = len(args)
        nums = {i % n if -n <= i < n else i for i in self.static_nums}
        found: list[tuple[int | str, Any]] = [(i, args[i]) for i in sorted(nums) if 0 <= i < n]
        found += sorted((k, v) for k, v in kwargs.items() if k in self.static_names)
        for where, value in found:
            _check_hashable(value, where, name)
        args = tuple(_NOTHING if i in nums else a for i, a in enumerate(args))
        kwargs = {k: v for k, v in kwargs.items() if k not in self.static_names}
        given = {i % n for i in self.donate_nums if -n <= i < n}
        donated = [i in given for i, a in enumerate(args) for _ in tree.leaves(a)]
        donated += [k in self.donate_names for k in sorted(kwargs) for _ in tree.leaves(kwargs[k])]
        return SplitArguments(tuple((where, type(value), value) for where, value in found), args, kwargs, donated)


def with_static(fun: Callable[..., Any], static: Static) -> Callable[..., Any]:
    """Return the function of the traced arguments alone, as `ArgumentRoles.split` leaves them."""
    if not static:
        return fun

    def of_traced(*args: Any, **kwargs: Any) -> Any:
        args_list = list(args)
        for where, _, value in static:
            if isinstance(where, int):
                args_list[where] = value
            else:
                kwargs[where] = value
        return fun(*args_list, **kwargs)

    return functools.update_wrapper(of_traced, fun)


def without_static(in_tree: Any, static: Static) -> Any:
    """Return the structure of (args, kwargs) that a compiled function is called with: no places for static ones."""
    positions = {where for where, *_ in static if isinstance(where, int)}
    args, kwargs = in_tree.children()
    traced = [a for i, a in enumerate(args.children()) if i not in positions]
    return tree.treedef_tuple([tree.treedef_tuple(traced), kwargs])


def _check_hashable(value: Any, where: Any, name: str) -> None:
    try:
        hash(value)
    except TypeError as e:
        raise StaticArgumentError(
            f"jit({name}): static argument {where!r} of type {type(value).__name__} does not hash: {value!r:.60}",
            fix="pass a hashable value (tuple instead of list, frozenset instead of set), or do not make it static",
        ) from e


def _as_tuple(value: Any, kind: type) -> tuple:
    if value is None:
        return ()
    return (value,) if isinstance(value, kind) else tuple(value)


def argument_roles(
    fun: Any, static_argnums: Any, static_argnames: Any, donate_argnums: Any, donate_argnames: Any
) -> ArgumentRoles:
    """Complete positions by names and names by positions, as far as the function's parameters are known."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = {p.name for p in parameters}
    variadic = {p.kind for p in parameters}
    name = name_of(fun)

    def complete(nums: tuple[int, ...], names: Iterable[str], what: str) -> tuple[tuple[int, ...], frozenset[str]]:
        names = set(names)
        for n in names - known if inspect.Parameter.VAR_KEYWORD not in variadic and parameters else ():
            raise StaticArgumentError(
                f"jit({name}): {what}_argnames has {n!r}, which is not a parameter; parameters are {sorted(known)}",
                fix="correct the name",
            )
        count = len(positional)
        if parameters and inspect.Parameter.VAR_POSITIONAL not in variadic:
            for i in nums:
                if not -count <= i < count:
                    raise StaticArgumentError(
                        f"jit({name}): {what}_argnums={nums} but the function has {count} positional parameters",
                        fix="count from 0, or use names",
                    )
        full_nums = set(nums) | {positional.index(n) for n in names if n in positional}
        full_names = names | {positional[i] for i in nums if -count <= i < count}
        return tuple(sorted(full_nums)), frozenset(full_names)

    static = complete(_as_tuple(static_argnums, int), _as_tuple(static_argnames, str), "static")
    donate = complete(_as_tuple(donate_argnums, int), _as_tuple(donate_argnames, str), "donate")
    both = set(static[0]) & set(donate[0])
    if both:
        raise StaticArgumentError(
            f"jit({name}): arguments {sorted(both)} are both static and donated",
            fix="static arguments cannot be donated",
        )
    return ArgumentRoles(*static, *donate)
