"""Which classes are pytree nodes, and how to name their children.

funcgrad registers classes in an optree namespace of its own, so that nothing it does changes what other users
of optree see. Classes that others registered with optree globally are nodes here too.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import operator
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import optree

from funcgrad.errors import ArgumentError

NAMESPACE = "funcgrad"

T = TypeVar("T")
Class = TypeVar("Class", bound=type[Any])
KeyEntry = Any
KeyPath = tuple[KeyEntry, ...]

# optree annotates nodes as Collections, which the nodes of users need not be.
_optree_register: Any = optree.register_pytree_node
_LEAF_KINDS = (optree.PyTreeKind.DEQUE, optree.PyTreeKind.STRUCTSEQUENCE)


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceKey:
    """Position of a child in a tuple or list."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"


@dataclasses.dataclass(frozen=True, slots=True)
class DictKey:
    """Key of a child in a dict."""

    key: Hashable

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@dataclasses.dataclass(frozen=True, slots=True)
class GetAttrKey:
    """Attribute name of a child in a namedtuple or a registered class."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class FlattenedIndexKey:
    """Position of a child in a node whose class was registered without keys."""

    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """Write a key path as the Python expression that reaches the leaf.

    With ``simple`` only the bare names are written, which suits file names and log keys.

    >>> path = (GetAttrKey("params"), DictKey("w"), SequenceKey(0))
    >>> keystr(path)
    ".params['w'][0]"
    >>> keystr(path, simple=True, separator="/")
    'params/w/0'
    """
    return separator.join(map(_bare if simple else str, keys))


def _bare(key: KeyEntry) -> str:
    match key:
        case SequenceKey(name) | DictKey(name) | GetAttrKey(name) | FlattenedIndexKey(name):
            return str(name)
    return str(key)


def is_tree_node(typ: type) -> bool:
    """Return whether instances of `typ` are pytree nodes; all other objects are leaves.

    >>> is_tree_node(dict), is_tree_node(set), is_tree_node(collections.deque)
    (True, False, False)
    """
    # optree has deques and C struct sequences as nodes; JAX's programs rely on their being leaves.
    entry = _optree_register.get(typ, namespace=NAMESPACE)
    return entry is not None and entry.kind not in _LEAF_KINDS


def flatten_one_level(tree: Any) -> tuple[Sequence[Any], Any]:
    """Return the children of a node and its metadata; a leaf is an ArgumentError.

    >>> flatten_one_level({"b": [1, 2], "a": 3})
    ([3, [1, 2]], ('a', 'b'))
    """
    if not is_tree_node(type(tree)):
        raise ArgumentError(f"flatten_one_level: {type(tree).__name__} is a leaf, not a pytree node")
    children, data, _, _ = optree.tree_flatten_one_level(tree, namespace=NAMESPACE)
    return children, node_metadata(type(tree), data)


def flatten_one_level_with_keys(tree: Any) -> tuple[list[tuple[KeyEntry, Any]], Any]:
    """Return the (key, child) pairs of a node and its metadata; a leaf is an ArgumentError.

    >>> flatten_one_level_with_keys(["x"])
    ([(SequenceKey(idx=0), 'x')], None)
    """
    cls = type(tree)
    if (flatten := _flatten_with_keys.get(cls)) is not None:
        pairs, data = flatten(tree)
        return [(key, child) for key, child in pairs], data
    if not is_tree_node(cls):
        raise ArgumentError(f"flatten_one_level: {cls.__name__} is a leaf, not a pytree node")
    children, data, entries, _ = optree.tree_flatten_one_level(tree, namespace=NAMESPACE)
    kind = _optree_register.get(cls, namespace=NAMESPACE).kind
    return list(zip(child_keys(kind, cls, entries), children, strict=True)), node_metadata(cls, data)


def child_keys(kind: optree.PyTreeKind, cls: Any, entries: Sequence[Any]) -> Iterable[KeyEntry]:
    """Return the keys of a node's children, from the node's kind and class and optree's names of the children.

    Children of a class have numbers for names unless `_entries_are_keys`.
    """
    if kind in _SEQUENCES:
        return map(SequenceKey, entries)
    if kind in _MAPPINGS:
        return map(DictKey, entries)
    if kind == optree.PyTreeKind.NAMEDTUPLE:
        return map(GetAttrKey, cls._fields)
    return entries if cls in _entries_are_keys else map(FlattenedIndexKey, entries)


def node_metadata(typ: type, data: Any) -> Any:
    """Return optree's metadata of a node, made hashable for dicts."""
    if typ in (dict, collections.OrderedDict):
        return tuple(data)
    if typ is collections.defaultdict:
        return data[0], tuple(data[1])
    return data


