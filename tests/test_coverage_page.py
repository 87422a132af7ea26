"""docs/coverage.md lists what the two libraries have now."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.oracle
def test_the_page_is_up_to_date():
    """In a process of its own: which submodules JAX has depends on what was imported."""
    version = importlib.metadata.version("jax")
    if f"JAX {version}," not in (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8"):
        pytest.skip(f"the page is for another version of JAX than {version}")
    run = subprocess.run(
        [sys.executable, "tools/make_coverage.py", "--check"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"run python tools/make_coverage.py; it differs by\n{run.stdout}{run.stderr}"
