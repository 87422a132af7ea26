"""checkpoint: the same values and derivatives, fewer residuals, less memory; residuals of linearize and vjp."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import ad_checkpoint, checkpoint, grad, jit, lax, tree, vmap
from funcgrad import checkpoint_policies as policies
from funcgrad.ad_checkpoint import checkpoint_name, print_saved_residuals, saved_residuals
from funcgrad.errors import ArgumentError, ConcretizationError
from funcgrad.testing import assert_close, check_grads

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3)).astype(np.float32)
WEIGHTS = [(RNG.normal(size=(3, 3)) / 2).astype(np.float32) for _ in range(3)]


def mlp(weights: Any, x: Any) -> Any:
    for w in weights:
        x = jnp.tanh(checkpoint_name(x @ w, "product"))
    return jnp.sum(x**2)


@jit
def layer(w: Any, x: Any) -> Any:
    return jnp.tanh(x @ w)


def mlp_of_jitted_layers(weights: Any, x: Any) -> Any:
    for w in weights:
        x = layer(w, x)
    return jnp.sum(x**2)


def nested(weights: Any, x: Any) -> Any:
    for w in weights:
        x = checkpoint(layer, policy=policies.dots_saveable)(w, x)
    return jnp.sum(x**2)


POLICIES = {
    "none": None,
    "everything": policies.everything_saveable,
    "nothing": policies.nothing_saveable,
    "dots": policies.dots_saveable,
    "dots without batch": policies.dots_with_no_batch_dims_saveable,
    "names": policies.save_only_these_names("product"),
    "other names": policies.save_any_names_but_these("product"),
    "anything but names": policies.save_anything_except_these_names("product"),
    "both": policies.save_from_both_policies(policies.dots_saveable, policies.save_only_these_names("product")),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fun", [mlp, mlp_of_jitted_layers, nested], ids=lambda f: f.__name__)
def test_derivatives_are_those_without_checkpoint(fun: Callable[..., Any], policy: str):
    wrapped = checkpoint(fun, policy=POLICIES[policy])
    expected = fg.value_and_grad(mlp)(WEIGHTS, X)
    for transform in (fg.value_and_grad, lambda f: jit(fg.value_and_grad(f)), lambda f: fg.value_and_grad(jit(f))):
        assert_close(transform(wrapped)(WEIGHTS, X), expected)


COMPOSITIONS: dict[str, Callable[[Any], Any]] = {
    "hessian": lambda f: fg.hessian(f),
    "grad of grad": lambda f: grad(lambda x: jnp.sum(grad(f)(x) ** 2)),
    "jit of hessian": lambda f: jit(fg.hessian(f)),
    "jit of vmap of grad": lambda f: jit(vmap(grad(f))),
    "vmap of grad": lambda f: vmap(grad(f)),
    "grad of vmap": lambda f: grad(lambda x: jnp.sum(vmap(f)(x))),
    "jvp of grad": lambda f: lambda x: fg.jvp(grad(f), (x,), (x,)),
    "linearize": lambda f: lambda x: fg.linearize(f, x)[1](x),
    "checkpoint of grad": lambda f: checkpoint(grad(f)),
    "grad of checkpoint": lambda f: grad(checkpoint(f)),
}


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_compositions_are_those_without_checkpoint(composition: str):
    def f(x: Any) -> Any:
        return jnp.sum(jnp.sin(jnp.exp(jnp.cos(x))) * x)

    x = X if "vmap" in composition else X[0]
    transform = COMPOSITIONS[composition]
    assert_close(transform(checkpoint(f))(x), transform(f)(x))


@fg.custom_jvp
def doubled_slope(x: Any) -> Any:
    return jnp.sin(x)


doubled_slope.defjvp(lambda primals, tangents: (doubled_slope(*primals), 2 * jnp.cos(primals[0]) * tangents[0]))


@fg.custom_vjp
def tripled_slope(x: Any) -> Any:
    return jnp.sin(x)


tripled_slope.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda cosine, ct: (3 * cosine * ct,))


@pytest.mark.parametrize("policy", ["none", "everything", "dots"])
@pytest.mark.parametrize("rule", [doubled_slope, tripled_slope])
def test_custom_rules(rule: Callable[..., Any], policy: str):
    def f(x: Any) -> Any:
        return jnp.exp(rule(jnp.sin(x)))

    for transform in (grad, lambda f: jit(grad(f)), lambda f: grad(grad(f))):
        expected = transform(f)(0.3)
        assert_close(transform(checkpoint(f, policy=POLICIES[policy]))(0.3), expected, rtol=1e-5)
        assert_close(transform(checkpoint(jit(f), policy=POLICIES[policy]))(0.3), expected, rtol=1e-5)


def test_second_derivatives_are_finite_differences():
    check_grads(checkpoint(lambda x: jnp.sin(x) * jnp.exp(x)), (X[0],), order=2)


def scanned(body: Callable[..., Any]) -> Callable[..., Any]:
    def fun(w: Any, x: Any) -> Any:
        return jnp.sum(lax.scan(lambda h, row: (body(h, row, w), None), x[0], x)[0])

    return fun


def step(h: Any, row: Any, w: Any) -> Any:
    return jnp.tanh(jnp.tanh(h @ w + row) @ w)


@pytest.mark.parametrize("options", [{}, {"prevent_cse": False}, {"policy": policies.dots_saveable}], ids=str)
def test_in_a_scan(options: dict[str, Any]):
    plain, recomputing = scanned(step), scanned(checkpoint(step, **options))
    for transform in (
        fg.value_and_grad,
        lambda f: jit(grad(f, (0, 1))),
        lambda f: grad(lambda w, x: jnp.sum(grad(f)(w, x) ** 2)),
    ):
        assert_close(transform(recomputing)(WEIGHTS[0], X), transform(plain)(WEIGHTS[0], X), rtol=1e-4, atol=1e-5)


def test_a_scan_of_checkpointed_steps_saves_carries_only():
    carried = [aval.shape for aval, _ in saved_residuals(scanned(checkpoint(step)), WEIGHTS[0], X)]
    assert sorted(carried) == [(3, 3), (4, 3), (4, 3)]  # weights, rows, carries
    assert len(saved_residuals(scanned(step), WEIGHTS[0], X)) > 3


# ---------------------------------------------------------------- arguments


def test_static_arguments_and_keywords():
    @checkpoint(static_argnums=(1,), static_argnames="scale")
    def f(x: Any, flag: bool, *, scale: float = 2.0, shift: Any = 0.0) -> Any:
        return (jnp.sin(x) if flag else x) * (scale if scale > 1 else 1.0) + shift

    assert_close(grad(f)(1.0, True, scale=3.0, shift=1.0), np.float32(3 * math.cos(1)))
    assert float(f(2.0, False)) == 4.0


def test_structures_and_closed_over_values():
    def f(p: Any) -> Any:
        return grad(lambda y: checkpoint(lambda q: {"s": jnp.sin(q["a"] * y) + p["b"]})(p)["s"])(p["a"])

    a, b = 0.3, 0.4
    assert_close(f({"a": a, "b": b}), np.float32(a * math.cos(a * a)))
    assert_close(jit(f)({"a": a, "b": b}), np.float32(a * math.cos(a * a)))


def test_is_applied_as_a_decorator_and_keeps_the_name():
    @checkpoint
    def squared(x: Any) -> Any:
        "Its square."
        return x * x

    assert (squared.__name__, squared.__doc__) == ("squared", "Its square.")
    assert fg.remat is checkpoint


def test_effects_happen_again(capsys: pytest.CaptureFixture[str]):
    def f(x: Any) -> Any:
        y = jnp.sin(x)
        fg.debug.print("y = {:.2f}", y)
        return jnp.sin(y)

    for fun, times in ((f, 1), (checkpoint(f), 2), (checkpoint(f, policy=policies.everything_saveable), 1)):
        for gradient in (grad(fun), jit(grad(fun))):
            gradient(1.0)
            assert capsys.readouterr().out == "y = 0.84\n" * times


def test_errors_explain_the_cause():
    with pytest.raises(ConcretizationError, match="tracing <lambda> for checkpoint"):
        checkpoint(lambda x: x if x > 0 else -x)(1.0)
    with pytest.raises(ArgumentError, match=r"static_argnums=\(3,\), but it was called with 1 positional"):
        checkpoint(lambda x: x, static_argnums=3)(1.0)
    with pytest.raises(ArgumentError, match="policy=3 is not callable"):
        checkpoint(lambda x: x, policy=3)
    with pytest.raises(ArgumentError, match="the policy answered 'yes' of type str for cos"):
        grad(checkpoint(lambda x: jnp.sin(jnp.sin(x)), policy=lambda *_, **__: "yes"))(1.0)
    with pytest.raises(ArgumentError, match="fix: use checkpoint_policies.save_only_these_names\\('a', 'b'\\)"):
        policies.save_and_offload_only_these_names(
            names_which_can_be_saved=["a"],
            names_which_can_be_offloaded=["b"],
            offload_src="device",
            offload_dst="pinned_host",
        )
    with pytest.raises(ArgumentError, match="fix: use Saveable"):
        ad_checkpoint.Offloadable("device", "pinned_host")
    with pytest.raises(ArgumentError, match="in the host's memory already"):
        policies.offload_dot_with_no_batch_dims("device", "pinned_host")


def test_policies_may_answer_by_their_names():
    answers = {"sin": ad_checkpoint.Recompute, "exp": ad_checkpoint.Saveable}
    f = checkpoint(lambda x: jnp.cos(jnp.exp(jnp.sin(x))), policy=lambda p, *_, **__: answers.get(p.name, False))
    assert origins(f, 1.0) == ["f32[] from the argument x", "f32[] output of exp"]
    assert_close(grad(f)(1.0), grad(lambda x: jnp.cos(jnp.exp(jnp.sin(x))))(1.0))


# ---------------------------------------------------------------- what is saved


def origins(fun: Callable[..., Any], *args: Any) -> list[str]:
    return [f"{aval.short()} {origin.split(' from test_')[0]}" for aval, origin in saved_residuals(fun, *args)]


ARGUMENTS = [f"f32[3,3] from the argument weights[{i}]" for i in range(3)] + ["f32[4,3] from the argument x"]


@pytest.mark.parametrize(
    ("policy", "further"),
    [
        ("none", []),
        ("nothing", []),
        ("dots", ["f32[4,3] output of dot_general"] * 3),
        ("names", ["f32[4,3] named 'product'"] * 3),
        ("other names", []),
        ("both", ["f32[4,3] named 'product'"] * 3),  # a value and its name are two, one of which is read
    ],
)
def test_policies_select_the_saved_values(policy: str, further: list[str]):
    saved = origins(checkpoint(mlp, policy=POLICIES[policy]), WEIGHTS, X)
    assert saved == ARGUMENTS + further


def test_policies_see_into_jitted_functions():
    saved = origins(checkpoint(mlp_of_jitted_layers, policy=policies.dots_saveable), WEIGHTS, X)
    assert saved == ARGUMENTS + ["f32[4,3] output of dot_general"] * 3


def test_saved_residuals_are_printed(capsys: pytest.CaptureFixture[str]):
    print_saved_residuals(lambda x, y: jnp.exp(x) * y, 1.0, 2.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "f32[] from the argument y"
    assert lines[1].startswith("f32[] output of exp from test_checkpoint.py:")


CHAINS: dict[str, Callable[[Any], Any]] = {
    "sin chain": lambda lib: lambda x: lib.sin(lib.sin(lib.sin(x))),
    "jitted sin chain": lambda lib: lib.jit(lambda x: lib.sin(lib.sin(lib.sin(x)))),
    "jitted exp": lambda lib: lib.jit(lambda x: lib.exp(x)),
    "jitted square": lambda lib: lib.jit(lambda x: x * x),
    "two results": lambda lib: lib.jit(lambda x: (lib.exp(x), lib.sin(x))),
    "first of two results": lambda lib: lambda x: lib.jit(lambda x: (lib.exp(x), lib.sin(x)))(x)[0],
    "identity": lambda lib: lib.jit(lambda x: x + 1.0),
    "product with a constant": lambda lib: lib.jit(lambda x: x * 2.0),
    "checkpointed": lambda lib: lib.checkpoint(lambda x: lib.sin(lib.sin(x))),
    "matrix products": lambda lib: lib.jit(lambda x: (x @ x) @ x),
}


def residuals_of(library: Any, numpy: Any, chain: str, x: Any) -> tuple[int, int]:
    lib = SimpleNamespace(jit=library.jit, sin=numpy.sin, exp=numpy.exp, checkpoint=library.checkpoint)
    f = CHAINS[chain](lib)
    _, f_lin = library.linearize(f, x)
    _, f_vjp = library.vjp(f, x)
    return len(library.tree.leaves(f_lin)), len(library.tree.leaves(f_vjp))


@pytest.mark.oracle
@pytest.mark.parametrize("chain", CHAINS)
def test_as_many_residuals_as_jax(chain: str):
    import jax

    x = np.ones((3, 3), np.float32)
    assert residuals_of(fg, jnp, chain, x) == residuals_of(jax, jax.numpy, chain, x)


def perceptron(lib: Any, numpy: Any) -> Callable[..., Any]:
    def fun(x: Any) -> Any:
        for _ in range(3):
            x = numpy.tanh(x @ x)
        return numpy.mean(x**2)

    return fun


PROGRAMS: dict[str, Callable[[Any, Any], Callable[..., Any]]] = {
    "perceptron": perceptron,
    "jitted perceptron": lambda lib, numpy: lib.jit(perceptron(lib, numpy)),
    "where": lambda lib, numpy: lambda x: numpy.where(x > 0, x * 2, numpy.exp(x)),
    "jitted where": lambda lib, numpy: lib.jit(lambda x: numpy.where(x > 0, x * 2, numpy.exp(x))),
    "layers": lambda lib, numpy: lib.jit(lambda x: lib.jit(numpy.sin)(lib.jit(lambda y: numpy.cos(y) * y)(x))),
}


@pytest.mark.oracle
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_more_bytes_of_residuals_than_jax(program: str):
    import jax

    x = np.ones((5, 5), np.float32)
    bytes_of = []
    for lib, numpy in ((fg, jnp), (jax, jax.numpy)):
        _, push = lib.linearize(PROGRAMS[program](lib, numpy), x)
        bytes_of.append(sum(leaf.nbytes for leaf in lib.tree.leaves(push)))
    assert bytes_of[0] <= bytes_of[1]


def test_a_result_is_its_own_residual():
    jaxpr = fg.make_jaxpr(grad(lambda x: jit(jnp.exp)(x)))(1.0)
    assert [len(e.outvars) for e in jaxpr.eqns] == [1, 1]


def test_linear_maps_are_pytrees_of_their_residuals():
    y, pull = jit(lambda x: fg.vjp(jnp.sin, x))(X)
    assert_close(tree.leaves(pull), [np.cos(X)])
    assert_close(jit(lambda pull, ct: pull(ct))(pull, X), (X * np.cos(X),))
    _, push = fg.linearize(jnp.sin, X)
    doubled = tree.map(lambda r: 2 * r, push)
    assert_close(doubled(X), 2 * X * np.cos(X))
    with pytest.raises(ArgumentError, match="called with 2 arguments"):
        pull(X, X)


# ---------------------------------------------------------------- memory and order


def stack(wrap: Callable[..., Any], layers: int, segment: int) -> Callable[..., Any]:
    def run(x: Any, weights: Any) -> Any:
        for w in weights:
            x = jnp.tanh(x @ w)
        return x

    def loss(weights: Any, x: Any) -> Any:
        for i in range(0, layers, segment):
            x = wrap(run)(x, weights[i : i + segment])
        return jnp.sum(x)

    return loss


def activations(loss: Callable[..., Any], layers: int) -> float:
    """Temporaries of the gradient, in units of one layer's result."""
    weights = [fg.ShapeDtypeStruct((16, 16), "float32")] * layers
    compiled = jit(grad(loss)).lower(weights, fg.ShapeDtypeStruct((64, 16), "float32")).compile()
    return compiled.memory_analysis().temporaries / (64 * 16 * 4)