_SEQUENCES = (optree.PyTreeKind.TUPLE, optree.PyTreeKind.LIST)
_MAPPINGS = (optree.PyTreeKind.DICT, optree.PyTreeKind.ORDEREDDICT, optree.PyTreeKind.DEFAULTDICT)

# Classes whose nodes tell optree the keys of their children, so that a structure alone has them.
_entries_are_keys: set[type] = set()
# Classes with a quicker way to their children than with keys: `flatten_with_path` has the keys, a structure has not.
_flatten_with_keys: dict[type, Callable[[Any], tuple[Iterable[tuple[KeyEntry, Any]], Any]]] = {}


def register_pytree_node(
    nodetype: type[T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Hashable]],
    unflatten_func: Callable[[Any, Any], T],
    flatten_with_keys_func: Callable[[T], tuple[Iterable[tuple[KeyEntry, Any]], Hashable]] | None = None,
) -> None:
    """Make instances of a class pytree nodes.

    ``flatten_func(node)`` returns ``(children, aux)``, ``unflatten_func(aux, children)`` rebuilds the node.
    ``aux`` is part of the tree's structure and is compared with ``==``. Registering twice is a ValueError.

    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> register_pytree_node(Pair, lambda p: ((p.a, p.b), None), lambda aux, children: Pair(*children))
    >>> from funcgrad import tree
    >>> tree.leaves([Pair(1, 2), 3])
    [1, 2, 3]
    """
    _register(nodetype, flatten_func, unflatten_func)
    if flatten_with_keys_func is not None:
        _flatten_with_keys[nodetype] = flatten_with_keys_func


def _register(nodetype: type, flatten: Callable[[Any], tuple[Any, ...]], unflatten: Callable[[Any, Any], Any]) -> None:
    """Register a class with optree; `flatten` may return the keys of the children after the children and metadata."""
    with warnings.catch_warnings():
        # optree warns when a namedtuple class gets functions of its own; asking for it is explicit enough.
        warnings.simplefilter("ignore", UserWarning)
        _optree_register(nodetype, flatten, unflatten, namespace=NAMESPACE)


def register_pytree_node_class(cls: Class) -> Class:
    """Register a class by ``tree_flatten(self)`` and ``tree_unflatten(cls, aux, children)``; a decorator."""
    register_pytree_node(cls, operator.methodcaller("tree_flatten"), cls.tree_unflatten)
    return cls


def register_pytree_with_keys(
    nodetype: type[T],
    flatten_with_keys: Callable[[T], tuple[Iterable[tuple[KeyEntry, Any]], Hashable]],
    unflatten_func: Callable[[Any, Any], T],
    flatten_func: Callable[[T], tuple[Iterable[Any], Hashable]] | None = None,
) -> None:
    """Register a class whose ``flatten_with_keys`` returns ``((key, child) pairs, aux)``.

    ``flatten_func`` is an optional, faster way to the children alone.
    """
    if flatten_func is not None:
        return register_pytree_node(nodetype, flatten_func, unflatten_func, flatten_with_keys)

    def flatten(node: T) -> tuple[Iterable[Any], Hashable, Sequence[KeyEntry]]:
        pairs, aux = flatten_with_keys(node)
        pairs = list(pairs)
        return [child for _, child in pairs], aux, [key for key, _ in pairs]

    _register(nodetype, flatten, unflatten_func)
    _entries_are_keys.add(nodetype)


def register_pytree_with_keys_class(cls: Class) -> Class:
    """Register a class by its methods ``tree_flatten_with_keys`` and ``tree_unflatten``; a decorator.

    A method ``tree_flatten``, where there is one, is used when keys are not needed.
    """
    flatten = operator.methodcaller("tree_flatten") if hasattr(cls, "tree_flatten") else None
    register_pytree_with_keys(cls, operator.methodcaller("tree_flatten_with_keys"), cls.tree_unflatten, flatten)
    return cls


