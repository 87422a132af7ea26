"""Distributions of vectors."""

from __future__ import annotations

import math
from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.promotion import promote_dtypes, promote_inexact
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.ops.casts import convert_element_type
from funcgrad.scipy.linalg import solve_triangular
from funcgrad.scipy.special.elementary import xlogy
from funcgrad.scipy.special.gammas import gammaln

__all__ = ["dirichlet", "multinomial", "multivariate_normal"]

LOG_2PI = math.log(2 * math.pi)


class dirichlet:
    """The Dirichlet distribution of probabilities that add up to 1."""

    @staticmethod
    def logpdf(x: Any, alpha: Any) -> Any:
        """The logarithm of the density, −∞ where x is no probability vector; the last entry may be missing.

        `x` has shape (k, …) or (k − 1, …), `alpha` (k,).
        """
        x, alpha = promote_inexact(x, alpha, operation="dirichlet.logpdf")
        have, want = aval_of(x), aval_of(alpha)
        if want.ndim != 1:
            raise ShapeError(f"dirichlet.logpdf: alpha is {want}", fix="pass a vector")
        if not have.ndim or have.shape[0] not in (want.shape[0], want.shape[0] - 1):
            fix = "pass an x with as many entries on axis 0, or one less"
            raise ShapeError(f"dirichlet.logpdf: x is {have}, alpha {want}", fix=fix)
        if have.shape[0] != want.shape[0]:
            x = jnp.concatenate([x, 1 - jnp.sum(x, 0, keepdims=True)])
        constant = jnp.sum(gammaln(alpha)) - gammaln(jnp.sum(alpha))
        powers = alpha.reshape(-1, *[1] * (have.ndim - 1)) - 1
        on_simplex = jnp.all(x > 0, 0) & (abs(jnp.sum(x, 0) - 1) < 1e-6)
        return jnp.where(on_simplex, jnp.sum(xlogy(powers, x), 0) - constant, -math.inf)

    @staticmethod
    def pdf(x: Any, alpha: Any) -> Any:
        """The density."""
        return jnp.exp(dirichlet.logpdf(x, alpha))


class multinomial:
    """Counts of the outcomes of n trials with probabilities p."""

    @staticmethod
    def logpmf(x: Any, n: Any, p: Any) -> Any:
        """The logarithm of the probability, −∞ where the counts do not add up to n. `x` and `p` have shape (…, k)."""
        (p,) = promote_inexact(p, operation="multinomial.logpmf")
        x, n = promote_dtypes(x, n, operation="multinomial.logpmf")
        if not dtypes.is_integer(aval_of(x).dtype):
            raise DTypeError(f"multinomial.logpmf: x is {aval_of(x)}", fix="pass integer counts")
        x, n = (convert_element_type(v, aval_of(p).dtype) for v in (x, n))
        value = gammaln(n + 1) + jnp.sum(xlogy(x, p) - gammaln(x + 1), -1)
        return jnp.where(jnp.sum(x, -1) == n, value, -math.inf)

    @staticmethod
    def pmf(x: Any, n: Any, p: Any) -> Any:
        """The probability."""
        return jnp.exp(multinomial.logpmf(x, n, p))


class multivariate_normal:
    """The normal distribution of vectors."""

    @staticmethod
    def logpdf(x: Any, mean: Any, cov: Any, allow_singular: None = None) -> Any:
        """The logarithm of the density.

        `x` and `mean` have shape (…, n), `cov` (…, n, n), or () for a multiple of the identity matrix.
        """
        if allow_singular is not None:
            fix = "leave it out; covariances must be positive definite"
            raise ArgumentError("multivariate_normal.logpdf: allow_singular is not supported", fix=fix)
        x, mean, cov = promote_inexact(x, mean, cov, operation="multivariate_normal.logpdf")
        if not aval_of(mean).shape:
            return -0.5 * (jnp.square(x - mean) / cov + LOG_2PI + jnp.log(cov))
        n, y = aval_of(mean).shape[-1], x - mean
        if not aval_of(cov).shape:
            return -0.5 * (jnp.sum(y * y, -1) / cov + n * (LOG_2PI + jnp.log(cov)))
        if aval_of(cov).shape[-2:] != (n, n):
            fix = "pass a covariance of shape (…, n, n) for a mean of shape (…, n)"
            raise ShapeError(f"multivariate_normal.logpdf: cov is {aval_of(cov)}, mean {aval_of(mean)}", fix=fix)
        factor = jnp.linalg.cholesky(cov)
        batch = jnp.broadcast_shapes(aval_of(factor).shape[:-2], aval_of(y).shape[:-1])
        whole = jnp.broadcast_to(factor, (*batch, n, n))
        z = solve_triangular(whole, jnp.broadcast_to(y, (*batch, n))[..., None], lower=True)[..., 0]
        log_diagonal = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-1, axis2=-2)), -1)
        return -0.5 * (jnp.sum(z * z, -1) + n * LOG_2PI) - log_diagonal

    @staticmethod
    def pdf(x: Any, mean: Any, cov: Any) -> Any:
        """The density."""
        return jnp.exp(multivariate_normal.logpdf(x, mean, cov))
