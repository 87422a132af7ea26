"""Devices: where arrays live."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import ArrayLike
from funcgrad.core.arrays import Array
from funcgrad.errors import ArgumentError


class Device:
    """A device that holds arrays and runs programs.

    >>> devices()
    [CpuDevice(id=0)]
    """

    __slots__ = ("platform", "device_kind", "id")
    process_index = 0
    local_hardware_id = None

    def __init__(self, platform: str, device_kind: str, id: int):
        self.platform, self.device_kind, self.id = platform, device_kind, id

    def __repr__(self) -> str:
        return f"{self.platform.capitalize()}Device(id={self.id})"

    def __str__(self) -> str:
        return f"{self.platform.upper()}_{self.id}"


_CPU = Device("cpu", "cpu", 0)


def devices(backend: str | None = None) -> list[Device]:
    """Return the devices of a backend, by default "cpu"; raise if there is no such backend.

    >>> len(devices("cpu"))
    1
    """
    if backend not in (None, "cpu"):
        raise ArgumentError(f"devices: there is no backend {backend!r}", fix="use 'cpu'")
    return [_CPU]


local_devices = devices


def device_count(backend: str | None = None) -> int:
    """Return the number of devices.

    >>> device_count()
    1
    """
    return len(devices(backend))


local_device_count = device_count


def process_index(backend: str | None = None) -> int:
    """Return the number of this process among those that compute together: 0."""
    return 0


def process_count(backend: str | None = None) -> int:
    """Return the number of processes that compute together: 1."""
    return 1


def process_indices(backend: str | None = None) -> list[int]:
    """Return the numbers of all processes that compute together: [0]."""
    return [0]


host_id, host_count, host_ids = process_index, process_count, process_indices


def default_backend() -> str:
    """Return the platform that programs run on by default.

    >>> default_backend()
    'cpu'
    """
    return _CPU.platform


def device_get(x: Any) -> Any:
    """Return a pytree's arrays as NumPy arrays. Arrays of keys stay.

    >>> import funcgrad as fg
    >>> fg.device_get(fg.device_put(np.arange(2)))
    array([0, 1], dtype=int32)
    """
    is_number = lambda leaf: isinstance(leaf, ArrayLike) and leaf.aval.dtype is not dtypes.key  # noqa: E731
    return tree.map(lambda leaf: np.asarray(leaf) if is_number(leaf) else leaf, x)


def copy_to_host_async(x: Any) -> Any:
    """Return a pytree of arrays, which are in host memory."""
    return x


def block_until_ready(x: Any) -> Any:
    """Return a pytree when all of its arrays have been computed; CPU programs finish before they return.

    >>> import funcgrad as fg
    >>> fg.block_until_ready(fg.device_put(np.arange(2)))
    Array([0, 1], dtype=int32)
    """
    return x


def live_arrays(platform: str | None = None) -> list[Array]:
    """Return all arrays that exist and have not been deleted; slow, for finding leaks."""
    return [x for x in gc.get_objects() if type(x) is Array and not x.is_deleted()]
