"""Tracing: the current trace, tracers, and evaluation.

A *trace* says what applying a primitive means just now: evaluate it (`EvalTrace`), record it, push a tangent
or a batch dimension through it. Exactly one trace is current in a thread. A transform makes its trace
current, keeps the one it found as its parent, and runs rules of primitives with the parent current; values
that are not its own tracers are constants to it. (The manner of JAX's "stackless" tracing.)
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcgrad import dtypes, errors
from funcgrad.config import config
from funcgrad.core.avals import ShapedArray
from funcgrad.errors import ConcretizationError, LeakedTracerError, SourceLocation

if TYPE_CHECKING:
    from funcgrad.core.primitives import Primitive


class Trace:
    """What applying a primitive means while this trace is current."""

    parent: Trace  # every trace but `eval_trace` has one
    valid = True
    bypassed = False  # while it runs rules of a primitive that carries functions or jaxprs, below itself
    description = ""
    formatted: Mapping[int, Tracer] = types.MappingProxyType({})  # those in texts, which `formatted_in` finds

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        raise NotImplementedError

    def watch(self, tracer: Tracer) -> None:
        """With `config.check_tracer_leaks`, remember a new tracer for the check at the end of the trace."""
        if config.check_tracer_leaks:
            self.__dict__.setdefault("watched", []).append(weakref.ref(tracer))

    def invalidate(self) -> None:
        """Mark the trace as finished: tracers of it that are still around have leaked."""
        self.valid = False
        self.__dict__.pop("formatted", None)


class _State(threading.local):
    """This thread's current trace, and the axis names that vmap has bound."""

    def __init__(self) -> None:
        self.trace: Trace = eval_trace
        self.axis_sizes: dict[Any, int] = {}
        # While a batch rule runs: the name (or None) and size of the axis that it removes.
        self.batch_axis: tuple[Any, int] = (None, 0)
        # While a transform rewrites an equation, the equations it makes keep that equation's source line.
        self.source: SourceLocation | None = None


class ArrayLike:
    """Base of `Array` and `Tracer`: what user code sees as an array. Operators and methods are injected here, once."""

    __slots__ = ()
    # Higher than NumPy's, so that `np_array + array` comes to our __radd__.
    __array_priority__ = 100
    aval: ShapedArray

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: len(self.aval.shape))
    size = property(lambda self: self.aval.size)
    weak_type = property(lambda self: self.aval.weak_type)
    nbytes = property(lambda self: self.aval.nbytes)
    itemsize = property(lambda self: self.aval.dtype.itemsize)

    def __len__(self) -> int:
        if not self.aval.shape:
            raise errors.ArgumentError("len() of a 0-d array", fix="use .size, or reshape to one dimension")
        return self.aval.shape[0]

    def __hash__(self) -> int:
        raise errors.ArgumentError(
            f"unhashable type: {type(self).__name__} of type {self.aval}",
            fix="arrays are values, not keys: use id(x), x.tobytes(), or pass it as a traced argument",
        )

    def block_until_ready(self) -> Any:
        """Return the array; CPU programs finish before they return, and a traced value has nothing to wait for."""
        return self


class ExtendedArray:
    """Base of arrays whose elements are not numbers, such as `random.KeyArray`: users may pass them, primitives not."""

    __slots__ = ()


class _AnyArrayType(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, (ArrayLike, ExtendedArray))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, (ArrayLike, ExtendedArray))


class AnyArray(ArrayLike, metaclass=_AnyArrayType):
    """What is an array to users, who know it as `funcgrad.Array`: arrays, traced values, arrays of keys."""

    __slots__ = ()


