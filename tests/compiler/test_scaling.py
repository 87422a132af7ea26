"""Every pass takes steps in proportion to the equations: programs of two lengths are compared by lines executed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from benchmarks import frameworks
from benchmarks.scaling_programs import KINDS, Kind
from funcgrad.compiler.fusion.fuse import fuse
from funcgrad.compiler.pipeline import kernels_of
from funcgrad.compiler.program.plan import plan
from funcgrad.compiler.rewrite.blocks import in_blocks
from funcgrad.compiler.rewrite.keys import as_integers
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.rewrite.sink import sink
from funcgrad.compiler.targets.llvm.link import target as LLVM

FUNCGRAD = frameworks.load("funcgrad")
SHORT = 400  # equations
# From one length to the double; 2 is linear, and what is done once makes it less.
MOST_GROWTH = 2.3


def steps(action: Callable[[], Any]) -> tuple[Any, int]:
    """The result of an action, and how many lines of Python it executes: iterations of loops count one by one."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = action()
    finally:
        sys.settrace(before)
    return result, count


def steps_of_passes(kind: Kind, equations: int) -> dict[str, int]:
    """How many steps each pass takes for a program of so many equations."""
    fun, args = kind.make(FUNCGRAD, max(1, round(equations / kind.equations)))
    closed, tracing = steps(lambda: fun.trace(*args).jaxpr)
    simplified, simplifying = steps(lambda: simplify(as_integers(closed)))
    blocked, blocking = steps(lambda: in_blocks(simplified, LLVM.scheduling))
    sunk, sinking = steps(lambda: sink(blocked))
    fusion, fusing = steps(lambda: fuse(sunk.jaxpr.eqns, sunk.jaxpr.outvars, LLVM.scheduling))
    held = LLVM.link(plan(sunk, fusion, closed.out_avals, LLVM))  # what follows finds the kernels loaded
    planned, planning = steps(lambda: plan(sunk, fusion, closed.out_avals, LLVM))
    _, linking = steps(lambda: LLVM.link(planned))
    assert held.origins
    return {
        "trace": tracing,
        "simplify": simplifying,
        "blocks": blocking,
        "sink": sinking,
        "fuse": fusing,
        "lower and plan": planning,
        "link": linking,
    }


@pytest.mark.parametrize("kind", KINDS, ids=[k.name for k in KINDS])
def test_steps_grow_like_the_equations(kind):
    short, long = (steps_of_passes(kind, n) for n in (SHORT, 2 * SHORT))
    assert {name: f"× {long[name] / short[name]:.2f}" for name in short if long[name] > MOST_GROWTH * short[name]} == {}


# Updates at places that are known have a kernel for each place.
REPEATED = [k for k in KINDS if k.name != "updates"]


@pytest.mark.parametrize("kind", REPEATED, ids=[k.name for k in REPEATED])
def test_long_programs_have_few_kernels(kind):
    counts = []
    for n in (SHORT, 2 * SHORT):
        fun, args = kind.make(FUNCGRAD, max(1, round(n / kind.equations)))
        counts.append(len(kernels_of(fun.trace(*args).jaxpr)))
    assert counts[1] <= counts[0] + 2


def test_results_of_long_programs():
    """Programs that are divided into many kernels compute what their operations compute one by one."""
    for kind in KINDS:
        fun, args = kind.make(FUNCGRAD, max(1, round(200 / kind.equations)))
        found, expected = FUNCGRAD.lib.tree.leaves(fun(*args)), FUNCGRAD.lib.tree.leaves(fun.__wrapped__(*args))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=kind.name)
