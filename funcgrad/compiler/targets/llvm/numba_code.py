"""Functions compiled by numba, as instructions of a program.

What is generated for one is a small Python function with the signature of kernels: it makes arrays of addresses, calls
the function on them, in a loop for each dimension that vmap added, and on an exception hands over to the function that
can raise it in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.ir as ir
import numba
import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic
from numba.np import numpy_support
from numba.np.arrayobj import make_array, populate_array

from funcgrad import dtypes
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import NativeCode
from funcgrad.errors import ArgumentError, DTypeError

Flags = tuple[bool, ...]
# Elements of results and operands that are worth handing to another thread.
_GRAIN = 2048
_KERNEL = types.void(types.CPointer(types.voidptr), types.CPointer(types.int64), types.int64, types.int64, types.int64)


def check_function(fn: Any, name: str) -> None:
    """Raise unless `fn` is compiled by numba in a way that several threads may call."""
    if not isinstance(fn, Dispatcher):
        raise ArgumentError(
            f"njit_op: {fn!r:.60} is not a function that numba compiles", fix="decorate it with @numba.njit"
        )
    if fn.targetoptions.get("parallel"):
        raise ArgumentError(
            f"njit_op: {name} is compiled with parallel=True, whose threads do not go with those of a program",
            fix="drop parallel=True; mapped and elementwise functions are divided among funcgrad's threads",
        )


def check_dtype(name: str, aval: ShapedArray) -> None:
    """Raise unless numba supports arrays of this dtype."""
    if aval.dtype in (dtypes.float16, dtypes.bfloat16) or aval.dtype.kind not in "biufc":
        raise DTypeError(
            f"{name}: numba has no arithmetic for {aval.short()}", fix="cast it, e.g. with .astype('float32')"
        )


def check_result(
    fn: Dispatcher,
    name: str,
    elementwise: bool,
    inputs: Sequence[ShapedArray],
    outputs: Sequence[ShapedArray],
    params: dict[str, Any],
) -> None:
    """Compile `fn` for these types; raise unless it returns a number that the result can hold, or nothing."""
    for aval in (*inputs, *outputs):
        check_dtype(name, aval)
    if elementwise:
        given = [_element_type(a) for a in inputs]
    else:
        given = [_array_type(a, readonly=i < len(inputs)) for i, a in enumerate((*inputs, *outputs))]
    keywords = {k: numba.typeof(v) for k, v in params.items()}
    returned = numba.typeof(fn).get_call_type(fn.typingctx, given, keywords).return_type
    if not elementwise:
        if returned != types.none:
            raise ArgumentError(
                f"{name}: the function returns {returned}, but its results are what it writes into its last arguments",
                fix="assign to the elements of the last arguments, or declare elementwise=True if it takes numbers",
            )
    elif not isinstance(returned, (types.Number, types.Boolean)):
        raise ArgumentError(f"{name}: the function returns {returned}", fix="return a number, or drop elementwise=True")
    elif not np.can_cast(numpy_support.as_dtype(returned), outputs[0].dtype, "same_kind"):
        raise DTypeError(
            f"{name}: the function returns {returned} for {', '.join(a.dtype.name for a in inputs)}, "
            f"its result is {outputs[0].dtype.name}",
            fix="say what the result is with dtype=, or cast the operands",
        )


def compiled(
    fn: Dispatcher,
    name: str,
    elementwise: bool,
    levels: Sequence[Flags],
    inputs: Sequence[ShapedArray],
    outputs: Sequence[ShapedArray],
    params: dict[str, Any],
) -> NativeCode:
    """Return `fn` as an instruction for these types.

    `levels` say which operands have which leading dimensions that vmap added, the outermost first.
    """
    arrays = [*outputs, *inputs]
    loops: list[_Loop] = []
    if elementwise:
        loops.append(_Loop(outputs[0].size, [a.dtype.itemsize if a.shape else 0 for a in arrays]))
        arrays = [ShapedArray((), a.dtype) for a in arrays]
    for level in levels:
        batched = (True,) * len(outputs) + level
        size = next(a.shape[0] for a, b in zip(arrays, batched, strict=True) if b)
        arrays = [a.update(shape=a.shape[1:]) if b else a for a, b in zip(arrays, batched, strict=True)]
        loops.append(_Loop(size, [a.nbytes if b else 0 for a, b in zip(arrays, batched, strict=True)]))
    check_result(fn, name, elementwise, arrays[len(outputs) :], arrays[: len(outputs)], params)
    call = _call(arrays, len(outputs), elementwise, params)
    views = {f"view{i}": _viewer(a, readonly=i >= len(outputs)) for i, a in enumerate(arrays)}
    loops = loops or [_Loop(1, [0] * len(arrays))]
    entry = _entry(loops, call, fn=fn, **views, **{f"param_{k}": value for k, value in params.items()})
    elements = sum(a.size for a in arrays) * math.prod(loop.size for loop in loops[1:])
    return NativeCode(entry.address, loops[0].size, max(1, _GRAIN // max(1, elements)), entry)


class _Loop(NamedTuple):
    """How often something is repeated, and how many bytes further each result and operand is every time."""

    size: int
    strides: list[int]


def _call(arrays: Sequence[ShapedArray], n_out: int, elementwise: bool, params: dict[str, Any]) -> str:
    """The call of `fn` with what is at the addresses p0, p1, …, results first."""
    operands, results = range(n_out, len(arrays)), range(n_out)
    keywords = [f"{k}=param_{k}" for k in params]
    if elementwise:
        return f"view0(p0)[()] = fn({', '.join([*(f'view{i}(p{i})[()]' for i in operands), *keywords])})"
    return f"fn({', '.join([*(f'view{i}(p{i})' for i in (*operands, *results)), *keywords])})"


def _entry(loops: Sequence[_Loop], call: str, **names: Any) -> Any:
    """The C function: iterations begin to end of the first loop, each with all of the others within."""
    count = len(loops[0].strides)
    # Addresses are read outside the loops: what is stored there might be them, for all LLVM knows.
    lines = ["def entry(args, sizes, begin, end, thread):"]
    lines += [*(f"    a{n} = args[{n}]" for n in range(count)), "    try:"]
    for depth, loop in enumerate(loops):
        bounds = "begin, end" if depth == 0 else f"{loop.size}"
        lines.append("    " * (depth + 2) + f"for i{depth} in range({bounds}):")
    inner = "    " * (len(loops) + 2)
    for n in range(count):
        offset = " + ".join(f"i{d} * {loop.strides[n]}" for d, loop in enumerate(loops) if loop.strides[n])
        lines.append(inner + f"p{n} = move(a{n}, {offset or '0'})")
    lines += [inner + call, "    except Exception:", "        hand_over(sizes[0], args, sizes, begin, end, thread)"]
    namespace = {"move": _move, "hand_over": _hand_over, **names}
    exec("\n".join(lines), namespace)
    return numba.cfunc(_KERNEL)(namespace["entry"])


def loop_over(fn: Dispatcher, arity: int) -> Dispatcher:
    """Return a function (out, *operands) that applies a scalar function to each element of flat arrays."""
    names = [f"x{i}" for i in range(arity)]
    namespace = {"fn": fn}
    exec(
        f"def loop(out, {', '.join(names)}):\n"
        "    for i in range(out.shape[0]):\n"
        f"        out[i] = fn({', '.join(f'{n}[i]' for n in names)})\n",
        namespace,
    )
    return numba.njit(namespace["loop"])


@intrinsic
def _move(typingctx: Any, pointer: Any, offset: Any) -> Any:
    """An address a number of bytes further."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return types.voidptr(types.voidptr, types.intp), codegen


