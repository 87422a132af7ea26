"""A jitted function: traced once for each combination of types, compiled, and run as native code from then on."""

from __future__ import annotations

import functools
import operator
import time
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from funcgrad import tree
from funcgrad.compiler import pipeline
from funcgrad.config import config
from funcgrad.core import interning, traces
from funcgrad.core.array_types import ArrayLike
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import eval_jaxpr
from funcgrad.core.primitives import registry
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.traces import eval_trace
from funcgrad.errors import ArgumentError, user_location
from funcgrad.tracebacks import boundary, boundary_itself, filter_traceback
from funcgrad.transforms.flattening import FlatFunction, abstract, arguments_of, leaf_names, name_of, not_an_array
from funcgrad.transforms.jit.arguments import STATIC_REMEDY, ArgumentRoles, with_static, without_static
from funcgrad.transforms.jit.primitive import jit_p
from funcgrad.transforms.jit.stages import Lowered, Traced
from funcgrad.transforms.refs.arguments import RefArguments
from funcgrad.transforms.refs.ref import Ref


class CacheInfo(NamedTuple):
    """Statistics of a jitted function's calls: `misses` has one line per trace, with the reason for it.

    A kernel is compiled, loaded from the disk cache, or reused from another function or shape of this process.
    """

    hits: int
    traces: int
    kernels_compiled: int
    kernels_from_disk: int
    kernels_reused: int
    misses: list[str]


class _Entry(NamedTuple):
    """One specialization: its program, and the structure of its result."""

    run: Callable[[Sequence[Any]], list[Array]]
    unflatten: Callable[[list[Array]], Any]
    traced: Traced
    arguments: RefArguments
    refs: list[Ref]  # those that the function uses; operands that go before the arguments


def _cache_key(in_tree: Any, avals: Sequence[ShapedArray], *others: Any) -> tuple[Any, ...]:
    """Return the key of a specialization: the configuration, and the structure and types of the arguments.

    `in_tree` is None for arrays by position. `others` are given where there are any: static arguments, the vmap axes in
    scope, and which arguments are Refs.
    """
    return (config.process_key, config.thread_key, in_tree, *others, *avals)


