"""Reductions over segments, compared with loops over the segments, and with JAX."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import ops
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.testing import assert_close, check_grads

IDS = np.array([0, 2, 2, 5, -1, 7, 2])
ROWS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
REDUCERS = {"segment_sum": np.sum, "segment_prod": np.prod, "segment_max": np.max, "segment_min": np.min}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("bucket_size", [None, 2])
@pytest.mark.parametrize("name", REDUCERS)
def test_segments(name, bucket_size, compiled):
    def function(x, i):
        return getattr(ops, name)(x, i, 6, bucket_size=bucket_size)

    out = np.asarray((fg.jit(function) if compiled else function)(ROWS, IDS))
    for segment in (0, 2, 5):
        assert_close(out[segment], REDUCERS[name](ROWS[segment == IDS], axis=0))
    identities = {"segment_sum": 0, "segment_prod": 1, "segment_max": -np.inf, "segment_min": np.inf}
    assert (out[[1, 3, 4]] == identities[name]).all()


@pytest.mark.oracle
@pytest.mark.parametrize(
    "name, dtype",
    [(name, dtype) for name in REDUCERS for dtype in ("float32", "int32", "uint8")]
    + [("segment_max", "bool"), ("segment_min", "bool")],
)
def test_jax_segments(name, dtype):
    import jax

    x = np.abs(ROWS * 3).astype(dtype)
    for options in ({}, {"num_segments": 4}, {"num_segments": 4, "mode": "clip"}, {"bucket_size": 3}):
        ours = getattr(ops, name)(x, IDS, **options)
        theirs = np.asarray(getattr(jax.ops, name)(x, IDS, **options))
        assert ours.dtype == theirs.dtype
        assert_close(ours, theirs, rtol=1e-6)


def test_gradients_and_maps():
    check_grads(lambda x: ops.segment_sum(x, IDS, 6), (ROWS,), order=2)
    mapped = fg.vmap(lambda x: ops.segment_max(x, IDS, 6), in_axes=1, out_axes=1)(ROWS)
    assert_close(mapped, ops.segment_max(ROWS, IDS, 6))


def test_what_segments_reject():
    with pytest.raises(ConcretizationError, match="segment_sum: the number of segments depends on the values"):
        fg.jit(ops.segment_sum)(ROWS, IDS)
    with pytest.raises(ArgumentError, match="segment_sum: num_segments is -1"):
        ops.segment_sum(ROWS, IDS, -1)
    with pytest.raises(ShapeError, match="segment_max: segment_ids .* have different sizes"):
        ops.segment_max(ROWS, IDS[:3])
