"""Every registered primitive keeps every law, and the checks themselves notice what is wrong."""

from __future__ import annotations

import importlib
import itertools
import os
import pkgutil

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

import funcgrad.numpy as jnp
import funcgrad.ops
import funcgrad.transforms
from funcgrad import dtypes
from funcgrad.config import enable_x64
from funcgrad.core.avals import ShapedArray
from funcgrad.core.primitives import Primitive, registry
from funcgrad.lax import scan
from funcgrad.ops.arithmetic import mul_p, sin_p
from funcgrad.ops.casts import stop_gradient_p
from funcgrad.ops.elementwise import elementwise
from funcgrad.testing import assert_close, check_grads, check_jit, check_jvp_vjp, check_vmap, laws
from funcgrad.testing.calls import CALLS, DISCRETE, DOUBLE, WITHOUT_LAWS, Call, calls, calls_of
from funcgrad.testing.strategies import POSITIVE, arrays, fill, pytrees, shapes

for _package in (funcgrad.ops, funcgrad.transforms):
    for _module in pkgutil.walk_packages(_package.__path__, _package.__name__ + "."):
        importlib.import_module(_module.name)
PRIMITIVES = sorted(registry)
EXAMPLES = int(os.environ.get("FUNCGRAD_FUZZ_EXAMPLES", "10"))


def test_every_primitive_has_a_strategy():
    missing = [name for name in PRIMITIVES if name not in {**CALLS, **WITHOUT_LAWS}]
    assert not missing, f"add strategies to funcgrad/testing/calls/ for: {', '.join(missing)}"


@pytest.mark.parametrize("law", laws.LAWS)
@pytest.mark.parametrize("name", [n for n in PRIMITIVES if n in CALLS])
def test_law(name: str, law: str):
    within = DOUBLE if law in laws.NEED_DOUBLE else dtypes.ALL

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(call=calls_of(name, within))
    def holds(call: Call):
        with enable_x64():
            laws.LAWS[law](*call)

    holds()


@pytest.mark.slow
@settings(max_examples=5000)
@given(st.sampled_from(sorted(laws.LAWS)), st.data())
def test_laws_on_any_call(law: str, data: st.DataObject):
    within = DOUBLE if law in laws.NEED_DOUBLE else dtypes.ALL
    call = data.draw(calls(within))
    with enable_x64():
        laws.LAWS[law](*call)


