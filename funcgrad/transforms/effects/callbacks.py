"""Calls of Python functions from traced and compiled code: pure_callback and io_callback."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import AxisData, Primitive
from funcgrad.errors import (
    ArgumentError,
    BatchingError,
    DTypeError,
    FuncgradError,
    MissingRuleError,
    NotDifferentiableError,
    ShapeError,
    user_location,
)
from funcgrad.ops.random_bits import random_unwrap_p, random_wrap_p
from funcgrad.ops.shapes import broadcast_in_batch, expand_dims, move_axis
from funcgrad.transforms.control_flow import scan
from funcgrad.transforms.flattening import callable_or_error, name_of

VMAP_METHODS = ("sequential", "sequential_unrolled", "expand_dims", "broadcast_all", "legacy_vectorized")


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array or becomes one; others (strings, objects) reach a callback as they are."""
    try:
        aval_of(leaf)
    except FuncgradError:
        return False
    return True


class HostFunction:
    """A Python function of a pytree, called with the arrays among its leaves; other leaves were given when it was made.

    It knows the line of the call that made it, for errors that occur when it runs, and what NumPy was to do about
    floating-point errors there.
    """

    # Two are never the same to a cache: closures must not be kept alive by what has been inferred of their types.
    __hash__ = None

    def __init__(self, fun: Callable[..., Any], arguments: tuple[tuple, dict[str, Any]], result: Any, operation: str):
        leaves, self.in_tree = tree.flatten(arguments)
        flags = [is_array(x) for x in leaves]
        self.fun, self.operation, self.location = fun, operation, user_location()
        arrays = [x for x, dynamic in zip(leaves, flags, strict=True) if dynamic]
        # Compiled programs have no keys: the operands are their words.
        self._are_keys = [aval_of(x).dtype is dtypes.key for x in arrays]
        self.arrays = [random_unwrap_p.bind(x) if k else x for x, k in zip(arrays, self._are_keys, strict=True)]
        self._static = {i: x for i, x in enumerate(leaves) if not flags[i]}
        self.out_tree = tree.structure(result)
        self._floating_point_errors = np.geterr()

    def take_arrays(self) -> list[Any]:
        """Return the arrays, and forget them: the primitive's operands hold them from now on."""
        arrays, self.arrays = self.arrays, []
        return arrays

    def __repr__(self) -> str:
        return name_of(self.fun)

    def __call__(self, *operands: Any) -> Any:
        """Call the function with NumPy operands, which are copied: memory of a program is used again."""
        rest = map(_argument, operands, self._are_keys)
        n = len(self._static) + len(operands)
        leaves = [self._static[i] if i in self._static else next(rest) for i in range(n)]
        args, kwargs = self.in_tree.unflatten(leaves)
        with np.errstate(**self._floating_point_errors):
            return self.fun(*args, **kwargs)

    def results(self, operands: Sequence[Any], avals: Sequence[ShapedArray]) -> list[np.ndarray]:
        """Call the function and return its results, which must be of the promised types."""
        out = self(*operands)
        leaves, structure = tree.flatten(out)
        # Lists may stand for tuples, as in JAX: leaves count.
        if len(leaves) != len(avals):
            raise ArgumentError(
                f"{self.operation} of {self}: the callback returned structure {structure}, "
                f"result_shape_dtypes has {self.out_tree}",
                fix="return one array for each leaf of result_shape_dtypes",
                location=self.location,
            )
        return [self._checked(x, a, i, len(avals)) for i, (x, a) in enumerate(zip(leaves, avals, strict=True))]

    def _checked(self, value: Any, wanted: ShapedArray, i: int, n: int) -> np.ndarray:
        if not is_array(value):
            raise ArgumentError(
                f"{self.operation} of {self}: the callback returned {value!r:.60} of type {type(value).__name__}, "
                f"promised was {wanted}",
                fix="return arrays",
                location=self.location,
            )
        have = aval_of(value)
        if have.shape != wanted.shape or have.dtype != wanted.dtype:
            raise (ShapeError if have.shape != wanted.shape else DTypeError)(
                f"{self.operation} of {self}: the callback returned {have.strengthened()}"
                f"{f' as result {i}' if n > 1 else ''}, result_shape_dtypes promised {wanted}",
                fix="have the callback return what result_shape_dtypes says, or correct that",
                location=self.location,
            )
        return np.array(value, wanted.dtype)


