"""Programs as data: values and their places in memory, instructions, and routines.

An instruction names what it calls by a symbol (a kernel in its canonical form, a library routine, a NumPy rule, a
routine of other instructions) and holds no address. A target resolves the symbols when it links a plan, so that one
plan can be printed, compared, saved, and linked for any target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from funcgrad.compiler.loops.language import Kernel
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Native, Strided
from funcgrad.core.primitives import Primitive


class Value(NamedTuple):
    """A value in memory: its type, and its place, a byte offset into a slot. Slot 0 is the arena."""

    aval: ShapedArray
    slot: int
    offset: int


class Operand(NamedTuple):
    """An operand of an instruction: the number of a value in the routine, and a byte offset into it."""

    value: int
    offset: int = 0


# ---------------------------------------------------------------------------------------------------- callees


@dataclass(frozen=True)
class KernelCall:
    """A kernel and its size arguments. The operands are the parameters of the kernel."""

    kernel: Kernel
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return self.kernel.name


class Number(NamedTuple):
    """A constant number in the program."""

    value: bool | int | float | complex


@dataclass(frozen=True)
class HostCall:
    """The NumPy rule of a primitive. The operands are its results, then those of its arguments that are in memory.

    `views` says how an argument reads the memory of its operand, or is the number that the argument is.
    """

    primitive: Primitive
    params: dict[str, Any]
    arguments: tuple[ShapedArray, ...]
    results: tuple[ShapedArray, ...]
    stored: tuple[ShapedArray | None, ...]
    views: tuple[Strided | Number, ...]

    def __str__(self) -> str:
        return f"host {self.primitive.name}"


@dataclass(frozen=True)
class LibraryCall:
    """A library routine, by name. A target without it calls the NumPy rule instead.

    The operands are the primitive's results, then its arguments, laid out as its `LibraryRoutine` says:

    - `gemm`: C, A, B; C[b] = A[b] @ B[b]; arguments as in `targets.llvm.blas.gemm`.
    - routines of LAPACK, with its names: results and arguments of a batch of matrices by rows; arguments dtype, batch,
      the operands' shapes without the batch and their dtypes, how many of them are results, and the options.
    """

    routine: str
    arguments: tuple[tuple[str, Any], ...]
    fallback: HostCall

    def __str__(self) -> str:
        return self.routine


@dataclass(frozen=True)
class NativeCall:
    """Machine code that the user provides. Operands are as in `HostCall`, all of them contiguous in memory."""

    lowering: Native
    fallback: HostCall

    def __str__(self) -> str:
        return f"native {self.fallback.primitive.name}"


@dataclass(frozen=True)
class CopyCall:
    """Copies `nbytes` from the second operand to the first."""

    nbytes: int

    def __str__(self) -> str:
        return "copy"


@dataclass(frozen=True)
class JoinCall:
    """Writes `rows` rows of bytes to the first operand, each made of a run of so many bytes from every other operand.

    Its iterations are the bytes of the result, or with `by_rows` the rows, of which `block` stay in the first cache.
    """

    rows: int
    runs: tuple[int, ...]
    by_rows: bool
    block: int

    def __str__(self) -> str:
        return "join"


@dataclass(frozen=True)
class BranchCall:
    """Runs one of several routines on the operands, selected by the first operand, an int32 that is clamped."""

    branches: tuple[Routine, ...]

    def __str__(self) -> str:
        return "cond"


@dataclass(frozen=True)
class LoopCall:
    """Runs a routine again and again: `length` times (None: the instruction's extent), or while `predicate` says so.

    The routines' slots are places in the operands:

    - `places`: for each slot, an operand and an offset in bytes.
    - `moving`: slots that advance by a number of bytes after each iteration, the slices of scanned arrays.
    - `carries`: slots that change roles after each iteration, see `Carry`.
    - `copies`: (to, from, bytes) operands that are copied before the first iteration.
    - `answer`: the slot where the predicate writes its bool.
    - `stride`: iterations that run on several threads have an arena each, so many bytes apart.
    """

    name: str
    body: Routine
    predicate: Routine | None
    answer: int
    length: int | None
    places: tuple[tuple[int, int], ...]
    moving: tuple[tuple[int, int], ...]
    carries: tuple[Carry, ...]
    copies: tuple[tuple[int, int, int], ...]
    stride: int

    def __str__(self) -> str:
        return self.name


class Carry(NamedTuple):
    """A value carried from one iteration to the next: it is read from one slot and written to another.

    The slot that was written is read next; `places` are the two operands written in turn. In the end the value is
    copied to the operand `result`, unless it is there.
    """

    read: int
    written: int
    places: tuple[int, int]
    result: int
    nbytes: int


Callee = KernelCall | HostCall | LibraryCall | NativeCall | CopyCall | JoinCall | BranchCall | LoopCall


# ----------------------------------------------------------------------------------- instructions and routines


class Instruction(NamedTuple):
    """A callee applied to operands.

    The iterations [0, extent) are divided among threads, in multiples of `grain`, if there are more than `grain`.
    `writes` are the values that are written; `in_place` are results, and the values whose memory they take over.
    """

    callee: Callee
    operands: tuple[Operand, ...]
    extent: int = 1
    grain: int = 1
    writes: tuple[int, ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()


class Routine(NamedTuple):
    """Instructions in order, the values that they use, and the size of the arena.

    `slots` are the numbers of the values in slots 1, 2, …: inputs and results. `in_place` are the slots of inputs whose
    memory a result has taken over.
    """

    instructions: tuple[Instruction, ...]
    values: tuple[Value, ...]
    slots: tuple[int, ...]
    arena_bytes: int
    in_place: frozenset[int] = frozenset()

    def lines(self, indent: str = "  ") -> list[str]:
        """Return one line per instruction, followed by the instructions of its routines."""
        out = []
        for i in self.instructions:
            args = ", ".join(self._place(operand) for operand in i.operands)
            out.append(f"{indent}{i.callee}({args}) × {i.extent} by {i.grain}")
            for name, inner in routines(i.callee):
                out.append(f"{indent}  {name}:")
                out += inner.lines(indent + "    ")
        return out

    def _place(self, operand: Operand) -> str:
        value = self.values[operand.value]
        at = value.offset + operand.offset
        place = "arena" if value.slot == 0 else f"slot {value.slot}"
        return f"{place}{f'+{at}' if at else ''}: {value.aval.short()}"


def routines(callee: Callee) -> list[tuple[str, Routine]]:
    """Return the routines that a callee runs, with their names."""
    if isinstance(callee, BranchCall):
        return [(f"branch {i}", branch) for i, branch in enumerate(callee.branches)]
    if isinstance(callee, LoopCall):
        predicate = [("predicate", callee.predicate)] if callee.predicate is not None else []
        return [*predicate, ("body", callee.body)]
    return []


# --------------------------------------------------------------------------------------------------- programs


class Output(NamedTuple):
    """The source of a result: a constant, an input or an output buffer."""

    aval: ShapedArray
    constant: Array | None
    input: int | None
    buffer: int | None


@dataclass(frozen=True)
class Plan:
    """A program as data. Its slots are the arena, the inputs, the constants and the output buffers, in that order."""

    routine: Routine
    n_inputs: int
    consts: tuple[Array, ...]
    outputs: tuple[Output, ...]
    buffer_sizes: tuple[int, ...]

    @property
    def n_slots(self) -> int:
        """The number of slots, including the arena."""
        return 1 + self.n_inputs + len(self.consts) + len(self.buffer_sizes)

    def __str__(self) -> str:
        head = f"arena {self.routine.arena_bytes} bytes, {len(self.routine.instructions)} instructions"
        return "\n".join([head, *self.routine.lines()])
