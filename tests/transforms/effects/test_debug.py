"""debug.print, debug.callback, debug.breakpoint, debug_nans and debug_infs, in and under every transform."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import subprocess
import sys

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax
from funcgrad.compiler import pipeline
from funcgrad.config import config
from funcgrad.errors import ArgumentError, NonFiniteError

X = np.array([0.5, 1.0, 2.0], np.float32)
COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])


def maybe_jit(f, compiled, library=fg):
    return library.jit(f) if compiled else f


def printed(f, *args):
    """Return the text that a call prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        f(*args)
    return out.getvalue()


# ---------------------------------------------------------------- debug.print and debug.callback


def programs(library, numpy):
    """Programs that print, for funcgrad and for JAX; where order is not given by JAX, one line only."""
    show = library.debug.print

    def value(x):
        show("x = {} and {y:.2f}, {name}, {nothing}", x, y=x[0], name="text", nothing=None)

    def tree(x):
        show("{p[a]} {p[b][0]} {s.shape}", p={"a": x, "b": (x[1], 2)}, s=x)

    def loop(x):
        def step(carry, a):
            show("c={} a={}", carry, a, ordered=True)
            return carry + a, carry

        return library.lax.scan(step, x[0], x)

    def counting(x):
        def step(i):
            show("i={}", i, ordered=True)
            return i + 1

        return library.lax.while_loop(lambda i: i < 3, step, 0)

    def branch(x):
        return library.lax.cond(x[0] > 0, lambda: show("positive"), lambda: show("negative"))

    def gradient(x):
        def loss(v):
            show("v={}", v)
            return numpy.sum(numpy.sin(v) ** 2)

        return library.grad(loss)(x), library.grad(library.jit(loss))(x)

    def second(x):
        def loss(v):
            show("v={}", v)
            return numpy.sin(v)

        return library.grad(library.grad(loss))(x[0])

    xs = numpy.arange(2.0)

    def step(carry, x):
        show("c={} x={}", carry, x)
        return carry * x, carry

    def up(v):
        show("v={}", v)
        return v + 0.75

    return {
        "value": value,
        "tree": tree,
        "no fields": lambda x: show("plain {{text}}"),
        "unchecked": lambda x: show("a", x, skip_format_check=True),
        "two calls": lambda x: show(ordered=True)("x = {x}", x=x),
        "large": lambda x: show("{}", numpy.arange(2000.0)),
        "scalars": lambda x: show("{} {} {} {:04d}", x[0] / 3, x[0] > 0, numpy.int8(3), numpy.int32(7)),
        "vmap": library.vmap(lambda v: show("v={} u={}", v, 7)),
        "vmap of nothing": library.vmap(lambda v: show("once")),
        "vmap of vmap": lambda x: library.vmap(lambda a: library.vmap(lambda b: show("{} {}", a, b))(x))(x),
        "scan": loop,
        "while": counting,
        "cond": branch,
        "grad": gradient,
        "second order": second,
        "grad of scan": library.grad(lambda x: loop(x)[0]),
        "vmap of scan": library.vmap(lambda v: library.lax.scan(step, v, xs)),
        "vmap of while": library.vmap(lambda v: library.lax.while_loop(lambda w: w < 2, up, v)),
        "jvp": lambda x: library.jvp(lambda v: (show("v={}", v), v * 2)[1], (x,), (x,)),
    }


PRINTED = {
    "value": "x = [0.5 1.  2. ] and 0.50, text, None\n",
    "no fields": "plain {{text}}\n",
    "vmap": "v=0.5 u=7\nv=1.0 u=7\nv=2.0 u=7\n",
    "scan": "c=0.5 a=0.5\nc=1.0 a=1.0\nc=2.0 a=2.0\n",
    "while": "i=0\ni=1\ni=2\n",
    "cond": "positive\n",
    "grad": "v=[0.5 1.  2. ]\n" * 2,
    "second order": "v=0.5\n",
}


@COMPILED
@pytest.mark.parametrize("name", PRINTED)
def test_prints(name, compiled):
    f = maybe_jit(programs(fg, jnp)[name], compiled)
    x = jnp.asarray(X)
    assert [printed(f, x), printed(f, x)] == [PRINTED[name]] * 2


