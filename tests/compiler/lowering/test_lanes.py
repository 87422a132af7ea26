"""`vmap` of while loops over any operation and dtype: the form of SIMD blocks, or another where that does not fit."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import funcgrad as fg
import funcgrad.numpy as fnp
import funcgrad.random
import funcgrad.transforms
from funcgrad import lax
from funcgrad.compiler.scheduling import Scheduling
from funcgrad.config import enable_x64
from funcgrad.testing import assert_close
from funcgrad.testing.calls import CALLS, Call, calls_of

for _module in pkgutil.walk_packages(funcgrad.transforms.__path__, "funcgrad.transforms."):
    importlib.import_module(_module.name)  # every primitive is registered
LANES = Scheduling().lanes + 1


def looped(call: Call, steps: Any, operands: Any, equals: Any) -> Any:
    """The results of a call made in the last of `steps` iterations, zeros after none; `equals` equal the operands."""

    def results(*args: Any) -> Any:
        out = call.primitive.bind(*args, **call.params)
        return out if call.primitive.multiple_results else [out]

    def body(state: Any) -> Any:
        # Which of the two it is depends on the step, so that nothing leaves the loop.
        chosen = [lax.select(fnp.full(x.shape, state[0] > 1), x, y) for x, y in zip(operands, equals, strict=True)]
        return state[0] + 1, *results(*chosen)

    start = (0, *(fnp.zeros(s.shape, s.dtype) for s in fg.eval_shape(results, *operands)))
    return lax.while_loop(lambda state: state[0] < steps, body, start)[1:]


@pytest.mark.parametrize("name", sorted(CALLS))
def test_any_operation_in_lanes(name: str) -> None:
    steps = np.arange(LANES, dtype=np.int32) % 3

    @settings(max_examples=3, suppress_health_check=list(HealthCheck))
    @given(call=calls_of(name))
    def holds(call: Call) -> None:
        with enable_x64():
            f = fg.jit(lambda *a: fg.vmap(lambda n: looped(call, n, *a))(steps))
            wanted = call.primitive.bind(*call.args, **call.params)
            wanted = wanted if call.primitive.multiple_results else [wanted]
            for lanes, value in zip(f(call.args, call.args), wanted, strict=True):
                for lane in range(3):
                    assert_close(lanes[lane], value if lane else np.zeros_like(value), what=name)

    holds()
