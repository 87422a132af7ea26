"""Messages name the called function, the leaf, the user's line, and a fix."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import warnings

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import errors, lax, nn, random, tree
from funcgrad.flatten_util import ravel_pytree

KEY = random.key(0)
X = jnp.ones((2, 3))
MIXED = {"a": 1.0, "b": "x"}


def identity(p):
    return p


def linear(x):
    return 2 * x


def traced_size(f):
    return lambda: fg.jit(lambda a, n: f(a, n))(X, 2)


STATIC = "make it static: jit(..., static_argnames='n')"
# what is done, and parts of what the message says
CASES = {
    # structures that differ
    "a key less": (
        lambda: tree.map(max, {"a": 1, "b": 2}, {"a": 1}),
        ["tree.map: the trees differ: tree 1 is a dict with key 'b', tree 2 a dict without 'b'", "tree 2 needs"],
    ),
    "a key more": (lambda: tree.map(max, {"a": 1}, {"a": 1, "c": 2, "d": 3}), ["tree 1 is a dict without 'c', 'd'"]),
    "another key, and below": (
        lambda: tree.map(max, {"a": (1,), "b": 2}, {"a": [1], "c": 2}),
        [
            "tree 1 is a dict with key 'b', tree 2 a dict with key 'c'",
            "tree 1['a'] is a tuple of 1, tree 2['a'] a list of 1",
        ],
    ),
    "the third tree": (lambda: tree.map(max, (1,), (1,), [1]), ["tree 1 is a tuple of 1, tree 3 a list of 1"]),
    "a leaf for a dict": (lambda: tree.map(max, {"a": 1}, 2), ["tree 1 is a dict of keys ['a'], tree 2 a leaf"]),
    "None": (
        lambda: tree.map(max, {"a": None}, {"a": 1}),
        ["tree 1['a'] is None, tree 2['a'] a leaf", "None is a container"],
    ),
    "with path": (lambda: tree.map_with_path(max, [1], (1,)), ["tree.map_with_path: the trees differ"]),
    "broadcast": (lambda: tree.broadcast({"a": 1}, {"b": 1}), ["the prefix is a dict with key 'a', the full tree"]),
    "arguments swapped": (lambda: tree.map({"a": 1}, max), ["tree.map: {'a': 1} is not callable", "tree.map(f, tree"]),
    "treedef and leaves swapped": (
        lambda: tree.unflatten([1], tree.structure([1])),
        ["tree.unflatten: [1] of type list", "unflatten(treedef, leaves)"],
    ),
    "cotangent of another structure": (
        lambda: fg.vjp(lambda x: {"a": x}, X)[1]({"b": X}),
        ["cotangent is a dict with key 'b', output a dict with key 'a'"],
    ),
    # sizes that are traced
    "reshape": (traced_size(lambda a, n: a.reshape(n, -1)), ["i32[]", "size or shape", "argument n of", STATIC]),
    "reshape function": (traced_size(lambda a, n: jnp.reshape(a, (n, -1))), ["reshape: a traced array", STATIC]),
    "zeros": (traced_size(lambda a, n: jnp.zeros(n)), ["zeros: a traced array", STATIC]),
    "arange": (traced_size(lambda a, n: jnp.arange(n)), ["arange: a traced array", STATIC]),
    "linspace": (traced_size(lambda a, n: jnp.linspace(0, 1, n)), ["linspace: a traced array", STATIC]),
    "axis": (traced_size(lambda a, n: jnp.sum(a, axis=n)), ["sum: a traced array", STATIC]),
    "tile": (traced_size(lambda a, n: jnp.tile(a, n)), ["tile: a traced array", STATIC]),
    "split": (traced_size(lambda a, n: jnp.split(a, n)), ["split: a traced array", STATIC]),
    "normal": (traced_size(lambda a, n: random.normal(KEY, (n,))), ["normal: a traced array", STATIC]),
    "one_hot": (traced_size(lambda a, n: nn.one_hot(jnp.arange(2), n)), ["one_hot: a traced array", STATIC]),
    "computed size": (
        traced_size(lambda a, n: jnp.zeros(n + 1)),
        ["it was computed at test_messages.py", "take sizes from shapes"],
    ),
    "size in a tree": (lambda: fg.jit(lambda p: jnp.zeros(p["n"]))({"n": 3}), ["argument p['n']", "sizes from shapes"]),
    "NumPy's functions": (
        traced_size(lambda a, n: np.fft.fft(a)),
        ["np.fft.fft was called with a traced array"],
    ),
    "dtype": (traced_size(lambda a, n: a.astype(n)), ["JaxprTracer<i32[]{weak_type=True}> is an array, not a dtype"]),
    # what is no array
    "None as an operand": (lambda: jnp.sin(None), ["sin: operand None of type NoneType", "`return`"]),
    "a list": (lambda: jnp.sin([1.0]), ["sin: operand [1.0] of type list", "asarray"]),
    "text": (lambda: jnp.add(X, "1"), ["add: operand '1' of type str", "float()"]),
    "a dict": (lambda: jnp.sin({"a": 1.0}), ["of type dict", "tree.map"]),
    "a set": (lambda: jnp.sin({1.0}), ["of type set", "collect the elements"]),
    "a generator": (lambda: jnp.sin(i for i in range(3)), ["of type generator", "collect the elements"]),
    "a function": (lambda: jnp.sin(jnp.cos), ["of type function", "call it"]),
    "an object": (lambda: jnp.sin(object()), ["of type object", "pass an array"]),
    # the function that was called, not a part of it
    "percentile": (lambda: jnp.percentile(X, "50"), ["percentile: operand '50' of type str is not an array"]),
    "nanpercentile": (lambda: jnp.nanpercentile(X, [50]), ["nanpercentile: ", "operand [50] of type list"]),
    "normal, too large": (lambda: random.normal(KEY, (1 << 42,)), ["normal: the result u64[4398046511104]", "GiB"]),
    "a part fails": (lambda: jnp.logspace(0, "1"), ["logspace: linspace: operand '1'"]),
    "no dtype": (lambda: jnp.zeros(3, "float33"), ["zeros: 'float33' is not a dtype"]),
    "fold_in": (lambda: random.fold_in(KEY, "x"), ["fold_in: 'x' holds str32 values"]),
    "fori_loop": (lambda: lax.fori_loop(0, 3, lambda i, x: "x", 1.0), ["fori_loop"]),
    # cotangents, tangents and their places
    "cotangent of another shape": (
        lambda: fg.vjp(jnp.sin, X)[1](X[0]),
        ["vjp of sin: the cotangent has type f32[3], but the output f32[2,3]", "give a cotangent"],
    ),
    "cotangent of another dtype": (
        lambda: fg.vjp(lambda x: {"a": x}, X)[1]({"a": jnp.ones((2, 3), int)}),
        ["the cotangent at ['a'] has type i32[2,3]", "f32[2,3]"],
    ),
    "cotangent no array": (lambda: fg.vjp(lambda x: {"a": x}, X)[1]({"a": "x"}), ["cotangent['a'] is 'x' of type str"]),
    "cotangent of a transpose": (
        lambda: fg.linear_transpose(linear, X)(X[0]),
        ["linear_transpose: the cotangent has type f32[3], but the output f32[2,3]"],
    ),
    "tangent of another shape": (
        lambda: fg.jvp(identity, ({"a": X},), ({"a": X[0]},)),
        ["jvp: the tangent at [0]['a'] has type f32[3], but the primal f32[2,3]"],
    ),
    "tangent no array": (lambda: fg.jvp(identity, (X,), ("x",)), ["jvp: tangent[0] is 'x' of type str"]),
    "linearized": (lambda: fg.linearize(linear, X)[1](X[0]), ["linear linearized: the tangent at [0] has type f32[3]"]),
    # the leaf that is no array, or cannot be differentiated
    "jit": (lambda: fg.jit(identity)(MIXED), ["jit(identity): argument p['b'] is 'x' of type str", "static_argnames"]),
    "lower": (lambda: fg.jit(identity).lower(MIXED), ["jit(identity): argument p['b'] is 'x' of type str"]),
    "grad": (lambda: fg.grad(identity)(MIXED), ["grad of identity: argument p['b'] is 'x' of type str", "close over"]),
    "grad, second argument": (lambda: fg.grad(lambda x, p: x, (1, 0))(1.0, MIXED), ["argument p['b'] is 'x'"]),
    "grad of an integer": (lambda: fg.grad(lambda x, p: x, (0, 1))(1.0, {"n": 3}), ["argument p['n'] has type i32[]"]),
    "jacfwd": (lambda: fg.jacfwd(identity)(MIXED), ["jacfwd of identity: argument p['b'] is 'x'"]),
    "vjp": (lambda: fg.vjp(identity, MIXED), ["vjp of identity: argument p['b'] is 'x'"]),
    "jvp": (lambda: fg.jvp(identity, (MIXED,), (MIXED,)), ["jvp: argument p['b'] is 'x'"]),
    "vmap": (lambda: fg.vmap(identity)(MIXED), ["vmap of identity: argument p['b'] is 'x'"]),
    "make_jaxpr": (lambda: fg.make_jaxpr(identity)(MIXED), ["make_jaxpr(identity): argument p['b'] is 'x'"]),
    "eval_shape": (lambda: fg.eval_shape(identity, MIXED), ["eval_shape: ", "argument p['b'] is 'x'"]),
    "checkpoint": (lambda: fg.checkpoint(identity)(MIXED), ["checkpoint of identity: argument p['b'] is 'x'"]),
    "scan's carry": (lambda: lax.scan(lambda c, x: (c, x), MIXED, X), ["scan: init['b'] is 'x' of type str"]),
    "scan's xs": (lambda: lax.scan(lambda c, x: (c, x), 0.0, {"a": X, "b": "x"}), ["scan: xs['b'] is 'x' of type str"]),
    "scan's scalar": (lambda: lax.scan(lambda c, x: (c, x), 0.0, {"a": X, "b": 1.0}), ["scan: xs['b'] has type f32[]"]),
    "scan's lengths": (
        lambda: lax.scan(lambda c, x: (c, x), 0.0, {"a": X, "b": X[0]}),
        ["xs['a'] f32[2,3], xs['b'] f32[3]"],
    ),
    "map": (lambda: lax.map(identity, {"a": X, "b": "x"}, batch_size=1), ["map: xs['b'] is 'x'"]),
    "while_loop": (lambda: lax.while_loop(lambda c: False, identity, MIXED), ["while_loop: the carry['b'] is 'x'"]),
    "cond": (lambda: lax.cond(True, identity, identity, MIXED), ["cond: operands[0]['b'] is 'x' of type str"]),
    "ravel_pytree": (lambda: ravel_pytree(MIXED), ["ravel_pytree: pytree['b'] is 'x' of type str"]),
    "result": (lambda: fg.jit(lambda x: {"a": x, "b": "x"})(1.0), ["returned 'x' of type str at ['b']"]),
}


@pytest.mark.parametrize("name", CASES)
def test_messages_name_operation_values_line_and_remedy(name):
    call, parts = CASES[name]
    with pytest.raises(errors.FuncgradError) as caught:
        call()
    message = str(caught.value)
    for part in [*parts, "at test_messages.py:", "\n  fix: "]:
        assert part in message, message
    assert message.count("\n  at ") == 1 and not message.startswith(("getitem: ", "apply: ", "array_")), message


def test_a_custom_rule_names_its_leaf():
    f = fg.custom_jvp(lambda x, p: x)
    f.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    with pytest.raises(errors.ArgumentError, match=r"<lambda>: args\[1\]\['b'\] is 'x' of type str"):
        f(1.0, MIXED)


@pytest.mark.parametrize("module", [jnp, random, nn, lax], ids=lambda module: module.__name__)
def test_errors_name_the_function_that_was_called(module):
    """Of all functions of a module, with text in the place of each argument that has to be given."""
    named = 0
    for name, function in list(vars(module).items()):
        if name.startswith(("_", "save", "load")) or not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        for wrong in needed:
            values = {"key": KEY, "shape": (2,), "axis": 0}
            arguments = {p: "text" if p == wrong else values.get(p, X) for p in needed}
            with contextlib.suppress(TypeError, ValueError, IndexError, AttributeError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    function(**arguments)
                except errors.FuncgradError as error:
                    operation = error.summary.partition(":")[0].replace("-", "_")
                    aliases = {n for n, f in vars(module).items() if f is function} | {function.__name__}
                    assert aliases & set(re.findall(r"\w+", operation)), f"{name}({wrong}='text'): {error}"
                    named += 1
    assert named > 20


# ---------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    "call",
    [
        lambda: jnp.zeros(2, "float64"),
        lambda: jnp.ones(2, np.float64),
        lambda: jnp.full(2, 1, "float64"),
        lambda: jnp.arange(2, dtype="int64"),
        lambda: jnp.linspace(0, 1, 3, dtype="float64"),
        lambda: jnp.eye(2, dtype="float64"),
        lambda: jnp.array([1], "int64"),
        lambda: jnp.asarray(X, "complex128"),
        lambda: X.astype("float64"),
        lambda: jnp.zeros_like(X, "float64"),
        lambda: jnp.empty(2, "float64"),
        lambda: jnp.identity(2, "float64"),
        lambda: jnp.sum(X, dtype="float64"),
        lambda: X.mean(dtype="float64"),
        lambda: jnp.cumsum(X, dtype="float64"),
        lambda: jnp.logspace(0, 1, 3, dtype="float64"),
        lambda: jnp.tri(2, dtype="float64"),
        lambda: lax.convert_element_type(X, "float64"),
        lambda: lax.full((2,), 1, "float64"),
        lambda: lax.iota("int64", 3),
        lambda: random.normal(KEY, (2,), "float64"),
        lambda: random.randint(KEY, (2,), 0, 3, "int64"),
        lambda: nn.one_hot(jnp.arange(2), 2, dtype="float64"),
        lambda: nn.initializers.he_normal()(KEY, (2, 2), "float64"),
        lambda: nn.Linear(2, dtype="float64").init(KEY, 2),
        lambda: fg.jit(lambda: jnp.zeros(2, "float64"))(),
        lambda: fg.vmap(lambda x: x.astype("float64"))(X),
        lambda: fg.ShapeDtypeStruct((2,), "float64") and X.astype("int64"),
        lambda: X.at[0].set(1j),
    ],
)
def test_warnings_point_at_the_users_line(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert caught, "no warning"
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, call.__code__.co_firstlineno)}
    assert all("float64" in str(w.message) or "int64" in str(w.message) or "complex" in str(w.message) for w in caught)


# ---------------------------------------------------------------- names that are not there


@pytest.mark.parametrize(
    "module, name, close",
    [
        ("funcgrad", "value_and_grads", "value_and_grad"),
        ("funcgrad", "vmpa", "vmap"),
        ("funcgrad.numpy", "sinn", "sin"),
        ("funcgrad.numpy", "int4", "int"),
        ("funcgrad.numpy.linalg", "choleski", "cholesky"),
        ("funcgrad.lax.linalg", "choleski", "cholesky"),
        ("funcgrad.lax", "while_lop", "while_loop"),
        ("funcgrad.random", "poison", "poisson"),
        ("funcgrad.nn", "Seqential", "Sequential"),
        ("funcgrad.nn.initializers", "he_norml", "he_normal"),
        ("funcgrad.optim", "adamm", "adam"),
        ("funcgrad.data", "batchs", "batches"),
        ("funcgrad.tree", "mapp", "map"),
        ("funcgrad.tree_util", "tree_maps", "tree_map"),
        ("funcgrad.debug", "prnt", "print"),
        ("funcgrad.experimental.checkify", "checkif", "checkify"),
        ("funcgrad.flatten_util", "ravel_tree", "ravel_pytree"),
    ],
)
def test_missing_names_suggest_similar_ones_and_the_page(module, name, close):
    module = importlib.import_module(module)
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    message = str(caught.value)
    assert f"module '{module.__name__}' has no attribute '{name}': not in funcgrad, see docs/coverage.md" in message
    assert close in message and not hasattr(module, name) and caught.value.name == name
    with pytest.raises(AttributeError, match=r"has no attribute '__wrapped__'$"):
        _ = module.__wrapped__
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from {module.__name__} import {name}")


def test_every_public_module_explains_missing_names():
    import pkgutil

    names = {
        found.name
        for package in (fg, fg.experimental)
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        if hasattr(fg, found.name.split(".")[1])
    }
    assert {"funcgrad.numpy", "funcgrad.lax", "funcgrad.experimental.jet"} <= names
    for name in names - INTERNAL:
        with pytest.raises(AttributeError, match=r"docs/coverage\.md"):
            _ = importlib.import_module(name).no_such_name


INTERNAL = {
    "funcgrad.arguments",
    "funcgrad.compiler",
    "funcgrad.config",
    "funcgrad.core",
    "funcgrad.dtypes",
    "funcgrad.errors",
    "funcgrad.ops",
    "funcgrad.tracebacks",
    "funcgrad.transforms",
    "funcgrad.tree_registry",
    "funcgrad.tree_structure",
}
