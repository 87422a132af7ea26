"""Pytrees under the names of `jax.tree_util`; `funcgrad.tree` has the same functions under short names."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import Any

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.tree import PyTreeDef, treedef_tuple
from funcgrad.tree import all as tree_all
from funcgrad.tree import broadcast as tree_broadcast
from funcgrad.tree import flatten as tree_flatten
from funcgrad.tree import flatten_with_path as tree_flatten_with_path
from funcgrad.tree import leaves as tree_leaves
from funcgrad.tree import leaves_with_path as tree_leaves_with_path
from funcgrad.tree import map as tree_map
from funcgrad.tree import map_with_path as tree_map_with_path
from funcgrad.tree import reduce as tree_reduce
from funcgrad.tree import reduce_associative as tree_reduce_associative
from funcgrad.tree import structure as tree_structure
from funcgrad.tree import transpose as tree_transpose
from funcgrad.tree import unflatten as tree_unflatten
from funcgrad.tree_registry import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyEntry,
    KeyPath,
    Partial,
    SequenceKey,
    flatten_one_level,
    flatten_one_level_with_keys,
    is_tree_node,
    keystr,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
)

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyEntry",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all_leaves",
    "build_tree",
    "default_registry",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "is_tree_node",
    "keystr",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "tree_all",
    "tree_broadcast",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_reduce",
    "tree_reduce_associative",
    "tree_structure",
    "tree_transpose",
    "tree_unflatten",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
]


def all_leaves(iterable: Iterable[Any], is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Return whether every element is a leaf.

    >>> all_leaves([1, "a"]), all_leaves([1, None]), all_leaves([1, (2,)])
    (True, False, False)
    """
    items = list(iterable)
    leaves = tree_leaves(items, is_leaf)
    return len(items) == len(leaves) and builtins.all(a is b for a, b in zip(items, leaves, strict=True))


def build_tree(treedef: PyTreeDef, xs: Iterable[Any]) -> Any:
    """Build a tree of the given structure from nested iterables of children."""
    return treedef.from_iterable_tree(xs)


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """Return the structures of the root's children."""
    return treedef.children()


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Return whether the structure is a single node: a leaf, None or an empty container."""
    return treedef.num_nodes == 1


class PyTreeRegistry:
    """The table of node classes as an object; there is one, `default_registry`."""

    flatten = staticmethod(tree_flatten)
    flatten_with_path = staticmethod(tree_flatten_with_path)
    register_node = staticmethod(register_pytree_node)

    @staticmethod
    def is_node(typ: type) -> bool:
        """Return whether instances of `typ` are nodes."""
        return is_tree_node(typ)

    @staticmethod
    def flatten_one_level(tree: Any) -> tuple[Iterable[Any], Any] | None:
        """Return the children and the metadata of a node, None for a leaf."""
        return flatten_one_level(tree) if is_tree_node(type(tree)) else None

    @staticmethod
    def flatten_one_level_with_keys(tree: Any) -> tuple[Iterable[tuple[KeyEntry, Any]], Any] | None:
        """Return the (key, child) pairs and the metadata of a node, None for a leaf."""
        return flatten_one_level_with_keys(tree) if is_tree_node(type(tree)) else None

    @staticmethod
    def register_dataclass_node(nodetype: type, data_fields: list[str], meta_fields: list[str]) -> None:
        """Register a dataclass by its data and meta fields."""
        register_dataclass(nodetype, data_fields, meta_fields)


default_registry = PyTreeRegistry()

_explain_missing_names(__name__)
