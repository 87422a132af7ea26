"""Branches and loops as instructions: where their operands are, and what is carried along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler import pipeline
from funcgrad.compiler.program.instructions import BranchCall, Instruction, LoopCall, Routine
from funcgrad.compiler.targets.llvm.link import target as LLVM

X = np.ones((5, 40), np.float32)
W = np.ones((40, 40), np.float32)


def planned(function: Callable[..., Any], *args: Any) -> Routine:
    return pipeline.planned(fg.make_jaxpr(function)(*args), LLVM).routine


def loop_of(function: Callable[..., Any], *args: Any) -> tuple[Instruction, LoopCall]:
    (found,) = (i for i in planned(function, *args).instructions if isinstance(i.callee, LoopCall))
    return found, found.callee


def callees(routine: Routine) -> list[str]:
    return [str(i.callee).split("(")[0].splitlines()[0] for i in routine.instructions]


def recurrent(w: Any, x: Any, **options: Any) -> Any:
    return lax.scan(lambda h, r: (jnp.tanh(h @ w + r), h), x[0], x, **options)


def test_a_carry_is_written_in_two_places_by_turns():
    instruction, call = loop_of(recurrent, W, X)
    (carry,) = call.carries
    assert carry.places[0] != carry.places[1]
    assert carry.nbytes == X[0].nbytes
    # Five iterations: the first one writes the result, and so does the last.
    assert call.places[carry.written] == (carry.result, 0)
    _, even = loop_of(recurrent, W, X[:4])
    assert even.places[even.carries[0].written] != (even.carries[0].result, 0)
    assert (call.length, even.length) == (5, 4)


def test_slices_move_by_a_row_in_either_direction():
    row = X[0].nbytes
    _, forward = loop_of(recurrent, W, X)
    _, backward = loop_of(lambda w, x: recurrent(w, x, reverse=True), W, X)
    assert sorted(step for _, step in forward.moving) == [row, row]
    assert sorted(step for _, step in backward.moving) == [-row, -row]
    for slot, _ in backward.moving:  # they start at the last row
        assert backward.places[slot][1] == 4 * row


def test_iterations_that_carry_nothing_are_shared_among_threads():
    def rows(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: lax.map(step, x)

    many = np.ones((500, 40), np.float32)
    instruction, call = loop_of(rows(lambda r: jnp.tanh(W * r) @ r), many)
    assert (call.length, instruction.extent) == (None, 500)
    assert instruction.grain == LLVM.scheduling.instruction_grain // len(call.body.instructions)
    instruction, call = loop_of(rows(lambda r: jnp.gcd(r.astype(np.int32), 6)), many)
    assert (call.length, instruction.extent) == (500, 1)  # a call of NumPy keeps them in order


def test_a_carry_of_which_a_window_is_replaced_stays_in_place():
    def fill(x: Any) -> Any:
        return lax.fori_loop(0, 5, lambda i, x: lax.dynamic_update_slice(x, 2 * x[:, :1], (0, i)), x)

    _, call = loop_of(fill, W)
    assert call.copies and call.copies[0][2] == W.nbytes
    assert W.nbytes not in [c.nbytes for c in call.carries]


def test_a_while_loop_has_a_predicate_and_no_length():
    _, call = loop_of(lambda w, x: lax.while_loop(lambda h: jnp.sum(h) < 9, lambda h: h @ w, x), W, X)
    assert call.predicate is not None
    assert callees(call.predicate) == ["row_reduce_sum_lt"]
    assert callees(call.body) == ["gemm"]


def test_branches_share_their_temporaries():
    def f(i: Any, w: Any) -> Any:
        return lax.switch(i, [lambda w: jnp.sin(w @ w) @ w, lambda w: w, lambda w: w @ w], w)

    (found,) = (i for i in planned(f, 1, W).instructions if isinstance(i.callee, BranchCall))
    branches = found.callee.branches
    assert [callees(b) for b in branches] == [["gemm", "map_sin", "gemm"], ["map_reshape"], ["gemm"]]
    assert found.operands[-1] not in found.operands[:-1]
    assert max(b.arena_bytes for b in branches) == branches[0].arena_bytes > 0
