"""Shardings: where the parts of an array live. With one device, every sharding places the whole array on it."""

from __future__ import annotations

import contextlib
import enum
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.arrays import as_array
from funcgrad.core.devices import Device, devices
from funcgrad.errors import ArgumentError, ShapeError


class AxisType(enum.Enum):
    """Who decides how arrays are partitioned along an axis of a mesh. With one device, they are the same."""

    Auto = enum.auto()
    Explicit = enum.auto()
    Manual = enum.auto()


class PartitionSpec:
    """For each dimension of an array, the mesh axis (or axes) that partitions it, or None.

    >>> PartitionSpec("batch", None)
    P('batch', None)
    """

    __slots__ = ("_partitions",)

    def __init__(self, *partitions: Any, unreduced: Any = frozenset(), reduced: Any = frozenset()):
        self._partitions = partitions

    def __iter__(self) -> Iterator[Any]:
        return iter(self._partitions)

    def __len__(self) -> int:
        return len(self._partitions)

    def __getitem__(self, index: Any) -> Any:
        return self._partitions[index]

    def __eq__(self, other: object) -> bool:
        other = other._partitions if isinstance(other, PartitionSpec) else other
        return self._partitions == other

    def __hash__(self) -> int:
        return hash(self._partitions)

    def __repr__(self) -> str:
        return f"P{self._partitions!r}"

    def axis_names(self) -> list[Any]:
        """Return the mesh axes that partition a dimension."""
        parts = (p if isinstance(p, (tuple, list)) else (p,) for p in self._partitions)
        return [name for part in parts for name in part if name is not None]


class Mesh:
    """A grid of devices with named axes.

    >>> mesh = make_mesh((1, 1), ("batch", "model"))
    >>> print(mesh)
    Mesh('batch': 1, 'model': 1, axis_types=(Explicit, Explicit))
    """

    def __init__(self, devices: Any, axis_names: Any, axis_types: Sequence[AxisType] | None = None):
        self.devices = np.asarray(devices, dtype=object)
        self.axis_names = (axis_names,) if isinstance(axis_names, str) else tuple(axis_names)
        if self.devices.ndim != len(self.axis_names):
            raise ArgumentError(
                f"Mesh: the array of devices has {self.devices.ndim} axes, axis_names are {self.axis_names}",
                fix="give one name for each axis of the array of devices",
            )
        self.axis_types = tuple(axis_types or [AxisType.Auto] * self.devices.ndim)
        self._entered: list[Any] = []

    shape = property(lambda self: OrderedDict(zip(self.axis_names, self.devices.shape, strict=True)))
    axis_sizes = property(lambda self: self.devices.shape)
    size = property(lambda self: self.devices.size)
    empty = property(lambda self: self.devices.size == 0)
    device_ids = property(lambda self: np.array([d.id for d in self.devices.flat]).reshape(self.devices.shape))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and (self.shape, list(self.devices.flat)) == (
            other.shape,
            list(other.devices.flat),
        )

    def __hash__(self) -> int:
        return hash((self.axis_names, self.devices.shape, tuple(self.devices.flat)))

    def _types(self) -> str:
        return f"({', '.join(t.name for t in self.axis_types)}{',' if len(self.axis_types) == 1 else ''})"

    def __str__(self) -> str:
        sizes = ", ".join(f"{name!r}: {size}" for name, size in self.shape.items())
        return f"Mesh({sizes}, axis_types={self._types()})"

    def __repr__(self) -> str:
        return f"Mesh(axis_sizes={self.devices.shape}, axis_names={self.axis_names}, axis_types={self._types()})"

    def __enter__(self) -> Mesh:
        self._entered.append(_state.mesh)
        _state.mesh = self
        return self

    def __exit__(self, *exc: object) -> None:
        _state.mesh = self._entered.pop()


class _State(threading.local):
    mesh: Mesh | None = None


_state = _State()


