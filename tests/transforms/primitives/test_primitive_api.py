"""primitive: rules that are given are obeyed, rules that are not are derived, and what is missing or wrong is named."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors
from funcgrad.core.lowering import Elementwise
from funcgrad.core.primitives import registry
from funcgrad.testing import check_grads, check_jit, check_vmap, laws
from funcgrad.transforms.primitives import declare

X = np.float32([-2.0, -0.5, 0.25, 1.0, 3.0])
ROWS = np.stack([X, X + 1, 2 * X])


@pytest.fixture(autouse=True)
def _own_names():
    """Names are taken for the length of a test."""
    before = dict(declare._declared)
    yield
    declare._declared.clear()
    declare._declared.update(before)


def softsign_formula(build, x):
    return build.op("div", x, build.op("add", build.const(1, x.dtype), build.op("abs", x)))


def by_formula():
    return fg.primitive(
        "softsign",
        evaluate=lambda x: x / (1 + np.abs(x)),
        derivative=lambda ans, x: (1 - abs(ans)) ** 2,
        scalar=softsign_formula,
    )


def by_value():
    return fg.primitive(
        "softsign", evaluate=lambda x: x / (1 + np.abs(x)), derivative=lambda ans, x: (1 - abs(ans)) ** 2
    )


def by_expansion():
    return fg.primitive("softsign", expand=lambda x: x / (1 + abs(x)))


def by_expansion_with_jvp():
    softsign = fg.primitive(
        "softsign",
        expand=lambda x: x / (1 + abs(x)),
        jvp=lambda primals, tangents: (softsign(primals[0]), tangents[0] / (1 + abs(primals[0])) ** 2),
    )
    return softsign


def by_rules():
    softsign = fg.primitive(
        "softsign",
        shape=lambda x: x,
        evaluate=lambda x: x / (1 + np.abs(x)),
        jvp=(lambda t, ans, x: t * (1 - abs(ans)) ** 2,),
    )
    return softsign


def by_rules_and_lowering():
    softsign = fg.primitive(
        "softsign",
        shape=lambda x: x,
        evaluate=lambda x: x / (1 + np.abs(x)),
        jvp=(lambda t, ans, x: t * (1 - abs(ans)) ** 2,),
        batch=lambda args, dims: (softsign(*args), dims[0]),
        lowering=lambda x: x / (1 + abs(x)),
    )
    return softsign


WAYS = (by_formula, by_value, by_expansion, by_expansion_with_jvp, by_rules, by_rules_and_lowering)


@pytest.mark.parametrize("declare_softsign", WAYS)
def test_one_operation_declared_in_any_way_is_the_same(declare_softsign):
    softsign = declare_softsign()
    value, slope = X / (1 + np.abs(X)), 1 / (1 + np.abs(X)) ** 2
    np.testing.assert_allclose(softsign(X), value, rtol=1e-6)
    for transform in (lambda f: f, fg.jit):
        np.testing.assert_allclose(transform(softsign)(X), value, rtol=1e-6)
        np.testing.assert_allclose(transform(fg.vmap(softsign))(X), value, rtol=1e-6)
        np.testing.assert_allclose(transform(fg.vmap(fg.grad(softsign)))(X), slope, rtol=1e-5)
        np.testing.assert_allclose(transform(fg.grad(lambda x, f=softsign: fg.vmap(f)(x).sum()))(X), slope, rtol=1e-5)
    check_grads(softsign, (X,), order=2)
    check_vmap(softsign, (ROWS,))
    check_jit(softsign, (ROWS,))


@pytest.mark.parametrize("declare_softsign", WAYS)
@pytest.mark.parametrize("law", laws.LAWS)
def test_laws_hold(declare_softsign, law: str):
    with fg.enable_x64():
        laws.LAWS[law](declare_softsign().primitive, (np.float64([[-2.0, 0.5], [1.0, 3.0]]),), {})


def running_sum(**rules):
    op = fg.primitive(
        "running_sum",
        shape=lambda x: x,
        evaluate=lambda x: np.cumsum(x, dtype=x.dtype),
        transpose=lambda ct, x: op_reversed(op, ct),
        **rules,
    )
    return op


def op_reversed(op, ct):
    return op(ct[::-1])[::-1]


def test_a_transpose_rule_makes_an_operation_linear():
    op = running_sum()
    check_grads(lambda x: op(x) ** 2, (X,), order=2)
    check_grads(lambda x: fg.vmap(fg.vmap(op))(x) ** 2, (np.ones((2, 2, 3), np.float32),), order=2)
    (back,) = fg.linear_transpose(op, X)(np.ones(5, np.float32))
    assert back.tolist() == [5, 4, 3, 2, 1]


def test_without_a_batch_rule_the_operation_is_mapped():
    op = running_sum()
    assert "vmap(running_sum)" in str(fg.make_jaxpr(fg.vmap(op))(ROWS))
    assert "vmap(vmap(running_sum))" in str(fg.make_jaxpr(fg.vmap(fg.vmap(op)))(ROWS[None]))
    np.testing.assert_allclose(fg.jit(fg.vmap(op, 1, 1))(ROWS), np.cumsum(ROWS, 0), rtol=1e-6)
    assert fg.vmap(op)(np.ones((0, 3), np.float32)).shape == (0, 3)
    assert "vmap(running_sum)" not in registry


def test_lanes_that_share_an_operand_add_their_cotangents():
    scale = fg.primitive(
        "scale",
        shape=lambda a, x: x,
        evaluate=lambda a, x: a * x,
        jvp=(lambda t, ans, a, x: scale(t, x), lambda t, ans, a, x: scale(a, t)),
        transpose=lambda ct, a, x: (
            (ct * x).sum() if isinstance(a, fg.ShapeDtypeStruct) else None,
            a * ct if isinstance(x, fg.ShapeDtypeStruct) else None,
        ),
    )

    def loss(a, x):
        return fg.vmap(scale, (None, 0))(a, x).sum()

    for f in (loss, fg.jit(loss)):
        da, dx = fg.grad(f, (0, 1))(np.float32(3), ROWS)
        np.testing.assert_allclose(da, ROWS.sum(), rtol=1e-6)
        np.testing.assert_allclose(dx, np.full_like(ROWS, 3))
    check_grads(loss, (np.float32(3), ROWS), order=2)


def test_several_results():
    moments = fg.primitive(
        "moments",
        shape=lambda x: (fg.ShapeDtypeStruct((), x.dtype), fg.ShapeDtypeStruct((), "int32")),
        evaluate=lambda x: (x.mean(), np.int32(x.size)),
        jvp=lambda primals, tangents: (moments(*primals), (tangents[0].mean(), None)),
        multiple_results=True,
    )
    mean, count = fg.jit(fg.vmap(moments))(ROWS)
    np.testing.assert_allclose(mean, ROWS.mean(1), rtol=1e-6)
    assert count.tolist() == [5, 5, 5]
    check_grads(lambda x: moments(x)[0], (X,), order=2)
    check_grads(lambda x: fg.vmap(moments)(x)[0], (ROWS,), order=2)


def test_an_expansion_with_several_results_and_parameters():
    halves = fg.primitive("halves", expand=lambda x, *, at: (x[:at], x[at:]), multiple_results=True)
    check_grads(lambda x: halves(x, at=2)[1] ** 2, (X,), order=2)
    left, right = fg.jit(fg.vmap(lambda x: halves(x, at=2)))(ROWS)
    assert left.shape == (3, 2) and right.shape == (3, 3)
    (back,) = fg.linear_transpose(lambda x: halves(x, at=2)[0], X)(np.ones(2, np.float32))
    assert back.tolist() == [1, 1, 0, 0, 0]
    assert "halves[at=2]" in str(fg.make_jaxpr(lambda x: halves(x, at=2))(X))


def test_custom_derivatives_survive_vmap():
    """The derivative is another function's on purpose: what is asked for is used."""
    op = fg.primitive("steep", expand=lambda x: x * 1, jvp=lambda primals, tangents: (op(*primals), 7 * tangents[0]))
    for f in (fg.vmap(fg.grad(op)), fg.grad(lambda x: fg.vmap(op)(x).sum()), fg.jit(fg.vmap(fg.grad(op)))):
        assert f(X).tolist() == [7.0] * 5


