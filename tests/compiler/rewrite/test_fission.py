"""Fission: which products leave a scan, and what is left of its body, as jaxprs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.rewrite.fission import products_of_slices, without
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.core.jaxprs import Jaxpr, eval_jaxpr
from funcgrad.core.layouts import ScanLayout

W, H = np.ones((8, 8), np.float32), np.ones(8, np.float32)
XS = np.ones((5, 8), np.float32)
LAYOUT = ScanLayout(1, 1)  # body(w, h, x)


def body_of(step: Callable[..., Any]) -> Jaxpr:
    return simplify(fg.make_jaxpr(step)(W, H, XS[0])).jaxpr


def names(jaxpr: Jaxpr) -> list[str]:
    return [e.primitive.name for e in jaxpr.eqns]


@pytest.mark.parametrize(
    ("step", "count"),
    [
        (lambda w, h, x: jnp.tanh(x @ w + h), 1),
        (lambda w, h, x: jnp.tanh(x @ w.T + h), 1),
        (lambda w, h, x: jnp.tanh(h @ w + x), 0),  # waits for the iteration before
        (lambda w, h, x: jnp.tanh(jnp.sin(x) @ w + h), 0),  # no view of a slice
        (lambda w, h, x: jnp.tanh((x @ w) @ w + h), 1),  # the second is a product of a product
    ],
)
def test_products_of_a_slice_with_a_const_leave(step, count):
    assert len(products_of_slices(body_of(step), LAYOUT, len(XS))) == count


def test_the_product_of_all_slices_is_stacked():
    body = body_of(lambda w, h, x: jnp.tanh(x @ w.T + h))
    (product,) = products_of_slices(body, LAYOUT, len(XS))
    xs, w = (np.random.default_rng(0).standard_normal(a.shape).astype(np.float32) for a in (XS, W))
    whole = product.of_all(*(v.aval for v in fg.make_jaxpr(lambda a, b: (a, b))(xs, w).jaxpr.invars))
    assert names(whole.jaxpr).count("dot_general") == 1
    (found,) = eval_jaxpr(whole.jaxpr, whole.consts, xs, w)
    np.testing.assert_allclose(np.reshape(found, (5, 8)), xs @ w.T, rtol=1e-4, atol=1e-5)


def test_the_body_reads_results_as_further_slices():
    body = body_of(lambda w, h, x: jnp.tanh(x @ w + h))
    found = products_of_slices(body, LAYOUT, len(XS))
    rest = without(body, found)
    assert "dot_general" not in names(rest)
    assert len(rest.invars) == len(body.invars) + 1
    assert rest.invars[-1].aval.shape == found[0].eqn.outvars[0].aval.shape


def test_results_beyond_the_limit_stay_in_the_loop():
    body = body_of(lambda w, h, x: jnp.tanh(x @ w + h))
    assert products_of_slices(body, LAYOUT, (64 << 20) // 32)
    assert not products_of_slices(body, LAYOUT, (64 << 20) // 32 + 1)


def test_scans_are_split_by_the_simplifier():
    def f(w: Any, h: Any, xs: Any) -> Any:
        return lax.scan(lambda h, x: (jnp.tanh(x @ w + h), None), h, xs)[0]

    jaxpr = simplify(fg.make_jaxpr(f)(W, H, XS)).jaxpr
    (scan,) = (e for e in jaxpr.eqns if e.primitive.name == "scan")
    assert names(jaxpr).count("dot_general") == 1
    assert "dot_general" not in names(scan.params["jaxpr"].jaxpr)
    assert scan.params["num_consts"] == 0