def test_segments_need_memory_for_the_square_root_of_the_layers():
    plain = activations(stack(lambda f: f, 36, 1), 36)
    segments = activations(stack(checkpoint, 36, 6), 36)
    assert 36 <= plain <= 36 + 3 and segments <= 2 * math.sqrt(36) + 3
    shared = activations(stack(lambda f: checkpoint(f, prevent_cse=False), 36, 6), 36)
    assert shared == plain


def test_the_compiler_does_not_see_through_a_barrier():
    def f(x: Any) -> Any:
        y = jnp.sin(x)
        behind, _ = lax.optimization_barrier((x, jnp.sum(y)))
        return y, jnp.sin(behind)

    lowered = jit(f).lower(X)
    assert lowered.as_text("simplified").count("= sin") == 2
    assert len(lowered.as_text("groups").splitlines()) == 2  # the second sine waits for the sum
    assert lowered.compile().memory_analysis().temporaries <= 64  # nothing is copied
    assert_close(jit(f)(X), f(X))


def test_a_barrier_takes_any_structure():
    given = {"a": X, "b": (2.0, X.T)}
    assert_close(lax.optimization_barrier(given), given)
    assert_close(jit(lambda: lax.optimization_barrier((3.0, jnp.ones(1))))(), (3.0, np.ones(1, np.float32)))
    out, pull = fg.vjp(lambda x, y: lax.optimization_barrier((jnp.sin(x), y)), X, 1)
    assert_close(pull((X, np.zeros((), fg.float0)))[0], X * np.cos(X))


