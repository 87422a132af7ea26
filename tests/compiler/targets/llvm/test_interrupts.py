"""Signals while compiled programs run: every kind of loop stops, in Jupyter too, and nothing is the worse for it.

The programs here never end by themselves. They run in processes of their own, which are killed where a test fails.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PREAMBLE = """
import os, random, signal, sys, threading, time
import numpy as np
import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler.targets.llvm import runtime

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
FOREVER = 10**15
fg.config.update("num_threads", 3)
always = lambda *_: True
vector, matrix, number = jnp.arange(1000.0) / 1000, jnp.full((64, 64), 0.01), jnp.float32(0.5)

PROGRAMS = {
    "products": (lambda x: lax.fori_loop(0, 2**31 - 1, lambda i, y: y @ matrix, x), matrix),
    "scalar while": (lambda x: lax.while_loop(always, lambda c: c * 0.5 + 1, x), number),
    "scalar scan": (lambda x: lax.scan(lambda c, _: (c * 0.5 + 1, None), x, None, length=FOREVER)[0], number),
    "while in a scan": (
        lambda x: lax.scan(
            lambda c, _: (lax.while_loop(lambda v: v < 9, lambda v: v + 1, c) - 9, None), x, None, length=FOREVER
        )[0],
        number,
    ),
    "lanes": (fg.vmap(lambda x: lax.while_loop(lambda c: c < 2, lambda c: jnp.sin(c) + x, x)), vector / 2),
    "few lanes": (fg.vmap(lambda x: lax.while_loop(lambda c: c < 2, lambda c: jnp.sin(c) + x, x)), vector[:4] / 2),
    "nested while": (lambda x: lax.while_loop(always, lambda c: jnp.roll(c, 1) * 0.5, x), vector),
    "nested scans": (
        lambda x: lax.scan(
            lambda c, _: (lax.fori_loop(0, 5, lambda i, v: jnp.roll(v, 1) * 0.5, c), None), x, None, length=FOREVER
        )[0],
        vector,
    ),
    "large arrays": (
        lambda x: lax.while_loop(always, lambda c: jnp.cumsum(jnp.roll(c, 1)) * 0.5 + jnp.sum(c), x),
        jnp.zeros(1 << 20),
    ),
    "callbacks": (
        lambda x: lax.while_loop(always, lambda c: fg.pure_callback(lambda v: v, fg.typeof(x), c), x), vector
    ),
}
step = fg.jit(lambda w, x: w - 0.1 * fg.grad(lambda w: jnp.mean((jnp.tanh(x @ w) - 1) ** 2))(w))
weights, batch = jnp.full((64, 8), 0.1), jnp.linspace(-1, 1, 256 * 64).reshape(256, 64)
expected = np.asarray(step(weights, batch))

def interrupt_after(seconds, number=signal.SIGINT):
    threading.Thread(target=lambda: (time.sleep(seconds), os.kill(os.getpid(), number))).start()

def check_that_all_is_well():
    for _ in range(3):
        np.testing.assert_array_equal(np.asarray(step(weights, batch)), expected)
    assert float(fg.jit(lambda n: lax.fori_loop(0, n, lambda i, s: s + i, 0))(1000)) == 499500