def make_mesh(
    axis_shapes: Sequence[int],
    axis_names: Sequence[str],
    axis_types: Sequence[AxisType] | None = None,
    *,
    devices: Sequence[Device] | None = None,
) -> Mesh:
    """Return a mesh of these axis sizes and names; raise ArgumentError if it needs more devices than there are.

    >>> dict(make_mesh((1,), ("x",)).shape)
    {'x': 1}
    """
    shape, available = tuple(axis_shapes), list(_devices() if devices is None else devices)
    if math.prod(shape) > len(available):
        raise ArgumentError(
            f"make_mesh: a mesh of shape {shape} needs {math.prod(shape)} devices, {len(available)} are available",
            fix="use axes of size 1",
        )
    grid = np.empty(shape, object)
    grid[...] = np.array(available[: math.prod(shape)], object).reshape(shape)
    return Mesh(grid, axis_names, axis_types or [AxisType.Explicit] * len(shape))


_devices = devices


@contextlib.contextmanager
def _restoring(previous: Mesh | None) -> Iterator[Mesh | None]:
    try:
        yield _state.mesh
    finally:
        _state.mesh = previous


def set_mesh(mesh: Mesh | None) -> contextlib.AbstractContextManager[Mesh | None]:
    """Set the mesh of this thread; as a context manager, until the end of the ``with`` block."""
    previous, _state.mesh = _state.mesh, mesh
    return _restoring(previous)


def get_mesh() -> Mesh:
    """Return the mesh that is set in this thread, or an empty one."""
    return _state.mesh if _state.mesh is not None else Mesh(np.empty((0,), object), ("_",))


