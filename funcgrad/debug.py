"""funcgrad.debug: looking into traced and compiled code while it runs."""

import builtins as _builtins
from collections.abc import Callable, Sequence
from typing import Any

from funcgrad import tree as _tree
from funcgrad.core.shardings import Sharding
from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.effects.debugger import breakpoint as breakpoint
from funcgrad.transforms.effects.debugging import debug_callback as callback
from funcgrad.transforms.effects.debugging import debug_print as print

__all__ = [
    "breakpoint",
    "callback",
    "inspect_array_sharding",
    "print",
    "visualize_array_sharding",
    "visualize_sharding",
]


def inspect_array_sharding(value: Any, *, callback: Callable[[Sharding], None]) -> None:
    """Call a function with the sharding of each array of a pytree, now or while tracing.

    >>> import builtins
    >>> import funcgrad.numpy as jnp
    >>> inspect_array_sharding(jnp.ones(2), callback=builtins.print)
    SingleDeviceSharding(device=CpuDevice(id=0), memory_kind=device)
    """
    for leaf in _tree.leaves(value):
        callback(leaf.sharding)


def visualize_sharding(shape: Sequence[int], sharding: Sharding, **options: Any) -> None:
    """Print where the parts of an array of one or two dimensions are; with one device, all is on it.

    >>> import funcgrad.numpy as jnp
    >>> visualize_array_sharding(jnp.ones((2, 2)))
    ┌───────┐
    │ CPU 0 │
    └───────┘
    """
    (device,) = sharding.device_set
    label = str(device).replace("_", " ")
    line = "─" * (len(label) + 2)
    _builtins.print(f"┌{line}┐\n│ {label} │\n└{line}┘")


def visualize_array_sharding(arr: Any, **options: Any) -> None:
    """Print where the parts of an array are; see `visualize_sharding`."""
    visualize_sharding(arr.shape, arr.sharding, **options)


_explain_missing_names(__name__)
