"""Every option of `jit`: honored, refused with the remedy, or without effect and documented."""

import inspect

import numpy as onp
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad.core.devices import Device
from funcgrad.errors import ArgumentError, StaticArgumentError

OTHER = Device("gpu", "other", 0)
TREE = {"w": None, "b": (None, None)}

# Option, a value that a program on one CPU device can have.
ACCEPTED = [
    ("static_argnums", None),
    ("static_argnums", (1,)),
    ("static_argnames", "n"),
    ("donate_argnums", ()),
    ("donate_argnames", None),
    ("keep_unused", True),
    ("keep_unused", False),
    ("inline", True),
    ("target", "llvm"),
    ("target", None),
    ("device", fg.devices()[0]),
    ("device", None),
    ("backend", "cpu"),
    ("backend", None),
    ("in_shardings", None),
    ("in_shardings", TREE),
    ("out_shardings", None),
    ("out_shardings", (None,)),
    ("compiler_options", None),
    ("compiler_options", {}),
]
# Option, a value that it cannot have, and what the message says of the ones that exist.
REFUSED = [
    ("static_argnums", 5, "2 positional parameters"),
    ("static_argnames", "missing", "parameters are"),
    ("donate_argnums", (7,), "2 positional parameters"),
    ("donate_argnames", "missing", "parameters are"),
    ("target", "cuda", "'llvm' or 'numba'"),
    ("device", OTHER, "CpuDevice(id=0)"),
    ("device", "cpu", "CpuDevice(id=0)"),
    ("backend", "gpu", "'cpu'"),
    ("in_shardings", OTHER, "in_shardings"),
    ("in_shardings", (None, "batch"), "in_shardings"),
    ("out_shardings", {"y": OTHER}, "out_shardings"),
    ("compiler_options", {"xla_flag": 1}, "xla_flag"),
    ("abstracted_axes", {0: "n"}, "abstracted_axes"),
    ("static_args", 0, "static_args"),
]


def power(x, n=2):
    return x**n


@pytest.mark.parametrize(("option", "value"), ACCEPTED)
@pytest.mark.parametrize("decorated", [False, True])
def test_options_that_are_accepted(option, value, decorated):
    f = fg.jit(**{option: value})(power) if decorated else fg.jit(power, **{option: value})
    onp.testing.assert_array_equal(f(np.arange(3.0)), [0.0, 1.0, 4.0])


@pytest.mark.parametrize(("option", "value", "message"), REFUSED)
def test_errors_of_refused_options_list_the_valid_ones(option, value, message):
    with pytest.raises((ArgumentError, StaticArgumentError)) as caught:
        fg.jit(**{option: value})(power)
    assert option in str(caught.value) and message in str(caught.value) and "fix:" in str(caught.value)


def test_a_device_and_a_backend_are_not_given_together():
    with pytest.raises(ArgumentError, match="give one of them"):
        fg.jit(power, device=fg.devices()[0], backend="cpu")


def test_every_option_is_in_the_table():
    options = set(inspect.signature(fg.jit).parameters) - {"fun", "unknown"}
    assert options == {option for option, _ in ACCEPTED}


@pytest.mark.oracle
def test_every_option_of_jax_is_in_the_table():
    import jax

    assert set(inspect.signature(jax.jit).parameters) - {"fun"} <= {option for option, _ in ACCEPTED}


@pytest.mark.parametrize("keep_unused", [False, True])
def test_unused_arguments_are_arguments_of_the_program_either_way(keep_unused):
    compiled = fg.jit(lambda x, unused: x + 1, keep_unused=keep_unused).lower(1.0, np.ones(3)).compile()
    assert len(compiled.args_info[0]) == 2
    assert compiled(1.0, np.ones(3)) == 2.0


def test_calls_of_one_kind_share_a_trace_and_others_do_not():
    traced = []
    f = fg.jit(lambda x, n=0: traced.append(n) or x + n, static_argnames="n")
    x = np.arange(3.0)
    f(x), f(x), f(x=x)
    assert len(traced) == 2  # by position and by keyword
    f(x, n=1), f(x, n=1), f(x, n=1.0)
    assert traced[2:] == [1, 1.0] and [type(n) for n in traced[2:]] == [int, float]
    with fg.enable_x64(True):
        f(x)
    assert len(traced) == 5


def test_a_call_under_another_transform_finds_the_trace_of_a_plain_call():
    traced = []
    f = fg.jit(lambda x: traced.append(1) or np.sin(x))
    f(np.float32(1)), fg.grad(f)(np.float32(1)), fg.make_jaxpr(f)(np.float32(1)), f(np.float32(2))
    assert len(traced) == 1
    fg.vmap(f, axis_name="i")(np.ones(3, np.float32))
    assert len(traced) == 2  # a named axis is in scope, which a collective in f could name
