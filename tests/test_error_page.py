"""docs/errors.md says what the errors say."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.paths import ROOT


def test_the_page_is_generated_from_its_examples():
    """In a process of its own: the examples change settings and keep what they should not."""
    run = subprocess.run(
        [sys.executable, "tools/make_errors.py", "--check"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"run python tools/make_errors.py; it differs by\n{run.stdout}{run.stderr}"