class Sharding:
    """Base class of shardings."""

    memory_kind = "device"
    is_fully_addressable = True
    is_fully_replicated = True

    @property
    def device_set(self) -> set[Device]:
        """The devices that hold a part of the array."""
        return set(devices())

    addressable_devices = property(lambda self: self.device_set)
    num_devices = property(lambda self: len(self.device_set))

    def devices_indices_map(self, global_shape: Sequence[int]) -> dict[Device, tuple[slice, ...]]:
        """Return for each device the index of its part: with one device, the whole array."""
        return {device: (slice(None),) * len(global_shape) for device in self.device_set}

    addressable_devices_indices_map = devices_indices_map

    def shard_shape(self, global_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of each part."""
        return tuple(global_shape)

    def is_equivalent_to(self, other: Sharding, ndim: int) -> bool:
        """Whether both place arrays alike."""
        return self.device_set == other.device_set


class SingleDeviceSharding(Sharding):
    """The whole array on one device.

    >>> SingleDeviceSharding(devices()[0])
    SingleDeviceSharding(device=CpuDevice(id=0), memory_kind=device)
    """

    def __init__(self, device: Device, *, memory_kind: str | None = None):
        self._device = device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SingleDeviceSharding) and self._device is other._device

    def __hash__(self) -> int:
        return hash(self._device)

    def __repr__(self) -> str:
        return f"SingleDeviceSharding(device={self._device!r}, memory_kind={self.memory_kind})"


class NamedSharding(Sharding):
    """The dimensions of the array partitioned along axes of a mesh, as a `PartitionSpec` tells.

    >>> NamedSharding(make_mesh((1,), ("x",)), PartitionSpec("x")).shard_shape((4, 2))
    (4, 2)
    """

    def __init__(self, mesh: Mesh, spec: PartitionSpec, *, memory_kind: str | None = None):
        if not isinstance(mesh, Mesh) or not isinstance(spec, PartitionSpec):
            raise ArgumentError(
                f"NamedSharding: got {mesh!r:.60} and {spec!r:.60}", fix="pass a Mesh and a PartitionSpec"
            )
        unknown = [name for name in spec.axis_names() if name not in mesh.axis_names]
        if unknown:
            raise ArgumentError(
                f"NamedSharding: {spec} names {unknown[0]!r}, the axes of the mesh are {mesh.axis_names}",
                fix="use names of axes of the mesh",
            )
        self.mesh, self.spec = mesh, spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedSharding) and (self.mesh, self.spec) == (other.mesh, other.spec)

    def __hash__(self) -> int:
        return hash((self.mesh, self.spec))

    def __repr__(self) -> str:
        return f"NamedSharding(mesh={self.mesh}, spec={self.spec}, memory_kind={self.memory_kind})"


class Shard:
    """A part of an array: with one device, all of it."""

    def __init__(self, data: Any):
        self.data, self.device, self.replica_id = data, devices()[0], 0
        self.index = (slice(None),) * data.ndim

    def __repr__(self) -> str:
        return f"Shard(device={self.device!r}, index={self.index}, replica_id=0, data={self.data})"


def check_placement(operation: str, where: Any) -> None:
    """Raise unless every leaf of `where` is a device, a sharding of existing devices, a PartitionSpec, or None."""
    existing = devices()
    for leaf in tree.leaves(where):
        held = leaf.device_set if isinstance(leaf, Sharding) else {leaf}
        if not isinstance(leaf, PartitionSpec) and not all(any(d is e for e in existing) for d in held):
            raise ArgumentError(
                f"{operation}: {leaf!r:.80} is not a device or sharding of this machine",
                fix=f"the devices are {existing}: leave it out, or use SingleDeviceSharding or NamedSharding",
            )


def device_put(x: Any, device: Any = None, *, src: Any = None, donate: bool = False, may_alias: Any = None) -> Any:
    """Put the leaves of a pytree on a device, which may be given by a sharding.

    >>> device_put({"x": 1}, SingleDeviceSharding(devices()[0]))
    {'x': Array(1, dtype=int32, weak_type=True)}
    """
    check_placement("device_put", device)
    return tree.map(as_array, x)


def make_array_from_callback(
    shape: Sequence[int], sharding: Sharding, data_callback: Callable[[Any], Any], dtype: Any = None
) -> Any:
    """Return the array of the data that the callback returns for an index: with one device, all of it.

    >>> make_array_from_callback((2,), SingleDeviceSharding(devices()[0]), lambda i: np.arange(2, dtype=np.float32)[i])
    Array([0., 1.], dtype=float32)
    """
    check_placement("make_array_from_callback", sharding)
    return _whole(shape, data_callback((slice(None),) * len(shape)), dtype, "make_array_from_callback")


def make_array_from_single_device_arrays(
    shape: Sequence[int], sharding: Sharding, arrays: Sequence[Any], *, dtype: Any = None
) -> Any:
    """Return the array of the given parts: with one device, there is one."""
    check_placement("make_array_from_single_device_arrays", sharding)
    if len(arrays) != 1:
        raise ArgumentError(
            f"make_array_from_single_device_arrays: {len(arrays)} arrays for one device", fix="pass a list of one array"
        )
    return _whole(shape, arrays[0], dtype, "make_array_from_single_device_arrays")


def make_array_from_process_local_data(sharding: Sharding, local_data: Any, global_shape: Any = None) -> Any:
    """Return the array of the data of this process, which is all data."""
    check_placement("make_array_from_process_local_data", sharding)
    shape = np.shape(local_data) if global_shape is None else global_shape
    return _whole(shape, local_data, None, "make_array_from_process_local_data")


def _whole(shape: Sequence[int], data: Any, dtype: Any, operation: str) -> Any:
    array = as_array(data if dtype is None else np.asarray(data, dtype))
    if array.shape != tuple(shape):
        raise ShapeError(f"{operation}: the data have shape {array.shape}, not {tuple(shape)}", fix="pass all data")
    return array


def with_sharding_constraint(x: Any, shardings: Any) -> Any:
    """Return `x`: with one device, every sharding is the same. The shardings are checked.

    >>> with_sharding_constraint(np.float32(1), SingleDeviceSharding(devices()[0]))
    np.float32(1.0)
    """
    check_placement("with_sharding_constraint", shardings)
    return x


def reshard(xs: Any, out_shardings: Any) -> Any:
    """Return `xs`: with one device, every sharding is the same. The shardings are checked."""
    check_placement("reshard", out_shardings)
    return xs
