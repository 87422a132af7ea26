"""Detection of tracers that outlive their trace, and of what references them, for `config.check_tracer_leaks`."""

from __future__ import annotations

import gc
import sys
import types
from typing import Any

from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import Trace
from funcgrad.errors import LeakedTracerError


def check_leaks(trace: Trace) -> None:
    """With `config.check_tracer_leaks`, raise LeakedTracerError if tracers of a finished trace are still referenced.

    The caller must not reference any itself.
    """
    watched = vars(trace).get("watched", ())
    if any(tracer() is not None for tracer in watched):
        gc.collect()  # frees tracers in reference cycles
    leaked = [tracer() for tracer in watched if tracer() is not None]
    if leaked:
        lines = [f"\n    {x!r}{x.origin()}, held by {_holder(x, {id(leaked)})}" for x in leaked]
        raise LeakedTracerError(
            f"tracers outlived their transform ({trace.description or 'a transform'}):{''.join(lines)}",
            fix="do not keep traced values in globals, attributes or closures; return them from the function instead",
        )


def _holder(held: Any, ignored: set[int], depth: int = 4) -> str:
    """Describe what references an object, through containers, up to a global, an instance or a function."""
    # No comprehension may use `held`: it would create a cell that references it.
    referrers = gc.get_referrers(held)
    for referrer in referrers:
        if id(referrer) in ignored or isinstance(referrer, (types.FrameType, Tracer)):
            continue
        if isinstance(referrer, dict):
            module = sys.modules.get(str(referrer.get("__name__")))
            if module is not None and vars(module) is referrer:
                return f"the global {_key_of(referrer, held)} of {module.__name__}"
        if isinstance(referrer, (dict, list, tuple, set, types.CellType)) and depth:
            kind = "closure" if isinstance(referrer, types.CellType) else type(referrer).__name__
            outside = _holder(referrer, ignored | {id(referrers)}, depth - 1)
            return f"a {kind}" if outside == _UNKNOWN else f"a {kind}, held by {outside}"
        return f"{referrer!r:.60}" if callable(referrer) else f"an object of type {type(referrer).__name__}"
    return _UNKNOWN


_UNKNOWN = "a local variable"


def _key_of(names: dict[Any, Any], value: Any) -> str:
    for name, held in names.items():
        if held is value:
            return str(name)
    return ""
