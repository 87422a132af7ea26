"""Layouts of loops: parts of the operands, and the params that follow from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcgrad as fg
from funcgrad.core.layouts import ScanLayout, ScanParts, WhileLayout, WhileParts
from funcgrad.core.masks import merge_lists, partition_list, select, split_list

LAYOUTS = pytest.mark.parametrize("kind", [ScanLayout, WhileLayout])


@given(st.lists(st.tuples(st.booleans(), st.integers())))
def test_lists_are_merged_as_they_were_partitioned(pairs):
    mask, values = [m for m, _ in pairs], [v for _, v in pairs]
    where_false, where_true = partition_list(mask, values)
    assert where_true == select(values, mask) and where_false == select(values, mask, False)
    assert merge_lists(mask, where_false, where_true) == values


@LAYOUTS
@given(sizes=st.tuples(*[st.integers(0, 3)] * 3))
def test_splitting_and_joining_round_trips(kind, sizes):
    layout, values = kind(*sizes[:2]), list(range(sum(sizes)))
    parts = layout.split(values)
    assert [len(p) for p in parts] == list(sizes)
    assert parts.join() == values
    assert parts.layout == layout and kind.of(parts.params) == layout


@LAYOUTS
@given(flags=st.lists(st.booleans(), min_size=4, max_size=9))
def test_selected_parts_have_the_layout_of_the_rest(kind, flags):
    layout = kind(2, 1)
    mask = layout.split(flags)
    parts = layout.split(range(len(flags)))
    kept, dropped = parts.select(mask), parts.select(mask, False)
    assert kept.join() == select(range(len(flags)), flags)
    assert [len(k) + len(d) for k, d in zip(kept, dropped, strict=True)] == [len(p) for p in parts]
    assert sorted(kept.extend(dropped).join()) == list(range(len(flags)))
    assert kept.extend(dropped).layout == layout


def test_parts_of_an_equation_are_inputs_of_its_jaxprs():
    def step(carry, x):
        return carry * w + x, carry

    w = fg.numpy.arange(3.0)
    (eqn,) = fg.make_jaxpr(lambda c, xs: fg.lax.scan(step, c, xs))(w, fg.numpy.ones((4, 3))).eqns
    operands = ScanLayout.of(eqn.params).split([v.aval for v in eqn.invars])
    assert [len(p) for p in operands] == [1, 1, 1]
    slices = [x.update(shape=x.shape[1:]) for x in operands.xs]
    assert operands.replace(xs=slices).join() == eqn.params["jaxpr"].in_avals
    carry, ys = ScanLayout.of(eqn.params).split_results(eqn.outvars)
    assert [v.aval.shape for v in carry] == [(3,)] and [v.aval.shape for v in ys] == [(4, 3)]


def test_operands_of_a_while_belong_to_predicate_and_body():
    parts = WhileParts(["limit"], ["step"], ["x"])
    assert parts.of_cond == ["limit", "x"] and parts.of_body == ["step", "x"]
    assert parts.params == {"cond_nconsts": 1, "body_nconsts": 1}
    assert ScanParts(["w"], ["c"], ["x"]).map(str.upper).join() == ["W", "C", "X"]
    assert split_list("abc", []) == [["a", "b", "c"]]