def _argument(x: Any, is_key: bool) -> Array:
    array = Array(ShapedArray(x.shape, x.dtype), np.array(x))
    return random_wrap_p.evaluate_eagerly([array], {}) if is_key else array


def promised(result_shape_dtypes: Any, operation: str) -> tuple[ShapedArray, ...]:
    """Return the types that the leaves of `result_shape_dtypes` describe."""
    avals = []
    for leaf in tree.leaves(result_shape_dtypes):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise ArgumentError(
                f"{operation}: result_shape_dtypes has the leaf {leaf!r:.60}, which has no shape and dtype",
                fix="give ShapeDtypeStruct(shape, dtype), or an array, for each result",
            )
        dtype = dtypes.as_dtype(leaf.dtype)
        if dtypes.canonicalize(dtype) != dtype:
            raise ArgumentError(
                f"{operation}: result_shape_dtypes cannot specify 64-bit types when enable_x64 is off, "
                f"it has {dtype.name}",
                fix=f"ask for {dtypes.canonicalize(dtype).name}, or enable_x64",
            )
        avals.append(ShapedArray(tuple(leaf.shape), dtype))
    return tuple(avals)


def _infer(*avals: ShapedArray, result_avals: Sequence[ShapedArray], **_: Any) -> list[ShapedArray]:
    return list(result_avals)


def _evaluate(*operands: Any, callback: HostFunction, result_avals: Sequence[ShapedArray], **_: Any) -> list[Any]:
    return callback.results(operands, result_avals)


def _no_jvp(name: str, primals: Sequence[Any], tangents: Sequence[Any], **_: Any) -> Any:
    raise NotDifferentiableError(
        f"{name} does not support JVP: nothing is known of the derivative of a Python function",
        fix="give the derivative with custom_jvp or custom_vjp, or stop it with lax.stop_gradient on the arguments",
    )


def _one_by_one(
    primitive: Primitive, args: Sequence[Any], dims: Sequence[int | None], params: dict[str, Any], unrolled: bool
) -> tuple[list[Any], list[int]]:
    """Apply the primitive to each element of the batch in turn."""
    batched = [move_axis(a, d, 0) for a, d in zip(args, dims, strict=True) if d is not None]
    size = aval_of(batched[0]).shape[0]

    def step(carry: tuple, elements: Sequence[Any]) -> tuple[tuple, list[Any]]:
        rest = iter(elements)
        return carry, primitive.bind(
            *(a if d is None else next(rest) for a, d in zip(args, dims, strict=True)), **params
        )

    out = scan(step, (), batched, unroll=size if unrolled and size else 1)[1]
    return out, [0] * len(out)


def _pure_batch(
    axis: AxisData,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    result_avals: Sequence[ShapedArray],
    **params: Any,
) -> tuple[list[Any], list[int]]:
    method = params["vmap_method"]
    if method is None:
        raise MissingRuleError(
            "pure_callback: vmap_method=None says nothing of how the callback is mapped",
            fix=f"give vmap_method, one of {', '.join(map(repr, VMAP_METHODS))}",
        )
    if method.startswith("sequential"):
        params["result_avals"] = result_avals
        return _one_by_one(pure_callback_p, args, dims, params, method == "sequential_unrolled")
    size = axis.size
    unmapped: Callable[[Any], Any] = {
        "expand_dims": lambda x: expand_dims(x, (0,)),
        "broadcast_all": lambda x: broadcast_in_batch(x, size, 0),
        "legacy_vectorized": lambda x: x,
    }[method]
    leading = [unmapped(a) if d is None else move_axis(a, d, 0) for a, d in zip(args, dims, strict=True)]
    avals = tuple(a.update(shape=(size, *a.shape)) for a in result_avals)
    return pure_callback_p.bind(*leading, result_avals=avals, **params), [0] * len(avals)


