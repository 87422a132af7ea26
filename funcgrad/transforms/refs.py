"""Refs: cells whose contents change, in programs that stay pure functions.

A `Ref` is a Python object that knows its contents, an array or a tracer, and the trace it was made under, where it
lives. While that trace does the computing, a read is the contents and a write replaces them: vmap and grad of a
function that makes Refs see only the pure operations on the contents.

Within a function that is traced to a jaxpr (by jit, or as the body of a loop), the Refs from outside have contents that
are known only when the jaxpr runs. Their reads and writes are therefore recorded, as equations `ref_get` and `ref_set`
on an input that stands for the Ref, in the innermost such function. These equations are short-lived: the operation
that carries the jaxpr (jit, scan, while, cond, …) is bound with the Ref as an operand, and `Primitive.bind` hands such
a call to the primitive's `discharge` rule. The rule turns the jaxpr into one of contents to contents (`pure_jaxpr`),
reads the Ref, binds the pure operation (a loop carries the contents along) and writes the result into the Ref. If that
happens within another traced function, the read and the write are recorded there, and so on outwards until the trace
where the Ref lives. So it is enough that each rule is right about one level, and no transform and no compiler pass ever
meets a Ref: they come after `bind`.

What is written must make sense where the Ref lives: a value that is being differentiated or mapped inside cannot be put
into a Ref outside, as it would leak; that is an error. A Ref is no array: it cannot be returned, nor differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core import traces
from funcgrad.core.array_types import ArrayLike, Reference, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import JaxprTrace, trace_to_jaxpr
from funcgrad.core.tracers import Tracer, check_not_leaked
from funcgrad.core.traces import Trace, eval_trace
from funcgrad.errors import ArgumentError, DeletedArrayError, DTypeError, IndexingError, LeakedTracerError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.shapes import zeros_of
from funcgrad.transforms.flattening import abstract
from funcgrad.transforms.interpreters.partial_eval import PartialEvalTrace


class Ref(Reference):
    """A mutable array: ``ref[index]`` reads, ``ref[index] = value`` writes. Made by `new_ref`."""

    __slots__ = ("aval", "_contents", "_trace", "__weakref__")

    def __init__(self, contents: Any, aval: ShapedArray | None = None):
        self.aval: ShapedArray = aval_of(contents) if aval is None else aval
        self._contents: Any = contents
        self._trace = traces.state.trace

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: self.aval.ndim)
    size = property(lambda self: self.aval.size)
    weak_type = property(lambda self: self.aval.weak_type)

    def _recorder(self) -> JaxprTrace | None:
        """Return the innermost trace between here and where the Ref lives that records a function, if any does."""
        found: JaxprTrace | None = None
        trace = traces.state.trace
        while trace is not self._trace:
            if trace is eval_trace:
                where = f"the transform that it was made under ({self._trace.description or 'a transform'})"
                if self._trace.valid:
                    raise LeakedTracerError(
                        f"a Ref with contents of type {self.aval} is used by a function that runs outside of {where}",
                        fix="pass its contents, ref[...], to the function as an argument",
                    )
                raise LeakedTracerError(
                    f"a Ref with contents of type {self.aval} outlived {where}",
                    fix="return its contents, ref[...], instead of keeping the Ref",
                )
            if found is None and isinstance(trace, JaxprTrace) and not isinstance(trace, PartialEvalTrace):
                found = trace
            trace = trace.parent
        return found

    def read(self) -> Any:
        """Return the contents."""
        recorder = self._recorder()
        if recorder is not None:
            return recorder.record(get_p, [self], {})
        if self._contents is None:
            raise DeletedArrayError(f"the Ref of type {self.aval} has been frozen", fix="use the array that it gave")
        return self._contents

    def write(self, contents: Any) -> None:
        """Replace the contents by a value of exactly their type."""
        recorder = self._recorder()
        if isinstance(contents, Tracer):
            self._check_outlives(contents, recorder or self._trace)
        if recorder is not None:
            recorder.record(set_p, [self, contents], {})
        elif self._contents is None:
            self.read()
        else:
            self._contents = contents

    def _check_outlives(self, value: Tracer, home: Trace) -> None:
        """Raise when a value belongs to a transform inside of the trace where it is to be kept."""
        check_not_leaked(value)
        trace = home
        while trace is not value._trace:
            if trace is eval_trace:
                raise ArgumentError(
                    f"a value that depends on arguments of {value._trace.description or 'a transform'} is written "
                    f"to a Ref of type {self.aval} that lives outside of it",
                    fix="make the Ref inside, pass it to the mapped function as an argument, or write "
                    "lax.stop_gradient of the value",
                )
            trace = trace.parent

    def __getitem__(self, index: Any) -> Any:
        self._check_index(index)
        return self.read()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._check_index(index)
        self.write(self._typed(self.read().at[index].set(self._operand(value))))

    def addupdate(self, value: Any, index: Any = ()) -> None:
        """Add to the elements that the index selects; more than once to those that it selects more than once."""
        self._check_index(index)
        self.write(self._typed(self.read().at[index].add(self._operand(value))))

    def _operand(self, value: Any) -> Any:
        """Return a value to be written in the dtype of the Ref; Python scalars adapt, other types must be equal."""
        value = value if isinstance(value, ArrayLike) else as_array(value)
        aval = aval_of(value)
        if aval.dtype != self.dtype:
            common, _ = dtypes.promote(((self.dtype, False), (aval.dtype, aval.weak_type)))
            if not aval.weak_type or common != self.dtype:
                raise DTypeError(
                    f"a value of type {aval} is written to a Ref of type {self.aval}",
                    fix=f"cast it with .astype({self.dtype.name!r})",
                )
        if aval.ndim > self.ndim:
            raise ShapeError(f"a value of type {aval} is written to a Ref of type {self.aval}", fix="reshape the value")
        return convert_element_type(value, self.dtype, self.weak_type)

    def _typed(self, contents: Any) -> Any:
        return convert_element_type(contents, self.dtype, self.weak_type)

    def _check_index(self, index: Any) -> None:
        """Raise on static indices out of range, which on arrays would be clipped or dropped."""
        items = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(i, (int, np.integer, slice)) for i in items):
            return
        for i, n in zip(items, self.shape, strict=False):
            if not isinstance(i, slice) and not -n <= i < n:
                raise IndexingError(
                    f"index {i} is out of range for a Ref of type {self.aval}", fix=f"choose one in [{-n}, {n})"
                )

    def __len__(self) -> int:
        if not self.shape:
            raise ArgumentError("len() of a 0-d Ref", fix="read it with ref[...]")
        return self.shape[0]

    def __iter__(self) -> Any:
        return iter(self.read())

    def __bool__(self) -> bool:
        raise ArgumentError(f"a Ref of type {self.aval} was used as a bool", fix="read it with ref[...]")

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise ArgumentError(f"a Ref of type {self.aval} is not an array", fix="read it with ref[...]")

    def __repr__(self) -> str:
        if isinstance(self._contents, Tracer) or self._contents is None:
            return f"Ref<{'frozen, ' if self._contents is None else ''}{self.aval}>"
        return f"Ref({repr(self._contents).removeprefix('Array(')}"


get_p = Primitive(
    "ref_get",
    infer=lambda contents: contents,
    evaluate=lambda contents: contents,
    discharge=lambda args, params: args[0].read(),
    effectful=True,
)


def _discharge_set(args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    args[0].write(args[1])
    return []


set_p = Primitive(
    "ref_set",
    infer=lambda contents, value: [],
    evaluate=lambda contents, value: [],
    discharge=_discharge_set,
    multiple_results=True,
    effectful=True,
)

# ---------------------------------------------------------------- discharging


def pure_jaxpr(closed: ClosedJaxpr, args: Sequence[Any], carried: Sequence[Ref]) -> ClosedJaxpr:
    """Return a jaxpr that is bound to `args`, some of them Refs, as one of contents.

    Its inputs are those of `args` that are not in `carried`, of Refs the contents, and then the contents of `carried`.
    Its outputs are followed by the contents of `carried` afterwards; these must contain all that are `written`.
    """
    place = {r: i for i, r in enumerate(carried)}
    pattern = tuple(place.get(a, _FIXED) if isinstance(a, Ref) else _VALUE for a in args)
    avals = tuple(r.aval for r in carried)
    return closed.memo(("pure", pattern, avals), lambda: _pure_jaxpr(closed, pattern, avals))


_VALUE, _FIXED = -2, -1  # what an input is that is not the contents of a carried Ref


def _pure_jaxpr(closed: ClosedJaxpr, pattern: Sequence[int], carried: Sequence[ShapedArray]) -> ClosedJaxpr:
    given = [a for a, i in zip(closed.in_avals, pattern, strict=True) if i < 0]

    def fun(*flat: Any) -> list[Any]:
        others, refs = iter(flat[: len(given)]), [Ref(x) for x in flat[len(given) :]]
        args = [refs[i] if i >= 0 else Ref(next(others)) if i == _FIXED else next(others) for i in pattern]
        out = eval_jaxpr(closed.jaxpr, closed.consts, *args)
        return [*out, *(r.read() for r in refs)]

    return trace_to_jaxpr(fun, [*given, *carried], name=closed.jaxpr.name)


def written(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Ref]:
    """Return the Refs among `args`, each once, whose contents a jaxpr that is bound to them changes."""
    refs = list(dict.fromkeys(a for a in args if isinstance(a, Ref)))
    jaxpr = pure_jaxpr(closed, args, refs).jaxpr
    n = len(refs)
    pairs = zip(refs, jaxpr.invars[len(jaxpr.invars) - n :], jaxpr.outvars[len(jaxpr.outvars) - n :], strict=True)
    return [r for r, before, after in pairs if after is not before]


def contents_of(args: Sequence[Any], besides: Sequence[Ref] = ()) -> list[Any]:
    """Return args with the contents of Refs in their place, and without the Refs in `besides`."""
    return [a.read() if isinstance(a, Ref) else a for a in args if not (isinstance(a, Ref) and a in besides)]


def write_back(carried: Sequence[Ref], results: Sequence[Any]) -> list[Any]:
    """Put the last results into Refs; return the others."""
    n = len(results) - len(carried)
    for ref, contents in zip(carried, results[n:], strict=True):
        ref.write(contents)
    return list(results[:n])


def discharge_call(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Bind a primitive that calls the jaxpr in its params with its operands, some of which are Refs."""
    carried = written(params["jaxpr"], args)
    pure = pure_jaxpr(params["jaxpr"], args, carried)
    return write_back(
        carried, primitive.bind(*contents_of(args, carried), *contents_of(carried), **params | {"jaxpr": pure})
    )


