"""Samples from the gamma distribution, and from distributions that are functions of it.

Source: Marsaglia, Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000).
"""

from __future__ import annotations

import functools
import math
from typing import Any

from funcgrad import dtypes, lax
from funcgrad.arguments import promotion
from funcgrad.arguments.axes import as_int, as_shape
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy import creation, products, reductions, shapes
from funcgrad.numpy import ufuncs as uf
from funcgrad.random.continuous import exponential, maxwell, normal_of, parameters, unit_floats
from funcgrad.random.discrete import rademacher
from funcgrad.random.keys import float_dtype, single, split, split_words
from funcgrad.transforms.custom_rules.jvp import custom_jvp
from funcgrad.transforms.jit import jit
from funcgrad.transforms.vmap import vmap


def _cube(words: Any, d: Any) -> tuple[Any, Any]:
    """Return (x², (1 + c x)³) for a normal x, drawn again while 1 + c x <= 0, with c = 1 / (3 √d)."""
    c = creation.array(1 / 3, d.dtype) / uf.sqrt(d)

    def draw(carry: Any) -> Any:
        words, _, _ = carry
        words, subkey = split_words(words)
        x = normal_of(subkey, (), d.dtype)
        return words, x, 1 + x * c

    zero = creation.zeros((), d.dtype)
    _, x, v = lax.while_loop(lambda carry: carry[2] <= 0, draw, (words, zero, zero - 1))
    return x * x, v * v * v


def _sample(words: Any, alpha: Any, log_space: bool) -> Any:
    """One sample, or its logarithm.

    For alpha < 1, a sample of alpha + 1 times U^(1 / alpha), which may underflow where the logarithm does not.
    """
    dtype = alpha.dtype
    large = alpha >= 1
    d = uf.where(large, alpha, alpha + 1) - creation.array(1 / 3, dtype)

    def rejected(carry: Any) -> Any:
        _, x, v, u = carry
        return (u >= 1 - 0.0331 * (x * x)) & (uf.log(u) >= x * 0.5 + d * ((1 - v) + uf.log(v)))

    def propose(carry: Any) -> Any:
        words, cube_key, unit_key = split_words(carry[0], 3)
        return words, *_cube(cube_key, d), unit_floats(unit_key, (), dtype)

    words, boost_key = split_words(words)
    zero = creation.zeros((), dtype)
    _, _, v, _ = lax.while_loop(rejected, propose, (words, zero, zero + 1, zero + 2))
    unit = unit_floats(boost_key, (), dtype)
    if log_space:
        logarithm = uf.log1p(-unit)
        boost = uf.where(large | (logarithm == 0), zero, logarithm * (1 / alpha))
        return uf.log(d) + uf.log(v) + boost
    return d * v * uf.where(large, 1, lax.pow(1 - unit, 1 / alpha))


@functools.partial(custom_jvp, nondiff_argnums=(2,))
def _samples(words: Any, alphas: Any, log_space: bool) -> Any:
    """Samples for a vector of alphas, with a key for each."""
    return vmap(functools.partial(_sample, log_space=log_space))(words, alphas)


@_samples.defjvp
def _samples_jvp(log_space: bool, primals: Any, tangents: Any) -> Any:
    """dx/da = −(∂P/∂a) / (∂P/∂x): the quantile stays the same."""
    words, alphas = primals
    out = x = _samples(words, alphas, log_space)
    if log_space:
        x = uf.exp(out)
        x = uf.where(x == 0, creation.array(dtypes.finfo(x.dtype).tiny, x.dtype), x)
    slope = lax.random_gamma_grad(alphas, x)
    return out, tangents[1] * (slope / x if log_space else slope)


@functools.partial(jit, static_argnums=(2, 3))
def _gamma_of(words: Any, a: Any, shape: tuple[int, ...], log_space: bool) -> Any:
    keys = split(words, math.prod(shape))
    return shapes.reshape(_samples(keys, shapes.ravel(shapes.broadcast_to(a, shape)), log_space), shape)


def _gamma(name: str, key: Any, a: Any, shape: Any, dtype: Any, log_space: bool) -> Any:
    words, dtype = single(name, key), float_dtype(name, dtype)
    shape, (a,) = parameters(name, shape, dtype, a)
    return _gamma_of(words, a, shape, log_space)


def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the gamma distribution, with density x^(a−1) e^−x / Γ(a). Differentiable with respect to a.

    >>> from funcgrad.random import key
    >>> gamma(key(0), 2.0, (3,)).shape
    (3,)
    """
    return _gamma("gamma", key, a, shape, dtype, log_space=False)


def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample the logarithm of a gamma variable, which does not underflow for small a."""
    return _gamma("loggamma", key, a, shape, dtype, log_space=True)


def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the beta distribution, density x^(a−1) (1 − x)^(b−1) / B(a, b): A / (A + B), A and B gamma."""
    words, dtype = single("beta", key), float_dtype("beta", dtype)
    shape, (a, b) = parameters("beta", shape, dtype, a, b)
    log_a, log_b = (_gamma_of(k, v, shape, True) for k, v in zip(split_words(words), (a, b), strict=True))
    largest = uf.maximum(log_a, log_b)
    scaled_a, scaled_b = uf.exp(log_a - largest), uf.exp(log_b - largest)
    return scaled_a / (scaled_a + scaled_b)


def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the Dirichlet distribution: gamma variables divided by their sum, along the last axis of alpha."""
    dtype = float_dtype("dirichlet", dtype)
    alpha = promotion.as_operand(alpha, "dirichlet")
    *batch, n = alpha.aval.shape or (None,)
    if n is None:
        raise ShapeError("dirichlet: alpha is a scalar", fix="pass a vector with the concentration of each component")
    shape = (*(batch if shape is None else as_shape(shape, "dirichlet")), n)
    logs = loggamma(key, alpha, shape, dtype)
    scaled = uf.exp(logs - reductions.max(logs, axis=-1, keepdims=True))
    return scaled / reductions.sum(scaled, axis=-1, keepdims=True)