class JitFunction:
    """A jitted function; call it like the original. See `jit`."""

    def __init__(self, fun: Callable[..., Any], roles: ArgumentRoles, inline: bool, target: str | None):
        functools.update_wrapper(self, fun)
        self._fun, self._roles, self._inline, self._target = fun, roles, inline, target
        self._name, self._plain = name_of(fun), not any(roles)
        self._entries: dict[Any, _Entry] = {}
        self._hits = 0
        self._misses: list[str] = []
        _functions.add(self)

    def __repr__(self) -> str:
        return f"<jitted {self._name}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    @boundary_itself
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._plain and traces.state.trace is eval_trace and not config.disable_jit:
                # The common cases, kept short: nothing is traced, and these types were seen before.
                avals = [x.aval for x in args if type(x) is Array]
                if len(avals) == len(args) and not kwargs:
                    flat, in_tree = args, None
                else:
                    flat, in_tree = tree.flatten((args, kwargs))
                    try:
                        flat = [x if type(x) is Array else as_array(x) for x in flat]
                    except ArgumentError:
                        return self._call(args, kwargs)  # which names the argument
                    avals = [x.aval for x in flat]
                entry = self._entries.get(_cache_key(in_tree, avals))
                if entry is not None and (in_tree is None or all([type(x) is Array for x in flat])):
                    self._hits += 1
                    return entry.unflatten(entry.run(flat))
            return self._call(args, kwargs)
        except Exception as error:
            filter_traceback(error)
            raise

    def _call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        if config.disable_jit:
            return self._fun(*args, **kwargs)
        static, traced_args, traced_kwargs, donated = self._roles.split(args, kwargs, self._name)
        flat, in_tree = tree.flatten((traced_args, traced_kwargs))
        flat = self._arrays(flat, in_tree)
        arrays = [x for x in flat if not isinstance(x, Ref)]
        eager = traces.state.trace is eval_trace and all(type(x) is Array for x in arrays)
        avals, axes = [x.aval for x in flat], tuple(traces.state.axis_sizes.items())
        if self._plain and not axes and len(arrays) == len(flat):
            arrays_only = not kwargs and all(isinstance(x, ArrayLike) for x in args)
            key = _cache_key(None if arrays_only else in_tree, avals)
        else:
            key = _cache_key(in_tree, avals, static, axes, tuple(isinstance(x, Ref) for x in flat))
        entry = self._entries.get(key)
        if entry is None:
            arguments = RefArguments(flat, f"jit({self._name})")
            entry, hoisted = self._specialize(key, static, in_tree, arguments, donated)
        else:
            self._hits += 1
            hoisted = entry.refs
        hoisted = entry.arguments.resolve(hoisted, flat)
        if not eager or hoisted:
            closed = entry.traced.jaxpr
            if self._inline:
                out = eval_jaxpr(closed.jaxpr, closed.consts, *hoisted, *arrays)
            else:
                out = jit_p.bind(*hoisted, *arrays, jaxpr=closed, name=self._name, inline=False)
            return entry.unflatten(out)
        out = entry.run(arrays)
        for x, is_donated in zip(flat, donated, strict=True) if any(donated) else ():
            if is_donated and not any(o is x for o in out):
                x.delete()
        return entry.unflatten(out)

    def _arrays(self, flat: Sequence[Any], in_tree: Any) -> list[Any]:
        """The leaves of the arguments as arrays or tracers; Refs stay."""
        try:
            return [x if type(x) is Array or isinstance(x, Ref) else as_array(x) for x in flat]
        except ArgumentError:
            names = arguments_of(self._fun, in_tree)()
            raise not_an_array(f"jit({self._name})", names, flat, as_array, STATIC_REMEDY) from None

    def _trace(
        self, static: Any, in_tree: Any, arguments: RefArguments, donated: Sequence[bool]
    ) -> tuple[Traced, list[Any]]:
        flat_fun = FlatFunction(with_static(self._fun, static), in_tree, transform="jit")
        names = leaf_names(self._fun, in_tree, len(arguments.avals))
        closed = trace_to_jaxpr(
            arguments.of_arrays(flat_fun),
            arguments.array_avals,
            description=f"tracing jit({self._name})",
            name=self._name,
            argument_names=[f"argument {n} of {self._name}" for n in arguments.of_array_places(names)],
        )
        closed, hoisted = hoist_tracers(closed)
        in_tree, out_tree = without_static(in_tree, static), flat_fun.out_tree
        return Traced(closed, self._name, in_tree, out_tree, tuple(donated), names, self._target), hoisted

    def _specialize(
        self, key: Any, static: Any, in_tree: Any, arguments: RefArguments, donated: Sequence[bool]
    ) -> tuple[_Entry, list[Any]]:
        reason, start = self._explain(static, in_tree, arguments.avals), time.perf_counter()
        traced, hoisted = self._trace(static, in_tree, arguments, donated)
        if config.explain_cache_misses or config.log_compiles:
            took, where = f"{(time.perf_counter() - start) * 1e3:.1f} ms", user_location()
            pipeline.log(f"jit({self._name}): traced in {took}{f' at {where}' if where else ''}: {reason}")
        closed = traced.jaxpr
        leaf = tree.structure(0)
        unflatten = (lambda out: out[0]) if traced.out_tree == leaf else traced.out_tree.unflatten
        run = lambda flat: pipeline.executable(closed, self._name, self._target)(flat)  # noqa: E731
        entry = _Entry(run, unflatten, traced, arguments, hoisted)
        if arguments.lasting(hoisted):
            # A trace that closes over another trace's values is good for this call only.
            if hoisted:
                params = {"jaxpr": closed, "name": self._name, "inline": False}
                entry = entry._replace(run=lambda flat: jit_p.bind(*hoisted, *flat, **params))
            elif traces.state.trace is eval_trace:
                entry = entry._replace(run=pipeline.executable(closed, self._name, self._target))
            self._entries[key] = entry
        self._misses.append(reason)
        return entry, hoisted

    def _explain(self, static: Any, in_tree: Any, avals: Sequence[ShapedArray]) -> str:
        """Return the reason why a call needs a trace, as text."""
        in_tree = without_static(in_tree, static)
        shown = ", ".join(map(repr, avals))
        if not self._entries:
            return f"first call, with ({shown})"
        closest = min(
            self._entries.values(),
            key=lambda e: sum(map(operator.is_not, e.arguments.avals, avals)) + (e.traced.in_tree != in_tree),
        )
        if closest.traced.in_tree != in_tree:
            return f"new structure of arguments {in_tree}; seen before: {closest.traced.in_tree}"
        changed = [
            f"argument {name} has type {b!r}; seen before: {a!r}"
            for name, a, b in zip(closest.traced._argument_names, closest.arguments.avals, avals, strict=True)
            if a is not b
        ]
        if changed:
            return f"{', '.join(changed[:3])}{f', and {len(changed) - 3} more' if len(changed) > 3 else ''}"
        return f"new static arguments {[v for *_, v in static]}" if static else f"new configuration, with ({shown})"

    @boundary
    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """Trace without compiling; `ShapeDtypeStruct` arguments will do."""
        static, traced_args, traced_kwargs, donated = self._roles.split(args, kwargs, self._name)
        flat, in_tree = tree.flatten((traced_args, traced_kwargs))
        try:
            arguments = RefArguments(flat, f"jit({self._name})")
        except ArgumentError:
            names = arguments_of(self._fun, in_tree)()
            raise not_an_array(f"jit({self._name})", names, flat, abstract, STATIC_REMEDY) from None
        traced, hoisted = self._trace(static, in_tree, arguments, donated)
        if hoisted:
            raise ArgumentError(
                f"jit({self._name}).trace: the function uses Refs, or closes over traced values of another transform",
                fix="pass such values as arguments, and contents of Refs instead of Refs",
            )
        return traced

    @boundary
    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace, and return every stage of compilation as text: see `Lowered`."""
        return self.trace(*args, **kwargs).lower()

    @boundary
    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result's shapes and dtypes without computing it."""
        return self.trace(*args, **kwargs).out_info

    def cache_info(self) -> CacheInfo:
        """Return how often calls hit the cache, and why each trace and compilation happened."""
        stats = [pipeline.statistics(e.traced.jaxpr) for e in self._entries.values()]
        return CacheInfo(
            self._hits,
            len(self._misses),
            sum(s.compiled for s in stats),
            sum(s.disk for s in stats),
            sum(s.reused for s in stats),
            list(self._misses),
        )

    def clear_cache(self) -> None:
        """Forget every trace of this function."""
        self._entries.clear()

    def _cache_size(self) -> int:
        return len(self._entries)


_functions: weakref.WeakSet[JitFunction] = weakref.WeakSet()


def clear_caches() -> None:
    """Forget every trace and compiled program of every jitted function; kernels stay in the cache on disk.

    >>> import funcgrad as fg
    >>> f = fg.jit(lambda x: x + 1)
    >>> f(1), clear_caches(), f._cache_size()
    (Array(2, dtype=int32, weak_type=True), None, 0)
    """
    for function in list(_functions):
        function.clear_cache()
    interning.forget()
    for primitive in registry.values():
        primitive._inferred.clear()
