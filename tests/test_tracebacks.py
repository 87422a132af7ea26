"""Tracebacks leave out the library's frames, as the mode says: at boundaries, in IPython, and at no cost."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax
from funcgrad.config import config
from funcgrad.tracebacks import NOTE, UnfilteredStackTrace

X = jnp.ones((2, 3))


def mistaken(x):
    raise KeyError("mine")


def misshapen(x):
    return jnp.sum(x @ jnp.ones((4, 2)))


@fg.custom_jvp
def with_rule(x):
    return mistaken(x)


with_rule.defjvp(lambda primals, tangents: (primals[0], tangents[0]))


@fg.custom_vjp
def with_reverse_rule(x):
    return mistaken(x)


with_reverse_rule.defvjp(lambda x: (x, x), lambda residuals, ct: (ct,))
# boundaries, each with a function of the user's inside
CALLS = {
    "jit": lambda f: fg.jit(f)(X),
    "trace": lambda f: fg.jit(f).trace(X),
    "lower": lambda f: fg.jit(f).lower(X),
    "grad": lambda f: fg.grad(f)(X),
    "value_and_grad": lambda f: fg.value_and_grad(f)(X),
    "jvp": lambda f: fg.jvp(f, (X,), (X,)),
    "vjp": lambda f: fg.vjp(f, X),
    "linearize": lambda f: fg.linearize(f, X),
    "linear_transpose": lambda f: fg.linear_transpose(f, X),
    "jacfwd": lambda f: fg.jacfwd(f)(X),
    "jacrev": lambda f: fg.jacrev(f)(X),
    "hessian": lambda f: fg.hessian(f)(X),
    "vmap": lambda f: fg.vmap(f, axis_size=1, in_axes=None)(X),
    "make_jaxpr": lambda f: fg.make_jaxpr(f)(X),
    "eval_shape": lambda f: fg.eval_shape(f, X),
    "checkpoint": lambda f: fg.checkpoint(f)(X),
    "closure_convert": lambda f: fg.closure_convert(f, X),
    "scan": lambda f: lax.scan(lambda carry, x: (f(carry), x), X, jnp.ones(3)),
    "while_loop": lambda f: lax.while_loop(lambda x: True, f, X),
    "fori_loop": lambda f: lax.fori_loop(0, 3, lambda i, x: f(x), X),
    "cond": lambda f: lax.cond(True, f, f, X),
    "switch": lambda f: lax.switch(0, [f, f], X),
    "map": lambda f: lax.map(f, X[None]),
    "associative_scan": lambda f: lax.associative_scan(lambda a, b: f(a), X[None].repeat(2, 0)),
    "nested": lambda f: fg.grad(lambda x: fg.jit(fg.checkpoint(f))(x))(X),
}


def _caught(call, mode):
    with config.override("traceback_filtering", mode):
        try:
            call()
        except Exception as error:
            return error
    raise AssertionError("nothing was raised")


def _own(error):
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [f for f in frames if f.f_code.co_filename.startswith(os.path.dirname(fg.__file__) + os.sep)]


@pytest.mark.parametrize("mode", ["auto", "quiet_remove_frames", "remove_frames"])
@pytest.mark.parametrize("name", CALLS)
def test_frames_of_the_library_are_removed(name, mode):
    error = _caught(lambda: CALLS[name](mistaken), mode)
    assert type(error) is KeyError and str(error) == "'mine'"
    assert not _own(error)
    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert names[-1] == "mistaken" and names[0] == "_caught"
    if mode == "remove_frames":
        assert type(error.__cause__) is UnfilteredStackTrace and _own(error.__cause__)
        assert error.__cause__.__cause__ is None and not hasattr(error, "__notes__")
    else:
        assert error.__cause__ is None and error.__notes__ == [NOTE]


@pytest.mark.parametrize("name", CALLS)
def test_errors_end_at_the_users_line(name):
    error = _caught(lambda: CALLS[name](misshapen), "auto")
    assert isinstance(error, errors.ShapeError) and not _own(error)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "misshapen"
    assert not hasattr(error, "__notes__")  # the message has the line


@pytest.mark.parametrize(
    "call", [lambda: with_rule(1.0), lambda: with_reverse_rule(1.0), lambda: fg.jit(misshapen)("text")]
)
def test_other_calls_are_boundaries_too(call):
    assert not _own(_caught(call, "auto")) and _own(_caught(call, "off"))


@pytest.mark.parametrize("name", CALLS)
def test_off_keeps_all(name):
    error = _caught(lambda: CALLS[name](mistaken), "off")
    assert _own(error) and error.__cause__ is None and not hasattr(error, "__notes__")
    assert not any("__tracebackhide__" in frame.f_locals for frame in _own(error))


@pytest.mark.parametrize("call", [lambda: fg.jit(mistaken)(X), lambda: fg.grad(misshapen)(X), lambda: X + jnp.ones(2)])
def test_hidden_frames_are_marked(call):
    """Those of an eager operation as well, which has no boundary."""
    error = _caught(call, "tracebackhide")
    assert _own(error) and all(frame.f_locals["__tracebackhide__"] for frame in _own(error))
    others = [f for f, _ in traceback.walk_tb(error.__traceback__) if f not in _own(error)]
    assert others and not any("__tracebackhide__" in frame.f_locals for frame in others)


def test_causes_are_kept():
    def chained(x):
        try:
            mistaken(x)
        except KeyError as error:
            raise ValueError("second") from error

    quiet = _caught(lambda: fg.jit(chained)(X), "auto")
    assert type(quiet.__cause__) is KeyError
    loud = _caught(lambda: fg.jit(chained)(X), "remove_frames")
    assert type(loud.__cause__) is UnfilteredStackTrace and type(loud.__cause__.__cause__) is KeyError


def test_the_function_that_was_called_is_named_through_a_boundary():
    with pytest.raises(errors.FuncgradError, match="^fori_loop: "):
        lax.fori_loop(0, 3, lambda i, x: "text", 1.0)


def test_boundaries_look_like_the_functions():
    assert lax.scan.__name__ == "scan" and fg.jvp.__doc__.startswith("Return f(x)")
    assert fg.grad(misshapen).__name__ == "misshapen" and fg.jit.__name__ == "jit"


def _in_ipython(cell, mode="auto"):
    """Return the text that IPython prints when a cell raises."""
    pytest.importorskip("IPython")
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance(colors='nocolor')\n"
        f"shell.run_cell({cell!r})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"FUNCGRAD_TRACEBACK_FILTERING": mode},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


CELL = "import funcgrad as fg, funcgrad.numpy as jnp\ndef loss(x):\n    return jnp.sum(x @ jnp.ones((4, 2)))\n"


@pytest.mark.parametrize("call", ["fg.grad(fg.jit(loss))(jnp.ones((2, 3)))", "loss(jnp.ones((2, 3)))"])
def test_ipython_hides_the_frames(call):
    shown = _in_ipython(CELL + call)
    assert "contracted axes differ" in shown and "return jnp.sum(x @ jnp.ones((4, 2)))" in shown
    # IPython shows the frame that raised whether it is marked or not.
    assert shown.count("File ") == 1 and "skipping hidden" in shown, shown
    assert _in_ipython(CELL + call, "off").count("File ") > 1


def test_a_jitted_call_passes_no_boundary_of_its_own():
    """A handler costs nothing where nothing is raised: the call is one Python frame, as without filtering."""
    f = fg.jit(lambda x: x + 1)
    f(X)
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        f(X)
    finally:
        sys.setprofile(None)
    assert "filtering" not in calls and calls[0] == "__call__" and np.array_equal(f(X), X + 1)
