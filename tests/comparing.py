"""Comparisons of results with those of NumPy, of JAX, or of another way to compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree

from funcgrad.testing import assert_close


def assert_same(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    weak_types: bool = True,
    signed_zeros: bool = False,
) -> None:
    """Raise AssertionError unless two trees have one structure, and leaves of equal types and close values.

    The leaves may be of different libraries. Tolerances are those of `assert_close`. Weak types are compared unless the
    expected leaves are NumPy's, which have none.
    """
    (ours, structure), (theirs, wanted) = (optree.tree_flatten(tree)[:2] for tree in (actual, expected))
    assert structure == wanted
    assert_close(
        [np.asarray(x) for x in ours],
        [np.asarray(x) for x in theirs],
        rtol=rtol,
        atol=atol,
        signed_zeros=signed_zeros,
    )
    if weak_types and not any(isinstance(x, (np.ndarray, np.generic)) for x in theirs):
        assert [_is_weak(x) for x in ours] == [_is_weak(x) for x in theirs]


def _is_weak(x: Any) -> bool:
    return getattr(x, "weak_type", isinstance(x, (int, float, complex)) and not isinstance(x, bool))
