"""Matrix products as kernels: their form, what they compute in every layout, and that threads do not change a bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.compiler import pipeline
from funcgrad.compiler.loops.checking import check
from funcgrad.compiler.lowering.product_tiles import chunks_of, tile_of
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.compiler.targets.llvm import runtime
from funcgrad.config import config, enable_x64
from funcgrad.testing import check_grads, check_jit

RNG = np.random.default_rng(3)
SIZES = [1, 2, 3, 4, 5, 8, 11, 16, 17, 35]


def values(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    found = RNG.standard_normal(shape) * 3 if dtypes.is_float(np.dtype(dtype)) else RNG.integers(-9, 9, shape)
    return found.astype(dtype)


def kernels(function: Callable[..., Any], *args: Any) -> list[str]:
    found = pipeline.kernels_of(fg.make_jaxpr(function)(*args))
    for kernel in found:
        check(kernel)
    return [k.name for k in found]


def groups(function: Callable[..., Any], *args: Any) -> list[str]:
    return [line.split()[1].strip(":") for line in fg.jit(function).lower(*args).as_text("groups").splitlines()]


def transposed(x: Any) -> Any:
    return x.swapaxes(-1, -2)


LAYOUTS: dict[str, Callable[[Any, Any], Any]] = {
    "a @ b": lambda a, b: a @ b,
    "a @ bᵀ": lambda a, b: a @ transposed(b),
    "aᵀ @ b": lambda a, b: transposed(a) @ b,
    "aᵀ @ bᵀ": lambda a, b: transposed(a) @ transposed(b),
    "(a @ b)ᵀ": lambda a, b: transposed(a @ b),
    "every other": lambda a, b: a[::2] @ b[::2, ::-1],
    "one for all": lambda a, b: a[:1] @ b,
    "batch last": lambda a, b: (
        np.moveaxis(a, 0, -1).T @ b if isinstance(a, np.ndarray) else jnp.moveaxis(a, 0, -1).T @ b
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES)
def test_batches_of_squares(layout: str, size: int):
    a, b = values(6, size, size), values(6, size, size)
    function = LAYOUTS[layout]
    assert groups(function, a, b)[0] == ("kernels" if size > 1 else "loops")
    np.testing.assert_allclose(fg.jit(function)(a, b), function(a, b), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("m", "n", "k"), [s for s in itertools.product([1, 3, 16, 20, 70], repeat=3) if len(set(s)) > 1]
)
def test_batches_of_rectangles(m: int, n: int, k: int):
    for a, b in ((values(3, m, k), values(3, k, n)), (transposed(values(3, k, m)), transposed(values(3, n, k)))):
        np.testing.assert_allclose(fg.jit(jnp.matmul)(a, b), a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [d for d in dtypes.ALL if d.kind in "iub"], ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 3), (4, 4, 4), (7, 40, 33), (100, 130, 65)])
def test_integers_wrap_around_and_bools_are_logical(dtype: np.dtype, m: int, n: int, k: int):
    with enable_x64(True):
        a, b = (RNG.integers(0, 2 if dtype.kind == "b" else 200, s).astype(dtype) for s in ((m, k), (n, k)))
        function = lambda a, b: a @ b.T  # noqa: E731
        assert set(groups(function, a, b)) <= {"kernels", "loops"}
        np.testing.assert_array_equal(fg.jit(function)(a, b), a @ b.T)


def test_a_wider_result_is_summed_in_its_dtype():
    a, b = values(4, 3, 90, dtype=np.int8), values(4, 90, 5, dtype=np.int8)
    numbers = (((2,), (1,)), ((0,), (0,)))
    function = lambda a, b: lax.dot_general(a, b, numbers, preferred_element_type=np.int32)  # noqa: E731
    assert kernels(function, a, b) == ["product"]
    np.testing.assert_array_equal(fg.jit(function)(a, b), a.astype(np.int32) @ b.astype(np.int32))


def test_sixteen_bit_floats_are_rounded_once():
    a, b = (values(50, 8, 8, dtype=np.float16) for _ in range(2))
    expected = (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16)
    np.testing.assert_allclose(fg.jit(jnp.matmul)(a, b), expected, rtol=1e-3)


def test_parts_of_complex_matrices_are_read_where_they_are():
    a, b = (values(6, 5, 5) + 1j * values(6, 5, 5) for _ in range(2))
    function = lambda a, b: a.real @ b.imag.swapaxes(-1, -2)  # noqa: E731
    assert groups(function, a, b) == ["kernels"]
    np.testing.assert_allclose(fg.jit(function)(a, b), function(a, b), rtol=1e-4, atol=1e-4)


def test_many_rows_are_cut_into_chunks():
    a, b = values(5000, 12), values(12, 20)
    assert kernels(jnp.matmul, a, b) == ["product"]
    np.testing.assert_allclose(fg.jit(jnp.matmul)(a, b), a @ b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fg.jit(jnp.matmul)(b.T, a.T), b.T @ a.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", [((4, 5), (3, 5, 6)), ((1, 4, 5), (3, 5, 6)), ((4, 5), (2, 3, 5, 6))])
def test_one_matrix_is_multiplied_with_a_batch_without_a_copy(shapes: tuple[tuple[int, ...], ...]):
    a, b = (values(*s) for s in shapes)
    assert groups(jnp.matmul, a, b) == ["kernels"]
    np.testing.assert_allclose(fg.jit(jnp.matmul)(a, b), a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shapes", [((2, 3, 4, 5), (3, 5, 6)), ((2, 1, 4, 5), (1, 3, 5, 6)), ((2, 3, 4, 5), (5, 6))])
def test_operands_are_repeated_along_dimensions_of_the_batch(shapes: tuple[tuple[int, ...], ...]):
    a, b = (values(*s) for s in shapes)
    np.testing.assert_allclose(fg.jit(jnp.matmul)(a, b), a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("subscripts", ["abcd,abce->bade", "abc,cbd->ad", "xbc,cbx->", "abij,ajk->abik", "ij,bjk->bik"])
def test_contractions_of_several_dimensions(subscripts: str):
    size = dict(zip("abcdeijkx", (2, 3, 4, 5, 6, 3, 4, 5, 7), strict=True))
    a, b = (values(*(size[c] for c in part)) for part in subscripts.split("->")[0].split(","))
    np.testing.assert_allclose(
        fg.jit(lambda a, b: jnp.einsum(subscripts, a, b))(a, b), np.einsum(subscripts, a, b), rtol=1e-4, atol=1e-4
    )


def test_the_larger_operand_of_a_contraction_stays_in_place():
    a, b = values(200, 30, 40), values(40, 30, 7)
    assert groups(lambda a, b: jnp.tensordot(a, b, [[2, 1], [0, 1]]), a, b) == ["loops", "contract"]


def test_gradients_of_a_mapped_product_are_kernels():
    a, b = values(10, 4, 6), values(10, 6, 3)
    loss = lambda a, b: jnp.sum(jnp.sin(a @ b))  # noqa: E731
    gradients = fg.vmap(fg.grad(loss, (0, 1)))
    assert kernels(gradients, a, b).count("product") >= 2
    check_jit(gradients, (a, b))
    check_grads(fg.vmap(loss), (a[:2], b[:2]), order=2)
    check_jit(fg.vmap(fg.jacfwd(lambda a: jnp.tanh(a @ a.T))), (a,))


THREADED = {
    "small": (values(3000, 8, 8), values(3000, 8, 8)),
    "odd": (values(200, 33, 35), values(200, 35, 37)),
    "rows": (values(20_000, 10), values(10, 10)),
    "integers": (values(257, 300, dtype=np.int32), values(300, 259, dtype=np.int32)),
}


@pytest.mark.parametrize("name", THREADED)
def test_the_number_of_threads_does_not_change_a_bit(name: str):
    before, found = runtime.num_threads(), set()
    try:
        for threads in (1, 2, 3, 7):
            runtime.set_num_threads(threads)
            found |= {np.asarray(fg.jit(lambda *a: jnp.matmul(*a))(*THREADED[name])).tobytes() for _ in range(3)}
    finally:
        runtime.set_num_threads(before)
    assert len(found) == 1


def test_the_kernel_for_many_rows_does_not_depend_on_their_number():
    found = [pipeline.kernels_of(fg.make_jaxpr(jnp.matmul)(values(m, 12), values(12, 20))) for m in (5000, 7777)]
    assert found[0] == found[1]


def test_products_of_small_matrices_in_a_loop_of_scalars():
    def step(x, _):
        return x @ x % 7, x.sum()

    x = values(2, 2, dtype=np.int32)
    check_jit(lambda x: lax.scan(step, x, None, 5), (x,))
    check_jit(lambda x: lax.scan(lambda x, _: (x @ ~x, x), x, None, 5), (x > 0,))


@pytest.mark.parametrize("target", ["llvm", "numba"])
def test_targets_agree_with_the_values_of_the_operations(target: str):
    before = config.cpu_target
    config.update("cpu_target", target)
    try:
        for dtype in (np.float32, np.int16, np.bool_):
            a, b = values(4, 5, 20, dtype=dtype), values(4, 18, 20, dtype=dtype)
            np.testing.assert_allclose(fg.jit(LAYOUTS["a @ bᵀ"])(a, b), a @ transposed(b), rtol=1e-4, atol=1e-4)
    finally:
        config.update("cpu_target", before)


@pytest.mark.parametrize(
    ("m", "n", "tile"),
    [
        (8, 8, (8, 8)),
        (16, 16, (4, 16)),
        (64, 64, (4, 16)),
        (3, 3, (3, 2)),
        (1, 9, (1, 8)),
        (9, 1, (9, 1)),
        (999, 999, (6, 16)),
    ],
)
def test_tiles(m: int, n: int, tile: tuple[int, int]):
    assert tile_of(m, n, 4, Scheduling()) == tile


def test_chunks_cover_a_result():
    limits = Scheduling()
    for m, n, k in ((1, 5000, 100), (5000, 3, 9), (1000, 1000, 1000), (40, 70, 100_000)):
        tile = tile_of(m, n, 4, limits)
        chunks = chunks_of(m, n, 4 * k, 1, tile, limits)
        for size, number, length, step in (
            (m, chunks.row_chunks, chunks.rows, tile.rows),
            (n, chunks.column_chunks, chunks.columns, tile.columns),
        ):
            assert number == 1 or (length % step == 0 and step <= size - (number - 1) * length < 2 * length + step)
