"""The topological order of groups that `compiler/fusion/groups.py` keeps up as they join."""

from __future__ import annotations

import itertools
import random

import pytest

from funcgrad.compiler.fusion import groups
from funcgrad.compiler.fusion.groups import Group, Order


def is_topological(order: Order) -> bool:
    """Whether each group is after those that it needs, and places rise."""
    listed = list(order)
    index = {g: i for i, g in enumerate(listed)}
    rising = all(a.place < b.place for a, b in itertools.pairwise(listed))
    return rising and all(index[n] < index[g] for g in listed for n in g.needs)


def depends(group: Group, on: Group) -> bool:
    """Whether a path of needs leads from `group` to `on`."""
    return group is on or any(depends(n, on) for n in group.needs)


def random_order(rng: random.Random, n: int) -> tuple[Order, list[Group]]:
    """Groups that need up to three of the few before each."""
    order, made = Order(), []
    for i in range(n):
        group = Group("loops", i)
        group.need(rng.sample(made[-6:], min(len(made[-6:]), rng.randrange(4))))
        order.append(group)
        made.append(group)
    return order, made


@pytest.mark.parametrize("seed", range(20))
def test_groups_join_unless_a_path_leads_out_and_back(seed):
    rng = random.Random(seed)
    order, made = random_order(rng, 24)
    for _ in range(200):
        a, b = sorted(rng.sample(made, 2), key=lambda g: g.place)
        path = any(depends(n, a) for n in b.needs if n is not a)
        assert order.precede([n for n in b.needs if n is not a], a) is not path
        assert is_topological(order)
        if not path and rng.random() < 0.1:
            order.join(a, b)
            b.absorb(a)
            made.remove(a)
            assert is_topological(order)
            assert all(g in n.users for g in made for n in g.needs) and all(g in u.needs for g in made for u in g.users)


def test_a_search_that_takes_too_long_finds_a_path(monkeypatch):
    monkeypatch.setattr(groups, "MOST_STEPS", 5)
    order, made = Order(), [Group("loops", i) for i in range(60)]
    for i, group in enumerate(made):  # two chains beside each other
        group.need(made[i - 2 : i - 1] if i > 1 else [])
        order.append(group)
    assert not order.precede([made[58]], made[21])
    assert order.precede([made[26]], made[21])
    assert is_topological(order)


def test_places_are_renewed_when_there_is_no_room_between_two():
    order, first, last = Order(), Group("loops", 0), Group("loops", 1)
    order.append(first)
    order.append(last)
    for i in range(200):  # each halves the room before the last
        group = Group("loops", 2 + i)
        order.append(group)
        assert order.precede([group], last)
        assert is_topological(order)
    assert len(list(order)) == 202
