"""optax itself, with funcgrad in the place of JAX."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.oracle
def test_optax_trains_on_arrays_of_funcgrad():
    """Its optimizers make the same steps as those of funcgrad.optim, and nothing imports JAX."""
    program = ROOT / "tests" / "optim" / "optax_program.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.split()) >= 20
