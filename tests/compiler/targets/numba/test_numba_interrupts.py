"""Programs of the numba target end when a signal's handler raises, wherever they are."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, threading
import numba
import numpy as np
import funcgrad as fg, funcgrad.numpy as jnp
from funcgrad import lax

class Stopped(Exception):
    pass

def handler(number, frame):
    raise Stopped

def scalars(x):
    return lax.while_loop(lambda c: c[1] >= 0, lambda c: (c[0] + 1.0, c[1]), (x[0], 1))[0]

def arrays(x):
    return lax.while_loop(lambda c: c[0] >= 0, lambda c: jnp.sin(c) * 0 + jnp.abs(jnp.cumsum(c)) * 0, x)

def called_from_njit(x):
    return lax.while_loop(lambda c: c > 0, lambda c: c * 0.5 + 1, x[0])

def lanes(x):
    return fg.vmap(lambda a: lax.while_loop(lambda c: c >= 0, lambda c: c * 0.5, a))(x)

def large(x):
    return lax.while_loop(lambda c: c[0, 0] >= 0, lambda c: jnp.sin(c) * 0 + 1, jnp.broadcast_to(x, (4096, 64)))

name, threads = sys.argv[1], int(sys.argv[2])
fg.config.update("num_threads", threads)
x = np.abs(np.random.default_rng(0).standard_normal(4096 if name == "lanes" else 64)).astype(np.float32)
if name == "called_from_njit":
    program = fg.numba_callable(called_from_njit, x)

    @numba.njit("float32(float32[::1])")
    def f(x):
        return program(x)
else:
    f = fg.jit(globals()[name], target="numba")
    f.lower(x).compile()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    f(x)
except Stopped:
    print("stopped")
assert threading.active_count() <= 2 + threads
print(np.asarray(fg.jit(lambda x: x + 1, target="numba")(x[:2])))  # programs run on
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGALRM on Windows")
@pytest.mark.parametrize(
    "name, threads", [("scalars", 1), ("arrays", 1), ("lanes", 1), ("lanes", 2), ("large", 2), ("called_from_njit", 1)]
)
def test_an_endless_loop_stops_with_the_exception_of_the_handler(name, threads):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(threads)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stopped"), done.stdout
