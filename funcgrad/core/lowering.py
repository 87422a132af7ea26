"""Lowerings: descriptions of primitives for the compiler.

The `lowering` of each primitive is one of these classes. The compiler interprets them; they do not depend on loops or
targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from funcgrad.core.avals import ShapedArray
from funcgrad.errors import MissingRuleError


class Strided(NamedTuple):
    """An affine access to a buffer: element (i, j, …) is buffer[offset + i·strides[0] + j·strides[1] + …]."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


class ScalarBuilder(Protocol):
    """The interface by which composite `Elementwise` lowerings build scalar expressions."""

    def op(self, name: str, *args: Any, dtype: np.dtype | None = None) -> Any: ...
    def const(self, value: Any, dtype: np.dtype) -> Any: ...
    def cast(self, x: Any, dtype: np.dtype) -> Any: ...


class Lowering:
    """Base class of all lowerings. With `moves_only`, the elements of the results are elements of the operands."""

    moves_only: ClassVar[bool] = False


@dataclass(frozen=True)
class Elementwise(Lowering):
    """out[i] = op(x[i], y[i], …): `op` is the name of a scalar operation, or a function that builds an expression.

    The function is called as build(builder, *operands, **params); operands have a `.dtype`.
    """

    op: str | Callable[..., Any]


@dataclass(frozen=True)
class View(Lowering):
    """out[i] = x[affine(i)]: `apply(view, **params)` maps the operand's access to the result's, or None when the result
    is not an affine access of the operand (a reshape that mixes strides).

    Accesses count elements of the result's dtype: the real part of a complex operand has twice its strides.
    """

    moves_only = True

    apply: Callable[..., Strided | None]


@dataclass(frozen=True)
class Complex(Lowering):
    """out[i] = x[i] + i·y[i]: in memory, the parts of a complex number are side by side.

    The compiler computes with the parts of complex numbers, each of which is an array of real numbers. The parts of an
    array in memory are views of it.
    """

    moves_only = True


@dataclass(frozen=True)
class Pad(Lowering):
    """out[i] = x[(i − low) / (interior + 1)] if that is an element of x, otherwise the padding value."""

    moves_only = True


@dataclass(frozen=True)
class Concatenate(Lowering):
    """The operands, joined along a dimension."""

    moves_only = True


@dataclass(frozen=True)
class Interleave(Lowering):
    """out[i·factors + j] = operand number j at i, as far as that is in the `shape` of the params."""

    moves_only = True


@dataclass(frozen=True)
class Iota(Lowering):
    """out[i] = i[dimension]."""

    moves_only = True


@dataclass(frozen=True)
class Reduce(Lowering):
    """Reduce the dimensions `axes` with an associative scalar operation, starting from its identity element.

    `op` is one of add, mul, max, min, and, or, xor.
    """

    op: str
    identity: Callable[[np.dtype], Any]


@dataclass(frozen=True)
class Cumulative(Lowering):
    """out[i] = x[0] ∘ … ∘ x[i] along the dimension `axis` of the params, from the end with `reverse`.

    `combine` builds a ∘ x: it is the name of a scalar operation, or a function of a `ScalarBuilder`. With `exact`, the
    operation does not round, so the accumulator has the dtype of the operand.
    """

    combine: str | Callable[..., Any]
    identity: Callable[[np.dtype], Any]
    exact: bool = False


@dataclass(frozen=True)
class Sort(Lowering):
    """The operands permuted together along `dimension` so that the first `num_keys` of them ascend, equals in order."""

    moves_only = True


@dataclass(frozen=True)
class Least(Lowering):
    """The `k` least elements of each `block` of a row along `axis`, ascending, equals in order, and their positions."""


def _dtype_and_params(in_avals: Any, out_avals: Sequence[ShapedArray], **params: Any) -> dict[str, Any]:
    return {"dtype": out_avals[0].dtype} | params


