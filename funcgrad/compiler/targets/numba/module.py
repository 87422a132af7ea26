"""Programs to modules: the source of a Python file that computes a program with nothing but NumPy and numba.

A module has the scalar functions and kernels that the program calls, a function for each of its routines, which works
on memory (one array of bytes for each slot), and in the end the program itself, a function of arrays.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from funcgrad.compiler.loops.language import Kernel
from funcgrad.compiler.program.instructions import (
    BranchCall,
    Carry,
    CopyCall,
    HostCall,
    Instruction,
    JoinCall,
    KernelCall,
    LibraryCall,
    LoopCall,
    NativeCall,
    Operand,
    Plan,
    Routine,
    routines,
)
from funcgrad.compiler.targets.numba.functions import Functions
from funcgrad.compiler.targets.numba.kernels import DECORATOR, NumbaRenderer, can_be_interrupted, stored_as
from funcgrad.core.avals import ShapedArray
from funcgrad.errors import ArgumentError

HEAD = """import math

import numpy as np
from numba import njit
from numpy import bool_, complex64, complex128, float32, float64
from numpy import int8, int16, int32, int64, uint8, uint16, uint32, uint64
"""
CONSTANTS = "inf, nan = math.inf, math.nan"
_STEPS = 256  # iterations of a loop from one look at signals to the next
_SHORT_CONSTANT = 16  # elements that are written out


def host_calls(routine: Routine) -> Iterator[HostCall]:
    """Yield what a routine, and the routines in it, need Python for: such a program is no module."""
    for instruction in routine.instructions:
        if isinstance(instruction.callee, HostCall):
            yield instruction.callee
        elif isinstance(instruction.callee, NativeCall):
            yield instruction.callee.fallback
        for _, inner in routines(instruction.callee):
            yield from host_calls(inner)


def source(plan: Plan, name: str) -> str:
    """Return the module of a program as text; see `program`."""
    writer, name = program(plan, name)
    return writer.text(f"{name}: a program that funcgrad compiled. It needs NumPy and numba.")


def program(plan: Plan, name: str) -> tuple[ModuleWriter, str]:
    """Return the module of a program, and the name of the function that is the program.

    ArgumentError if the program calls NumPy for an operation that has no kernel.
    """
    missing = sorted({call.primitive.name for call in host_calls(plan.routine)})
    if missing:
        raise ArgumentError(
            f"{name}: no module for numba can be made, because {', '.join(missing)} has no kernel and calls NumPy",
            fix="leave the operation out, or call the jitted function from Python",
        )
    writer = ModuleWriter()
    run = writer.routine(plan.routine, "run", plan.n_slots)
    name = name if name.isidentifier() and name not in writer.names else "program"
    writer.names.add(name)
    writer.parts += _main(plan, name, run)
    return writer, name


class ModuleWriter:
    """Writes the functions of a module; equal ones are written once."""

    def __init__(self) -> None:
        self.functions = Functions()
        self.kernels: dict[Kernel, str] = {}
        self.definitions: dict[str, str] = {}  # from the text without a name to the name
        self.names: set[str] = {"gemm", "math", "np", "njit", "inf", "nan", "blas", "NEVER"}
        self.parts: list[str] = []

    def text(self, title: str) -> str:
        """Return the module."""
        imports = "\n".join(sorted(self.functions.imports.values()))
        parts = [f'"""{title}"""\n\n{HEAD}{imports}', CONSTANTS, *self.functions.definitions.values(), *self.parts]
        return "\n\n".join(part.strip("\n") + "\n" for part in parts)

    def kernel(self, kernel: Kernel) -> str:
        """Return the name of a kernel's function."""
        if kernel not in self.kernels:
            text = NumbaRenderer(self.functions).function(kernel)
            name = self._unused(kernel.name)
            self.kernels[kernel] = name
            self.parts.append(text.replace(f"def {kernel.name}(", f"def {name}(", 1))
        return self.kernels[kernel]

    def routine(self, routine: Routine, name: str, n_slots: int) -> str:
        """Return the name of a routine's function; its parameters are the slots, as bytes."""
        lines = [f'    """{_memory(routine)}"""'] if routine.slots else []
        for instruction in routine.instructions:
            operands = [self._operand(routine, operand) for operand in instruction.operands]
            lines += self._instruction(instruction, operands, _types(routine, instruction.operands))
        return self._define(name, [f"s{i}" for i in range(n_slots)], lines)

    def nested(self, instruction: Instruction) -> str:
        """Return the name of the function of a branch or loop; its parameters are the operands, as bytes."""
        operands = [f"a{i}" for i in range(len(instruction.operands))]
        if isinstance(instruction.callee, BranchCall):
            return self._define("branch", operands, self._branch(instruction.callee, operands))
        assert isinstance(instruction.callee, LoopCall)
        lines = self._loop(instruction.callee, instruction.extent)
        return self._define(f"{instruction.callee.name}_loop", operands, lines)

    def _instruction(self, instruction: Instruction, operands: list[str], avals: list[ShapedArray]) -> list[str]:
        match instruction.callee:
            case KernelCall(kernel, sizes):
                arrays = [f"{x}.view({stored_as(p.dtype)})" for p, x in zip(kernel.params, operands, strict=True)]
                arguments = [*arrays, *map(str, (*sizes, 0, instruction.extent))]
                if can_be_interrupted(kernel):
                    self.functions.definitions.setdefault("NEVER", "NEVER = np.zeros(1, uint8)")
                    arguments.append("NEVER")
                return [f"    {self.kernel(kernel)}({', '.join(arguments)})"]
            case LibraryCall("gemm", arguments):
                self.functions.definitions.setdefault("gemm", _GEMM)
                arrays = [f"{x}.view({aval.dtype.name})" for x, aval in zip(operands, avals, strict=True)]
                given = dict(arguments)
                words = [str(given[word]) for word in GEMM_ARGUMENTS]
                return [f"    gemm({', '.join([*arrays, *words])})"]
            case CopyCall(nbytes):
                return [f"    {operands[0]}[:] = {operands[1]}[:{nbytes}]"]
            case JoinCall(rows, runs):
                return self._join(rows, runs, operands)
            case BranchCall() | LoopCall():
                return [f"    {self.nested(instruction)}({', '.join(operands)})"]
        raise TypeError(f"the numba target has no {instruction.callee}")

    def _join(self, rows: int, runs: Sequence[int], operands: Sequence[str]) -> list[str]:
        out, row, lines, at = operands[0], sum(runs), [], 0
        for x, run in zip(operands[1:], runs, strict=True):
            if rows == 1:
                lines.append(f"    {out}[{at}:{at + run}] = {x}[:{run}]")
            else:
                lines += [f"    to, source = {out}, {x}", f"    for i in range({rows}):"]
                lines.append(f"        to[i*{row} + {at}:i*{row} + {at + run}] = source[i*{run}:(i + 1)*{run}]")
            at += run
        return lines

    def _operand(self, routine: Routine, operand: Operand) -> str:
        value = routine.values[operand.value]
        start = value.offset + operand.offset
        return f"s{value.slot}[{start}:{value.offset + value.aval.nbytes}]"

    def _branch(self, call: BranchCall, operands: Sequence[str]) -> list[str]:
        lines = ["    chosen = a0.view(int32)[0]"]
        last = len(call.branches) - 1
        for i, branch in enumerate(call.branches):
            name = self.routine(branch, "branch_body", len(operands))
            test = f"if chosen <= {i}:" if i == 0 else f"elif chosen == {i}:" if i < last else "else:"
            if last == 0:
                test = "if True:"
            lines += [f"    {test}", f"        {name}({', '.join(operands)})"]
        return lines

    def _loop(self, loop: LoopCall, extent: int) -> list[str]:
        moving = dict(loop.moving)
        lines = [f"    a{to}[:{n}] = a{source}[:{n}]" for to, source, n in loop.copies]
        carried = {slot for c in loop.carries for slot in (c.read, c.written)}
        slots = []
        for slot, (operand, offset) in enumerate(loop.places):
            if slot in carried:
                lines.append(f"    s{slot} = a{operand}")
                slots.append(f"s{slot}")
            elif slot in moving:
                lines.append(f"    at{slot} = {offset}")
                slots.append(f"a{operand}[at{slot}:]")
            else:
                slots.append(f"a{operand}[{offset}:]" if offset else f"a{operand}")
        lines.append("    steps = 0")
        length = extent if loop.length is None else loop.length
        call = ", ".join(slots)
        if loop.predicate is not None:
            test = self.routine(loop.predicate, f"{loop.name}_predicate", len(slots))
            lines += ["    while True:", f"        {test}({call})", f"        if not {slots[loop.answer]}[0]:"]
            lines.append("            break")
        else:
            lines.append(f"    while steps < {length}:")
        lines += [f"        if steps % {_STEPS} == {_STEPS - 1}:"]
        lines.append(f"            {self.functions.intrinsic('check_signals')}()")
        lines.append(f"        {self.routine(loop.body, f'{loop.name}_body', len(slots))}({call})")
        lines.append("        steps += 1")
        lines += [f"        at{slot} += {nbytes}" for slot, nbytes in loop.moving]
        for carry in loop.carries:
            lines += _turn(carry, loop.places[carry.written][0])
        for carry in loop.carries:
            lines += _settled(carry, loop.places[carry.written][0])
        return lines

    def _define(self, name: str, parameters: Iterable[str], lines: Sequence[str]) -> str:
        text = f"({', '.join(parameters)}):\n" + "\n".join(lines or ["    pass"]) + "\n"
        if text not in self.definitions:
            self.definitions[text] = name = self._unused(name)
            self.parts.append(f"{DECORATOR}\ndef {name}{text}")
        return self.definitions[text]

    def _unused(self, name: str) -> str:
        found, number = name, 1
        while found in self.names or found in self.functions.definitions or found in self.functions.imports:
            number += 1
            found = f"{name}_{number}"
        self.names.add(found)
        return found


