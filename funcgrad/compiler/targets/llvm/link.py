"""The llvm target: plans linked to machine code in this process, and run by the native runner."""

from __future__ import annotations

import functools

from funcgrad.compiler.program.instructions import (
    BranchCall,
    CopyCall,
    HostCall,
    Instruction,
    JoinCall,
    KernelCall,
    LibraryCall,
    LoopCall,
    NativeCall,
    Plan,
    Routine,
)
from funcgrad.compiler.program.interpret import execute
from funcgrad.compiler.program.target import Division, Linked
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.compiler.targets.llvm import blas, implicit_gemm, kernels, lapack, runtime
from funcgrad.compiler.targets.llvm.lapack_routines import ROUTINES

_RUNS_ITS_EXTENT = -1  # the length of a loop whose iterations are those of its instruction


class LlvmTarget:
    """Kernels through LLVM, matrix products through OpenBLAS; see `program.target.Target`."""

    name = "llvm"
    scheduling = Scheduling()

    def threads(self) -> int:
        """Return the number of threads, including the caller."""
        return runtime.num_threads()

    def problem(self) -> str:
        """Return the reason why the native runtime cannot be built on this machine, or an empty string."""
        try:
            runtime.native_functions()
        except (ImportError, OSError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def division(self, call: LibraryCall) -> Division | None:
        """Return how a routine is distributed over threads: products by tiles, factorizations by matrices."""
        match call:
            case LibraryCall("gemm", arguments, _):
                product = blas.divided(**dict(arguments))
                return Division(product.extent, product.grain)
            case LibraryCall("implicit_gemm", arguments, _):
                return implicit_gemm.division(**dict(arguments))
            case LibraryCall(name, arguments, _) if name in ROUTINES:
                return lapack.division(ROUTINES[name], dict(arguments))
        return None

    def link(self, plan: Plan) -> Linked:
        """Compile new kernels, and write the addresses of all callees into the tables of the runner."""
        linker = _Linker()
        instructions, alive = linker.linked(plan.routine)
        program = runtime.Program(instructions, plan.n_slots, alive)
        return Linked(program.run, tuple(linker.origins))


class _Linker:
    """Resolves the symbols of routines."""

    def __init__(self) -> None:
        self.origins: list[str] = []

    def linked(self, routine: Routine) -> tuple[list[runtime.Instruction], list[object]]:
        """Return the instructions of a routine with addresses, and the references that keep their code loaded."""
        instructions, alive = [], []
        for i in routine.instructions:
            function, sizes, owner = self.resolve(i)
            args = []
            for operand in i.operands:
                value = routine.values[operand.value]
                args.append((value.slot, value.offset + operand.offset))
            instructions.append(runtime.Instruction(function, tuple(args), sizes, i.extent, i.grain))
            alive.append(owner)
        return instructions, alive

    def resolve(self, instruction: Instruction) -> tuple[int, tuple[int, ...], object]:
        """Return the address of a callee, its size arguments, and the owner of the code."""
        match instruction.callee:
            case KernelCall(kernel, sizes):
                code, origin = kernels.get(kernel)
                self.origins.append(origin)
                return code.address, sizes, code
            case LibraryCall("gemm", arguments, _):
                product = blas.gemm(**dict(arguments))
                return product.function, product.sizes, product.library
            case LibraryCall("implicit_gemm", arguments, _):
                routine = implicit_gemm.routine(**dict(arguments))
                return routine.function, routine.sizes, routine.library
            case LibraryCall(name, arguments, _) if name in ROUTINES:
                return lapack.call(ROUTINES[name], dict(arguments))
            case CopyCall():
                return runtime.native_functions().copy, (), None
            case JoinCall(_, runs, by_rows, block):
                native = runtime.native_functions()
                if by_rows:
                    return native.interleave, (sum(runs), len(runs), block, *runs), None
                return native.join, (sum(runs), *runs), None
            case NativeCall(lowering, fallback):
                code = lowering.code(fallback.arguments, fallback.results, fallback.params)
                on_failure = _host_function(instruction)
                return code.address, on_failure.sizes, (code.keep_alive, on_failure.keep_alive)
            case BranchCall(branches):
                tables = [self.table(b) for b in branches]
                sizes = (len(tables), len(instruction.operands), *(t.address for t in tables))
                return runtime.native_functions().branch, sizes, tables
            case LoopCall() as loop:
                body = self.table(loop.body)
                predicate = self.table(loop.predicate) if loop.predicate is not None else None
                sizes = _loop_words(loop, len(instruction.operands), body, predicate)
                return runtime.native_functions().loop, sizes, (body, predicate)
            case HostCall():
                host = _host_function(instruction)
                return host.function, host.sizes, host.keep_alive
        raise TypeError(f"the llvm target has no {instruction.callee}")

    def table(self, routine: Routine) -> runtime.Table:
        """Return a routine as a table that an instruction runs."""
        return runtime.Table(*self.linked(routine))


def _host_function(instruction: Instruction) -> runtime.HostFunction:
    """Return a function that runs an instruction in Python."""
    return runtime.host_function(functools.partial(execute, instruction), len(instruction.operands))


def _loop_words(loop: LoopCall, nargs: int, body: runtime.Table, predicate: runtime.Table | None) -> tuple[int, ...]:
    """Return what `@loop` of runtime.ll finds in its sizes; the comment above that function lists it."""
    carries = [(c.read, c.written, *c.places, c.result, c.nbytes) for c in loop.carries]
    parts = (loop.places, loop.moving, carries, loop.copies)
    length = _RUNS_ITS_EXTENT if loop.length is None else loop.length
    head = (body.address, predicate.address if predicate else 0, loop.answer, length, nargs)
    return (*head, *map(len, parts), loop.stride, *(word for part in parts for item in part for word in item))


target = LlvmTarget()