@dataclass(frozen=True)
class LibraryRoutine(Lowering):
    """A library routine, by name. A target without it calls the NumPy rule of the primitive.

    `arguments(in_avals, out_avals, **params)` returns the sizes and options of the call, by default the params and the
    dtype of the result. Results are contiguous and in row-major order, and so are operands with layout "whole".
    Operands with layout "matrices" have shape (batch, rows, columns) and a leading dimension as in BLAS; how they are
    stored is added to the arguments. `flops`, with the same signature, returns the number of operations.
    """

    routine: str
    arguments: Callable[..., dict[str, Any]] = _dtype_and_params
    layout: Literal["whole", "matrices"] = "whole"
    flops: Callable[..., int] = lambda in_avals, out_avals, **params: 0


def _gemm(in_avals: Sequence[ShapedArray], out_avals: Sequence[ShapedArray], **params: Any) -> dict[str, Any]:
    (batch, m, k), n = in_avals[0].shape, in_avals[1].shape[2]
    return {"dtype": out_avals[0].dtype, "batch": batch, "m": m, "n": n, "k": k}


def _gemm_flops(in_avals: Sequence[ShapedArray], out_avals: Sequence[ShapedArray], **params: Any) -> int:
    (contracted, _), _ = params["dimension_numbers"]
    return 2 * out_avals[0].size * math.prod(in_avals[0].shape[d] for d in contracted)


@dataclass(frozen=True)
class Contract(LibraryRoutine):
    """Batched sum of products over contracted dimensions, dot_general; in canonical form, the routine `gemm`."""

    routine: str = "gemm"
    arguments: Callable[..., dict[str, Any]] = _gemm
    layout: Literal["whole", "matrices"] = "matrices"
    flops: Callable[..., int] = _gemm_flops


class GatherForm(NamedTuple):
    """Where a gather reads its operand, for each dimension of it.

    - `axes`: the dimensions that have a start, in the order of the starts among the operands.
    - `along`: the dimension of the result that moves along with it, or None.
    - `sizes`: the size of a window. A start of at most the operand's size minus that is inside.
    - `fill`: what an element is where a start is outside; None: starts are clamped.
    """

    axes: tuple[int, ...]
    along: tuple[int | None, ...]
    sizes: tuple[int, ...]
    fill: Any


@dataclass(frozen=True)
class Gather(Lowering):
    """out[i] = x[start(i) + along(i)]: elements of the first operand, at positions that the other operands give.

    These are integer scalars or have the shape of the result; `form(in_avals, **params)` says how they are used.
    """

    moves_only = True

    form: Callable[..., GatherForm]

    def form_of(self, eqn: Any) -> GatherForm:
        """Return the form of an equation with this lowering."""
        return self.form([v.aval for v in eqn.invars], **eqn.params)


class ScatterForm(NamedTuple):
    """How a scatter writes windows of updates.

    - `axes`: the dimensions of the operand that have a start, in the order of the starts among the operands.
    - `combine`: one of add, sub, mul, min, max; empty where updates replace what is there.
    - `drops`: whether windows that begin outside are left out. Otherwise they are moved inside.
    - `unique`: whether windows are promised not to overlap.
    """

    axes: tuple[int, ...]
    combine: str = ""
    drops: bool = False
    unique: bool = False


@dataclass(frozen=True)
class Scatter(Lowering):
    """for b: x[start[b] + w] = combine(x[start[b] + w], updates[b, w]), in the order of b.

    Operands are x, the updates, and an array of starts for each dimension that windows move in. A single window may
    lack the dimension of b. `form(in_avals, **params)` says how they are used.
    """

    form: Callable[..., ScatterForm]

    def form_of(self, eqn: Any) -> ScatterForm:
        """Return the form of an equation with this lowering."""
        return self.form([v.aval for v in eqn.invars], **eqn.params)


@dataclass(frozen=True)
class Inline(Lowering):
    """The jaxpr in the param of this name, inlined into the caller: jit, and custom rules after differentiation."""

    param: str


@dataclass(frozen=True)
class Rewrite(Lowering):
    """The operation in terms of simpler primitives: it is replaced by tracing `expand(*args, **params)`.

    If `applies(*avals, **params)` is false, the program calls the NumPy rule.
    """

    expand: Callable[..., Any]
    applies: Callable[..., bool] = lambda *avals, **params: True


