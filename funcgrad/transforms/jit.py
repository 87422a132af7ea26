"""jit: trace once per types of the arguments, compile, and run native code from then on."""

from __future__ import annotations

import functools
import inspect
import operator
import time
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from funcgrad import tree
from funcgrad.compiler import pipeline
from funcgrad.config import CPU_TARGETS, config
from funcgrad.core import interning, traces
from funcgrad.core.array_types import ArrayLike
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import ParamStyle, registry
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.traces import eval_trace
from funcgrad.errors import ArgumentError, StaticArgumentError, user_location
from funcgrad.tracebacks import boundary, boundary_itself, filter_traceback
from funcgrad.transforms.api import (
    FlatFunction,
    abstract,
    arguments_of,
    callable_or_error,
    leaf_names,
    name_of,
    not_an_array,
)
from funcgrad.transforms.calls import JaxprCall
from funcgrad.transforms.partial_eval import Split, forward_residuals, partial_eval_jaxpr
from funcgrad.transforms.refs import Ref, RefArguments
from funcgrad.transforms.stages import Lowered, Traced

# ---------------------------------------------------------------- the primitive


def _jit_evaluate(*arrays: Array, jaxpr: ClosedJaxpr, name: str, inline: bool = False) -> list[Array]:
    if config.disable_jit:
        return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *arrays)
    return pipeline.executable(interning.interned(jaxpr), name)(arrays)


def _jit_partial_eval(
    unknown: list[bool], avals: Sequence[ShapedArray], *, jaxpr: ClosedJaxpr, name: str, inline: bool = False
) -> Split:
    split = partial_eval_jaxpr(jaxpr, unknown)
    known_jaxpr, forwarded = forward_residuals(split)
    known = {"jaxpr": known_jaxpr, "name": name, "inline": inline}
    rest = {"jaxpr": split.unknown, "name": name, "inline": inline}
    return Split((jit_p, known), (jit_p, rest), split.unknown_out, split.residual_avals, forwarded)


jit_p = JaxprCall(
    "jit",
    evaluate=_jit_evaluate,
    partial_eval=_jit_partial_eval,
    lowering=Inline("jaxpr"),
    params_style=ParamStyle(hidden=lambda name, value: value is False, first="name", shares_names=True),
)

# ---------------------------------------------------------------- the function


class CacheInfo(NamedTuple):
    """What a jitted function's calls did: `misses` is one line per trace, saying why it was needed.

    A kernel is compiled, loaded from the disk cache, or reused from another function or shape of this process.
    """

    hits: int
    traces: int
    kernels_compiled: int
    kernels_from_disk: int
    kernels_reused: int
    misses: list[str]


class _Entry(NamedTuple):
    """One specialisation: how to run it, and the structure of its result."""

    run: Callable[[Sequence[Any]], list[Array]]
    unflatten: Callable[[list[Array]], Any]
    traced: Traced
    arguments: RefArguments
    refs: list[Ref]  # those that the function uses; operands that go before the arguments


class _StaticAndDonated(NamedTuple):
    """Which arguments are static or donated: positions, and names for keywords."""

    static_nums: tuple[int, ...]
    static_names: frozenset[str]
    donate_nums: tuple[int, ...]
    donate_names: frozenset[str]


