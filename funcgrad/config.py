"""Configuration: process-wide values with thread-local overrides."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from funcgrad.errors import ArgumentError


def _flag(name: str) -> bool:
    return os.environ.get(f"FUNCGRAD_{name.upper()}", "0").lower() in ("1", "true", "yes", "on")


class Config(threading.local):
    """Options of the library. Class attributes are process-wide values, instance attributes are thread-local overrides.

    - `enable_x64`: allow 64-bit dtypes, and use them for Python scalars.
    - `debug_nans`, `debug_infs`: raise FloatingPointError if an operation makes a NaN, or an infinity.
    - `disable_jit`: run jitted functions op by op.
    - `log_compiles`, `explain_cache_misses`: print to stderr what is compiled, and why a function is traced again.
    - `check_tracer_leaks`: raise if tracers are still referenced at the end of their trace. This is slow.
    - `enable_checks`: check the output of each pass of the compiler.
    - `python_kernels`: run the kernels of compiled programs as Python. This is slow, but allows a debugger.
    - `numpy_dtype_promotion`: "standard", or "strict" to forbid operations on arrays of different dtypes.
    - `numpy_rank_promotion`: "allow", "warn" or "raise" when arrays of different ranks broadcast.
    - `debug_key_reuse`, `default_device`, `default_prng_impl`, `transfer_guard` and others of JAX: accepted, see
      `WITHOUT_EFFECT`.
    - `default_matmul_precision`: accepted as in JAX; products are always computed in full precision.
    - `traceback_filtering`: how tracebacks show frames of the library: "off" (all of them), "tracebackhide" (hidden in
      IPython and pytest), "remove_frames" (removed; the cause has the full traceback), "quiet_remove_frames" (removed),
      or "auto" ("tracebackhide" in IPython and Jupyter, otherwise "quiet_remove_frames").
    - `num_threads`: the number of threads a program may use; 0 means all processors available to the process.
    - `cpu_target`: the compiler of programs, "llvm" or "numba".
    - `compilation_cache_dir`: the directory of compiled code, by default `$FUNCGRAD_CACHE_DIR` or `~/.cache/funcgrad`.

    Every option but the last is read from the environment at import as ``FUNCGRAD_<NAME>``.

    >>> from funcgrad import config
    >>> config.enable_x64
    False
    """

    enable_x64: bool = _flag("enable_x64")
    debug_nans: bool = _flag("debug_nans")
    debug_infs: bool = _flag("debug_infs")
    disable_jit: bool = _flag("disable_jit")
    log_compiles: bool = _flag("log_compiles")
    explain_cache_misses: bool = _flag("explain_cache_misses")
    check_tracer_leaks: bool = _flag("check_tracer_leaks")
    enable_checks: bool = _flag("enable_checks")
    python_kernels: bool = _flag("python_kernels")
    numpy_dtype_promotion: str = os.environ.get("FUNCGRAD_NUMPY_DTYPE_PROMOTION", "standard")
    numpy_rank_promotion: str = os.environ.get("FUNCGRAD_NUMPY_RANK_PROMOTION", "allow")
    default_matmul_precision: str | None = os.environ.get("FUNCGRAD_DEFAULT_MATMUL_PRECISION")
    traceback_filtering: str = os.environ.get("FUNCGRAD_TRACEBACK_FILTERING", "auto")
    num_threads: int = int(os.environ.get("FUNCGRAD_NUM_THREADS", "0"))
    cpu_target: str = os.environ.get("FUNCGRAD_CPU_TARGET", "llvm")
    compilation_cache_dir: str = ""

    # Together, these identify the values of the options that traces and programs depend on; jit caches use them as
    # keys.
    process_key: ClassVar[tuple[Any, ...]] = ()
    thread_key: ClassVar[tuple[Any, ...]] = ()
    # Whether debug_nans or debug_infs is on. Every eager operation reads it.
    checks_values: ClassVar[bool] = False

    def update(self, name: str, value: Any) -> None:
        """Set an option for the whole process, as `config.name = value` does; JAX's ``jax_`` prefix is accepted."""
        if name.removeprefix("jax_") in WITHOUT_EFFECT:
            return
        name = _option_name(name)
        setattr(Config, name, _validate(name, value))
        Config.process_key = tuple(getattr(Config, option) for option in _SPECIALIZING)
        Config.checks_values = Config.debug_nans or Config.debug_infs
        for function in _listeners.get(name, ()):
            function()

    __setattr__ = update

    @contextlib.contextmanager
    def override(self, name: str, value: Any) -> Iterator[None]:
        """Set an option in this thread within a ``with`` block."""
        name = _option_name(name)
        value = _validate(name, value)
        before = dict(self.__dict__)
        self._set_own(before | {name: value})
        try:
            yield
        finally:
            self._set_own(before)

    def _set_own(self, values: dict[str, Any]) -> None:
        own = self.__dict__
        own.clear()
        own.update(values)
        own["thread_key"] = tuple((option, own[option]) for option in _SPECIALIZING if option in own)
        own.pop("checks_values", None)
        if "debug_nans" in own or "debug_infs" in own:
            own["checks_values"] = self.debug_nans or self.debug_infs