@pytest.mark.oracle
@COMPILED
@pytest.mark.parametrize("name", programs(fg, jnp))
def test_prints_as_jax(name, compiled):
    import jax

    def of_jax():
        maybe_jit(programs(jax, jax.numpy)[name], compiled, jax)(jax.numpy.asarray(X))
        jax.effects_barrier()

    ours = printed(maybe_jit(programs(fg, jnp)[name], compiled), jnp.asarray(X))
    theirs = printed(of_jax)
    if name.startswith("vmap of "):  # JAX runs what is not ordered in an order of its own
        ours, theirs = sorted(ours.splitlines()), sorted(theirs.splitlines())
    assert ours == theirs


TRANSFORMS = {
    "grad of jit": lambda lib, f: lib.grad(lib.jit(f)),
    "jit of grad": lambda lib, f: lib.jit(lib.grad(f)),
    "value_and_grad": lambda lib, f: lib.value_and_grad(f),
    "vjp": lambda lib, f: lambda x: lib.vjp(f, x)[1](1.0),
    "linearize": lambda lib, f: lambda x: lib.linearize(f, x)[1](x),
    "jvp of grad": lambda lib, f: lambda x: lib.jvp(lib.grad(f), (x,), (x,)),
    "grad of jvp": lambda lib, f: lib.grad(lambda x: lib.jvp(f, (x,), (x,))[1]),
    "hessian": lambda lib, f: lib.hessian(f),
    "jacfwd": lambda lib, f: lib.jacfwd(lib.jit(f)),
    "jacrev": lambda lib, f: lib.jit(lib.jacrev(f)),
    "vmap of grad": lambda lib, f: lambda x: lib.vmap(lib.grad(f))(x[None] + x[:, None]),
    "grad of vmap": lambda lib, f: lib.grad(lambda x: lib.vmap(f)(x[None] + x[:, None]).sum()),
    "jit of vmap of grad of jit": lambda lib, f: lib.jit(
        lambda x: lib.vmap(lib.grad(lib.jit(f)))(x[None] + x[:, None])
    ),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", TRANSFORMS)
def test_prints_as_often_as_jax_under_transforms(name):
    import jax

    def lines(lib, numpy):
        def f(x):
            lib.debug.print("x = {}", x)
            y = numpy.sum(x * x)
            lib.debug.print("y = {:.3f}", y)
            return numpy.exp(-y) * y

        def run():
            TRANSFORMS[name](lib, f)(numpy.asarray(X))
            lib.effects_barrier()

        return sorted(printed(run).splitlines())

    assert lines(fg, jnp) == lines(jax, jax.numpy)


def test_jaxprs_show_the_format_and_the_function():
    def f(x):
        fg.debug.print("x = {}", x)
        fg.debug.callback(print, x)

    assert str(fg.make_jaxpr(f)(1.0)) == (
        "{ lambda ; a:f32[]. let\n"
        "    debug_print[fmt=x = {} ordered=False] a\n"
        "    debug_callback[callback=print ordered=False] a\n"
        "  in () }"
    )


# Of f-strings, with what they print where x is 1.5.
F_STRINGS = {
    "value": (lambda x: f"loss {x}", "loss 1.5"),
    "format": (lambda x: f"loss {x:.2f}, {x:>8.1e}|", "loss 1.50,  1.5e+00|"),
    "a value that nothing else holds": (lambda x: f"twice {2 * x:.1f}", "twice 3.0"),
    "several": (lambda x: f"{x} and {x + 1} and {x}", "1.5 and 2.5 and 1.5"),
    "array": (lambda x: f"{jnp.stack([x, 2 * x])}", "[1.5 3. ]"),
    "integer": (lambda x: f"{(100 * x).astype(int):#x}", "0x96"),
}


@pytest.mark.parametrize("text, expected", F_STRINGS.values(), ids=F_STRINGS)
def test_values_in_f_strings_are_printed(text, expected):
    def f(x):
        fg.debug.print(text(x))
        return x * x

    expected += "\n"
    assert printed(f, jnp.float32(1.5)) == expected
    assert printed(fg.jit(f), 1.5) == expected
    assert printed(fg.grad(f), 1.5) == expected
    assert printed(fg.jit(fg.grad(f)), 1.5) == expected
    assert printed(fg.vmap(f), np.full(2, 1.5)) == 2 * expected
    assert printed(fg.checkpoint(f), 1.5) == expected
    assert printed(lambda: lax.fori_loop(0, 2, lambda i, x: (f(x), x)[1], 1.5)) == 2 * expected
    with fg.checking_leaks():
        assert printed(fg.jit(f), 1.5) == expected


def test_f_strings_have_arguments_too():
    assert printed(fg.jit(lambda x: fg.debug.print(f"{x:.1f} {{}} {{y}}", 2 * x, y=3)), 1.5) == "1.5 3.0 3\n"


def test_text_of_a_traced_value_is_no_field():
    out = printed(fg.jit(lambda x: fg.debug.print(f"{x=}") or x), 1.5)
    assert out == "x=JaxprTracer<f32[]{weak_type=True}>\n"


def test_known_values_are_formatted():
    assert printed(fg.grad(lambda x: print(f"{x:.3f} {x} {jnp.stack([x, x])}") or x), 1.5) == "1.500 1.5 [1.5 1.5]\n"


def test_print_options_are_captured_at_trace_time():
    with np.printoptions(precision=2):
        f = fg.jit(lambda x: fg.debug.print("{}", x / 3))
        assert printed(f, X) == "[0.17 0.33 0.67]\n"
    assert printed(f, X) == "[0.17 0.33 0.67]\n"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: fg.debug.print(X), ArgumentError, "the format is array.*of type ndarray"),
        (lambda: fg.debug.print("{}", X, X), ArgumentError, "unused positional arguments"),
        (
            lambda: fg.jit(lambda x: fg.debug.print(f"{x}", x=x))(X),
            ArgumentError,
            r"unused keyword arguments \['x'\]; an f-string was formatted(.|\n)*at test_debug.py:(.|\n)*not f\"",
        ),
        (lambda: fg.debug.print("{} {}", X), ArgumentError, r"field for argument 1, which(.|\n)*at test_debug.py"),
        (
            lambda: fg.debug.print("{y}", X),
            ArgumentError,
            r"field for argument 'y'(.|\n)*fix: pass values as arguments",
        ),
        (lambda: fg.debug.print("{", 1.0), ArgumentError, r"Single '{'(.|\n)*at test_debug.py(.|\n)*twice, {{ }}"),
        (lambda: fg.jit(lambda x: fg.debug.print("{:q}", x))(1.0), ArgumentError, "does not fit(.|\n)*test_debug.py"),
        (
            lambda: fg.jit(lambda x: fg.debug.print("{:d}", x))(1.0),
            ArgumentError,
            "code 'd' for object of type 'float'",
        ),
        (lambda: fg.jit(lambda x: fg.debug.print(f"{dict(x=x)}"))(1.0), ArgumentError, "field for argument \"'x'\""),
        (lambda: fg.debug.callback(3), ArgumentError, "debug.callback: 3 is not callable"),
        (lambda: fg.debug.callback(None, X), ArgumentError, "without what to do with them"),
    ],
)
def test_misuse_is_found_when_traced(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@COMPILED
def test_a_callback_is_called_for_its_effect_alone(compiled):
    seen = []

    def f(x):
        fg.debug.callback(lambda *args, **kwargs: seen.append((args, kwargs)), x, "text", key={"y": x[0]}, ordered=True)
        fg.debug.callback(ordered=True)(lambda value: seen.append(value), x)
        return jnp.sum(x**3)

    gradient = maybe_jit(fg.grad(f), compiled)(X)
    np.testing.assert_allclose(gradient, 3 * X**2, rtol=1e-6)
    ((value, text), kwargs), again = seen
    np.testing.assert_array_equal(value, X)
    np.testing.assert_array_equal(again, X)
    assert text == "text" and float(kwargs["key"]["y"]) == X[0]


def test_a_print_before_an_error_is_seen_and_those_after_are_not():
    def broken(x):
        raise RuntimeError("mine")

    @fg.jit
    def f(x):
        fg.debug.print("before")
        fg.debug.callback(broken, x)
        fg.debug.print("after")

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(RuntimeError, match="^mine$"):
        f(X)
    assert out.getvalue() == "before\n"


def test_effects_barrier_has_nothing_to_do():
    assert fg.effects_barrier() is None


# ---------------------------------------------------------------- debug.breakpoint


def session(f, *args, commands):
    """The answers of the prompt to commands, by command."""
    out = io.StringIO()
    f(io.StringIO("\n".join([*commands, "c"]) + "\n"), out)(*args)
    intro, *answers = out.getvalue().split("(jdb) ")
    assert intro == "Entering jdb:\n"
    return dict(zip(commands, answers, strict=False))


def stopping(stdin, stdout, wrap=fg.jit, **options):
    def inner(z):
        pair = {"z": z, "count": 3}
        fg.debug.breakpoint(stdin=stdin, stdout=stdout, **options)  # here
        return z + pair["count"]

    def outer(x):
        doubled = x * 2
        return inner(doubled)

    return wrap(outer)


def test_the_prompt_shows_values_of_every_frame():
    commands = ["p z", "pp pair", "z + 1", "p missing", "p 1 +", "d", "l", "u", "p doubled", "p x", "w", ""]
    got = session(stopping, X, commands=commands)
    assert got["p z"] == "Array([1., 2., 4.], dtype=float32)\n"
    assert got["pp pair"] == "{'count': 3, 'z': Array([1., 2., 4.], dtype=float32)}\n"
    assert got["z + 1"] == "Array([2., 3., 5.], dtype=float32)\n"
    assert got["p missing"] == "*** NameError: name 'missing' is not defined\n"
    assert got["p 1 +"].startswith("*** SyntaxError: ")
    assert got["d"].startswith("At bottommost frame.\n")
    line = inspect.getsourcelines(stopping)[1] + 3
    assert got["l"].startswith(f"> {__file__}({line}) in inner\n")
    assert "\n->          fg.debug.breakpoint(stdin=stdin, stdout=stdout, **options)  # here\n" in got["l"]
    assert " in outer\n" in got["u"] and "->          return inner(doubled)\n" in got["u"]
    assert got["p doubled"] == "Array([1., 2., 4.], dtype=float32)\n"
    assert got["p x"] == "Array([0.5, 1. , 2. ], dtype=float32)\n"
    assert got["w"].index("in outer\n    return inner(doubled)") < got["w"].index("in inner\n    fg.debug.breakpoint(")
    assert got[""] == ""


def test_each_run_and_each_element_stops():
    def f(stdin, stdout):
        return lambda x: fg.vmap(stopping(stdin, stdout, wrap=lambda g: g))(x)

    out = io.StringIO()
    f(io.StringIO("p z\nc\n" * 3), out)(X)
    assert [float(line.split("(")[2].split(",")[0]) for line in out.getvalue().splitlines() if "Array" in line] == [
        1.0,
        2.0,
        4.0,
    ]
    stdin, out = io.StringIO("p z\nc\np z\nc\n"), io.StringIO()
    g = stopping(stdin, out)
    g(X), g(X + 1)
    assert out.getvalue().count("Array([1., 2., 4.]") == out.getvalue().count("Array([3., 4., 6.]") == 1


def test_breakpoint_under_grad_and_in_scan():
    got = session(lambda i, o: fg.grad(lambda x: jnp.sum(stopping(i, o)(x))), X, commands=["p z"])
    assert got["p z"] == "Array([1., 2., 4.], dtype=float32)\n"
    out = io.StringIO()
    step = stopping(io.StringIO("p z\nc\n" * 3), out, wrap=lambda f: lambda carry, x: (carry, f(x)))
    lax.scan(step, 0.0, X)
    assert [v in out.getvalue() for v in ("Array(1.", "Array(2.", "Array(4.")] == [True] * 3


def test_frames_are_limited_and_a_token_comes_back():
    got = session(lambda i, o: stopping(i, o, num_frames=1), X, commands=["u"])
    assert got["u"].startswith("At topmost frame.")

    def f(stdin, stdout):
        return fg.jit(lambda x: fg.debug.breakpoint(token=x * 3, stdin=stdin, stdout=stdout) + 1)

    out = io.StringIO()
    np.testing.assert_array_equal(f(io.StringIO("p x\nc\n"), out)(X), 3 * X + 1)
    assert "Array([0.5, 1. , 2. ]" in out.getvalue()
    with pytest.raises(ArgumentError, match="both ordered and token"):
        fg.debug.breakpoint(ordered=True, token=X)


@pytest.mark.parametrize("commands", ["q\n", "exit\n", ""])
def test_quitting_leaves_the_program(commands):
    with pytest.raises(SystemExit):
        stopping(io.StringIO(commands), io.StringIO())(X)


# ---------------------------------------------------------------- debug_nans and debug_infs


def message(f, *args, option="debug_nans"):
    """The message of the error that a call raises, without the line numbers."""
    with config.override(option, True), pytest.raises(NonFiniteError) as caught:
        f(*args)
    lines = str(caught.value).split("\n")
    name = lines[0].split("encountered in ")[1].split(" ")[0]
    assert len(lines) == 3 and lines[2] == f"  fix: keep the operands where {name} is defined, or turn {option} off"
    return lines[0], caught.value.location


def line_of(function, text):
    """The number of the line of a function that has a text in it."""
    source, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(source) if text in line)