def test_elementwise_operands_are_promoted_and_broadcast():
    hypotenuse = fg.primitive(
        "hypotenuse", evaluate=np.hypot, derivative=(lambda ans, x, y: x / ans, lambda ans, x, y: y / ans)
    )
    np.testing.assert_allclose(hypotenuse(X[:, None], X), np.hypot(X[:, None], X), rtol=1e-6)
    assert hypotenuse(X, 1).dtype == np.float32 and hypotenuse(3.0, 4.0).weak_type
    check_grads(lambda x, y: hypotenuse(x[:, None], y), (X, X), order=2)
    with pytest.raises(errors.ShapeError, match=r"hypotenuse: operands f32\[5\], f32\[2\] do not broadcast"):
        hypotenuse(X, X[:2])
    with pytest.raises(errors.ArgumentError, match="hypotenuse: takes 2 operands, got 1"):
        hypotenuse(X)
    with pytest.raises(errors.DTypeError, match="hypotenuse takes float operands"):
        hypotenuse(np.arange(3), np.arange(3))


def test_a_formula_fuses_with_its_neighbors():
    softsign = by_formula()
    text = fg.jit(lambda x: 3 * softsign(x) + 1).lower(X).as_text("program")
    assert text.startswith("arena 0 bytes, 1 instructions")
    assert softsign.primitive.lowering == Elementwise(softsign_formula)


