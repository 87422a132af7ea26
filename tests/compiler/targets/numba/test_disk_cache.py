"""Functions that numba compiled in one process are loaded by the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import numpy as np
import funcgrad as fg, funcgrad.numpy as jnp
from funcgrad import lax

def scaled(factor):
    return fg.jit(lambda x: jnp.tanh(x) * factor, target="numba")

def loop(x):
    return lax.fori_loop(0, 3, lambda i, x: x.at[1:].add(0.5 * x[:-1]), x)

x = np.linspace(-1, 1, 7, dtype=np.float32)
out = {}
for factor in map(float, sys.argv[1:]):
    f = scaled(factor)
    out[str(factor)] = np.asarray(f(x)).tolist(), f.cache_info()[2:5]
f = fg.jit(loop, target="numba")
out["loop"] = np.asarray(f(x)).tolist(), f.cache_info()[2:5]
g = fg.numba_callable(lambda x: jnp.sum(x * x), x)
out["callable"] = float(g(x)), sum(g.stats.cache_hits.values())
print(json.dumps(out))
"""


def run(directory, *factors):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, factors)],
        env={**os.environ, "FUNCGRAD_CACHE_DIR": str(directory)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    directory.chmod(0o700)
    # The second process compiles a kernel of the same name and types before it loads the first one's.
    return run(directory, 2), run(directory, 5, 2)


def test_a_second_process_compiles_nothing_again(two):
    first, second = two
    value, (compiled, disk, _) = first["2.0"]
    assert compiled >= 1 and disk == 0
    again, (compiled, disk, _) = second["2.0"]
    assert compiled == 0 and disk >= 1
    assert again == value
    assert first["loop"][1][0] >= 1
    assert second["loop"][1][0] == 0 and second["loop"][1][1] == first["loop"][1][0]
    assert second["loop"][0] == first["loop"][0]
    assert first["callable"][1] == 0 and second["callable"][1] == 1
    assert first["callable"][0] == second["callable"][0]


def test_namesakes_do_not_mix(two):
    _, second = two
    (five, origins), (double, _) = second["5.0"], second["2.0"]
    assert origins[0] >= 1
    assert five == pytest.approx([2.5 * x for x in double])