def _turn(carry: Carry, start: int) -> list[str]:
    """Lines that swap the two places of a carried value after a step: what was written is read next."""
    one, other = carry.places
    if one == other:
        return [f"        s{carry.read} = s{carry.written}"]
    alternate = other if start == one else one
    return [
        f"        s{carry.read} = s{carry.written}",
        f"        s{carry.written} = a{alternate} if steps % 2 else a{start}",
    ]


def _settled(carry: Carry, start: int) -> list[str]:
    """Lines that copy the last value of a carry to where it belongs, unless it is there."""
    one, other = carry.places
    there = "steps > 0" if one == other else f"steps > 0 and steps % 2 == {int(start == carry.result)}"
    return [f"    if not ({there}):", f"        a{carry.result}[:{carry.nbytes}] = s{carry.read}[:{carry.nbytes}]"]


def _types(routine: Routine, operands: Iterable[Operand]) -> list[ShapedArray]:
    return [routine.values[o.value].aval for o in operands]


def _memory(routine: Routine) -> str:
    return ", ".join(f"s{routine.values[n].slot}: {routine.values[n].aval.short()}" for n in routine.slots)


# ------------------------------------------------------------------------------------------- the program itself


def _main(plan: Plan, name: str, run: str) -> list[str]:
    avals = [plan.routine.values[n].aval for n in plan.routine.slots]
    inputs = avals[: plan.n_inputs]
    parameters = [f"x{i}" for i in range(len(inputs))]
    lines, slots = [], ["arena"]
    for x, aval in zip(parameters, inputs, strict=True):
        lines += _bytes_of(x, aval)
        slots.append(f"{x}_bytes")
    for i in range(len(plan.consts)):
        slots.append(f"c{i}.copy().view(uint8)")
    for i, (nbytes, aval) in enumerate(zip(plan.buffer_sizes, avals[plan.n_inputs + len(plan.consts) :], strict=True)):
        lines.append(f"    y{i} = np.empty({nbytes}, uint8)  # {aval.short()}")
        slots.append(f"y{i}")
    lines.append(f"    arena = np.empty({plan.routine.arena_bytes}, uint8)")
    lines.append(f"    {run}({', '.join(slots)})")
    results = [_result(plan, i) for i in range(len(plan.outputs))]
    lines.append(f"    return {results[0] if len(results) == 1 else '(' + ', '.join(results) + ')'}")
    shown = ", ".join(a.short() for a in inputs), ", ".join(o.aval.short() for o in plan.outputs)
    constants = [f"c{i} = {_constant(np.asarray(c))}\n" for i, c in enumerate(plan.consts)]
    doc = f'    """({shown[0]}) -> ({shown[1]})"""'
    definition = "\n".join([DECORATOR, f"def {name}({', '.join(parameters)}):", doc, *lines, ""])
    return [*(["".join(constants)] if constants else []), definition]


