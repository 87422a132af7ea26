"""Rules that do not fit are described: whose rule, both structures or types, the place, and the user's line."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.custom_batching import custom_vmap
from funcgrad.custom_derivatives import linear_call
from funcgrad.errors import (
    ArgumentError,
    BatchingError,
    DTypeError,
    LeakedTracerError,
    MissingRuleError,
    NotDifferentiableError,
    ShapeError,
)

F32 = np.float32
X = F32([0.3, -0.7, 1.2])


def _jvp_of(rule, out=lambda x: {"a": x * 2.0}):
    def f(x):
        return out(x)

    function = fg.custom_jvp(f)
    function.defjvp(rule)
    return lambda x: fg.jvp(fg.jit(function), (x,), (1.0,))


def _vjp_of(fwd, bwd, transform=lambda f: fg.vjp(fg.jit(f), {"w": 1.0}, 2.0)[1](1.0)):
    def g(params, x):
        return params["w"] * x

    function = fg.custom_vjp(g)
    function.defvjp(fwd, bwd)
    return transform(function)


def _fwd(params, x):
    return params["w"] * x, None


WRONG_JVP = {
    "no pair": (
        lambda p, t: p[0],
        ArgumentError,
        r"custom_jvp: the rule <lambda> of f must return a pair \(value, tangent\), it returned "
        r"JaxprTracer<.*> of type JaxprTracer",
    ),
    "three": (
        lambda p, t: (p[0], t[0], t[0]),
        ArgumentError,
        r"must return a pair \(value, tangent\), it returned 3 values",
    ),
    "arguments": (
        lambda p: p,
        ArgumentError,
        r"does not take the 2 arguments that it gets: too many positional.*\n.*\n?.*rules of this kind take "
        r"\(\*nondiff arguments, primals, tangents\)",
    ),
    "structures": (
        lambda p, t: ({"a": p[0]}, t[0]),
        ArgumentError,
        r"different structures: value is a dict of keys \['a'\], tangent a leaf\n    value: PyTreeDef",
    ),
    "not the function's structure": (
        lambda p, t: (p[0], t[0]),
        ArgumentError,
        r"another structure than f does: the rule's value is a leaf, the function's a "
        r"dict of keys \['a'\]\n    the rule: f32\[\]\n    f: \{'a': f32\[\]\}",
    ),
    "not the function's shape": (
        lambda p, t: ({"a": fnp.ones(3)}, {"a": fnp.ones(3)}),
        ShapeError,
        r"returned a value of type f32\[3\] at \['a'\], where f returns f32\[\]\n    the "
        r"rule: \{'a': f32\[3\]\}\n    f: \{'a': f32\[\]\}",
    ),
    "not the function's dtype": (
        lambda p, t: ({"a": 1}, {"a": t[0]}),
        DTypeError,
        r"returned a value of type i32\[\] at \['a'\], where f returns f32\[\]",
    ),
    "shape": (
        lambda p, t: ({"a": p[0]}, {"a": fnp.ones(3)}),
        ShapeError,
        r"returned a tangent of type f32\[3\] at \['a'\] for a value of type f32\[\], whose "
        r"tangents have type f32\[\]",
    ),
    "dtype": (lambda p, t: ({"a": p[0]}, {"a": 1}), DTypeError, r"returned a tangent of type i32\[\] at \['a'\]"),
    "no array": (
        lambda p, t: ({"a": "x"}, {"a": t[0]}),
        ArgumentError,
        r"the rule <lambda> of f returned 'x' of type str at \['a'\], which is not an array",
    ),
}


@pytest.mark.parametrize("name", WRONG_JVP)
def test_wrong_forward_mode_rules_are_described(name):
    rule, error, message = WRONG_JVP[name]
    with pytest.raises(error, match=message) as caught:
        _jvp_of(rule)(2.0)
    assert isinstance(caught.value, TypeError) and "test_custom_rule_errors.py" in str(caught.value)


WRONG_VJP = {
    "no pair": (
        lambda params, x: x,
        lambda r, ct: (None, None),
        ArgumentError,
        r"custom_vjp: the forward rule <lambda> of g must return a pair \(value, residuals\), it returned ",
    ),
    "forward arguments": (
        lambda x: (x, x),
        lambda r, ct: (None, None),
        ArgumentError,
        r"forward rule <lambda> of g does not take the 2 arguments",
    ),
    "forward structure": (
        lambda params, x: (params, x),
        lambda r, ct: (None, None),
        ArgumentError,
        r"another structure than g does: .*\n    the rule: \{'w': f32\[\]\}\n    g: f32\[\]",
    ),
    "residuals": (
        lambda params, x: (x, "x"),
        lambda r, ct: (None, None),
        ArgumentError,
        r"\(residuals\) returned 'x' of type str at its result, which is not an array",
    ),
    "backward arguments": (
        _fwd,
        lambda ct: (None, None),
        ArgumentError,
        r"backward rule <lambda> of g does not take the 2 arguments that it gets",
    ),
    "no tuple": (
        _fwd,
        lambda r, ct: ct,
        ArgumentError,
        r"must return a tuple with one cotangent per argument, 2 of them; it returned a JaxprTracer\n"
        r"    arguments: PyTreeDef\(\(\{'w': \*\}, \*\)\)\n    returned: PyTreeDef\(\*\)",
    ),
    "too few": (
        _fwd,
        lambda r, ct: (ct,),
        ArgumentError,
        r"one cotangent per argument, 2 of them; it returned 1 values",
    ),
    "structure": (
        _fwd,
        lambda r, ct: ({"v": ct}, ct),
        ArgumentError,
        r"another structure than the arguments have: the result\[0\] is a dict with key 'v', the "
        r"arguments\[0\] a dict with key 'w'\n    arguments: .*\n    returned: ",
    ),
    "shape": (
        _fwd,
        lambda r, ct: ({"w": fnp.ones(3)}, ct),
        ShapeError,
        r"returned a cotangent of type f32\[3\] at \[0\]\['w'\] of its result, for an argument of type f32\[\]",
    ),
    "dtype": (
        _fwd,
        lambda r, ct: ({"w": ct + 1j}, ct),
        DTypeError,
        r"returned a cotangent of type c64\[\] at \[0\]\['w'\] of its result",
    ),
    "no array": (
        _fwd,
        lambda r, ct: ({"w": "x"}, ct),
        ArgumentError,
        r"returned 'x' of type str at \[0\]\['w'\] of its result, which is not an array",
    ),
}


@pytest.mark.parametrize("name", WRONG_VJP)
def test_wrong_reverse_mode_rules_are_described(name):
    fwd, bwd, error, message = WRONG_VJP[name]
    with pytest.raises(error, match=message) as caught:
        _vjp_of(fwd, bwd)
    assert isinstance(caught.value, TypeError) and "test_custom_rule_errors.py" in str(caught.value)


def test_cotangents_of_other_precisions_are_cast():
    back = _vjp_of(_fwd, lambda r, ct: ({"w": fnp.bfloat16(3)}, 2))
    assert back[0]["w"].dtype == back[1].dtype == F32 and (float(back[0]["w"]), float(back[1])) == (3, 2)


def _mapped(rule):
    function = custom_vmap(lambda x: (x, x))
    function.def_vmap(rule)
    return fg.vmap(function)(X)


@pytest.mark.parametrize(
    "rule, error, message",
    [
        (lambda n, b, x: x, ArgumentError, r"the rule <lambda> of <lambda> must return a pair \(results, which"),
        (lambda n, b, x: ((x, x), True), ArgumentError, r"its flags have another structure than its results: "),
        (lambda n, b, x: (x, True), ArgumentError, r"its results have another structure than those of <lambda>"),
        (lambda n, b, x: ((x, x[:2]), (True, True)), BatchingError, r"returned f32\[2\] as a batch of 3"),
        (lambda n, x: x, ArgumentError, r"does not take the 3 arguments that it gets"),
    ],
)
def test_wrong_rules_for_vmap_are_described(rule, error, message):
    with pytest.raises(error, match=message):
        _mapped(rule)


def test_batching_rules_do_not_receive_closed_over_values():
    def scaled(s):
        f = custom_vmap(lambda x: x * s)
        f.def_vmap(lambda axis_size, in_batched, x: (x, True))
        return f(2.0)

    with pytest.raises(BatchingError, match="custom_vmap: <lambda> closes over a value that is mapped"):
        fg.vmap(scaled)(X)


@pytest.mark.parametrize(
    "decorator, method",
    [(fg.custom_jvp, "defjvp"), (fg.custom_vjp, "defvjp"), (custom_vmap, "def_vmap")],
    ids=["custom_jvp", "custom_vjp", "custom_vmap"],
)
def test_a_missing_rule_is_named(decorator, method):
    def lonely(x):
        return x

    function = decorator(lonely)
    with pytest.raises(
        MissingRuleError, match=rf"lonely has no rule\n.*\n  fix: define one with lonely\.{method}\(…\)"
    ):
        function(1.0)
    with pytest.raises(ArgumentError, match="3 is not callable"):
        decorator(3)


def test_closed_over_values_are_not_differentiated():
    def times(decorator, y):
        f = decorator(lambda x: x * y)
        if decorator is fg.custom_jvp:
            f.defjvp(lambda p, t: (p[0] * y, t[0] * y))
        else:
            f.defvjp(lambda x: (x * y, None), lambda _, ct: (ct * y,))
        return f

    for decorator, argument in itertools.product((fg.custom_jvp, fg.custom_vjp), (lambda y: 3.0, lambda y: 3.0 * y)):
        with pytest.raises(LeakedTracerError, match=r"(?s)closes over a traced value of type f32\[\].*closure_convert"):
            fg.grad(lambda y: times(decorator, y)(argument(y)))(2.0)  # noqa: B023
    with pytest.raises(
        NotDifferentiableError, match="custom_vjp: <lambda> closes over a value of type f32.* differentiated"
    ):
        fg.grad(lambda y: fg.jit(times(fg.custom_vjp, y))(3.0))(2.0)


def test_arguments_are_checked():
    f = fg.custom_jvp(lambda x, *, scale=2.0: x * scale)
    f.defjvp(lambda p, t: (p[0], t[0]))
    assert f(1.0) == 2.0
    with pytest.raises(ArgumentError, match=r"keyword arguments \['scale'\] have no position"):
        f(1.0, scale=3.0)
    with pytest.raises(ArgumentError, match=r"do not fit its signature: got an unexpected keyword argument 'y'"):
        f(1.0, y=3.0)
    with pytest.raises(ArgumentError, match=r"<lambda>: args\[0\] is 'a' of type str, which is not an array"):
        f("a")
    with pytest.raises(
        ArgumentError, match=r"nondiff_argnames has 'n', which is not a parameter; parameters are \['x'\]"
    ):
        fg.custom_vjp(lambda x: x, nondiff_argnames=("n",))
    g = fg.custom_vjp(lambda x: x, nondiff_argnums=(1,))
    g.defvjp(lambda x: x, lambda x: x)
    with pytest.raises(ArgumentError, match=r"nondiff_argnums has 1, but <lambda> was called with 1 arguments"):
        g(1.0)
    with pytest.raises(ArgumentError, match="optimize_remat and symbolic_zeros exclude each other"):
        g.defvjp(None, None, symbolic_zeros=True, optimize_remat=True)
    h = fg.custom_jvp(lambda x, y: x, nondiff_argnums=(1,))
    with pytest.raises(ArgumentError, match="has nondiff_argnums, which rules for single arguments do not get"):
        h.defjvps(None)
    two = fg.custom_jvp(lambda x, y: x)
    two.defjvps(None)
    with pytest.raises(ArgumentError, match="has 1 rules for 2 arguments"):
        fg.grad(two)(1.0, 2.0)


def test_traced_arrays_are_no_nondiff_arguments_of_reverse_rules():
    f = fg.custom_vjp(lambda x, n: x * n, nondiff_argnums=(1,))
    f.defvjp(lambda x, n: (x * n, None), lambda n, _, ct: (ct * n,))
    message = (
        r"argument 1 of <lambda> is in nondiff_argnums, but is a traced array of type i32\[\].*\(it is argument n of"
    )
    with pytest.raises(LeakedTracerError, match=message):
        fg.jit(lambda x, n: f(x, n))(2.0, 3)
    stopped = fg.custom_jvp(lambda x, n: x * n, nondiff_argnums=(1,))
    stopped.defjvp(lambda n, p, t: (p[0] * n, t[0] * n))
    assert [float(g) for g in fg.grad(lambda x, n: stopped(x, n), (0, 1))(2.0, 3.0)] == [3, 0]


def test_converted_closures_and_linear_calls_check_their_arguments():
    converted, values = fg.closure_convert(lambda pair: pair[0] * pair[1], (1.0, 2.0))
    assert values == [] and converted((2.0, 3.0)) == 6
    with pytest.raises(
        ArgumentError, match=r"converted for arguments of another structure: the example\[0\]\[0\] is a tuple"
    ):
        converted([2.0, 3.0])
    wrong = lambda t: fg.grad(lambda x: linear_call(lambda r, x: x * r, t, 2.0, x))(1.0)  # noqa: E731
    with pytest.raises(
        ArgumentError, match=r"linear_call: fun_transpose returned PyTreeDef\(\(\*, \*\)\), but linear_args"
    ):
        wrong(lambda r, ct: (ct, ct))
    with pytest.raises(
        ShapeError, match=r"fun_transpose returned a cotangent of type f32\[3\].* for an argument of type f32"
    ):
        wrong(lambda r, ct: fnp.ones(3))
    with pytest.raises(NotDifferentiableError, match="linear_call: a residual is differentiated"):
        fg.grad(lambda r: linear_call(lambda r, x: x * r, lambda r, ct: ct * r, r, 1.0))(2.0)
    pair = fg.custom_gradient(lambda x: x)
    with pytest.raises(ArgumentError, match=r"custom_gradient: <lambda> must return a pair \(value, pullback\)"):
        pair(1.0)
