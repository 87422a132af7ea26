"""Layers made of other layers, their parts.

Params and state of a container have the structure of its parts: a tuple if they are positional, a dict if they are
named. The entry of a part without parameters or state is ().
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import random, tree
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.layer import Layer, constructor, infer_shape
from funcgrad.nn.layers.composition import Call, Label, as_parts, composed
from funcgrad.transforms.flattening import name_of
from funcgrad.transforms.make_jaxpr import eval_shape


@constructor
def Sequential(*layers: Layer | Callable[[Any], Any], **named: Layer | Callable[[Any], Any]) -> Layer:
    """Compose layers in sequence; functions of arrays count as layers.

    Params are a tuple of the layers' params, or a dict if the layers have names. So is the state, if a layer has state.
    Each layer gets its own key. Errors name the layer, as in the repr.

    >>> from funcgrad import nn
    >>> model = nn.Sequential(nn.Linear(3), nn.relu, nn.Linear(2))
    >>> print(model)
    Sequential(
      [0] Linear(3)
      [1] relu
      [2] Linear(2)
    )
    >>> _, params = model.init(random.key(0), (4,))
    >>> [sorted(p) for p in params]
    [['bias', 'kernel'], [], ['bias', 'kernel']]
    >>> _, params = nn.Sequential(hidden=nn.Linear(3), act=nn.relu, out=nn.Linear(2)).init(random.key(0), (4,))
    >>> params["out"]["kernel"].shape
    (3, 2)
    """
    parts = as_parts("Sequential", layers, named)

    def forward(call: Call, x: Any) -> Any:
        for label in parts:
            x = call(label, x)
        return x

    return composed("Sequential", parts, forward, forward)


@constructor
def Residual(layer: Layer | Callable[[Any], Any], shortcut: Layer | Callable[[Any], Any] | None = None) -> Layer:
    """layer(x) + x, or layer(x) + shortcut(x). Params: {"layer": …}, and {"shortcut": …} if there is one.

    >>> from funcgrad import nn
    >>> nn.Residual(nn.Linear(4)).init(random.key(0), (4,))[0]
    (4,)
    """
    parts = as_parts("Residual", (), {"layer": layer} if shortcut is None else {"layer": layer, "shortcut": shortcut})

    def infer(call: Call, in_shape: Any) -> Any:
        out, other = call("layer", in_shape), in_shape if shortcut is None else call("shortcut", in_shape)
        if out != other:
            raise ShapeError(
                f"Residual: the layer maps {in_shape} to {out}, and the shortcut to {other}",
                fix="give a shortcut with the output shape of the layer, e.g. nn.Linear or nn.Conv2d",
            )
        return out

    def forward(call: Call, x: Any) -> Any:
        return call("layer", x) + (x if shortcut is None else call("shortcut", x))

    return composed("Residual", parts, infer, forward)


@constructor
def Parallel(
    *layers: Layer | Callable[[Any], Any],
    merge: str = "tuple",
    axis: int = -1,
    **named: Layer | Callable[[Any], Any],
) -> Layer:
    """Apply layers to the same input and merge their outputs: as a "tuple", their "sum", or "concatenate" on an axis.

    Params and state are tuples, or dicts if the layers have names.

    >>> from funcgrad import nn
    >>> nn.Parallel(nn.Linear(3), nn.Linear(2), merge="concatenate").init(random.key(0), (4,))[0]
    (5,)
    """
    if merge not in _MERGES:
        raise ArgumentError(f"Parallel: merge is {merge!r}", fix=f"choose one of {', '.join(_MERGES)}")
    parts = as_parts("Parallel", layers, named)
    if not parts:
        raise ArgumentError("Parallel: no layers", fix="give at least one")

    def infer(call: Call, in_shape: Any) -> Any:
        shapes = tuple(call(label, in_shape) for label in parts)
        if merge == "tuple":
            return shapes
        batches = [ShapeDtypeStruct((1, *shape), "float32") for shape in shapes]
        return eval_shape(lambda xs: _MERGES[merge](xs, axis), batches).shape[1:]

    def forward(call: Call, x: Any) -> Any:
        return _MERGES[merge]([call(label, x) for label in parts], axis)

    return composed("Parallel", parts, infer, forward)


_MERGES: dict[str, Callable[[Sequence[Any], int], Any]] = {
    "tuple": lambda xs, axis: tuple(xs),
    "sum": lambda xs, axis: functools.reduce(operator.add, xs),
    "concatenate": jnp.concatenate,
}


@constructor
def Compose(function: Callable[..., Any], **layers: Layer | Callable[[Any], Any]) -> Layer:
    """A function of its layers and the input as a layer. Params: a dict with those of the layers, by their names.

    The function gets an object with the layers as attributes, which are functions of their input, and x. `train` of
    `apply` is an attribute too. It may apply a layer several times; then the same params are used. Keyword-only
    arguments of the function are further arguments of `apply`; `init` uses their defaults. It traces the function, and
    initializes each layer with the shape that it gets first.

    >>> from funcgrad import nn
    >>> def block(layers, x):
    ...     return layers.project(nn.relu(layers.expand(x))) + x
    >>> model = nn.Compose(block, expand=nn.Linear(8), project=nn.Linear(4))
    >>> shape, params = model.init(random.key(0), (4,))
    >>> shape, params["project"]["kernel"].shape
    ((4,), (8, 4))
    """
    parts = as_parts("Compose", (), layers)

    if "train" in parts:
        raise ArgumentError(
            "Compose: a layer is named 'train'", fix="rename it: layers.train is whether this is training"
        )

    def infer(call: Call, in_shape: Any) -> Any:
        shapes: dict[Label, Any] = {}

        def trace(name: Label, x: Any) -> Any:
            shape = tree.map(lambda leaf: leaf.shape[1:], x)
            shapes.setdefault(name, shape)
            out = parts[name].init(random.key(0), shape)[0]
            several = bool(out) and isinstance(out[0], tuple)
            return tuple(map(jnp.zeros, [(1, *s) for s in out])) if several else jnp.zeros((1, *out))

        out = infer_shape(lambda x: function(_bound(Call(trace), parts), x), in_shape)
        unused = [name for name in parts if name not in shapes]
        if unused:
            raise ArgumentError(
                f"Compose: {name_of(function)} does not apply {', '.join(unused)}", fix="apply it, or leave it out"
            )
        for name, shape in shapes.items():
            call(name, shape)
        return out

    def forward(call: Call, x: Any, **keywords: Any) -> Any:
        return function(_bound(call, parts), x, **keywords)

    keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return composed(name_of(function), parts, infer, forward, keywords=keywords)


def _bound(call: Call, parts: Mapping[Any, Layer]) -> SimpleNamespace:
    """Return an object with the parts as attributes, which are functions of their input."""
    return SimpleNamespace(train=call.train, **{name: functools.partial(call, name) for name in parts})
