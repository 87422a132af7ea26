"""experimental.sparse: operations on stored elements are those on dense arrays, under transforms too."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest
import scipy.sparse

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.config import enable_x64
from funcgrad.errors import ArgumentError, ConcretizationError, IndexingError, ShapeError
from funcgrad.experimental import sparse
from funcgrad.experimental.sparse import BCOO, BCSR
from funcgrad.scipy.sparse.linalg import cg
from funcgrad.testing import assert_close, check_grads

RNG = np.random.default_rng(0)


def scattered(*shape: int) -> np.ndarray:
    """A dense array of which a third is not 0."""
    return np.where(RNG.uniform(size=shape) < 1 / 3, RNG.normal(size=shape), 0).astype("float32")


M, N3 = scattered(5, 4), scattered(2, 3, 4)
LAYOUTS = [(b, d) for b, d in itertools.product(range(4), range(4)) if b + d <= 3]
# Duplicates, and an element outside of the array.
LOOSE = BCOO((np.float32([1, 2, 3, 4, 5]), np.array([[4, 0], [1, 2], [4, 0], [0, 3], [9, 1]])), shape=(5, 4))
LOOSE_DENSE = np.zeros((5, 4), "float32")
LOOSE_DENSE[4, 0], LOOSE_DENSE[1, 2], LOOSE_DENSE[0, 3] = 4, 2, 4


def same(actual, expected) -> None:
    assert_close(sparse.todense(actual), np.asarray(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_batch", "n_dense"), LAYOUTS)
def test_layouts(n_batch: int, n_dense: int):
    m = BCOO.fromdense(N3, n_batch=n_batch, n_dense=n_dense)
    assert (m.shape, m.n_batch, m.n_sparse, m.n_dense) == ((2, 3, 4), n_batch, 3 - n_batch - n_dense, n_dense)
    assert m.data.shape == (*N3.shape[:n_batch], m.nse, *N3.shape[3 - n_dense :])
    same(m, N3)
    padded = BCOO.fromdense(N3, nse=m.nse + 2, n_batch=n_batch, n_dense=n_dense)
    same(padded, N3)
    axes = [*range(n_batch)[::-1], *range(n_batch, 3 - n_dense)[::-1], *range(3 - n_dense, 3)[::-1]]
    same(padded.transpose(axes), N3.transpose(axes))
    for axis in (0, 1, 2, (0, 2)):
        same(m.sum(axis), N3.sum(axis))
    assert_close(m.sum(), N3.sum(), rtol=1e-5)
    same(-2 * m, -2 * N3)
    same(m + m.astype("float32") * 3, 4 * N3)
    same(m * N3[:, :1], N3 * N3[:, :1])
    same(abs(m) - m / 2, np.abs(N3) - N3 / 2)
    same(m[1, ..., ::2], N3[1, :, ::2])
    same(m[:, 1:, -1], N3[:, 1:, -1])
    same(sparse.bcoo_extract(m, N3 + 1), np.where(sparse.todense(m.with_data(jnp.ones_like(m.data))) != 0, N3 + 1, 0))
    for contracted, batch in (((2,), ()), ((1,), (0,)), ((1, 2), ()), ((), (0,))):
        for other in (N3, N3 + 1):
            numbers = ((contracted, contracted), (batch, batch))
            expected = lax.dot_general(N3, other, numbers)
            same(sparse.bcoo_dot_general(padded, other, dimension_numbers=numbers), expected)
            expected = lax.dot_general(other, N3, numbers)
            same(sparse.bcoo_dot_general(other, padded, dimension_numbers=numbers), expected)


def test_elements_may_be_loose():
    same(LOOSE, LOOSE_DENSE)
    for m in (LOOSE.sort_indices(), LOOSE.sum_duplicates(), LOOSE.sum_duplicates(nse=9), abs(LOOSE)):
        same(m, LOOSE_DENSE)
    same(LOOSE**2, LOOSE_DENSE**2)
    assert LOOSE.sum_duplicates().nse == 3 and LOOSE.sum_duplicates().unique_indices
    assert (LOOSE * 0).sum_duplicates().nse == 0 and (LOOSE * 0).sum_duplicates(remove_zeros=False).nse == 3
    same(LOOSE @ np.arange(4.0, dtype="float32"), LOOSE_DENSE @ np.arange(4))
    same(LOOSE[1:, :3], LOOSE_DENSE[1:, :3])
    same(LOOSE.sum(1), LOOSE_DENSE.sum(1))
    same(LOOSE * BCOO.fromdense(M), LOOSE_DENSE * M)
    same(sparse.bcoo_extract(LOOSE, M), np.where(LOOSE_DENSE != 0, M, 0))
    same(BCSR.from_bcoo(LOOSE), LOOSE_DENSE)
    same(sparse.bcoo_concatenate([LOOSE, LOOSE], dimension=0), np.concatenate([LOOSE_DENSE, LOOSE_DENSE]))
    same(sparse.bcoo_concatenate([LOOSE, LOOSE.T[:, :5].T], dimension=1), np.concatenate([LOOSE_DENSE, LOOSE_DENSE], 1))
    batches = [BCOO.fromdense(x[None], n_batch=1) for x in (M, LOOSE_DENSE)]
    same(sparse.bcoo_concatenate(batches, dimension=0), np.stack([M, LOOSE_DENSE]))


@pytest.mark.parametrize("kind", [BCOO, BCSR])
def test_matrix_products(kind):
    a, b = kind.fromdense(M), kind.fromdense(M.T)
    x, columns, rows = RNG.normal(size=4), RNG.normal(size=(4, 3)), RNG.normal(size=(3, 5))
    x, columns, rows = (v.astype("float32") for v in (x, columns, rows))
    same(a @ x, M @ x)
    same(a @ columns, M @ columns)
    same(rows @ a, rows @ M)
    same(jnp.asarray(rows[0]) @ a, rows[0] @ M)
    same(a @ b, M @ M.T)
    same(a @ jnp.asarray(N3[:, 0, :, None]), M @ N3[:, 0, :, None])
    same(a.T, M.T)
    same(a.sum(0), M.sum(0))
    batch = kind.fromdense(np.stack([M, 2 * M]), n_batch=1)
    same(batch @ columns, np.stack([M, 2 * M]) @ columns)
    same(batch @ np.stack([columns, -columns]), np.stack([M @ columns, -2 * M @ columns]))
    same(jnp.asarray(np.stack([rows, rows])) @ batch, np.stack([rows @ M, 2 * rows @ M]))


def test_matrices_of_scipy():
    for form in ("csr", "coo", "csc"):
        theirs = scipy.sparse.random(7, 5, 0.3, form, dtype="float32", random_state=0)
        for kind in (BCOO, BCSR):
            same(kind.from_scipy_sparse(theirs), theirs.toarray())
    ours = BCSR.fromdense(M)
    theirs = scipy.sparse.csr_matrix(M)
    assert ours.indptr.tolist() == theirs.indptr.tolist() and ours.indices.tolist() == theirs.indices.tolist()
    same(sparse.eye(3, 5, 1), np.eye(3, 5, 1, dtype="float32"))
    same(sparse.eye(4, k=-2), np.eye(4, k=-2, dtype="float32"))
    same(sparse.empty((2, 3)), np.zeros((2, 3), "float32"))


@pytest.mark.parametrize("kind", [BCOO, BCSR])
def test_transforms(kind):
    m, x = kind.fromdense(M), jnp.asarray(RNG.normal(size=4).astype("float32"))

    def loss(m, x):
        return jnp.sin(m @ x).sum()

    value, (by_m, by_x) = sparse.value_and_grad(loss, (0, 1))(m, x)
    expected = fg.grad(loss, (0, 1))(jnp.asarray(M), x)
    assert type(by_m) is kind and by_m.nse == m.nse
    same(by_m, np.where(M != 0, expected[0], 0))
    assert_close(by_x, expected[1], rtol=1e-5, atol=1e-6)
    same(fg.jit(sparse.grad(loss))(m, x), by_m.todense())
    assert_close(fg.jit(loss)(m, x), value, rtol=1e-5)
    assert_close(fg.jit(lambda m: kind.fromdense(m, nse=20) @ x)(M), M @ np.asarray(x), rtol=1e-4, atol=1e-5)
    with enable_x64():
        check_grads(
            lambda data, x: m.tree_unflatten(m.tree_flatten()[1], (data, *m.tree_flatten()[0][1:])) @ x,
            (np.asarray(m.data), np.asarray(x)),
            order=2,
        )
        check_grads(lambda a: kind.fromdense(a, nse=20).data, (M + 3,))
    batch = kind.fromdense(np.stack([M, 2 * M, 0 * M]), n_batch=1)
    same(fg.vmap(lambda m: m @ x)(batch), np.stack([M, 2 * M, 0 * M]) @ np.asarray(x))
    doubled = fg.jit(fg.vmap(lambda m: m.T))(batch)
    assert doubled.shape == (3, 4, 5) and doubled.n_batch == 1
    same(doubled, np.stack([M.T, 2 * M.T, 0 * M.T]))
    same(fg.vmap(lambda a: kind.fromdense(a, nse=20))(np.stack([M, 2 * M])), np.stack([M, 2 * M]))


def test_sparse_systems_are_solved():
    positive = (
        np.diag([3.0, 4, 5, 6]).astype("float32") + np.eye(4, k=1, dtype="float32") + np.eye(4, k=-1, dtype="float32")
    )
    for kind in (BCOO, BCSR):
        x, _ = fg.jit(cg)(kind.fromdense(positive), jnp.ones(4))
        assert_close(x, np.linalg.solve(positive, np.ones(4)).astype("float32"), rtol=1e-4)


@pytest.mark.oracle
def test_attributes_are_those_of_jax(jax):
    theirs = importlib.import_module("jax.experimental.sparse")
    for kind in ("BCOO", "BCSR"):
        ours, expected = getattr(sparse, kind).fromdense(M), getattr(theirs, kind).fromdense(M)
        assert repr(ours) == repr(expected)
        for name in ("data", "indices"):
            assert_close(getattr(ours, name), np.asarray(getattr(expected, name)))
        for name in ("shape", "nse", "n_batch", "n_sparse", "n_dense", "ndim", "size", "dtype"):
            assert getattr(ours, name) == getattr(expected, name)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: BCOO((np.ones(3), np.zeros((2, 2), int)), shape=(5, 4)), ShapeError),
        (lambda: BCOO((np.ones(3), np.zeros((3, 2))), shape=(5, 4)), ShapeError),
        (lambda: BCSR((np.ones(3), np.zeros(3, int), np.zeros(3, int)), shape=(5, 4)), ShapeError),
        (lambda: BCOO.fromdense(M, n_batch=3), ArgumentError),
        (lambda: BCSR.fromdense(N3), ArgumentError),
        (lambda: fg.jit(BCOO.fromdense)(M), ConcretizationError),
        (lambda: fg.jit(lambda m: m.sum_duplicates())(LOOSE), ConcretizationError),
        (lambda: LOOSE @ np.ones(3), ShapeError),
        (lambda: LOOSE @ 2.0, ShapeError),
        (lambda: LOOSE + LOOSE.T, ArgumentError),
        (lambda: LOOSE * LOOSE.T, ShapeError),
        (lambda: LOOSE**-1, ArgumentError),
        (lambda: LOOSE / LOOSE, ArgumentError),
        (lambda: LOOSE[[0, 1]], IndexingError),
        (lambda: LOOSE[5], IndexingError),
        (lambda: BCOO.fromdense(M, n_batch=1).T, ArgumentError),
        (lambda: sparse.bcoo_extract(LOOSE, M.T), ShapeError),
        (lambda: sparse.bcoo_concatenate([LOOSE, LOOSE.T], dimension=0), ShapeError),
        (lambda: sparse.eye(3, sparse_format="csr"), ArgumentError),
    ],
)
def test_errors_explain_the_cause(call, error):
    with pytest.raises(error, match="fix: "):
        call()