"""

KINDS = (
    "products",
    "scalar while",
    "scalar scan",
    "while in a scan",
    "lanes",
    "few lanes",
    "nested while",
    "nested scans",
    "large arrays",
    "callbacks",
)


def python(script: str) -> None:
    """Run a script that is to print "done" and nothing else."""
    done = subprocess.run([sys.executable, "-c", PREAMBLE + script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_ends_every_kind_of_loop_and_later_calls_are_right(kind):
    python(
        f"f, x = PROGRAMS[{kind!r}]\n"
        "f, before = fg.jit(f).lower(x).compile(), np.array(x)\n"
        "for _ in range(10):\n"
        "    try:\n"
        "        interrupt_after(0.05 * random.random())\n"
        "        f(x)\n"
        "        print('it came to an end')\n"
        "    except KeyboardInterrupt:\n"
        "        check_that_all_is_well()\n"
        "    np.testing.assert_array_equal(np.asarray(x), before)\n"
        "print('done')"
    )


def test_a_loop_outside_jit_ends_too():
    python(
        "f, x = PROGRAMS['scalar while']\n"
        "try:\n"
        "    interrupt_after(0.3)\n"
        "    f(x)\n"
        "except KeyboardInterrupt:\n"
        "    print('done')"
    )


def test_a_hundred_interrupts_at_random_moments():
    python(
        "class Stop(Exception): pass\n"
        "def stop(_, frame):\n"
        "    if frame.f_code.co_name == '__del__':\n"  # where Python loses exceptions: try again
        "        signal.setitimer(signal.ITIMER_REAL, 1e-4)\n"
        "    else:\n"
        "        raise Stop\n"
        "signal.signal(signal.SIGALRM, stop)\n"
        "train = fg.jit(lambda w, n: lax.fori_loop(0, n, lambda i, w: step(w, batch), w))\n"
        "want = np.asarray(train(weights, 3))\n"
        "stopped = 0\n"
        "for _ in range(100):\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 1e-4 + 0.02 * random.random())\n"
        "        for _ in range(1000):\n"
        "            train(weights, 100)\n"
        "    except Stop:\n"
        "        stopped += 1\n"
        "    np.testing.assert_array_equal(np.asarray(train(weights, 3)), want)\n"
        "check_that_all_is_well()\n"
        "assert stopped > 90, stopped\n"
        "print('done')"
    )


def test_handlers_of_users_run_while_a_program_runs():
    python(
        "seen = []\n"
        "def handle(*_):\n"
        "    seen.append(float(fg.jit(lambda x: x * 2)(3.0)))\n"  # a handler may run a program
        "    if len(seen) == 3: raise SystemExit('three')\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "signal.signal(signal.SIGALRM, handle)\n"
        "f, x = PROGRAMS['scalar while']\n"
        "f = fg.jit(f).lower(x).compile()\n"
        "try:\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "    f(x)\n"
        "except SystemExit as exit:\n"
        "    assert seen == [6.0] * 3 and exit.args == ('three',)\n"
        "    print('done')"
    )


def test_the_main_thread_is_interrupted_and_programs_of_other_threads_go_on():
    python(
        "f, x = PROGRAMS['lanes']\n"
        "other = threading.Thread(target=fg.jit(f), args=(x,), daemon=True)\n"
        "other.start()\n"
        "for main in (lambda: time.sleep(60), lambda: fg.jit(PROGRAMS['nested while'][0])(vector)):\n"
        "    try:\n"
        "        interrupt_after(0.3)\n"
        "        main()\n"
        "    except KeyboardInterrupt:\n"
        "        check_that_all_is_well()\n"
        "        assert other.is_alive()\n"
        "print('done', flush=True)\n"
        "os._exit(0)"
    )


@pytest.mark.parametrize("raised", ["in the callback", "by a signal"])
def test_an_interrupt_in_a_callback_unwinds_the_program(raised):
    python(
        "def host(v):\n"
        f"    if {raised == 'in the callback'}: raise KeyboardInterrupt('mine')\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return v\n"
        "f = lambda x: lax.while_loop(always, lambda c: fg.pure_callback(host, fg.typeof(x), c) + 1, x)\n"
        "try:\n"
        "    fg.jit(f)(vector)\n"
        "except KeyboardInterrupt:\n"
        "    check_that_all_is_well()\n"
        "    print('done')"
    )


def test_donated_arguments_and_refs_are_as_before():
    python(
        "ref = fg.new_ref(jnp.arange(3.0))\n"
        "x = jnp.arange(5.0)\n"
        "def f(x):\n"
        "    ref[...] = ref[...] + 1\n"
        "    return lax.while_loop(always, lambda c: c + jnp.sum(ref[...]), x)\n"
        "try:\n"
        "    interrupt_after(0.5)\n"
        "    fg.jit(f, donate_argnums=0)(x)\n"
        "except KeyboardInterrupt:\n"
        "    assert np.asarray(x).tolist() == [0, 1, 2, 3, 4] and np.asarray(ref[...]).tolist() == [0, 1, 2]\n"
        "    print('done')"
    )


def test_jupyters_interrupt():
    manager = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    kernel, client = manager.start_new_kernel(
        startup_timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:

        def run(code: str, interrupt: bool = False) -> dict:
            request = client.execute(code)
            while interrupt:
                message = client.get_iopub_msg(timeout=60)
                if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
                    kernel.interrupt_kernel()
                    break
            while True:
                message = client.get_shell_msg(timeout=60)
                if message["parent_header"].get("msg_id") == request:
                    return message["content"]

        assert (
            run("import funcgrad as fg\nf = fg.jit(lambda x: fg.lax.while_loop(lambda c: True, lambda c: c + 1, x))")[
                "status"
            ]
            == "ok"
        )
        for _ in range(2):
            reply = run("print('started', flush=True)\nf(1.0)", interrupt=True)
            assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
            assert run("assert float(fg.jit(lambda x: x + 1)(1.0)) == 2.0")["status"] == "ok"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