def model(x):
    y = x - 1
    z = jnp.log(y)  # the line
    return jnp.sum(z * z)


LOG = "invalid value (nan) encountered in log at index (0,) of the result f32[3]; operand there: -0.5"


@COMPILED
def test_the_operation_line_index_value_and_operands_are_named(compiled):
    text, location = message(maybe_jit(model, compiled), X)
    assert text == LOG
    assert (location.function, location.line) == ("model", line_of(model, "# the line"))
    assert os.path.basename(location.filename) == "test_debug.py"


WRAPPED = {
    "nested jits": lambda: fg.jit(lambda x: fg.jit(model)(x) + 1),
    "grad": lambda: fg.grad(model),
    "jit of grad": lambda: fg.jit(fg.grad(model)),
    "grad of jit": lambda: fg.grad(fg.jit(model)),
    "value and grad of grad": lambda: fg.jit(fg.grad(lambda x: jnp.sum(fg.grad(model)(x)))),
    "cond": lambda: fg.jit(lambda x: lax.cond(x[0] > 0, model, lambda x: 1.0, x)),
    "jit under disable_jit": lambda: fg.disable_jit()(fg.jit(model)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_forward_line_is_named_through_transforms(name):
    text, location = message(WRAPPED[name](), X)
    assert text == LOG
    assert location.line == line_of(model, "# the line")


def test_vmap_gives_the_index_in_the_batch():
    text, _ = message(fg.jit(fg.vmap(lambda v: jnp.log(v - 1) * 2)), X[::-1])
    assert text == LOG.replace("(0,)", "(2,)")


def test_nans_of_a_gradient_name_the_forward_line():
    def f(x):
        return jnp.where(x > 0, jnp.sqrt(x), 0.0)  # forward

    for g in (fg.grad(f), fg.jit(fg.grad(f)), fg.grad(fg.jit(f))):
        text, location = message(g, np.float32(0))
        assert text == "invalid value (nan) encountered in mul as the result f32[]; operands: 0.0, inf"
        assert location.line == line_of(f, "# forward")


def test_in_loops():
    def step(carry, x):
        fg.debug.print("{}", x)
        return carry, jnp.log(x)  # in the loop

    out = io.StringIO()
    f = fg.jit(lambda x: lax.scan(step, 0.0, x)[1] * 2)
    with contextlib.redirect_stdout(out):
        text, location = message(f, np.array([1, 2, -3, 4], np.float32))
    assert text == "invalid value (nan) encountered in log as the result f32[] in iteration 2; operand: -3.0"
    assert location.line == line_of(step, "# in the loop")
    assert out.getvalue() == "1.0\n2.0\n-3.0\n"  # each iteration once, none after the mistake

    def countdown(x):
        return lax.while_loop(lambda x: x > -2, lambda x: x - 1 + 0 * jnp.sqrt(x), x)

    text, _ = message(fg.jit(countdown), np.float32(1))
    assert text == "invalid value (nan) encountered in sqrt as the result f32[] in iteration 2; operand: -1.0"

    backwards = fg.jit(lambda x: lax.scan(lambda c, v: (c + jnp.sqrt(v), c), x[0] * 0, x, reverse=True))
    text, _ = message(backwards, np.array([1, -2, -3, 4], np.float32))
    assert text == "invalid value (nan) encountered in sqrt as the result f32[] in iteration 2; operand: -3.0"

    gradient = fg.grad(lambda x: lax.scan(lambda c, v: (c + jnp.sqrt(v) * 0, None), 0.0, x)[0])
    for g in (gradient, fg.jit(gradient)):
        text, location = message(g, np.array([1, 0, 2], np.float32))
        assert text == ("invalid value (nan) encountered in mul as the result f32[] in iteration 1; operands: 0.0, inf")
        assert location.line == line_of(test_in_loops, "    gradient =")

    nested = fg.jit(lambda x: lax.map(lambda row: lax.map(jnp.log, row) * 2, x))
    text, _ = message(nested, np.array([[1, 2, 3], [4, -5, 6]], np.float32))
    assert text == "invalid value (nan) encountered in log as the result f32[] in iteration 1; operand: -5.0"
    for eager in (True, False):
        f = maybe_jit(lambda n: lax.fori_loop(0, n, lambda i, v: v / (2 - i), 1.0), not eager)
        text, _ = message(f, 5, option="debug_infs")
        assert text == ("invalid value (inf) encountered in div as the result f32[] in iteration 2; operands: 0.5, 0.0")


SUMMARIES = {
    "operands of other shapes": (
        lambda x: jnp.sum(jnp.stack([x, -x]) / 0, axis=0),
        "invalid value (nan) encountered in reduce_sum at index (0,) of the result f32[3]; "
        "operand: f32[2,3] from -inf to inf",
    ),
    "products": (
        lambda x: jnp.array([[np.inf, 1, 1]], np.float32) @ jnp.stack([x, -x, x * 0], 1),
        "invalid value (nan) encountered in dot_general at index (0, 2) of the result f32[1,3]; "
        "operands: f32[1,3] from 1.0 to inf, f32[3,3] from -2.0 to 2.0",
    ),
    "scalars": (
        lambda x: x * (jnp.max(x) / 0) * 0,
        "invalid value (nan) encountered in mul at index (0,) of the result f32[3]; operands there: inf, 0.0",
    ),
    "complex": (
        lambda x: jnp.log(lax.complex(x, x) * 0) * 0,
        "invalid value (nan+nanj) encountered in mul at index (0,) of the result c64[3]; operands there: (-inf+0j), 0j",
    ),
    "callbacks": (
        lambda x: fg.pure_callback(lambda v: np.full(3, np.nan, np.float32), fg.ShapeDtypeStruct((3,), "float32"), x),
        "invalid value (nan) encountered in pure_callback at index (0,) of the result f32[3]; "
        "operand: f32[3] from 0.5 to 2.0",
    ),
}


@COMPILED
@pytest.mark.parametrize("name", SUMMARIES)
def test_operands_are_summarized_where_they_have_no_such_index(name, compiled):
    f, expected = SUMMARIES[name]
    found = message(maybe_jit(f, compiled), jnp.asarray(X))[0]
    # Eagerly, the function is named that was called where the operation has another name.
    assert found.removeprefix("sum: ") == expected


def test_infinities():
    f = fg.jit(lambda x: jnp.exp(1 / (x - 1)))
    assert message(f, X, option="debug_infs")[0] == (
        "invalid value (inf) encountered in div at index (1,) of the result f32[3]; operands there: 1.0, 0.0"
    )
    with fg.debug_nans():
        assert np.isinf(np.asarray(f(X))).any()  # no NaN
    with fg.debug_infs():
        assert np.isnan(np.asarray(fg.jit(lambda x: jnp.log(-x))(X))).all()  # no infinity


FINE = {
    "nan that is masked": lambda x: jnp.where(jnp.isnan(x), 0.0, x * 2),
    "nan in a constant": lambda x: jnp.where(x > 5, jnp.nan, jnp.nan_to_num(x)),
    "infinite mask": lambda x: fg.nn.softmax(jnp.where(jnp.isnan(x), -jnp.inf, x)),
    "moved": lambda x: jnp.nan_to_num(jnp.concatenate([x, x]).reshape(2, 3).T),
    "not used": lambda x: (jnp.log(-jnp.nan_to_num(x)), x > 0)[1],
    "integers": lambda x: jnp.isnan(x).astype(int),
}


@pytest.mark.parametrize("option", ["debug_nans", "debug_infs"])
@pytest.mark.parametrize("name", FINE)
def test_nans_in_inputs_do_not_raise(name, option):
    x = np.array([np.nan, 1.0, 2.0], np.float32)
    with config.override(option, True):
        compiled = fg.jit(FINE[name])(x)
    np.testing.assert_allclose(compiled, fg.jit(FINE[name])(x), rtol=1e-6)


def both(x):
    y = jnp.log(x)
    return jnp.where(x > 0, y, 0.0), jnp.where(x > -2, y, 0.0)


# What is chosen of a logarithm of [-1, 0.5, -2, 4], and the first index of a NaN in it.
CHOICES = {
    "masked": (lambda x: jnp.where(x > 0, jnp.log(x), 0.0), None),
    "masked at second hand": (lambda x: jnp.where(x > 0, jnp.exp(jnp.log(x) * 2) + x, 0.0), None),
    "masked in two steps": (lambda x: jnp.where(x > -2, jnp.where(x > 0, 2 * jnp.log(x), x), 0.0), None),
    "masked by each": (lambda x: jnp.where(x == -1, 0.0, jnp.where(x == -2, 0.0, jnp.log(x))), None),
    "masked in a jitted function": (lambda x: jnp.where(x > 0, fg.jit(jnp.log)(x), 0.0), None),
    "masked by a scalar": (lambda x: jnp.where(x[0] > 0, jnp.log(x), 0.0), None),
    "masked in a loop": (lambda x: lax.scan(lambda c, v: (c + jnp.where(v > 0, jnp.log(v), 0.0), c), 0.0, x), None),
    "compared": (lambda x: jnp.log(x) > 0, None),
    "printed": (lambda x: (fg.debug.print("{}", jnp.log(x)), x)[1], None),
    "replaced": (lambda x: jnp.nan_to_num(jnp.log(x)), None),
    "one of three": (lambda x: lax.select_n(jnp.array([0, 1, 2, 0]), x, x, jnp.log(x)), 2),
    "the wrong side": (lambda x: jnp.where(x < -1, jnp.log(x), 0.0), 2),
    "one of two uses": (both, 0),
    "used besides": (lambda x: jnp.where(x > 0, (y := jnp.log(x)), 0.0) + y.sum(), 0),
    "the other step": (lambda x: jnp.where(x < -1, jnp.where(x < 0, jnp.log(x), 0.0), 0.0), 2),
}


@pytest.mark.parametrize("name", CHOICES)
def test_nans_that_no_selection_chooses_do_not_raise(name, capsys):
    f, index = CHOICES[name]
    x = np.array([-1, 0.5, -2, 4], np.float32)
    if index is not None:
        text, _ = message(fg.jit(f), x)
        assert text.startswith(f"invalid value (nan) encountered in log at index ({index},) of the result f32[4];")
        assert text.endswith(f" there: {x[index]}")
        return
    expected = fg.jit(f)(x)
    with fg.debug_nans():
        fg.tree.map(np.testing.assert_array_equal, fg.jit(f)(x), expected)


def test_a_nan_among_the_results_of_a_program_is_named_even_if_it_was_given():
    x = np.array([1.0, np.nan], np.float32)
    text, _ = message(fg.jit(lambda x: x * 3), x)
    assert text == "invalid value (nan) encountered in mul at index (1,) of the result f32[2]; operands there: nan, 3.0"
    text, _ = message(fg.jit(lambda x: lax.cond(x[0] > 0, lambda: jnp.nan, lambda: 1.0)), x)
    assert text == "invalid value (nan) encountered in cond as the result f32[]"
    with fg.debug_nans():
        np.testing.assert_array_equal(fg.jit(lambda x: x)(x), x)
        assert np.isnan(float(jnp.asarray(x)[1]))


def test_nothing_runs_twice_or_after_the_first_nan():
    @fg.jit
    def f(x):
        fg.debug.print("before {}", x)
        y = jnp.sqrt(x)
        fg.debug.print("after {}", y)
        return y

    with fg.debug_nans():
        assert printed(f, np.float32(4)) == "before 4.0\nafter 2.0\n"
        out = io.StringIO()
        with contextlib.redirect_stdout(out), pytest.raises(FloatingPointError, match="sqrt"):
            f(np.float32(-4))
    assert out.getvalue() == "before -4.0\n"


def test_eager_shortcuts_are_checked_and_come_back():
    x = jnp.asarray(X) * 0
    for _ in range(2):
        assert np.isnan(np.asarray(x / x)).all()
        assert message(lambda: x / x)[0].endswith("operands there: 0.0, 0.0")
    config.update("debug_nans", True)
    try:
        assert message(lambda: x / x)[0].startswith("invalid value (nan) encountered in div")
        with fg.debug_nans(False):
            assert np.isnan(np.asarray(x / x)).all()
    finally:
        config.update("debug_nans", False)
    assert np.isnan(np.asarray(x / x)).all()


def test_functions_are_specialized_and_the_checks_stay_in_order():
    f = fg.jit(lambda x: jnp.log(jnp.exp(x) - 1) / x)
    f(X)
    with fg.debug_nans():
        f(X)
        text = pipeline.as_text(f.trace(X).jaxpr, "f", "groups")
        assert f.cache_info().traces == 2
        with fg.debug_nans(False):
            f(X)
        f(X)
    f(X)
    assert f.cache_info().traces == 2 + 1  # an override to the default is a configuration of its own
    assert text.count("host: check_finite") == 4


def test_checks_change_no_result():
    def f(x, w):
        h = jnp.tanh(x @ w)
        return jnp.sum(fg.nn.softmax(h) ** 2), lax.scan(lambda c, r: (c * 0.5 + r, c), 0.0, jnp.sin(h[0]))

    x, w = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    expected = fg.jit(f)(x, w)
    with fg.debug_nans(), fg.debug_infs():
        actual = fg.jit(f)(x, w)
    fg.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), actual, expected)