def discharge_reader(primitive: Primitive, args: Sequence[Any], params: dict[str, Any], param: str) -> list[Any]:
    """Bind a primitive whose function, the jaxpr `param` of its params, may read the Refs among its operands."""
    for ref in written(params[param], args):
        raise ArgumentError(
            f"{primitive.name}: {params[param].jaxpr.name} writes to a Ref with contents of type {ref.aval}; a "
            "function with rules of its own may only read Refs that it closes over",
            fix="return the value, and write it where the function is called",
        )
    return primitive.bind(*contents_of(args), **params | {param: pure_jaxpr(params[param], args, [])})


# ---------------------------------------------------------------- Refs as arguments


def check_unaliased(refs: Sequence[Ref], operation: str) -> None:
    """Raise when a function gets one Ref in two ways."""
    twice = next((r for r in refs if list(refs).count(r) > 1), None)
    if twice is not None:
        raise ArgumentError(
            f"{operation}: one Ref of type {twice.aval} comes as two arguments, or as an argument and closed over",
            fix="give each Ref once",
        )


class RefArguments:
    """The Refs among a function's flat arguments, and Refs that stand for them while the function is traced.

    The traced function closes over the stand-ins, as over other Refs; they are known by identity when it is called.
    Where the trace is for one call only, Refs may stand for themselves (`reusable=False`).
    """

    def __init__(self, flat: Sequence[Any], operation: str, reusable: bool = True):
        self.operation = operation
        self.avals = [x.aval if isinstance(x, Ref) else abstract(x) for x in flat]
        refs = {i: x for i, x in enumerate(flat) if isinstance(x, Ref)}
        self.stand_ins = {i: Ref(None, r.aval) for i, r in refs.items()} if reusable else refs

    @property
    def array_avals(self) -> list[ShapedArray]:
        """The types of the arguments that are not Refs."""
        return self.of_array_places(self.avals)

    def of_array_places(self, values: Sequence[Any]) -> list[Any]:
        """Return those of one value per argument that belong to arguments which are not Refs."""
        return [v for i, v in enumerate(values) if i not in self.stand_ins]

    def of_arrays(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        """Return `fun` as a function of the other arguments, with the stand-ins filled in."""
        if not self.stand_ins:
            return fun

        def filled(*arrays: Any) -> Any:
            rest = iter(arrays)
            return fun(*(self.stand_ins[i] if i in self.stand_ins else next(rest) for i in range(len(self.avals))))

        return filled

    def lasting(self, hoisted: Sequence[Any]) -> bool:
        """Whether all values that a function closes over are stand-ins, or Refs made outside of all transforms."""
        lasting = [*self.stand_ins.values()]
        return all(isinstance(h, Ref) and (h._trace is eval_trace or h in lasting) for h in hoisted)

    def resolve(self, hoisted: Sequence[Any], flat: Sequence[Any]) -> list[Any]:
        """Put the Refs of a call in the place of stand-ins; raise where a Ref comes in two ways."""
        if not hoisted and not self.stand_ins:
            return []
        given = {stand_in: flat[i] for i, stand_in in self.stand_ins.items()}
        arguments = [*given.values(), *(h for h in hoisted if isinstance(h, Ref) and h not in given)]
        check_unaliased(arguments, self.operation)
        return [given.get(h, h) if isinstance(h, Ref) else h for h in hoisted]


# ---------------------------------------------------------------- the functions


def new_ref(init_val: Any, *, memory_space: Any = None, kind: str | None = None) -> Ref:
    """Return a mutable array with the given initial contents.

    ``ref[index]`` reads and ``ref[index] = value`` writes, with the index expressions of arrays; ``ref[...]`` is all.
    A function that makes Refs is pure for whoever calls it, so it may be jitted, differentiated and mapped. Functions
    under jit, bodies of loops and branches may also read and write Refs from outside, which they close over; jit and
    vmap take them as arguments. `memory_space` and `kind` are accepted for compatibility.

    >>> ref = new_ref(np.arange(3.0))
    >>> ref[0] = 5.0
    >>> ref[1:] *= 2.0
    >>> ref
    Ref([5., 2., 4.], dtype=float32)
    """
    return Ref(init_val if isinstance(init_val, ArrayLike) else as_array(init_val))


def empty_ref(ty: Any, memory_space: Any = None) -> Ref:
    """Return a Ref for contents of a type (anything with a shape and dtype); it starts with zeros.

    >>> import funcgrad as fg
    >>> empty_ref(fg.ShapeDtypeStruct((2,), "float32"))
    Ref([0., 0.], dtype=float32)
    """
    return Ref(zeros_of(aval_of(ty).strengthened()))


def _home_only(ref: Ref, operation: str) -> Any:
    if ref._trace is not traces.state.trace:
        raise ArgumentError(
            f"{operation}: the Ref of type {ref.aval} was made outside of this function",
            fix=f"{operation} it where it was made",
        )
    return ref.read()


def freeze(ref: Ref) -> Any:
    """Return the contents of a Ref and end its life: using it afterwards raises DeletedArrayError.

    >>> freeze(new_ref(1.0))
    Array(1., dtype=float32, weak_type=True)
    """
    contents = _home_only(ref, "freeze")
    ref._contents = None
    return contents


def free_ref(ref: Ref) -> None:
    """End the life of a Ref."""
    freeze(ref)


def get(ref: Ref, idx: Any = None) -> Any:
    """Return ref[idx]; None means all.

    >>> get(new_ref(np.arange(3)), 1)
    Array(1, dtype=int32)
    """
    return ref[... if idx is None else idx]


def swap(ref: Ref, idx: Any, value: Any) -> Any:
    """Write a value and return the one that was there: ``ref[idx], previous = value, ref[idx]``.

    >>> swap(new_ref(np.arange(3)), 2, 7)
    Array(2, dtype=int32)
    """
    previous = get(ref, idx)
    set(ref, idx, value)
    return previous


def set(ref: Ref, idx: Any, value: Any) -> None:  # noqa: A001
    """Write ``ref[idx] = value``; None means all.

    >>> ref = new_ref(np.arange(3))
    >>> set(ref, 1, 7)
    >>> ref
    Ref([0, 7, 2], dtype=int32)
    """
    ref[... if idx is None else idx] = value


def addupdate(ref: Ref, idx: Any, x: Any) -> None:
    """Add `x` to ref[idx], repeatedly where indices repeat; None means all.

    >>> ref = new_ref(np.zeros(2))
    >>> addupdate(ref, np.array([0, 0]), 1.0)
    >>> ref
    Ref([2., 0.], dtype=float32)
    """
    ref.addupdate(x, ... if idx is None else idx)