class JitFunction:
    """A jitted function; call it like the original. See `jit`."""

    def __init__(
        self, fun: Callable[..., Any], signature: _StaticAndDonated, keep_unused: bool, inline: bool, target: str | None
    ):
        functools.update_wrapper(self, fun)
        self._target = target
        self._fun, self._signature = fun, signature
        self._keep_unused, self._inline = keep_unused, inline
        self._name = name_of(fun)
        self._plain = not (
            signature.static_nums or signature.static_names or signature.donate_nums or signature.donate_names
        )
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
                        return self._call(args, kwargs)  # which says what argument it is
                    avals = [x.aval for x in flat]
                entry = self._entries.get((config.process_key, config.thread_key, in_tree, *avals))
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
        static, dynamic_args, dynamic_kwargs, donated = self._divide(args, kwargs)
        flat, in_tree = tree.flatten((dynamic_args, dynamic_kwargs))
        flat = self._arrays(flat, in_tree)
        avals = tuple(x.aval for x in flat)
        arrays = [x for x in flat if not isinstance(x, Ref)]
        eager = traces.state.trace is eval_trace and all(type(x) is Array for x in arrays)
        axes = tuple(traces.state.axis_sizes.items())
        if self._plain and not axes and len(arrays) == len(flat):
            arrays_only = not kwargs and all(isinstance(x, ArrayLike) for x in args)
            key: Any = (config.process_key, config.thread_key, None if arrays_only else in_tree, *avals)
        else:
            of_refs = tuple(isinstance(x, Ref) for x in flat)
            key = (config.process_key, config.thread_key, static, in_tree, avals, axes, of_refs)
        entry = self._entries.get(key)
        if entry is None:
            arguments = RefArguments(flat, f"jit({self._name})")
            entry, hoisted = self._specialise(key, static, in_tree, arguments, donated)
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
            raise not_an_array(f"jit({self._name})", names, flat, as_array, _STATIC_REMEDY) from None

    def _divide(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, tuple, dict[str, Any], Sequence[bool]]:
        """Separate static from traced arguments; also say which traced leaves are donated."""
        sig = self._signature
        n = len(args)
        nums = {i % n if -n <= i < n else i for i in sig.static_nums}
        static = []
        for where, value in [(i, args[i]) for i in sorted(nums) if 0 <= i < n] + sorted(
            (k, v) for k, v in kwargs.items() if k in sig.static_names
        ):
            _check_hashable(value, where, self._name)
            static.append((where, type(value), value))
        dynamic_args = tuple(_STATIC if i in nums else a for i, a in enumerate(args))
        dynamic_kwargs = {k: v for k, v in kwargs.items() if k not in sig.static_names}
        if self._plain:
            return (), dynamic_args, dynamic_kwargs, ()
        given = tuple(i % n for i in sig.donate_nums if -n <= i < n)
        donated = [i in given for i, a in enumerate(dynamic_args) for _ in tree.leaves(a)]
        donated += [k in sig.donate_names for k in sorted(dynamic_kwargs) for _ in tree.leaves(dynamic_kwargs[k])]
        return tuple(static), dynamic_args, dynamic_kwargs, donated

    def _with_static(self, static: Any) -> Callable[..., Any]:
        if not static:
            return self._fun

        def fun(*args: Any, **kwargs: Any) -> Any:
            args_list = list(args)
            for where, _, value in static:
                if isinstance(where, int):
                    args_list[where] = value
                else:
                    kwargs[where] = value
            return self._fun(*args_list, **kwargs)

        return functools.update_wrapper(fun, self._fun)

    def _trace(
        self, static: Any, in_tree: Any, arguments: RefArguments, donated: Sequence[bool]
    ) -> tuple[Traced, list[Any]]:
        flat_fun = FlatFunction(self._with_static(static), in_tree, transform="jit")
        names = leaf_names(self._fun, in_tree, len(arguments.avals))
        closed = trace_to_jaxpr(
            arguments.of_arrays(flat_fun),
            arguments.array_avals,
            description=f"tracing jit({self._name})",
            name=self._name,
            argument_names=[f"argument {n} of {self._name}" for n in arguments.of_array_places(names)],
        )
        closed, hoisted = hoist_tracers(closed)
        without_static = _without_static(in_tree, static)
        out_tree = flat_fun.out_tree
        return Traced(closed, self._name, without_static, out_tree, tuple(donated), names, self._target), hoisted

    def _specialise(
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
        """Say what is new about a call that needs a trace."""
        in_tree = _without_static(in_tree, static)
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
        static, dynamic_args, dynamic_kwargs, donated = self._divide(args, kwargs)
        flat, in_tree = tree.flatten((dynamic_args, dynamic_kwargs))
        try:
            arguments = RefArguments(flat, f"jit({self._name})")
        except ArgumentError:
            names = arguments_of(self._fun, in_tree)()
            raise not_an_array(f"jit({self._name})", names, flat, abstract, _STATIC_REMEDY) from None
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
        """Say how often calls hit the cache, and why each trace and compilation happened."""
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

    >>> f = jit(lambda x: x + 1)
    >>> f(1), clear_caches(), f._cache_size()
    (Array(2, dtype=int32, weak_type=True), None, 0)
    """
    for function in list(_functions):
        function.clear_cache()
    interning.forget()
    for primitive in registry.values():
        primitive._inferred.clear()


_STATIC_REMEDY = "pass an array or a number, or make the argument static (static_argnums, static_argnames)"
# Stands in the traced arguments where a static one was; an empty pytree.
_STATIC = None


def _without_static(in_tree: Any, static: Any) -> Any:
    """The structure of (args, kwargs) as a compiled function is called: without the places of static arguments."""
    positions = {where for where, *_ in static if isinstance(where, int)}
    args, kwargs = in_tree.children()
    dynamic = [a for i, a in enumerate(args.children()) if i not in positions]
    return tree.treedef_tuple([tree.treedef_tuple(dynamic), kwargs])


def _check_hashable(value: Any, where: Any, name: str) -> None:
    try:
        hash(value)
    except TypeError as e:
        raise StaticArgumentError(
            f"jit({name}): static argument {where!r} of type {type(value).__name__} does not hash: {value!r:.60}",
            fix="pass a hashable value (tuple instead of list, frozenset instead of set), or do not make it static",
        ) from e


def _as_tuple(value: Any, kind: type) -> tuple:
    if value is None:
        return ()
    return (value,) if isinstance(value, kind) else tuple(value)


def _signature(
    fun: Any, static_argnums: Any, static_argnames: Any, donate_argnums: Any, donate_argnames: Any
) -> _StaticAndDonated:
    """Complete positions by names and names by positions, as far as the function's parameters are known."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = {p.name for p in parameters}
    variadic = {p.kind for p in parameters}
    name = name_of(fun)

    def complete(nums: tuple[int, ...], names: Iterable[str], what: str) -> tuple[tuple[int, ...], frozenset[str]]:
        names = set(names)
        for n in names - known if inspect.Parameter.VAR_KEYWORD not in variadic and parameters else ():
            raise StaticArgumentError(
                f"jit({name}): {what}_argnames has {n!r}, which is not a parameter; parameters are {sorted(known)}",
                fix="correct the name",
            )
        count = len(positional)
        if parameters and inspect.Parameter.VAR_POSITIONAL not in variadic:
            for i in nums:
                if not -count <= i < count:
                    raise StaticArgumentError(
                        f"jit({name}): {what}_argnums={nums} but the function has {count} positional parameters",
                        fix="count from 0, or use names",
                    )
        full_nums = set(nums) | {positional.index(n) for n in names if n in positional}
        full_names = names | {positional[i] for i in nums if -count <= i < count}
        return tuple(sorted(full_nums)), frozenset(full_names)

    static = complete(_as_tuple(static_argnums, int), _as_tuple(static_argnames, str), "static")
    donate = complete(_as_tuple(donate_argnums, int), _as_tuple(donate_argnames, str), "donate")
    both = set(static[0]) & set(donate[0])
    if both:
        raise StaticArgumentError(
            f"jit({name}): arguments {sorted(both)} are both static and donated",
            fix="static arguments cannot be donated",
        )
    return _StaticAndDonated(*static, *donate)


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
    **ignored: Any,
) -> Any:
    """Return `fun` compiled to native code, specialised to the types of its arguments.

    The function is traced once per combination of argument shapes, dtypes and static values, so its side
    effects happen at tracing only. Static arguments must hash; donated arrays are deleted by the call;
    `inline` splices the traced equations into an enclosing trace. `target` compiles for "llvm" or "numba" in place of
    `config.cpu_target`; within another jitted function the outer one decides. Without `fun`, returns a decorator.
    `device`, `backend` and shardings are accepted for compatibility.

    >>> @jit
    ... def f(x):
    ...     return x * 2 + 1
    >>> f(3.0)
    Array(7., dtype=float32, weak_type=True)
    """
    unknown = set(ignored) - {
        "device",
        "backend",
        "in_shardings",
        "out_shardings",
        "abstracted_axes",
        "compiler_options",
    }
    if unknown:
        raise ArgumentError(f"jit: unexpected options {sorted(unknown)}", fix="see help(funcgrad.jit)")
    if fun is None:
        return functools.partial(
            jit,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate_argnums=donate_argnums,
            donate_argnames=donate_argnames,
            keep_unused=keep_unused,
            inline=inline,
            target=target,
        )
    if target not in (None, *CPU_TARGETS):
        raise ArgumentError(f"jit: target={target!r}", fix=f"choose {' or '.join(map(repr, CPU_TARGETS))}")
    callable_or_error(fun, "jit")
    signature = _signature(fun, static_argnums, static_argnames, donate_argnums, donate_argnames)
    return JitFunction(fun, signature, keep_unused, inline, target)


__all__ = ["CacheInfo", "JitFunction", "clear_caches", "jit", "jit_p"]
