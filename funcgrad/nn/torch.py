"""Parameters and state from PyTorch, by name, and back.

A layer declares the tensors of its PyTorch module with `torch_tensors`, next to its definition. Names of parts are the
labels of containers: the kernel of `Sequential(first=Linear(3))` is `first.weight`, as in a PyTorch module with an
attribute `first`, and that of `Sequential(Linear(3))` is `0.weight`. PyTorch is not imported: tensors are what NumPy
can read, and results are NumPy arrays.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import funcgrad.numpy as jnp
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.nn.layer import Layer, abstract_init


class Tensor(NamedTuple):
    """A tensor of a PyTorch module, and the params of a layer that it holds.

    `ours` are paths in the params of the layer, such as "kernel" or "kernel/direction", or in its state if `in_state`.
    `load` maps the tensor to their values, and `save` maps these to the tensor; with one path, they are arrays, else
    tuples. Without paths, `load` is not called. Values of several tensors for one path are added.
    """

    name: str
    ours: tuple[str, ...]
    load: Callable[..., Any] = lambda x: x
    save: Callable[..., Any] = lambda x: x
    in_state: bool = False


def permuted(name: str, ours: str, *order: int) -> Tensor:
    """Return a tensor whose axes have another order in PyTorch: axis i of the parameter is `order[i]` there."""
    return Tensor(
        name,
        (ours,),
        lambda x: np.transpose(x, order),
        lambda x: np.transpose(x, tuple(int(i) for i in np.argsort(order))),
    )


def bias_tensors(layer: Layer) -> list[Tensor]:
    """Return the tensor of the bias, if the layer has one."""
    return [Tensor("bias", ("bias",))] if layer.options["bias"] else []


def kinds() -> list[str]:
    """Return the kinds of layers whose tensors are declared."""
    return sorted(_TABLES)


_TABLES: dict[str, Callable[[Layer], list[Tensor]]] = {}
_NAMES: dict[str, Mapping[str, str]] = {}


def torch_tensors(*kinds: str) -> Callable[[Callable[[Layer], list[Tensor]]], Callable[[Layer], list[Tensor]]]:
    """Decorate a function that returns the tensors of the PyTorch modules of layers of some kinds."""

    def declare(table: Callable[[Layer], list[Tensor]]) -> Callable[[Layer], list[Tensor]]:
        _TABLES.update(dict.fromkeys(kinds, table))
        return table

    return declare


def torch_names(kind: str, names: Mapping[str, str]) -> None:
    """Declare the names that the parts of a composed layer have in PyTorch, where they are not the labels."""
    _NAMES[kind] = names


def tensors_of(layer: Layer) -> list[Tensor]:
    """Return the tensors that a layer and its parts have in PyTorch, with the names and paths from this layer."""
    if layer.kind in _TABLES:
        return _TABLES[layer.kind](layer)
    found = [nested(t, str(label), str(label)) for label, part in parts_of(layer) for t in tensors_of(part)]
    return [t._replace(name=_renamed(t.name, _NAMES.get(layer.kind, {}))) for t in found]


def parts_of(layer: Layer) -> Iterator[tuple[int | str, Layer]]:
    """Yield the labels and layers of a composed layer."""
    return zip(layer.labels, layer.layers, strict=True)


def nested(tensor: Tensor, prefix: str, path: str) -> Tensor:
    """Return a tensor of a part, which has a name in PyTorch and a path in the params."""
    return tensor._replace(name=f"{prefix}.{tensor.name}", ours=tuple(f"{path}/{p}" for p in tensor.ours))


# ---------------------------------------------------------------- from and to


def from_torch(
    model: Layer, state_dict: Mapping[str, Any], *, in_shape: Any = None, rename: Mapping[str, str] | None = None
) -> Any:
    """Return the params of a model from the state dict of a PyTorch module; (params, state) if the model has state.

    Args:
      in_shape: the shape of one example. If it is given, all shapes are checked; otherwise, when the model is applied.
      rename: names or prefixes of names in PyTorch, and those of this model that they stand for: {"fc1": "hidden"}.

    Raises:
      ArgumentError: names are missing, or there are others.
      ShapeError: a tensor has another shape.

    >>> from funcgrad import nn
    >>> weights = {"fc.weight": np.ones((3, 4)), "fc.bias": np.zeros(3)}
    >>> from_torch(nn.Sequential(out=nn.Linear(3)), weights, rename={"fc": "out"})["out"]["kernel"].shape
    (4, 3)
    """
    tensors = tensors_of(model)
    given = {_renamed(name, rename or {}): value for name, value in state_dict.items()}
    _check_names([t.name for t in tensors], given)
    expected = None if in_shape is None else abstract_init(model, in_shape)
    values: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for tensor in tensors:
        if tensor.ours:
            loaded = _loaded(tensor, as_numpy(given[tensor.name]), expected)
            own = values[tensor.in_state]
            for path, value in zip(tensor.ours, loaded, strict=True):
                own[path] = own[path] + value if path in own else value
    params = _tree(model, values[False], "")
    return (params, _tree(model, values[True], "")) if model.stateful else params


def to_torch(model: Layer, params: Any, state: Any = None) -> dict[str, np.ndarray]:
    """Return the state dict of the PyTorch module that computes the same as a model, as NumPy arrays.

    `module.load_state_dict({name: torch.tensor(x) for name, x in to_torch(model, params).items()})` loads it.

    >>> from funcgrad import nn, random
    >>> model = nn.Sequential(nn.Linear(3), nn.relu, nn.Linear(2, bias=False))
    >>> {name: x.shape for name, x in to_torch(model, model.init(random.key(0), 4)[1]).items()}
    {'0.weight': (3, 4), '0.bias': (3,), '2.weight': (2, 3)}
    """
    if model.stateful and state is None:
        fix = "pass the state that init or apply returned: to_torch(model, params, state)"
        raise ArgumentError("to_torch: no state for a model with state", fix=fix)
    tensors = tensors_of(model)
    for entries, in_state in ((params, False), (state, True)):
        held = {path for tensor in tensors if tensor.in_state is in_state for path in tensor.ours}
        others = [path for path in _paths(entries) if path not in held]
        if others:
            raise ArgumentError(
                f"to_torch: no tensor holds {_listed(others)}",
                fix="pass params and state of this model; `torch_tensors` declares the tensors of a kind of layer",
            )
    found = {}
    for tensor in tensors:
        arrays = [np.asarray(_entry(state if tensor.in_state else params, path)) for path in tensor.ours]
        found[tensor.name] = np.ascontiguousarray(tensor.save(*arrays))
    return found


def as_numpy(value: Any) -> np.ndarray:
    """Return a tensor of PyTorch, or any array, as a NumPy array; bfloat16 as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    for old, new in rename.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return name


