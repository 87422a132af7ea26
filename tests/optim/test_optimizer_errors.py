"""Bad input to optimizers and schedules: each message names the operation, the leaf, the values, the line and a fix."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, optim

X = jnp.ones((5, 4))
W = {"w": jnp.ones(3)}
ADAM = optim.adam(0.1)

# what is done, and parts of what the message says: the operation with both values, then the remedy
CASES = {
    # making optimizers
    "rate of text": (lambda: optim.sgd("0.1"), ["sgd: learning_rate is '0.1' of type str", "pass a number"]),
    "no rate": (lambda: optim.adam(None), ["adam: learning_rate is None"]),
    "rate of an array": (lambda: optim.adamw(jnp.ones(2)), ["adamw: learning_rate is Array", "pass a number"]),
    "momentum as text": (lambda: optim.sgd(0.1, "0.9"), ["sgd: momentum is '0.9'"]),
    "a schedule as b1": (
        lambda: optim.adam(0.1, optim.constant_schedule(0.9)),
        ["adam: b1", "only learning rates may be schedules"],
    ),
    "b2 of 1": (lambda: optim.adam(0.1, b2=1), ["adam: b2 is 1", "[0, 1)"]),
    "decay as text": (lambda: optim.adamw(0.1, weight_decay="1e-4"), ["adamw: weight_decay is '1e-4'"]),
    "limit as text": (lambda: optim.clip("1"), ["clip: max_delta is '1'"]),
    "norm of 0": (lambda: optim.clip_by_global_norm(0), ["clip_by_global_norm: max_norm is 0", "(0, inf)"]),
    "chain of numbers": (lambda: optim.chain(0.1), ["chain: part 0 is 0.1 of type float", "scale(number)"]),
    "chain of a list": (lambda: optim.chain([ADAM]), ["chain: part 0 is [Optimizer", "as separate arguments"]),
    # using optimizers
    "no state": (
        lambda: ADAM.update(W, None, W),
        ["a state of type NoneType for a chain of 2", "optimizer.init(params)"],
    ),
    "no state of one step": (
        lambda: optim.scale_by_adam().update(W, None),
        ["scale_by_adam: the state is None", "not ScaleByAdamState", "optimizer.init(params)"],
    ),
    "state of momentum": (lambda: optim.trace(0.9).update(W, W), ["trace: the state is of type dict, not TraceState"]),
    "state of a schedule": (
        lambda: optim.scale_by_learning_rate(optim.constant_schedule(1)).update(W, ()),
        ["scale_by_schedule: the state is of type tuple, not ScaleByScheduleState"],
    ),
    "params for state": (lambda: ADAM.update(W, W), ["a state of type dict for a chain of 2"]),
    "integers in Adam": (
        lambda: ADAM.init({"w": X, "n": jnp.arange(3)}),
        ["scale_by_adam: params['n'] is i32[3]", ".astype(float)"],
    ),
    "integers in momentum": (lambda: optim.sgd(0.1, 0.9).init({"n": 3}), ["trace: params['n'] is i32[]"]),
    "text in Adam": (lambda: ADAM.init({"name": "x"}), ["params['name'] is 'x' of type str", "pytrees of arrays"]),
    "integers updated": (
        lambda: optim.apply_updates({"n": jnp.arange(3)}, {"n": jnp.ones(3)}),
        ["apply_updates", "i32[3]", "f32[3]", ".astype(float)"],
    ),
    "update of another shape": (
        lambda: optim.apply_updates(W, {"w": X}),
        ["apply_updates: shapes differ: params['w'] is f32[3], updates['w'] is f32[5,4]"],
    ),
    "update of another key": (
        lambda: optim.apply_updates(W, {"v": X}),
        ["apply_updates", "params is a dict with key 'w'", "updates a dict with key 'v'"],
    ),
    "all that update returned": (
        lambda: optim.apply_updates([X], ADAM.update([X], ADAM.init([X]))),
        ["params is a list of 1", "updates a tuple of 2"],
    ),
    "gradients of another shape": (
        lambda: ADAM.update({"w": X}, ADAM.init(W)),
        ["scale_by_adam: shapes differ: updates['w'] is f32[5,4], mu['w'] is f32[3]"],
    ),
    "gradients of other keys": (
        lambda: ADAM.update({"v": X}, ADAM.init(W)),
        ["updates is a dict with key 'v'", "mu a dict with key 'w'"],
    ),
    "norm of text": (lambda: optim.global_norm({"w": "x"}), ["global_norm: updates['w'] is 'x' of type str"]),
    # schedules
    "start as text": (lambda: optim.linear_schedule("0", 1, 3), ["linear_schedule: init_value is '0'"]),
    "steps of 0": (
        lambda: optim.cosine_decay_schedule(0.1, 0),
        ["cosine_decay_schedule: decay_steps is 0", "(0, inf)"],
    ),
    "exponential over 0": (lambda: optim.exponential_decay(0.1, 0, 0.5), ["exponential_decay: transition_steps is 0"]),
    "constant of a function": (
        lambda: optim.constant_schedule(optim.identity),
        ["constant_schedule: value is <function"],
    ),
    "warmup longer than all": (
        lambda: optim.warmup_cosine_decay_schedule(0, 0.1, 100, 50),
        ["warmup_steps=100 of decay_steps=50", "the warmup"],
    ),
    "boundaries fall": (
        lambda: optim.join_schedules([1, 2, 3], [5, 3]),
        ["join_schedules: boundaries [5, 3] do not increase", "sort"],
    ),
    "join of text": (lambda: optim.join_schedules(["1", 2], [5]), ["join_schedules: schedule 0 is '1'"]),
    "one schedule for one boundary": (
        lambda: optim.join_schedules([optim.constant_schedule(1.0)], [3]),
        ["join_schedules: 1 schedules and 1 boundaries"],
    ),
    "interpolation by name": (
        lambda: optim.piecewise_interpolate_schedule("cubic", 1.0),
        ["interpolate_type is 'cubic'", "'linear' or 'cosine'"],
    ),
    "negative scale": (
        lambda: optim.piecewise_constant_schedule(1.0, {3: -0.5}),
        ["piecewise_constant_schedule: the scale at 3 is -0.5", "[0, inf)"],
    ),
    # combinations
    "a state of too few parts": (
        lambda: optim.sgd(0.1).update(W, ()),
        ["a state of 0 parts for a chain of 2 optimizers"],
    ),
    "weight decay without parameters": (
        lambda: optim.add_decayed_weights(0.1).update(W, optim.EmptyState()),
        ["add_decayed_weights: update needs the parameters", "update(grads, state, params)"],
    ),
    "label without optimizer": (
        lambda: optim.partition({"a": ADAM}, {"w": "b"}).init(W),
        ["partition: params['w'] has the label 'b'", "the labels are ['a']"],
    ),
    "names repeat": (lambda: optim.named_chain(("a", ADAM), ("a", ADAM)), ["named_chain: names ['a', 'a'] repeat"]),
    "named state": (
        lambda: optim.named_chain(("a", ADAM)).update(W, {"b": ()}),
        ["a state of keys ['b'] for a chain of ['a']"],
    ),
    "mask of other keys": (
        lambda: optim.masked(ADAM, {"v": True}).init(W),
        ["tree 1 is a dict with key 'v'", "tree 2 a dict with key 'w'"],
    ),
    "factors of other keys": (
        lambda: optim.scale_per_leaf({"v": 1.0}).update(W, optim.EmptyState()),
        ["scale_per_leaf: the trees differ: factors is a dict with key 'v'", "updates a dict with key 'w'"],
    ),
    "no steps to accumulate": (lambda: optim.MultiSteps(ADAM, 0), ["MultiSteps: every_k_schedule is 0"]),
    "lookahead of plain parameters": (
        lambda: optim.lookahead(ADAM, 5, 0.5).init(W),
        ["lookahead: params is of type dict", "LookaheadParams.init_synced"],
    ),
    "period of 0": (lambda: optim.sam(ADAM, ADAM, 0), ["sam: sync_period is 0"]),
    "hidden ascent without gradient": (
        lambda: (o := optim.sam(ADAM, ADAM, opaque_mode=True)).update(W, o.init(W), W),
        ["sam: opaque_mode needs the gradient", "grad_fn="],
    ),
    "static argument": (
        lambda: optim.inject_hyperparams(optim.sgd, "rate"),
        ["static_args ['rate'] are no arguments of <function sgd", "learning_rate, momentum"],
    ),
    "two values of one name": (
        lambda: optim.tree.get(ADAM.init(W) + ADAM.init(W), "count"),
        ["get: 2 values are called 'count': [0].count, [2].count"],
    ),
    "no value of a name": (lambda: optim.tree.set(ADAM.init(W), rate=1.0), ["set: no value is called 'rate'"]),
    # what an optimizer needs
    "Polyak without value": (
        lambda: (o := optim.polyak_sgd()).update(W, o.init(W)),
        ["scale_by_polyak: update needs the value of the loss", "value=loss"],
    ),
    "search without loss": (
        lambda: (o := optim.lbfgs()).update(W, o.init(W), W, value=1.0, grad=W),
        ["scale_by_zoom_linesearch: update needs the loss", "value_fn=loss"],
    ),
    "argument that the loss does not take": (
        lambda: (o := optim.lbfgs()).update(W, o.init(W), W, value=1.0, grad=W, value_fn=lambda x: 1.0, batch=3),
        ["the loss takes no arguments ['batch']"],
    ),
    "Sophia without loss": (
        lambda: (o := optim.sophia(0.1)).update(W, o.init(W), W),
        ["the estimator of the Hessian needs the loss", "obj_fn=loss"],
    ),
    "no memory": (lambda: optim.scale_by_lbfgs(0), ["scale_by_lbfgs: memory_size is 0"]),
    "state without value": (
        lambda: optim.value_and_grad_from_state(jnp.sum)(X, state=ADAM.init(W)),
        ["value_and_grad_from_state: the state holds no value and gradient"],
    ),
    "vector for Muon": (
        lambda: (o := optim.scale_by_muon()).update(W, o.init(W)),
        ["muon: a parameter is f32[3]", "leave vectors and scalars to Adam"],
    ),
    "axes of Muon": (
        lambda: (o := optim.scale_by_shape(optim.MuonDimensionNumbers(0, -2))).update({"w": X}, o.init(W)),
        ["muon: axes (0,) and (0,) of a parameter f32[5,4] overlap"],
    ),
    "preconditioning of Muon": (
        lambda: optim.orthogonalize_via_newton_schulz(X, (1.0, 1.0, 1.0), preconditioning="polar"),
        ["muon: preconditioning is 'polar'", "frobenius, spectral, aol, schatten"],
    ),
    "coefficients of Muon": (
        lambda: optim.orthogonalize_via_newton_schulz(X, (1.0, 1.0)),
        ["muon: ns_coeffs is f32[2]", "(a, b, c)"],
    ),
    "mode of Lion": (
        lambda: optim.scale_by_lion(mode="soft"),
        ["scale_by_lion: mode is 'soft'", "hard, smooth, refined"],
    ),
    "SM3 of complex numbers": (lambda: optim.sm3(0.1).init(X * 1j), ["scale_by_sm3: a parameter is c64[5,4]"]),
    "factor of a plateau": (lambda: optim.reduce_on_plateau(1.0), ["reduce_on_plateau: factor is 1.0", "(0, 1)"]),
    "schedule-free without momentum": (lambda: optim.schedule_free_sgd(b1=0.0), ["schedule_free: b1 is 0"]),
    "evaluation of another state": (
        lambda: optim.schedule_free_eval_params(ADAM.init(W), W),
        ["schedule_free_eval_params: the state is of type tuple, not ScheduleFreeState"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_messages_name_operation_values_line_and_remedy(name):
    call, parts = CASES[name]
    with pytest.raises(errors.FuncgradError) as caught:
        call()
    message = str(caught.value)
    for part in [*parts, "at test_optimizer_errors.py:", "\n  fix: "]:
        assert part in message, message


def test_a_known_rate_may_be_traced_or_an_array():
    """Hyperparameters are differentiable."""
    step = lambda rate: optim.sgd(rate, momentum=rate).update(W, optim.sgd(rate, 0.9).init(W))[0]["w"].sum()  # noqa: E731
    assert fg.jit(fg.grad(step))(0.1) == -3 and step(np.float32(0.1)) == step(jnp.array(0.1))


def test_optimizers_from_elsewhere_are_chained():
    other = SimpleNamespace(init=lambda params: (), update=lambda g, s, p=None: (fg.tree.map(lambda x: 2 * x, g), s))
    chained = optim.chain(other, optim.sgd(0.5))
    assert chained.update(W, chained.init(W), W)[0]["w"].tolist() == [-1, -1, -1]