def static(**kwargs: Any) -> Any:
    """Declare a dataclass field static for `register_dataclass`; arguments as for `dataclasses.field`."""
    metadata = {**(kwargs.pop("metadata", None) or {}), "static": True}
    return dataclasses.field(metadata=metadata, **kwargs)


def register_dataclass(
    nodetype: Class,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> Class:
    """Register a dataclass: data fields are its children, meta fields part of the structure; a decorator.

    Without field lists, every field is data except those declared with `static`. With lists, they must name
    each field of ``__init__`` once, but for ``drop_fields``. A class that is no dataclass needs both lists.

    >>> @register_dataclass
    ... @dataclasses.dataclass
    ... class Dense:
    ...     weight: float
    ...     activation: str = static(default="relu")
    >>> from funcgrad import tree
    >>> tree.map(lambda x: 2 * x, Dense(1.5))
    Dense(weight=3.0, activation='relu')
    """
    if data_fields is None or meta_fields is None:
        if (data_fields is None) != (meta_fields is None) or not dataclasses.is_dataclass(nodetype):
            raise ArgumentError(
                f"register_dataclass: {nodetype.__name__} got {data_fields=} and {meta_fields=}",
                fix="give both lists, or neither for a dataclass; tree.static() declares static fields",
            )
        fields = [f for f in dataclasses.fields(nodetype) if f.name not in drop_fields]
        data_fields = [f.name for f in fields if not f.metadata.get("static", False)]
        meta_fields = [f.name for f in fields if f.metadata.get("static", False)]
    data, meta = tuple(data_fields), tuple(meta_fields)
    _check_fields(nodetype, data, meta, drop_fields)
    get_data, get_meta, keys = _attributes(data), _attributes(meta), tuple(map(GetAttrKey, data))

    def unflatten(aux: tuple[Any, ...], children: Iterable[Any]) -> Any:
        return nodetype(**dict(zip(meta, aux, strict=True)), **dict(zip(data, children, strict=True)))

    _register(nodetype, lambda node: (get_data(node), get_meta(node), keys), unflatten)
    _entries_are_keys.add(nodetype)
    return nodetype


def _check_fields(cls: type, data: tuple[str, ...], meta: tuple[str, ...], drop: Sequence[str]) -> None:
    if twice := [name for name, count in collections.Counter(data + meta).items() if count > 1]:
        raise ArgumentError(f"register_dataclass: {cls.__name__}: fields listed twice: {twice}")
    if not dataclasses.is_dataclass(cls):
        return
    wanted = {f.name for f in dataclasses.fields(cls) if f.init} - set(drop)
    missing, unexpected = wanted - {*data, *meta}, {*data, *meta} - wanted
    if missing or unexpected:
        raise ArgumentError(
            f"register_dataclass: {cls.__name__}: fields of __init__ not listed: {sorted(missing)}; "
            f"listed, but no field of __init__: {sorted(unexpected)}",
            fix="list every field of __init__ in data_fields, meta_fields or drop_fields",
        )


def _attributes(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that reads the named attributes as a tuple; attrgetter does so from two names on."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda node: tuple(getattr(node, name) for name in names)


def register_static(cls: Class) -> Class:
    """Register a hashable class as a node without children: instances are structure; a decorator."""
    register_pytree_node(cls, lambda node: ((), node), lambda node, _: node)
    return cls


class _Opaque:
    """A callable that compares as the `functools.partial` it holds, without being one.

    functools.partial merges a partial that it is given into itself; inner arguments would become children.
    """

    def __init__(self, function: functools.partial):
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return self.function == (other.function if isinstance(other, _Opaque) else other)

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return repr(self.function)


class Partial(functools.partial):
    """A `functools.partial` that is a pytree: the bound arguments are children, the function is structure.

    >>> from funcgrad import tree
    >>> tree.leaves(Partial(pow, 2.0, exp=3))
    [2.0, 3]
    """

    def __new__(cls, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Partial:
        return super().__new__(cls, _Opaque(func) if isinstance(func, functools.partial) else func, *args, **kwargs)


register_pytree_node(
    Partial,
    lambda partial: ((partial.args, partial.keywords), partial.func),
    lambda func, children: Partial(func, *children[0], **children[1]),
)