def _check_names(expected: Sequence[str], given: Mapping[str, Any]) -> None:
    missing = [name for name in expected if name not in given]
    extra = [name for name in given if name not in expected]
    if not missing and not extra:
        return
    pairs = {name: difflib.get_close_matches(name, extra, 1, 0.0) for name in missing}
    maybe = [
        f"{found[0]!r} may be {name!r}" for name, found in pairs.items() if found and _last(found[0]) == _last(name)
    ]
    problems = [f"{what} {_listed(names)}" for what, names in (("lacks", missing), ("has", extra)) if names]
    raise ArgumentError(
        f"from_torch: the state dict {', and '.join(problems)}, which the model "
        f"{'needs' if missing else 'does not have'}" + (f"; {', '.join(maybe[:3])}" if maybe else ""),
        fix="give the parts of the model the names of the modules, or pass rename={'fc1': 'hidden'}",
    )


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:4])) + (f" and {len(names) - 4} others" if len(names) > 4 else "")


def _loaded(tensor: Tensor, value: np.ndarray, expected: tuple[Any, Any] | None) -> list[Any]:
    """Return the values that a tensor holds, with the shapes that the model has."""
    try:
        found = tensor.load(value)
    except ValueError:
        raise ShapeError(
            f"from_torch: {tensor.name!r} has shape {value.shape}, which does not fit {' and '.join(tensor.ours)}",
            fix="the layer of the model is another one than that of the PyTorch module",
        ) from None
    arrays = [jnp.asarray(x) for x in (found if len(tensor.ours) > 1 else [found])]
    for path, array in zip(tensor.ours, arrays, strict=True):
        shape = None if expected is None else _entry(expected[tensor.in_state], path).shape
        if shape not in (None, array.shape):
            raise ShapeError(
                f"from_torch: {tensor.name!r} of shape {value.shape} gives {path} the shape {array.shape}, "
                f"and the model has {shape}",
                fix="give the model the sizes of the PyTorch module, and init the in_shape of its examples",
            )
    return arrays


def _entry(entries: Any, path: str) -> Any:
    for label in path.split("/"):
        if isinstance(entries, Mapping):
            if label not in entries:
                raise ArgumentError(f"to_torch: no {path!r} in the params or state", fix="pass those of this model")
            entries = entries[label]
        elif isinstance(entries, Sequence) and label.isdigit() and int(label) < len(entries):
            entries = entries[int(label)]
        else:
            raise ArgumentError(f"to_torch: no {path!r} in the params or state", fix="pass those of this model")
    return entries


def _paths(entries: Any) -> list[str]:
    """Return the paths of the arrays in params or state."""
    if isinstance(entries, Mapping | tuple | list):
        parts = entries.items() if isinstance(entries, Mapping) else enumerate(entries)
        return ["/".join(filter(None, (str(label), path))) for label, part in parts for path in _paths(part)]
    return [] if entries is None else [""]


def _tree(layer: Layer, values: Mapping[str, Any], prefix: str) -> Any:
    """Return the params or the state of a layer from the values at paths that start with `prefix`."""
    own = {path[len(prefix) :]: value for path, value in values.items() if path.startswith(prefix)}
    if layer.kind in _TABLES or not layer.layers:
        without = {str(label): () for label, part in parts_of(layer) if not tensors_of(part)}
        return {**_nested(own), **without} if without else _nested(own) or ()
    parts = {label: _tree(part, values, f"{prefix}{label}/") for label, part in parts_of(layer)}
    return parts if isinstance(layer.labels[0], str) else tuple(parts.values())


def _nested(values: Mapping[str, Any]) -> Any:
    """Return values by paths as a tree: tuples where all labels are positions, dicts otherwise."""
    branches: dict[str, dict[str, Any]] = {}
    leaves = {}
    for path, value in values.items():
        label, _, rest = path.partition("/")
        if rest:
            branches.setdefault(label, {})[rest] = value
        else:
            leaves[label] = value
    found = {**leaves, **{label: _nested(inner) for label, inner in branches.items()}}
    return tuple(found.values()) if found and all(label.isdigit() for label in found) else found
