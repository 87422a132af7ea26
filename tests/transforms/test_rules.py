"""Rules belong to primitives or follow from what these declare: each has one for every transform, or a clear error."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.custom_batching  # noqa: F401 - declares a primitive
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.config import debug_nans
from funcgrad.core.array_types import aval_of
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Elementwise
from funcgrad.core.primitives import AxisData, ParamStyle, Primitive, Transform, registry
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.errors import BatchingError, MissingRuleError, NonFiniteError
from funcgrad.experimental import checkify, jet
from funcgrad.ops.arithmetic import mul_p
from funcgrad.ops.elementwise import elementwise
from funcgrad.testing import assert_close
from funcgrad.transforms.checkify.functionalize import CHECKIFY
from funcgrad.transforms.interpreters.partial_eval import partial_eval_jaxpr
from funcgrad.transforms.jet.trace import JET

X = np.array([[1.0, 4.0], [9.0, 16.0]], np.float32)
NAN = np.full(3, np.nan, np.float32)

WITHOUT_RULE = {
    JET: {"custom_lin"},
    CHECKIFY: {"custom_lin"},
}
"""Of higher order, and seen by no such transform: it stands in linear functions, which are only transposed."""


@pytest.mark.parametrize("transform", WITHOUT_RULE, ids=repr)
@pytest.mark.parametrize("name", sorted(registry))
def test_every_primitive_has_a_rule_or_an_error_that_names_it(name: str, transform: Transform):
    primitive = registry[name]
    if name in WITHOUT_RULE[transform]:
        with pytest.raises(MissingRuleError, match=rf"{name}: no {transform} rule[^$]*see {primitive.origin}"):
            transform.rule(primitive)
    else:
        assert callable(transform.rule(primitive)) or isinstance(transform.rule(primitive), tuple)
        assert not primitive.higher_order or transform in primitive.rules


@pytest.mark.parametrize("name", sorted(n for n, p in registry.items() if p.higher_order))
def test_every_higher_order_primitive_has_a_partial_eval_rule(name: str):
    assert registry[name].partial_eval is not None


# ---------------------------------------------------------------- new primitives, by what they declare


def own(name: str, **options) -> Primitive:
    """A primitive of users: in no table of the library."""
    return elementwise(name, **options, register=False)


scaled_root_p = own(
    "scaled_root",
    evaluate=lambda x: 2 * np.sqrt(x),
    derivative=lambda ans, x: 1 / lax.sqrt(x),
    scalar=lambda b, x: b.op("mul", b.const(2.0, x.dtype), b.op("sqrt", x)),
)
mirrored_p = own(
    "mirrored",
    evaluate=lambda x: np.array(x),
    jvp=lambda primals, tangents: (mirrored_p.bind(*primals), mirrored_p.bind(*tangents)),
    scalar=lambda b, x: x,
    moves_only=True,
)


def _applied(name: str, **rules) -> Primitive:
    """A primitive that applies the jaxpr in its param."""
    return Primitive(
        name,
        infer=lambda *avals, jaxpr: jaxpr.out_avals,
        evaluate=lambda *args, jaxpr: eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args),
        jvp=lambda primals, tangents, *, jaxpr: fg.jvp(
            lambda *xs: eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *xs), tuple(primals), tuple(tangents)
        ),
        multiple_results=True,
        higher_order=True,
        register=False,
        **rules,
    )


def _jaxpr(f) -> ClosedJaxpr:
    return trace_to_jaxpr(lambda x: [f(x)], [ShapedArray(X.shape, X.dtype)])


def test_a_new_elementwise_primitive_is_checked_for_nans():
    checked = checkify.checkify(lambda x: scaled_root_p.bind(x), errors=checkify.nan_checks)
    assert "scaled_root" in checked(-X)[0].get() and checked(X)[0].get() is None
    with debug_nans(True), pytest.raises(NonFiniteError, match="encountered in scaled_root"):
        fg.jit(lambda x: scaled_root_p.bind(x))(-X)


def test_a_new_primitive_that_moves_elements_is_not_blamed_for_a_nan():
    error, _ = checkify.checkify(lambda x: mirrored_p.bind(x), errors=checkify.nan_checks)(NAN)
    assert error.get() is None
    with debug_nans(True):
        assert np.isnan(mirrored_p.bind(NAN)).all()
        with pytest.raises(NonFiniteError):
            scaled_root_p.bind(NAN)


def test_series_of_new_primitives_follow_from_their_jvp_rules():
    series = [np.ones_like(X), np.zeros_like(X), np.zeros_like(X)]
    for own_f, known_f in ((scaled_root_p.bind, lambda x: 2 * lax.sqrt(x)), (mirrored_p.bind, lambda x: x)):
        assert JET not in scaled_root_p.rules
        for a, b in zip(jet.jet(own_f, (X,), (series,))[1], jet.jet(known_f, (X,), (series,))[1], strict=True):
            assert_close(a, b, rtol=1e-5)


def test_the_cost_of_a_new_primitive_follows_from_its_formula():
    def analysis(f):
        return fg.jit(f).lower(X).cost_analysis()

    assert analysis(lambda x: scaled_root_p.bind(x))["transcendentals"] == X.size
    assert analysis(lambda x: mirrored_p.bind(x)).get("transcendentals", 0) == 0


def test_a_new_higher_order_primitive_is_refused_by_name():
    applied_p = _applied("applied")
    call = lambda x: applied_p.bind(x, jaxpr=_jaxpr(lambda y: y * y))[0]  # noqa: E731
    assert_close(call(X), X * X)
    with pytest.raises(MissingRuleError, match=r"applied: no jet rule"):
        jet.jet(call, (X,), ([np.ones_like(X)],))
    with pytest.raises(MissingRuleError, match=r"applied: no checkify rule"):
        checkify.checkify(call)(X)
    both = trace_to_jaxpr(
        lambda x, y: applied_p.bind(mul_p.bind(x, y), jaxpr=_jaxpr(lambda z: z * z)), [aval_of(X), aval_of(X)]
    )
    pair = _applied("pair")
    split = trace_to_jaxpr(lambda x, y: pair.bind(x, y, jaxpr=both), [aval_of(X), aval_of(X)])
    with pytest.raises(MissingRuleError, match=r"pair: no partial_eval rule"):
        partial_eval_jaxpr(split, [False, True])
    with debug_nans(True), pytest.raises(MissingRuleError, match=r"applied: no debug_nans rule"):
        fg.jit(call)(X)


def test_rules_are_given_where_a_primitive_is_declared():
    rule = lambda primitive, series, params: [[x * 10 for x in series[0]]]  # noqa: E731
    tenfold_p = _applied("tenfold", rules={JET: rule})
    value, (first,) = jet.jet(
        lambda x: tenfold_p.bind(x, jaxpr=_jaxpr(lambda y: y * 10))[0], (X,), ([np.ones_like(X)],)
    )
    assert_close(value, X * 10)
    assert_close(first, np.full_like(X, 10))


def test_an_effect_that_may_not_be_repeated_keeps_vmap_from_trying_both_branches():
    counted_p = Primitive(
        "counted",
        infer=lambda x: x,
        evaluate=lambda x: x,
        batch=lambda axis, args, dims, **_: (counted_p.bind(*args), dims[0]),
        ordered_effect=True,
        register=False,
    )
    f = lambda p, x: lax.cond(p, lambda y: counted_p.bind(y), lambda y: y, x)  # noqa: E731
    with pytest.raises(BatchingError, match="a branch calls counted"):
        fg.vmap(f)(np.array([True, False]), X)


def test_a_batch_rule_gets_the_axis_of_its_own_vmap():
    axes = []

    def batch(axis, args, dims):
        axes.append((axis, tuple(dims)))
        return watched_p.bind(*args), dims[0]

    watched_p = Primitive(
        "watched", infer=lambda x, y: x, evaluate=lambda x, y: x + y, jvp=None, batch=batch, register=False
    )
    inner = fg.vmap(watched_p.bind, in_axes=(1, None), axis_name="columns")
    assert_close(fg.vmap(inner, in_axes=(0, None))(np.ones((2, 3, 4)), np.float32(2)), np.full((2, 4, 3), 3.0))
    assert axes == [(AxisData("columns", 4), (1, None)), (AxisData(None, 2), (0, None))]


def test_a_primitive_controls_how_its_params_are_printed():
    labeled_p = Primitive(
        "labeled",
        infer=lambda x, **_: x,
        evaluate=lambda x, **_: x,
        params_style=ParamStyle(hidden=lambda name, value: name == "secret", first="label"),
        register=False,
    )
    text = str(fg.make_jaxpr(lambda x: labeled_p.bind(x, axis=0, label="here", secret=1))(X))
    assert "labeled[label=here axis=0] a" in text


def test_selection_is_known_by_the_primitive_not_by_its_name():
    """An unselected NaN is not an error; a primitive with the name of the selection does not select."""
    impostor_p = own("select_n", evaluate=lambda x: np.sqrt(x), scalar="sqrt", derivative=lambda ans, x: ans)
    assert impostor_p is not registry["select_n"] and isinstance(impostor_p.lowering, Elementwise)
    with debug_nans(True):
        fg.jit(lambda x: jnp.where(x > 0, lax.sqrt(x), 0))(-X)
        with pytest.raises(NonFiniteError):
            fg.jit(lambda x: impostor_p.bind(x))(-X)
