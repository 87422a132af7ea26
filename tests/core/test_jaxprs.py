"""Jaxprs: how they print, against golden files and JAX; the checker's rules, each with a jaxpr that breaks it."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pytest
from backends import FUNCGRAD, JAX

from funcgrad import dtypes
from funcgrad.core.avals import ShapedArray
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, eval_jaxpr, jaxpr_as_fun, subjaxprs
from funcgrad.core.primitives import registry
from funcgrad.errors import JaxprError
from funcgrad.testing import assert_close
from funcgrad.transforms.jit import jit_p
from tests.paths import GOLDEN

JAXPRS = GOLDEN / "jaxprs"
UPDATE = os.environ.get("FUNCGRAD_UPDATE_GOLDEN")
X = np.arange(1, 4, dtype=np.float32)
M = np.arange(6, dtype=np.float32).reshape(2, 3)
INTEGERS = np.arange(3, dtype=np.int32)


def _inner(m: Any) -> Any:
    def inner(x):
        return m.lax.sin(x) * 2.0

    return m.jit(inner)


def _movement(m: Any) -> Any:
    def movement(x):
        return (
            m.lax.transpose(x),
            m.lax.reshape(x, (3, 2)),
            m.lax.broadcast_in_dim(x, (4, 2, 3), (1, 2)),
            m.lax.rev(x, (0,)),
            m.lax.pad(x, np.float32(0), [(1, 1, 0), (0, 0, 1)]),
            m.lax.slice(x, (0, 1), (2, 3)),
            m.lax.concatenate([x, x], 0),
        )

    return m.make_jaxpr(movement)(M)


def _dtypes(m: Any) -> Any:
    return m.make_jaxpr(lambda a, b, c: (a * 2, b, c * 1))(
        np.ones(2, "int8"), np.ones((), "bool"), np.ones(2, "uint16")
    )


def _literals(m: Any) -> Any:
    return m.make_jaxpr(lambda x: (x + np.inf, x + np.nan, x * 1e-8, x * 123456789.0, x * -1.5, x * 1e30))(X)


# Programs whose jaxprs must be JAX's to the letter (sharding params aside).
SAME_AS_JAX = {
    "scalars": lambda m: m.make_jaxpr(lambda x: m.lax.sin(x) * 2 + 1)(1.0),
    "one_line": lambda m: m.make_jaxpr(lambda x: m.lax.sin(m.lax.cos(x)))(1.0),
    "array": lambda m: m.make_jaxpr(lambda x, n: m.lax.mul(m.lax.sin(x), x))(X, INTEGERS),
    "unused_result": lambda m: m.make_jaxpr(lambda x: (m.lax.sin(x), m.lax.cos(x))[0])(X),
    "constant": lambda m: m.make_jaxpr(lambda x: m.lax.add(x, X))(X),
    "outputs": lambda m: m.make_jaxpr(lambda x: (x, 1.0, m.lax.neg(x), x))(X),
    "no_outputs": lambda m: m.make_jaxpr(lambda x: ())(X),
    "names_past_z": lambda m: m.make_jaxpr(lambda x: [m.lax.sin(m.lax.cos(x)) * i for i in range(20)])(X),
    "movement": _movement,
    "reductions": lambda m: m.make_jaxpr(lambda x: (m.lax.reduce_sum(x), m.lax.reduce_max(x), m.lax.cumsum(x)))(M),
    "dot": lambda m: m.make_jaxpr(lambda x: m.lax.dot(x, m.lax.transpose(x)))(M),
    "powers": lambda m: m.make_jaxpr(
        lambda x: (m.lax.integer_pow(x, 3), m.lax.pow(x, np.float32(2.5)), m.lax.convert(x, np.int32))
    )(X),
    "complex": lambda m: m.make_jaxpr(lambda z: (m.lax.real(z), z * (1 + 2j)))(np.complex64(1 + 1j)),
    "dtypes": _dtypes,
    "literals": _literals,
    "grad": lambda m: m.make_jaxpr(m.grad(lambda x: m.lax.reduce_sum(m.lax.sin(x) * x)))(X),
    "jvp": lambda m: m.make_jaxpr(lambda x, t: m.jvp(lambda x: m.lax.log(m.lax.sin(x)), (x,), (t,)))(1.0, 1.0),
    "grad_of_jit": lambda m: m.make_jaxpr(m.grad(m.jit(lambda x: m.lax.sin(x) * x)))(1.0),
    "vmap": lambda m: m.make_jaxpr(m.vmap(lambda x, y: m.lax.dot(x, y), in_axes=(0, None)))(M, X),
    "jit": lambda m: m.make_jaxpr(lambda x: _inner(m)(x) + _inner(m)(x))(1.0),
    "jit_shared": lambda m: m.make_jaxpr(lambda x, f: f(x) + f(f(x)), static_argnums=1)(1.0, _inner(m)),
    "jit_nested": lambda m: m.make_jaxpr(m.jit(lambda x: _inner(m)(x) * 2.0))(X),
    "jit_constant": lambda m: m.make_jaxpr(m.jit(lambda x: m.lax.sin(x) + X))(X),
    "jit_unused": lambda m: m.make_jaxpr(lambda x: (_inner(m)(x), m.lax.cos(x))[1])(1.0),
}
# Programs that JAX traces with other equations to the same values.
OURS = {
    "grad_of_max": lambda m: m.make_jaxpr(m.grad(lambda x: m.lax.max(x, 2.0)))(1.0),
    "vmap_of_grad": lambda m: m.make_jaxpr(m.vmap(m.grad(lambda x: m.lax.reduce_sum(m.lax.sin(x)))))(M),
    "hessian": lambda m: m.make_jaxpr(m.hessian(lambda x: m.lax.reduce_sum(m.lax.sin(x))))(X),
}


@pytest.mark.parametrize("name", [*SAME_AS_JAX, *OURS])
def test_golden(name: str):
    text = str((SAME_AS_JAX | OURS)[name](FUNCGRAD)) + "\n"
    path = JAXPRS / f"{name}.txt"
    if UPDATE:
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_file_has_a_program():
    assert {p.stem for p in JAXPRS.glob("*.txt")} == {*SAME_AS_JAX, *OURS}


@pytest.mark.oracle
@pytest.mark.parametrize("name", SAME_AS_JAX)
def test_prints_as_jax_does(name: str):
    ours, theirs = (str(SAME_AS_JAX[name](m)) for m in (FUNCGRAD, JAX))
    assert ours == re.sub(r" (out_)?sharding=None", "", theirs)


@pytest.mark.parametrize("name", [*SAME_AS_JAX, *OURS])
def test_traced_jaxprs_pass_the_checker_and_render(name: str):
    closed = (SAME_AS_JAX | OURS)[name](FUNCGRAD)
    check_jaxpr(closed)
    page = closed._repr_html_()
    assert page.startswith("<pre") and "lambda" in page
    for eqn in closed.eqns:
        assert f"{eqn.primitive}" in repr(eqn)


def test_html_escapes_and_highlights_primitives():
    page = FUNCGRAD.make_jaxpr(FUNCGRAD.jit(lambda x: FUNCGRAD.lax.sin(x)))(1.0)._repr_html_()
    assert "&lt;lambda&gt;" in page and "<lambda>" not in page
    assert re.search(r"<b [^>]*>sin</b>", page)


# ---------------------------------------------------------------- evaluation and inspection


def test_eval_jaxpr_and_jaxpr_as_fun():
    closed = FUNCGRAD.make_jaxpr(lambda x: (FUNCGRAD.lax.sin(x) + X, x))(X)
    expected = [np.sin(X) + X, X]
    assert_close(eval_jaxpr(closed.jaxpr, closed.consts, X), expected)
    assert_close(jaxpr_as_fun(closed)(X), expected)


def test_avals_and_subjaxprs():
    closed = FUNCGRAD.make_jaxpr(_inner(FUNCGRAD))(X)
    assert [a.short() for a in closed.in_avals + closed.out_avals] == ["f32[3]", "f32[3]"]
    (eqn,) = closed.eqns
    (inner,) = subjaxprs(eqn.params)
    assert [e.primitive.name for e in inner.eqns] == ["sin", "mul"]


def test_equations_know_the_line_that_made_them():
    (eqn,) = FUNCGRAD.make_jaxpr(lambda x: FUNCGRAD.lax.sin(x))(1.0).eqns
    assert str(eqn.source).startswith("test_jaxprs.py:")


def test_make_jaxpr_returns_shapes_too():
    closed, shape = FUNCGRAD.make_jaxpr(lambda x: {"y": x * 2}, return_shape=True)(X)
    assert repr(shape) == "{'y': ShapeDtypeStruct(shape=(3,), dtype=float32)}"


def test_a_jaxpr_caches_derived_jaxprs():
    closed = FUNCGRAD.make_jaxpr(lambda x: x)(1.0)
    made = []
    assert closed.memo("key", lambda: made.append(0) or "value") == "value"
    assert closed.memo("key", lambda: made.append(0) or "other") == "value" and made == [0]


# ---------------------------------------------------------------- the checker

F32, F32_3 = ShapedArray((), dtypes.float32), ShapedArray((3,), dtypes.float32)
SIN, ADD = registry["sin"], registry["add"]


def _eqn(primitive, ins, outs, **params) -> JaxprEqn:
    return JaxprEqn(ins, outs, primitive, params)


def _unbound_use():
    x, y, z = Var(F32), Var(F32), Var(F32)
    return Jaxpr([], [x], [_eqn(SIN, [y], [z])], [z])


def _use_before_binding():
    x, y, z = Var(F32), Var(F32), Var(F32)
    return Jaxpr([], [x], [_eqn(SIN, [y], [z]), _eqn(SIN, [x], [y])], [z])


def _bound_twice():
    x, y = Var(F32), Var(F32)
    return Jaxpr([], [x], [_eqn(SIN, [x], [y]), _eqn(SIN, [x], [y])], [y])


def _input_twice():
    x = Var(F32)
    return Jaxpr([], [x, x], [], [x])


def _unbound_output():
    return Jaxpr([], [Var(F32)], [], [Var(F32)])


def _wrong_shape():
    x, y = Var(F32_3), Var(F32)
    return Jaxpr([], [x], [_eqn(SIN, [x], [y])], [y])


def _wrong_dtype():
    x, y = Var(F32), Var(ShapedArray((), dtypes.int32))
    return Jaxpr([], [x], [_eqn(SIN, [x], [y])], [y])


def _wrong_count():
    x, y, z = Var(F32), Var(F32), Var(F32)
    return Jaxpr([], [x], [_eqn(SIN, [x], [y, z])], [y])


def _array_literal():
    x, y = Var(F32_3), Var(F32_3)
    return Jaxpr([], [x], [_eqn(ADD, [x, Literal(X, F32_3)], [y])], [y])


def _inside_params():
    x, y = Var(F32), Var(F32)
    return Jaxpr([], [x], [_eqn(jit_p, [x], [y], jaxpr=ClosedJaxpr(_unbound_output()), name="f", inline=False)], [y])


def _missing_const():
    c, x = Var(F32), Var(F32)
    return ClosedJaxpr(Jaxpr([c], [x], [], [x]), [])


@pytest.mark.parametrize(
    "broken, message",
    [
        (_unbound_use, "used before it is bound in b:f32[] = sin a"),
        (_use_before_binding, "used before it is bound"),
        (_bound_twice, "bound twice, the second time by"),
        (_input_twice, "bound twice, the second time by an input"),
        (_unbound_output, "an output is not bound"),
        (_wrong_shape, "sin: declared [f32[]], but the primitive infers [f32[3]]"),
        (_wrong_dtype, "sin: declared [i32[]], but the primitive infers [f32[]]"),
        (_wrong_count, "sin: declared [f32[], f32[]], but the primitive infers [f32[]]"),
        (_array_literal, "a literal is not a scalar"),
        (_inside_params, "an output is not bound"),
        (_missing_const, "0 consts for 1 constvars"),
    ],
)
def test_checker_refuses(broken, message):
    with pytest.raises(JaxprError, match=re.escape(message)):
        check_jaxpr(broken())


def test_checker_of_simplified_jaxprs_ignores_weak_types():
    x, y = Var(F32), Var(ShapedArray((), dtypes.float32, True))
    jaxpr = Jaxpr([], [x], [_eqn(SIN, [x], [y])], [y])
    check_jaxpr(jaxpr, weak_types=False)
    with pytest.raises(JaxprError, match=re.escape("sin: declared [f32[]{weak_type=True}]")):
        check_jaxpr(jaxpr)
