"""Bad input: every error class, its operation, both values, the user's own line, and the remedy."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import funcgrad
import funcgrad.numpy as fg_numpy
from funcgrad import errors
from funcgrad.config import config
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.avals import ShapedArray, ShapeDtypeStruct
from funcgrad.core.checking import check_jaxpr
from funcgrad.core.primitives import Primitive, registry
from funcgrad.transforms.collectives.functions import psum
from funcgrad.transforms.derivatives import jvp, linear_transpose, linearize, vjp
from funcgrad.transforms.grad import grad
from funcgrad.transforms.jacobians import hessian, jacfwd, jacrev
from funcgrad.transforms.jit import jit
from funcgrad.transforms.make_jaxpr import make_jaxpr
from funcgrad.transforms.vmap import vmap

X = np.array([1.0, 2.0, 3.0], np.float32)
Y = np.ones((2, 2), np.float32)
add, sin, select_n = registry["add"].bind, registry["sin"].bind, registry["select_n"].bind
_leaked = []


def leak(x):
    _leaked[:] = [x * 2.0]
    return x


def leak_through(transform):
    def use():
        transform(leak)(1.0)
        return _leaked[0] + 1.0

    return use


def concretize(action, *, transform=jit):
    def consume(x):
        return action(x)

    return lambda: transform(consume)(2.0)


def no_rule(kind):
    bare = Primitive("bare", infer=lambda x: x, evaluate=lambda x: x)
    del registry["bare"]
    return {
        "jvp": lambda: jvp(bare.bind, (1.0,), (1.0,)),
        "batch": lambda: vmap(bare.bind)(X),
        "transpose": lambda: linear_transpose(bare.bind, X)(X),
    }[kind]


def use_deleted():
    x = as_array(X)
    x.delete()
    return x + 1.0


def use_donated():
    x = as_array(X)
    jit(lambda x: x + 1.0, donate_argnums=0)(x)
    return x + 1.0


def strict_promotion():
    with config.override("numpy_dtype_promotion", "strict"):
        return as_array(X) + np.ones(3, np.int32)


def strict_rank_promotion():
    with config.override("numpy_rank_promotion", "raise"):
        return as_array(X) + np.ones((2, 3), np.float32)


def not_finite(option, f, x):
    def use():
        with config.override(option, True):
            jit(f)(x)

    return use


def compiled_with_other_types():
    return jit(lambda x: x * 2.0).lower(X).compile()(Y)


def compiled_with_other_structure():
    return jit(lambda x: x[0] * 2.0).lower((X,)).compile()([X])


# class, what is done, and what the message says (each a part of it)
CASES = {
    # shapes, dtypes, arguments of primitives
    "shapes differ": (errors.ShapeError, lambda: add(X, Y), ["add: operands have different shapes: f32[3], f32[2,2]"]),
    "operators name both shapes": (errors.ShapeError, lambda: as_array(X) + Y, ["(3,)", "(2, 2)", "do not broadcast"]),
    "dtypes differ": (
        errors.DTypeError,
        lambda: add(X, np.ones(3, np.int32)),
        ["add: operands have different dtypes: f32[3], i32[3]"],
    ),
    "dtype not taken": (
        errors.DTypeError,
        lambda: sin(np.ones(3, np.int32)),
        ["sin: operand 0 has type i32[3]", "float, complex"],
    ),
    "unknown dtype": (
        errors.DTypeError,
        lambda: ShapeDtypeStruct((2,), "float33"),
        ["'float33' is not a dtype", "float32"],
    ),
    "unsupported dtype": (errors.DTypeError, lambda: as_array(np.array(["a"])), ["'str32' is not supported"]),
    "selector": (errors.DTypeError, lambda: select_n(X, X, X), ["select_n: the selector has type f32[3]"]),
    "strict promotion": (errors.TypePromotionError, strict_promotion, ["float32 and int32 have no implicit promotion"]),
    "rank promotion": (errors.ShapeError, strict_rank_promotion, ["(3,)", "(2, 3)", "different ranks"]),
    "reshape": (
        errors.ShapeError,
        lambda: registry["reshape"].bind(X, new_sizes=(2, 2), dimensions=None),
        ["f32[3] has 3 elements", "(2, 2) has 4"],
    ),
    "axes": (
        errors.ArgumentError,
        lambda: registry["reduce_sum"].bind(X, axes=(1,)),
        ["reduce_sum: axes (1,) do not fit operand f32[3]", "[0, 1)"],
    ),
    "not an array": (errors.ArgumentError, lambda: sin("text"), ["'text' of type str is not an array"]),
    "list operand": (
        errors.ArgumentError,
        lambda: funcgrad.numpy.add(X, [1.0, 2.0, 3.0]),
        ["add: operand [1.0, 2.0, 3.0] of type list", "asarray"],
    ),
    "integer too large": (errors.IntegerOverflowError, lambda: as_array(X) + 2**40, ["1099511627776", "int32"]),
    "unknown option": (errors.UnsupportedError, lambda: fg_numpy.pad(X, 1, mode="unknown"), ["pad: mode='unknown'"]),
    "hash": (errors.ArgumentError, lambda: hash(as_array(X)), ["unhashable type: Array of type f32[3]"]),
    "len of a scalar": (errors.ArgumentError, lambda: len(as_array(1.0)), ["len() of a 0-d array"]),
    "float as index": (
        errors.DTypeError,
        lambda: [1, 2, 3][as_array(1.0)],
        ["only 0-d integer arrays are indices", "f32[]"],
    ),
    "setitem": (errors.FuncgradError, lambda: as_array(X).__setitem__(0, 1.0), [".at["]),
    "index kind": (errors.IndexingError, lambda: as_array(X)[1.5], ["float"]),
    "too many indices": (errors.IndexingError, lambda: as_array(X)[0, 0], ["f32[3]"]),
    "too large": (
        errors.AllocationError,
        lambda: registry["exp"].bind(
            registry["broadcast_in_dim"].bind(as_array(1.0), shape=(1 << 22, 1 << 22), broadcast_dimensions=())
        ),
        ["exp: the result f32[4194304,4194304]", "65536.0 GiB"],
    ),
    # derivatives
    "grad of an array": (
        errors.NotDifferentiableError,
        lambda: grad(lambda x: x * 2.0)(X),
        ["grad of <lambda>: the output must be one scalar, it is f32[3]", ".sum()"],
    ),
    "grad of a tuple": (
        errors.NotDifferentiableError,
        lambda: grad(lambda x: (x, x))(1.0),
        ["one scalar, it is f32[]{weak_type=True}, f32[]", "has_aux"],
    ),
    "grad at an integer": (
        errors.NotDifferentiableError,
        lambda: grad(lambda x: x * 2.0)(3),
        ["has type i32[]", "2.0, not 2", "allow_int"],
    ),
    "grad of an integer": (
        errors.NotDifferentiableError,
        lambda: grad(lambda x: registry["floor"].bind(x) > 1)(1.0),
        ["must be a real float, it is bool[]"],
    ),
    "grad of a complex": (
        errors.NotDifferentiableError,
        lambda: grad(lambda z: z * z)(1j),
        ["must be a real float, it is c64[]", "holomorphic"],
    ),
    "holomorphic wants complex": (
        errors.NotDifferentiableError,
        lambda: grad(lambda z: z * z, holomorphic=True)(1.0),
        ["inputs must be complex, argument z is f32[]"],
    ),
    "holomorphic gives complex": (
        errors.NotDifferentiableError,
        lambda: grad(registry["real"].bind, holomorphic=True)(1j),
        ["output must be complex, it is f32[]"],
    ),
    "jacfwd of complex": (
        errors.NotDifferentiableError,
        lambda: jacfwd(lambda z: z)(1j),
        ["complex type c64[]", "holomorphic=True"],
    ),
    "jacrev of complex": (
        errors.NotDifferentiableError,
        lambda: jacrev(lambda x: x * 1j)(1.0),
        ["outputs must be real floats, one is c64[]"],
    ),
    "hessian at integers": (errors.NotDifferentiableError, lambda: hessian(lambda x: x * x)(3), ["i32[]"]),
    "argnums out of range": (
        errors.ArgumentError,
        lambda: grad(lambda x: x, 1)(1.0),
        ["argnums=1", "1 positional arguments"],
    ),
    "aux missing": (
        errors.ArgumentError,
        lambda: grad(lambda x: x, has_aux=True)(1.0),
        ["must return a pair (output, aux)"],
    ),
    "output is no array": (
        errors.ArgumentError,
        lambda: grad(lambda x: {"loss": "text"})(1.0),
        ["'text' of type str at ['loss']"],
    ),
    "jvp takes tuples": (errors.ArgumentError, lambda: jvp(sin, 1.0, 1.0), ["float and float", "jvp(f, (x,), (v,))"]),
    "jvp structures": (errors.ArgumentError, lambda: jvp(add, (1.0, 2.0), ((1.0, 2.0),)), ["different structures"]),
    "tangent shape": (
        errors.ShapeError,
        lambda: jvp(sin, (X,), (Y,)),
        ["tangent at [0] has type f32[2,2]", "primal f32[3]"],
    ),
    "tangent dtype": (
        errors.DTypeError,
        lambda: jvp(sin, (X,), (np.ones(3, np.int32),)),
        ["tangent at [0] has type i32[3]", "f32[3]"],
    ),
    "tangent of an integer": (errors.DTypeError, lambda: jvp(lambda n: n, (1,), (1,)), ["i32[]", "float0"]),
    "cotangent structure": (
        errors.ArgumentError,
        lambda: vjp(sin, X)[1]((X, X)),
        ["the cotangent has structure", "the output has"],
    ),
    "cotangent shape": (
        errors.ShapeError,
        lambda: vjp(sin, X)[1](Y),
        ["the cotangent has type f32[2,2], but the output f32[3]"],
    ),
    "linearize structure": (errors.ArgumentError, lambda: linearize(sin, X)[1](X, X), ["another structure"]),
    "not callable": (errors.ArgumentError, lambda: grad(3.0), ["grad: 3.0 is not callable"]),
    "no jvp rule": (errors.MissingRuleError, no_rule("jvp"), ["bare: no jvp rule", "declare jvp="]),
    "no batch rule": (errors.MissingRuleError, no_rule("batch"), ["bare: no batch rule"]),
    "no transpose rule": (errors.MissingRuleError, no_rule("transpose"), ["bare: no transpose rule"]),
    # tracing
    "if": (
        errors.ConcretizationError,
        concretize(lambda x: 1.0 if x > 0 else 2.0),
        [
            "type bool[] was used as a Python bool",
            "while tracing jit(consume)",
            "computed at test_errors.py:",
            "where or lax.cond",
        ],
    ),
    "argument as bool": (
        errors.ConcretizationError,
        concretize(lambda x: bool(x)),
        ["it is argument x of consume", "make the argument static"],
    ),
    "int": (errors.ConcretizationError, concretize(int), ["converted with int()", ".astype(int)"]),
    "float": (errors.ConcretizationError, concretize(float), ["converted with float()"]),
    "complex": (errors.ConcretizationError, concretize(complex), ["converted with complex()"]),
    "index": (
        errors.ConcretizationError,
        lambda: jit(lambda n: range(n))(3),
        ["Python index, size or shape", "make it static: jit(..., static_argnames='n')"],
    ),
    "numpy": (
        errors.ConcretizationError,
        concretize(np.asarray),
        ["converted to a NumPy array", "funcgrad.numpy instead of numpy"],
    ),
    "item": (errors.ConcretizationError, concretize(lambda x: x.item()), ["read with .item()"]),
    "tolist": (errors.ConcretizationError, concretize(lambda x: x.tolist()), ["read with .tolist()"]),
    "if under vmap": (
        errors.ConcretizationError,
        lambda: vmap(lambda x: x if x > 0 else -x)(X),
        ["vectorizing (vmap)", "one of a batch of 3"],
    ),
    "if under make_jaxpr": (
        errors.ConcretizationError,
        concretize(bool, transform=make_jaxpr),
        ["tracing make_jaxpr(consume)"],
    ),
    "if under grad of jit": (
        errors.ConcretizationError,
        concretize(bool, transform=lambda f: grad(jit(f))),
        ["tracing jit(consume)"],
    ),
    "leak from jit": (
        errors.LeakedTracerError,
        leak_through(jit),
        ["f32[]", "outlived its transform (tracing jit(leak))", "computed at test_errors.py:"],
    ),
    "mask": (
        errors.NonConcreteBooleanIndexError,
        lambda: jit(lambda x: x[x > 0])(X),
        ["indexing f32[3] with the traced mask", "use jnp.where(mask, x, other)"],
    ),
    "leak from grad": (errors.LeakedTracerError, leak_through(grad), ["outlived its transform (differentiating leak)"]),
    "leak from vmap": (
        errors.LeakedTracerError,
        lambda: (vmap(leak)(X), _leaked[0] + 1.0),
        ["vectorizing (vmap) leak", "batch of 3"],
    ),
    "leak into another jit": (
        errors.LeakedTracerError,
        lambda: (jit(leak)(1.0), jit(lambda y: y + _leaked[0])(2.0)),
        ["tracing jit(leak)"],
    ),
    "leak as a result": (
        errors.LeakedTracerError,
        lambda: (jit(leak)(1.0), jit(lambda y: _leaked[0])(2.0)),
        ["tracing jit(leak)"],
    ),
    # jit
    "static does not hash": (
        errors.StaticArgumentError,
        lambda: jit(lambda x, n: x, static_argnums=1)(1.0, [1]),
        ["static argument 1 of type list does not hash: [1]", "tuple instead of list"],
    ),
    "static name does not hash": (
        errors.StaticArgumentError,
        lambda: jit(lambda x, n: x, static_argnames="n")(1.0, n={}),
        ["static argument 'n' of type dict"],
    ),
    "static name unknown": (
        errors.StaticArgumentError,
        lambda: jit(lambda x: x, static_argnames="y"),
        ["static_argnames has 'y'", "['x']"],
    ),
    "static number too large": (
        errors.StaticArgumentError,
        lambda: jit(lambda x: x, static_argnums=1),
        ["static_argnums=(1,)", "1 positional parameters"],
    ),
    "static and donated": (
        errors.StaticArgumentError,
        lambda: jit(lambda x: x, static_argnums=0, donate_argnums=0),
        ["both static and donated"],
    ),
    "unexpected option": (
        errors.ArgumentError,
        lambda: jit(lambda x: x, static_args=0),
        ["unexpected options ['static_args']"],
    ),
    "jit returns an object": (
        errors.ArgumentError,
        lambda: jit(lambda x: object)(1.0),
        ["<lambda> returned", "not an array"],
    ),
    "compiled types": (
        errors.ArgumentError,
        compiled_with_other_types,
        ["argument", "has type f32[2,2], it was compiled for f32[3]"],
    ),
    "compiled structure": (errors.ArgumentError, compiled_with_other_structure, ["it was compiled for"]),
    "deleted": (errors.DeletedArrayError, use_deleted, ["f32[3] has been deleted"]),
    "donated": (errors.DeletedArrayError, use_donated, ["f32[3] has been deleted", "donate_argnums"]),
    # vmap
    "vmap axis out of range": (errors.BatchingError, lambda: vmap(sin, 1)(X), ["axis 1", "f32[3]", "[-1, 1)"]),
    "vmap of a scalar": (errors.BatchingError, lambda: vmap(sin)(1.0), ["axis 0", "f32[]"]),
    "vmap sizes": (
        errors.BatchingError,
        lambda: vmap(add)(X, np.ones(2, np.float32)),
        ["different sizes", "f32[3], axis 0 has size 3", "f32[2], axis 0 has size 2"],
    ),
    "vmap entries": (
        errors.BatchingError,
        lambda: vmap(add, (0, 0, 0))(X, X),
        ["in_axes=(0, 0, 0) has 3 entries", "2 positional"],
    ),
    "vmap nothing mapped": (errors.BatchingError, lambda: vmap(sin, None)(X), ["no argument is mapped", "axis_size"]),
    "vmap in_axes type": (errors.BatchingError, lambda: vmap(sin, "0"), ["in_axes='0' is a str"]),
    "vmap out_axes None": (
        errors.BatchingError,
        lambda: vmap(sin, out_axes=None)(X),
        ["out_axes is None", "depends on mapped arguments"],
    ),
    "vmap out_axes out of range": (
        errors.BatchingError,
        lambda: vmap(sin, out_axes=1)(X),
        ["out_axes asks for axis 1", "1 dimensions"],
    ),
    "vmap axes tree": (
        errors.ArgumentError,
        lambda: vmap(lambda p: p, ({"a": 0},))({"b": X}),
        ["in_axes", "no prefix"],
    ),
    "vmap in_axes entry": (
        errors.BatchingError,
        lambda: vmap(lambda p: p["w"], ({"w": True, "b": None},))({"w": X, "b": 1.0}),
        ["in_axes for args[0]['w'] is True of type bool"],
    ),
    "vmap out_axes entry": (
        errors.BatchingError,
        lambda: vmap(lambda x: {"y": x}, out_axes={"y": "0"})(X),
        ["out_axes for the output at ['y'] is '0' of type str"],
    ),
    "vmap sizes of keywords": (
        errors.BatchingError,
        lambda: vmap(lambda x, *, y: x)(X, y=Y),
        ["args[0]: f32[3], axis 0 has size 3", "kwargs['y']: f32[2,2], axis 0 has size 2"],
    ),
    "vmap out_axes None in a tree": (
        errors.BatchingError,
        lambda: vmap(lambda x: (1.0, x), out_axes=None)(X),
        ["out_axes is None for the output at [1]", "batch in axis 0"],
    ),
    "vmap without arguments": (errors.BatchingError, lambda: vmap(lambda: 1.0)(), ["there are none", "axis_size"]),
    "vmap axis_size differs": (errors.BatchingError, lambda: vmap(sin, axis_size=4)(X), ["axis_size=4", "size 3"]),
    # values
    "nan": (
        errors.NonFiniteError,
        not_finite("debug_nans", lambda x: x - np.float32(np.inf), np.float32(np.inf)),
        ["invalid value (nan) encountered in sub as the result f32[]; operands: inf, inf", "or turn debug_nans off"],
    ),
    "infinity": (
        errors.NonFiniteError,
        not_finite("debug_infs", lambda x: 1.0 / x, np.float32(0)),
        ["invalid value (inf) encountered in div", "operands: 1.0, 0.0", "or turn debug_infs off"],
    ),
    # jaxprs
    "unbound axis": (
        errors.UnboundAxisError,
        lambda: vmap(lambda x: psum(x, "j"), axis_name="i")(X),
        ["psum", "'j'", "'i' of size 3"],
    ),
    "broken jaxpr": (errors.JaxprError, lambda: check_jaxpr(_broken()), ["an output is not bound"]),
}


def _broken():
    closed = make_jaxpr(lambda x: sin(x))(1.0)
    return closed.jaxpr.replace(eqns=[])


@pytest.mark.parametrize("name", CASES)
def test_error_names_operation_values_line_and_remedy(name: str):
    kind, action, parts = CASES[name]
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert "test_errors.py:" in message, message
    if kind is not errors.JaxprError:
        assert "\n  fix: " in message, message


def test_every_error_class_is_tested():
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.FuncgradError)}
    # Tested with the parts that raise them: in test_cuda.py, test_loader.py and test_checkpoint.py.
    elsewhere = {errors.DependencyError, errors.WorkerError, errors.CheckpointError}
    assert classes - {kind for kind, *_ in CASES.values()} == elsewhere


@pytest.mark.parametrize(
    "kind, builtins",
    [
        (errors.ShapeError, (TypeError, ValueError)),
        (errors.DTypeError, (TypeError,)),
        (errors.TypePromotionError, (TypeError, ValueError)),
        (errors.ArgumentError, (TypeError, ValueError)),
        (errors.IndexingError, (TypeError, IndexError)),
        (errors.NonFiniteError, (FloatingPointError,)),
        (errors.NotDifferentiableError, (TypeError, ValueError)),
        (errors.MissingRuleError, (NotImplementedError,)),
        (errors.ConcretizationError, (TypeError,)),
        (errors.StaticArgumentError, (TypeError, ValueError)),
        (errors.BatchingError, (TypeError, ValueError)),
        (errors.UnboundAxisError, (NameError,)),
        (errors.DeletedArrayError, (RuntimeError,)),
        (errors.AllocationError, (MemoryError,)),
        (errors.DependencyError, (ImportError,)),
        (errors.WorkerError, (RuntimeError,)),
        (errors.CheckpointError, (ValueError,)),
    ],
)
def test_errors_are_also_the_builtin_classes(kind, builtins):
    assert issubclass(kind, builtins) and issubclass(kind, errors.FuncgradError)


def test_the_line_is_the_users_and_the_context_names_the_transform():
    def model(x):
        return add(x, Y)

    with pytest.raises(errors.ShapeError) as caught:
        jit(lambda x: grad(lambda y: model(y))(x))(X)
    assert caught.value.location.function == "model"
    assert "in model, while tracing jit(<lambda>)" in str(caught.value)


def test_the_line_of_a_notebook_is_in_its_cell(monkeypatch):
    names = SimpleNamespace(format_code_name=lambda name: ("Cell", "In[3]") if name == "/tmp/1234.py" else None)
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(compile=names))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert str(errors.SourceLocation("/tmp/1234.py", 2, "loss")) == "In[3]:2 in loss"
    assert str(errors.SourceLocation("/tmp/model.py", 2, "loss")) == "model.py:2 in loss"
    monkeypatch.setattr(ipython, "get_ipython", lambda: None)  # imported, and not what runs the program
    assert str(errors.SourceLocation("/tmp/1234.py", 2, "loss")) == "1234.py:2 in loss"


def test_an_error_in_the_user_function_passes_unchanged():
    def broken(x):
        raise RuntimeError("mine")

    for transform in (jit, grad, vmap, make_jaxpr):
        with pytest.raises(RuntimeError, match="^mine$"):
            transform(broken)(X)


@pytest.mark.parametrize("transform", [jit, grad, vmap, make_jaxpr, lambda f: lambda x: jvp(f, (x,), (x,))])
def test_the_trace_is_restored_after_an_error(transform):
    def broken(x):
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        transform(broken)(X)
    assert type(sin(X)) is Array
    assert float(grad(lambda x: x * x)(3.0)) == 6.0


def test_messages_inside_grad_of_concrete_values_do_not_forbid_control_flow():
    assert float(grad(lambda x: x * 2.0 if x > 1 else x)(3.0)) == 2.0


def test_aval_of_strange_objects():
    assert aval_of(1.0) == ShapedArray((), np.dtype("float32"), True)
    with pytest.raises(errors.ArgumentError, match="of type object is not an array"):
        aval_of(object())


def test_config_names_the_options():
    with pytest.raises(AttributeError, match="unknown config option 'jit_everything'; known: .*enable_x64"):
        funcgrad.config.update("jit_everything", True)


def test_the_names_of_jax():
    """A program that catches JAX's exceptions catches ours."""
    x = fg_numpy.ones(3)
    cases = [
        (errors.TracerBoolConversionError, lambda: jit(lambda x: 1 if x[0] else 0)(x)),
        (errors.TracerIntegerConversionError, lambda: jit(lambda x: list(range(int(x[0]))))(x)),
        (errors.TracerArrayConversionError, lambda: jit(np.asarray)(x)),
        (errors.ConcretizationTypeError, lambda: jit(lambda x: float(x[0]))(x)),
        (errors.NonConcreteBooleanIndexError, lambda: jit(lambda x: x[x > 0])(x)),
        (errors.JAXIndexError, lambda: jit(lambda x: x[x > 0])(x)),
        (errors.UnexpectedTracerError, lambda: [jit(lambda x: kept.append(x))(x), kept[0] + 1]),
        (errors.JAXTypeError, lambda: jit(lambda x: x[x > 0])(x)),
    ]
    kept = []
    for kind, function in cases:
        with pytest.raises(kind):
            function()
