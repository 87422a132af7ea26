"""Ahead of time: stages, types as example arguments, evaluation while tracing, leaks, logs, scopes, caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import ShapeDtypeStruct, grad, jit, vmap
from funcgrad.compiler.rewrite.simplify import simplify
from funcgrad.errors import ArgumentError, LeakedTracerError, ShapeError
from funcgrad.testing import assert_close

X = np.arange(3, dtype=np.float32)
F32 = ShapeDtypeStruct((3,), "float32")


def program(x: Any, y: Any = 2, *, k: int = 1) -> Any:
    return {"a": x * k, "b": (x + y).sum()}


# ---------------------------------------------------------------- stages


def test_stages_know_types_and_structures():
    traced = jit(program, static_argnames="k", donate_argnums=0).trace(F32, y=F32, k=3)
    lowered = traced.lower()
    for stage in (traced, lowered, lowered.compile()):
        aval = fg.typeof(jnp.asarray(X))
        assert stage.in_avals == ((aval,), {"y": aval})
        assert stage.out_info == {"a": F32, "b": ShapeDtypeStruct((), "float32")}
        assert stage.out_tree == fg.tree.structure({"a": 0, "b": 0})
        assert stage.in_tree == fg.tree.structure(((0,), {"y": 0}))
        assert stage.donate_argnums == (0,)
        assert [a.donated for a in fg.tree.leaves(stage.args_info)] == [True, False]
        assert fg.tree.leaves(stage.args_info)[0].shape == (3,)
    assert traced.fun_name == "program" and "mul" in str(traced.jaxpr)


@pytest.mark.oracle
def test_stages_agree_with_jax():
    import jax

    def facts(lib: Any) -> list[Any]:
        traced = lib.jit(program, static_argnames="k", donate_argnums=0).trace(X, y=X, k=3)
        shapes = lib.tree.map(lambda a: (a.shape, str(np.dtype(a.dtype))), traced.out_info)
        names = "in_avals", "in_tree", "out_tree", "out_avals", "donate_argnums"
        trees = [str(getattr(traced, n)) for n in names if "avals" not in n]
        types = [[(a.shape, str(a.dtype)) for a in lib.tree.leaves(getattr(traced, n))] for n in names if "avals" in n]
        return [shapes, trees, types, traced.fun_name, str(traced.lower().in_tree)]

    assert facts(fg) == facts(jax)


def test_compiled_functions_run_and_delete_donated_arguments():
    compiled = jit(program, static_argnums=(), static_argnames="k", donate_argnums=0).lower(F32, y=F32, k=3).compile()
    x = jnp.asarray(X) + 0
    assert_close(compiled(x, y=X), {"a": 3 * X, "b": np.float32(6)})
    assert x.is_deleted()
    assert_close(compiled.call(X, y=X)["b"], np.float32(6))


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "more keywords": (lambda c: c(X, y=X, k=3), "another structure .* kwargs is a dict"),
    "more arguments": (lambda c: c(X, X), "args is a tuple of 1, those given a tuple of 2"),
    "shape": (lambda c: c(X, y=X[:2]), r"argument y has type f32\[2\], it was compiled for f32\[3\]"),
    "dtype": (lambda c: c(X.astype(np.int32), y=X), r"argument x has type i32\[3\], it was compiled for f32\[3\]"),
    "no array": (lambda c: c("a", y=X), "argument x is 'a' of type str, which is not an array"),
    "a type": (lambda c: c(F32, y=X), "argument x is ShapeDtypeStruct.* a type and not a value"),
    "grad": (lambda c: grad(lambda x: c(x, y=X)["b"])(X), "argument x is a traced array .* neither traced nor"),
    "vmap": (lambda c: vmap(lambda x: c(x, y=X)["b"])(X[None]), "argument x is a traced array"),
    "jit": (lambda c: jit(lambda x: c(x, y=X)["b"])(X), "while tracing jit"),
    "options": (lambda c: jit(program).lower(X).compile({"fast": 1}), r"unknown compiler_options \['fast'\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_compiled_functions_reject_other_arguments(case: str):
    call, message = WRONG[case]
    compiled = jit(program, static_argnames="k").lower(F32, y=F32, k=3).compile()
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        call(compiled)


def test_costs_and_memory():
    def f(x: Any) -> Any:
        return jnp.tanh(x @ x)

    compiled = jit(f).lower(ShapeDtypeStruct((8, 8), "float32")).compile()
    # The product reads x and writes; tanh reads that and writes.
    assert compiled.cost_analysis() == {"flops": 2.0 * 8**3, "transcendentals": 64.0, "bytes accessed": 4.0 * 256}
    memory = compiled.memory_analysis()
    assert (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes) == (256, 256, 256)
    scanned = jit(lambda x: fg.lax.scan(lambda h, _: (f(h), None), x, None, length=5)[0])
    assert scanned.lower(ShapeDtypeStruct((8, 8), "float32")).cost_analysis()["flops"] == 5 * 2 * 8**3


def test_jit_names_the_argument_that_is_no_array():
    f = jit(lambda p, n: p)
    with pytest.raises(ArgumentError, match=r"argument p\['w'\] is 'a' of type str, which is not an array"):
        f({"w": "a"}, 1)
    with pytest.raises(ArgumentError, match="argument n is ShapeDtypeStruct"):
        f(1, F32)
    with pytest.raises(ArgumentError, match="argument n is <object"):
        f.lower(1, object())


class Layer:
    @jit
    def double(self, x: Any) -> Any:
        return x * 2

    @jit
    def type_of(self) -> Any:
        return 1


fg.tree_util.register_pytree_node(Layer, lambda _: ((), None), lambda *_: Layer())


def test_methods_have_stages():
    layer = Layer()
    assert_close(layer.double(X), 2 * X)
    assert "mul" in layer.double.lower(layer, X).as_text()


# ---------------------------------------------------------------- types as examples


class Duck:
    shape, dtype = (3,), "float32"


@pytest.mark.parametrize("example", [F32, X, Duck()], ids=["struct", "array", "duck"])
def test_types_are_examples(example: Any):
    f = jit(lambda x: jnp.sum(x * 2))
    scalar = ShapeDtypeStruct((), "float32")
    assert fg.eval_shape(f, example) == f.eval_shape(example) == scalar
    assert f.trace(example).out_info == f.lower(example).out_info == scalar
    assert fg.make_jaxpr(f, return_shape=True)(example)[1] == scalar
    assert str(fg.make_jaxpr(f)(example)) == str(fg.make_jaxpr(f)(X))
    assert_close(fg.linear_transpose(lambda x: x * 2, example)(X)[0], 2 * X)


def test_closures_are_converted_for_types():
    def sum_of_squares(x: Any) -> Any:
        converted, consts = fg.closure_convert(lambda y: x * y, F32)
        return jnp.sum(converted(X, *consts) ** 2)

    assert_close(grad(sum_of_squares)(2.0), np.float32(4 * np.sum(X**2)))


def test_types_are_values_of_their_own():
    assert F32.update(shape=(2, 2)) == ShapeDtypeStruct((2, 2), "float32") and len(F32) == 3 and F32.sharding is None
    with pytest.raises(ArgumentError, match="len"):
        len(F32.update(shape=()))


def test_types_are_not_arrays():
    with pytest.raises(ArgumentError, match="a type(,| and) not a value"):
        fg.vjp(lambda x: x, F32)


def test_make_jaxpr_with_static_arguments_and_axes():
    closed = fg.make_jaxpr(lambda x, n: x * n, static_argnums=1)(X, 3)
    assert "mul a 3.0" in str(closed) and len(closed.in_avals) == 1


# ---------------------------------------------------------------- evaluation while tracing


def of_constants(x: Any) -> Any:
    with fg.ensure_compile_time_eval():
        n = jnp.sum(jnp.arange(4))
        doubled = x * 2  # of a traced value: recorded as ever
        return doubled + n if n > 5 else x


@pytest.mark.parametrize("transform", [jit, lambda f: vmap(jit(f)), lambda f: jit(vmap(f)), lambda f: f])
def test_constants_are_evaluated_while_tracing(transform: Callable[[Any], Any]):
    assert_close(transform(of_constants)(X), 2 * X + 6)


def test_compile_time_evaluation_keeps_derivatives():
    assert float(grad(of_constants)(1.0)) == 2.0
    assert_close(vmap(grad(of_constants))(X), np.full(3, 2, np.float32))
    assert_close(fg.jvp(jit(of_constants), (X,), (X,))[1], 2 * X)


# ---------------------------------------------------------------- leaks


KEPT: list[Any] = []


def keeping(x: Any) -> Any:
    KEPT.append(x * 2)
    return x


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    KEPT.clear()


@pytest.mark.parametrize(
    "transform",
    [jit, grad, lambda f: lambda x: vmap(f)(x[None]), fg.make_jaxpr, fg.checkpoint],
    ids=["jit", "grad", "vmap", "make_jaxpr", "checkpoint"],
)
def test_a_leak_is_found_where_it_was_made(transform: Callable[[Any], Any]):
    x = np.float32(1)
    assert transform(keeping)(x) is not None  # unnoticed
    KEPT.clear()
    with fg.checking_leaks(), pytest.raises(LeakedTracerError) as error:
        transform(keeping)(x)
    text = str(error.value)
    assert "test_aot.py" in text and "in keeping" in text and "a list, held by the global KEPT of" in text


def test_without_a_leak_nothing_is_found():
    with fg.checking_leaks():
        f = fg.value_and_grad(jit(lambda x: jnp.sum(fg.checkpoint(jnp.sin)(x) * 2)))
        assert_close(jit(f)(X), f(X))
        _, pull = jit(lambda x: fg.vjp(jnp.sin, x))(X)
        assert_close(vmap(lambda ct: pull(ct)[0])(np.eye(3, dtype=np.float32)), np.diag(np.cos(X)))
        assert fg.hessian(lambda x: jnp.sum(x**3))(X).shape == (3, 3)


# ---------------------------------------------------------------- logs, caches


def test_logs_report_what_is_compiled_why_and_how_long(capsys: pytest.CaptureFixture[str]):
    f = jit(lambda p: jnp.sin(p["w"]) * 1.2345)
    with fg.log_compiles():
        f({"w": X})
        f({"w": X})
    traced, compiled = capsys.readouterr().err.splitlines()
    assert traced.startswith("funcgrad: jit(<lambda>): traced in ") and "first call, with (f32[3])" in traced
    assert " ms at test_aot.py:" in traced
    assert "compiled 2 equations to 1 step in " in compiled and "kernels: 1 compiled" in compiled
    with fg.explain_cache_misses():
        f({"w": X[:2]})
        f({"w": X, "v": X})
    shape, structure = capsys.readouterr().err.splitlines()
    assert "argument p['w'] has type f32[2]; seen before: f32[3]" in shape
    assert "new structure of arguments" in structure


def test_clearing_all_caches_traces_again():
    calls = []
    f = jit(lambda x: calls.append(1) or x)
    f(1.0), f(1.0)
    fg.clear_caches()
    f(1.0)
    assert len(calls) == 2 and f._cache_size() == 1


def test_inlined_and_unused():
    inner = jit(lambda x, unused: x * 2, inline=True)
    assert "jit" not in str(fg.make_jaxpr(lambda x: inner(x, x))(1.0))
    for keep_unused in (False, True):
        f = jit(lambda x, unused: x * 2, keep_unused=keep_unused)
        assert float(f(1.0, X)) == 2.0 and len(f.lower(1.0, X).in_avals[0]) == 2
        assert_close(f.lower(1.0, F32).compile()(2.0, X), np.float32(4), check_dtypes=False)


# ---------------------------------------------------------------- scopes


def scoped(x: Any) -> Any:
    with fg.named_scope("encoder"), fg.named_scope("attention"):
        y = jnp.exp(x)
    return jnp.sum(fg.named_call(jnp.cos)(y))


def scopes(fun: Callable[..., Any], *args: Any) -> dict[str, str]:
    return {str(e.primitive): e.source.scope for e in fg.make_jaxpr(fun)(*args).eqns}


def test_equations_know_their_scope():
    assert scopes(scoped, X) == {"exp": "encoder/attention", "cos": "cos", "reduce_sum": ""}
    of_gradient = scopes(grad(scoped), X)
    assert of_gradient["exp"] == "encoder/attention" and of_gradient["neg"] == of_gradient["sin"] == "cos"
    assert "(in encoder/attention, cos)" in jit(scoped).lower(X).as_text("groups")


@pytest.mark.parametrize(
    "function", [lambda x: x[:, None] @ x[None], lambda x: x.at[1].set(2 * x[0])], ids=["product", "window"]
)
def test_rewritten_operations_keep_line_and_scope(function: Callable[[Any], Any]):
    traced = jit(fg.named_scope("decoder")(function)).trace(X).jaxpr
    simplified = simplify(traced)
    assert {str(e.primitive) for e in simplified.eqns} - {str(e.primitive) for e in traced.eqns}
    assert {e.source for e in simplified.eqns} <= {e.source for e in traced.eqns}


def test_errors_show_the_scope():
    @fg.named_scope("decoder")
    def f(x: Any) -> Any:
        return x @ jnp.ones(4)

    with pytest.raises(ShapeError, match=r"test_aot.py:\d+ in f \(decoder\)"):
        jit(f)(X)
    assert scopes(jnp.sin, X) == {"sin": ""}  # the scope ended with the error
    with pytest.raises(ArgumentError, match="name=3 is not a string"):
        fg.named_scope(3)  # ty: ignore[invalid-argument-type]
