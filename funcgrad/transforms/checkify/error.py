"""Errors as values: which check failed first, and its message.

An `Error` is a code, 0 as long as no check has failed, and the values for messages. Each check has its own code,
given when it is traced. Checks with values of the same types share the place of these values (a slot), so that an
error is small however many checks there are. `first(e, f)` is e if something failed in it, else f: associative, with
`init_error` as its unit, which is what makes errors fit through loops and branches.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Rewrite
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import state
from funcgrad.errors import ArgumentError, SourceLocation, user_location
from funcgrad.ops.casts import convert_element_type, stop_gradient_p
from funcgrad.ops.dynamic_slices import dynamic_slice_p
from funcgrad.ops.logic import eq_p, ne_p, not_p
from funcgrad.ops.reductions import reduce_max
from funcgrad.ops.selection import select_n_p
from funcgrad.ops.shapes import full, reshape, to_dim, zeros_of
from funcgrad.ops.slicing import iota
from funcgrad.transforms.checkify.exceptions import BatchedError, FailedCheckError, JaxException, JaxRuntimeError
from funcgrad.tree_registry import register_pytree_node_class

Slot = tuple[ShapedArray, ...]
CODE = ShapedArray((), dtypes.int32)


class Failure(NamedTuple):
    """The meaning of a code: the structure of an exception, and the slot that holds its leaves."""

    structure: tree.PyTreeDef
    slot: Slot

    @property
    def kind(self) -> type[JaxException]:
        """The class of the exception."""
        node = self.structure.node_data()
        assert node is not None and issubclass(node[0], JaxException)
        return node[0]

    @property
    def location(self) -> SourceLocation | None:
        """The line that was checked."""
        _, (location, *_) = self.structure.node_data() or (None, (None,))
        return location


@register_pytree_node_class
class Error:
    """The first check that failed, if any, as returned by a function transformed by `checkify`.

    A pytree of arrays. Under vmap, jit and the like it is made of tracers and cannot be read; return it and read
    it outside.
    """

    def __init__(self, code: Any, payload: dict[Slot, Sequence[Any]], failures: dict[int, Failure]):
        self.code, self.payload, self.failures = code, payload, failures

    def get(self) -> str | None:
        """Return the message of the check that failed first, or None."""
        exception = self.get_exception()
        return None if exception is None else str(exception)

    def get_exception(self) -> JaxException | None:
        """Return the check that failed first as an exception, or None; with mapped axes a `BatchedError`."""
        codes = np.asarray(self.code)
        if codes.ndim == 0:
            return self._exception(int(codes), ())
        found = {i: self._exception(int(codes[i]), i) for i in np.ndindex(*codes.shape) if codes[i]}
        mapping = {i: e for i, e in found.items() if e is not None}
        return BatchedError(mapping) if mapping else None

    def _exception(self, code: int, lane: tuple[int, ...]) -> JaxException | None:
        if code == 0:
            return None
        failure = self.failures[code]
        return failure.structure.unflatten([np.asarray(x)[lane] for x in self.payload[failure.slot]])

    def throw(self) -> None:
        """Raise JaxRuntimeError if a check failed."""
        check_error(self)

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """Return the arrays and the static data: the types of the values, and messages."""
        return (self.code, *map(tuple, self.payload.values())), (tuple(self.payload), tuple(self.failures.items()))

    @classmethod
    def tree_unflatten(cls, static: tuple, children: Sequence[Any]) -> Error:
        """Build an error from what `tree_flatten` returned."""
        slots, failures = static
        return cls(children[0], dict(zip(slots, children[1:], strict=True)), dict(failures))

    def __repr__(self) -> str:
        return f"Error({self.code if isinstance(self.code, Tracer) else self.get()})"


init_error = Error(np.int32(0), {}, {})
_codes = itertools.count(1)  # unique in the process: errors of functions traced apart can be merged


def first(error: Error, later: Error) -> Error:
    """Return `error` if one of its checks failed, else `later`."""
    if error is init_error:
        return later
    none = eq_p.bind(error.code, np.int32(0))
    code = select_n_p.bind(none, error.code, later.code)
    payload = dict(error.payload)
    for slot, values in later.payload.items():
        old = payload.get(slot)
        payload[slot] = (
            values if old is None else [select_n_p.bind(none, x, y) for x, y in zip(old, values, strict=True)]
        )
    return Error(code, payload, error.failures | later.failures)


def error_if(failed: Any, exception: JaxException) -> Error:
    """Return the error that is `exception` where `failed`, a bool scalar, holds."""
    leaves, structure = tree.flatten(exception)
    leaves = [_settled(x) for x in leaves]
    slot = tuple(aval_of(x) for x in leaves)
    code = next(_codes)
    chosen = select_n_p.bind(failed, np.int32(0), np.int32(code))
    return Error(chosen, {slot: leaves}, {code: Failure(structure, slot)})


def _settled(x: Any) -> Any:
    """A value for a message: strongly typed, so that slots agree, and constant to derivatives."""
    x = convert_element_type(x, aval_of(x).dtype)
    return stop_gradient_p.bind(x) if dtypes.is_inexact(aval_of(x).dtype) else x


def restricted(error: Error, kinds: Iterable[type[JaxException]]) -> Error:
    """Return the error without failures of other kinds."""
    kinds = frozenset(kinds)
    code, kept = error.code, {c: f for c, f in error.failures.items() if f.kind in kinds}
    for other in error.failures.keys() - kept.keys():
        code = select_n_p.bind(eq_p.bind(code, np.int32(other)), code, np.int32(0))
    return Error(code, error.payload, kept) if kept else init_error


# ---------------------------------------------------------------- errors as flat arrays, inside of jaxprs


def slot_avals(slots: Iterable[Slot]) -> list[ShapedArray]:
    """Return the types of an error's arrays."""
    return [CODE, *(a for slot in slots for a in slot)]


