"""Attach operators and methods to arrays and tracers. This is the only module that does."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from funcgrad.core.array_types import ArrayLike
from funcgrad.core.devices import Device, devices
from funcgrad.core.shardings import Shard, Sharding, SingleDeviceSharding, device_put
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError
from funcgrad.numpy import (
    at,
    bits,
    composite,
    creation,
    index_expressions,
    indexing,
    masks,
    matrices,
    number_parts,
    products,
    protocols,
    reductions,
    shapes,
    sorting,
    ufuncs,
)

_OPERANDS = (ArrayLike, np.ndarray, np.generic, bool, int, float, complex)
_CONTAINERS = (list, tuple, set, dict)


def _no_shortcut(x: Any, y: Any) -> None:
    return None


def _is_operand(x: Any) -> bool:
    return isinstance(x, _OPERANDS) or hasattr(x, "__jax_array__")


def _not_an_operand(operation: str, x: Any, y: Any) -> Any:
    """Raise for Python containers; return NotImplemented for other types, so that Python tries their operator.

    For a container, Python would silently do something else: ``x == [1, 2]`` is False, ``[1, 2] * n`` repeats the list.
    """
    if type(x) in _CONTAINERS or type(y) in _CONTAINERS:
        left, right = (z.aval.short() if isinstance(z, ArrayLike) else f"a {type(z).__name__}" for z in (x, y))
        raise ArgumentError(
            f"{operation}: operands are {left} and {right}",
            fix="convert lists and other sequences with funcgrad.numpy.asarray first",
        )
    return NotImplemented


def _binary(function: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the operator and the reflected operator."""
    shortcut = getattr(function, "shortcut", _no_shortcut)

    def operator(self: Any, other: Any) -> Any:
        out = shortcut(self, other)
        if out is not None:
            return out
        return function(self, other) if _is_operand(other) else _not_an_operand(function.__name__, self, other)

    def reflected(self: Any, other: Any) -> Any:
        out = shortcut(other, self)
        if out is not None:
            return out
        return function(other, self) if _is_operand(other) else _not_an_operand(function.__name__, other, self)

    return operator, reflected


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: function(self)


for _name, _function in {
    "add": ufuncs.add,
    "sub": ufuncs.subtract,
    "mul": ufuncs.multiply,
    "truediv": ufuncs.divide,
    "floordiv": composite.floor_divide,
    "mod": composite.remainder,
    "divmod": composite.divmod,
    "pow": composite.power,
    "matmul": products.matmul,
    "and": ufuncs.bitwise_and,
    "or": ufuncs.bitwise_or,
    "xor": ufuncs.bitwise_xor,
    "lshift": ufuncs.left_shift,
    "rshift": ufuncs.right_shift,
}.items():
    _operator, _reflected = _binary(_function)
    setattr(ArrayLike, f"__{_name}__", _operator)
    setattr(ArrayLike, f"__r{_name}__", _reflected)

for _name, _function in {
    "eq": ufuncs.equal,
    "ne": ufuncs.not_equal,
    "lt": ufuncs.less,
    "le": ufuncs.less_equal,
    "gt": ufuncs.greater,
    "ge": ufuncs.greater_equal,
}.items():
    setattr(ArrayLike, f"__{_name}__", _binary(_function)[0])

for _name, _function in {
    "neg": ufuncs.negative,
    "pos": number_parts.positive,
    "abs": ufuncs.absolute,
    "invert": ufuncs.bitwise_not,
}.items():
    setattr(ArrayLike, f"__{_name}__", _unary(_function))


def _round(self: Any, ndigits: int | None = None) -> Any:
    """Round to `ndigits` decimals, or to integers without `ndigits`."""
    out = composite.round(self, ndigits or 0)
    return out if ndigits is not None else out.astype(int)


_PROTOCOLS = {
    "__round__": _round,
    "__getitem__": index_expressions.getitem,
    "__iter__": index_expressions.iterate,
    "__setitem__": at.setitem,
    "at": property(at.IndexHelper, doc=at.IndexHelper.__doc__),
}
for _name, _value in _PROTOCOLS.items():
    setattr(ArrayLike, _name, _value)

# ---------------------------------------------------------------- methods that are functions of the namespace


