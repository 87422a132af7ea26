"""Pytrees: nested containers as one list of leaves and a structure.

None is a node without children; tuples, lists, dicts, defaultdicts, OrderedDicts, namedtuples and registered
classes are nodes; everything else, sets, deques, strings and unregistered dataclasses among it, is a leaf.
Dicts and defaultdicts order their children by sorted keys, OrderedDicts by insertion.

The traversal is optree's; `flatten` adds only what JAX's programs expect and optree does otherwise.
"""

from __future__ import annotations

import builtins
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import optree
from optree import _C

from funcgrad.errors import ArgumentError
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.tree_registry import (
    NAMESPACE,
    KeyPath,
    flatten_one_level_with_keys,
    is_tree_node,
    static,
)
from funcgrad.tree_registry import keystr as keystr
from funcgrad.tree_structure import (
    IsLeaf,
    PyTreeDef,
    describe_mismatch,
    differences,
    flatten,
    structure,
    subtrees,
)

__all__ = [
    "PyTreeDef",
    "all",
    "broadcast",
    "describe_mismatch",
    "flatten",
    "flatten_axes",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "reduce",
    "reduce_associative",
    "static",
    "structure",
    "transpose",
    "treedef_tuple",
    "unflatten",
]


def leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """Return the leaves of a tree.

    >>> leaves({"b": [1, 2], "a": (3, None)})
    [3, 1, 2]
    """
    return flatten(tree, is_leaf)[0]


def unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """Build the tree that has this structure and these leaves: the inverse of `flatten`."""
    if not isinstance(treedef, PyTreeDef):
        raise ArgumentError(
            f"tree.unflatten: {treedef!r:.60} of type {type(treedef).__name__} is not a structure",
            fix="the order is unflatten(treedef, leaves), with leaves, treedef = tree.flatten(x)",
        )
    return treedef.unflatten(leaves)


def _columns(operation: str, treedef: PyTreeDef, rest: Sequence[Any]) -> list[list[Any]]:
    return [subtrees(operation, treedef, other, "tree 1", f"tree {i}") for i, other in enumerate(rest, 2)]


def map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """Apply `f` to corresponding leaves; `tree` may be a prefix of the rest, whose subtrees `f` then gets.

    >>> map(lambda x, y: (x, y), {"a": 1, "b": 2}, {"a": 3, "b": [4, 5]})
    {'a': (1, 3), 'b': (2, [4, 5])}
    """
    if not callable(f):
        raise ArgumentError(f"tree.map: {f!r:.60} is not callable", fix="the order is tree.map(f, tree, *others)")
    leaves, treedef = flatten(tree, is_leaf)
    return treedef.unflatten([*builtins.map(f, leaves, *_columns("tree.map", treedef, rest))])


_MISSING: Any = object()


def reduce(function: Callable[[Any, Any], Any], tree: Any, initializer: Any = _MISSING, is_leaf: IsLeaf = None) -> Any:
    """Fold the leaves from the left, as `functools.reduce` does.

    >>> reduce(lambda total, x: total + x, {"a": 1, "b": (2, 3)}, 10)
    16
    """
    initial = () if initializer is _MISSING else (initializer,)
    return functools.reduce(function, leaves(tree, is_leaf), *initial)


def reduce_associative(
    operation: Callable[[Any, Any], Any], tree: Any, *, identity: Any = _MISSING, is_leaf: IsLeaf = None
) -> Any:
    """Combine the leaves pairwise in a balanced tree: depth log n, as an associative `operation` allows.

    >>> reduce_associative(lambda x, y: f"({x}{y})", list("abcd"))
    '((ab)(cd))'
    """
    values = leaves(tree, is_leaf)
    if not values:
        if identity is _MISSING:
            raise ArgumentError("reduce_associative: the tree has no leaves", fix="give identity=")
        return identity
    while len(values) > 1:
        odd = values[len(values) & ~1 :]
        values = [operation(x, y) for x, y in zip(values[::2], values[1::2], strict=False)] + odd
    return values[0]


def all(tree: Any, *, is_leaf: IsLeaf = None) -> bool:
    """Return whether every leaf is true."""
    return builtins.all(leaves(tree, is_leaf))


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """Return the structure of a tuple of trees that have the given structures.

    >>> treedef_tuple([structure(1), structure([2, 3])])
    PyTreeDef((*, [*, *]))
    """
    specs = tuple(treedef.spec for treedef in treedefs)
    return PyTreeDef(_C.make_from_collection(specs, False, NAMESPACE))


def transpose(outer_treedef: PyTreeDef, inner_treedef: PyTreeDef | None, pytree_to_transpose: Any) -> Any:
    """Turn a tree of structure outer∘inner inside out, into one of structure inner∘outer.

    Without `inner_treedef`, it is the structure of the first subtree.

    >>> transpose(structure(["*", "*"]), None, [(1, 2), (3, 4)])
    ([1, 3], [2, 4])
    """
    values = leaves(pytree_to_transpose)
    if inner_treedef is None:
        inner_treedef = structure(outer_treedef.flatten_up_to(pytree_to_transpose)[0])
    rows, columns = outer_treedef.num_leaves, inner_treedef.num_leaves
    if len(values) != rows * columns:
        raise ArgumentError(
            f"tree.transpose: the tree is {structure(pytree_to_transpose)}, "
            f"outer and inner structure make {outer_treedef.compose(inner_treedef)}",
            fix="give the structure of the outside first, then that of each subtree",
        )
    return inner_treedef.unflatten([outer_treedef.unflatten(values[i::columns]) for i in range(columns)])


