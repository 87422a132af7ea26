"""A common interface of the frameworks, so that each benchmark is written once for both."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple


class Framework(NamedTuple):
    """A framework: `lib` has jit, grad, value_and_grad and tree; `np` is its NumPy module."""

    name: str
    lib: Any
    np: Any

    def array(self, value: Any) -> Any:
        """Convert a NumPy array to an array of the framework."""
        return self.np.asarray(value)

    def block(self, value: Any) -> Any:
        """Wait until a result is computed; JAX returns earlier."""
        return self.lib.block_until_ready(value)


def load(name: str) -> Framework:
    """Import "funcgrad" or "jax".

    Raises:
      ModuleNotFoundError: it is not installed.
    """
    return Framework(name, importlib.import_module(name), importlib.import_module(f"{name}.numpy"))
