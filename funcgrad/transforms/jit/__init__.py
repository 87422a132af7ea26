"""jit: trace a function once per types of the arguments, compile it, and run native code from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcgrad.config import CPU_TARGETS
from funcgrad.core.devices import Device, devices
from funcgrad.core.shardings import check_placement
from funcgrad.errors import ArgumentError
from funcgrad.transforms.flattening import callable_or_error
from funcgrad.transforms.jit.arguments import argument_roles
from funcgrad.transforms.jit.function import CacheInfo, JitFunction, clear_caches
from funcgrad.transforms.jit.primitive import jit_p


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    keep_unused: bool = False,
    inline: bool = False,
    target: str | None = None,
    device: Device | None = None,
    backend: str | None = None,
    in_shardings: Any = None,
    out_shardings: Any = None,
    compiler_options: dict[str, Any] | None = None,
    **unknown: Any,
) -> Any:
    """Return `fun` compiled to native code, specialized to the types of its arguments.

    The function is traced once per combination of argument shapes, dtypes and static values, so its side effects happen
    at tracing only. Without `fun`, returns a decorator.

    Args:
      static_argnums, static_argnames: arguments that are Python values, which must hash; each value is traced anew.
      donate_argnums, donate_argnames: arguments whose buffers the call may reuse; it deletes them.
      keep_unused: accepted for compatibility. A compiled program takes all arguments, and never reads unused ones.
      inline: splice the traced equations into an enclosing trace.
      target: compile for "llvm" or "numba" in place of `config.cpu_target`; within another jitted function the outer
        one decides.
      device, backend: where to run; one of `devices()`, or its platform.
      in_shardings, out_shardings: pytrees of shardings of the one device; they are checked, and have no effect.
      compiler_options: must be empty; `funcgrad.config` has the options.

    Raises:
      ArgumentError: an option does not exist, or has an unsupported value: another device, a sharding.
      StaticArgumentError: positions and names do not fit the parameters of `fun`.

    >>> @jit
    ... def f(x):
    ...     return x * 2 + 1
    >>> f(3.0)
    Array(7., dtype=float32, weak_type=True)
    """
    if unknown:
        raise ArgumentError(f"jit: unexpected options {sorted(unknown)}", fix="see help(funcgrad.jit)")
    if target not in (None, *CPU_TARGETS):
        raise ArgumentError(f"jit: target={target!r}", fix=f"choose {' or '.join(map(repr, CPU_TARGETS))}")
    _check_placement(device, backend)
    for name, shardings in (("in_shardings", in_shardings), ("out_shardings", out_shardings)):
        check_placement(f"jit: {name}", shardings)
    if compiler_options:
        raise ArgumentError(
            f"jit: unknown compiler_options {sorted(compiler_options)}", fix="set options in funcgrad.config"
        )
    arguments = (static_argnums, static_argnames, donate_argnums, donate_argnames)

    def decorate(fun: Callable[..., Any]) -> JitFunction:
        callable_or_error(fun, "jit")
        return JitFunction(fun, argument_roles(fun, *arguments), inline, target)

    return decorate if fun is None else decorate(fun)


def _check_placement(device: Any, backend: Any) -> None:
    """Raise unless programs can run where the options say."""
    existing = devices()
    if device is not None and backend is not None:
        raise ArgumentError(f"jit: both device={device!r} and backend={backend!r} are given", fix="give one of them")
    if device is not None and not any(device is d for d in existing):
        raise ArgumentError(f"jit: device={device!r}, but the devices are {existing}", fix="choose one of devices()")
    platforms = sorted({d.platform for d in existing})
    if backend is not None and backend not in platforms:
        raise ArgumentError(
            f"jit: backend={backend!r}, but the backends are {platforms}",
            fix=f"choose {' or '.join(map(repr, platforms))}",
        )


__all__ = ["CacheInfo", "JitFunction", "clear_caches", "jit", "jit_p"]
