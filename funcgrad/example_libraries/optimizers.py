"""Optimizers whose state has the parameters in it: `jax.example_libraries.optimizers`.

An optimizer is a triple of functions: `init_fun(params) → state`, `update_fun(step, grads, state) → state` and
`get_params(state) → params`. The next generation of this interface is `funcgrad.optim`.

>>> import funcgrad.numpy as jnp
>>> init_fun, update_fun, get_params = momentum(0.1, mass=0.9)
>>> state = init_fun({"w": jnp.array([1.0, 2.0])})
>>> get_params(update_fun(0, {"w": jnp.array([1.0, 1.0])}, state))["w"]
Array([0.9, 1.9], dtype=float32)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import funcgrad.numpy as jnp
from funcgrad import tree, tree_util
from funcgrad.errors import ArgumentError
from funcgrad.errors import explain_missing_names as _explain_missing_names

Step = int
Schedule = Callable[[Any], Any]
"""A function from the number of the step, 0 for the first, to a step size."""


class OptimizerState(NamedTuple):
    """The leaves of the state of each parameter, the structure of the parameters, and that of each state."""

    packed_state: Any
    tree_def: Any
    subtree_defs: Any


tree_util.register_pytree_node(
    OptimizerState,
    lambda s: ((s.packed_state,), (s.tree_def, s.subtree_defs)),
    lambda data, s: OptimizerState(*s, *data),
)


class Optimizer(NamedTuple):
    """An optimizer: `init_fn(params)`, `update_fn(step, grads, state)` and `params_fn(state)`."""

    init_fn: Callable[[Any], Any]
    update_fn: Callable[[Any, Any, Any], Any]
    params_fn: Callable[[Any], Any]


def _pack(structure: Any, states: Sequence[Any]) -> OptimizerState:
    flat = [tree.flatten(state) for state in states]
    return OptimizerState([leaves for leaves, _ in flat], structure, tuple(s for _, s in flat))


def _unpack(state: OptimizerState) -> list[Any]:
    return [s.unflatten(leaves) for s, leaves in zip(state.subtree_defs, state.packed_state, strict=True)]


def optimizer(opt_maker: Callable[..., Any]) -> Callable[..., Optimizer]:
    """Make an optimizer of pytrees from one of arrays; a decorator of functions that return its three functions."""

    @functools.wraps(opt_maker)
    def make(*args: Any, **kwargs: Any) -> Optimizer:
        init, update, get_params = opt_maker(*args, **kwargs)
        name = make.__name__

        def init_fun(params: Any) -> OptimizerState:
            leaves, structure = tree.flatten(params)
            return _pack(structure, [init(x) for x in leaves])

        def update_fun(step: Any, grads: Any, state: OptimizerState) -> OptimizerState:
            leaves, structure = tree.flatten(grads)
            if structure != state.tree_def:
                raise ArgumentError(
                    f"{name}: the gradients are {structure}, the parameters {state.tree_def}",
                    fix="pass the gradients by the parameters that the state was made of",
                )
            new = _pack(structure, [update(step, g, s) for g, s in zip(leaves, _unpack(state), strict=True)])
            if new.subtree_defs != state.subtree_defs:
                raise ArgumentError(
                    f"{name}: update returns states {new.subtree_defs}, init {state.subtree_defs}",
                    fix="return a state of the same structure",
                )
            return new

        def get_all(state: OptimizerState) -> Any:
            return state.tree_def.unflatten(map(get_params, _unpack(state)))

        return Optimizer(init_fun, update_fun, get_all)

    return make


def _with_params_first(moments: int, update: Callable[..., tuple[Any, ...]]) -> tuple[Callable[..., Any], ...]:
    """The functions of an optimizer whose state is x and a number of arrays like it, at first 0."""

    def init(x: Any) -> tuple[Any, ...]:
        return (x, *[jnp.zeros_like(x)] * moments)

    return init, lambda i, g, state: update(i, g, *state), lambda state: state[0]


# ---------------------------------------------------------------- optimizers: g is the gradient by x, i the step


@optimizer
def sgd(step_size: float | Schedule) -> Any:
    """Gradient descent: x ← x − η g."""
    eta = make_schedule(step_size)
    return (lambda x: x), (lambda i, g, x: x - eta(i) * g), (lambda x: x)


@optimizer
def momentum(step_size: float | Schedule, mass: float) -> Any:
    """Gradient descent with momentum: v ← mass v + g, x ← x − η v."""
    eta = make_schedule(step_size)

    def update(i: Any, g: Any, x: Any, v: Any) -> tuple[Any, ...]:
        v = mass * v + g
        return x - eta(i) * v, v

    return _with_params_first(1, update)


@optimizer
def nesterov(step_size: float | Schedule, mass: float) -> Any:
    """Nesterov's momentum: v ← mass v + g, x ← x − η (mass v + g)."""
    eta = make_schedule(step_size)

    def update(i: Any, g: Any, x: Any, v: Any) -> tuple[Any, ...]:
        v = mass * v + g
        return x - eta(i) * (mass * v + g), v

    return _with_params_first(1, update)