def flatten_error(error: Error) -> list[Any]:
    """Return an error's arrays: its code, then the values slot by slot."""
    return [error.code, *(x for values in error.payload.values() for x in values)]


def unflatten_error(slots: Sequence[Slot], leaves: Sequence[Any], failures: dict[int, Failure]) -> Error:
    """Build an error from its arrays; the reverse of `flatten_error`."""
    code, *values = leaves
    rest = iter(values)
    return Error(code, {slot: [next(rest) for _ in slot] for slot in slots}, failures)


def with_slots(error: Error, slots: Iterable[Slot]) -> Error:
    """Return the error with places for the values of further checks."""
    missing = {slot: [zeros_of(a) for a in slot] for slot in slots if slot not in error.payload}
    return Error(error.code, error.payload | missing, error.failures)


# ---------------------------------------------------------------- the primitive that raises


def _evaluate(*leaves: np.ndarray, structure: tree.PyTreeDef, debug: bool) -> list[Any]:
    exception = None if debug else structure.unflatten(leaves).get_exception()
    if exception is not None:
        raise JaxRuntimeError(
            exception.summary,
            fix="correct the value, or return the error as a value with checkify",
            location=exception.location,
        ) from exception
    return []


def _expand(*leaves: Any, structure: tree.PyTreeDef, debug: bool) -> list[Any]:
    if debug:
        return []
    _, (_, failures) = structure.node_data() or (None, ((), ()))
    raise ArgumentError(
        "check: compiled code (of jit, scan, while_loop, cond) cannot raise, and this check was not functionalized",
        fix="transform the function with checkify.checkify and read the error that it returns, or use debug_check",
        location=failures[0][1].location if failures else None,
    )


def _batch(axis: AxisData, args: Sequence[Any], dims: Sequence[Any], *, structure: tree.PyTreeDef, debug: bool) -> Any:
    """Check the last element of the batch that failed."""
    size = axis.size
    code, *values = (to_dim(a, d, 0, size) for a, d in zip(args, dims, strict=True))
    failed = ne_p.bind(code, np.int32(0))
    position = iota(dtypes.int32, (size,), 0)
    lane = reduce_max(select_n_p.bind(failed, full((size,), 0, dtypes.int32), position), (0,))
    check_p.bind(*(_at(x, lane) for x in (code, *values)), structure=structure, debug=debug)
    return [], []