def test_in_loops_and_branches():
    softsign = by_rules()
    want = X
    for _ in range(4):
        want = want / (1 + np.abs(want))
    np.testing.assert_allclose(
        fg.jit(lambda x: fg.lax.fori_loop(0, 4, lambda i, v: softsign(v), x))(X), want, rtol=1e-6
    )
    chosen = fg.jit(lambda x: fg.lax.cond(x[0] < 0, softsign, lambda x: x, x))
    np.testing.assert_allclose(chosen(X), X / (1 + np.abs(X)), rtol=1e-6)


# ---------------------------------------------------------------- names


def test_a_name_is_taken_once_unless_replaced():
    first = by_rules()
    with pytest.raises(errors.ArgumentError, match=r"'softsign' is declared already, at test_primitive_api.py:\d+ in"):
        by_rules()
    second = fg.primitive("softsign", expand=lambda x: x * 10, replace=True)

    def both(x):
        return first(x), second(x)

    a, b = fg.jit(both)(X)
    np.testing.assert_allclose(b / a, 10 * (1 + np.abs(X)), rtol=1e-6)


@pytest.mark.parametrize("name, part", [("sin", "name of an operation of funcgrad"), ("not a name", "is not a name")])
def test_names_that_cannot_be(name, part):
    with pytest.raises(errors.ArgumentError, match=part):
        fg.primitive(name, expand=lambda x: x)


# ---------------------------------------------------------------- what is missing or wrong


def bare(**rules):
    return fg.primitive("bare", **({"shape": lambda x: x, "evaluate": lambda x: x} | rules))


def returning(value):
    return lambda *_: value


