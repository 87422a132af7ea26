"""The compiler's passes in their order, and every stage as text.

jaxpr ─simplify, in_blocks, sink→ jaxpr ─fuse→ groups ─schedule, lower→ loops ─emit→ kernels ─plan→ program ─run→ arrays
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sized
from types import ModuleType
from typing import NamedTuple

from funcgrad.compiler import targets
from funcgrad.compiler.fusion.costs import costs
from funcgrad.compiler.fusion.fuse import Fusion, fuse
from funcgrad.compiler.fusion.inner import fusions
from funcgrad.compiler.loops import language as loops
from funcgrad.compiler.loops import python
from funcgrad.compiler.loops.language import Kernel
from funcgrad.compiler.lowering import small_loops
from funcgrad.compiler.lowering.alike import kernels_of as launches_of
from funcgrad.compiler.lowering.scatters import lower_scatter
from funcgrad.compiler.program.executable import Executable
from funcgrad.compiler.program.instructions import Plan
from funcgrad.compiler.program.plan import plan
from funcgrad.compiler.program.target import Target
from funcgrad.compiler.rewrite.blocks import in_blocks
from funcgrad.compiler.rewrite.checks import with_checks
from funcgrad.compiler.rewrite.keys import as_integers
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.rewrite.sink import sink
from funcgrad.compiler.targets.llvm import kernels, toolchain
from funcgrad.config import config, debug_infs, debug_nans
from funcgrad.core import finite
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.jaxprs import ClosedJaxpr
from funcgrad.errors import ArgumentError


class Statistics(NamedTuple):
    """The origins of the kernels of an executable."""

    compiled: int
    disk: int
    reused: int


def executable(closed: ClosedJaxpr, name: str, target: str | None = None) -> Executable:
    """Compile a jaxpr to an executable, for `config.cpu_target` unless a target is given.

    It is remembered on the jaxpr, for each target, number of threads, and what is to be checked.
    """
    on = targets.find(target or config.cpu_target)
    key = ("executable", on.name, on.threads(), finite.kinds())
    return closed.memo(key, lambda: _compile(closed, name, on))


def planned(closed: ClosedJaxpr, target: Target) -> Plan:
    """Return the program of a jaxpr as data, without compiling it."""
    simplified, fusion = _front(closed, target)
    return plan(simplified, fusion, closed.out_avals, target)


def _compile(closed: ClosedJaxpr, name: str, target: Target) -> Executable:
    start = time.perf_counter()
    simplified, fusion = _front(closed, target)
    program = plan(simplified, fusion, closed.out_avals, target)
    made = Executable(program, target.link(program), name)
    if config.log_compiles:
        origins = [f"{made.origins.count(o)} {text}" for o, text in _ORIGINS.items() if o in made.origins]
        equations, steps = _counted(closed.eqns, "equation"), _counted(fusion.order, "step")
        log(
            f"jit({name}): compiled {equations} to {steps} in "
            f"{_milliseconds(start)}; kernels: {', '.join(origins) or 'none'}"
        )
    return made


_ORIGINS = {"compiled": "compiled", "disk": "loaded from disk", "reused": "used before"}


def _counted(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' if len(things) != 1 else ''}"


def _milliseconds(start: float) -> str:
    return f"{(time.perf_counter() - start) * 1e3:.1f} ms"


def _front(closed: ClosedJaxpr, target: Target) -> tuple[ClosedJaxpr, Fusion]:
    if config.enable_checks:
        check_jaxpr(closed)
    kinds = finite.kinds()
    with debug_nans(False), debug_infs(False):  # what is folded or expanded here is checked when the program runs
        simplified = _simplified(closed if kinds is None else with_checks(closed, kinds), target)
    if config.enable_checks:
        check_jaxpr(simplified, weak_types=False)
    return simplified, fuse(simplified.jaxpr.eqns, simplified.jaxpr.outvars, target.scheduling)


def _simplified(closed: ClosedJaxpr, target: Target) -> ClosedJaxpr:
    return sink(in_blocks(simplify(as_integers(closed)), target.scheduling))


def statistics(closed: ClosedJaxpr) -> Statistics:
    """Return the origins of the kernels of a compiled jaxpr, or zeros if it is not compiled."""
    compiled = [value for key, value in closed._memo.items() if key[0] == "executable"]
    origins = [origin for found in compiled for origin in found.origins]
    return Statistics(origins.count("compiled"), origins.count("disk"), origins.count("reused"))


def kernels_of(closed: ClosedJaxpr, target: str | None = None) -> list[Kernel]:
    """Return the distinct kernels of a jaxpr in order of first use."""
    _, fusion = _front(closed, targets.find(target or config.cpu_target))
    return list(dict.fromkeys(_kernels(fusion)))


def _kernels(fusion: Fusion) -> Iterator[Kernel]:
    for group in fusion.order:
        if group.kind in ("loops", "kernels"):
            yield from (x.kernel for x in launches_of(fusion, group))
        elif group.kind == "update":
            launches = lower_scatter(group.eqns[0], fusion.accesses[group.eqns[0]], fusion.scheduling)
            yield from (x.kernel for x in launches)
        elif group.kind == "control":
            (eqn,) = group.eqns
            small = small_loops.lower(eqn, [a.source for a in fusion.accesses[eqn]], fusion.scheduling)
            if small is not None:
                yield small.kernel
            for _, inner in fusions(eqn, fusion.scheduling) if small is None else ():
                yield from _kernels(inner)


def _group_lines(fusion: Fusion, indent: str = "") -> Iterator[str]:
    """Format one line per group, followed by the groups of the jaxprs of branches and loops."""
    for i, group in enumerate(fusion.order):
        small = group.kind == "control" and small_loops.lower(
            group.eqns[0], [a.source for a in fusion.accesses[group.eqns[0]]], fusion.scheduling
        )
        yield f"{indent}{i}: {group}{' in one kernel of scalars' if small else ''}"
        inside = fusions(group.eqns[0], fusion.scheduling) if group.kind == "control" and not small else ()
        for name, inner in inside:
            yield f"{indent}  {name}:"
            yield from _group_lines(inner, indent + "    ")


STAGES = ("jaxpr", "simplified", "groups", "loops", "kernels", "program", "llvm", "assembly", "numba", "cuda", "ptx")


def as_text(closed: ClosedJaxpr, name: str, stage: str, target: str | None = None) -> str:
    """Return one stage of the compilation as text; see `STAGES`."""
    if stage == "jaxpr":
        return str(closed)
    if stage == "simplified":
        return str(_simplified(closed, targets.find(target or config.cpu_target)))
    if stage == "groups":
        return "\n".join(_group_lines(_front(closed, targets.find(target or config.cpu_target))[1]))
    if stage == "program":
        return str(planned(closed, targets.find(target or config.cpu_target)))
    if stage == "numba":
        return numba_source(closed, name)
    texts: dict[str, Callable[[Kernel], str]] = {
        "loops": loops.format,
        "kernels": python.render,
        "llvm": kernels.llvm_text,
        "assembly": lambda k: toolchain.assembly(kernels.llvm_text(k)),
        "cuda": lambda k: _cuda().render(k),
        "ptx": lambda k: _cuda().compile_ptx(k),
    }
    if stage not in texts:
        raise ArgumentError(f"as_text: no stage {stage!r}", fix=f"choose one of {', '.join(STAGES)}")
    return "\n\n".join(texts[stage](k) for k in kernels_of(closed, target))


def numba_source(closed: ClosedJaxpr, name: str) -> str:
    """Return a jaxpr as the source of a module that numba compiles."""
    from funcgrad.compiler.targets.numba import module

    return module.source(planned(closed, targets.find("numba")), name)


def _cuda() -> ModuleType:
    from funcgrad.compiler.targets import cuda  # numba.cuda is slow to import, and optional

    return cuda


def cost_analysis(closed: ClosedJaxpr) -> dict[str, float]:
    """Return the numbers of operations and of bytes moved by a compiled jaxpr."""
    found = costs(_front(closed, targets.find(config.cpu_target))[1])
    return {name: float(found[name]) for name in ("flops", "transcendentals", "bytes accessed")}


class MemoryAnalysis(NamedTuple):
    """The memory in bytes that a call of a compiled function uses; the names of JAX are properties."""

    arguments: int
    outputs: int
    temporaries: int

    argument_size_in_bytes = property(lambda self: self.arguments)
    output_size_in_bytes = property(lambda self: self.outputs)
    temp_size_in_bytes = property(lambda self: self.temporaries)
    alias_size_in_bytes = property(lambda self: 0)
    generated_code_size_in_bytes = property(lambda self: 0)


def memory_analysis(closed: ClosedJaxpr, name: str, target: str | None = None) -> MemoryAnalysis:
    """Return the bytes of arguments, outputs and temporaries of a compiled jaxpr."""
    program = executable(closed, name, target).plan
    arguments = sum(a.nbytes for a in closed.in_avals)
    return MemoryAnalysis(arguments, sum(program.buffer_sizes), program.routine.arena_bytes)


def log(message: str) -> None:
    """Print a compiler message to stderr."""
    print(f"funcgrad: {message}", file=sys.stderr)
