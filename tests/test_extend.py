"""Primitives with rules registered one by one, and interpreters of jaxprs, written as for JAX."""

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.extend import core
from funcgrad.interpreters import ad, batching, mlir, partial_eval
from funcgrad.testing import check_grads, check_jit, check_vmap

multiply_add_p = core.Primitive("multiply_add")


def multiply_add(x, y, z):
    """x·y + z."""
    return multiply_add_p.bind(*map(jnp.asarray, (x, y, z)))


multiply_add_p.def_impl(lambda x, y, z: np.add(np.multiply(x, y), z))
multiply_add_p.def_abstract_eval(lambda x, y, z: core.ShapedArray(x.shape, x.dtype))


def _jvp(primals, tangents):
    x, y, z = primals
    dx, dy, dz = map(ad.instantiate_zeros, tangents)
    return multiply_add(x, y, z), multiply_add(dx, y, multiply_add(x, dy, dz))


def _transpose(ct, x, y, z):
    if ad.is_undefined_primal(x):
        return [multiply_add(ct, y, jnp.zeros_like(ct)), None, ct if ad.is_undefined_primal(z) else None]
    return [None, multiply_add(x, ct, jnp.zeros_like(ct)) if ad.is_undefined_primal(y) else None, ct]


ad.primitive_jvps[multiply_add_p] = _jvp
ad.primitive_transposes[multiply_add_p] = _transpose
batching.defvectorized(multiply_add_p)
ARGUMENTS = tuple(np.float32([a, b]) for a, b in ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)))


def test_a_primitive_with_registered_rules_is_like_others():
    check_grads(multiply_add, ARGUMENTS, order=2)
    check_vmap(multiply_add, ARGUMENTS)
    check_jit(multiply_add, ARGUMENTS)
    assert "multiply_add" in str(fg.make_jaxpr(multiply_add)(*ARGUMENTS))
    assert ad.primitive_jvps[multiply_add_p] is _jvp


def test_a_registered_lowering_is_compiled():
    square_p = core.Primitive("square_by_product")
    square_p.def_abstract_eval(lambda x: core.ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(square_p, mlir.lower_fun(lambda x: x * x, multiple_results=False))
    batching.primitive_batchers[square_p] = lambda args, dims: (square_p.bind(*args), dims[0])
    ad.defjvp(square_p, lambda t, x: 2 * x * t)
    f = fg.jit(lambda x: square_p.bind(x) + 1)
    np.testing.assert_array_equal(f(np.float32([2, 3])), [5, 10])
    assert "host" not in f.lower(np.float32([2, 3])).as_text("groups")
    np.testing.assert_array_equal(fg.jit(fg.vmap(lambda x: square_p.bind(x)))(np.float32([2, 3])), [4, 9])
    with pytest.raises(NotImplementedError, match="def_impl"):
        square_p.bind(jnp.ones(2))


def test_rules_of_the_library_are_read_not_set():
    assert batching.primitive_batchers[lax.sin_p] is not None
    with pytest.raises(ValueError, match="fixed where it is declared"):
        ad.primitive_jvps[lax.sin_p] = _jvp
    with pytest.raises(NotImplementedError, match="def_abstract_eval"):
        core.Primitive("nothing").bind(1.0)


def test_an_interpreter_of_a_jaxpr():
    """The inverse of a chain of functions, from its jaxpr."""
    inverses = {lax.exp_p: jnp.log, lax.tanh_p: jnp.arctanh}

    def inverse(fun):
        def inverted(y):
            closed = fg.make_jaxpr(fun)(y)
            env = dict(zip(closed.jaxpr.outvars, [y], strict=True))
            for eqn in closed.jaxpr.eqns[::-1]:
                env[eqn.invars[0]] = inverses[eqn.primitive](env[eqn.outvars[0]])
            return env[closed.jaxpr.invars[0]]

        return inverted

    f = lambda x: jnp.exp(jnp.tanh(x))  # noqa: E731
    np.testing.assert_allclose(fg.jit(inverse(f))(f(0.3)), 0.3, rtol=1e-5)


def test_jaxprs_are_evaluated_and_pruned():
    closed = fg.make_jaxpr(lambda x, y: (jnp.sin(x), jnp.cos(y)))(1.0, 2.0)
    assert core.eval_jaxpr(closed.jaxpr, closed.consts, 1.0, 2.0)[0] == jnp.sin(1.0)
    assert core.jaxpr_as_fun(closed)(1.0, 2.0)[1] == jnp.cos(2.0)
    smaller, used = partial_eval.dce_jaxpr(closed.jaxpr, [False, True])
    assert used == [False, True] and len(smaller.eqns) == 1
    nested = fg.make_jaxpr(fg.jit(jnp.sin))(1.0)
    assert len(core.jaxprs_in_params(nested.eqns[0].params)) == 1