def _method(function: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__qualname__ = f"ArrayLike.{function.__name__}"
    return method


for _module, _names in {
    reductions: "all any argmax argmin cumprod cumsum max mean min prod ptp std sum var",
    composite: "round",
    ufuncs: "conj conjugate",
    products: "dot trace",
    shapes: "ravel repeat squeeze swapaxes",
    sorting: "argpartition argsort partition searchsorted sort",
    creation: "copy",
    matrices: "diagonal",
    indexing: "choose take",
    masks: "nonzero",
    bits: "view",
}.items():
    for _name in _names.split():
        setattr(ArrayLike, _name, _method(getattr(_module, _name)))


def _reshape(self: Any, *shape: Any, order: str = "C", **options: Any) -> Any:
    """Reshape to a shape passed as one tuple or as separate sizes; one size may be −1."""
    if not shape and "shape" in options:
        shape = (options.pop("shape"),)
    return shapes.reshape(self, shape[0] if len(shape) == 1 else shape, order, **options)


def _transpose(self: Any, *axes: Any) -> Any:
    """Permute the axes, passed as one tuple or as separate arguments; reverse them by default."""
    alone = len(axes) == 1 and not isinstance(axes[0], (int, np.integer))
    return shapes.transpose(self, axes[0] if alone else axes or None)


def _astype(self: Any, dtype: Any, copy: bool = False, device: Any = None) -> Any:
    """Cast. Floats saturate to the integer range, NaN becomes 0; complex to real drops the imaginary part."""
    return creation.astype(self, dtype)


def _flatten(self: Any, order: str = "C", *, out_sharding: Any = None) -> Any:
    """Return the elements as a vector."""
    return shapes.ravel(self, order)


def _compress(self: Any, condition: Any, axis: int | None = None, **options: Any) -> Any:
    """Select the slices along an axis where `condition` is true; options as for `compress`."""
    return masks.compress(condition, self, axis, **options)


def _clip(self: Any, min: Any = None, max: Any = None) -> Any:
    """Clip to [min, max]; None means no bound."""
    return composite.clip(self, min, max)


def _clone(self: Any) -> Any:
    """Return a copy of the array."""
    return creation.copy(self)


def _to_device(self: Any, device: Any, *, stream: Any = None) -> Any:
    """Return the array on a device."""
    return device_put(self, device)


def _devices(self: Any) -> set[Device]:
    """Return the devices that hold the array."""
    return set(devices())


ARRAY_API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


def _is_ready(self: Any) -> bool:
    """Whether the array has been computed. CPU programs finish before they return."""
    return True


def _copy_to_host_async(self: Any) -> None:
    """Do nothing: the array is in host memory."""


def _on_device_size_in_bytes(self: Any) -> int:
    """Return the number of bytes of the array."""
    return self.nbytes


def _addressable_data(self: Any, index: int) -> Any:
    """Return the data of a shard; there is one, with all data."""
    return self.addressable_shards[index].data


def _array_namespace(self: Any, /, *, api_version: str | None = None) -> ModuleType:
    """Return `funcgrad.numpy`, as the array API standard demands."""
    if api_version not in (None, *ARRAY_API_VERSIONS):
        raise ArgumentError(
            f"__array_namespace__: version {api_version!r} of the array API", fix=f"use one of {ARRAY_API_VERSIONS}"
        )
    return sys.modules["funcgrad.numpy"]


def _shards(self: Any) -> list[Shard]:
    return [Shard(self)]


def _sharding(self: Any) -> Sharding:
    return SingleDeviceSharding(devices()[0])


_METHODS = {
    "__array_namespace__": _array_namespace,
    "addressable_data": _addressable_data,
    "copy_to_host_async": _copy_to_host_async,
    "is_ready": _is_ready,
    "on_device_size_in_bytes": _on_device_size_in_bytes,
    "reshape": _reshape,
    "transpose": _transpose,
    "astype": _astype,
    "flatten": _flatten,
    "clip": _clip,
    "clone": _clone,
    "compress": _compress,
    "to_device": _to_device,
    "devices": _devices,
}
for _name, _function in _METHODS.items():
    _function.__name__, _function.__qualname__ = _name, f"ArrayLike.{_name}"
    setattr(ArrayLike, _name, _function)

for _name, _function in {
    "T": shapes.transpose,
    "mT": shapes.matrix_transpose,
    "real": ufuncs.real,
    "imag": ufuncs.imag,
    "flat": shapes.ravel,
}.items():
    setattr(ArrayLike, _name, property(_unary(_function), doc=_function.__doc__))
for _name, _function, _doc in (
    ("addressable_shards", _shards, "The parts of the array in this process: one, with all data."),
    ("committed", lambda self: False, "Whether the array was put on a device by the user."),
    ("device", lambda self: devices()[0], "The device that holds the array."),
    ("global_shards", _shards, "The parts of the array: one, with all data."),
    ("is_fully_addressable", lambda self: True, "Whether all of the array is in this process."),
    ("is_fully_replicated", lambda self: True, "Whether every device holds all of the array."),
    ("platform", lambda self: devices()[0].platform, "The platform of the device."),
    ("sharding", _sharding, "Where the parts of the array are."),
):
    setattr(ArrayLike, _name, property(_function, doc=_doc))

# ---------------------------------------------------------------- NumPy functions on tracers

for _name, _function in {
    "__array_ufunc__": protocols.array_ufunc,
    "__array_function__": protocols.array_function,
}.items():
    setattr(Tracer, _name, _function)
