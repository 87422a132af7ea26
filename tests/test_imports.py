"""Imports among the modules of funcgrad: no circles, not even hidden ones, and nothing assigned from above."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from paths import ROOT

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "funcgrad").rglob("*.py"))
}
MODULES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (local name, imported name in full) for each import, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.asname or a.name, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)


def cycle_in(modules: dict[str, ast.Module]) -> list[str]:
    """Return the modules of an import circle, the first one again at the end; nothing where there is none."""
    names = {module: [name for _, name in imported(tree)] for module, tree in modules.items()}
    graph = {m: {n if n in modules else n.rpartition(".")[0] for n in names[m]} & modules.keys() for m in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def late_assignments(tree: ast.Module) -> list[str]:
    """Return the assignments to attributes of imported modules, as source text."""
    modules = {local for local, name in imported(tree) if name in MODULES}
    targets = (
        target
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    )
    return [
        ast.unparse(t)
        for t in targets
        if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name) and t.value.id in modules
    ]


def test_imports_form_no_circle():
    assert cycle_in(MODULES) == []


def test_a_circle_hidden_by_type_checking_or_a_function_is_seen():
    hidden = ast.parse("if TYPE_CHECKING:\n    from funcgrad.core.arrays import Array")
    assert set(cycle_in(MODULES | {"funcgrad.core.avals": hidden})) >= {"funcgrad.core.arrays", "funcgrad.core.avals"}
    inside = ast.parse("def f():\n    from funcgrad.core import arrays")
    assert "funcgrad.core.arrays" in cycle_in(MODULES | {"funcgrad.core.avals": inside})


def test_no_module_assigns_to_another():
    assert {name: found for name, tree in MODULES.items() if (found := late_assignments(tree))} == {}


def test_an_assignment_to_another_module_is_seen():
    tree = ast.parse("from funcgrad import errors\nerrors.describe = f\nerrors.SCOPE: int = 1\nx.y = 2")
    assert late_assignments(tree) == ["errors.describe", "errors.SCOPE"]
