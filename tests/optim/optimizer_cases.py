"""One table of optimizers, and the problem on which each is compared with optax, with PyTorch and with its definition.

`python tools/make_optimizer_figures.py` computes the figures of the peers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = Path(__file__).with_name("optimizer_figures.json")
STEPS = 12
_RNG = np.random.default_rng(0)
PARAMS = {"w": _RNG.standard_normal((3, 2)), "b": _RNG.standard_normal(2)}
SLOPES = {name: 0.5 + _RNG.random((STEPS, *p.shape)) for name, p in PARAMS.items()}
OFFSETS = {name: 0.5 * _RNG.standard_normal((STEPS, *p.shape)) for name, p in PARAMS.items()}
"""The loss in step t is Σ ½aₜp² + bₜp: another quadratic function in each."""


def flat(params: dict[str, Any]) -> np.ndarray:
    """All parameters as one vector."""
    return np.concatenate([np.ravel(np.asarray(params[name], np.float64)) for name in ("w", "b")])


def figures() -> dict[str, dict[str, np.ndarray]]:
    """Parameters after all steps in float64, by peer and case."""
    stored = json.loads(FIGURES.read_text())
    return {peer: {name: np.array(values) for name, values in cases.items()} for peer, cases in stored.items()}


# name -> (optimizer, given funcgrad.optim or optax). Names that are those of optimizers take only a learning rate.
_BY_RATE = (
    "adabelief",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "amsgrad",
    "fromage",
    "lamb",
    "lars",
    "lion",
    "nadam",
    "nadamw",
    "novograd",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "radam",
    "rmsprop",
    "sgd",
    "sign_sgd",
    "signum",
    "sm3",
    "yogi",
    "adadelta",
    "muon",
    "schedule_free_sgd",
    "schedule_free_adamw",
    "noisy_sgd",
)

Make = Callable[[Any], Any]


def _by_rate(name: str) -> Make:
    return lambda o: getattr(o, name)(0.05, **({"key": 3} if name == "noisy_sgd" else {}))


CASES: dict[str, Make] = {
    **{name: _by_rate(name) for name in _BY_RATE},
    "sgd momentum": lambda o: o.sgd(0.1, 0.9),
    "sgd nesterov": lambda o: o.sgd(0.1, 0.9, True),
    "sgd scheduled": lambda o: o.sgd(o.cosine_decay_schedule(0.1, 10)),
    "polyak_sgd": lambda o: o.polyak_sgd(0.1, f_min=-5.0),
    "polyak_sgd positive": lambda o: o.polyak_sgd(0.1, variant="sps+", eps=0.1),
    "rmsprop centered": lambda o: o.rmsprop(0.05, centered=True, momentum=0.9),
    "rmsprop corrected": lambda o: o.rmsprop(
        0.05, momentum=0.9, nesterov=True, eps_in_sqrt=False, bias_correction=True, initial_scale=1.0
    ),
    "rmsprop centered corrected": lambda o: o.rmsprop(0.05, centered=True, bias_correction=True, initial_scale=1.0),
    "adafactor factored": lambda o: o.adafactor(0.05, min_dim_size_to_factor=2, momentum=0.9, weight_decay_rate=1e-3),
    "lion smooth": lambda o: o.chain(o.scale_by_lion(mode="smooth"), o.scale(-0.1)),
    "lion refined": lambda o: o.chain(o.scale_by_lion(mode="refined"), o.scale(-0.1)),
    "lamb decayed": lambda o: o.lamb(0.05, weight_decay=0.1),
    "lars decayed": lambda o: o.lars(5.0, weight_decay=0.1, trust_coefficient=0.1, nesterov=True),
    "fromage scheduled": lambda o: o.fromage(o.linear_schedule(0.1, 0.0, 20)),
    "radam nesterov": lambda o: o.radam(0.05, b2=0.9, nesterov=True),
    "adabelief nesterov": lambda o: o.adabelief(0.05, nesterov=True),
    "amsgrad uncorrected": lambda o: o.amsgrad(0.05, bias_correction_mu=False, bias_correction_nu=False),
    "adam options": lambda o: o.adam(0.05, 0.8, 0.9, 1e-3, 1e-2),
    "adamw masked": lambda o: o.adamw(0.05, weight_decay=o.linear_schedule(0.1, 0.0, 20), mask={"w": True, "b": False}),
    "novograd decayed": lambda o: o.novograd(0.05, weight_decay=0.1, eps_root=0.1),
    "muon dion": lambda o: o.muon(0.05, ns_coeffs="dion", consistent_rms=0.2, adaptive=True, nesterov=False),
    "muon spectral": lambda o: o.muon(0.05, preconditioning="spectral", weight_decay=0.1),
    "muon aol": lambda o: o.muon(0.05, preconditioning="aol"),
    "muon schatten": lambda o: o.muon(0.05, preconditioning="schatten"),
    "muon transposed": lambda o: o.muon(
        0.05, muon_weight_dimension_numbers={"w": o.MuonDimensionNumbers((1,), (0,)), "b": None}
    ),
    "schedule_free_sgd warmup": lambda o: o.schedule_free_sgd(0.5, warmup_steps=5, weight_decay=0.1),
    "schedule_free momentum": lambda o: o.schedule_free(o.adam(0.1, b1=0.0), 0.1, b1=0.7, weight_lr_power=1.0),
    # transformations
    "clip": lambda o: o.chain(o.clip(0.3), o.sgd(0.1)),
    "clip_by_block_rms": lambda o: o.chain(o.clip_by_block_rms(0.3), o.sgd(0.1)),
    "clip_by_global_norm": lambda o: o.chain(o.clip_by_global_norm(0.3), o.sgd(0.1)),
    "adaptive_grad_clip": lambda o: o.chain(o.adaptive_grad_clip(0.1), o.sgd(0.1)),
    "ema": lambda o: o.chain(o.ema(0.9), o.centralize(), o.sgd(0.1)),
    "apply_every": lambda o: o.chain(o.adam(0.05), o.apply_every(3)),
    "norms of blocks": lambda o: o.chain(
        o.scale_by_param_block_norm(), o.scale_by_param_block_rms(), o.normalize_by_update_norm(), o.sgd(0.1)
    ),
    "MultiSteps": lambda o: o.MultiSteps(o.adam(0.05), 3),
    "MultiSteps scheduled": lambda o: o.MultiSteps(o.adam(0.05), lambda n: 2 + n % 2, False, o.skip_not_finite),
    "apply_if_finite": lambda o: o.apply_if_finite(o.adam(0.05), 2),
    "inject_hyperparams": lambda o: o.inject_hyperparams(o.adam)(o.cosine_decay_schedule(0.1, 10)),
    "conditionally_transform": lambda o: o.conditionally_transform(o.sgd(0.1, 0.9), lambda n: n % 2 == 1),
    "conditionally_mask": lambda o: o.conditionally_mask(o.sgd(0.1, 0.9), lambda n: n % 2 == 1),
    "reduce_on_plateau": lambda o: o.chain(
        o.sgd(0.1), o.reduce_on_plateau(patience=2, cooldown=1, factor=0.5, accumulation_size=2)
    ),
    "partition": lambda o: o.partition({"fast": o.adam(0.1), "still": o.set_to_zero()}, {"w": "fast", "b": "still"}),
    "named_chain": lambda o: o.named_chain(("limit", o.clip(0.3)), ("descend", o.adam(0.1))),
    "selective_transform": lambda o: o.selective_transform(o.adam(0.1), freeze_mask={"w": False, "b": True}),
    "freeze": lambda o: o.chain(o.sgd(0.1), o.freeze({"w": True, "b": False})),
    "keep_params_nonnegative": lambda o: o.chain(o.sgd(0.3), o.keep_params_nonnegative()),
    "zero_nans": lambda o: o.chain(o.zero_nans(), o.sgd(0.3)),
    "sam": lambda o: o.sam(o.adam(0.05), o.chain(o.normalize(), o.sgd(0.1))),
}

NEEDS_VALUE = {"polyak_sgd", "polyak_sgd positive", "reduce_on_plateau"}


def python_scan(step: Any, carry: Any, xs: Any) -> Any:
    """The carry after all steps, one after the other."""
    for t in range(len(xs[0]["b"])):
        carry, _ = step(carry, tuple({name: x[t] for name, x in each.items()} for each in xs))
    return carry, None


def run(make: Make, optim: Any, xp: Any, scan: Any = python_scan, steps: int = STEPS) -> np.ndarray:
    """Parameters after all steps of an optimizer of funcgrad.optim or optax."""
    optimizer, needs_value = make(optim), any(make is CASES[name] for name in NEEDS_VALUE)

    def step(carry: Any, ab: Any) -> Any:
        (params, state), (a, b) = carry, ab
        grads = {name: a[name] * p + b[name] for name, p in params.items()}
        value = sum(xp.sum(0.5 * a[name] * p**2 + b[name] * p) for name, p in params.items())
        updates, state = optimizer.update(grads, state, params, **({"value": value} if needs_value else {}))
        return (optim.apply_updates(params, updates), state), None

    order = np.arange(steps) % STEPS
    data = tuple({name: xp.asarray(x[order]) for name, x in each.items()} for each in (SLOPES, OFFSETS))
    params = {name: xp.asarray(p) for name, p in PARAMS.items()}
    return flat(scan(step, (params, optimizer.init(params)), data)[0][0])


class Optax:
    """All names of optax, optax.contrib and optax.transforms in one namespace."""

    def __getattr__(self, name: str) -> Any:
        import optax
        import optax.contrib

        return next(getattr(m, name) for m in (optax, optax.contrib, optax.transforms) if hasattr(m, name))


# Optimizers that need more than gradients: functions of optax or funcgrad.optim, and jax or funcgrad, that return the
# parameters after some steps on Rosenbrock's function.
STEPS_ON_ROSENBROCK = 12


def rosenbrock(x: Any) -> Any:
    """100(y − x²)² + (1 − x)²."""
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def minimize(optimizer: Any, o: Any, m: Any, **extra: Any) -> Any:
    """Parameters after some steps from (−1.2, 1), with the loss and its gradient as further arguments."""
    x = m.numpy.array([-1.2, 1.0])
    state = optimizer.init(x)

    def step(x: Any, state: Any) -> Any:
        value, grad = m.value_and_grad(rosenbrock)(x)
        return optimizer.update(grad, state, x, value=value, grad=grad, value_fn=rosenbrock, **extra)

    step = m.jit(step)
    for _ in range(STEPS_ON_ROSENBROCK):
        updates, state = step(x, state)
        x = o.apply_updates(x, updates)
    return x


def _lookahead(o: Any, m: Any) -> Any:
    optimizer = o.lookahead(o.sgd(0.001, 0.9), 3, 0.5, reset_state=True)
    params = o.LookaheadParams.init_synced(m.numpy.array([-1.2, 1.0]))
    state = optimizer.init(params)
    for _ in range(STEPS_ON_ROSENBROCK):
        updates, state = optimizer.update(m.grad(rosenbrock)(params.fast), state, params)
        params = o.apply_updates(params, updates)
    return m.numpy.concatenate(params)


def _sophia(o: Any, m: Any) -> Any:
    optimizer, x = o.sophia(0.1, b2=0.9, update_interval=2), m.numpy.array([-1.2, 1.0])
    state = optimizer.init(x)
    for _ in range(STEPS_ON_ROSENBROCK):
        updates, state = optimizer.update(m.grad(rosenbrock)(x), state, x, obj_fn=rosenbrock)
        x = o.apply_updates(x, updates)
    return x


def _sam(o: Any, m: Any) -> Any:
    optimizer = o.sam(o.sgd(0.001), o.chain(o.normalize(), o.sgd(0.01)), sync_period=3, opaque_mode=True)
    x = m.numpy.array([-1.2, 1.0])
    state = optimizer.init(x)
    for _ in range(STEPS_ON_ROSENBROCK):
        grad = m.grad(rosenbrock)
        updates, state = optimizer.update(grad(x), state, x, grad_fn=lambda p, i, grad=grad: grad(p))
        x = o.apply_updates(x, updates)
    return x


WITH_LOSS: dict[str, Callable[[Any, Any], Any]] = {
    "lbfgs": lambda o, m: minimize(o.lbfgs(memory_size=3), o, m),
    "lbfgs unscaled": lambda o, m: minimize(o.lbfgs(0.5, 5, scale_init_precond=False), o, m),
    "zoom": lambda o, m: minimize(o.chain(o.sgd(1.0), o.scale_by_zoom_linesearch(15)), o, m),
    "zoom limited": lambda o, m: minimize(
        o.chain(o.sgd(0.1), o.scale_by_zoom_linesearch(4, 0.02, approx_dec_rtol=None, curv_rtol=0.1)), o, m
    ),
    "backtracking": lambda o, m: minimize(
        o.chain(o.sgd(1.0), o.scale_by_backtracking_linesearch(30, store_grad=True)), o, m
    ),
    "lookahead": _lookahead,
    "sophia": _sophia,
    "sam opaque": _sam,
}


# The same optimizers in PyTorch: name -> (class, its arguments, optimizer of funcgrad with equal updates).
TORCH: dict[str, tuple[str, dict[str, Any], Make]] = {
    "sgd": ("SGD", {"lr": 0.1}, lambda o: o.sgd(0.1)),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}, lambda o: o.sgd(0.1, 0.9)),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, lambda o: o.sgd(0.1, 0.9, True)),
    "adam": ("Adam", {"lr": 0.05}, lambda o: o.adam(0.05)),
    "adam with decay": (
        "Adam",
        {"lr": 0.05, "weight_decay": 0.1},
        lambda o: o.chain(o.add_decayed_weights(0.1), o.adam(0.05)),
    ),
    "adamw": ("AdamW", {"lr": 0.05}, lambda o: o.adamw(0.05, weight_decay=0.01)),
    "adamax": ("Adamax", {"lr": 0.05}, lambda o: o.adamax(0.05)),
    "radam": ("RAdam", {"lr": 0.05, "betas": (0.9, 0.9)}, lambda o: o.radam(0.05, b2=0.9)),
    "rmsprop": ("RMSprop", {"lr": 0.05}, lambda o: o.rmsprop(0.05, 0.99, eps_in_sqrt=False)),
    "rmsprop centered": (
        "RMSprop",
        {"lr": 0.05, "centered": True, "momentum": 0.9},
        lambda o: o.rmsprop(0.05, 0.99, eps_in_sqrt=False, centered=True, momentum=0.9),
    ),
    "adadelta": ("Adadelta", {"lr": 1.0}, lambda o: o.adadelta(1.0)),
    "adagrad": (
        "Adagrad",
        {"lr": 0.05, "initial_accumulator_value": 0.1, "eps": 0.0},
        lambda o: o.adagrad(0.05, eps=0.0),
    ),
    "rprop": ("Rprop", {"lr": 0.05}, lambda o: o.rprop(0.05)),
}
TORCH_STEPS = 100


def run_torch(torch: Any, name: str) -> np.ndarray:
    """Parameters after 100 steps of a PyTorch optimizer."""
    kind, options, _ = TORCH[name]
    params = {key: torch.tensor(p, requires_grad=True) for key, p in PARAMS.items()}
    optimizer = getattr(torch.optim, kind)(params.values(), **options)
    for t in range(TORCH_STEPS):
        for key, p in params.items():
            p.grad = torch.tensor(SLOPES[key][t % STEPS]) * p.detach() + torch.tensor(OFFSETS[key][t % STEPS])
        optimizer.step()
    return flat({key: p.detach().numpy() for key, p in params.items()})
