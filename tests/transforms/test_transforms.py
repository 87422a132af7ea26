"""Transforms: what each does to functions of pytrees, and all compositions to depth three, with JAX as the oracle."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
from backends import FUNCGRAD as fg
from backends import JAX

from funcgrad import dtypes
from funcgrad.config import disable_jit, enable_x64
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.errors import DeletedArrayError
from funcgrad.testing import assert_close, check_grads, check_vmap
from funcgrad.transforms.derivatives import jvp, linear_transpose, linearize, vjp
from funcgrad.transforms.grad import grad, value_and_grad
from funcgrad.transforms.jacobians import hessian, jacfwd, jacrev
from funcgrad.transforms.jit import jit
from funcgrad.transforms.make_jaxpr import eval_shape, make_jaxpr
from funcgrad.transforms.vmap import vmap
from tests.comparing import assert_same

lax = fg.lax
X = np.array([0.5, 1.5, 2.5], np.float32)
M = np.arange(1, 7, dtype=np.float32).reshape(2, 3) / 4


def types(tree: Any) -> list[Any]:
    """Shape, dtype and weak type of every leaf, of either library."""
    import optree

    out = []
    for x in optree.tree_leaves(tree):
        aval = x.aval if hasattr(x, "aval") else aval_of(x)
        out.append((tuple(aval.shape), str(aval.dtype), bool(aval.weak_type)))
    return out


same = functools.partial(assert_same, rtol=2e-5, atol=2e-5)


def _leaves(t: Any) -> list[Any]:
    import optree

    return optree.tree_leaves(t)


# ---------------------------------------------------------------- compositions, against JAX


def _polynomial(m):
    return lambda x: x * x * x - 2 * x


def _composed(m):
    return lambda x: m.lax.tanh(m.lax.sin(x) * m.lax.exp(x) / 3)


def _branching(m):
    def branching(x):
        y = m.lax.sin(x)
        return m.lax.max(y, x * 0.0 + 0.25) * x + m.lax.abs(x - 1.0)

    return branching


def _selecting(m):
    return lambda x: m.lax.select_n(m.lax.gt(x - 1.0, x * 0.0), x * x, m.lax.log(x))


def _inner_jit(m):
    def inner(x, y):
        return m.lax.sin(x) * y, x + y

    jitted = m.jit(inner)

    def outer(x):
        a, b = jitted(x, 2.0 * x)
        return a * b + jitted(b, a)[0]

    return outer


def _inner_grad(m):
    return lambda x: m.grad(lambda y: m.lax.sin(y) * x + y * y)(x * 0.5)


def _inner_vmap(m):
    return lambda x: m.lax.reduce_sum(m.vmap(lambda w: m.lax.cos(w * x))(X))


def _closure(m):
    return lambda x: m.grad(lambda y: m.jit(lambda z: z * x * y)(y))(x)


SCALAR_FUNCTIONS = [_polynomial, _composed, _branching, _selecting, _inner_jit, _inner_grad, _inner_vmap, _closure]
TRANSFORMS = {
    "grad": lambda m, f: m.grad(f),
    "jvp": lambda m, f: lambda x: m.jvp(f, (x,), (x * 0.5 + 1.0,))[1],
    "jit": lambda m, f: m.jit(f),
    "vmap": lambda m, f: lambda x: m.vmap(f)(m.lax.mul(m.lax.broadcast_in_dim(x, (3,), ()), X))[1],
    "vjp": lambda m, f: lambda x: m.vjp(f, x)[1](x * 0.0 + 2.0)[0],
    "linearize": lambda m, f: lambda x: m.linearize(f, x)[1](x * 0.0 + 1.0),
}
DEPTHS = [c for n in (1, 2, 3) for c in itertools.product(("grad", "jvp", "jit", "vmap"), repeat=n)]
DEPTHS += [c for c in itertools.product(TRANSFORMS, repeat=2) if {"vjp", "linearize"} & set(c)]


def _oracle(f: Any) -> Any:
    """JAX compiles every operation that it runs eagerly; all of them at once are compiled much faster."""
    return JAX.jit(f)


def _apply(m: Any, function: Any, names: tuple[str, ...]) -> Any:
    f = function(m)
    for name in names:
        f = TRANSFORMS[name](m, f)
    return f


@pytest.mark.oracle
@pytest.mark.parametrize("names", DEPTHS, ids="-".join)
def test_composition_equals_jax(names):
    x = np.float32(1.3)
    functions = {1: SCALAR_FUNCTIONS, 2: [_branching, _inner_jit, _inner_grad, _closure], 3: [_composed, _inner_jit]}[
        len(names)
    ]
    for function in functions:
        same(_apply(fg, function, names)(x), _oracle(_apply(JAX, function, names))(x))


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.parametrize("names", [c for n in (2, 3) for c in itertools.product(TRANSFORMS, repeat=n)], ids="-".join)
def test_every_composition_of_every_function_equals_jax(names):
    for function in SCALAR_FUNCTIONS:
        same(_apply(fg, function, names)(np.float32(1.3)), _oracle(_apply(JAX, function, names))(np.float32(1.3)))


@pytest.mark.parametrize("function", SCALAR_FUNCTIONS)
def test_derivatives_of_the_functions(function):
    check_grads(function(fg), (np.float32(1.3),), order=2)


@pytest.mark.oracle
@pytest.mark.parametrize("function", SCALAR_FUNCTIONS)
@pytest.mark.parametrize("x", [1.3, np.float32(1.3), np.float16(1.3)], ids=["weak", "f32", "f16"])
def test_value_and_grad_types_equal_jax(function, x):
    same(fg.value_and_grad(function(fg))(x), _oracle(JAX.value_and_grad(function(JAX)))(x), rtol=5e-2, atol=5e-2)


# ---------------------------------------------------------------- jvp, linearize, vjp, linear_transpose


def test_jvp_of_a_tree():
    out, tangent = jvp(lambda p: {"y": p["a"] * p["b"][0]}, ({"a": 3.0, "b": (2.0,)},), ({"a": 1.0, "b": (10.0,)},))
    assert (float(out["y"]), float(tangent["y"])) == (6.0, 32.0)


def test_jvp_carries_aux():
    out, tangent, aux = jvp(lambda x: (x * x, {"text": "kept", "double": 2 * x}), (3.0,), (1.0,), has_aux=True)
    assert (float(out), float(tangent), aux["text"], float(aux["double"])) == (9.0, 6.0, "kept", 6.0)


def test_jvp_of_integers_has_float0_tangents():
    zeros = np.zeros((), dtypes.float0)
    out, (tangent, of_integer) = jvp(lambda x, n: (x * 2.0, n + 1), (3.0, 4), (1.0, zeros))
    assert float(tangent) == 2.0 and of_integer.dtype == dtypes.float0 and int(out[1]) == 5


def test_jvp_of_a_constant_is_zero():
    out, tangent = jvp(lambda x: as_array(X), (3.0,), (1.0,))
    assert_close(tangent, np.zeros(3, np.float32))


def test_linearize_does_the_nonlinear_work_once():
    calls = []

    def f(x):
        calls.append(0)
        return lax.sin(x) * x

    y, f_lin = linearize(f, X)
    for v in (X, 2 * X):
        assert_close(f_lin(v), jvp(f, (X,), (v,))[1])
    assert len(calls) == 3  # once by linearize, twice by the jvps


def test_linearized_function_is_linear():
    _, f_lin = linearize(lambda x: lax.exp(x) * x, X)
    assert_close(f_lin(X + 3 * X), f_lin(X) + 3 * f_lin(X))


def test_linearize_keeps_aux():
    y, f_lin, aux = linearize(lambda x: (x * x, "note"), 3.0, has_aux=True)
    assert (float(f_lin(1.0)), aux) == (6.0, "note")


def test_vjp_gives_one_cotangent_per_argument():
    out, pull = vjp(lambda p, y: {"z": p["a"] * y, "w": p["b"]}, {"a": X, "b": 2.0}, X)
    back, of_y = pull({"z": np.ones(3, np.float32), "w": np.float32(5)})
    assert_close([back["a"], of_y, back["b"]], [X, X, np.float32(5)], check_dtypes=False)


def test_vjp_may_be_applied_many_times():
    _, pull = vjp(lambda x: x * x, X)
    assert_close(pull(X)[0] + pull(X)[0], pull(2 * X)[0])


def test_vjp_has_aux():
    out, pull, aux = vjp(lambda x: (x * x, ["aux", object]), 3.0, has_aux=True)
    assert float(pull(1.0)[0]) == 6.0 and aux == ["aux", object]


def test_linear_transpose_of_types():
    transposed = linear_transpose(lambda x: lax.reduce_sum(x * 2.0), ShapeDtypeStruct((3,), "float32"))
    assert_close(transposed(np.float32(3)), (np.full(3, 6, np.float32),))


def test_linear_transpose_is_an_involution():
    f = lambda x: lax.concatenate([lax.rev(x, (0,)), 3.0 * x], 0)  # noqa: E731
    once = linear_transpose(f, X)
    twice = linear_transpose(lambda ct: once(ct)[0], np.zeros(6, np.float32))
    assert_close(twice(X)[0], f(X))


# ---------------------------------------------------------------- grad


def test_grad_of_argnums():
    f = lambda x, y, z: x * y + z * z  # noqa: E731
    assert float(grad(f, 1)(2.0, 3.0, 4.0)) == 2.0
    assert [float(g) for g in grad(f, (0, 2))(2.0, 3.0, 4.0)] == [3.0, 8.0]
    assert float(grad(f, -1)(2.0, 3.0, 4.0)) == 8.0
    assert [float(g) for g in grad(f, (-1, 0))(2.0, 3.0, 4.0)] == [8.0, 3.0]
    assert [float(g) for g in grad(f, [0])(2.0, 3.0, 4.0)] == [3.0]


def test_keyword_arguments_are_constants():
    assert float(grad(lambda x, *, k: x * k)(2.0, k=7.0)) == 7.0


def test_grad_keeps_the_structure_of_its_argument():
    g = grad(lambda p: p["w"][0] * 2.0 + p["b"] * p["b"])({"w": (1.0, None), "b": 3.0})
    assert (float(g["w"][0]), g["w"][1], float(g["b"])) == (2.0, None, 6.0)


def test_aux_may_be_any_object():
    marker = object()
    g, aux = grad(lambda x: (x * x, {"marker": marker, "y": x + 1, "name": "n"}), has_aux=True)(3.0)
    assert float(g) == 6.0 and aux["marker"] is marker and float(aux["y"]) == 4.0 and aux["name"] == "n"
    (value, aux), g = value_and_grad(lambda x: (x * x, [x]), has_aux=True)(3.0)
    assert (float(value), float(aux[0]), float(g)) == (9.0, 3.0, 6.0)


def test_aux_under_jit_and_nested_grad():
    def f(x):
        g, aux = grad(lambda y: (y * y * x, y * x), has_aux=True)(x)
        return g + aux

    assert float(grad(jit(f))(3.0)) == float(grad(f)(3.0)) == 18.0


def test_allow_int_gives_float0():
    g, n = grad(lambda x, k: x * x, (0, 1), allow_int=True)(3.0, 4)
    assert float(g) == 6.0 and n.dtype == dtypes.float0 and n.shape == ()


def test_unused_argument_has_zero_gradient():
    assert_close(grad(lambda x, y: y * 2.0)(X, 1.0), np.zeros(3, np.float32))


def test_a_constant_function_has_zero_gradient():
    assert float(grad(lambda x: 1.0)(2.0)) == 0.0


@pytest.mark.parametrize("z", [3 + 4j, -1 + 2j, 0j])
def test_gradient_of_a_complex_argument(z):
    z = np.complex64(z)
    expected = np.conj(z) / abs(z) if z else 0j
    assert_close(grad(lax.abs)(z), np.complex64(expected))


def test_gradient_of_abs_z_is_conjugate():
    assert complex(grad(lax.abs)(np.complex64(3 + 4j))) == pytest.approx(0.6 - 0.8j)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "f",
    [
        lambda m: lambda z: m.lax.real(z * z),
        lambda m: lambda z: m.lax.imag(m.lax.sin(z) * z),
        lambda m: lambda z: m.lax.abs(m.lax.exp(z)),
        lambda m: lambda z: m.lax.real(m.lax.sin(z) / (z + 2.0)),
    ],
)
def test_complex_gradients_equal_jax(f):
    z = np.complex64(0.5 - 1.25j)
    same(fg.grad(f(fg))(z), JAX.grad(f(JAX))(z))


@pytest.mark.oracle
def test_holomorphic_derivatives_equal_jax():
    z = np.complex64(0.5 - 1.25j)
    f = lambda m: lambda z: m.lax.sin(z) * z  # noqa: E731
    same(fg.grad(f(fg), holomorphic=True)(z), JAX.grad(f(JAX), holomorphic=True)(z))
    zs = np.array([z, 2 * z])
    for transform in ("jacfwd", "jacrev"):
        ours, theirs = (getattr(m, transform)(f(m), holomorphic=True)(zs) for m in (fg, JAX))
        same(ours, theirs)


@pytest.mark.parametrize(
    "f, x, expected",
    [
        (lax.abs, 0.0, 1.0),
        (lambda x: lax.max(x, 0.0), 0.0, 0.5),
        (lambda x: lax.min(x, 0.0), 0.0, 0.5),
        (lambda x: lax.max(x, 0.0), 1.0, 1.0),
        (lambda x: lax.max(x, 0.0), -1.0, 0.0),
        (lax.sqrt, 0.0, np.inf),
        (lax.sign, 2.0, 0.0),
        (lax.floor, 2.5, 0.0),
        (lambda x: lax.integer_pow(x, 0), 3.0, 0.0),
        (lambda x: lax.integer_pow(x, 2), 0.0, 0.0),
        (lambda x: lax.pow(x, 0.0), 0.0, 0.0),
        (lambda x: lax.stop_gradient(x) * x, 3.0, 3.0),
        (lambda x: lax.select_n(lax.gt(x, 0.0), x, lax.log(x)), -1.0, 1.0),
        (lambda x: lax.rem(x, 3.0), 7.5, 1.0),
    ],
)
def test_derivatives_at_kinks_and_edges(f, x, expected):
    assert float(grad(f)(x)) == expected


def test_python_control_flow_under_grad():
    def f(x):
        if x > 1.0 and not x > 5.0:
            return x * x
        while x < 10:
            x = x * 3.0
        return x

    assert float(grad(f)(2.0)) == 4.0 and float(grad(f)(0.5)) == 27.0
    assert float(grad(grad(f))(2.0)) == 2.0
    assert float(jvp(grad(f), (2.0,), (1.0,))[1]) == 2.0
    assert float(value_and_grad(lambda x: x * int(x) + x.item())(2.5)[1]) == 2.0


def test_python_control_flow_on_unbatched_values_under_vmap():
    def f(x, flag):
        return x * 2.0 if flag else x

    assert_close(vmap(f, (0, None))(X, as_array(True)), X * 2)
    assert_close(vmap(lambda x: f(x, as_array(1.0) > 2.0))(X), X)


# ---------------------------------------------------------------- Jacobians


@pytest.mark.parametrize("jacobian", [jacfwd, jacrev])
def test_jacobian_shapes_and_blocks(jacobian):
    def f(p, y):
        return {"s": p["a"] * lax.reduce_sum(y), "t": (y * y, p["b"])}

    blocks = jacobian(f, (0, 1))({"a": X, "b": 2.0}, M)
    (of_p, of_y) = blocks["s"]
    assert of_p["a"].shape == (3, 3) and of_p["b"].shape == (3,) and of_y.shape == (3, 2, 3)
    assert_close(of_p["a"], np.eye(3, dtype=np.float32) * M.sum())
    assert_close(blocks["t"][1][0]["b"], np.float32(1), check_dtypes=False)


@pytest.mark.oracle
@pytest.mark.parametrize("transform", ["jacfwd", "jacrev", "hessian"])
def test_jacobians_equal_jax(transform):
    def f(m):
        return lambda x: (m.lax.sin(x) * x, m.lax.reduce_sum(x * x))

    for argument in (X, M):
        same(getattr(fg, transform)(f(fg))(argument), _oracle(getattr(JAX, transform)(f(JAX)))(argument))


def test_jacobians_carry_aux():
    for jacobian in (jacfwd, jacrev):
        j, aux = jacobian(lambda x: (x * x, {"first": x[0]}), has_aux=True)(X)
        assert_close(j, np.diag(2 * X))
        assert_close(aux["first"], X[0])


def test_hessian_is_symmetric_and_right():
    h = hessian(lambda x: lax.reduce_sum(x * x * x) + x[0] * x[1])(X)
    expected = np.diag(6 * X)
    expected[0, 1] = expected[1, 0] = 1
    assert_close(h, expected)


def test_jacobian_of_no_rows():
    assert jacrev(lambda x: x[:0])(X).shape == (0, 3)
    assert jacfwd(lambda x: x * 1.0)(np.zeros(0, np.float32)).shape == (0, 0)


# ---------------------------------------------------------------- vmap


@pytest.mark.parametrize("in_axes", [0, 1, -1, (1, None), (None, 0), (0, -1), [0, 1], (-2, 1)])
@pytest.mark.parametrize("out_axes", [0, 1, -1])
def test_vmap_axes(in_axes, out_axes):
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    check_vmap(
        lambda x, y: lax.sin(x) * y,
        (square, square + 1),
        tuple(in_axes) if isinstance(in_axes, list) else in_axes,
        out_axes,
    )


def test_vmap_nested_axes():
    out = vmap(lambda p: p["a"] * p["b"][0], in_axes=({"a": 1, "b": (None,)},))({"a": M, "b": (2.0,)})
    assert_close(out, (M * 2).T)


def test_vmap_keyword_arguments_map_axis_0():
    assert_close(vmap(lambda x, *, y: x * y)(X, y=X), X * X)


def test_vmap_out_axes_tree_and_none():
    a, b = vmap(lambda x: (M * x, 5.0), out_axes=(-1, None))(X)
    assert a.shape == (2, 3, 3) and float(b) == 5.0


def test_vmap_without_mapped_arguments_needs_axis_size():
    assert_close(vmap(lambda x: x * 2.0, in_axes=None, axis_size=4)(1.0), np.full(4, 2, np.float32), check_dtypes=False)


def test_vmap_over_empty_axis():
    assert vmap(lambda x: lax.reduce_sum(x))(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.oracle
def test_nested_vmap_equals_jax():
    f = lambda m: m.vmap(m.vmap(lambda x, y: m.lax.dot(x, y), (None, 1)), (0, None))  # noqa: E731
    same(f(fg)(M, M.T), f(JAX)(M, M.T))


def test_per_example_gradients():
    loss = lambda w, x: lax.reduce_sum(lax.sin(w * x))  # noqa: E731
    g = vmap(grad(loss), (None, 0))(X, M)
    assert_close(g, M * np.cos(X * M))


def test_vmap_and_jit_commute():
    f = lambda x: lax.sin(x) * x  # noqa: E731
    assert_close(jit(vmap(f))(M), vmap(jit(f))(M))


def test_vmap_with_spmd_axis_name_is_accepted():
    assert_close(vmap(lambda x: x * 2.0, spmd_axis_name="batch")(X), X * 2)


# ---------------------------------------------------------------- jit


def _counted(f):
    calls = []

    def counted(*args, **kwargs):
        calls.append(0)
        return f(*args, **kwargs)

    return counted, calls


def test_jit_traces_once_per_type():
    f, calls = _counted(lambda x: x * 2)
    jitted = jit(f)
    for x in (1.0, 2.0, np.float32(1), np.float32(2), X, X, 1, 2):
        assert_close(jitted(x), np.asarray(x) * 2, check_dtypes=False)
    assert len(calls) == 4  # weak float, float32, float32[3], weak int
    assert jitted._cache_size() == 4


def test_jit_keeps_weak_types_and_structure():
    out = jit(lambda p: {"a": p[0] + 1, "b": None, "c": [p[1]]})((1, X))
    assert out["b"] is None and out["a"].weak_type and not out["c"][0].weak_type


def test_jit_static_arguments_by_position_and_name():
    f, calls = _counted(lambda x, n, mode="a": x * n if mode == "a" else x + n)
    f.__name__ = "f"

    def g(x, n, mode="a"):
        return f(x, n, mode)

    jitted = jit(g, static_argnums=1, static_argnames=("mode",))
    assert float(jitted(2.0, 3)) == 6.0 and float(jitted(2.0, 3)) == 6.0 and len(calls) == 1
    assert float(jitted(2.0, 3, mode="b")) == 5.0 and float(jitted(2.0, n=4)) == 8.0 and len(calls) == 3
    assert float(jitted(2.0, 3, "b")) == 5.0


def test_static_names_are_inferred_from_positions_and_back():
    def g(x, n):
        return x * len(n)

    assert float(jit(g, static_argnums=1)(2.0, n=(1, 2))) == 4.0
    assert float(jit(g, static_argnames="n")(2.0, (1, 2, 3))) == 6.0
    assert float(jit(g, static_argnums=-1)(2.0, (1,))) == 2.0


def test_static_arguments_of_different_type_do_not_collide():
    f = jit(lambda x, n: x * n, static_argnums=1)
    assert f(1, 1).dtype == np.int32 and f(1, 1.0).dtype == np.float32 and f(1, True).dtype == np.int32


def test_jit_as_decorator_with_options():
    @jit(static_argnums=(1,))
    def f(x, n):
        """Docstring."""
        return x * n

    assert float(f(2.0, 3)) == 6.0 and f.__name__ == "f" and f.__doc__ == "Docstring."


def test_jitted_method():
    class Model:
        scale = 3.0

        @jit
        def static_call(x):
            return x * 2.0

        def __init__(self):
            self.call = jit(lambda x: x * self.scale)

    assert float(Model().call(2.0)) == 6.0 and float(Model.static_call(2.0)) == 4.0


def test_donated_arguments_are_deleted():
    f = jit(lambda x, y: (x + 1, y), donate_argnums=0)
    x, y = as_array(X), as_array(X)
    f(x, y)
    assert x.is_deleted() and not y.is_deleted()
    with pytest.raises(DeletedArrayError):
        x + 1
    by_name = jit(lambda x, y: x * y, donate_argnames="y")
    a, b = as_array(X), as_array(X)
    by_name(a, y=b)
    assert b.is_deleted() and not a.is_deleted()


def test_donated_pytrees_are_deleted():
    tree = {"w": as_array(X), "b": (as_array(M),)}
    jit(lambda t: t["w"] * 2.0, donate_argnums=0)(tree)
    assert tree["w"].is_deleted() and tree["b"][0].is_deleted()


def test_nested_jit_and_inline():
    inner = jit(lambda x: lax.sin(x) * 2.0)
    inlined = jit(lambda x: lax.sin(x) * 2.0, inline=True)
    assert [str(e.primitive) for e in make_jaxpr(lambda x: inner(x))(1.0).eqns] == ["jit"]
    assert [str(e.primitive) for e in make_jaxpr(lambda x: inlined(x))(1.0).eqns] == ["sin", "mul"]
    assert float(jit(lambda x: inner(inner(x)))(0.5)) == pytest.approx(2 * np.sin(2 * np.sin(0.5)), rel=1e-6)


def test_jit_closes_over_traced_values():
    def f(x):
        return jit(lambda y: y * x)(x + 1.0)

    assert float(f(2.0)) == 6.0 and float(grad(f)(2.0)) == 5.0 and float(jit(f)(2.0)) == 6.0
    assert_close(vmap(f)(X), X * (X + 1))


def test_jit_unused_and_repeated_arguments():
    assert float(jit(lambda x, y: x)(1.0, 2.0)) == 1.0
    assert float(jit(lambda x, y: x, keep_unused=True)(1.0, 2.0)) == 1.0
    assert [float(v) for v in jit(lambda x: (x, x, 3.0))(1.0)] == [1.0, 1.0, 3.0]


def test_jit_of_no_arguments_and_no_results():
    assert float(jit(lambda: lax.sin(as_array(0.0)))()) == 0.0
    assert jit(lambda x: None)(1.0) is None and jit(lambda x: ())(1.0) == ()


def test_disable_jit_runs_python():
    f = jit(lambda x: x * 2 if x > 0 else x)
    with disable_jit():
        assert float(f(1.0)) == 2.0


def test_x64_is_a_cache_key():
    f = jit(lambda x: x * 2)
    assert f(1.0).dtype == np.float32
    with enable_x64():
        assert f(1.0).dtype == np.float64
    assert f(1.0).dtype == np.float32


def test_cache_info_explains_misses():
    f = jit(lambda x: x * 2)
    f(1.0), f(1.0), f(X)
    info = f.cache_info()
    assert (info.hits, info.traces) == (1, 2)
    assert info.misses[0].startswith("first call") and "f32[3]" in info.misses[1] and "seen before" in info.misses[1]
    f.clear_cache()
    assert f._cache_size() == 0


def test_aot_stages():
    f = jit(lambda x, n: {"y": x * n}, static_argnums=1)
    traced = f.trace(ShapeDtypeStruct((3,), "float32"), 2)
    assert str(traced.out_info) == "{'y': ShapeDtypeStruct(shape=(3,), dtype=float32)}"
    lowered = traced.lower()
    assert "mul" in lowered.as_text("jaxpr")
    assert_close(lowered.compile()(X), {"y": X * 2})
    assert f.eval_shape(X, 2)["y"].shape == (3,)


def test_jit_is_thread_safe():
    from concurrent.futures import ThreadPoolExecutor

    f = jit(lambda x: lax.sin(x) * x)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: float(grad(lambda x: f(x) * i)(2.0)), range(32)))
    assert results == pytest.approx([i * (np.cos(2) * 2 + np.sin(2)) for i in range(32)], rel=1e-5)


# ---------------------------------------------------------------- eval_shape


def test_eval_shape_computes_nothing():
    huge = ShapeDtypeStruct((10**6, 10**6), "float32")
    out = eval_shape(lambda x: {"y": lax.reduce_sum(x), "z": lax.transpose(x)}, huge)
    assert out["y"].shape == () and out["z"].shape == (10**6, 10**6)