DIFFERENTIABLE = [n for n in PRIMITIVES if n in CALLS and registry[n].modes and n not in DISCRETE]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_float_operands_are_drawn(name: str):
    """The laws of derivatives skip calls without float operands, so strategies must draw others."""
    with enable_x64():
        find(
            calls_of(name, DOUBLE),
            lambda call: any(dtypes.is_inexact(np.asarray(x).dtype) and np.size(x) for x in call.args),
            settings=settings(
                max_examples=200,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )


# ---------------------------------------------------------------- the checks notice what is wrong


def _square(name: str, **wrong):
    """A correct squaring primitive, some of whose rules are replaced."""
    rules = {
        "infer": lambda x: x,
        "evaluate": np.square,
        "jvp": lambda primals, tangents: (rules_of[0].bind(*primals), tangents[0] * primals[0] * 2.0),
        "batch": lambda axis, args, dims: (rules_of[0].bind(*args), dims[0]),
    }
    rules_of = [Primitive(name, **(rules | wrong))]
    del registry[name]
    return rules_of[0]


X = np.array([[1.0, 2.0], [3.0, 4.0]])
_count = itertools.count()
MISTAKES = {
    "types": ({"infer": lambda x: ShapedArray((*x.shape, 1), x.dtype)}, "infer returns f64"),
    "derivative": (
        {"jvp": lambda primals, tangents: (mul_p.bind(*primals * 2), tangents[0] * primals[0])},
        "finite difference",
    ),
    "adjoint": (
        {"jvp": lambda primals, tangents: (mul_p.bind(*primals * 2), _bad_linear.bind(tangents[0]))},
        "not the adjoint",
    ),
    "second_order": (
        {"jvp": lambda primals, tangents: (mul_p.bind(*primals * 2), tangents[0] * _as_constant(primals[0]) * 2.0)},
        "finite difference",
    ),
    "vectorization": ({"batch": lambda axis, args, dims: (mul_p.bind(args[0], args[0]), 0)}, "values differ"),
    "round_trip": ({"evaluate": lambda x: x * next(_count)}, "its jaxpr and eager"),
}

_bad_linear = elementwise(
    "bad_linear",
    lambda x: x * 3.0,
    jvp=lambda p, t: (_bad_linear.bind(*p), _bad_linear.bind(*t)),
    transpose=lambda ct, x: [ct * 2.0],
)
del registry["bad_linear"]


def _as_constant(x):
    return stop_gradient_p.bind(x)


@pytest.mark.parametrize("law", laws.LAWS)
def test_a_correct_primitive_keeps_the_law(law: str):
    with enable_x64():
        laws.LAWS[law](_square("own_square"), (X,), {})


@pytest.mark.parametrize("law", MISTAKES)
def test_a_wrong_rule_breaks_its_law(law: str):
    wrong, message = MISTAKES[law]
    with enable_x64(), pytest.raises(AssertionError, match=message):
        laws.LAWS[law](_square("wrong_square", **wrong), (X,), {})


def test_check_grads_notices_a_kink_and_names_the_function():
    def broken(x):
        return mul_p.bind(x, _as_constant(x))

    with pytest.raises(AssertionError, match=r"jvp\(broken\) and finite difference.*values differ at index \(\)"):
        check_grads(broken, (2.0,))
    with pytest.raises(AssertionError, match=r"vjp\(broken\): ⟨Jᵀu, v⟩"):
        check_grads(broken, (2.0,), modes=("rev",))
    check_grads(lambda x: mul_p.bind(sin_p.bind(x), x), (2.0,), order=3)


def test_check_grads_takes_trees_and_integers():
    def loss(params, n):
        return mul_p.bind(params["w"], params["b"][0]), n

    check_grads(loss, ({"w": np.float32(2), "b": [np.float32(3)]}, np.int32(1)), order=2)


def test_check_vmap_notices_a_wrong_batch():
    seen = []

    def impure(x):
        seen.append(0)
        return x * float(len(seen))

    with pytest.raises(AssertionError, match="vmap with in_axes=0 and the loop"):
        check_vmap(impure, (np.ones((3, 2), np.float32),))


def test_check_jit_notices_impurity():
    seen = []

    def impure(x):
        seen.append(0)
        return x * float(len(seen))

    with pytest.raises(AssertionError, match="jit and eager"):
        check_jit(impure, (np.ones(2, np.float32),))


def test_check_jvp_vjp_holds_at_kinks():
    check_jvp_vjp(lambda x: registry["max"].bind(x, np.float32(0)), (np.zeros(3, np.float32),))


def _scanned(x, c):
    return scan(lambda c, x: (jnp.sin(c * x) + x, c * x), c, x)


@pytest.mark.parametrize("dtype", [dtypes.bfloat16, dtypes.float16, dtypes.float32])
def test_check_jvp_vjp_allows_the_roundoff_of_the_dtype(dtype):
    """Differences in bfloat16 reach 1.03e-3 of the terms, which float32 never does."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        check_jvp_vjp(_scanned, (rng.standard_normal(3).astype(dtype), rng.standard_normal(()).astype(dtype)))


@pytest.mark.parametrize("dtype", [dtypes.bfloat16, dtypes.float16, dtypes.float32])
def test_check_jvp_vjp_notices_a_wrong_transpose_in_every_dtype(dtype):
    with pytest.raises(AssertionError, match="not the adjoint"):
        check_jvp_vjp(_bad_linear.bind, (np.ones(3, dtype),))


@pytest.mark.parametrize(
    "a, b, message",
    [
        (
            np.float32([1, 2]),
            np.float32([1, 3]),
            r"values: values differ at index \(1,\): 2.0 and 3.0 \(1 of 2 elements, f32\[2\]\)",
        ),
        (np.float32(1), np.int32(1), r"types differ: f32\[\] and i32\[\]"),
        ([np.float32(1)], (np.float32(1),), "structures differ"),
        ({"w": np.uint8(3)}, {"w": np.uint8(250)}, r"values \['w'\]: values differ"),
        (np.float32(np.nan), np.float32(0), "values differ"),
        (np.float32(np.inf), np.float32(-np.inf), "values differ"),
        (np.float32(np.inf), np.float32(1), "values differ"),
    ],
)
def test_assert_close_names_the_place(a, b, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(a, b)


@given(pytrees())
def test_assert_close_is_reflexive(tree):
    assert_close(tree, tree, rtol=0, atol=0)


def test_nan_and_infinity_equal_themselves():
    special = np.float32([np.nan, np.inf, -np.inf])
    assert_close(special, special)


# ---------------------------------------------------------------- the strategies


@given(arrays(domain=POSITIVE))
def test_arrays_stay_in_their_domain(x):
    assert x.dtype in dtypes.ALL
    if dtypes.is_float(x.dtype):
        assert ((x.astype(float) >= 0.39) & (x.astype(float) <= 3.01)).all()


@given(shapes(min_dims=1, max_dims=2, min_side=1))
def test_shapes_keep_their_bounds(shape):
    assert 1 <= len(shape) <= 2 and all(1 <= n <= 4 for n in shape)


def test_fill_is_decided_by_its_seed():
    assert (fill(3, dtypes.float32, (4,)) == fill(3, dtypes.float32, (4,))).all()
    assert (fill(3, dtypes.float32, (4,)) != fill(4, dtypes.float32, (4,))).any()


def test_a_missing_strategy_is_named():
    with pytest.raises(KeyError, match="'nonesuch' has no strategy"):
        calls_of("nonesuch")


def test_a_call_shows_its_operands():
    call = Call(registry["integer_pow"], (np.float64([1, 2]),), {"y": 2})
    assert repr(call) == "integer_pow[y=2](f64[2] [1.0, 2.0])"
