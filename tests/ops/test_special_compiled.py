"""Special functions in compiled programs: loops without calls of NumPy, equal to the eager values."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import lax
from funcgrad.ops import special
from funcgrad.testing import assert_close

A, X = np.linspace(0.1, 40, 60).astype(np.float32), np.linspace(30, 0.2, 60).astype(np.float32)
P = np.linspace(0.01, 0.99, 60).astype(np.float32)
CASES = {
    "igamma": (lax.igamma, (A, X)),
    "igammac": (lax.igammac, (A, X)),
    "igamma_grad_a": (lax.igamma_grad_a, (A, A)),
    "random_gamma_grad": (lax.random_gamma_grad, (A, A)),
    "betainc": (lax.betainc, (A, X, P)),
    "zeta": (lax.zeta, (1 + A, X)),
    "polygamma": (lax.polygamma, (np.round(A / 10), X)),
    "bessel_i0e": (lax.bessel_i0e, (A - 20,)),
    "bessel_i1e": (lax.bessel_i1e, (A - 20,)),
    "bessel_ive": (lambda x: special.bessel_ive(5, x), (A - 20,)),
    "rounding to float16": (lambda x: lax.reduce_precision(x, 5, 10), (1e5 / (A - 20) ** 5,)),
    "rounding to bfloat16": (lambda x: lax.reduce_precision(x, 8, 7), (A - 20,)),
    "rounding to 3 bits": (lambda x: lax.reduce_precision(x, 3, 2), (np.tan(X),)),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled_without_a_call_of_numpy(name):
    function, arguments = CASES[name]
    lowered = fg.jit(function).lower(*arguments)
    assert "host" not in lowered.as_text("groups")
    assert_close(fg.jit(function)(*arguments), function(*arguments), rtol=2e-6, atol=0)


def test_rounding_keeps_special_values():
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 65519.0, 65520.0], np.float32)
    for bits in ((5, 10), (8, 7), (8, 23), (3, 2), (4, 3), (5, 2)):
        compiled = fg.jit(lax.reduce_precision, static_argnums=(1, 2))(x, *bits)
        assert_close(compiled, lax.reduce_precision(x, *bits), rtol=0, atol=0, signed_zeros=True)
