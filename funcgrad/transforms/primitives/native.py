"""njit_op: a function that numba compiled as an operation, called by compiled programs without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Native, NativeCode
from funcgrad.errors import ArgumentError, user_location
from funcgrad.ops.elementwise import ANY
from funcgrad.transforms.flattening import name_of
from funcgrad.transforms.primitives.declare import Declaration, Operation

Rule = Callable[..., Any]


def njit_op(
    fn: Callable[..., Any],
    *,
    shape: Rule | None = None,
    jvp: Rule | Sequence[Rule | None] | None = None,
    transpose: Rule | None = None,
    batch: Rule | None = None,
    elementwise: bool = False,
    derivative: Rule | Sequence[Rule | None] | None = None,
    dtype: Any = None,
    kinds: Sequence[str] = ANY,
    name: str | None = None,
    multiple_results: bool = False,
) -> Operation:
    """Return a function that numba compiled, `fn`, as an operation that compiled programs call natively.

    *On arrays*: ``fn(*arrays, *results)`` writes its results into the last arguments, arrays of the type that
    ``shape`` says (of the types, with `multiple_results`). Arrays are contiguous, scalars are 0-d arrays, and operands
    cannot be written to. Static parameters go to `shape` and to `fn` as keywords.

    *On elements*: with `elementwise`, ``fn(*numbers)`` returns a number, and is applied to each element of operands
    that are promoted and broadcast first. The result has their dtype, or `dtype`.

    `jvp`, `transpose`, `batch` and `derivative` are as in `primitive`; without a derivative, differentiation raises
    MissingRuleError. By default vmap calls `fn` for each lane, within one instruction.

    Under jit, `fn` is called without Python and without the GIL, and several threads may be in it at once: mapped and
    elementwise calls are divided among them. An exception in `fn` ends the compiled call and is raised from it; to
    find it, `fn` is called once more from Python. Eagerly, `fn` is called as it is.

    Raises ArgumentError if `fn` is not compiled by numba, or with ``parallel=True``, or does not return what it should;
    DTypeError for float16 and bfloat16, which numba has no arithmetic for; numba's TypingError if it cannot compile
    `fn` for the operands, or if `fn` writes to them.

    >>> import numba, numpy as np
    >>> import funcgrad as fg
    >>> @numba.njit
    ... def running_max(x, out):
    ...     best = x[0]
    ...     for i in range(x.size):
    ...         best = max(best, x[i])
    ...         out[i] = best
    >>> op = njit_op(running_max, shape=lambda x: x)
    >>> fg.jit(lambda x: 2 * op(x))(np.float32([1, 3, 2]))
    Array([2., 6., 6.], dtype=float32)
    """
    name = name or name_of(fn)
    _numba().check_function(fn, name)
    if dtype is not None and not (elementwise or derivative is not None):
        raise ArgumentError(f"njit_op: dtype= is for elementwise functions, {name} is none", fix="say it in shape=")
    function = _Function(fn, elementwise or derivative is not None, multiple_results)
    declaration = Declaration(
        name,
        shape=shape,
        jvp=jvp,
        transpose=transpose,
        batch=batch,
        lowering=function.native(()),
        elementwise=function.elementwise,
        derivative=derivative,
        kinds=kinds,
        multiple_results=multiple_results,
        evaluate=function.on_elements if function.elementwise else function.on_arrays,
        result=None if dtype is None else lambda _, **params: dtypes.canonicalize(dtype),
        origin=str(user_location()),
    )
    function.declaration = declaration
    return declaration.operation(fn.__doc__)


class _Function:
    """A function of numba's, how it is evaluated, and the code that was made for the types it met."""

    declaration: Declaration

    def __init__(self, fn: Any, elementwise: bool, multiple: bool):
        self.fn, self.elementwise, self.multiple = fn, elementwise, multiple
        self.made: dict[Any, NativeCode] = {}
        self.loops: dict[int, Any] = {}
        self.checked: set[Any] = set()

    def results(self, operands: Sequence[np.ndarray], params: dict[str, Any]) -> list[np.ndarray]:
        avals = [ShapedArray(x.shape, x.dtype) for x in operands]
        wanted = self.declaration.typed(avals, params)
        wanted = wanted if self.multiple else [wanted]
        self.check(avals, wanted, params)
        return [np.empty(a.shape, a.dtype) for a in wanted]

    def check(self, inputs: Sequence[ShapedArray], outputs: Sequence[ShapedArray], params: dict[str, Any]) -> None:
        """Check once for each combination of types that the function is one for them."""
        key = (*(a.update(shape=(a.ndim,)) for a in inputs), None, *outputs, *params.items())
        if key not in self.checked:
            _numba().check_result(self.fn, self.declaration.name, self.elementwise, inputs, outputs, params)
            self.checked.add(key)

    def on_arrays(self, *operands: np.ndarray, **params: Any) -> Any:
        outs = self.results(operands, params)
        self.fn(*map(_contiguous, operands), *outs, **params)
        return outs if self.multiple else outs[0]

    def on_elements(self, *operands: np.ndarray, **params: Any) -> np.ndarray:
        (out,) = self.results(operands, params)
        flat = [_contiguous(np.broadcast_to(x, out.shape).reshape(-1)) for x in operands]
        if len(flat) not in self.loops:
            self.loops[len(flat)] = _numba().loop_over(self.fn, len(flat))
        self.loops[len(flat)](out.reshape(-1), *flat)
        return out

    def native(self, levels: tuple[tuple[bool, ...], ...]) -> Native:
        """The lowering under as many vmaps as there are levels."""

        def code(inputs: Sequence[ShapedArray], outputs: Sequence[ShapedArray], params: dict[str, Any]) -> NativeCode:
            key = (levels, *inputs, None, *outputs, *params.items())
            if key not in self.made:
                name = self.declaration.name
                made = _numba().compiled(self.fn, name, self.elementwise, levels, inputs, outputs, params)
                self.made.setdefault(key, made)
            return self.made[key]

        return Native(code, lambda batched: self.native((batched, *levels)))


def _contiguous(x: np.ndarray) -> np.ndarray:
    """The array in row-major order, as a view that cannot be written to: the one type that numba compiles for."""
    x = np.ascontiguousarray(x).reshape(x.shape).view()
    x.flags.writeable = False
    return x


def _numba() -> ModuleType:
    from funcgrad.compiler.targets.llvm import (
        numba_code,  # importing numba is slow; who passes its functions has done it
    )

    return numba_code


__all__ = ["njit_op"]
