"""What a benchmark asks of a framework, so that its code is written once for both."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple


class Framework(NamedTuple):
    """A framework: `lib` has jit, grad, value_and_grad and tree; `np` is its NumPy module."""

    name: str
    lib: Any
    np: Any

    def array(self, value: Any) -> Any:
        """Put a NumPy array into the framework's memory."""
        return self.np.asarray(value)

    def block(self, value: Any) -> Any:
        """Wait until a result is computed: JAX returns before it is."""
        return self.lib.block_until_ready(value)


def load(name: str) -> Framework:
    """Import "funcgrad" or "jax".

    Raises:
      ModuleNotFoundError: it is not installed.
    """
    return Framework(name, importlib.import_module(name), importlib.import_module(f"{name}.numpy"))
