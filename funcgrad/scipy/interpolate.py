"""funcgrad.scipy.interpolate: interpolation of data on grids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import tree_util
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, ShapeError
from funcgrad.errors import explain_missing_names as _explain_missing_names

__all__ = ["RegularGridInterpolator"]


def _check_method(method: str) -> None:
    if method not in ("linear", "nearest"):
        raise ArgumentError(f"RegularGridInterpolator: method={method!r}", fix="use 'linear' or 'nearest'")


@tree_util.register_pytree_node_class
class RegularGridInterpolator:
    """Interpolation of values on a rectangular grid; a pytree, and differentiable by grid, values and points.

    Args:
      points: the coordinates of the grid, one increasing vector per dimension.
      values: of shape (n₁, …, n_d, …); trailing dimensions are interpolated together.
      method: "linear" or "nearest".
      bounds_error: raise if a point is outside of the grid. Values are needed for that, so not under jit or vmap.
      fill_value: the result outside of the grid, NaN by default. None extrapolates.

    >>> import funcgrad.numpy as jnp
    >>> f = RegularGridInterpolator((jnp.array([1.0, 2.0, 4.0]),), jnp.array([10.0, 20.0, 60.0]))
    >>> f(jnp.array([[1.5], [3.0], [5.0]]))
    Array([15., 40., nan], dtype=float32)

    Raises:
      ShapeError: the grid and the values, or the grid and the points, do not fit.
      ArgumentError: `method` or `fill_value` is not valid, or, with `bounds_error`, a point is outside of the grid.
      ConcretizationError: `bounds_error` with traced points.
    """

    def __init__(
        self,
        points: Sequence[Any],
        values: Any,
        method: str = "linear",
        bounds_error: bool = False,
        fill_value: Any = np.nan,
    ):
        _check_method(method)
        (values,) = promote_inexact(values, operation="RegularGridInterpolator")
        grid = tuple(jnp.asarray(p) for p in points)
        sizes = values.shape[: len(grid)]
        if any(p.ndim != 1 or p.size < 2 for p in grid) or tuple(p.size for p in grid) != sizes:
            raise ShapeError(
                f"RegularGridInterpolator: points of shapes {[p.shape for p in grid]} for values {values.aval}",
                fix="give one vector of 2 or more coordinates for each of the leading dimensions",
            )
        if fill_value is not None:
            fill_value = jnp.asarray(fill_value)
            if not jnp.can_cast(fill_value.dtype, values.dtype, "same_kind"):
                raise ArgumentError(
                    f"RegularGridInterpolator: fill_value is {fill_value.aval}, values are {values.aval}",
                    fix="give a fill_value of the same kind, or None to extrapolate",
                )
        self.grid, self.values, self.fill_value = grid, values, fill_value
        self.method, self.bounds_error = method, bounds_error

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the arrays, and the options."""
        return (self.grid, self.values, self.fill_value), (self.method, self.bounds_error)

    @classmethod
    def tree_unflatten(cls, options: tuple[Any, ...], arrays: Sequence[Any]) -> RegularGridInterpolator:
        """Rebuild an interpolator of the given arrays, without checks."""
        out = object.__new__(cls)
        out.grid, out.values, out.fill_value = arrays
        out.method, out.bounds_error = options
        return out

    def __call__(self, xi: Any, method: str | None = None) -> Any:
        """Interpolate at points of shape (…, d), or at a tuple of d arrays; `method` overrides that of the grid."""
        method = self.method if method is None else method
        _check_method(method)
        xi = self._points(xi)
        cells = [self._cell(g, x) for g, x in zip(self.grid, jnp.moveaxis(xi, -1, 0), strict=True)]
        outside = sum((x < g[0]) | (x > g[-1]) for g, x in zip(self.grid, jnp.moveaxis(xi, -1, 0), strict=True)) > 0
        if self.bounds_error:
            self._check_bounds(outside)
        shape = xi.shape[:-1] + (1,) * (self.values.ndim - len(self.grid))
        if method == "nearest":
            result = self.values[tuple(jnp.where(weight <= 0.5, i, i + 1) for i, weight in cells)]
        else:
            corners = itertools.product(*([(i, 1 - weight), (i + 1, weight)] for i, weight in cells))
            terms = [(self.values[tuple(i for i, _ in c)], math.prod(w for _, w in c)) for c in corners]
            result = sum(value * jnp.reshape(weight, shape) for value, weight in terms)
        if self.fill_value is None or self.bounds_error:
            return result
        return jnp.where(jnp.reshape(outside, shape), self.fill_value, result)

    def _points(self, xi: Any) -> Any:
        """The points as an array of shape (…, d)."""
        d = len(self.grid)
        if isinstance(xi, tuple) and len(xi) == 1:
            xi = xi[0]
        if isinstance(xi, tuple):
            xi = jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(x, float) for x in xi)), -1)
        xi = jnp.asarray(xi)
        if xi.ndim == 1 and xi.size % d == 0:
            xi = xi.reshape(-1, d)
        if not xi.ndim or xi.shape[-1] != d:
            raise ShapeError(
                f"RegularGridInterpolator: points {xi.aval} for a grid of {d} dimensions", fix=f"give (…, {d})"
            )
        return xi

    @staticmethod
    def _cell(g: Any, x: Any) -> tuple[Any, Any]:
        """The index of the grid point below x, and the distance from it in units of the cell."""
        i = jnp.clip(jnp.searchsorted(g, x) - 1, 0, g.size - 2)
        return i, (x - g[i]) / (g[i + 1] - g[i])

    def _check_bounds(self, outside: Any) -> None:
        known = outside.concrete() if isinstance(outside, Tracer) else outside
        if known is None:
            raise ConcretizationError(
                "RegularGridInterpolator: bounds_error=True needs the values of the points, which are traced",
                fix="use bounds_error=False: results outside of the grid are fill_value",
            )
        if np.any(known):
            first = tuple(int(i) for i in np.argwhere(np.asarray(known))[0])
            raise ArgumentError(
                f"RegularGridInterpolator: point {first} is outside of the grid",
                fix="use bounds_error=False, with a fill_value or None to extrapolate",
            )


_explain_missing_names(__name__)