# ---------------------------------------------------------------- printing


@pytest.mark.oracle
@pytest.mark.parametrize("transform", [lambda lib, f: f, lambda lib, f: lambda x: lib.jvp(f, (x,), (x,))])
def test_prints_as_jax_does(transform: Callable[..., Any]):
    import jax

    texts = []
    for lib, numpy in ((fg, jnp), (jax, jax.numpy)):
        f = lib.checkpoint(lambda x, sin=numpy.sin: sin(sin(x)), policy=lib.checkpoint_policies.dots_saveable)
        texts.append(str(lib.make_jaxpr(transform(lib, f))(1.0)))
    assert texts[0] == texts[1]


def test_checkpointed_bodies_of_loops_compile():
    def loss(body: Callable[..., Any]) -> Callable[..., Any]:
        return lambda w, x: jnp.sum(lax.scan(lambda h, row: (body(w, h + row), h @ w), x[0], x)[1] ** 2)

    def body(w: Any, h: Any) -> Any:
        return jnp.tanh(h @ w)

    w, x = WEIGHTS[0], X
    assert_close(jit(loss(checkpoint(body)))(w, x), loss(body)(w, x))

    def barred(h: Any, row: Any) -> Any:
        h, row = lax.optimization_barrier((h, row))
        return h, lax.optimization_barrier((row @ w, h.T, row))

    assert_close(jit(lambda x: lax.scan(barred, x[0], x))(X), lax.scan(barred, X[0], X))
    big = np.ones((4, 40, 40), np.float32)
    out = jit(lambda x: lax.scan(lambda h, r: lax.optimization_barrier((r, h)), x[0], x))(big)
    assert_close(out, (big[0], big))
