"""Pytrees: nested containers as one list of leaves and a structure.

None is a node without children; tuples, lists, dicts, defaultdicts, OrderedDicts, namedtuples and registered
classes are nodes; everything else, sets, deques, strings and unregistered dataclasses among it, is a leaf.
Dicts and defaultdicts order their children by sorted keys, OrderedDicts by insertion.

The traversal is optree's; `flatten` adds only what JAX's programs expect and optree does otherwise.
"""

from __future__ import annotations

import builtins
import collections
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
    KeyEntry,
    KeyPath,
    child_keys,
    flatten_one_level_with_keys,
    is_tree_node,
    keystr,
    node_metadata,
    static,
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

IsLeaf = Callable[[Any], bool] | None


class PyTreeDef:
    """The structure of a pytree: containers and their metadata, without the leaves; hashable.

    >>> treedef = structure({"w": 1.0, "b": (2.0, None)})
    >>> treedef
    PyTreeDef({'b': (*, None), 'w': *})
    >>> treedef.unflatten("xy")
    {'w': 'y', 'b': ('x', None)}
    """

    __slots__ = ("_hash", "spec")

    def __init__(self, spec: optree.PyTreeSpec):
        self.spec = spec
        self._hash = hash(spec)

    @property
    def num_leaves(self) -> int:
        """Number of leaves."""
        return self.spec.num_leaves

    @property
    def num_nodes(self) -> int:
        """Number of nodes, the leaves among them."""
        return self.spec.num_nodes

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """Build the tree that has this structure and these leaves; their number must fit."""
        if not isinstance(leaves, list):
            leaves = list(leaves)
        if len(leaves) != self.spec.num_leaves:
            raise ArgumentError(
                f"unflatten: {self} has {self.num_leaves} leaves, got {len(leaves)}",
                fix="give one value per leaf",
            )
        return self.spec.unflatten(leaves)

    def flatten_up_to(self, tree: Any) -> list[Any]:
        """Return the subtrees of `tree` where this structure has leaves; it must be a prefix of `tree`."""
        return subtrees("flatten_up_to", self, tree, "the structure", "the tree")

    def children(self) -> list[PyTreeDef]:
        """Return the structures of the root's children."""
        return [PyTreeDef(child) for child in self.spec.children()]

    def child_keys(self) -> list[KeyEntry]:
        """Return the keys of the root's children, as `flatten_with_path` names them."""
        return list(child_keys(self.spec.kind, self.spec.type or object, self.spec.entries()))

    def paths(self) -> list[KeyPath]:
        """Return the key path of every leaf; nothing is rebuilt for it, since a class may not take what is no array.

        >>> [keystr(path) for path in structure({"w": 1.0, "b": (2.0, None)}).paths()]
        ["['b'][0]", "['w']"]
        """
        if self.spec.type is None:
            return [()]
        pairs = zip(self.child_keys(), self.children(), strict=True)
        return [(key, *path) for key, child in pairs for path in child.paths()]

    def node_data(self) -> tuple[type, Any] | None:
        """Return the root's class and metadata, or None for a leaf."""
        node = self.spec.one_level()
        if node is None:
            return None
        [(typ, data)] = _nodes(node)
        return typ, None if data is typ else node_metadata(typ, data)

    def compose(self, inner: PyTreeDef) -> PyTreeDef:
        """Return this structure with `inner` in place of every leaf."""
        return PyTreeDef(self.spec.compose(inner.spec))

    def from_iterable_tree(self, tree: Iterable[Any]) -> Any:
        """Build a tree of this structure from nested iterables of children."""
        node = self.spec.one_level()
        if node is None:
            return tree
        parts = zip(self.children(), tree, strict=True)
        return node.unflatten([child.from_iterable_tree(part) for child, part in parts])

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, PyTreeDef) and self.spec == other.spec)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return PyTreeDef, (self.spec,)

    def show(self, leaves: Iterable[str]) -> str:
        """Return the tree of this structure as text, given the text of each leaf.

        >>> structure({"w": 1.0, "b": None}).show(["f32[3]"])
        "{'b': None, 'w': f32[3]}"
        """
        return self.spec.walk(list(leaves), _format_node)

    def __repr__(self) -> str:
        return f"PyTreeDef({self.show(['*'] * self.num_leaves)})"


