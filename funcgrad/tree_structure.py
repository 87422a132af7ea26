"""The structure of a pytree, flattening, and where two structures differ."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import optree
from optree import _C

from funcgrad.errors import ArgumentError
from funcgrad.tree_registry import (
    NAMESPACE,
    KeyEntry,
    KeyPath,
    child_keys,
    is_tree_node,
    keystr,
    node_metadata,
)

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


def structure(tree: Any, is_leaf: IsLeaf = None) -> PyTreeDef:
    """Return the structure of a tree."""
    return flatten(tree, is_leaf)[1]


def subtrees(operation: str, prefix: PyTreeDef, tree: Any, name: str = "tree 1", other: str = "tree 2") -> list[Any]:
    """Return the subtrees of `tree` where `prefix` has leaves, as `PyTreeDef.flatten_up_to`.

    `operation`, and the names of the prefix and of the tree, are for the error that says where they differ.
    """
    try:
        return prefix.spec.flatten_up_to(tree)
    except ValueError as error:
        raise ArgumentError(
            f"{operation}: the trees differ: {differences(name, prefix, other, tree, prefix=True)}",
            fix=f"{other} needs the containers and keys of {name}; None is a container without leaves",
        ) from error


def describe_mismatch(name_a: str, tree_a: Any, name_b: str, tree_b: Any) -> str:
    """List the places where two trees, or treedefs, have different structure; "" when they have the same.

    >>> print(describe_mismatch("carry", {"h": (1, 2), "c": 0}, "result", {"h": [1, 2], "c": 0}))
    carry['h'] is a tuple of 2, result['h'] a list of 2
    """
    return differences(name_a, tree_a, name_b, tree_b, prefix=False)


def differences(name_a: str, tree_a: Any, name_b: str, tree_b: Any, *, prefix: bool) -> str:
    """Return where two trees differ, or where the first is no prefix of the second, as text."""
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