@intrinsic
def _hand_over(typingctx: Any, address: Any, args: Any, sizes: Any, begin: Any, end: Any, thread: Any) -> Any:
    """Call the function with the signature of kernels at an address."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [v.type for v in values[1:]])
        builder.call(builder.inttoptr(values[0], function.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(address, args, sizes, begin, end, thread), codegen


def _element_type(aval: ShapedArray) -> Any:
    return numpy_support.from_dtype(np.dtype(aval.dtype))


def _array_type(aval: ShapedArray, readonly: bool) -> Any:
    return types.Array(_element_type(aval), aval.ndim, "C", readonly=readonly)


def _viewer(aval: ShapedArray, readonly: bool) -> Callable[[Any], Any]:
    """An intrinsic that makes an address an array of a fixed type and shape."""
    array_type = _array_type(aval, readonly)
    itemsize = aval.dtype.itemsize
    strides = [itemsize * math.prod(aval.shape[d + 1 :]) for d in range(aval.ndim)]

    @intrinsic
    def view(typingctx: Any, pointer: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = make_array(array_type)(context, builder)
            data = builder.bitcast(args[0], array.data.type)
            constants = ([context.get_constant(types.intp, n) for n in x] for x in (aval.shape, strides))
            populate_array(array, data, *constants, context.get_constant(types.intp, itemsize), None)
            return array._getvalue()

        return array_type(types.voidptr), codegen

    return view