def _at(x: Any, i: Any) -> Any:
    shape = aval_of(x).shape[1:]
    starts = [i, *(np.int32(0) for _ in shape)]
    return reshape(dynamic_slice_p.bind(x, *starts, slice_sizes=(1, *shape)), shape)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[list, list]:
    check_p.bind(*primals, **params)
    return [], []


check_p = Primitive(
    "check",
    infer=lambda *avals, structure, debug: [],
    evaluate=_evaluate,
    jvp=_jvp,
    batch=_batch,
    lowering=Rewrite(_expand),
    multiple_results=True,
    effectful=True,
)


def check_error(error: Error) -> None:
    """Raise JaxRuntimeError if a check of `error` failed: the inverse of `checkify`.

    In a function that is itself under `checkify`, the error becomes one of that function.

    >>> import funcgrad.numpy as jnp
    >>> from funcgrad.transforms.checkify.functionalize import checkify
    >>> def root(x):
    ...     check(x >= 0, "{} has no root", x)
    ...     return jnp.sqrt(x)
    >>> error, out = checkify(root)(jnp.float32(-1.0))
    >>> check_error(error)
    Traceback (most recent call last):
        ...
    funcgrad.transforms.checkify.exceptions.JaxRuntimeError: -1.0 has no root (`check` failed)
    ...
    """
    if not isinstance(error, Error):
        raise ArgumentError(
            f"check_error: the argument is a {type(error).__name__}, not an Error",
            fix="pass the first result of a function made by checkify",
        )
    _bind_check(error, debug=False)


def _bind_check(error: Error, debug: bool) -> None:
    leaves, structure = tree.flatten(error)
    dims = [0 if aval_of(error.code).ndim else None for _ in leaves]
    if dims[0] is None:
        check_p.bind(*leaves, structure=structure, debug=debug)
    else:
        axis = AxisData(None, aval_of(error.code).shape[0])
        check_p.batch(axis, leaves, dims, structure=structure, debug=debug)


def check(pred: Any, msg: str, *fmt_args: Any, debug: bool = False, **fmt_kwargs: Any) -> None:
    """Raise JaxRuntimeError with `msg`, formatted with the arguments as by str.format, unless `pred` holds.

    The arguments are pytrees of arrays and may be traced. A function with checks cannot be compiled as it is:
    `checkify` turns it into a function that returns the error. With `debug`, checks run only under `checkify`.

    >>> check(np.bool_(True), "never seen")

    Raises:
      ArgumentError: `pred` is not a bool scalar, a formatting argument is not an array; or, when compiled, the
        check has not been functionalized.
    """
    operation = "debug_check" if debug else "check"
    if not isinstance(pred, (bool, np.bool_)) and not (
        isinstance(pred, (ArrayLike, np.ndarray)) and aval_of(pred) == ShapedArray((), dtypes.bool_)
    ):
        raise ArgumentError(
            f"{operation}: the predicate is {pred!r}, not a bool scalar",
            fix="reduce it with .all() or .any()",
        )
    for leaf in tree.leaves((fmt_args, fmt_kwargs)):
        if not isinstance(leaf, (ArrayLike, np.ndarray, np.generic)):
            raise ArgumentError(
                f"{operation}: formatting argument {leaf!r} of type {type(leaf).__name__} is not an array",
                fix="make it an array, or put it into the message beforehand",
            )
    exception = FailedCheckError(state.source or user_location(), msg, fmt_args, fmt_kwargs)
    _bind_check(error_if(not_p.bind(pred), exception), debug)


def debug_check(pred: Any, msg: str, *fmt_args: Any, **fmt_kwargs: Any) -> None:
    """Check as `check` does, but only under `checkify`; otherwise nothing is done.

    >>> debug_check(np.bool_(False), "not checked here")
    """
    check(pred, msg, *fmt_args, debug=True, **fmt_kwargs)