def test_the_environment_turns_it_on():
    code = "import funcgrad as fg, funcgrad.numpy as jnp; fg.jit(jnp.log)(jnp.float32(-1))"
    environment = os.environ | {"FUNCGRAD_DEBUG_NANS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "NonFiniteError: invalid value (nan) encountered in log as the result f32[]; operand: -1.0" in done.stderr


@pytest.mark.oracle
@COMPILED
def test_raises_where_jax_does(compiled):
    import jax

    def cases(library, numpy):
        return {
            "log": lambda x: numpy.log(x),
            "division": lambda x: 0.0 / x * 0,
            "fine": lambda x: numpy.where(x > 0, x, 1.0) * 2,
            "given": lambda x: x * numpy.nan,
            "logaddexp": lambda x: numpy.logaddexp(-numpy.inf * x, -numpy.inf * x),
            "softmax": lambda x: library.nn.softmax(numpy.where(x > 1, x, -numpy.inf)),
            "masked": lambda x: numpy.where(x > 0, numpy.log(x - 0.5), 0.0),
            "masked and chosen": lambda x: numpy.where(x > 0, numpy.log(x - 1.5), 0.0),
            "masked gradient": library.grad(lambda x: numpy.sum(numpy.where(x > 0, numpy.sqrt(x), 0.0))),
            "sinc": lambda x: numpy.sinc(x * 0),
            "power": library.grad(lambda x: numpy.sum((x * 0) ** 2.5)),
            "norm": library.grad(lambda x: numpy.sqrt(numpy.sum((x * 0) ** 2))),
        }

    def raises(library, numpy, f):
        with library.debug_nans(True):
            try:
                maybe_jit(f, compiled, library)(numpy.arange(3.0))
            except FloatingPointError:
                return True
        return False

    ours, theirs = cases(fg, jnp), cases(jax, jax.numpy)
    logger = __import__("logging").getLogger("jax")
    logger.disabled = True
    assert {n: raises(fg, jnp, f) for n, f in ours.items()} == {n: raises(jax, jax.numpy, f) for n, f in theirs.items()}
