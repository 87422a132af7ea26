"""Programs of the benchmarks run without calls of NumPy."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import funcgrad as fg
from benchmarks import cliffs, gradients, indexing, ordering
from benchmarks.cases import CASES
from benchmarks.frameworks import Framework, load
from funcgrad import dtypes
from funcgrad.compiler import pipeline
from funcgrad.compiler.program.instructions import HostCall, Routine, routines
from funcgrad.compiler.targets.llvm.link import target as LLVM

# What may have no kernel for real numbers; shorten the list when they get one.
WITHOUT_KERNELS = {
    "gcd",
    "bessel_i0e",
    "bessel_i1e",
    "igamma",
    "igammac",
    "igamma_grad_a",
    "random_gamma_grad",
    "polygamma",
    "zeta",
}


class Planned(Exception):
    """The first program of a case was planned."""


def host_calls(routine: Routine) -> Iterator[str]:
    """Yield the primitives whose NumPy rules a routine calls for real numbers."""
    for instruction in routine.instructions:
        callee = instruction.callee
        if isinstance(callee, HostCall) and not any(
            dtypes.is_complex(a.dtype) for a in (*callee.arguments, *callee.results)
        ):
            yield callee.primitive.name
        for _, inner in routines(instruction.callee):
            yield from host_calls(inner)


def of_function(function: Callable[..., Any], *args: Any) -> set[str]:
    """Return the primitives that the program of a function calls NumPy for."""
    return set(host_calls(pipeline.planned(fg.make_jaxpr(function)(*args), LLVM).routine))


def of_case(prepare: Callable[[Framework], Callable[[], Any]]) -> set[str]:
    """Return the primitives that the first program of a case calls NumPy for, without running it."""
    found: list[set[str]] = []

    def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def call(*args: Any) -> None:
            found.append(of_function(function, *args))
            raise Planned

        return call

    fw = load("funcgrad")
    lib = types.SimpleNamespace(**{name: getattr(fg, name) for name in dir(fg)} | {"jit": jit})
    try:
        prepare(fw._replace(lib=lib))()
    except Planned:
        return found[0]
    return set()


PROGRAMS: dict[str, Callable[[], set[str]]] = {
    **{case.name: lambda case=case: of_case(case.prepare) for case in CASES},
    **{
        case.name: lambda case=case: of_function(case.program(load("funcgrad")), *case.arguments)
        for case in (*indexing.cases(), *ordering.cases())
    },
    **{
        case.name: lambda case=case: of_function(gradients.gradient(load("funcgrad"), case), *case.arguments)
        for case in gradients.cases()
    },
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_benchmark_calls_no_numpy(name: str):
    assert PROGRAMS[name]() == set()


def test_every_operation_has_a_kernel_but_for_those_listed():
    fw = load("funcgrad")
    found: dict[str, str] = {}
    for text in cliffs.programs():
        found |= dict.fromkeys(of_function(cliffs.program(text, fw), *cliffs.ARRAYS.values()), text)
    assert set(found) <= WITHOUT_KERNELS, found
