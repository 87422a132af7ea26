"""Between pytree functions and flat ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.array_types import ArrayLike, Reference, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapedArray, ShapeDtypeStruct
from funcgrad.errors import ArgumentError


def name_of(fun: Any) -> str:
    """Return a name for messages and jaxprs: the function's own, through partials and wrappers."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    return getattr(fun, "__name__", type(fun).__name__)


def callable_or_error(fun: Any, transform: str) -> None:
    """Raise unless `fun` can be called."""
    if not callable(fun):
        raise ArgumentError(f"{transform}: {fun!r:.80} is not callable", fix="pass a function, e.g. a lambda")


Names = Callable[[], Sequence[str]]
"""The names of the leaves of a tree in error messages; computed only when there is an error."""


def as_arrays(leaves: Iterable[Any], operation: str = "", names: Names | None = None) -> list[Any]:
    """Return leaves as arrays or tracers; with `names`, the error names the leaf that is not an array."""
    leaves = list(leaves)
    try:
        return [x if isinstance(x, ArrayLike) else as_array(x) for x in leaves]
    except ArgumentError:
        if names is None:
            raise
        raise not_an_array(operation, names(), leaves, as_array) from None


def places(what: str, structure: Any) -> Names:
    """Name each leaf of a structure by its path: `init['w']`."""
    return lambda: [what + tree.keystr(path) for path in structure.paths()]


def abstract(x: Any) -> ShapedArray:
    """Return the type of an example argument: an array, a number, a `ShapeDtypeStruct`, or any `shape` and `dtype`."""
    if not isinstance(x, (ArrayLike, ShapeDtypeStruct, np.ndarray)) and hasattr(x, "shape") and hasattr(x, "dtype"):
        x = ShapeDtypeStruct(x.shape, x.dtype)
    return aval_of(x)


def not_an_array(
    operation: str, names: Sequence[str], leaves: Sequence[Any], convert: Callable[[Any], Any], remedy: str = ""
) -> ArgumentError:
    """Return the error that names the first leaf that `convert` does not accept."""
    for name, leaf in zip(names, leaves, strict=True):
        try:
            convert(leaf)
        except ArgumentError as error:
            if isinstance(leaf, Reference):
                return error
            found = f"{leaf!r:.60} of type {type(leaf).__name__}, which is not an array"
            remedy = remedy or "pass an array or a number; close over what is not an array"
            if isinstance(leaf, ShapeDtypeStruct):
                found, remedy = f"{leaf}, a type and not a value", "call .eval_shape, .trace or .lower with types"
            return ArgumentError(f"{operation}: {name} is {found}", fix=remedy)
    raise AssertionError("every leaf is an array")


def argument_names(fun: Any, in_tree: Any, n: int) -> list[str]:
    """Return the name of each leaf of the arguments in error messages: "argument params['w'] of loss"."""
    return [f"argument {name} of {name_of(fun)}" for name in leaf_names(fun, in_tree, n)]


def arguments_of(fun: Any, in_tree: Any) -> Names:
    """Name each leaf of (args, kwargs) by the parameter of `fun` that it belongs to."""
    return lambda: [f"argument {name}" for name in leaf_names(fun, in_tree, in_tree.num_leaves)]


def leaf_names(fun: Any, in_tree: Any, n: int) -> list[str]:
    """Return the name that a user would give each of the `n` leaves of (args, kwargs): `x`, `params['w']`."""
    try:
        parameters = list(inspect.signature(fun).parameters)
    except (TypeError, ValueError):
        parameters = []
    names = []
    for path in in_tree.paths():
        first, *rest = path[1:]
        index = getattr(first, "idx", None)
        root = parameters[index] if index is not None and index < len(parameters) else str(getattr(first, "key", first))
        names.append(root + tree.keystr(tuple(rest)))
    return names


def of_positional(*structures: Any) -> Any:
    """Return the structure of (args, kwargs) for positional arguments of these structures and no keywords."""
    return tree.treedef_tuple([tree.treedef_tuple(structures), tree.structure({})])


class FlatFunction:
    """A function of a pytree of arguments as one of flat arrays to flat arrays; remembers the output's structure.

    The last call's structure is in `out_tree`; with `has_aux` the function returns (out, aux), and the leaves
    of aux, which may be any objects, are kept in `aux`.
    """

    def __init__(self, fun: Callable[..., Any], in_tree: Any, *, has_aux: bool = False, transform: str = ""):
        self.fun, self.in_tree, self.has_aux, self.transform = fun, in_tree, has_aux, transform
        self.out_tree: Any = None
        self.aux: list[Any] = []
        self.aux_tree: Any = None
        self.__name__ = name_of(fun)

    def __call__(self, *flat: Any) -> list[Any]:
        args, kwargs = self.in_tree.unflatten(flat)
        out = self.fun(*args, **kwargs)
        if not self.has_aux:
            leaves, self.out_tree = tree.flatten(out)
            return checked_outputs(leaves, self.out_tree, self.__name__)
        if not isinstance(out, (tuple, list)) or len(out) != 2:
            raise ArgumentError(
                f"{self.transform}: with has_aux=True, {self.__name__} must return a pair (output, aux), "
                f"it returned {type(out).__name__}",
                fix="return (output, aux), or drop has_aux",
            )
        leaves, self.out_tree = tree.flatten(out[0])
        self.aux, self.aux_tree = tree.flatten(out[1])
        return checked_outputs(leaves, self.out_tree, self.__name__)

    def unflatten_out(self, leaves: Sequence[Any]) -> Any:
        """Return output leaves in the structure that the last call returned."""
        return self.out_tree.unflatten(leaves)

    def unflatten_aux(self) -> Any:
        """Return the last call's aux."""
        return self.aux_tree.unflatten(self.aux)


def checked_outputs(leaves: Sequence[Any], structure: Any, name: str) -> list[Any]:
    """Raise unless every leaf that a transformed function returns is an array."""
    for i, leaf in enumerate(leaves):
        try:
            aval_of(leaf)
        except ArgumentError:
            place = places("", structure)()[i] or "the output"
            if isinstance(leaf, Reference):
                raise ArgumentError(
                    f"{name} returned a Ref with contents of type {leaf.aval} at {place}; a Ref cannot be returned",
                    fix="return its contents, ref[...]",
                ) from None
            raise ArgumentError(
                f"{name} returned {leaf!r:.60} of type {type(leaf).__name__} at {place}, which is not an array",
                fix="return arrays (strings and other objects may go through has_aux or be left out)",
            ) from None
    return list(leaves)
