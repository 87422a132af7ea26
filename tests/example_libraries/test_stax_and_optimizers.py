"""example_libraries: layers and optimizers as in JAX, with the same numbers."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import random
from funcgrad.errors import ArgumentError
from funcgrad.example_libraries import optimizers, stax
from funcgrad.testing import assert_close

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
X = IMAGES[:, 0, 0]


def small(stax):
    return stax.serial(
        stax.Conv(4, (3, 3), strides=(2, 2), padding="SAME"),
        stax.BatchNorm(),
        stax.Relu,
        stax.MaxPool((2, 2)),
        stax.ConvTranspose(2, (2, 2), strides=(2, 2)),
        stax.AvgPool((2, 2), (1, 1), "SAME"),
        stax.Flatten,
        stax.FanOut(2),
        stax.parallel(stax.serial(stax.Dense(3), stax.Tanh), stax.Dense(3)),
        stax.FanInSum,
        stax.shape_dependent(lambda shape: stax.Dense(shape[-1])),
        stax.Dropout(0.8),
        stax.LogSoftmax,
    )


ACTIVATIONS = ("Elu", "Exp", "Gelu", "Identity", "LeakyRelu", "Selu", "Sigmoid", "Softmax", "Softplus")


@pytest.mark.oracle
def test_networks_are_those_of_jax(jax):
    theirs = importlib.import_module("jax.example_libraries.stax")
    key, other = random.key(3), jax.random.key(3)
    init, apply = small(stax)
    their_init, their_apply = small(theirs)
    shape, params = init(key, (-1, *IMAGES.shape[1:]))
    their_shape, their_params = their_init(other, (-1, *IMAGES.shape[1:]))
    assert shape == their_shape
    ours, expected = fg.tree.leaves(params), jax.tree.leaves(their_params)
    for a, b in zip(ours, expected, strict=True):
        assert_close(a, np.asarray(b), rtol=1e-6)

    def outputs(stax, apply, params, key):
        return apply(params, IMAGES, rng=key), [getattr(stax, name)[1]((), X) for name in ACTIVATIONS]

    found = outputs(stax, apply, params, key)
    wanted = jax.jit(lambda params: outputs(theirs, their_apply, params, other))(their_params)
    assert_close(found, jax.tree.map(np.asarray, wanted), rtol=1e-4, atol=1e-4)


def test_shapes_are_those_of_the_outputs():
    channels_first = ("NCHW", "OIHW", "NCHW")
    for layer in (
        small(stax),
        stax.serial(stax.FanOut(2), stax.FanInConcat()),
        stax.SumPool((2, 3), (2, 1)),
        stax.BatchNorm(axis=0, center=False),
        stax.serial(stax.GeneralConv(channels_first, 3, (2, 2)), stax.MaxPool((2, 2), spec="NCHW")),
        stax.GeneralConvTranspose(channels_first, 3, (2, 2), padding="SAME"),
    ):
        shape, params = layer[0](random.key(0), IMAGES.shape)
        assert fg.eval_shape(lambda p, f=layer[1]: f(p, IMAGES, rng=random.key(0)), params).shape == tuple(shape)
    inputs = jnp.ones((2, 3))
    assert stax.Dropout(0.5, mode="test")[1]((), inputs, rng=random.key(0)) is inputs
    with pytest.raises(ArgumentError, match="Dropout: no key"):
        stax.Dropout(0.5)[1]((), inputs)


def test_a_network_learns():
    init, apply = stax.serial(stax.Dense(16), stax.Relu, stax.Dense(1))
    _, params = init(random.key(0), (-1, 3))
    xs = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    start, update, get_params = optimizers.adam(optimizers.exponential_decay(0.05, 100, 0.5))

    def loss(params):
        return jnp.mean((apply(params, xs)[:, 0] - jnp.sin(xs).sum(1)) ** 2)

    step = fg.jit(lambda i, state: update(i, fg.grad(loss)(get_params(state)), state))
    state = start(params)
    for i in range(150):
        state = step(i, state)
    assert loss(get_params(state)) < 0.02 * loss(params)


OPTIMIZERS = {
    "sgd": (0.1,),
    "momentum": (0.1, 0.9),
    "nesterov": (0.1, 0.9),
    "adagrad": (0.1,),
    "rmsprop": (0.1,),
    "rmsprop_momentum": (0.1,),
    "adam": (0.1,),
    "adamax": (0.1,),
    "sm3": (0.1,),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_jax(jax, name: str):
    theirs = importlib.import_module("jax.example_libraries.optimizers")
    params = {"w": np.ones((2, 3), "float32"), "b": [np.zeros(3, "float32")]}
    grads = [{"w": IMAGES[0, i, :2, :] + 0.1, "b": [IMAGES[1, i, 0]]} for i in range(3)]
    results = []
    for module in (optimizers, theirs):
        init, update, get_params = getattr(module, name)(*OPTIMIZERS[name])
        state = init(params)
        for i, g in enumerate(grads):
            state = update(i, g, state)
        packed = module.pack_optimizer_state(module.unpack_optimizer_state(state))
        results.append([np.asarray(x) for x in jax.tree.leaves(get_params(packed))])
    assert_close(*results, rtol=1e-5, atol=1e-6)


def test_schedules():
    for schedule, expected in (
        (optimizers.constant(3.0), [3.0, 3.0, 3.0]),
        (optimizers.exponential_decay(1.0, 5, 0.5), [1.0, 0.5, 0.25]),
        (optimizers.inverse_time_decay(1.0, 5, 1.0), [1.0, 1 / 2, 1 / 3]),
        (optimizers.inverse_time_decay(1.0, 10, 1.0, staircase=True), [1.0, 1.0, 1 / 2]),
        (optimizers.polynomial_decay(1.0, 5, 0.2), [1.0, 0.2, 0.2]),
        (optimizers.piecewise_constant([0, 5], [1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
    ):
        assert_close([schedule(i) for i in (0, 5, 10)], expected, rtol=1e-6, check_dtypes=False)
    with pytest.raises(ArgumentError, match="step size is"):
        optimizers.make_schedule([1.0])
    with pytest.raises(ArgumentError, match="piecewise_constant"):
        optimizers.piecewise_constant([1], [1])


def test_gradients_are_clipped():
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    assert_close(optimizers.l2_norm(grads), np.float32(5))
    assert_close(optimizers.clip_grads(grads, 1.0)["b"], np.array([0.8], "float32"), rtol=1e-6)
    assert_close(optimizers.clip_grads(grads, 10.0), grads)


def test_states_have_the_structure_of_the_parameters():
    init, update, _ = optimizers.momentum(0.1, 0.9)
    state = init({"a": jnp.ones(2)})
    assert len(fg.tree.leaves(state)) == 2 and isinstance(fg.tree.map(lambda x: x, state), optimizers.OptimizerState)
    with pytest.raises(ArgumentError, match="momentum: the gradients are"):
        update(0, [jnp.ones(2)], state)
    with pytest.raises(ArgumentError, match="no JoinPoint"):
        optimizers.pack_optimizer_state({"a": 1.0})
