"""Library functions do not rely on promotion: they do not raise from within where a user forbids it."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn, random
from funcgrad.config import numpy_dtype_promotion, numpy_rank_promotion
from funcgrad.errors import ShapeError, TypePromotionError

X = np.arange(1, 7, dtype=np.float32)
M = X.reshape(2, 3)
N = np.arange(5, dtype=np.int32)
KEY = random.PRNGKey(0)
CASES = {
    "argsort": lambda: jnp.argsort(X),
    "average": lambda: jnp.average(M, axis=1, weights=X[:3]),
    "bincount": lambda: jnp.bincount(N),
    "choice": lambda: random.choice(KEY, 5, (3,), p=np.full(5, 0.2, np.float32)),
    "convolve": lambda: jnp.convolve(X, X[:2]),
    "corrcoef": lambda: jnp.corrcoef(M),
    "cov": lambda: jnp.cov(M),
    "cross": lambda: jnp.cross(X[:3], X[3:]),
    "digitize": lambda: jnp.digitize(X, X),
    "ediff1d": lambda: jnp.ediff1d(X),
    "gelu": lambda: nn.gelu(X),
    "geomspace": lambda: jnp.geomspace(1, 2, 5),
    "glorot_normal": lambda: nn.initializers.glorot_normal()(KEY, (3, 4)),
    "gradient": lambda: jnp.gradient(X),
    "gradient of std": lambda: fg.grad(jnp.std)(X),
    "histogram": lambda: jnp.histogram(X),
    "i0": lambda: jnp.i0(X),
    "interp": lambda: jnp.interp(2.5, X, X),
    "isin": lambda: jnp.isin(N, N[:2]),
    "isin in a matrix": lambda: jnp.isin(M, X[:3]),
    "kron": lambda: jnp.kron(X[:2], X[:3]),
    "lexsort": lambda: jnp.lexsort((X, X)),
    "linspace": lambda: jnp.linspace(0, 1, 5),
    "logaddexp": lambda: jnp.logaddexp(X, X),
    "logspace": lambda: jnp.logspace(0, 1, 5),
    "logsumexp": lambda: nn.logsumexp(M, axis=1),
    "median": lambda: jnp.median(X),
    "nan_to_num": lambda: jnp.nan_to_num(X),
    "nanmedian": lambda: jnp.nanmedian(X),
    "nanvar": lambda: jnp.nanvar(M, axis=0),
    "normal": lambda: random.normal(KEY, (3,)),
    "packbits": lambda: jnp.packbits(np.ones((3, 8), np.uint8)),
    "pad": lambda: jnp.pad(X, 1, mode="reflect"),
    "percentile": lambda: jnp.percentile(X, 30),
    "permutation": lambda: random.permutation(KEY, 5),
    "polyval": lambda: jnp.polyval(X, 2.0),
    "ptp": lambda: jnp.ptp(X),
    "quantile": lambda: jnp.quantile(M, 0.3, axis=1),
    "randint": lambda: random.randint(KEY, (3,), 0, 5),
    "roll": lambda: jnp.roll(X, 1),
    "rot90": lambda: jnp.rot90(M),
    "searchsorted": lambda: jnp.searchsorted(X, np.float32(2.5)),
    "setdiff1d": lambda: jnp.setdiff1d(N, N[:2]),
    "sinc": lambda: jnp.sinc(X),
    "softmax": lambda: nn.softmax(M),
    "std": lambda: jnp.std(M, axis=0),
    "std of integers": lambda: jnp.std(N),
    "trapezoid": lambda: jnp.trapezoid(X, X),
    "tri": lambda: jnp.tri(3),
    "triu": lambda: jnp.triu(M),
    "truncated_normal": lambda: random.truncated_normal(KEY, -1.0, 1.0, (3,)),
    "union1d": lambda: jnp.union1d(N, N[:2]),
    "unique": lambda: jnp.unique(N),
    "unpackbits": lambda: jnp.unpackbits(np.ones(3, np.uint8)),
    "unwrap": lambda: jnp.unwrap(X),
    "vander": lambda: jnp.vander(X),
    "var": lambda: jnp.var(M, axis=1),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", CASES)
def test_functions_under_strict_settings(name, compiled):
    needs_values = name in ("setdiff1d", "union1d", "unique", "bincount", "histogram")
    function = fg.jit(lambda: CASES[name]()) if compiled and not needs_values else CASES[name]
    with numpy_rank_promotion("raise"), numpy_dtype_promotion("strict"):
        function()


def test_what_the_settings_forbid():
    with numpy_rank_promotion("raise"), pytest.raises(ShapeError, match="different ranks"):
        jnp.add(M, X[:3])
    with numpy_dtype_promotion("strict"), pytest.raises(TypePromotionError, match="strict"):
        jnp.add(X, jnp.asarray(N[:1]))


def test_the_shape_of_a_list():
    assert (jnp.shape([[1, 2]]), jnp.ndim([[1, 2]]), jnp.size([[1, 2]])) == ((1, 2), 2, 2)
