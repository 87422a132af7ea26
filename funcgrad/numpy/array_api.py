"""The inspection functions of the array API standard: `__array_namespace_info__` of `funcgrad.numpy`."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.devices import Device
from funcgrad.core.devices import devices as all_devices
from funcgrad.errors import ArgumentError
from funcgrad.numpy.types import isdtype

__all__ = ["__array_api_version__", "__array_namespace_info__"]

__array_api_version__ = "2024.12"


class ArrayNamespaceInfo:
    """What the namespace supports.

    >>> import funcgrad.numpy as jnp
    >>> jnp.__array_namespace_info__().default_dtypes()["real floating"]
    dtype('float32')
    """

    def capabilities(self) -> dict[str, Any]:
        """Return which optional behavior there is: no result whose shape depends on values, as under `jit`."""
        return {"boolean indexing": False, "data-dependent shapes": False, "max dimensions": 64}

    def default_device(self) -> Device:
        """Return the device of new arrays."""
        return all_devices()[0]

    def devices(self) -> list[Device]:
        """Return all devices."""
        return all_devices()

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype]:
        """Return the dtypes of new arrays by kind; they depend on `enable_x64`."""
        kinds = {"real floating": float, "complex floating": complex, "integral": int, "indexing": int}
        return {kind: dtypes.canonicalize(dtype) for kind, dtype in kinds.items()}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, np.dtype]:
        """Return the dtypes of the standard by name, of all kinds or of some; 64-bit types if they are enabled."""
        if device not in (None, *all_devices()):
            raise ArgumentError(f"dtypes: there is no device {device!r}", fix=f"use one of {all_devices()}")
        known = {d.name: d for d in dtypes.ALL if d not in (dtypes.bfloat16, dtypes.float16)}
        existing = {name: d for name, d in known.items() if dtypes.canonicalize(d) == d}
        return {name: d for name, d in existing.items() if kind is None or isdtype(d, kind)}


def __array_namespace_info__() -> ArrayNamespaceInfo:
    """Return what the namespace supports, as the array API standard demands."""
    return ArrayNamespaceInfo()
