"""Forks while other threads compile and run: the child computes, whatever was going on in its parent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from funcgrad.core import forks

PREAMBLE = """
import os, random, signal, sys, threading, time
import numpy as np
import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax

FUNCTIONS = (jnp.sin, jnp.cos, jnp.tanh, jnp.exp, jnp.abs, jnp.square)
x = np.linspace(0, 1, 100, dtype=np.float32)

def something_new(rng):
    "Compile and run what hardly anybody has compiled: kernel, loop, product, values from the pool."
    chain = [rng.choice(FUNCTIONS) for _ in range(6)]
    def f(x):
        for g in chain:
            x = g(x) * rng.random() + 0.1
        y = lax.fori_loop(0, 3, lambda i, y: jnp.roll(y, 1) * 0.5, x)
        return (y @ jnp.outer(x, x)).sum() + lax.scan(lambda c, v: (c * 0.5 + v, None), 0.0, x)[0]
    result = float(fg.jit(f)(x))
    assert np.isfinite(result) and np.isfinite(float(lax.fori_loop(0, 3, lambda i, y: y * 0.5, result)))

def fork_and_compile(seed):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # a child that hangs is killed
        code = 1
        try:
            something_new(random.Random(seed))
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(code)
    return pid

def wait_for(pids):
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert not any(codes), codes
"""


def python(script: str, cache: os.PathLike) -> None:
    """Run a script that is to print "done" and nothing else, with an empty kernel cache."""
    environment = os.environ | {"FUNCGRAD_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + script],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_children_compile_while_a_thread_of_the_parent_compiles(tmp_path):
    python(
        "stop = threading.Event()\n"
        "def compile_on(rng):\n"
        "    while not stop.is_set():\n"
        "        something_new(rng)\n"
        "threads = [threading.Thread(target=compile_on, args=(random.Random(i),)) for i in range(2)]\n"
        "[t.start() for t in threads]\n"
        "pids = []\n"
        "for i in range(20):\n"
        "    time.sleep(0.05 * random.random())\n"
        "    pids.append(fork_and_compile(100 + i))\n"
        "wait_for(pids)\n"
        "stop.set(); [t.join() for t in threads]\n"
        "something_new(random.Random(1000))\n"
        "print('done')",
        tmp_path,
    )


@pytest.mark.parametrize("milliseconds", [1, 10, 30, 60])
def test_a_child_compiles_though_its_parent_had_only_begun_to(tmp_path, milliseconds):
    """LLVM is imported and the runtime linked with the first compilation."""
    python(
        "thread = threading.Thread(target=something_new, args=(random.Random(1),))\n"
        "thread.start()\n"
        f"time.sleep({milliseconds / 1000})\n"
        "pid = fork_and_compile(2)\n"
        "wait_for([pid]); thread.join()\n"
        "print('done')",
        tmp_path,
    )


def test_a_fork_waits_for_every_lock_and_lets_go_of_it():
    """The lock of each module that has one is known to `forks`, in an order, and free afterwards."""
    import llvmlite.binding  # noqa: F401

    from funcgrad.compiler.targets.llvm import toolchain

    toolchain.host()
    assert set(forks._locks) == set(forks._ORDER)
    pid = os.fork()
    if pid == 0:
        os._exit(len(forks._taken))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 and not forks._taken
