"""docs/jax-programs.md runs with JAX too, and gives the same results: imports are all that changes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.paths import ROOT

BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "jax-programs.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
IMPORTS, *PROGRAMS = BLOCKS


def results(imports: str) -> list[list[np.ndarray]]:
    """Run the programs one after the other, and return the `result` of each."""
    names: dict[str, object] = {}
    exec(imports, names)
    found = []
    for program in PROGRAMS:
        exec(program, names)
        result = names["result"]
        found.append([np.asarray(x) for x in (result if isinstance(result, tuple) else [result])])
    return found


def test_only_the_imports_name_a_library():
    assert "funcgrad" in IMPORTS and not any("funcgrad" in program for program in PROGRAMS)
    assert len(PROGRAMS) == 10


@pytest.mark.slow  # JAX takes half a minute to compile
@pytest.mark.oracle
def test_the_programs_give_the_same_results_in_jax(jax):
    theirs = results(IMPORTS.replace("import funcgrad as jax", "import jax").replace("funcgrad", "jax"))
    for program, mine, other in zip(PROGRAMS, results(IMPORTS), theirs, strict=True):
        for x, y in zip(mine, other, strict=True):
            np.testing.assert_allclose(x, y, rtol=2e-2, atol=1e-4, err_msg=program)