pure_callback_p = Primitive(
    "pure_callback",
    infer=_infer,
    evaluate=_evaluate,
    jvp=functools.partial(_no_jvp, "pure_callback"),
    batch=_pure_batch,
    multiple_results=True,
)


def _io_batch(
    axis: AxisData, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int]]:
    if params["ordered"]:
        raise BatchingError(
            "vmap of an ordered io_callback: the elements of a batch have no order",
            fix="drop ordered=True, or loop with lax.scan or lax.map instead of vmap",
        )
    return _one_by_one(io_callback_p, args, dims, params, unrolled=False)


io_callback_p = Primitive(
    "io_callback",
    infer=_infer,
    evaluate=_evaluate,
    jvp=functools.partial(_no_jvp, "io_callback"),
    batch=_io_batch,
    multiple_results=True,
    ordered_effect=True,
)


def _call(primitive: Primitive, callback: Any, result: Any, args: tuple, kwargs: dict, **params: Any) -> Any:
    callable_or_error(callback, primitive.name)
    avals = promised(result, primitive.name)
    function = HostFunction(callback, (args, kwargs), result, primitive.name)
    out = primitive.bind(*function.take_arrays(), callback=function, result_avals=avals, **params)
    return function.out_tree.unflatten(out)


def pure_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: Any = None,
    vmap_method: str | None = None,
    **kwargs: Any,
) -> Any:
    """Return callback(*args, **kwargs), a Python function called while the program runs, also under jit.

    `result_shape_dtypes` is a pytree of `ShapeDtypeStruct` (or of arrays) that describes the results. The function
    gets arrays, may return NumPy arrays or Python numbers, and must be pure: it may be called more than once, or
    not at all when its results are not used. What it raises comes out of the call of the program.

    `vmap_method` says what `vmap` does: None (the default) is an error; "sequential" calls the function for each
    element, in a loop, "sequential_unrolled" likewise without a loop; the others call it once, with batches along
    leading axes: "expand_dims" gives operands that are not mapped a leading axis of size 1, "broadcast_all" one of
    the batch's size, "legacy_vectorized" leaves them as they are. There is no derivative: give one with
    `custom_jvp`. `sharding` is accepted for compatibility.

    >>> import funcgrad as fg
    >>> f = lambda x: pure_callback(np.sin, fg.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")
    >>> fg.jit(f)(np.float32(1.0))
    Array(0.841471, dtype=float32)
    """
    if vmap_method is not None and vmap_method not in VMAP_METHODS:
        raise ArgumentError(
            f"pure_callback: vmap_method is {vmap_method!r}", fix=f"give one of {', '.join(VMAP_METHODS)}, or None"
        )
    return _call(
        pure_callback_p, callback, result_shape_dtypes, args, kwargs, sharding=sharding, vmap_method=vmap_method
    )


def io_callback(
    callback: Callable[..., Any],
    result_shape_dtypes: Any,
    *args: Any,
    sharding: Any = None,
    ordered: bool = False,
    **kwargs: Any,
) -> Any:
    """Return callback(*args, **kwargs), a Python function with side effects, called each time the program gets there.

    As `pure_callback`, but the call is never dropped, repeated or moved past another one: all effects of a program
    happen in the order of the program, `ordered` or not. `vmap` calls it for each element; of an ordered one it is
    an error, as is a derivative.

    >>> import funcgrad as fg
    >>> seen = []
    >>> def log(x):
    ...     seen.append(float(x))
    >>> fg.jit(lambda x: io_callback(log, None, 2 * x))(1.0)
    >>> seen
    [2.0]
    """
    return _call(io_callback_p, callback, result_shape_dtypes, args, kwargs, sharding=sharding, ordered=ordered)


def effects_barrier() -> None:
    """Wait for the side effects of running programs; a program returns after its effects, so there is nothing to do.

    >>> effects_barrier()
    """