BAD = {
    "no shape": (errors.ArgumentError, lambda: fg.primitive("bare", evaluate=np.sin), ["no shape rule", "expand="]),
    "no evaluate": (errors.ArgumentError, lambda: fg.primitive("bare", shape=lambda x: x), ["no evaluate rule"]),
    "elementwise without value": (
        errors.ArgumentError,
        lambda: fg.primitive("bare", scalar="sin"),
        ["no evaluate rule", "elementwise"],
    ),
    "elementwise with shape": (
        errors.ArgumentError,
        lambda: fg.primitive("bare", scalar="sin", evaluate=np.sin, shape=lambda x: x),
        ["shape= does not go with an elementwise operation"],
    ),
    "no jvp": (errors.MissingRuleError, lambda: fg.grad(lambda x: bare()(x).sum())(X), ["bare: no jvp rule", "jvp="]),
    "no derivative": (
        errors.MissingRuleError,
        lambda: fg.grad(fg.primitive("bare", elementwise=True, evaluate=np.sin))(1.0),
        ["bare: no derivative rule"],
    ),
    "no transpose": (errors.MissingRuleError, lambda: fg.linear_transpose(bare(), X)(X), ["bare: no transpose rule"]),
    "elementwise with batch": (
        errors.ArgumentError,
        lambda: fg.primitive("bare", scalar="sin", evaluate=np.sin, batch=lambda args, dims: (args, dims)),
        ["batch= does not go with an elementwise operation"],
    ),
    "linear in which": (
        errors.MissingRuleError,
        lambda: fg.jvp(bare(shape=lambda x, y: x, transpose=returning((X, X))), (X, X), (X, X)),
        ["bare: no jvp rule"],
    ),
    "shape of the value": (
        errors.ShapeError,
        lambda: bare(evaluate=lambda x: x[:2])(X),
        ["evaluate returned an array of shape (2,)", "f32[5]"],
    ),
    "dtype of the value": (
        errors.DTypeError,
        lambda: bare(evaluate=lambda x: x.astype("float64"))(X),
        ["evaluate returned float64", "f32[5]", ".astype('float32')"],
    ),
    "value inside jit": (errors.ShapeError, lambda: fg.jit(bare(evaluate=lambda x: x[:2]))(X), ["of shape (2,)"]),
    "type rule": (
        errors.ArgumentError,
        lambda: bare(shape=lambda x: "f32")(X),
        ["the shape rule returned 'f32' of type str", "ShapeDtypeStruct"],
    ),
    "types, not type": (
        errors.ArgumentError,
        lambda: bare(shape=lambda x: (x, x))(X),
        ["returned a tuple of 2", "multiple_results=True"],
    ),
    "type, not types": (
        errors.ArgumentError,
        lambda: bare(multiple_results=True)(X),
        ["the shape rule returned one ShapedArray", "return a tuple"],
    ),
    "number of values": (
        errors.ArgumentError,
        lambda: bare(multiple_results=True, shape=lambda x: (x, x), evaluate=lambda x: (x,))(X),
        ["evaluate returned a tuple of 1, but there are 2 results"],
    ),
    "tangent's shape": (
        errors.ShapeError,
        lambda: fg.jvp(bare(jvp=returning((X, X[:2]))), (X,), (X,)),
        ["the jvp rule returned a tangent of type f32[2]", "f32[5]"],
    ),
    "tangent's dtype": (
        errors.DTypeError,
        lambda: fg.jvp(bare(jvp=returning((X, X.astype("float16")))), (X,), (X,)),
        ["the jvp rule returned a tangent of type f16[5]", "f32[5]"],
    ),
    "jvp's pair": (
        errors.ArgumentError,
        lambda: fg.jvp(bare(jvp=returning(X)), (X,), (X,)),
        ["the jvp rule returned", "a pair"],
    ),
    "terms of jvp": (
        errors.ArgumentError,
        lambda: fg.jvp(bare(jvp=(None, None)), (X,), (X,)),
        ["jvp has 2 terms, the operation has 1 operands"],
    ),
    "cotangents": (
        errors.ArgumentError,
        lambda: fg.linear_transpose(bare(transpose=returning((X, X))), X)(X),
        ["the transpose rule returned 2 cotangents, the operation has 1"],
    ),
    "cotangent's shape": (
        errors.ShapeError,
        lambda: fg.linear_transpose(bare(transpose=returning(X[:2])), X)(X),
        ["the transpose rule returned a cotangent of type f32[2]"],
    ),
    "lowering's type": (
        errors.ShapeError,
        lambda: fg.jit(bare(lowering=lambda x: x[:2]))(X),
        ["the lowering rule returned a result of type f32[2]", "f32[5]"],
    ),
    "expansion's structure": (
        errors.ArgumentError,
        lambda: fg.primitive("bare", expand=lambda x: (x, x))(X),
        ["expand returned a tuple", "multiple_results=True"],
    ),
    "array as parameter": (
        errors.StaticArgumentError,
        lambda: bare()(X, n=fnp.ones(2)),
        ["parameter n= of type Array"],
    ),
    "not an array": (errors.ArgumentError, lambda: bare()([1.0]), ["of type list is not an array"]),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_rule_and_the_types(name):
    kind, action, parts = BAD[name]
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    for part in [*parts, "test_primitive_api.py:", "\n  fix: "]:
        assert part in message, message


def test_errors_of_missing_rules_show_where_the_operation_is_declared():
    with pytest.raises(errors.MissingRuleError, match=r"see test_primitive_api.py:\d+ in bare"):
        fg.grad(lambda x: bare()(x).sum())(X)
