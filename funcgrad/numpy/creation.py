"""Functions that create arrays: from data, filled with a value, ranges and grids."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.arguments.axes import as_int, as_shape
from funcgrad.arguments.promotion import as_operand, broadcast_to, promote_inexact
from funcgrad.core import traces
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.quiet import quiet
from funcgrad.core.tracers import Tracer
from funcgrad.errors import AllocationError, ArgumentError, DTypeError
from funcgrad.numpy import ufuncs as uf
from funcgrad.ops import arithmetic as ar
from funcgrad.ops import casts, shapes, slicing

__all__ = [
    "arange",
    "array",
    "asarray",
    "astype",
    "copy",
    "empty",
    "empty_like",
    "from_dlpack",
    "frombuffer",
    "fromfile",
    "fromfunction",
    "fromiter",
    "fromstring",
    "full",
    "full_like",
    "geomspace",
    "linspace",
    "logspace",
    "meshgrid",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]

# ---------------------------------------------------------------- from data


def array(
    object: Any, dtype: Any = None, copy: bool = True, order: str = "K", ndmin: int = 0, *, device: Any = None
) -> Any:
    """Create an array from a number, an array, nested sequences of them, or any object that NumPy converts.

    By default the dtype is the common dtype of the elements, with 32 bits unless `enable_x64`. A Python scalar gives a
    weakly typed array.

    >>> array([1, 2]), array(1.0)
    (Array([1, 2], dtype=int32), Array(1., dtype=float32, weak_type=True))
    """
    target = None if dtype is None else dtypes.requested(dtype, "array")
    if hasattr(object, "__jax_array__"):
        object = object.__jax_array__()
    if isinstance(object, ArrayLike):
        out = object if target is None else casts.convert_element_type(object, target)
        out = casts.copy_p.bind(out) if copy and out is object else out
    elif isinstance(object, (builtins.bool, int, float, complex)) and not isinstance(object, np.generic):
        out = _from_scalar(object, target)
    elif isinstance(object, (list, tuple)):
        kinds = _leaf_types(object)
        if _are_arrays(kinds):
            out = _from_sequence(object, target)
        else:
            out = _from_numpy(object, target or _common_dtype(object, kinds))
    else:
        out = _from_numpy(object, target)
    lead = ndmin - aval_of(out).ndim
    return shapes.reshape(out, (1,) * lead + aval_of(out).shape) if lead > 0 else out


def _from_scalar(x: Any, dtype: np.dtype | None) -> Array:
    result_dtype = dtypes.of_python_scalar(x) if dtype is None else dtype
    assert result_dtype is not None
    weak = dtype is None and result_dtype != dtypes.bool_
    if dtype is not None and isinstance(x, float) and dtypes.is_integer(result_dtype):
        return Array(ShapedArray((), result_dtype), casts.cast(np.asarray(x), result_dtype))
    if isinstance(x, complex) and not dtypes.is_complex(result_dtype):
        raise DTypeError(f"{x!r} is complex, dtype {result_dtype.name} is not", fix="take .real first")
    return Array(ShapedArray((), result_dtype, weak), _checked_integer(x, result_dtype))


def _checked_integer(x: Any, dtype: np.dtype) -> np.ndarray:
    if isinstance(x, int) and not isinstance(x, builtins.bool) and dtypes.is_integer(dtype):
        limits = np.iinfo(dtype)
        if not limits.min <= x <= limits.max:
            raise OverflowError(f"Python integer {x} is out of bounds for {dtype.name}")
    return quiet.run(np.asarray, x, dtype)


def _leaf_types(x: Any) -> set[type]:
    """Return the types of the elements of nested sequences."""
    return {type(v) for v in tree.leaves(x, is_leaf=lambda v: not isinstance(v, (list, tuple)))}


def _are_arrays(kinds: set[type]) -> builtins.bool:
    return builtins.any(issubclass(k, ArrayLike) or hasattr(k, "__jax_array__") for k in kinds)


def _common_dtype(x: Any, kinds: set[type]) -> np.dtype | None:
    """Return the dtype of nested sequences of NumPy values and Python numbers, which are weak; None for others."""
    typed, weak = (np.generic, np.ndarray), (builtins.bool, int, float, complex)
    if not (
        builtins.any(issubclass(k, typed) for k in kinds)
        and builtins.all(issubclass(k, (*typed, *weak)) for k in kinds)
    ):
        return None
    leaves = tree.leaves(x, is_leaf=lambda v: not isinstance(v, (list, tuple)))
    if builtins.any(getattr(v, "dtype", dtypes.int32).kind in "OUSmM" for v in leaves):
        return None
    avals = [aval_of(v.dtype.type(0)) if isinstance(v, typed) else aval_of(v) for v in leaves]
    return dtypes.promote(tuple(dict.fromkeys((a.dtype, a.weak_type) for a in avals)))[0]


def _from_sequence(x: Any, dtype: np.dtype | None) -> Any:
    """Stack nested sequences that contain arrays or tracers."""
    leaves = [as_operand(v, "array") for v in tree.leaves(x, is_leaf=lambda v: v is None)]
    common = dtype or dtypes.promote(tuple((v.aval.dtype, v.aval.weak_type) for v in leaves))[0]

    def stacked(node: Any) -> Any:
        if not isinstance(node, (list, tuple)):
            return casts.convert_element_type(as_operand(node, "array"), common)
        rows = [stacked(v) for v in node]
        if len({aval_of(r).shape for r in rows}) > 1:
            raise ArgumentError(
                f"elements of a sequence differ in shape: {', '.join(str(aval_of(r).shape) for r in rows)}",
                fix="all rows must have the same shape: pad them, or keep a list",
            )
        return slicing.concatenate([shapes.expand_dims(r, (0,)) for r in rows], 0)

    return stacked(x)


def _from_numpy(x: Any, dtype: np.dtype | None) -> Array:
    try:
        if isinstance(x, (list, tuple)) and dtype is not None and dtypes.is_integer(dtype):
            host = np.array(x)
            if dtypes.is_integer(host.dtype) and host.size and isinstance(x, (list, tuple)):
                np.array(x, dtype)  # raises OverflowError for integers that do not fit
        else:
            host = np.array(x)
    except (ValueError, TypeError) as e:
        raise ArgumentError(f"cannot make an array of {x!r:.80}: {e}", fix="nested sequences must be regular") from e
    if host.dtype.kind in "OUSmMV" and host.dtype.name not in ("bfloat16",) and host.dtype != dtypes.float0:
        error = ArgumentError if x is None else DTypeError
        raise error(
            f"{x!r:.80} holds {host.dtype.name} values", fix="arrays hold numbers and bools: convert them first"
        )
    result_dtype = dtype or (host.dtype if host.dtype == dtypes.float0 else dtypes.canonicalize(host.dtype))
    if isinstance(x, (list, tuple)) and dtypes.is_integer(host.dtype) and host.size and dtypes.is_integer(result_dtype):
        _checked_integer(int(host.max()), result_dtype), _checked_integer(int(host.min()), result_dtype)
    return Array(
        ShapedArray(host.shape, result_dtype), host if host.dtype == result_dtype else casts.cast(host, result_dtype)
    )


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None, device: Any = None
) -> Any:
    """Like `array`, but an array that has the dtype already is returned without a copy, unless `copy`."""
    return array(a, dtype=dtype, copy=bool(copy))


def copy(a: Any, order: str | None = None) -> Any:
    """Return a copy of an array."""
    return array(a, copy=True)


def astype(x: Any, dtype: Any, /, *, copy: bool = False, device: Any = None) -> Any:
    """Cast. Floats saturate to the integer range, NaN becomes 0; complex to real drops the imaginary part."""
    x = as_operand(x, "astype")
    target = dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, "astype")
    if target == dtypes.bool_ and x.aval.dtype != dtypes.bool_:
        return uf.not_equal(x, 0)
    return casts.convert_element_type(x, target)


def frombuffer(buffer: Any, dtype: Any = float, count: int = -1, offset: int = 0) -> Any:
    """Interpret a buffer as a vector."""
    return asarray(np.frombuffer(buffer, dtype=dtypes.as_dtype(dtype), count=count, offset=offset))


def fromiter(iterable: Any, dtype: Any, count: int = -1) -> Any:
    """Create a vector from the numbers of an iterable."""
    return asarray(np.fromiter(iterable, dtype=dtypes.as_dtype(dtype), count=count))


def fromstring(string: str, dtype: Any = float, count: int = -1, *, sep: str) -> Any:
    """Create a vector from the numbers in a string."""
    return asarray(np.fromstring(string, dtype=dtypes.as_dtype(dtype), count=count, sep=sep))


def fromfile(*args: Any, **kwargs: Any) -> Any:
    """Read a vector from a file; the arguments are those of `numpy.fromfile`."""
    return asarray(np.fromfile(*args, **kwargs))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """Create an array from an array of another library, through DLPack; it shares memory unless `copy`.

    The memory must not be written to while the array is in use: arrays are immutable.
    """
    host = np.from_dlpack(x)
    dtype = dtypes.canonicalize(host.dtype)
    return asarray(host) if copy or dtype != host.dtype else Array(ShapedArray(host.shape, dtype), host)


def fromfunction(function: Callable[..., Any], shape: Any, *, dtype: Any = float, **kwargs: Any) -> Any:
    """Return function(i, j, …), called with one index array per dimension of `shape`."""
    sizes = as_shape(shape, "fromfunction")
    grids = [slicing.iota(dtypes.canonicalize(dtype), sizes, d) for d in range(len(sizes))]
    return function(*grids, **kwargs)


# ---------------------------------------------------------------- filled with a value


def fill(shape: tuple[int, ...], value: Any, dtype: np.dtype, weak_type: bool = False, operation: str = "full") -> Any:
    """Return an array filled with a Python scalar: allocated when eager, a broadcast constant while tracing."""
    if traces.state.trace is not traces.eval_trace:
        return shapes.full(shape, value, dtype, weak_type)
    aval = ShapedArray(shape, dtype, weak_type)
    try:
        return Array(
            aval, np.zeros(shape, dtype) if type(value) is int and value == 0 else np.full(shape, value, dtype)
        )
    except (MemoryError, ValueError) as e:
        raise AllocationError(
            f"{operation}: an array of type {aval} needs {aval.nbytes / 2**30:.1f} GiB, which is not available",
            fix="use a smaller shape or dtype, or make it under jit where it need not exist",
        ) from e


def dtype_or_float(dtype: Any, operation: str) -> np.dtype:
    """Return the dtype that the user requested, or the default float dtype for None."""
    return dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, operation)


def zeros(shape: Any, dtype: Any = None, *, device: Any = None) -> Any:
    """Return an array of zeros; the dtype is float by default.

    >>> zeros(2)
    Array([0., 0.], dtype=float32)
    """
    return fill(as_shape(shape, "zeros"), 0, dtype_or_float(dtype, "zeros"), operation="zeros")


def ones(shape: Any, dtype: Any = None, *, device: Any = None) -> Any:
    """Return an array of ones; the dtype is float by default."""
    return fill(as_shape(shape, "ones"), 1, dtype_or_float(dtype, "ones"), operation="ones")


def empty(shape: Any, dtype: Any = None, *, device: Any = None) -> Any:
    """Return an array of zeros. Arrays are immutable, so uninitialized memory would be of no use."""
    return zeros(shape, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None, *, device: Any = None) -> Any:
    """Return an array filled with `fill_value`, which broadcasts to `shape`.

    By default the dtype is that of the value, weakly typed if the value is.

    >>> full((2,), 7)
    Array([7, 7], dtype=int32, weak_type=True)
    """
    sizes = as_shape(shape, "full")
    value = as_operand(fill_value, "full") if not isinstance(fill_value, (list, tuple)) else asarray(fill_value)
    weak = value.aval.weak_type and dtype is None
    result_dtype = value.aval.dtype if dtype is None else dtypes.requested(dtype, "full")
    value = casts.convert_element_type(value, result_dtype, weak)
    if type(value) is Array and not value.aval.shape:
        return fill(sizes, value.host[()], result_dtype, weak)
    return broadcast_to(value, sizes, "full")


def _like(a: Any, dtype: Any, shape: Any, operation: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    if isinstance(a, (list, tuple)):
        a = asarray(a)
    # Accept any object with a shape and a dtype: ShapeDtypeStruct, arrays of other libraries.
    have_shape, have_dtype = (a.shape, a.dtype) if hasattr(a, "dtype") else (aval_of(a).shape, aval_of(a).dtype)
    weak = dtype is None and bool(getattr(a, "weak_type", not hasattr(a, "dtype")))
    sizes = tuple(have_shape) if shape is None else as_shape(shape, operation)
    result_dtype = dtypes.canonicalize(have_dtype) if dtype is None else dtypes.requested(dtype, operation)
    return sizes, result_dtype, weak and result_dtype != dtypes.bool_


def zeros_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Any:
    """Return zeros with the shape and dtype of `a`."""
    sizes, result_dtype, weak = _like(a, dtype, shape, "zeros_like")
    return fill(sizes, 0, result_dtype, weak, "zeros_like")


def ones_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Any:
    """Return ones with the shape and dtype of `a`."""
    sizes, result_dtype, weak = _like(a, dtype, shape, "ones_like")
    return fill(sizes, 1, result_dtype, weak, "ones_like")


def empty_like(a: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Any:
    """Return zeros with the shape and dtype of `a`."""
    return zeros_like(a, dtype, shape)


def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None, *, device: Any = None) -> Any:
    """Return an array filled with `fill_value`, with the shape and dtype of `a`."""
    sizes, result_dtype, weak = _like(a, dtype, shape, "full_like")
    value = casts.convert_element_type(as_operand(fill_value, "full_like"), result_dtype, weak)
    if type(value) is Array and not value.aval.shape:
        return fill(sizes, value.host[()], result_dtype, weak, "full_like")
    return broadcast_to(value, sizes, "full_like")


# ---------------------------------------------------------------- ranges


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None, *, device: Any = None) -> Any:
    """Return the numbers from `start` (0 by default) up to but excluding `stop`, in steps of `step` (1 by default).

    >>> arange(3), arange(0.0, 1.0, 0.25)
    (Array([0, 1, 2], dtype=int32), Array([0.  , 0.25, 0.5 , 0.75], dtype=float32))
    """
    if stop is None:
        start, stop = 0, start
    bounds = [_static_number(v, "arange") for v in (start, stop, 1 if step is None else step)]
    if bounds[2] == 0:
        raise ArgumentError("arange: step is 0", fix="give a step that is not zero")
    if dtype is None:
        types = [v for v in (start, stop, step) if v is not None]
        result_dtype = dtypes.promote(tuple((aval_of(v).dtype, aval_of(v).weak_type) for v in types))[0]
        result_dtype = result_dtype if result_dtype != dtypes.bool_ else dtypes.canonicalize(int)
    else:
        result_dtype = dtypes.requested(dtype, "arange")
    size = builtins.max(0, math.ceil((bounds[1] - bounds[0]) / bounds[2]))
    if traces.state.trace is traces.eval_trace:
        try:
            values = (
                bounds[0]
                + np.arange(size, dtype=np.float64 if dtypes.is_inexact(result_dtype) else np.int64) * bounds[2]
            )
        except (MemoryError, ValueError) as e:
            raise AllocationError(f"arange: {size} elements do not fit in memory", fix="use fewer elements") from e
        return Array(ShapedArray((size,), result_dtype), np.asarray(values).astype(result_dtype))
    out = slicing.iota(result_dtype, (size,), 0)
    out = out if bounds[2] == 1 else uf.multiply(out, bounds[2])
    return out if bounds[0] == 0 else uf.add(out, bounds[0])


def _static_number(x: Any, operation: str) -> Any:
    aval = aval_of(x)
    if aval.shape:
        raise ArgumentError(f"{operation}: {x!r:.60} of type {aval} is not a number", fix="pass numbers")
    if isinstance(x, Tracer) and x.concrete() is None:
        return x.__index__()
    if isinstance(x, (int, float)):
        return x
    return int(x) if dtypes.is_integer(aval.dtype) or aval.dtype == dtypes.bool_ else float(x)


def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    """Return `num` evenly spaced numbers from `start` to `stop`, which may be arrays.

    `stop` is excluded if not `endpoint`. With `retstep`, also return the spacing. The new axis of the result is `axis`.

    >>> linspace(0, 1, 5)
    Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    num = as_int(num, "num", "linspace")
    if num < 0:
        raise ArgumentError(f"linspace: num is {num}", fix="ask for 0 or more numbers")
    result_dtype = None if dtype is None else dtypes.requested(dtype, "linspace")
    start, stop = promote_inexact(start, stop, operation="linspace")
    computed = start.aval.dtype
    steps = num - 1 if endpoint else num
    shape = uf.promotion.broadcast_shapes(start.aval.shape, stop.aval.shape, operation="linspace")
    start, stop = (
        shapes.expand_dims(broadcast_to(casts.convert_element_type(v, computed), shape), (0,)) for v in (start, stop)
    )
    delta = uf.divide(uf.subtract(stop, start), steps) if steps > 0 else full(start.aval.shape, math.nan, computed)
    if num > 1:
        real = dtypes.real_dtype(computed)
        column = (steps, *(1,) * len(shape))
        t = uf.divide(shapes.reshape(slicing.iota(real, (steps,), 0), column), steps)
        out = uf.add(uf.multiply(start, uf.subtract(1, t)), uf.multiply(stop, t))
        # The last point is exactly `stop`, without rounding.
        out = slicing.concatenate([out, stop], 0) if endpoint else out
    else:
        out = start if num == 1 else shapes.full((0, *shape), 0, computed)
    out = shapes.move_axis(out, 0, axis % (len(shape) + 1))
    if result_dtype is not None and dtypes.is_integer(result_dtype) and not dtypes.is_integer(computed):
        out = uf.floor(out)
    out = out if result_dtype is None else casts.convert_element_type(out, result_dtype)
    return (out, shapes.reshape(delta, shape)) if retstep else out


def logspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:
    """Return `num` numbers from baseˢᵗᵃʳᵗ to baseˢᵗᵒᵖ, evenly spaced on a logarithmic scale."""
    (base,) = promote_inexact(base, operation="logspace")
    exponents = linspace(start, stop, num, endpoint=endpoint, axis=axis)
    out = ar.pow_p.bind(*uf.promote(base, exponents, operation="logspace"))
    return out if dtype is None else astype(out, dtype)


def geomspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    """Return `num` numbers from `start` to `stop` in geometric progression. The endpoints are exact."""
    num = as_int(num, "num", "geomspace")
    start, stop = promote_inexact(start, stop, operation="geomspace")
    signs = uf.sign(start)
    out = logspace(
        uf.divide(uf.log(uf.divide(start, signs)), math.log(10)),
        uf.divide(uf.log(uf.divide(stop, signs)), math.log(10)),
        num,
        endpoint=endpoint,
        base=10.0,
        axis=0,
    )
    out = uf.multiply(signs, out)
    shape = aval_of(out).shape[1:]
    ends = [broadcast_to(casts.convert_element_type(v, aval_of(out).dtype), (1, *shape)) for v in (start, stop)]
    if num > 1:
        inner = slicing.slice_(out, (1,) + (0,) * len(shape), (num - 1 if endpoint else num, *shape))
        out = slicing.concatenate([ends[0], inner, *([ends[1]] if endpoint else [])], 0)
    out = shapes.move_axis(out, 0, axis % (len(shape) + 1))
    return out if dtype is None else astype(out, dtype)


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Any]:
    """Return the coordinate arrays of the grid spanned by vectors.

    The axes are in the order of the vectors for indexing="ij"; "xy" swaps the first two. With `sparse`, the arrays have
    size 1 along the axes on which they do not depend.
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing={indexing!r}", fix="use 'xy' or 'ij'")
    vectors = [as_operand(x, "meshgrid") for x in xi]
    for x in vectors:
        if x.aval.ndim > 1:
            raise ArgumentError(f"meshgrid: argument has type {x.aval}", fix="pass vectors")
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[0], order[1] = 1, 0
    sizes = [0] * len(vectors)
    for place, x in zip(order, vectors, strict=True):
        sizes[place] = x.aval.size
    out = []
    for place, x in zip(order, vectors, strict=True):
        column = [1] * len(vectors)
        column[place] = x.aval.size
        x = shapes.reshape(x, column)
        out.append(x if sparse else broadcast_to(x, sizes))
    return out