class Tracer(ArrayLike):
    """Stands for an array while a function is traced or transformed."""

    __slots__ = ("_trace", "__weakref__")
    _trace: Trace

    def concrete(self) -> np.ndarray | None:
        """Return the value if it is known (in `grad` outside of `jit`, where it has a derivative), else None."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.aval}>"

    def __format__(self, spec: str) -> str:
        """Format the value if it is known; else return a text that `formatted_in` knows again."""
        value = self.concrete()
        if value is not None:
            return format(str(value) if value.shape else value[()], spec)
        number = next(_numbers)
        _formatted[number] = self._trace
        self._trace.__dict__.setdefault("formatted", {})[number] = self
        return f"{type(self).__name__}<{self.aval.short()}{spec and ':' + spec} #{number}>"

    def __bool__(self) -> bool:
        return bool(
            self._known(
                "used as a Python bool (in `if`, `while`, `and`, `or`, `not`)",
                "use funcgrad.numpy.where or lax.cond for a choice, & | ~ for logic, or make the argument static",
            )
        )

    def __int__(self) -> int:
        return int(self._known("converted with int()", "use .astype(int), or make the argument static"))

    def __index__(self) -> int:
        return self._known("used as a Python index, size or shape", self._static_remedy()).__index__()

    def item(self, *args: int) -> Any:
        """Return the value as a Python scalar; it is a constant to derivatives."""
        return self._known("read with .item()", "return the array and read it outside the transform").item(*args)

    # A known value has a derivative, or it would be no tracer. What follows gives numbers to compute with, and would
    # drop the derivative without a word.

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise self._refused("converted to a NumPy array", "use funcgrad.numpy instead of numpy")

    def __float__(self) -> float:
        raise self._refused("converted with float()", "use .astype(float), and funcgrad.numpy instead of math")

    def __complex__(self) -> complex:
        raise self._refused("converted with complex()", "use .astype(complex), and funcgrad.numpy instead of cmath")

    def tolist(self) -> Any:
        """Raise: lists of numbers have no derivative."""
        raise self._refused("read with .tolist()", "return the array and read it outside the transform")

    def tobytes(self) -> bytes:
        """Raise: bytes have no derivative."""
        raise self._refused("read with .tobytes()", "return the array and read it outside the transform")

    def __copy__(self) -> Tracer:
        return self

    def __deepcopy__(self, memo: Any) -> Tracer:  # it is immutable, and a copy would belong to no trace
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise self._refused("pickled", "return the array, and pickle what comes out of the transform")

    def _static_remedy(self) -> str:
        name = re.fullmatch(r" \(it is argument (\w+) of .*\)", self.origin())
        if name:
            return f"make it static: jit(..., static_argnames={name[1]!r})"
        return "take sizes from shapes and static arguments, which are known, not from values of arrays"

    def _known(self, use: str, fix: str) -> np.ndarray:
        """Return the value; raise ConcretizationError where it is not known."""
        check_not_leaked(self)
        value = self.concrete()
        if value is None:
            raise self._refused(use, fix)
        return value

    def _refused(self, use: str, fix: str) -> ConcretizationError:
        """Return the error for a use that needs a value, and no derivative."""
        check_not_leaked(self)
        what, doing = f"a traced array of type {self.aval} was {use}", self._trace.description or "tracing"
        if self.concrete() is None:
            return ConcretizationError(f"{what}, but its value is not known while {doing}{self.origin()}", fix=fix)
        return ConcretizationError(
            f"{what}, which would drop its derivative while {doing}{self.origin()}",
            fix=f"{fix}; where no derivative is wanted, convert lax.stop_gradient(x)",
        )

    def origin(self) -> str:
        """Return a phrase saying where the tracer came from, for error messages."""
        return ""


# Traces whose tracers were formatted, by the number in the text, which no two have in common.
_formatted: weakref.WeakValueDictionary[int, Trace] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_TRACER = re.compile(r"\w+Tracer<[^<>:]*?(?::(?P<spec>.*?))? #(?P<number>\d+)>|\w+Tracer<[^<>#]*?>")


def formatted_in(text: str, replacement: Callable[[Any, str], str]) -> str:
    """Replace what tracers became in a text by a function of (tracer, format spec).

    Where an f-string made the text by repr, or the trace is over, the text itself takes the tracer's place.
    """

    def replaced(match: re.Match[str]) -> str:
        number = int(match["number"] or 0)
        trace = _formatted.get(number)
        tracer = trace.formatted.get(number) if trace is not None else None
        return replacement(match[0], "") if tracer is None else replacement(tracer, match["spec"] or "")

    return _TRACER.sub(replaced, text)


class Reference:
    """Base of `transforms.refs.Ref`, a cell whose contents change; `aval` is the type of the contents.

    It is no array. Recorded jaxprs refer to it by a constant or an input of the type of its contents.
    """

    __slots__ = ()
    aval: ShapedArray


class EvalTrace(Trace):
    """Evaluate primitives on concrete arrays; the trace below all others."""

    def process_primitive(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        return evaluate(primitive, args, params)


eval_trace = EvalTrace()
state = _State()


class current:
    """Make a trace the current one within a ``with`` block (a class: entered for every primitive of a transform)."""

    __slots__ = ("trace", "previous")

    def __init__(self, trace: Trace):
        self.trace = trace

    def __enter__(self) -> None:
        self.previous, state.trace = state.trace, self.trace

    def __exit__(self, *exc: object) -> None:
        state.trace = self.previous


@contextlib.contextmanager
def ensure_compile_time_eval() -> Iterator[None]:
    """Evaluate now what is known now, within a ``with`` block in a function that is traced.

    Operations on known values give arrays that Python may branch on; those that have a traced operand are
    recorded as ever.

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as jnp
    >>> @fg.jit
    ... def f(x):
    ...     with ensure_compile_time_eval():
    ...         n = jnp.sum(jnp.arange(4))
    ...         return x * 2 if n > 5 else x
    >>> f(3.0)
    Array(6., dtype=float32, weak_type=True)
    """
    with current(eval_trace):
        yield


@contextlib.contextmanager
def new_trace(trace: Trace) -> Iterator[Trace]:
    """Make `trace` current within a ``with`` block; tracers that survive the block have leaked."""
    previous, state.trace = state.trace, trace
    try:
        yield trace
    finally:
        state.trace = previous
        trace.invalidate()


@contextlib.contextmanager
def bound_axis(name: Any, size: int) -> Iterator[None]:
    """Bind a vmap axis name within a ``with`` block; None is no name."""
    old = state.axis_sizes
    if name is not None:
        state.axis_sizes = {**old, name: size}
    try:
        yield
    finally:
        state.axis_sizes = old


def enclosing(trace: Trace) -> Iterator[Trace]:
    """Yield a trace and those around it, but for `eval_trace`."""
    while trace is not eval_trace:
        yield trace
        trace = trace.parent


def _describe_context() -> str:
    parts = dict.fromkeys(trace.description for trace in enclosing(state.trace) if trace.description)
    return ", inside ".join(parts)


errors.describe_context = _describe_context


def check_not_leaked(tracer: Tracer) -> None:
    """Raise LeakedTracerError when the transform that made `tracer` has finished."""
    if not tracer._trace.valid:
        raise LeakedTracerError(
            f"a tracer of type {tracer.aval} outlived its transform ({tracer._trace.description or 'a transform'})"
            f"{tracer.origin()}",
            fix="do not keep traced values in globals, attributes or closures; return them from the function instead",
        )
    if tracer._trace.bypassed:
        raise LeakedTracerError(
            f"a function closes over a traced value of type {tracer.aval}{tracer.origin()}, but runs outside of the "
            f"transform that traces it ({tracer._trace.description or 'a transform'})",
            fix="pass the value as an argument; a custom rule says nothing about what its function closes over "
            "(closure_convert makes arguments of closed-over values)",
        )


def _not_loaded(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
    raise RuntimeError("core.arrays is not loaded")


# Set by core.arrays, which is above: how a primitive is evaluated on concrete values.
evaluate: Callable[[Primitive, Sequence[Any], dict[str, Any]], Any] = _not_loaded


class bypassing:
    """Make the parent of a trace current within a ``with`` block, and using tracers of the trace an error."""

    __slots__ = ("trace", "previous")

    def __init__(self, trace: Trace):
        self.trace = trace

    def __enter__(self) -> None:
        self.previous, state.trace = state.trace, self.trace.parent
        self.trace.bypassed = True

    def __exit__(self, *exc: object) -> None:
        state.trace = self.previous
        self.trace.bypassed = False


class named_scope(contextlib.ContextDecorator):
    """Name what is computed within a ``with`` block, or by a decorated function.

    Equations carry the names of the open scopes, joined by slashes, in their source location; error messages
    and `jit(f).lower(x).as_text("groups")` show them.

    >>> import funcgrad as fg
    >>> def f(x):
    ...     with named_scope("encoder"), named_scope("attention"):
    ...         return fg.numpy.sin(x)
    >>> fg.make_jaxpr(f)(1.0).eqns[0].source.scope
    'encoder/attention'
    """

    def __init__(self, name: str):
        if not isinstance(name, str):
            raise errors.ArgumentError(f"named_scope: name={name!r} is not a string", fix="pass a string")
        self.name = name

    def _recreate_cm(self) -> named_scope:  # a decorated function may be called within itself
        return named_scope(self.name)

    def __enter__(self) -> None:
        self.outside = errors.scopes.path
        errors.scopes.path = f"{self.outside}/{self.name}" if self.outside else self.name

    def __exit__(self, *exc: object) -> None:
        errors.scopes.path = self.outside


class source_of:
    """Attribute equations recorded within a ``with`` block to a location, unless a block outside already does."""

    __slots__ = ("location", "previous")

    def __init__(self, location: SourceLocation | None):
        self.location = location

    def __enter__(self) -> None:
        self.previous = state.source
        state.source = self.previous or self.location

    def __exit__(self, *exc: object) -> None:
        state.source = self.previous


class Zero:
    """A tangent or cotangent that is zero and was never computed."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray):
        self.aval = aval

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: self.aval.ndim)
    size = property(lambda self: self.aval.size)
    weak_type = property(lambda self: self.aval.weak_type)

    @classmethod
    def from_primal_value(cls, value: Any) -> Zero:
        """Return the zero tangent of a value."""
        return cls(aval_of(value).tangent())

    def __repr__(self) -> str:
        return f"Zero({self.aval})"


