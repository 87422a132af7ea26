"""Lowering: the kernels of groups, as Python text, and what they are called with."""

from __future__ import annotations

import itertools
import math
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
from funcgrad.ops.interleaving import interleave
from funcgrad.testing import assert_close

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


@pytest.mark.parametrize(
    ("shape", "window", "strides"),
    [
        ((9, 6, 7, 5), (1, 3, 3, 1), (1, 1, 1, 1)),  # padded rows and planes
        ((9, 6, 7, 5), (1, 2, 3, 1), (1, 2, 2, 1)),
        ((3, 4, 9, 8), (1, 1, 3, 2), (1, 1, 2, 2)),  # neighbors are windows
        ((9, 4, 2, 2), (1, 1, 3, 3), (1, 1, 1, 1)),  # more padding than elements
    ],
)
def test_windows_over_rows_with_padding(shape: tuple, window: tuple, strides: tuple):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def maxima(x: Any) -> Any:
        return lax.reduce_window(x, -np.inf, lax.max, window, strides, "SAME")

    def gradient(x: Any) -> Any:
        return fg.grad(lambda x: jnp.sum(jnp.sin(maxima(x))))(x)

    for function in (maxima, gradient):
        assert_close(fg.jit(function)(x), function(x))


def test_a_row_in_the_middle_of_an_array_is_read_without_masks():
    (launch,) = launches(lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0))) * 2, np.ones((9, 5, 6, 4)))
    lines = text(launch).splitlines()
    unmasked, rest = (next(i for i, line in enumerate(lines) if f"for {r} in" in line) for r in "re")
    assert not any(" if " in line for line in lines[unmasked:rest])
    assert any(" if " in line for line in lines[rest:])


def test_rows_that_share_an_operand_are_computed_together():
    (launch,) = launches(lambda x, b: x[:, :8] * b, np.ones((9, 12, 5), np.float32), np.ones(5, np.float32))
    stores = [line for line in text(launch).splitlines() if "y0[" in line]
    assert len(stores) == 5  # four rows at once, and the rest one by one


def test_small_strides_of_the_vector_loop_are_known():
    (launch,) = launches(lambda x: x[:, 1::2] + x[:, ::2], np.ones((8, 6), np.float32))
    assert "x0[p*2 + o1] + x0[p*2 + o1 - 1]" in text(launch).replace("+ -", "- ")


@pytest.mark.parametrize(
    ("part", "factors", "shape"),
    [
        ((3, 4), (1, 2), (3, 8)),
        ((3, 4), (2, 2), (6, 8)),
        ((3, 4), (2, 3), (5, 10)),  # the last ones are left out
        ((1, 4), (2, 1), (2, 4)),
        ((9, 5, 6), (1, 2, 2), (9, 9, 12)),
        ((1, 1), (2, 2), (1, 2)),
    ],
)
def test_interleaved_parts(part: tuple, factors: tuple, shape: tuple):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=part).astype(np.float32) for _ in range(math.prod(factors))]

    def function(*parts: Any) -> Any:
        return interleave([jnp.sin(p) for p in parts], factors, shape)

    lowered = fg.jit(function).lower(*parts)
    assert len(lowered.as_text("groups").splitlines()) == 1
    expected = np.zeros([n * f for n, f in zip(part, factors, strict=True)], np.float32)
    for at, p in zip(itertools.product(*map(range, factors)), parts, strict=True):
        expected[tuple(slice(i, None, f) for i, f in zip(at, factors, strict=True))] = np.sin(p)
    expected = expected[tuple(map(slice, shape))]
    assert_close(fg.jit(function)(*parts), expected)
    assert_close(function(*parts), expected)


def test_the_gradient_of_maxima_side_by_side_is_one_kernel():
    def loss(x: Any) -> Any:
        return jnp.sum(lax.reduce_window(x, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"))

    assert len(launches(fg.grad(loss), np.ones((9, 3, 8, 6), np.float32))) == 1


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
        "range(8):",
        "range(3):",
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
