"""gaussian_kde, a density estimated from samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, random, tree_util
from funcgrad.arguments.promotion import promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.numpy.exponential_sums import logsumexp
from funcgrad.scipy.special.errors import ndtr

__all__ = ["gaussian_kde"]


@tree_util.register_pytree_node_class
class gaussian_kde:
    """The density of normal kernels at samples of shape (n,) or (dimension, n), with weights of shape (n,).

    The covariance of a kernel is that of the samples times the square of a factor: n_eff^(−1/(d + 4)) ("scott"),
    (n_eff (d + 2)/4)^(−1/(d + 4)) ("silverman"), a number, or a function of the estimate. n_eff is 1/Σ weights².

    >>> kde = gaussian_kde(jnp.array([0.0, 1.0, 2.0]))
    >>> kde(jnp.array([1.0]))
    Array([0.31815627], dtype=float32)
    """

    neff: Any
    dataset: Any
    weights: Any
    covariance: Any
    inv_cov: Any

    def __init__(self, dataset: Any, bw_method: str | float | Callable | None = None, weights: Any = None):
        given = (dataset,) if weights is None else (dataset, weights)
        operands = promote_inexact(*map(jnp.asarray, given), operation="gaussian_kde")
        self.dataset = jnp.atleast_2d(operands[0])
        if dtypes.is_complex(aval_of(self.dataset).dtype):
            raise DTypeError(f"gaussian_kde: dataset is {aval_of(self.dataset)}", fix="pass real samples")
        if aval_of(self.dataset).size <= 1:
            raise ArgumentError(f"gaussian_kde: dataset is {aval_of(self.dataset)}", fix="pass more than one sample")
        if weights is not None and aval_of(operands[1]).shape != (self.n,):
            raise ShapeError(f"gaussian_kde: {self.n} samples, weights are {aval_of(operands[1])}", fix="pass as many")
        self.weights = jnp.full(self.n, 1 / self.n, self.dataset.dtype) if weights is None else operands[1]
        self.weights = self.weights / jnp.sum(self.weights)
        self.neff = 1 / jnp.sum(self.weights**2)
        factor = self._factor("scott" if bw_method is None else bw_method)
        covariance = jnp.atleast_2d(jnp.cov(self.dataset, aweights=self.weights))
        self.covariance, self.inv_cov = covariance * factor**2, jnp.linalg.inv(covariance) / factor**2

    def _factor(self, method: Any) -> Any:
        if callable(method):
            return method(self)
        if not isinstance(method, str):
            return method
        if method not in ("scott", "silverman"):
            raise ArgumentError(f"gaussian_kde: bw_method is {method!r}", fix="choose scott, silverman, or a number")
        count = self.neff * (self.d + 2) / 4 if method == "silverman" else self.neff
        return count ** (-1 / (self.d + 4))

    def tree_flatten(self) -> tuple[tuple, None]:
        """Return the arrays."""
        return (self.neff, self.dataset, self.weights, self.covariance, self.inv_cov), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple) -> gaussian_kde:
        """Rebuild an estimate from its arrays."""
        kde = object.__new__(cls)
        kde.neff, kde.dataset, kde.weights, kde.covariance, kde.inv_cov = children
        return kde

    @property
    def d(self) -> int:
        """The dimension."""
        return self.dataset.shape[0]

    @property
    def n(self) -> int:
        """The number of samples."""
        return self.dataset.shape[1]

    def logpdf(self, x: Any) -> Any:
        """The logarithm of the density at points of shape (d, m), or (m,) if d is 1."""
        points = jnp.atleast_2d(promote_inexact(x, operation="gaussian_kde")[0])
        if points.shape[0] != self.d:
            if points.shape != (1, self.d):
                raise ShapeError(f"gaussian_kde: points are {aval_of(points)}, d is {self.d}", fix="pass (d, m) points")
            points = points.T
        whitening = jnp.linalg.cholesky(self.inv_cov)
        centers, points = self.dataset.T @ whitening, points.T @ whitening
        distances = jnp.sum((points[:, None] - centers[None]) ** 2, -1)
        constant = jnp.sum(jnp.log(jnp.diagonal(whitening))) - 0.5 * self.d * math.log(2 * math.pi)
        return logsumexp(-0.5 * distances, axis=1, b=self.weights) + constant

    def evaluate(self, points: Any) -> Any:
        """The density at points of shape (d, m), or (m,) if d is 1."""
        return jnp.exp(self.logpdf(points))

    __call__ = pdf = evaluate

    def integrate_gaussian(self, mean: Any, cov: Any) -> Any:
        """The integral of the density times that of a normal distribution."""
        mean, cov = jnp.atleast_1d(jnp.squeeze(mean)), jnp.atleast_2d(cov)
        if mean.shape != (self.d,) or cov.shape != (self.d, self.d):
            found = f"mean has shape {mean.shape}, cov {cov.shape}, d is {self.d}"
            raise ShapeError(f"gaussian_kde.integrate_gaussian: {found}", fix="pass shapes (d,) and (d, d)")
        wider = gaussian_kde.tree_unflatten(None, (*self.tree_flatten()[0][:3], *_and_inverse(self.covariance + cov)))
        return wider.evaluate(mean[:, None])[0]

    def integrate_box_1d(self, low: Any, high: Any) -> Any:
        """The probability of an interval, for d = 1."""
        if self.d != 1 or np.ndim(low) or np.ndim(high):
            raise ArgumentError(
                "gaussian_kde.integrate_box_1d: d is not 1, or the limits are no scalars", fix="see help"
            )
        scaled = [(v - self.dataset[0]) / jnp.sqrt(self.covariance[0, 0]) for v in (low, high)]
        return jnp.sum(self.weights * (ndtr(scaled[1]) - ndtr(scaled[0])))

    def integrate_kde(self, other: gaussian_kde) -> Any:
        """The integral of the product with another density."""
        if other.d != self.d:
            raise ShapeError(f"gaussian_kde.integrate_kde: dimensions are {self.d} and {other.d}", fix="use equal ones")
        both = _and_inverse(self.covariance + other.covariance)
        wider = gaussian_kde.tree_unflatten(None, (*self.tree_flatten()[0][:3], *both))
        return jnp.sum(wider.evaluate(other.dataset) * other.weights)

    def resample(self, key: Any, shape: tuple[int, ...] = ()) -> Any:
        """Samples of shape (d, *shape) from the density."""
        of_index, of_noise = random.split(key)
        index = random.choice(of_index, self.n, shape=shape, p=self.weights)
        mean = jnp.zeros(self.d, self.covariance.dtype)
        noise = random.multivariate_normal(of_noise, mean, self.covariance, shape=shape, dtype=self.dataset.dtype)
        return self.dataset[:, index] + jnp.moveaxis(noise, -1, 0)

    def integrate_box(self, low_bounds: Any, high_bounds: Any, maxpts: Any = None) -> Any:
        """Not supported; see `integrate_box_1d`."""
        raise ArgumentError("gaussian_kde.integrate_box is not supported", fix="use integrate_box_1d")

    def set_bandwidth(self, bw_method: Any = None) -> None:
        """Not supported."""
        raise ArgumentError("gaussian_kde.set_bandwidth is not supported", fix="make a new gaussian_kde")


def _and_inverse(covariance: Any) -> tuple[Any, Any]:
    return covariance, jnp.linalg.inv(covariance)