def _format_node(typ: type, data: Any, children: tuple[str, ...]) -> str:
    inner = ", ".join(children)
    if typ is type(None):
        return "None"
    if typ is tuple:
        return f"({inner},)" if len(children) == 1 else f"({inner})"
    if typ is list:
        return f"[{inner}]"
    if typ is dict:
        return "{" + ", ".join(f"{key!r}: {child}" for key, child in zip(data, children, strict=True)) + "}"
    if data is typ:
        return f"CustomNode(namedtuple[{typ.__name__}], [{inner}])"
    return f"CustomNode({typ.__name__}[{node_metadata(typ, data)}], [{inner}])"


# Hashes of the structures known to be sound. optree's hash covers kinds, classes, arities and dict keys,
# all that `_make_sound` looks at; a set of hashes, unlike one of structures, keeps no user object alive.
_sound: set[int] = set()


def flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], PyTreeDef]:
    """Return the leaves of a tree, and its structure.

    ``is_leaf(subtree)`` true makes a subtree a leaf.

    >>> flatten({"b": [1, 2], "a": None})
    ([1, 2], PyTreeDef({'a': None, 'b': [*, *]}))
    """
    leaves, spec = _C.flatten(tree, is_leaf, False, NAMESPACE)
    treedef = PyTreeDef(spec)
    if treedef._hash not in _sound:
        return _make_sound(tree, is_leaf, leaves, treedef)
    return leaves, treedef


def _make_sound(tree: Any, is_leaf: IsLeaf, leaves: list[Any], treedef: PyTreeDef) -> tuple[list[Any], PyTreeDef]:
    """Flatten again where optree takes leaves for nodes, and refuse dicts whose keys have no order."""
    nodes = _nodes(treedef.spec)
    if opaque := {typ for typ, _ in nodes if not is_tree_node(typ)}:
        leaves, spec = _C.flatten(
            tree, lambda x: type(x) in opaque or (is_leaf is not None and is_leaf(x)), False, NAMESPACE
        )
        treedef = PyTreeDef(spec)
        nodes = _nodes(treedef.spec)
    for typ, data in nodes:
        if typ in (dict, collections.defaultdict):
            _check_sortable(data if typ is dict else data[1])
    if len(_sound) >= 1 << 16:
        _sound.clear()
    _sound.add(treedef._hash)
    return leaves, treedef


def _nodes(spec: optree.PyTreeSpec) -> list[tuple[type, Any]]:
    """Return the class and metadata of every node that is no leaf."""
    nodes: list[tuple[type, Any]] = []
    spec.walk([None] * spec.num_leaves, lambda typ, data, _: nodes.append((typ, data)))
    return nodes


def _check_sortable(keys: list[Any]) -> None:
    try:
        sorted(keys)
    except TypeError as error:
        raise ArgumentError(
            f"the keys of a dict in a pytree cannot be sorted: {keys}",
            fix="give all keys one type, or use an OrderedDict, which keeps insertion order",
        ) from error


def leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """Return the leaves of a tree.

    >>> leaves({"b": [1, 2], "a": (3, None)})
    [3, 1, 2]
    """
    return flatten(tree, is_leaf)[0]


def structure(tree: Any, is_leaf: IsLeaf = None) -> PyTreeDef:
    """Return the structure of a tree."""
    return flatten(tree, is_leaf)[1]


def unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """Build the tree that has this structure and these leaves: the inverse of `flatten`."""
    if not isinstance(treedef, PyTreeDef):
        raise ArgumentError(
            f"tree.unflatten: {treedef!r:.60} of type {type(treedef).__name__} is not a structure",
            fix="the order is unflatten(treedef, leaves), with leaves, treedef = tree.flatten(x)",
        )
    return treedef.unflatten(leaves)