def _reciprocal_root(squares: Any) -> Any:
    """1/√s, and 0 for 0."""
    return jnp.where(squares > 0, 1 / jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


@optimizer
def adagrad(step_size: float | Schedule, momentum: float = 0.9) -> Any:
    """Adagrad: s ← s + g², m ← (1 − momentum) g/√s + momentum m, x ← x − η m.

    Source: Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """
    eta = make_schedule(step_size)

    def update(i: Any, g: Any, x: Any, squares: Any, m: Any) -> tuple[Any, ...]:
        squares = squares + jnp.square(g)
        m = (1 - momentum) * (g * _reciprocal_root(squares)) + momentum * m
        return x - eta(i) * m, squares, m

    return _with_params_first(2, update)


@optimizer
def rmsprop(step_size: float | Schedule, gamma: float = 0.9, eps: float = 1e-8) -> Any:
    """RMSProp: s ← γ s + (1 − γ) g², x ← x − η g/√(s + eps). Source: Tieleman, Hinton, 2012."""
    eta = make_schedule(step_size)

    def update(i: Any, g: Any, x: Any, squares: Any) -> tuple[Any, ...]:
        squares = squares * gamma + jnp.square(g) * (1 - gamma)
        return x - eta(i) * g / jnp.sqrt(squares + eps), squares

    return _with_params_first(1, update)


@optimizer
def rmsprop_momentum(step_size: float | Schedule, gamma: float = 0.9, eps: float = 1e-8, momentum: float = 0.9) -> Any:
    """RMSProp with momentum: s as in `rmsprop`, m ← momentum m + η g/√(s + eps), x ← x − m."""
    eta = make_schedule(step_size)

    def update(i: Any, g: Any, x: Any, squares: Any, m: Any) -> tuple[Any, ...]:
        squares = squares * gamma + jnp.square(g) * (1 - gamma)
        m = momentum * m + eta(i) * g / jnp.sqrt(squares + eps)
        return x - m, squares, m

    return _with_params_first(2, update)


def _power(base: float, x: Any, i: Any) -> Any:
    return jnp.asarray(base, x.dtype) ** (i + 1)


@optimizer
def adam(step_size: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """Adam: m ← (1 − b₁) g + b₁ m, v ← (1 − b₂) g² + b₂ v, x ← x − η m̂/(√v̂ + eps), m̂ and v̂ without bias.

    Source: Kingma, Ba, "Adam: a method for stochastic optimization", 2014.
    """
    eta = make_schedule(step_size)

    def update(i: Any, g: Any, x: Any, m: Any, v: Any) -> tuple[Any, ...]:
        m = (1 - b1) * g + b1 * m
        v = (1 - b2) * jnp.square(g) + b2 * v
        unbiased, squares = m / (1 - _power(b1, m, i)), v / (1 - _power(b2, m, i))
        return x - eta(i) * unbiased / (jnp.sqrt(squares) + eps), m, v

    return _with_params_first(2, update)


@optimizer
def adamax(step_size: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """AdaMax: m as in `adam`, u ← max(b₂ u, |g|), x ← x − η/(1 − b₁ᵗ) m/(u + eps). Source: Kingma, Ba, 2014."""
    eta = make_schedule(step_size)

    def update(i: Any, g: Any, x: Any, m: Any, u: Any) -> tuple[Any, ...]:
        m = (1 - b1) * g + b1 * m
        u = jnp.maximum(b2 * u, jnp.abs(g))
        return x - eta(i) / (1 - _power(b1, m, i)) * m / (u + eps), m, u

    return _with_params_first(2, update)


@optimizer
def sm3(step_size: float | Schedule, momentum: float = 0.9) -> Any:
    """SM3: like Adagrad, with a vector of sums of squares per axis in the place of an array of them.

    Source: Anil, Gupta, Koren, Singer, "Memory-efficient adaptive optimization", 2019.
    """
    eta = make_schedule(step_size)

    def init(x: Any) -> tuple[Any, ...]:
        shape, x = jnp.shape(x), jnp.atleast_1d(x)
        return x, jnp.zeros_like(x), [jnp.zeros(n, x.dtype) for n in x.shape], shape

    def update(i: Any, g: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        x, m, sums, shape = state
        g = jnp.reshape(g, x.shape)
        along = [jnp.expand_dims(s, [d for d in range(x.ndim) if d != axis]) for axis, s in enumerate(sums)]
        squares = functools.reduce(jnp.minimum, along) + jnp.square(g)
        m = (1 - momentum) * (g * _reciprocal_root(squares)) + momentum * m
        sums = [squares.max([d for d in range(x.ndim) if d != axis]) for axis in range(x.ndim)]
        return x - eta(i) * m, m, sums, shape

    return init, update, lambda state: state[0].reshape(state[3])


# ---------------------------------------------------------------- schedules


def constant(step_size: Any) -> Schedule:
    """Return `step_size` for all steps."""
    return lambda i: step_size


def exponential_decay(step_size: Any, decay_steps: Any, decay_rate: Any) -> Schedule:
    """Return step_size · decay_rate^(i / decay_steps)."""
    return lambda i: step_size * decay_rate ** (i / decay_steps)


def inverse_time_decay(step_size: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False) -> Schedule:
    """Return step_size / (1 + decay_rate · i / decay_steps), the fraction rounded down if `staircase`."""
    if staircase:
        return lambda i: step_size / (1 + decay_rate * jnp.floor(i / decay_steps))
    return lambda i: step_size / (1 + decay_rate * i / decay_steps)


def polynomial_decay(step_size: Any, decay_steps: Any, final_step_size: Any, power: float = 1.0) -> Schedule:
    """Return (step_size − final_step_size)(1 − i / decay_steps)^power + final_step_size; it stops at the last step."""

    def schedule(i: Any) -> Any:
        rest = 1 - jnp.minimum(i, decay_steps) / decay_steps
        return rest**power * (step_size - final_step_size) + final_step_size

    return schedule


def piecewise_constant(boundaries: Any, values: Any) -> Schedule:
    """Return values[k] for the k-th interval between the boundaries, each of which ends an interval."""
    boundaries, values = jnp.array(boundaries), jnp.array(values)
    if boundaries.ndim != 1 or values.shape != (boundaries.size + 1,):
        raise ArgumentError(
            f"piecewise_constant: boundaries {boundaries.aval}, values {values.aval}", fix="give one value more"
        )
    return lambda i: values[jnp.sum(i > boundaries)]


def make_schedule(scalar_or_schedule: Any) -> Schedule:
    """Return a schedule as it is, and a number as a constant one."""
    if callable(scalar_or_schedule):
        return scalar_or_schedule
    if jnp.ndim(scalar_or_schedule) == 0:
        return constant(scalar_or_schedule)
    raise ArgumentError(
        f"make_schedule: the step size is {scalar_or_schedule!r:.60}", fix="give a number, or a function of the step"
    )


# ---------------------------------------------------------------- gradients and states


def l2_norm(tree_of_arrays: Any) -> Any:
    """Return the Euclidean norm of all leaves together."""
    return jnp.sqrt(sum(jnp.vdot(x, x) for x in tree.leaves(tree_of_arrays)))


def clip_grads(grad_tree: Any, max_norm: Any) -> Any:
    """Scale gradients so that their norm is at most `max_norm`."""
    norm = l2_norm(grad_tree)
    return tree.map(lambda g: jnp.where(norm < max_norm, g, g * (max_norm / norm)), grad_tree)


class JoinPoint:
    """The state of one parameter, as a leaf of the tree that `unpack_optimizer_state` returns."""

    def __init__(self, subtree: Any):
        self.subtree = subtree

    def __iter__(self) -> Iterator[Any]:
        yield self.subtree


def unpack_optimizer_state(opt_state: OptimizerState) -> Any:
    """Return a tree like the parameters, with a `JoinPoint` for each, for example to write it to a file."""
    return opt_state.tree_def.unflatten(map(JoinPoint, _unpack(opt_state)))


def pack_optimizer_state(marked_pytree: Any) -> OptimizerState:
    """Return the state that `unpack_optimizer_state` was given."""
    leaves, structure = tree.flatten(marked_pytree)
    if not all(isinstance(leaf, JoinPoint) for leaf in leaves):
        raise ArgumentError(
            "pack_optimizer_state: a leaf is no JoinPoint", fix="pass what unpack_optimizer_state returns"
        )
    return _pack(structure, [leaf.subtree for leaf in leaves])


_explain_missing_names(__name__)
