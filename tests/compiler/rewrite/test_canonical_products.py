"""Matrix products: their canonical form, the order of gradients, and what BLAS can address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import grad
from funcgrad.compiler.rewrite.products import Matrix, is_canonical, matrix
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.core.jaxprs import Jaxpr, JaxprEqn
from funcgrad.core.lowering import Strided

RNG = np.random.default_rng(0)


def values(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.integers(-4, 4, shape).astype(dtype)


def jaxpr_of(function: Callable[..., Any], *args: Any) -> Jaxpr:
    return simplify(fg.make_jaxpr(function)(*args)).jaxpr


def products_in(jaxpr: Jaxpr) -> list[JaxprEqn]:
    return [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]


@pytest.mark.parametrize(
    ("subscripts", "shapes", "batch_m_k_n"),
    [
        ("ij,jk->ik", ((3, 4), (4, 5)), (1, 3, 4, 5)),
        ("i,i->", ((4,), (4,)), (1, 1, 4, 1)),
        ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5)), (2, 3, 4, 5)),
        ("abij,abjk->abik", ((2, 3, 4, 5), (2, 3, 5, 6)), (6, 4, 5, 6)),
        ("ij,abjk->abik", ((4, 5), (2, 3, 5, 6)), (6, 4, 5, 6)),
        ("ijk,jkl->il", ((2, 3, 4), (3, 4, 5)), (1, 2, 12, 5)),
    ],
)
def test_every_contraction_is_a_batch_of_matrix_products(subscripts, shapes, batch_m_k_n):
    jaxpr = jaxpr_of(lambda x, y: jnp.einsum(subscripts, x, y), *(values(*s) for s in shapes))
    (product,) = products_in(jaxpr)
    batch, m, k, n = batch_m_k_n
    assert is_canonical(product)
    assert [v.aval.shape for v in (*product.invars, *product.outvars)] == [(batch, m, k), (batch, k, n), (batch, m, n)]


def test_halves_are_multiplied_in_float32():
    jaxpr = jaxpr_of(jnp.matmul, *(values(4, 4, dtype="float16") for _ in range(2)))
    (product,) = products_in(jaxpr)
    assert {v.aval.dtype for v in product.invars} == {np.dtype("float32")}
    assert jaxpr.outvars[0].aval.dtype == np.dtype("float16")


@pytest.mark.parametrize(
    ("shapes", "dtype", "found"),
    [
        (((4, 4), (4, 4)), "int32", ["dot_general"]),
        (((4, 4), (4,)), "int32", ["mul", "reduce_sum"]),
        (((4,), (4, 4)), "int32", ["mul", "reduce_sum"]),
        (((5, 1, 4), (5, 4, 1)), "float32", ["mul", "reduce_sum"]),
        (((4, 1), (1, 4)), "float32", ["mul"]),
    ],
)
def test_vectors_are_multiplied_and_summed_in_loops(shapes, dtype, found):
    jaxpr = jaxpr_of(jnp.matmul, *(values(*s, dtype=dtype) for s in shapes))
    assert [e.primitive.name for e in jaxpr.eqns if e.primitive.name in ("mul", "reduce_sum", "dot_general")] == found


def test_a_long_contraction_is_a_batch_of_products_and_their_sum():
    k = 100_005
    whole, rest = products_in(jaxpr_of(jnp.matmul, np.ones((2, k), np.float32), np.ones((k, 2), np.float32)))
    blocks, _, length = whole.invars[0].aval.shape
    assert blocks > 1 and blocks * length + rest.invars[0].aval.shape[2] == k


def test_gradients_of_weights_are_products_in_the_order_of_the_weights():
    w, x = values(8, 6), values(4, 8)
    jaxpr = jaxpr_of(grad(lambda w, x: jnp.sum(jnp.sin(x @ w))), w, x)
    _, gradient = products_in(jaxpr)
    assert gradient.outvars[0].aval.shape == (1, 8, 6)
    after = jaxpr.eqns[jaxpr.eqns.index(gradient) + 1 :]
    assert [e.primitive.name for e in after] == ["reshape"]


def test_a_product_that_is_used_in_both_orders_is_not_swapped():
    jaxpr = jaxpr_of(lambda x, y: ((x @ y).T, x @ y), values(4, 5), values(5, 6))
    (product,) = products_in(jaxpr)
    assert product.outvars[0].aval.shape == (1, 4, 6)


@pytest.mark.parametrize(
    ("view", "found"),
    [
        (Strided((1, 3, 4), (12, 4, 1), 0), Matrix(False, 4, 0, 0)),
        (Strided((1, 4, 3), (12, 1, 4), 0), Matrix(True, 4, 0, 0)),
        (Strided((2, 3, 4), (12, 4, 1), 5), Matrix(False, 4, 12, 5)),
        (Strided((1, 3, 2), (12, 4, 1), 0), Matrix(False, 4, 0, 0)),  # columns of a wider matrix
        (Strided((2, 3, 4), (0, 4, 1), 0), Matrix(False, 4, 0, 0)),  # one matrix for the whole batch
        (Strided((1, 3, 0), (0, 0, 1), 0), Matrix(False, 1, 0, 0)),
        (Strided((1, 3, 4), (24, 8, 2), 0), None),  # every other column
        (Strided((1, 3, 4), (12, -4, 1), 8), None),  # rows from the last to the first
        (Strided((1, 3, 4), (0, 0, 1), 0), None),  # one row for all
    ],
)
def test_views_that_blas_can_address(view, found):
    assert matrix(view) == found


def test_addresses_of_matrices_match_their_elements():
    buffer = np.arange(200)
    for view in (Strided((2, 3, 4), (30, 7, 1), 5), Strided((2, 3, 4), (30, 1, 7), 5)):
        a = matrix(view)
        assert a is not None
        for b, i, j in np.ndindex(*view.shape):
            row, column = (j, i) if a.transposed else (i, j)
            place = a.offset + b * a.batch_stride + row * a.leading + column
            assert buffer[place] == view.offset + np.dot((b, i, j), view.strides)