def broadcast(prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf = None) -> Any:
    """Repeat each leaf of `prefix_tree` over the subtree of `full_tree` that it stands for.

    >>> broadcast({"a": 0, "b": 1}, {"a": (5, 6), "b": 7})
    {'a': (0, 0), 'b': 1}
    """
    prefix_leaves, prefix = flatten(prefix_tree, is_leaf)
    parts = subtrees("tree.broadcast", prefix, full_tree, "the prefix", "the full tree")
    counts = [structure(subtree).num_leaves for subtree in parts]
    return structure(full_tree).unflatten(_repeat(prefix_leaves, counts))


def _repeat(values: Iterable[Any], counts: Iterable[int]) -> list[Any]:
    return [*itertools.chain.from_iterable(builtins.map(itertools.repeat, values, counts))]


def leaves_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> list[tuple[KeyPath, Any]]:
    """Return (key path, leaf) pairs in the order of `leaves`; see `keystr` for how to print a path.

    >>> for path, leaf in leaves_with_path({"a": [1, 2]}):
    ...     print(keystr(path), leaf)
    ['a'][0] 1
    ['a'][1] 2
    """
    return flatten_with_path(tree, is_leaf, is_leaf_takes_path)[0]


def flatten_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> tuple[list[tuple[KeyPath, Any]], PyTreeDef]:
    """Return (key path, leaf) pairs and the structure; `is_leaf_takes_path`: ``is_leaf(path, x)``."""
    stops = is_leaf if is_leaf is None or is_leaf_takes_path else lambda _, x: is_leaf(x)
    decisions: list[bool] = []
    pairs = list(_walk_with_path((), tree, stops, decisions))
    if is_leaf is None:
        return pairs, structure(tree)
    # optree asks about every subtree in the same order, parents first, as _walk_with_path did.
    answers = iter(decisions)
    return pairs, structure(tree, lambda _: next(answers))


def _walk_with_path(
    path: KeyPath, tree: Any, stops: Callable[[KeyPath, Any], bool] | None, decisions: list[bool]
) -> Iterator[tuple[KeyPath, Any]]:
    stop = stops is not None and bool(stops(path, tree))
    node = is_tree_node(type(tree))
    # A leaf for us may be a node for optree, which must not descend into it while it follows our decisions.
    decisions.append(stop or not node)
    if stop or not node:
        yield path, tree
    else:
        for key, child in flatten_one_level_with_keys(tree)[0]:
            yield from _walk_with_path((*path, key), child, stops, decisions)


def map_with_path(
    f: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> Any:
    """Apply ``f(path, leaf, *others)`` to corresponding leaves, as `map` does.

    >>> map_with_path(lambda path, x: keystr(path, simple=True, separator="/"), {"a": [1, 2]})
    {'a': ['a/0', 'a/1']}
    """
    pairs, treedef = flatten_with_path(tree, is_leaf, is_leaf_takes_path)
    columns = _columns("tree.map_with_path", treedef, rest)
    return treedef.unflatten([f(*pair, *others) for pair, *others in zip(pairs, *columns, strict=True)])


def flatten_axes(name: str, treedef: PyTreeDef, axis_tree: Any) -> list[Any]:
    """Spread a tree of axes, a prefix of `treedef`, to one axis per leaf; here None is a leaf.

    `name` is what the axes are called in the error when they are no prefix.

    >>> flatten_axes("in_axes", structure((1, {"w": 2, "b": 3}, 4)), (0, None, 1))
    [0, None, None, 1]
    >>> flatten_axes("axes", structure((1, 2)), (0, (1, 1)))
    Traceback (most recent call last):
    ...
    funcgrad.errors.ArgumentError: flatten_axes: axes is no prefix of its value: axes[1] is a tuple of 2, ...
      axes: (0, (1, 1))
      value: PyTreeDef((*, *))
      ...
    """
    if axis_tree is None or type(axis_tree) is int:
        return [axis_tree] * treedef.num_leaves
    axes, prefix = flatten(axis_tree, _is_none)
    counts: list[int] = []
    if _count_leaves(prefix.spec, treedef.spec, counts):
        return _repeat(axes, counts)
    differ = differences(name, prefix, "value", treedef, prefix=True)
    raise ArgumentError(
        f"{name} is no prefix of its value: {differ}\n  {name}: {axis_tree}\n  value: {treedef}",
        fix=_fix_axes(name, prefix, axis_tree, treedef),
    )


def _is_none(x: Any) -> bool:
    return x is None


def _count_leaves(prefix: optree.PyTreeSpec, full: optree.PyTreeSpec, counts: list[int]) -> bool:
    """Append how many leaves of `full` each leaf of `prefix` stands for; return whether it is a prefix."""
    if prefix.type is None:
        counts.append(full.num_leaves)
        return True
    if full.type is None or prefix.one_level() != full.one_level():
        return False
    return builtins.all(_count_leaves(p, f, counts) for p, f in zip(prefix.children(), full.children(), strict=True))


def _fix_axes(name: str, prefix: PyTreeDef, axis_tree: Any, treedef: PyTreeDef) -> str:
    if _count_leaves(treedef_tuple([prefix]).spec, treedef.spec, []):
        return f"{name} has one entry per argument: write {name}=({axis_tree!r},)"
    return f"give {name} one axis for a whole subtree, or containers exactly as in the value"


_explain_missing_names(__name__)
