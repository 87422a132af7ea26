"""Schedules: against their formulas, and against optax."""

from __future__ import annotations

import math

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import optim

COUNTS = (0, 1, 3, 4, 5, 6, 9, 10, 15, 40)


def cosine(n, steps=10):
    return 0.5 * (1 + math.cos(math.pi * min(n, steps) / steps))


FORMULAS = [
    (optim.constant_schedule(0.5), lambda n: 0.5),
    (optim.linear_schedule(1.0, 0.0, 10), lambda n: max(0, 1 - n / 10)),
    (optim.polynomial_schedule(2.0, 1.0, 3, 5, 4), lambda n: 1 + (1 - min(max(n - 4, 0), 5) / 5) ** 3),
    (optim.step_schedule(1.0, 4, 0.5), lambda n: 0.5 ** (n // 4)),
    (optim.multi_step_schedule(1.0, [3, 9], 0.5), lambda n: 0.5 ** ((n >= 3) + (n >= 9))),
    (optim.exponential_decay(0.5, 4, 0.1), lambda n: 0.5 * 0.1 ** (n / 4)),
    (
        optim.exponential_decay(0.5, 4, 0.1, 3, staircase=True, end_value=0.01),
        lambda n: max(0.01, 0.5 * 0.1 ** (max(n - 3, 0) // 4)),
    ),
    (optim.cosine_decay_schedule(0.5, 10, 0.1, 2.0), lambda n: 0.5 * (0.9 * cosine(n) ** 2 + 0.1)),
    (
        optim.warmup_cosine_decay_schedule(0.0, 1.0, 5, 15, 0.2),
        lambda n: n / 5 if n < 5 else 0.2 + 0.8 * cosine(n - 5),
    ),
    (
        optim.piecewise_interpolate_schedule("linear", 1.0, {4: 3.0, 10: 0.0}),
        lambda n: np.interp(n, [0, 4, 10], [1.0, 3.0, 0.0]),
    ),
    (optim.join_schedules([1.0, 2.0, 3.0], [3, 6]), lambda n: 1 + (n >= 3) + (n >= 6)),
]


@pytest.mark.parametrize("schedule, expected", FORMULAS)
def test_schedules_are_their_formula(schedule, expected):
    counts = jnp.array(COUNTS)
    compiled = fg.jit(fg.vmap(lambda n: jnp.asarray(schedule(n), float)))(counts)
    np.testing.assert_allclose(compiled, [expected(n) for n in COUNTS], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([schedule(n) for n in COUNTS], compiled, rtol=1e-5, atol=1e-6)


OPTAX = {
    "polynomial_schedule": (1.0, 0.1, 2, 7, 3),
    "piecewise_constant_schedule": (1.0, {3: 0.5, 9: 0.1}),
    "piecewise_interpolate_schedule": ("cosine", 1.0, {3: 0.5, 9: 3.0}),
    "exponential_decay": (0.5, 3, 2.0, 2, True, 3.0),
    "cosine_decay_schedule": (0.5, 9, 0.1, 2.0),
    "linear_onecycle_schedule": (20, 1.0),
    "cosine_onecycle_schedule": (20, 1.0),
    "warmup_constant_schedule": (0.1, 1.0, 5),
    "warmup_cosine_decay_schedule": (0.1, 1.0, 5, 20, 0.2, 2.0),
    "warmup_exponential_decay_schedule": (0.1, 1.0, 5, 3, 0.5, 2, True, 0.2),
    "sgdr_schedule": (
        [
            {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 5},
            {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 1, "decay_steps": 8},
        ],
    ),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", OPTAX)
def test_schedules_are_those_of_optax(jax, name):
    import optax

    arguments = OPTAX[name]
    theirs = getattr(optax, name)(*arguments)
    ours = getattr(optim, name)(*arguments)
    for n in (0, 1, 2, 4, 5, 6, 9, 13, 19, 20, 30):
        assert np.isclose(ours(n), theirs(n), rtol=1e-5, atol=1e-7), n


def test_schedules_of_constants_and_of_no_steps():
    joined = optim.join_schedules([0.5, optim.linear_schedule(1.0, 0.0, 2)], [3])
    assert [float(joined(n)) for n in (0, 2, 3, 4, 9)] == [0.5, 0.5, 1.0, 0.5, 0.0]
    assert [float(optim.warmup_cosine_decay_schedule(0.0, 0.0, 2, 4, 1.0)(n)) for n in (1, 2, 4)] == [0.0, 0.0, 1.0]
