"""funcgrad.scipy.cluster.vq: vector quantization."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.errors import ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names

__all__ = ["vq"]


def vq(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """For each observation, the index of the nearest code and its Euclidean distance.

    Shapes are (m, features) and (k, features); vectors are m and k numbers. `check_finite` has no effect.

    >>> import funcgrad.numpy as jnp
    >>> vq(jnp.array([1.0, 9.0]), jnp.array([0.0, 8.0, 20.0]))
    (Array([0, 1], dtype=int32), Array([1., 1.], dtype=float32))

    Raises:
      ShapeError: the ranks differ or are not 1 or 2, or the numbers of features differ.
    """
    obs, codes = promote_inexact(obs, code_book, operation="vq")
    if obs.ndim != codes.ndim or obs.ndim not in (1, 2) or (obs.ndim == 2 and obs.shape[1] != codes.shape[1]):
        raise ShapeError(
            f"vq: observations are {obs.aval}, codes {codes.aval}",
            fix="give (m, features) and (k, features), or vectors",
        )
    if obs.ndim == 1:
        obs, codes = obs[:, None], codes[:, None]
    squares = jnp.sum(jnp.square(jnp.abs(obs[:, None] - codes)), -1)
    nearest = jnp.argmin(squares, -1)
    return nearest, jnp.sqrt(jnp.take_along_axis(squares, nearest[:, None], -1)[:, 0])


_explain_missing_names(__name__)
