"""What all containers share: params and state in the structure of the parts, keys, scopes and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from funcgrad import random
from funcgrad.errors import ArgumentError
from funcgrad.nn.layer import FROM_INIT, STATE_FROM_INIT, Layer, is_constructor
from funcgrad.nn.layers.activations import Activation

Label = int | str


class Call:
    """`call(label, x)` applies a part of a container; `call.train` is whether this is training."""

    def __init__(self, apply: Callable[..., Any], train: bool = False):
        self.apply, self.train = apply, train

    def __call__(self, label: Label, x: Any, **keywords: Any) -> Any:
        return self.apply(label, x, **keywords)


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
    model: Layer

    def init(key: Any, in_shape: Any) -> tuple[Any, ...]:
        keys = _split(key, labels)
        params, state = {}, {}

        def init_part(label: Label, shape: Any) -> Any:
            with model.scope(label):
                shape, params[label], state[label] = parts[label].init_with_state(keys[label], shape)
            return shape

        shape = infer(Call(init_part), in_shape)
        results = (params, state) if model.stateful else (params,)
        return shape, *(_packed(entries, labels) for entries in results)

    def apply(params: Any, x: Any, *, state: Any = None, key: Any = None, train: bool = False, **keywords: Any) -> Any:
        own = _unpacked(name, params, labels, "params", FROM_INIT)
        given = state if model.stateful else _packed(dict.fromkeys(labels, ()), labels)
        after = _unpacked(name, given, labels, "state", STATE_FROM_INIT)
        keys, uses = _split(key, labels), dict.fromkeys(labels, 0)

        def apply_part(label: Label, x: Any, **keywords: Any) -> Any:
            again = key is not None and uses[label] > 0
            own_key = random.fold_in(keys[label], uses[label]) if again else keys[label]
            options = {"key": own_key, "train": train, **keywords}
            uses[label] += 1
            with model.scope(label):
                x, after[label] = parts[label].apply_with_state(own[label], x, after[label], **options)
            return x

        y = forward(Call(apply_part, train), x, **keywords)
        return (y, _packed(after, labels)) if model.stateful else y

    model = Layer(init, apply, name, tuple(parts.values()), labels=labels, keywords=keywords, init_cache=init_cache)
    return model


def _positional(labels: Sequence[Label]) -> bool:
    return all(isinstance(label, int) for label in labels)


def _packed(entries: Mapping[Label, Any], labels: Sequence[Label]) -> Any:
    """Return params or state by labels as a tuple for positions, as a dict for names."""
    return tuple(entries[i] for i in labels) if _positional(labels) else {name: entries[name] for name in labels}


def _unpacked(owner: str, entries: Any, labels: Sequence[Label], what: str, fix: str) -> dict[Any, Any]:
    """Return params or state by labels; raise if they are not those of the parts."""
    _check_entries(owner, entries, labels, what, fix)
    return dict(zip(labels, entries, strict=True)) if _positional(labels) else dict(entries)


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
    if _positional(labels):
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