class UndefinedPrimal:
    """Marks a linear argument in a transpose rule: it has a type and no value."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray):
        self.aval = aval

    def __repr__(self) -> str:
        return f"UndefinedPrimal({self.aval})"


def is_undefined(x: Any) -> bool:
    """Whether `x` is the linear argument of a transpose rule."""
    return type(x) is UndefinedPrimal


def aval_of(x: Any) -> ShapedArray:
    """Return the abstract value of an array, tracer, NumPy value or Python scalar.

    >>> aval_of(1.0)
    f32[]{weak_type=True}
    """
    if isinstance(x, (ArrayLike, Zero, UndefinedPrimal)):
        return x.aval
    if isinstance(x, (np.ndarray, np.generic)):
        dtype = x.dtype if x.dtype == dtypes.float0 else dtypes.canonicalize(x.dtype)
        return ShapedArray(x.shape, dtype)
    scalar = dtypes.of_python_scalar(x)
    if scalar is not None:
        return ShapedArray((), scalar, scalar != dtypes.bool_)
    if isinstance(x, Reference):
        raise errors.ArgumentError(
            f"a Ref with contents of type {x.aval} is not an array",
            fix="read it with ref[...]; a function that reads or writes it may close over it",
        )
    aval = getattr(x, "aval", None)
    if isinstance(aval, ShapedArray):
        return aval
    raise errors.ArgumentError(
        f"{x!r:.80} of type {type(x).__name__} is not an array",
        fix=f"{remedy_for_no_array(x)}; what is no array may be closed over, or be a static argument",
    )


def remedy_for_no_array(x: Any) -> str:
    """Say what to do with an argument that should have been an array, by what it is."""
    if x is None:
        return "find out why it is None: perhaps a function before ended without `return`"
    if isinstance(x, (list, tuple)):
        return "convert lists and other sequences with funcgrad.numpy.asarray first"
    if isinstance(x, dict):
        return "pass one entry, or apply the function to each with funcgrad.tree.map"
    if isinstance(x, str):
        return "text is no number: convert it with float() or int() first"
    if isinstance(x, (set, frozenset, Iterator)):
        return "collect the elements in a list, and convert that with funcgrad.numpy.asarray"
    if callable(x):
        return "call it, and pass what it returns"
    return "pass an array, a NumPy array or a Python number"


def computed_at(location: SourceLocation | None) -> str:
    """Return " (it was computed at file:line …)" or nothing."""
    return f" (it was computed at {location})" if location else ""
