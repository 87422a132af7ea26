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

A written value must exist where the Ref lives: a value that is differentiated or vmapped inside cannot be put
into a Ref outside, as it would leak; that is an error. A Ref is no array: it cannot be returned, nor differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core import traces
from funcgrad.core.array_types import ArrayLike, Reference, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import Primitive
from funcgrad.core.staging import JaxprTrace
from funcgrad.core.tracers import Tracer, check_not_leaked
from funcgrad.core.traces import Trace, eval_trace
from funcgrad.errors import ArgumentError, DeletedArrayError, DTypeError, IndexingError, LeakedTracerError, ShapeError
from funcgrad.ops.casts import convert_element_type
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
