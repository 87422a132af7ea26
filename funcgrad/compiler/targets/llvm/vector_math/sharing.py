"""Math functions that a kernel calls often: compiled once for the kernel, where inlining compiles each call.

Sixteen sines inlined into a loop take LLVM 254 ms, as calls 49 ms; fifty take 771 ms and 48 ms. They run as fast, for
the code is smaller: 16 × tanh takes 4.5 ns an element and operation inlined, 2.9 ns as calls.

LLVM's loop vectorizer replaces calls of a scalar function by calls of its vector variants, which an attribute names.
The variants are made by LLVM too: of a loop over the elements of a vector, with the scalar function inlined.

A function with loops is never inlined, for LLVM vectorizes innermost loops only. Its variants are its formula on
vectors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from llvmlite import ir

from funcgrad.compiler.targets.llvm.vector_math import registry
from funcgrad.compiler.targets.llvm.vector_math.scalar import FORMATS

# A function called more often than this by a kernel is not inlined.
_MOST_INLINED = 6
_PURE = "noinline nounwind willreturn memory(none)"


def share(calls: Iterable[ir.CallInstr], vector_bytes: int, widest: int) -> None:
    """Have calls of functions that are called often go to one copy of each.

    The calls are of functions that `registry.define` made. Loops use vectors of as many elements as a register of
    `vector_bytes` holds of the widest type that they read or write, which is of at most `widest` bytes: there are
    variants for what this comes to.
    """
    by_function: defaultdict[ir.Function, list[ir.CallInstr]] = defaultdict(list)
    for call in calls:
        by_function[call.callee].append(call)
    for function, mine in by_function.items():
        _, name, _ = function.name.split(".")
        if registry.loops(name) or len(mine) > _MOST_INLINED:
            size = FORMATS[function.function_type.return_type].int_type.width // 8
            widths = sorted({vector_bytes // size, vector_bytes // max(size, widest)})
            shared = (_SharedWithLoops if registry.loops(name) else _Shared)(function, widths)
            for call in mine:
                call.replace_callee(shared)


class _Shared(ir.Function):
    """A function like `inlined`, and its vector variants, which llvmlite has no words for: written as text."""

    def __init__(self, inlined: ir.Function, widths: Iterable[int]):
        super().__init__(inlined.module, inlined.function_type, f"{inlined.name}.shared")
        self.inlined, self.widths = inlined, widths

    def descr(self, buf: list[str]) -> None:
        kind, name = self.function_type.return_type, self.name
        arguments = [f"%x{i}" for i in range(len(self.args))]
        letters = "v" * len(arguments)
        variants = ",".join(f"_ZGV_LLVM_N{n}{letters}_{name}({name}.v{n})" for n in self.widths)
        typed = ", ".join(f"{kind} {x}" for x in arguments)
        buf.append(
            f'define internal {kind} @"{name}"({typed}) {_PURE} "vector-function-abi-variant"="{variants}" {{\n'
            f"{self._scalar(kind, arguments)}  ret {kind} %y\n"
            "}\n"
        )
        buf += [self._variant(kind, arguments, n) for n in self.widths]

    def _scalar(self, kind: ir.Type, arguments: list[str]) -> str:
        """The code that computes %y."""
        typed = ", ".join(f"{kind} {x}" for x in arguments)
        return f'  %y = call {kind} @"{self.inlined.name}"({typed})\n'

    def _variant(self, kind: ir.Type, arguments: list[str], n: int) -> str:
        """The function on vectors of n elements. Weak, for the vectorizer finds it before anything calls it."""
        vector = f"<{n} x {kind}>"
        store = [f"  {x}.all = alloca {vector}\n  store {vector} {x}, ptr {x}.all\n" for x in arguments]
        load = [
            f"  {x}.at = getelementptr {kind}, ptr {x}.all, i64 %i\n  {x}.i = load {kind}, ptr {x}.at\n"
            for x in arguments
        ]
        return (
            f'define weak_odr hidden {vector} @"{self.name}.v{n}"({", ".join(f"{vector} {x}" for x in arguments)}) '
            f"{_PURE} {{\n"
            f"start:\n{''.join(store)}"
            f"  %y.all = alloca {vector}\n  br label %loop\n"
            f"loop:\n  %i = phi i64 [0, %start], [%next, %loop]\n{''.join(load)}"
            f'  %y.i = call {kind} @"{self.inlined.name}"({", ".join(f"{kind} {x}.i" for x in arguments)})\n'
            f"  %y.at = getelementptr {kind}, ptr %y.all, i64 %i\n  store {kind} %y.i, ptr %y.at\n"
            f"  %next = add nuw nsw i64 %i, 1\n  %end = icmp eq i64 %next, {n}\n"
            "  br i1 %end, label %done, label %loop\n"
            f"done:\n  %y = load {vector}, ptr %y.all\n  ret {vector} %y\n"
            "}\n"
        )


class _SharedWithLoops(_Shared):
    """A function with loops, of which the variants compute a vector at once: a scalar as a vector of one number."""

    def __init__(self, inlined: ir.Function, widths: Iterable[int]):
        super().__init__(inlined, widths)
        _, name, _ = inlined.name.split(".")
        kind = self.function_type.return_type
        self.vectors = {n: registry.define(inlined.module, name, ir.VectorType(kind, n)) for n in self.widths}

    def _scalar(self, kind: ir.Type, arguments: list[str]) -> str:
        n, lines = min(self.widths), ""
        vector = f"<{n} x {kind}>"
        for x in arguments:
            lines += f"  {x}.0 = insertelement {vector} poison, {kind} {x}, i64 0\n"
            lines += f"  {x}.all = shufflevector {vector} {x}.0, {vector} poison, <{n} x i32> zeroinitializer\n"
        typed = ", ".join(f"{vector} {x}.all" for x in arguments)
        return (
            f'{lines}  %y.all = call {vector} @"{self.vectors[n].name}"({typed})\n'
            f"  %y = extractelement {vector} %y.all, i64 0\n"
        )

    def _variant(self, kind: ir.Type, arguments: list[str], n: int) -> str:
        vector = f"<{n} x {kind}>"
        typed = ", ".join(f"{vector} {x}" for x in arguments)
        return (
            f'define weak_odr hidden {vector} @"{self.name}.v{n}"({typed}) {_PURE} {{\n'
            f'  %y = call {vector} @"{self.vectors[n].name}"({typed})\n  ret {vector} %y\n'
            "}\n"
        )