WITHOUT_EFFECT = (
    "allow_f16_reductions",
    "array_garbage_collection_guard",
    "auto_pcast",
    "debug_key_reuse",
    "default_device",
    "default_prng_impl",
    "enable_custom_prng",
    "jax2tf_associative_scan_reductions",
    "legacy_prng_key",
    "platform_name",
    "platforms",
    "remove_size_one_mesh_axis_from_type",
    "softmax_custom_jvp",
    "thread_guard",
    "threefry_partitionable",
    "transfer_guard",
    "transfer_guard_device_to_device",
    "transfer_guard_device_to_host",
    "transfer_guard_host_to_device",
)
"""Options of JAX that are accepted without effect: there is one device, in one process, and one random generator."""


def without_effect(name: str) -> Callable[..., contextlib.AbstractContextManager[None]]:
    """Return the function that stands for JAX's context manager of an option in `WITHOUT_EFFECT`."""

    def accepted(new_val: Any = None) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    accepted.__name__ = accepted.__qualname__ = name
    accepted.__doc__ = f"Accept JAX's option {name} within a ``with`` block, without effect."
    return accepted


_OPTIONS = tuple(name for name in Config.__annotations__ if "ClassVar" not in Config.__annotations__[name])
_SPECIALIZING = (
    "enable_x64",
    "disable_jit",
    "debug_nans",
    "debug_infs",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
    "num_threads",
    "cpu_target",
)
CPU_TARGETS = ("llvm", "numba")
_CHOICES: dict[str, tuple[str, ...]] = {
    "cpu_target": CPU_TARGETS,
    "numpy_dtype_promotion": ("standard", "strict"),
    "numpy_rank_promotion": ("allow", "warn", "raise"),
    "traceback_filtering": ("off", "tracebackhide", "remove_frames", "quiet_remove_frames", "auto"),
}
MAX_THREADS = 65535
_listeners: dict[str, list[Callable[[], None]]] = {}


def on_update(name: str, function: Callable[[], None]) -> None:
    """Call `function` after every process-wide update of an option."""
    _listeners.setdefault(_option_name(name), []).append(function)


def _option_name(name: str) -> str:
    name = name.removeprefix("jax_")
    if name not in _OPTIONS:
        raise AttributeError(f"unknown config option {name!r}; known: {', '.join(sorted(_OPTIONS))}")
    return name


def _validate(name: str, value: Any) -> Any:
    """Return the normalized value of an option, or raise ArgumentError."""
    if name in _CHOICES:
        allowed, valid = " or ".join(map(repr, _CHOICES[name])), value in _CHOICES[name]
    elif name == "num_threads":
        allowed, valid = f"0 (all processors) to {MAX_THREADS}", type(value) is int and 0 <= value <= MAX_THREADS
    elif name == "compilation_cache_dir":
        value = "" if value is None else value
        allowed, valid = "a path, or None", isinstance(value, (str, os.PathLike))
    elif name == "default_matmul_precision":
        allowed, valid = "a name of a precision, as in JAX, or None", value is None or isinstance(value, str)
    else:
        value, allowed, valid = bool(value), "", True
    if not valid:
        raise ArgumentError(f"config.{name}: got {value!r}", fix=f"pass {allowed}")
    return value