def _bytes_of(x: str, aval: ShapedArray) -> list[str]:
    """Lines that check an argument and give its memory; an argument without dimensions is a number."""
    dtype = stored_as(aval.dtype)
    if not aval.shape:
        return [f"    {x}_bytes = np.array([{x}], {dtype}).view(uint8)"]
    return [
        f"    if {x}.shape != {aval.shape}:",
        f'        raise ValueError("{x} is not of shape {aval.shape}, for which the program was compiled")',
        f"    if {_is_other(x, dtype)}:",
        f'        raise ValueError("{x} is not an array of {dtype}, for which the program was compiled")',
        f"    {x}_bytes = np.ascontiguousarray({x}).reshape({aval.size}).view(uint8)",
    ]


def _is_other(x: str, dtype: str) -> str:
    """Source of whether an array is not of a dtype, from its width and from what becomes of numbers."""
    known, one = np.dtype(dtype), f"{x}.dtype.type"
    floating = f"{one}(0.5) != 0"
    other = {
        "b": f"{one}(2) == 2",
        "i": f"{floating} or {one}(-1) > 0",
        "u": f"{floating} or {one}(-1) < 0",
        "f": f"{one}(0.5) == 0",
        "c": f"{one}(0.5) == 0",
    }
    return f"{x}.itemsize != {known.itemsize} or {other[known.kind]}"