class NativeCode(NamedTuple):
    """A machine-code function, the number of its iterations, which threads share, and a reference that keeps it loaded.

    It has the signature of kernels, void(ptr args, ptr sizes, i64 begin, i64 end, i64 thread). `args` point to the
    results and then the operands, all contiguous and in row-major order; operands must not be written. If the code
    fails with an exception, it calls the function at address `sizes[0]` with its own arguments, which runs the NumPy
    rule of the primitive; an exception from that rule ends the program.
    """

    address: int
    extent: int
    grain: int
    keep_alive: Any


@dataclass(frozen=True)
class Native(Lowering):
    """Machine code from outside the compiler: `code(in_avals, out_avals, params)` finds or makes it.

    `mapped(batched)` returns the lowering of the operation mapped over a leading dimension of the operands in the mask.
    """

    code: Callable[[Sequence[ShapedArray], Sequence[ShapedArray], dict[str, Any]], NativeCode]
    mapped: Callable[[tuple[bool, ...]], Native]


@dataclass(frozen=True)
class Barrier(Lowering):
    """Returns the operands unchanged, and orders: readers of a result run after all operands were computed.

    No computation is shared across the barrier.
    """

    moves_only = True


@dataclass(frozen=True)
class Scan(Lowering):
    """Applies the jaxpr to each slice of the scanned operands, carrying values from one iteration to the next.

    Params: `jaxpr` (consts, carry, slices) → (carry, slices), `length`, `reverse`, `num_consts`, `num_carry`.
    """


@dataclass(frozen=True)
class Blocks(Scan):
    """A scan over blocks of an axis, each of which is large. Without a carry, every iteration runs in one thread."""


@dataclass(frozen=True)
class WhileLoop(Lowering):
    """Applies the jaxpr of the body as long as that of the predicate returns true.

    Params: `cond_jaxpr` (its consts, carry) → bool, `body_jaxpr` (its consts, carry) → carry, `cond_nconsts`,
    `body_nconsts`. Operands are both kinds of consts, then the carry.
    """


@dataclass(frozen=True)
class Cond(Lowering):
    """Applies one of several jaxprs, selected by the first operand, an int32 that is clamped.

    Params: `branches`, the jaxprs, which take the other operands.
    """


class Host(Lowering):
    """No native lowering: the program calls the NumPy rule of the primitive."""

    def __repr__(self) -> str:
        return "host"


host = Host()


T = TypeVar("T")


class LoweringTable(Generic[T]):
    """A table of a pass, with an entry for each class of lowering.

    Each class must be in `entries`, or in `rest`, for which the entry is `otherwise`. A test checks that all tables are
    complete, so that a new lowering is added to every pass.
    """

    all: ClassVar[list[LoweringTable[Any]]] = []

    def __init__(self, name: str, entries: dict[type[Lowering], T], rest: Sequence[type[Lowering]], otherwise: T):
        self.name, self.entries = name, dict.fromkeys(rest, otherwise) | entries
        LoweringTable.all.append(self)

    def __getitem__(self, lowering: Lowering) -> T:
        if type(lowering) not in self.entries:
            raise MissingRuleError(
                f"{self.name}: no rule for lowerings of type {type(lowering).__name__}",
                fix="give the primitive a lowering of funcgrad.core.lowering, or add the class to the pass's table",
            )
        return self.entries[type(lowering)]


CALLS = (Inline, Rewrite)
"""Lowerings that are expanded, so that later passes do not see them."""

CONTROL = (Scan, Blocks, WhileLoop, Cond)
"""Branches and loops."""

KERNELS = (Cumulative, Sort, Least)
"""Lowerings that the compiler emits kernels for."""

HOST = (Host,)
"""Lowerings that no target compiles: the program calls the NumPy rule of the primitive."""


def contiguous(shape: Sequence[int]) -> Strided:
    """Return the row-major access of a whole buffer of this shape."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return Strided(tuple(shape), tuple(reversed(strides)), 0)