config = Config()
for _name in _OPTIONS:  # validates the values from the environment
    config.update(_name, getattr(config, _name))


def enable_x64(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Allow or forbid 64-bit dtypes within a ``with`` block.

    >>> import funcgrad.numpy as jnp
    >>> with enable_x64():
    ...     x = jnp.ones(2)
    >>> x.dtype
    dtype('float64')
    """
    return config.override("enable_x64", value)


def checking_leaks(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Raise LeakedTracerError if tracers are still referenced at the end of their trace, within a ``with`` block.

    >>> import funcgrad as fg
    >>> kept = []
    >>> with checking_leaks():
    ...     fg.jit(kept.append)(1.0)
    Traceback (most recent call last):
    ...
    funcgrad.errors.LeakedTracerError: tracers outlived their transform (tracing jit(append)):
    ...
    """
    return config.override("check_tracer_leaks", value)


def enable_checks(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Check the output of each pass of the compiler, within a ``with`` block."""
    return config.override("enable_checks", value)


def explain_cache_misses(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Print why a jitted function is traced again, within a ``with`` block."""
    return config.override("explain_cache_misses", value)


def log_compiles(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Print what is traced and compiled, why, and how long it takes, within a ``with`` block."""
    return config.override("log_compiles", value)


def numpy_dtype_promotion(value: str) -> contextlib.AbstractContextManager[None]:
    """Set whether arrays of different dtypes promote ("standard" or "strict"), within a ``with`` block.

    >>> import funcgrad.numpy as jnp
    >>> with numpy_dtype_promotion("strict"):
    ...     jnp.ones(2) + jnp.arange(2)
    Traceback (most recent call last):
    ...
    funcgrad.errors.TypePromotionError: ...
    """
    return config.override("numpy_dtype_promotion", value)


def numpy_rank_promotion(value: str) -> contextlib.AbstractContextManager[None]:
    """Set whether arrays of different ranks broadcast ("allow", "warn", "raise"), within a ``with`` block."""
    return config.override("numpy_rank_promotion", value)


def default_matmul_precision(value: str | None) -> contextlib.AbstractContextManager[None]:
    """Set the precision of matrix products, within a ``with`` block. They are always computed in full precision.

    >>> import funcgrad.numpy as jnp
    >>> with default_matmul_precision("bfloat16"):
    ...     jnp.ones(2) @ jnp.ones(2)
    Array(2., dtype=float32)
    """
    return config.override("default_matmul_precision", value)


def disable_jit(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Run jitted functions eagerly, op by op, within a ``with`` block.

    >>> import funcgrad as fg
    >>> with disable_jit():
    ...     y = fg.jit(lambda x: print(x) or x * 2)(3.0)
    3.0
    """
    return config.override("disable_jit", value)


def debug_nans(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Raise FloatingPointError if an operation makes a NaN, within a ``with`` block.

    The error names the operation, the user's line, the first index, and the operands there. In jitted functions, each
    operation is checked as it runs; nothing runs twice. An operation fails if its result has a NaN and its operands do
    not. NaNs in the arguments of a program pass through it, unless they reach the results. In a jitted function, NaNs
    that do not reach the results are allowed: elements that ``where`` does not select, and values that are only
    printed.

    >>> import funcgrad as fg, funcgrad.numpy as jnp
    >>> with debug_nans():
    ...     fg.jit(lambda x: jnp.log(x) * 2)(-1.0)
    Traceback (most recent call last):
    ...
    funcgrad.errors.NonFiniteError: invalid value (nan) encountered in log as the result f32[]; operand: -1.0
    ...
    """
    return config.override("debug_nans", value)


def debug_infs(value: bool = True) -> contextlib.AbstractContextManager[None]:
    """Raise FloatingPointError if an operation makes an infinity, within a ``with`` block; see `debug_nans`.

    >>> import funcgrad as fg, funcgrad.numpy as jnp
    >>> with debug_infs():
    ...     fg.jit(lambda x: 1 / x)(0.0)
    Traceback (most recent call last):
    ...
    funcgrad.errors.NonFiniteError: invalid value (inf) encountered in div as the result f32[]; operands: 1.0, 0.0
    ...
    """
    return config.override("debug_infs", value)
