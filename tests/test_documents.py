"""The pages name only what exists: files, modules, public names, and the order of the packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import funcgrad
from tests.paths import ROOT

PACKAGE = ROOT / "funcgrad"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?!~)[\w.-]+(/[\w.-]+)*(/|\.(py|ll|md|toml|ipynb))")
# A reader's own file, in the page of errors.
_EXAMPLE = "example.py"
_TABLE_CELL = re.compile(r"(?<!\\)\|")


def without_code_blocks(text: str) -> str:
    """The text of a page between its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def paths(text: str) -> list[str]:
    """The backticked spans that are paths of files or folders."""
    return [span for span in _SPAN.findall(text) if _PATH.fullmatch(span) and span != _EXAMPLE]


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the table whose header line starts with `heading`."""
    lines = text[text.index(f"\n| {heading} |") + 1 :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in _TABLE_CELL.split(line)[1:-1]] for line in lines]


def modules_of(folder: Path) -> set[str]:
    """The modules and packages in a folder."""
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


def layers(package: str) -> list[set[str]]:
    """The layers of a package in import-linter's contract, high to low."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [contract] = [c for c in contracts if c.get("containers") == [package]]
    return [set(layer.split(" : ")) for layer in contract["layers"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page):
    """A path starts at the root, at the package, or at the folder in the header of its table."""
    text = without_code_blocks(page.read_text(encoding="utf-8"))
    bases = [ROOT, PACKAGE, *(PACKAGE / folder for folder in re.findall(r"\| in `(\w+/(?:\w+/)*)` \|", text))]
    missing = [path for path in paths(text) if not any((base / path).exists() for base in bases)]
    assert not missing, f"{page.name} names {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", without_code_blocks(page.read_text(encoding="utf-8")))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_public_names_exist(page):
    """`funcgrad.x.y` and `fg.x.y` resolve."""
    for span in _SPAN.findall(without_code_blocks(page.read_text(encoding="utf-8"))):
        if found := re.match(r"(?:funcgrad|fg)((?:\.[A-Za-z_]\w*)+)(?![\w/])", span):
            value = funcgrad
            for name in found[1][1:].split("."):
                assert hasattr(value, name), f"{page.name} names {span}"
                value = getattr(value, name)


def test_every_page_has_something_to_check():
    """The patterns above find the paths of the page on architecture."""
    assert len(paths(without_code_blocks(ARCHITECTURE))) > 40
    assert _PATH.fullmatch("core/traces.py") and _PATH.fullmatch("compiler/") and not _PATH.fullmatch("x / y")


@pytest.mark.parametrize("package", ["core", "ops"])
def test_the_order_of_a_package_is_the_contract(package):
    [block] = re.findall(rf"<!-- order: {package} -->\n```text\n(.*?)\n```", ARCHITECTURE, re.DOTALL)
    assert [set(line.split(" : ")) for line in block.splitlines()] == layers(f"funcgrad.{package}")


def test_the_packages_exist_and_are_in_order():
    lines = ARCHITECTURE[ARCHITECTURE.index("    interop testing ") :].split("\n\n")[0].splitlines()
    named = [re.split(r"\s{2,}", line.strip())[0].split() for line in lines]
    contract = layers("funcgrad")
    depth = {re.sub(r"\W", "", name): i for i, layer in enumerate(contract) for name in layer}
    assert {name for row in named for name in row} <= modules_of(PACKAGE)
    depths = [sorted(depth[name] for name in row) for row in named]
    assert all(above[-1] <= below[0] for above, below in zip(depths, depths[1:], strict=False)), depths


def test_the_table_of_the_transforms_has_their_layers_in_order():
    rows = table(ARCHITECTURE, "layer")
    named = [{span.rstrip("/") for span in _SPAN.findall(row[1])} for row in rows]
    contract = layers("funcgrad.transforms")
    assert set.union(*named) == set.union(*contract) == modules_of(PACKAGE / "transforms")
    depth = {name: i for i, layer in enumerate(contract) for name in layer}
    depths = [sorted(depth[name] for name in row) for row in named]
    assert all(above[-1] <= below[0] for above, below in zip(depths, depths[1:], strict=False)), depths


def test_the_table_of_the_compiler_has_its_stages_in_order_and_all_their_modules():
    stages: dict[str, set[str]] = {}
    for stage, modules, _ in table(ARCHITECTURE, "stage"):
        if stage:
            [path] = paths(stage)
            current = stages.setdefault(path, set())
        current |= set(_SPAN.findall(modules))
    for path, modules in stages.items():
        assert modules == (modules_of(PACKAGE / path) if path.endswith("/") else set()), path
    names = [Path(path).stem for path in stages]
    depth = {name: i for i, layer in enumerate(layers("funcgrad.compiler")) for name in layer}
    assert set(names) == set(depth)
    assert [depth[name] for name in names] == sorted(depth.values(), reverse=True)
