"""Objects of users within transforms: nodes that look at their arrays, copies of traced values, pickles."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax, tree_util
from funcgrad.ad_checkpoint import saved_residuals
from funcgrad.experimental import checkify


@tree_util.register_pytree_node_class
class Layer:
    """A node that takes nothing but an array of rank 1."""

    def __init__(self, weight: Any):
        if weight.ndim != 1 or not hasattr(weight, "dtype"):
            raise ValueError(f"the weight is {weight!r}")
        self.weight = weight

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        return (self.weight,), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: Any) -> Layer:
        return cls(*children)


LAYER = Layer(jnp.array([1.0, 2.0]))


def double(layer: Layer) -> Layer:
    return Layer(layer.weight * 2)


def total(layer: Layer) -> Any:
    return (layer.weight**2).sum()


@fg.custom_jvp
def with_jvp(layer: Layer) -> Layer:
    return double(layer)


with_jvp.defjvp(lambda primals, tangents: (double(*primals), double(*tangents)))


@fg.custom_vjp
def with_vjp(layer: Layer) -> Layer:
    return double(layer)


with_vjp.defvjp(lambda layer: (double(layer), None), lambda _, ct: (double(ct),))

# Each doubles the layer.
USES: dict[str, Callable[[Layer], Layer]] = {
    "jit": fg.jit(double),
    "jit with a static argument": lambda layer: fg.jit(lambda n, x: double(x), static_argnums=0)(2, layer),
    "lower": lambda layer: fg.jit(double).lower(LAYER).compile()(LAYER),
    "scan": lambda layer: lax.scan(lambda c, _: (double(c), None), layer, None, length=1)[0],
    "while_loop": lambda layer: lax.while_loop(lambda c: c.weight[0] < 1.5, double, layer),
    "fori_loop": lambda layer: lax.fori_loop(0, 1, lambda i, c: double(c), layer),
    "cond": lambda layer: lax.cond(layer.weight[0] > 0, double, lambda x: x, layer),
    "switch": lambda layer: lax.switch(jnp.int32(1), [lambda x: x, double], layer),
    "checkpoint": fg.checkpoint(double),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "jvp": lambda layer: fg.jvp(double, (layer,), (layer,))[1],
    "linearize": lambda layer: fg.linearize(double, layer)[1](layer),
    "vjp": lambda layer: fg.vjp(double, layer)[1](layer)[0],
    "grad": lambda layer: fg.grad(total)(layer),
    "pure_callback": lambda layer: fg.pure_callback(double, layer, layer),
    "optimization_barrier": lambda layer: double(lax.optimization_barrier(layer)),
    "checkify": lambda layer: checkify.checkify(double)(layer)[1],
    "closure": lambda layer: fg.jit(lambda: double(layer))(),
}


@pytest.mark.parametrize("outer", [lambda f: f, fg.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_nodes_are_rebuilt_from_arrays_only(use: Callable[[Layer], Layer], outer: Any) -> None:
    np.testing.assert_array_equal(outer(use)(LAYER).weight, [2, 4])


def test_nodes_in_mapped_functions() -> None:
    class Stack:  # of layers: rank 2
        def __init__(self, weight: Any):
            assert weight.ndim in (1, 2)
            self.weight = weight

    tree_util.register_pytree_node(Stack, lambda s: ((s.weight,), None), lambda _, c: Stack(*c))
    stack = Stack(jnp.ones((3, 2)))
    twice = lambda s: Stack(s.weight * 2)  # noqa: E731
    np.testing.assert_array_equal(fg.vmap(twice)(stack).weight, np.full((3, 2), 2))
    np.testing.assert_array_equal(lax.map(twice, stack).weight, np.full((3, 2), 2))
    np.testing.assert_array_equal(lax.scan(lambda c, s: (c, twice(s)), 0, stack)[1].weight, np.full((3, 2), 2))


# Errors that name a leaf, or show a tree.
ERRORS: dict[str, tuple[Callable[[], Any], str]] = {
    "vmap": (lambda: fg.vmap(double, in_axes=1)(LAYER), r"axis 1 of args\[0\]\[<flat index 0>\]"),
    "vmap out_axes": (lambda: fg.vmap(lambda x: Layer(x[None]), out_axes=5)(jnp.ones(3)), "out_axes asks for axis 5"),
    "carry": (
        lambda: lax.fori_loop(0, 3, lambda i, c: Layer(jnp.ones(3)), LAYER),
        r"carry\[1\]\[<flat index 0>\] is f32\[2\] at the start",
    ),
    "carry's structure": (lambda: lax.fori_loop(0, 3, lambda i, c: c.weight, LAYER), r"carry in\[1\] is a Layer of 1"),
    "branches": (
        lambda: lax.cond(True, lambda x: Layer(jnp.ones(3)), double, LAYER),
        r"at \[<flat index 0>\] false_fun returns f32\[2\], true_fun f32\[3\]",
    ),
    "structures of branches": (
        lambda: lax.cond(True, lambda x: x.weight, double, LAYER),
        "false_fun is a Layer of 1, true_fun a leaf",
    ),
    "use of a traced value": (
        lambda: fg.jit(lambda layer: bool(layer.weight[0]))(LAYER),
        r"computed at test_user_objects",
    ),
    "tangents": (lambda: fg.jvp(double, (LAYER,), (LAYER.weight,)), r"primals\[0\] is a Layer of 1"),
    "tree.map": (lambda: fg.tree.map(max, LAYER, [1]), "tree 1 is a Layer of 1, tree 2 a list of 1"),
}


@pytest.mark.parametrize("call, message", ERRORS.values(), ids=ERRORS)
def test_errors_name_leaves_of_nodes(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(errors.FuncgradError, match=message):
        call()


def test_residuals_name_leaves_of_nodes() -> None:
    assert "from the argument layer[<flat index 0>]" in [why for _, why in saved_residuals(fg.checkpoint(total), LAYER)]


# ---------------------------------------------------------------- copies and pickles


@dataclasses.dataclass
class Config:
    scale: Any
    parts: dict[str, Any]


def of_config(read: Callable[[Config], tuple[Any, Any]]) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        scale, part = read(Config(x, {"part": [x, 2.0]}))
        return jnp.sum(scale * part * 3)

    return f


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": lambda x: jnp.sum(copy.copy(x) * x * 3),
    "deepcopy": lambda x: jnp.sum(copy.deepcopy(x) * x * 3),
    "deepcopy of a pytree": lambda x: jnp.sum(copy.deepcopy({"a": [x]})["a"][0] * x * 3),
    "asdict": of_config(lambda c: (dataclasses.asdict(c)["scale"], dataclasses.asdict(c)["parts"]["part"][0])),
    "astuple": of_config(lambda c: (dataclasses.astuple(c)[0], c.parts["part"][0])),
    "replace": of_config(lambda c: (dataclasses.replace(c).scale, copy.copy(c).scale)),
    "deepcopy of a dataclass": of_config(lambda c: (copy.deepcopy(c).scale, c.scale)),
}


@pytest.mark.parametrize("f", COPIES.values(), ids=COPIES)
def test_copies_of_traced_values_are_those_values(f: Callable[[Any], Any]) -> None:
    x = np.array([1.0, 2.0], np.float32)
    assert f(jnp.asarray(x)) == fg.jit(f)(x) == fg.vmap(f)(x[None])[0] == fg.checkpoint(f)(x) == 15
    np.testing.assert_array_equal(fg.grad(f)(x), 6 * x)
    np.testing.assert_array_equal(fg.jit(fg.grad(f))(x), 6 * x)
    closed = fg.make_jaxpr(f)(x)
    assert not closed.consts and closed.jaxpr.invars[0] in [v for e in closed.jaxpr.eqns for v in e.invars]


@pytest.mark.parametrize("pickler", [pickle.dumps, lambda x: pickle.dumps({"a": x}), lambda x: pickle.dumps(x, 2)])
def test_pickling_a_tracer_raises_an_explanation(pickler: Callable[[Any], bytes]) -> None:
    for transform in (fg.jit, fg.grad, lambda f: lambda x: fg.vmap(f)(np.array([x]))):
        with pytest.raises(
            errors.ConcretizationError, match=r"was pickled.*\n.*test_user_objects.*\n.*pickle what comes"
        ):
            transform(lambda x: (pickler(x), x)[1])(1.0)