def subtrees(operation: str, prefix: PyTreeDef, tree: Any, name: str = "tree 1", other: str = "tree 2") -> list[Any]:
    """Return the subtrees of `tree` where `prefix` has leaves, as `PyTreeDef.flatten_up_to`.

    `operation`, and the names of the prefix and of the tree, are for the error that says where they differ.
    """
    try:
        return prefix.spec.flatten_up_to(tree)
    except ValueError as error:
        raise ArgumentError(
            f"{operation}: the trees differ: {_differences(name, prefix, other, tree, prefix=True)}",
            fix=f"{other} needs the containers and keys of {name}; None is a container without leaves",
        ) from error


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
    differences = _differences(name, prefix, "value", treedef, prefix=True)
    raise ArgumentError(
        f"{name} is no prefix of its value: {differences}\n  {name}: {axis_tree}\n  value: {treedef}",
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


def describe_mismatch(name_a: str, tree_a: Any, name_b: str, tree_b: Any) -> str:
    """List the places where two trees, or treedefs, have different structure; "" when they have the same.

    >>> print(describe_mismatch("carry", {"h": (1, 2), "c": 0}, "result", {"h": [1, 2], "c": 0}))
    carry['h'] is a tuple of 2, result['h'] a list of 2
    """
    return _differences(name_a, tree_a, name_b, tree_b, prefix=False)


def _differences(name_a: str, tree_a: Any, name_b: str, tree_b: Any, *, prefix: bool) -> str:
    a, b = (t if isinstance(t, PyTreeDef) else structure(t) for t in (tree_a, tree_b))
    found = list(itertools.islice(_compare((), a, b, prefix), 9))
    lines = [f"{name_a}{keystr(p)} is {a}, {name_b}{keystr(p)} {b}" for p, a, b in found[:8]]
    return "\n  ".join(lines + ["…"] * (len(found) > 8))


def _compare(path: KeyPath, a: PyTreeDef, b: PyTreeDef, prefix: bool) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield where two structures differ, and what each has there."""
    node_a, node_b = a.node_data(), b.node_data()
    if node_a is None and (prefix or node_b is None):
        return
    keys, children_a, children_b = a.child_keys(), a.children(), b.children()
    if node_a == node_b and len(children_a) == len(children_b):
        for key, child_a, child_b in zip(keys, children_a, children_b, strict=True):
            yield from _compare((*path, key), child_a, child_b, prefix)
        return
    if node_a and node_b and node_a[0] is node_b[0] and issubclass(node_a[0], dict):
        others = dict(zip(b.child_keys(), children_b, strict=True))
        if set(keys) != set(others):
            yield path, _keys(node_a[0], keys, [*others]), _keys(node_a[0], [*others], keys)
            for key, child in zip(keys, children_a, strict=True):
                if key in others:
                    yield from _compare((*path, key), child, others[key], prefix)
            return
    yield path, _describe(a, b), _describe(b, a)


def _keys(cls: type, keys: list[KeyEntry], others: list[KeyEntry]) -> str:
    """Say which keys a dict has and the other one has not, or which it lacks."""
    if own := [repr(k.key) for k in keys if k not in others]:
        return f"a {cls.__name__} with {'key' if len(own) == 1 else 'keys'} {', '.join(own)}"
    return f"a {cls.__name__} without {', '.join(repr(k.key) for k in others if k not in keys)}"


def _describe(node: PyTreeDef, other: PyTreeDef) -> str:
    """Say what a node is, in the words that tell it from the other one."""
    if (found := node.node_data()) is None:
        return "a leaf"
    cls, data = found
    if cls is type(None):
        return "None"
    keys = node.child_keys()
    if issubclass(cls, dict):
        return f"a {cls.__name__} of keys {[k.key for k in keys]}" if keys else f"an empty {cls.__name__}"
    metadata = f" and metadata {data!r}" if other.spec.type is cls and data is not None else ""
    return f"a {cls.__name__} of {len(keys)}{metadata}"


_explain_missing_names(__name__)