def t(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from Student's t distribution: N / √(G / (df/2)), N normal and G gamma with parameter df/2."""
    words, dtype = single("t", key), float_dtype("t", dtype)
    shape, (df,) = parameters("t", shape, dtype, df)
    normal_key, gamma_key = split_words(words)
    half = df / 2
    return normal_of(normal_key, shape, dtype) * uf.sqrt(half / _gamma_of(gamma_key, half, shape, False))


def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the χ² distribution: twice a gamma variable with parameter df/2."""
    words, dtype = single("chisquare", key), float_dtype("chisquare", dtype)
    shape, (df,) = parameters("chisquare", shape, dtype, df)
    return uf.exp(_gamma_of(words, df / 2, shape, True)) * 2


def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Sample from the F distribution: the ratio of two χ² variables, each divided by its degrees of freedom."""
    words, dtype = single("f", key), float_dtype("f", dtype)
    shape, (dfnum, dfden) = parameters("f", shape, dtype, dfnum, dfden)
    below, above = split_words(words)
    return (chisquare(above, dfnum, shape, dtype) / dfnum) / (chisquare(below, dfden, shape, dtype) / dfden)


def generalized_normal(key: Any, p: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample from the generalized normal distribution, with density proportional to e^−|x|^p."""
    words, dtype = single("generalized_normal", key), float_dtype("generalized_normal", dtype)
    shape = as_shape(shape, "generalized_normal")
    gamma_key, sign_key = split_words(words)
    size = gamma(gamma_key, 1 / p, shape, dtype)
    return rademacher(sign_key, shape, dtype) * size ** (1 / p)


def ball(key: Any, d: int, p: Any = 2, shape: Any = (), dtype: Any = None) -> Any:
    """Sample uniformly from the unit ball of the p-norm in d dimensions; the result has shape (*shape, d).

    Source: Barthe, Guédon, Mendelson, Naor, "A probabilistic approach to the geometry of the ℓp-ball", 2005.
    """
    words, dtype, shape = single("ball", key), float_dtype("ball", dtype), as_shape(shape, "ball")
    direction_key, radius_key = split_words(words)
    direction = generalized_normal(direction_key, p, (*shape, as_int(d, "d", "ball")), dtype)
    norm = reductions.sum(uf.absolute(direction) ** p, axis=-1) + exponential(radius_key, shape, dtype)
    return direction / (norm ** (1 / p))[..., None]


def double_sided_maxwell(key: Any, loc: Any, scale: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample ±scale·M + loc, M from the Maxwell distribution; the result has shape (*shape, *parameters).

    As in JAX, an empty `shape` stands for the shape of the parameters.
    """
    words, dtype = single("double_sided_maxwell", key), float_dtype("double_sided_maxwell", dtype)
    common, (loc, scale) = parameters("double_sided_maxwell", None, None, loc, scale)
    shape = (*(as_shape(shape, "double_sided_maxwell") or common), *common)
    size_key, sign_key = split_words(words)
    return rademacher(sign_key, shape, dtype) * maxwell(size_key, shape, dtype) * scale + loc


def multivariate_normal(
    key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None, method: str = "cholesky"
) -> Any:
    """Sample from the normal distribution with a mean vector and a covariance matrix: mean + L·N, cov = L·Lᵀ.

    `mean` has shape (…, n) and `cov` shape (…, n, n); the result has shape (*shape, n).
    """
    if method != "cholesky":
        raise ArgumentError(f"multivariate_normal: unknown method {method!r}", fix="the only method is 'cholesky'")
    words = single("multivariate_normal", key)
    mean, cov = promotion.promote_inexact(mean, cov, operation="multivariate_normal")
    dtype = mean.aval.dtype if dtype is None else float_dtype("multivariate_normal", dtype)
    n = mean.aval.shape[-1] if mean.aval.shape else 0
    if not mean.aval.shape or cov.aval.shape[-2:] != (n, n):
        raise ShapeError(
            f"multivariate_normal: mean {mean.aval} and cov {cov.aval} do not fit",
            fix="pass a mean of shape (…, n) and a covariance of shape (…, n, n)",
        )
    batch = promotion.broadcast_shapes(mean.aval.shape[:-1], cov.aval.shape[:-2], operation="multivariate_normal")
    shape = batch if shape is None else as_shape(shape, "multivariate_normal")
    if promotion.broadcast_shapes(shape, batch, operation="multivariate_normal") != shape:
        raise ShapeError(
            f"multivariate_normal: shape {shape} does not end with the shape {batch} of the parameters",
            fix="prepend the number of samples to that shape",
        )
    draws = normal_of(words, (*shape, n), dtype)
    return mean + products.einsum("...ij,...j->...i", lax.linalg.cholesky(cov), draws)