def _result(plan: Plan, i: int) -> str:
    output = plan.outputs[i]
    dtype, aval = stored_as(output.aval.dtype), output.aval
    if output.buffer is not None:
        memory = f"y{output.buffer}[:{aval.nbytes}].view({dtype})"
    elif output.input is not None:
        memory = f"x{output.input}_bytes.view({dtype}).copy()"
    else:
        assert output.constant is not None
        memory = _constant(np.asarray(output.constant))
    return f"{memory}.reshape({aval.shape})" if aval.shape else f"{memory}[0]"


def _constant(value: np.ndarray) -> str:
    """Source of a flat array."""
    flat = np.ascontiguousarray(value).reshape(-1)
    dtype = stored_as(flat.dtype)
    flat = flat.view(np.uint16) if dtype == "uint16" and flat.dtype != np.uint16 else flat
    if flat.size <= _SHORT_CONSTANT:
        listed = np.array2string(flat, separator=", ", floatmode="unique", max_line_width=10**6)
        return f"np.array({listed if flat.size else '[]'}, {dtype})"
    text = base64.b85encode(flat.tobytes()).decode()
    return f'np.frombuffer(__import__("base64").b85decode("{text}"), {dtype})'


GEMM_ARGUMENTS = ("batch", "m", "n", "k", "transpose_a", "transpose_b", "lda", "ldb", "stride_a", "stride_b")
_GEMM = f'''
@njit(error_model="numpy", nogil=True, fastmath={{"reassoc", "contract", "nsz"}})
def gemm(c, a, b, {", ".join(GEMM_ARGUMENTS)}):
    """c[i] = a[i] @ b[i] for i < batch; the rows of a and b are stored lda and ldb elements apart."""
    down, along = (1, lda) if transpose_a else (lda, 1)
    for i in range(batch):
        for row in range(m):
            out = c[(i * m + row) * n : (i * m + row + 1) * n]
            start = i * stride_a + row * down
            if transpose_b:
                for j in range(n):
                    line = b[i * stride_b + j * ldb :]
                    total = out.dtype.type(0)
                    for l in range(k):
                        total += a[start + l * along] * line[l]
                    out[j] = total
            else:
                out[:] = 0
                for l in range(k):
                    x, line = a[start + l * along], b[i * stride_b + l * ldb :]
                    for j in range(n):
                        out[j] += x * line[j]
'''
