"""Step 3 of fusion: groups over one domain that read a common value of that size become one, and read it once.

Groups of scalars merge to save kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from funcgrad.compiler.fusion.access import squeezed
from funcgrad.compiler.fusion.grouping import Grouping
from funcgrad.compiler.fusion.groups import Group, Shape
from funcgrad.core.jaxprs import Atom, Var

# A group is compared with at most this many earlier groups that read the same value.
_MOST_SIBLINGS = 8


def merge_siblings(grouping: Grouping) -> None:
    """Merge groups that read the same values."""
    inputs: dict[Group, dict[Atom | None, None]] = {}
    latest: dict[tuple[Shape, Atom | None], dict[Group, None]] = defaultdict(dict)

    def note(group: Group, values: Iterable[Atom | None]) -> None:
        for value in values:
            readers = latest[group.domain, value]
            readers[group] = None
            if len(readers) > _MOST_SIBLINGS:
                del readers[next(iter(readers))]

    for group in sorted(grouping.order, key=lambda g: g.number):
        if group.kind != "loops":
            continue
        inputs[group] = _large_inputs(grouping, group) if group.domain else {None: None}
        siblings = dict.fromkeys(g for v in inputs[group] for g in latest[group.domain, v] if g in inputs)
        for sibling in sorted(siblings, key=lambda g: g.number):
            if grouping.mergeable(sibling, group):
                merged = grouping.merge(sibling, group)
                absorbed = inputs.pop(sibling if merged is group else group)
                inputs[merged].update(absorbed)
                note(merged, absorbed)
                group = merged
        note(group, inputs[group])


def _large_inputs(grouping: Grouping, group: Group) -> dict[Atom | None, None]:
    sources = (a.source for e in group.eqns for a in grouping.accesses[e])
    return {s: None for s in sources if isinstance(s, Var) and squeezed(s.aval.shape) == group.domain}
