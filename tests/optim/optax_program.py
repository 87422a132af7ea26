"""optax on arrays of funcgrad: the name `jax` stands for it. Prints the optimizers that trained."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np

import funcgrad
import funcgrad.numpy as jnp
from funcgrad import optim

MODULES = ("numpy", "lax", "nn", "random", "tree", "tree_util", "flatten_util", "typing", "sharding", "dtypes", "scipy")
# Used by optax for densities and for losses only, which this program does not need.
UNUSED = ("scipy.special", "scipy.stats", "scipy.stats.norm")

PARAMS = {"w": jnp.array([1.0, -2.0]), "m": jnp.full((2, 3), 0.5)}


def loss(params):
    return jnp.sum(jnp.array([1.0, 3.0]) * params["w"] ** 2) + jnp.sum((params["m"] @ params["m"].T) ** 2)


def optax_on_funcgrad():
    """Import optax with the name `jax` for funcgrad. Modules of optax and of optax.contrib are one namespace."""
    sys.modules["jax"] = funcgrad
    for name in MODULES:
        sys.modules[f"jax.{name}"] = importlib.import_module(f"funcgrad.{name}")
    for name in UNUSED:
        parent, _, last = name.rpartition(".")
        module = sys.modules.setdefault(f"jax.{name}", types.ModuleType(name))
        setattr(sys.modules[f"jax.{parent}"], last, module)
    sys.modules["jax.scipy.special"].logsumexp = None
    optax, contrib = importlib.import_module("optax"), importlib.import_module("optax.contrib")
    return types.SimpleNamespace(**vars(contrib) | vars(optax))


BY_RATE = (
    "sgd",
    "adam",
    "adamw",
    "nadam",
    "amsgrad",
    "adabelief",
    "radam",
    "rmsprop",
    "adagrad",
    "lamb",
    "lars",
    "lion",
    "yogi",
    "adafactor",
    "novograd",
    "muon",
    "schedule_free_adamw",
)
OPTIMIZERS = {
    **{name: lambda o, name=name: getattr(o, name)(0.01) for name in BY_RATE},
    "chain": lambda o: o.chain(o.clip_by_global_norm(1.0), o.adam(o.warmup_cosine_decay_schedule(0.0, 0.1, 3, 30))),
    "partition": lambda o: o.partition({"a": o.adam(0.01), "b": o.sgd(0.01)}, {"w": "a", "m": "b"}),
    "MultiSteps": lambda o: o.MultiSteps(o.adam(0.01), 2).gradient_transformation(),
    "inject_hyperparams": lambda o: o.inject_hyperparams(o.adam)(0.01),
    "noisy_sgd": lambda o: o.noisy_sgd(0.01, key=0),
    "lbfgs": lambda o: o.lbfgs(),
}
COMPILED = ("adam", "partition", "lbfgs")


def train(make, optimizers, name):
    optimizer = make(optimizers)

    def step(params, state):
        value, grads = funcgrad.value_and_grad(loss)(params)
        extra = {"value": value, "grad": grads, "value_fn": loss} if name == "lbfgs" else {}
        updates, state = optimizer.update(grads, state, params, **extra)
        return optimizers.apply_updates(params, updates), state

    step = funcgrad.jit(step) if name in COMPILED else step
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(6):
        params, state = step(params, state)
    return params


def main():
    optax = optax_on_funcgrad()
    for name, make in OPTIMIZERS.items():
        theirs, ours = train(make, optax, name), train(make, optim, name)
        for key in PARAMS:
            assert isinstance(theirs[key], funcgrad.Array)
            np.testing.assert_allclose(theirs[key], ours[key], rtol=2e-4, atol=2e-6, err_msg=name)
        assert loss(theirs) < loss(PARAMS), name
        print(name)
    assert not any(name.startswith("jax._src") for name in sys.modules)


if __name__ == "__main__":  # collecting doctests imports this file
    main()
