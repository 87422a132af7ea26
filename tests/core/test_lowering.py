"""Every pass says what it does with each class of lowering."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.core.lowering import Lowering, LoweringTable, host
from funcgrad.core.primitives import Primitive
from funcgrad.errors import MissingRuleError


def lowerings(base: type[Lowering] = Lowering) -> Iterator[type[Lowering]]:
    """The classes of the library that are below `base`."""
    for cls in base.__subclasses__():
        if cls.__module__.startswith("funcgrad."):
            yield cls
        yield from lowerings(cls)


def missing(table: LoweringTable) -> list[str]:
    return sorted(cls.__name__ for cls in lowerings() if cls not in table.entries)


def test_there_are_tables():
    assert {t.name for t in LoweringTable.all} >= {"loops", "fusion", "expressions", "scalars", "costs"}


@pytest.mark.parametrize("table", LoweringTable.all, ids=lambda table: table.name)
def test_every_pass_handles_every_lowering(table: LoweringTable):
    assert not missing(table), f"the pass {table.name!r} does not say what it does with these lowerings"


def test_a_lowering_that_a_pass_does_not_know_is_an_error_of_that_pass(monkeypatch: pytest.MonkeyPatch):
    @dataclass(frozen=True)
    class Shuffle(Lowering):
        pass

    monkeypatch.setattr(Shuffle, "__module__", "funcgrad.core.lowering")
    assert all(missing(table) == ["Shuffle"] for table in LoweringTable.all)
    shuffle_p = Primitive(
        "shuffle", infer=lambda x: x, evaluate=lambda x: x, lowering=Shuffle(), register=False, origin="here"
    )
    with pytest.raises(MissingRuleError, match="loops: no rule for lowerings of type Shuffle"):
        fg.jit(lambda x: shuffle_p.bind(x))(np.ones(3, np.float32))
    assert repr(host) == "host"
