"""Implicit matrix products: machine code against the NumPy rule, and which form a convolution gets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.targets.llvm.implicit_gemm import routine as implicit_gemm_routine
from funcgrad.config import enable_x64
from funcgrad.ops.implicit_gemm import PANEL, Form, implicit_gemm
from funcgrad.testing import assert_close

NHWC = ("NHWC", "HWIO", "NHWC")

# rows (size, distance), depth (size, distance), groups (count, distance), columns, whether columns are side by side
PRODUCTS = {
    "one": ([(1, 1)], [(1, 1)], (1, 0), 1),
    "a matrix": ([(40, 9)], [(9, 1)], (1, 0), 64),
    "a matrix, transposed": ([(40, 9)], [(9, 1)], (1, 0), 61),
    "windows, transposed": ([(2, 400), (5, 40), (7, 3)], [(3, 40), (9, 1)], (2, 2), 40),
    "deep, transposed": ([(7, 60), (5, 1)], [(3000, 50)], (1, 0), 20),
    "windows": ([(2, 400), (5, 40), (7, 3)], [(3, 40), (9, 1)], (1, 0), 40),
    "groups": ([(50, 3)], [(7, 1)], (2, 5), 5),
    "overlapping rows": ([(3, 7), (30, 1)], [(4, 30), (6, 3), (5, 2)], (3, 11), 33),
    "deep": ([(40, 1)], [(3000, 50)], (1, 0), 20),
    "deep, of a prime number of terms": ([(101, 1)], [(3001, 101)], (1, 0), 33),
    "deep in several loops": ([(3, 50), (30, 1)], [(4, 3000), (60, 300), (50, 2)], (1, 0), 64),
}
# numba takes seconds to compile a product; these have all loops, and both orders of the result.
ON_NUMBA = {"windows, transposed", "overlapping rows", "deep in several loops"}


def product(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray, Form]:
    """Operands, the right one in panels, and the form of one of the products above."""
    rows, depth, (groups, group_a), columns = PRODUCTS[name]
    last = sum((n - 1) * s for n, s in (*rows, *depth)) + (groups - 1) * group_a
    panels, panel = -(-columns // PANEL), PANEL * int(np.prod([n for n, _ in depth]))
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=n).astype(dtype) for n in (last + 1, groups * panels * panel))
    steps = [PANEL, *itertools.accumulate([n for n, _ in depth[:0:-1]], lambda s, n: s * n, initial=PANEL)][1:][::-1]
    with_b = tuple((n, s, t) for (n, s), t in zip(depth, steps, strict=True))
    # The result is (rows, groups, columns), or (groups, columns, rows).
    m = int(np.prod([n for n, _ in rows]))
    across = "transposed" in name
    row, column = (1, m) if across else (groups * columns, 1)
    steps = itertools.accumulate([n for n, _ in rows[:0:-1]], lambda s, n: s * n, initial=row)
    with_c = tuple((n, s, t) for (n, s), t in zip(rows, [*steps][::-1], strict=True))
    group_c = columns * column
    return a, b, Form(with_c, with_b, ((groups, group_a, panels * panel, group_c),), (columns, column, 1), panel)


def by_definition(a: np.ndarray, b: np.ndarray, form: Form) -> np.ndarray:
    def offsets(loops: list[tuple[int, int]]) -> np.ndarray:
        grids = np.meshgrid(*(np.arange(n) * s for n, s in loops), indexing="ij")
        return sum(grids).reshape(-1)

    rows, depth_a = (offsets([(n, s) for n, s, _ in loops]) for loops in (form.rows, form.depth))
    depth_b, columns = offsets([(n, s) for n, _, s in form.depth]), np.arange(form.columns[0])
    parts = []
    ((groups, group_a, group_b, _),) = form.groups
    for g in range(groups):
        left = a[g * group_a + rows[:, None] + depth_a]
        places = columns // PANEL * form.panel + columns % PANEL
        parts.append(left.astype(float) @ b[g * group_b + depth_b[:, None] + places].astype(float))
    whole = np.concatenate(parts, 1)
    return (whole if form.columns[1] == 1 else whole.T).reshape(-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PRODUCTS)
def test_machine_code_and_numpy_compute_the_product(name: str, dtype: type):
    a, b, form = product(name, dtype)
    scale = (form.k + 8) * np.finfo(dtype).eps  # the bound for terms of size 1, added up one by one
    with enable_x64():
        expected = by_definition(a, b, form).astype(dtype)
        assert_close(implicit_gemm(a, b, form), expected, rtol=scale, atol=scale)
        for target in ("llvm", "numba") if dtype is np.float32 and name in ON_NUMBA else ("llvm",):
            out = fg.jit(lambda a, b: implicit_gemm(a, b, form), target=target)(a, b)
            assert_close(out, expected, rtol=scale, atol=scale)


@pytest.mark.parametrize("target", ["llvm", "numba"])
@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_products_of_integers_are_kernels(dtype: type, target: str):
    a, b, form = product("windows, transposed", np.float32)
    a, b = ((9 * v).astype(dtype) for v in (a, b))
    compiled = fg.jit(lambda a, b: implicit_gemm(a, b, form), target=target)
    assert "host" not in compiled.lower(a, b).as_text("program")
    assert (np.asarray(compiled(a, b)) == by_definition(a, b, form).astype(np.int64).astype(dtype)).all()


def test_the_numba_target_has_a_kernel_for_products():
    a, b, form = product("windows", np.float32)
    program = fg.jit(lambda a, b: implicit_gemm(a, b, form), target="numba").lower(a, b).as_text("program")
    assert "implicit_gemm(" in program and "host" not in program


def test_every_run_gives_the_same_bits():
    a, b, form = product("deep in several loops", np.float32)
    f = fg.jit(lambda a, b: implicit_gemm(a, b, form))
    first = np.asarray(f(a, b))
    assert all((np.asarray(f(a, b)) == first).all() for _ in range(5))


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_order_of_sums_does_not_depend_on_the_number_of_threads(name: str):
    _, _, form = product(name, np.float32)
    alone, shared = (implicit_gemm_routine(np.float32, threads, form) for threads in (1, 16))
    assert alone.function == shared.function  # the code, so the tile
    assert [n for i, n in enumerate(alone.sizes) if i not in (1, 2)] == [
        n for i, n in enumerate(shared.sizes) if i not in (1, 2)
    ]  # all but how many rows a task has, and how many tasks there are


def test_only_the_columns_are_written():
    a, b, form = product("groups", np.float32)
    out = fg.jit(lambda a, b: jnp.concatenate([jnp.ones(9), implicit_gemm(a, b, form), jnp.ones(9)]))(a, b)
    assert_close(out[:9], np.ones(9, np.float32))
    assert_close(out[-9:], np.ones(9, np.float32))


# ---------------------------------------------------------------- forms

LAYERS = {
    "plain": ((2, 9, 8, 3), (3, 3, 3, 5), {"window_strides": (1, 1), "padding": "SAME"}),
    "strided": ((2, 9, 8, 8), (3, 3, 8, 5), {"window_strides": (2, 2), "padding": "SAME"}),
    "of one element": ((2, 9, 8, 3), (1, 1, 3, 5), {"window_strides": (1, 1), "padding": "VALID"}),
    "grouped": ((2, 9, 8, 8), (3, 3, 4, 6), {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2}),
    "depthwise": ((2, 9, 8, 8), (3, 3, 1, 8), {"window_strides": (1, 2), "padding": "SAME", "feature_group_count": 8}),
    "dilated": (
        (2, 9, 8, 8),
        (3, 3, 8, 5),
        {"window_strides": (1, 1), "padding": ((2, 2), (2, 2)), "lhs_dilation": (2, 2)},
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16, np.complex64])
@pytest.mark.parametrize("name", LAYERS)
def test_programs_of_convolutions_have_no_host_call(name: str, dtype: type):
    x, k, options = LAYERS[name]
    x, k = ((9 * np.random.default_rng(0).normal(size=shape)).astype(dtype) for shape in (x, k))

    def layer(x: object, k: object) -> object:
        return lax.conv_general_dilated(x, k, **options, dimension_numbers=NHWC)

    def loss(x: object, k: object) -> object:
        return jnp.sum(jnp.abs(layer(x, k)) ** 2).astype(np.float32)

    for function in (layer, fg.grad(loss, (0, 1)))[: 1 if dtype is np.int16 else 2]:
        assert "host" not in fg.jit(function).lower(x, k).as_text("groups")
    tolerance = 1e-4 if dtype is not np.float16 else 2e-2
    assert_close(fg.jit(layer)(x, k), layer(x, k), rtol=tolerance, atol=tolerance)


FEW = {
    # lhs and rhs in the layout, channels first or last
    "channels last": ((3, 9, 20, 19), (3, 3, 19, 2), NHWC, 1),
    "channels last, in groups": ((3, 9, 8, 34), (2, 3, 17, 6), NHWC, 2),
    "channels first": ((3, 5, 9, 20), (3, 5, 3, 3), ("NCHW", "OIHW", "NCHW"), 1),
    "channels first, in groups": ((3, 6, 9, 70), (2, 3, 3, 2), ("NCHW", "OIHW", "NCHW"), 2),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("name", FEW)
def test_few_output_features(name: str, dilation: int, dtype: type):
    x, k, numbers, groups = FEW[name]
    rng = np.random.default_rng(0)
    with enable_x64():
        x, k = ((9 * rng.normal(size=shape)).astype(dtype) for shape in (x, k))

        def layer(x: object, k: object) -> object:
            options = {
                "lhs_dilation": (dilation, dilation),
                "feature_group_count": groups,
                "dimension_numbers": numbers,
            }
            return lax.conv_general_dilated(x, k, (1, 1), ((2, -1), (0, 3)), **options)

        compiled = fg.jit(layer)
        groups_of_kernels = compiled.lower(x, k).as_text("groups")
        assert "implicit_gemm" in groups_of_kernels and groups_of_kernels.count(": pad") <= 1  # one copy for all phases
        tolerance = 0 if dtype is np.int32 else 300 * np.finfo(dtype).eps
        assert_close(compiled(x, k), layer(x, k), rtol=tolerance, atol=100 * tolerance)


def test_convolutions_that_are_one_product():
    x, k, options = LAYERS["of one element"]
    layer = fg.jit(lambda x, k: lax.conv_general_dilated(x, k, **options, dimension_numbers=NHWC))
    assert layer.lower(np.ones(x, np.float32), np.ones(k, np.float32)).as_text("groups") == "0: contract: dot_general"


def test_a_sum_of_shifted_views_is_one_loop_behind_the_padding():
    x, k, options = LAYERS["depthwise"]
    layer = fg.jit(lambda x, k: lax.conv_general_dilated(x, k, **options, dimension_numbers=NHWC))
    groups = layer.lower(np.ones(x, np.float32), np.ones(k, np.float32)).as_text("groups").splitlines()
    assert len(groups) <= 2 and all("loops over" in g for g in groups)
