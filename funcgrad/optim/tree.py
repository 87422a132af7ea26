"""Arithmetic of pytrees of arrays, under the names of `optax.tree`.

>>> params = {"w": jnp.array([3.0, 4.0])}
>>> norm(params)
Array(5., dtype=float32)
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import random
from funcgrad import tree as trees
from funcgrad.errors import ArgumentError
from funcgrad.optim.base import abs_sq, each_leaf
from funcgrad.optim.base import cast_like as cast_like


def _with(operation: str, f: Callable[..., Any], x: Any, y: Any) -> Any:
    return each_leaf(operation, f, tree_x=x, tree_y=y)


def add(tree_x: Any, tree_y: Any, *other_trees: Any) -> Any:
    """x + y + …, leaf by leaf."""
    total = _with("add", operator.add, tree_x, tree_y)
    return add(total, *other_trees) if other_trees else total


def sub(tree_x: Any, tree_y: Any) -> Any:
    """x − y, leaf by leaf."""
    return _with("sub", operator.sub, tree_x, tree_y)


def mul(tree_x: Any, tree_y: Any) -> Any:
    """x·y, leaf by leaf."""
    return _with("mul", operator.mul, tree_x, tree_y)


def div(tree_x: Any, tree_y: Any) -> Any:
    """x / y, leaf by leaf."""
    return _with("div", operator.truediv, tree_x, tree_y)


def scale(scalar: Any, tree: Any) -> Any:
    """scalar·x, in the dtypes of x."""
    return trees.map(lambda x: jnp.asarray(scalar, jnp.result_type(x)) * x, tree)


def add_scale(tree_x: Any, scalar: Any, tree_y: Any) -> Any:
    """x + scalar·y, in the dtypes of x."""
    return _with("add_scale", lambda x, y: (x + scalar * y).astype(jnp.result_type(x)), tree_x, tree_y)


def vdot(tree_x: Any, tree_y: Any) -> Any:
    """The inner product: the sum of conj(x)·y over all elements."""
    return sum(trees.leaves(_with("vdot", lambda x, y: jnp.sum(jnp.conj(x) * y), tree_x, tree_y)))


def sum(tree: Any) -> Any:
    """The sum of all elements."""
    return trees.reduce(operator.add, trees.map(jnp.sum, tree), 0)


def max(tree: Any) -> Any:
    """The largest element, −inf if there is none."""
    return trees.reduce(jnp.maximum, [jnp.max(x) for x in trees.leaves(tree) if jnp.size(x)], -jnp.inf)


def min(tree: Any) -> Any:
    """The smallest element, inf if there is none."""
    return trees.reduce(jnp.minimum, [jnp.min(x) for x in trees.leaves(tree) if jnp.size(x)], jnp.inf)


def size(tree: Any) -> int:
    """The number of elements."""
    return trees.reduce(operator.add, [jnp.size(x) for x in trees.leaves(tree)], 0)


def norm(tree: Any, ord: int | float | str | None = None, squared: bool = False) -> Any:
    """The norm of all elements as one vector: 2 (default), 1 or inf."""
    if ord not in (None, 1, 2, jnp.inf, "inf", "infinity"):
        raise ArgumentError(f"norm: ord is {ord!r}", fix="choose 1, 2 or inf")
    if ord is None or ord == 2:
        square = jnp.asarray(sum(trees.map(abs_sq, tree)))
        return square if squared else jnp.sqrt(square)
    value = jnp.asarray((sum if ord == 1 else max)(trees.map(jnp.abs, tree)))
    return jnp.square(value) if squared else value


def conj(tree: Any) -> Any:
    """The complex conjugates."""
    return trees.map(jnp.conj, tree)


def real(tree: Any) -> Any:
    """The real parts."""
    return trees.map(jnp.real, tree)


def clip(tree: Any, min_value: Any = None, max_value: Any = None) -> Any:
    """The elements, between the limits."""
    return trees.map(lambda x: jnp.clip(x, min_value, max_value), tree)


def where(condition: Any, tree_x: Any, tree_y: Any) -> Any:
    """x if the condition holds, otherwise y."""
    return trees.map(lambda x, y: jnp.where(condition, x, y), tree_x, tree_y)


def zeros_like(tree: Any, dtype: Any = None) -> Any:
    """Zeros of the same shapes."""
    return trees.map(lambda x: jnp.zeros_like(x, dtype=dtype), tree)


def ones_like(tree: Any, dtype: Any = None) -> Any:
    """Ones of the same shapes."""
    return trees.map(lambda x: jnp.ones_like(x, dtype=dtype), tree)


def full_like(tree: Any, fill_value: Any, dtype: Any = None) -> Any:
    """Arrays of the same shapes, filled with a value."""
    return trees.map(lambda x: jnp.full_like(x, fill_value, dtype=dtype), tree)


def cast(tree: Any, dtype: Any) -> Any:
    """The leaves in a dtype; None leaves them as they are."""
    return tree if dtype is None else trees.map(lambda x: jnp.asarray(x).astype(dtype), tree)


def split_key_like(rng_key: Any, target_tree: Any) -> Any:
    """A key for each leaf of the target."""
    treedef = trees.structure(target_tree)
    return treedef.unflatten(random.split(rng_key, treedef.num_leaves))


def random_like(rng_key: Any, target_tree: Any, sampler: Callable[..., Any] = random.normal, dtype: Any = None) -> Any:
    """Samples with the shapes and dtypes of the target, from ``sampler(key, shape, dtype)``."""
    draw = lambda x, key: sampler(key, jnp.shape(x), dtype or jnp.result_type(x))  # noqa: E731
    return trees.map(draw, target_tree, split_key_like(rng_key, target_tree))


def get_all_with_path(tree: Any, key: str) -> list[tuple[str, Any]]:
    """All values under a name in a state: fields of states, keys of dicts, or states of the type of that name.

    >>> from funcgrad import optim
    >>> state = optim.adam(0.1).init(jnp.ones(2))
    >>> get_all_with_path(state, "count")
    [('[0].count', Array(0, dtype=int32))]
    """
    return list(_found("", tree, key))


def _found(path: str, node: Any, key: str) -> Any:
    if type(node).__name__ == key:
        yield path, node
    if hasattr(node, "_fields"):
        children = [(f".{name}", name, getattr(node, name)) for name in node._fields]
    elif isinstance(node, dict):
        children = [(f"[{name!r}]", name, value) for name, value in node.items()]
    elif isinstance(node, (tuple, list)):
        children = [(f"[{i}]", None, value) for i, value in enumerate(node)]
    else:
        return
    for step, name, value in children:
        if name == key:
            yield path + step, value
        yield from _found(path + step, value, key)


def get(tree: Any, key: str, default: Any = None) -> Any:
    """The one value under a name in a state, such as the learning rate of `inject_hyperparams`."""
    found = get_all_with_path(tree, key)
    if len(found) > 1:
        raise ArgumentError(
            f"get: {len(found)} values are called {key!r}: {', '.join(path for path, _ in found)}",
            fix="use get_all_with_path, or pass the part of the state that has one",
        )
    return found[0][1] if found else default


def set(tree: Any, **values: Any) -> Any:
    """The state with new values under the given names, wherever they occur.

    >>> from funcgrad import optim
    >>> optimizer = optim.inject_hyperparams(optim.sgd)(learning_rate=0.1)
    >>> get(set(optimizer.init(jnp.ones(2)), learning_rate=jnp.float32(0.5)), "learning_rate")
    Array(0.5, dtype=float32)
    """
    for key in values:
        if not get_all_with_path(tree, key):
            raise ArgumentError(
                f"set: no value is called {key!r} in {trees.structure(tree)}", fix="see the state's fields"
            )
    return _replaced(tree, values)


def _replaced(node: Any, values: dict[str, Any]) -> Any:
    if type(node).__name__ in values:
        return values[type(node).__name__]
    if hasattr(node, "_fields"):
        return node._replace(**_replaced(node._asdict(), values))
    if isinstance(node, dict):
        return type(node)((k, values[k] if k in values else _replaced(v, values)) for k, v in node.items())
    if isinstance(node, (tuple, list)):
        return type(node)(_replaced(value, values) for value in node)
    return node
