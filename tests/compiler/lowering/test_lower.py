"""Lowering: the kernels of groups, as Python text, and what they are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.fusion.fuse import Fusion, fuse
from funcgrad.compiler.fusion.groups import Group
from funcgrad.compiler.loops import python
from funcgrad.compiler.lowering import alike, small_loops
from funcgrad.compiler.lowering.kernel_builder import KernelBuilder, Launch
from funcgrad.compiler.lowering.lower import lower_group
from funcgrad.compiler.lowering.scatters import lower_scatter
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Var
from funcgrad.dtypes import float32

X = np.ones((4, 8), np.float32)
S = Scheduling()


def fused(function: Callable[..., Any], *args: Any) -> Fusion:
    jaxpr = simplify(fg.make_jaxpr(function)(*args)).jaxpr
    return fuse(jaxpr.eqns, jaxpr.outvars, S)


def launches(function: Callable[..., Any], *args: Any) -> list[Launch]:
    fusion = fused(function, *args)
    return [x for g in fusion.order if g.kind == "loops" for x in lower_group(fusion, g, fusion.stored)]


def text(launch: Launch) -> str:
    return python.render(launch.kernel).strip()


def test_a_map_over_one_dimension_is_the_parallel_loop():
    (launch,) = launches(lambda x: jnp.sin(x) + x, X)
    assert text(launch).splitlines()[0] == "def map_sin_add(x0, y0, n0, parallel):"
    assert (launch.sizes, launch.extent) == ((32, 32), 32)
    assert [str(v.aval) for v in launch.operands if v is not None] == ["f32[4,8]", "f32[4,8]"]


def test_sizes_are_arguments():
    (small,), (large,) = (launches(lambda x: x / x.shape[0] + 1.0, np.ones((n, 3), np.float32)) for n in (50, 70))
    assert small.kernel == large.kernel
    assert small.sizes != large.sizes


def test_a_row_kernel_folds_before_it_writes():
    (launch,) = launches(lambda x: x / jnp.sum(x, 1, keepdims=True), X)
    lines = text(launch).splitlines()
    assert lines[0].startswith("def row_reduce_sum_div(")
    assert [line.strip().split(" ")[0] for line in lines if "for " in line] == ["for"] * 3
    assert launch.extent == 4


def test_a_column_kernel_keeps_accumulators_in_scratch():
    (launch,) = launches(lambda x: jnp.sum(x, 0), X)
    intents = [p.intent for p in launch.kernel.params]
    assert intents.count("scratch") == 1
    assert [v is None for v in launch.operands] == [i == "scratch" for i in intents]


def test_a_long_fold_is_two_kernels_that_share_the_partial_results():
    first, second = launches(jnp.sum, np.ones(1 << 20, np.float32))
    assert first.extent == S.max_partial_folds and second.extent == 1
    assert first.operands[-1] in second.operands
    assert first.operands[-1].aval.shape == (S.max_partial_folds,)


def test_the_vector_loop_of_a_concatenation_is_cut_where_the_parts_meet():
    (launch,) = launches(lambda x: jnp.concatenate([x, x[:, :3]], 1) * 2, X)
    assert [line.split()[-1] for line in text(launch).splitlines() if "for j" in line] == [
        "range(k0_width):",
        "range(k1_width):",
    ]
    assert "if " not in text(launch)


def test_alike_groups_are_lowered_once(monkeypatch):
    lowered = []

    def counted(fusion: Fusion, group: Group, stored: set[Var]) -> list[Launch]:
        lowered.append(group)
        return lower_group(fusion, group, stored)

    monkeypatch.setattr(alike, "lower_group", counted)
    fusion = fused(lambda x, y: (jnp.sin(jnp.sin(x) @ x.T) @ x, jnp.sin(jnp.cos(y) @ y.T)), X, X)
    groups = [g for g in fusion.order if g.kind == "loops"]
    lowerings = alike.Lowerings()
    found = [launch for g in groups for launch in lowerings.of(fusion, g)]
    expected = [launch for g in groups for launch in lower_group(fusion, g, fusion.stored)]
    assert found == expected
    assert (len(groups), len(lowered)) == (4, 3)  # the two sines of products are one kernel


def test_a_window_is_written_where_its_clamped_start_is():
    fusion = fused(lambda x, i: lax.dynamic_update_slice(x, x[:2, :3] * 2, (i, 1)), X, np.int32(3))
    (group,) = (g for g in fusion.order if g.kind == "update")
    (launch,) = lower_scatter(group.eqns[0], fusion.accesses[group.eqns[0]], S)
    assert text(launch).startswith("def scatter_set(")
    # It moves over 4 − 2 rows of 8 elements, and over 8 − 3 columns.
    sizes = dict(zip(launch.kernel.sizes, launch.sizes, strict=True))
    assert sizes.items() >= {"last0": 2, "last1": 5}.items() and 8 in sizes.values()


@pytest.mark.parametrize(
    ("length", "kernel"),
    [(10, "scan_"), (S.lanes, "lanes_")],
)
def test_lanes_that_differ_are_blocks(length, kernel):
    def halvings(n: Any) -> Any:
        return lax.while_loop(lambda s: s[0] > 1, lambda s: (s[0] // 2, s[1] + 1), (n, 0))

    fusion = fused(fg.vmap(halvings), np.arange(1, length + 1, dtype=np.int32))
    (group,) = (g for g in fusion.order if g.kind == "control")
    launch = small_loops.lower(group.eqns[0], [a.source for a in fusion.accesses[group.eqns[0]]], S)
    assert launch is not None and launch.kernel.name.startswith(kernel)


def test_a_loop_over_more_elements_is_no_kernel_of_scalars():
    def sums(n: int) -> Launch | None:
        fusion = fused(lambda x: lax.scan(lambda c, r: (c + r, None), x[0], x)[0], np.ones((5, n), np.float32))
        (group,) = (g for g in fusion.order if g.kind == "control")
        return small_loops.lower(group.eqns[0], [a.source for a in fusion.accesses[group.eqns[0]]], S)

    assert sums(S.max_scalar_elements) is not None
    assert sums(S.max_scalar_elements + 1) is None


def test_the_builder_names_parameters_sizes_and_values():
    w = KernelBuilder()
    x, y = (Var(ShapedArray((3,), float32)) for _ in range(2))
    assert [w.input(x), w.input(y), w.input(x), w.output(x), w.scratch(float32, 8)] == ["x0", "x1", "x0", "y0", "t0"]
    assert w.operands == [x, y, x, None]
    assert [w.stride(0), w.stride(1), w.stride(-1), w.stride(7), w.offset(0), w.offset(9)] == [0, 1, -1, "s0", 0, "o1"]
    assert w.sizes == {"s0": 7, "o1": 9}
    with w.block() as inner:
        names = w.unravel(["i", "j", "k"], ["n1", "n2"])
    assert w.body == []
    assert [str(s.name) for s in inner] == ["k", "v1", "j", "v2"]
    assert names == ["v2", "j", "k"]
