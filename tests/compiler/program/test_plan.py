"""Plans are data: they name what they call, print, compare, are saved, and are linked for any target."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler import pipeline, targets
from funcgrad.compiler.program.executable import Executable
from funcgrad.compiler.program.instructions import (
    BranchCall,
    CopyCall,
    HostCall,
    KernelCall,
    LibraryCall,
    LoopCall,
    Plan,
    Routine,
    routines,
)
from funcgrad.compiler.targets.llvm import kernels
from funcgrad.testing import assert_close


def mixed(x, i):
    """A kernel, a product, a call of NumPy, a loop, a branch and a copied array."""
    y = jnp.gcd(jnp.tanh(x @ x).astype(np.int32), 6) * x
    z, _ = lax.scan(lambda c, a: (c @ x + a, None), x, jnp.stack([y, x]))
    w = lax.cond(i > 0, lambda z: z @ z, lambda z: z + 1, z)
    return w, x.at[i].set(0.0)


X = jnp.array(np.random.default_rng(0).standard_normal((40, 40)) * 0.1, jnp.float32)


def planned(function, *args, target: str = "llvm") -> Plan:
    return pipeline.planned(fg.make_jaxpr(function)(*args), targets.find(target))


def callees(routine: Routine) -> list:
    found = []
    for instruction in routine.instructions:
        found.append(instruction.callee)
        for _, inner in routines(instruction.callee):
            found += callees(inner)
    return found


def test_a_plan_names_its_callees_and_compiles_nothing():
    before = dict(kernels.origins)
    plan = planned(mixed, X, 1)
    assert kernels.origins == before
    kinds = {type(c) for c in callees(plan.routine)}
    assert kinds == {KernelCall, LibraryCall, HostCall, LoopCall, BranchCall, CopyCall}
    text = str(plan)
    for part in ("gemm(", "host gcd(", "scan(", "body:", "cond(", "branch 1:", "copy(", "slot 1: f32[40,40]"):
        assert part in text


@pytest.mark.parametrize("target", ["llvm", "numba"])
def test_equal_programs_have_equal_plans(target):
    one, other = (planned(mixed, X, 1, target=target) for _ in range(2))
    assert one == other
    assert one != planned(mixed, X[:30, :30], 1, target=target)


@pytest.mark.parametrize("target", ["llvm", "numba"])
def test_the_target_decides_how_a_fold_is_cut(target):
    partial, whole = planned(jnp.sum, np.ones(1 << 20, np.float32), target=target).routine.instructions
    limits = targets.find(target).scheduling
    assert partial.extent == min(limits.max_partial_folds, (1 << 20) // limits.grain)
    assert whole.extent == 1


@pytest.mark.parametrize(
    ("field", "value"), [("max_work", 8), ("map_block", 16), ("column_block", 4), ("copy_grain", 100)]
)
def test_scheduling_constants_reach_the_plan(field, value, monkeypatch):
    def f(x):
        y = jnp.sin(jnp.sin(x)) + x.T
        return jnp.sum(y, 0), jnp.tanh(y[:2] + y[0]), jnp.concatenate([y] * 9)

    llvm = targets.find("llvm")
    before = planned(f, X)
    monkeypatch.setattr(llvm, "scheduling", dataclasses.replace(llvm.scheduling, **{field: value}))
    after = planned(f, X)
    assert before != after
    assert_close(Executable(after, llvm.link(after), "f")([X]), list(f(X)), rtol=1e-5, atol=1e-5)


def test_numbers_of_a_call_of_numpy_are_compared():
    plans = [planned(lambda x, n=n: lax.igamma(jnp.abs(x), n), X[0]) for n in (1.0, 1.0, 2.0)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize("target", ["llvm", "numba"])
def test_a_saved_plan_is_linked_and_runs(target):
    plan = pickle.loads(pickle.dumps(planned(mixed, X, 1, target=target)))
    assert plan == planned(mixed, X, 1, target=target)
    run = Executable(plan, targets.find(target).link(plan), "mixed")
    for found, expected in zip(run([X, jnp.asarray(1)]), mixed(X, 1), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


def test_a_routine_that_a_target_lacks_is_computed_by_numpy():
    class Bare(type(targets.find("llvm"))):
        name = "bare"

        def division(self, call):
            return None

    plan = pipeline.planned(fg.make_jaxpr(lambda x: x @ x + 1)(X), Bare())
    assert [str(c) for c in callees(plan.routine)] == ["host dot_general", "map_add"]
    (found,) = Executable(plan, Bare().link(plan), "f")([X])
    np.testing.assert_allclose(found, X @ X + 1, rtol=1e-5)
