"""Configuration: process-wide values with thread-local overrides."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any


def _flag(name: str, default: bool) -> bool:
    return os.environ.get(f"FUNCGRAD_{name.upper()}", str(int(default))).lower() in ("1", "true", "yes", "on")


class Config(threading.local):
    """Options of the library; class attributes are the process-wide values, instance attributes this thread's overrides.

    `python_kernels` runs compiled programs with their kernels as rendered Python: slow, and open to a debugger.
    Every option is read from the environment at import as ``FUNCGRAD_<NAME>``.

    >>> from funcgrad import config
    >>> config.enable_x64
    False
    """

    enable_x64: bool = _flag("enable_x64", False)
    disable_jit: bool = _flag("disable_jit", False)
    log_compiles: bool = _flag("log_compiles", False)
    explain_cache_misses: bool = _flag("explain_cache_misses", False)
    enable_checks: bool = _flag("enable_checks", False)
    python_kernels: bool = _flag("python_kernels", False)
    numpy_dtype_promotion: str = os.environ.get("FUNCGRAD_NUMPY_DTYPE_PROMOTION", "standard")
    numpy_rank_promotion: str = os.environ.get("FUNCGRAD_NUMPY_RANK_PROMOTION", "allow")
    default_matmul_precision: Any = None
    fast_math: bool = _flag("fast_math", False)
    num_threads: int = int(os.environ.get("FUNCGRAD_NUM_THREADS", "0"))
    compilation_cache_dir: str = os.environ.get("FUNCGRAD_COMPILATION_CACHE_DIR", "")

    def update(self, name: str, value: Any) -> None:
        """Set an option for the whole process; JAX's ``jax_`` prefix is accepted."""
        setattr(Config, _known(name), value)

    @contextlib.contextmanager
    def override(self, name: str, value: Any) -> Iterator[None]:
        """Set an option in this thread for the length of a ``with`` block."""
        name = _known(name)
        had, old = name in self.__dict__, self.__dict__.get(name)
        setattr(self, name, value)
        try:
            yield
        finally:
            if had:
                setattr(self, name, old)
            else:
                delattr(self, name)


def _known(name: str) -> str:
    name = name.removeprefix("jax_")
    if name not in Config.__annotations__:
        raise AttributeError(f"unknown config option {name!r}; known: {', '.join(sorted(Config.__annotations__))}")
    return name


config = Config()


def enable_x64(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Allow (or forbid) 64-bit dtypes within a ``with`` block."""
    return config.override("enable_x64", value)


def disable_jit(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Run jitted functions eagerly, op by op, within a ``with`` block."""
    return config.override("disable_jit", value)
