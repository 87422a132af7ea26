"""Layers made of other layers, their parts.

Params and state of a container have the structure of its parts: a tuple if they are positional, a dict if they are
named. The entry of a part without parameters or state is ().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from funcgrad import random
from funcgrad.errors import ArgumentError
from funcgrad.nn.layer import FROM_INIT, STATE_FROM_INIT, Layer, constructor, is_constructor
from funcgrad.nn.layers.activations import Activation

Label = int | str
Call = Callable[..., Any]


@constructor
def Sequential(*layers: Layer | Callable[[Any], Any], **named: Layer | Callable[[Any], Any]) -> Layer:
    """Compose layers in sequence; functions of arrays count as layers.

    Params are a tuple of the layers' params, or a dict if the layers have names. So is the state, if a layer has state.
    Each layer gets its own key. Errors name the layer, as in the repr.

    >>> model = Sequential(Linear(3), activations.relu, Linear(2))
    >>> print(model)
    Sequential(
      [0] Linear(3)
      [1] relu
      [2] Linear(2)
    )
    >>> _, params = model.init(random.key(0), (4,))
    >>> [sorted(p) for p in params]
    [['bias', 'kernel'], [], ['bias', 'kernel']]
    >>> _, params = Sequential(hidden=Linear(3), act=activations.relu, out=Linear(2)).init(random.key(0), (4,))
    >>> params["out"]["kernel"].shape
    (3, 2)
    """
    parts = as_parts("Sequential", layers, named)

    def forward(call: Call, x: Any) -> Any:
        for label in parts:
            x = call(label, x)
        return x

    return composed("Sequential", parts, forward, forward)


def composed(
    name: str,
    parts: Mapping[Any, Layer],
    infer: Callable[[Call, Any], Any],
    forward: Callable[..., Any],
    *,
    keywords: Sequence[str] = (),
    init_cache: Callable[[Any, int, int], Any] | None = None,
) -> Layer:
    """Return a layer made of parts, which are labeled 0, 1, … or have names.

    `infer(call, in_shape)` returns the output shape, where `call(label, in_shape)` is that of a part. It calls each
    part. `forward(call, x, **keywords)` returns the output, where `call(label, x, **keywords)` is that of a part.
    """
    labels = tuple(parts)
    positional = all(isinstance(label, int) for label in labels)
    model: Layer

    def packed(entries: dict[Any, Any]) -> Any:
        return tuple(entries[label] for label in labels) if positional else {name: entries[name] for name in labels}

    def unpacked(entries: Any, what: str, fix: str) -> dict[Any, Any]:
        _check_entries(name, entries, labels, what, fix)
        return dict(zip(labels, entries, strict=True)) if positional else entries

    def init(key: Any, in_shape: Any) -> tuple[Any, ...]:
        keys = _split(key, labels)
        params, state = {}, {}

        def call(label: Label, shape: Any) -> Any:
            with model.scope(label):
                shape, params[label], state[label] = parts[label].init_with_state(keys[label], shape)
            return shape

        shape = infer(call, in_shape)
        return (shape, packed(params), packed(state)) if model.stateful else (shape, packed(params))

    def apply(params: Any, x: Any, *, state: Any = None, key: Any = None, train: bool = False, **keywords: Any) -> Any:
        own = unpacked(params, "params", FROM_INIT)
        after = dict(unpacked(state, "state", STATE_FROM_INIT)) if model.stateful else dict.fromkeys(labels, ())
        keys = _split(key, labels)

        def call(label: Label, x: Any, **keywords: Any) -> Any:
            options = {"key": keys[label], "train": train, **keywords}
            with model.scope(label):
                x, after[label] = parts[label].apply_with_state(own[label], x, after[label], **options)
            return x

        y = forward(call, x, **keywords)
        return (y, packed(after)) if model.stateful else y

    model = Layer(init, apply, name, tuple(parts.values()), labels=labels, keywords=keywords, init_cache=init_cache)
    return model


def _split(key: Any, labels: Sequence[Label]) -> dict[Any, Any]:
    return dict(zip(labels, random.split(key, len(labels)), strict=True)) if key is not None else dict.fromkeys(labels)


def as_parts(owner: str, layers: Sequence[Any], named: Mapping[str, Any]) -> dict[Any, Layer]:
    """Return layers by their labels: positions, or names."""
    if layers and named:
        raise ArgumentError(
            f"{owner}: {len(layers)} layers without names and layers named {', '.join(named)}",
            fix="name all layers or none",
        )
    return {label: as_layer(owner, layer, label) for label, layer in (named or dict(enumerate(layers))).items()}


def as_layer(owner: str, layer: Any, label: Label) -> Layer:
    """Return a layer unchanged, and a function as an activation."""
    if isinstance(layer, Layer):
        return layer
    if is_constructor(layer):
        name = layer.__name__
        raise ArgumentError(
            f"{owner}: layer {label} is the function {name}, which makes layers", fix=f"call it: {name}()"
        )
    if callable(layer):
        return Activation(layer)
    fix = "pass layers, e.g. nn.Linear(3), or functions of arrays, e.g. nn.relu"
    fix = f"pass the layers as separate arguments: {owner}(*layers)" if isinstance(layer, Sequence) else fix
    fix = f"pass the layers as separate arguments: {owner}(**layers)" if isinstance(layer, dict) else fix
    fix = fix if not isinstance(layer, str) else "pass the function, e.g. nn.relu"
    raise ArgumentError(f"{owner}: layer {label} is {layer!r:.60} of type {type(layer).__name__}", fix=fix)


def _check_entries(owner: str, given: Any, labels: Sequence[Any], what: str, fix: str) -> None:
    """Raise unless there is one entry of the params or the state for each part."""
    count = len(labels)
    if isinstance(labels[0] if labels else 0, int):
        if not isinstance(given, Sequence):
            raise ArgumentError(f"{owner}: {what} of type {type(given).__name__} for {count} layers", fix=fix)
        if len(given) != count:
            raise ArgumentError(f"{owner}: {what} of {len(given)} layers for {count} layers", fix=fix)
    elif not isinstance(given, Mapping):
        raise ArgumentError(f"{owner}: {what} of type {type(given).__name__} for layers {', '.join(labels)}", fix=fix)
    elif set(given) != set(labels):
        missing = [repr(label) for label in labels if label not in given]
        extra = [repr(label) for label in given if label not in labels]
        differences = [f"{kind} {', '.join(found)}" for kind, found in (("lacks", missing), ("has", extra)) if found]
        raise ArgumentError(
            f"{owner}: {what} {' and '.join(differences)}, for layers {', '.join(map(str, labels))}", fix=fix
        )
