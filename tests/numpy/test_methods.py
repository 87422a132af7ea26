"""Methods of arrays are the functions of the same name: eager, staged, mapped and differentiated.

`METHODS` has every public method, `PROPERTIES` every property; a test fails for one that is in neither.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.core.array_types import ArrayLike
from funcgrad.core.arrays import Array
from funcgrad.core.staging import JaxprTracer
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ConcretizationError
from funcgrad.transforms.interpreters.batching import BatchTracer
from funcgrad.transforms.interpreters.jvp import JVPTracer
from funcgrad.transforms.jet.trace import JetTracer
from tests.comparing import assert_same

MATRIX = np.array([[3, 1, 2], [-4, 6, 5.5]], np.float32)
SQUARE = np.array([[3, 1, 2], [-4, 6, 5.5], [0.5, -7, 9]], np.float32)
VECTOR = np.array([10, 20, 30], np.float32)
COMPLEX = np.array([1 + 2j, 3 - 4j], np.complex64)
CHOICES = np.array([0, 2, 1], np.int32)
MASK = np.array([True, False, True])

Method = Callable[[Any], Any]
Function = Callable[[Any, Any], Any]  # of the namespace, NumPy's or ours, and the array

# An operand; the method called on it; the function of the same name, or what the method is short for.
METHODS: dict[str, list[tuple[np.ndarray, Method, Function]]] = {
    "all": [(MATRIX, lambda x: x.all(axis=0), lambda np, x: np.all(x, axis=0))],
    "any": [(MATRIX, lambda x: x.any(1, keepdims=True), lambda np, x: np.any(x, 1, keepdims=True))],
    "argmax": [
        (MATRIX, lambda x: x.argmax(), lambda np, x: np.argmax(x)),
        (MATRIX, lambda x: x.argmax(1), lambda np, x: np.argmax(x, 1)),
    ],
    "argmin": [(MATRIX, lambda x: x.argmin(axis=0), lambda np, x: np.argmin(x, axis=0))],
    "argpartition": [(VECTOR, lambda x: x.argpartition(1), lambda np, x: np.argpartition(x, 1))],
    "argsort": [
        (MATRIX, lambda x: x.argsort(), lambda np, x: np.argsort(x)),
        (MATRIX, lambda x: x.argsort(axis=0), lambda np, x: np.argsort(x, axis=0)),
    ],
    "astype": [
        (MATRIX, lambda x: x.astype("int32"), lambda np, x: np.astype(np.asarray(x), np.dtype("int32"))),
        (MATRIX, lambda x: x.astype("float16"), lambda np, x: np.astype(np.asarray(x), np.dtype("float16"))),
    ],
    "block_until_ready": [(MATRIX, lambda x: x.block_until_ready(), lambda np, x: np.positive(x))],
    "choose": [
        (
            CHOICES,
            lambda x: x.choose([VECTOR, 2 * VECTOR, -VECTOR], mode="clip"),
            lambda np, x: np.choose(x, [VECTOR, 2 * VECTOR, -VECTOR], mode="clip"),
        )
    ],
    "clip": [
        (MATRIX, lambda x: x.clip(0, 4), lambda np, x: np.clip(x, 0, 4)),
        (MATRIX, lambda x: x.clip(max=4), lambda np, x: np.clip(x, None, 4)),
    ],
    "clone": [(MATRIX, lambda x: x.clone(), lambda np, x: np.copy(x))],
    "compress": [
        (VECTOR, lambda x: x.compress(MASK), lambda np, x: np.compress(MASK, x)),
        (MATRIX, lambda x: x.compress(MASK, axis=1), lambda np, x: np.compress(MASK, x, axis=1)),
        (MATRIX, lambda x: x.compress(MASK[:2], 0), lambda np, x: np.compress(MASK[:2], x, 0)),
    ],
    "conj": [(COMPLEX, lambda x: x.conj(), lambda np, x: np.conj(x))],
    "conjugate": [(COMPLEX, lambda x: x.conjugate(), lambda np, x: np.conjugate(x))],
    "copy": [
        (MATRIX, lambda x: x.copy(), lambda np, x: np.copy(x)),
        (MATRIX, lambda x: x.copy("C"), lambda np, x: np.copy(x, "C")),
    ],
    "cumprod": [
        (MATRIX, lambda x: x.cumprod(), lambda np, x: np.cumprod(x)),
        (MATRIX, lambda x: x.cumprod(1), lambda np, x: np.cumprod(x, 1)),
    ],
    "cumsum": [
        (MATRIX, lambda x: x.cumsum(), lambda np, x: np.cumsum(x)),
        (MATRIX, lambda x: x.cumsum(axis=0), lambda np, x: np.cumsum(x, axis=0)),
    ],
    "diagonal": [
        (SQUARE, lambda x: x.diagonal(), lambda np, x: np.diagonal(x)),
        (MATRIX, lambda x: x.diagonal(1), lambda np, x: np.diagonal(x, 1)),
    ],
    "dot": [
        (MATRIX, lambda x: x.dot(VECTOR), lambda np, x: np.dot(x, VECTOR)),
        (SQUARE, lambda x: x.dot(SQUARE), lambda np, x: np.dot(x, SQUARE)),
    ],
    "flatten": [
        (MATRIX, lambda x: x.flatten(), lambda np, x: np.ravel(x)),
        (MATRIX, lambda x: x.flatten("F"), lambda np, x: np.ravel(x, "F")),
    ],
    "max": [
        (MATRIX, lambda x: x.max(), lambda np, x: np.max(x)),
        (MATRIX, lambda x: x.max(1, initial=4, where=MASK), lambda np, x: np.max(x, 1, initial=4, where=MASK)),
    ],
    "mean": [
        (MATRIX, lambda x: x.mean(), lambda np, x: np.mean(x)),
        (MATRIX, lambda x: x.mean(0, keepdims=True), lambda np, x: np.mean(x, 0, keepdims=True)),
    ],
    "min": [
        (MATRIX, lambda x: x.min(), lambda np, x: np.min(x)),
        (MATRIX, lambda x: x.min(axis=(0, 1)), lambda np, x: np.min(x, axis=(0, 1))),
    ],
    "nonzero": [(MATRIX, lambda x: x.nonzero(size=6), lambda np, x: np.nonzero(x, size=6))],
    "partition": [(VECTOR, lambda x: x.partition(1), lambda np, x: np.partition(x, 1))],
    "prod": [
        (MATRIX, lambda x: x.prod(), lambda np, x: np.prod(x)),
        (MATRIX, lambda x: x.prod(axis=1), lambda np, x: np.prod(x, axis=1)),
    ],
    "ptp": [(MATRIX, lambda x: x.ptp(axis=1), lambda np, x: np.ptp(x, axis=1))],
    "ravel": [
        (MATRIX, lambda x: x.ravel(), lambda np, x: np.ravel(x)),
        (MATRIX, lambda x: x.ravel("F"), lambda np, x: np.ravel(x, "F")),
    ],
    "repeat": [
        (MATRIX, lambda x: x.repeat(2), lambda np, x: np.repeat(x, 2)),
        (MATRIX, lambda x: x.repeat(2, axis=1), lambda np, x: np.repeat(x, 2, axis=1)),
    ],
    "reshape": [
        (MATRIX, lambda x: x.reshape(3, 2), lambda np, x: np.reshape(x, (3, 2))),
        (MATRIX, lambda x: x.reshape((3, -1), order="F"), lambda np, x: np.reshape(x, (3, -1), order="F")),
        (MATRIX, lambda x: x.reshape(-1), lambda np, x: np.reshape(x, -1)),
    ],
    "round": [
        (MATRIX / 7, lambda x: x.round(), lambda np, x: np.round(x)),
        (MATRIX / 7, lambda x: x.round(2), lambda np, x: np.round(x, 2)),
    ],
    "searchsorted": [
        (VECTOR, lambda x: x.searchsorted(MATRIX * 5), lambda np, x: np.searchsorted(x, MATRIX * 5)),
        (VECTOR, lambda x: x.searchsorted(VECTOR, "right"), lambda np, x: np.searchsorted(x, VECTOR, "right")),
    ],
    "sort": [
        (MATRIX, lambda x: x.sort(), lambda np, x: np.sort(x)),
        (MATRIX, lambda x: x.sort(axis=0), lambda np, x: np.sort(x, axis=0)),
    ],
    "squeeze": [
        (MATRIX[None], lambda x: x.squeeze(), lambda np, x: np.squeeze(x)),
        (MATRIX[None, :, None], lambda x: x.squeeze(2), lambda np, x: np.squeeze(x, 2)),
    ],
    "std": [
        (MATRIX, lambda x: x.std(), lambda np, x: np.std(x)),
        (MATRIX, lambda x: x.std(1, ddof=1), lambda np, x: np.std(x, 1, ddof=1)),
    ],
    "sum": [
        (MATRIX, lambda x: x.sum(), lambda np, x: np.sum(x)),
        (MATRIX, lambda x: x.sum(1, where=MASK), lambda np, x: np.sum(x, 1, where=MASK)),
    ],
    "swapaxes": [(MATRIX, lambda x: x.swapaxes(0, 1), lambda np, x: np.swapaxes(x, 0, 1))],
    "take": [
        (MATRIX, lambda x: x.take(CHOICES), lambda np, x: np.take(x, CHOICES)),
        (MATRIX, lambda x: x.take(CHOICES, axis=1), lambda np, x: np.take(x, CHOICES, axis=1)),
    ],
    "to_device": [(MATRIX, lambda x: x.to_device(fg.devices()[0]), lambda np, x: np.positive(x))],
    "trace": [
        (SQUARE, lambda x: x.trace(), lambda np, x: np.trace(x)),
        (MATRIX, lambda x: x.trace(offset=1), lambda np, x: np.trace(x, offset=1)),
    ],
    "transpose": [
        (MATRIX, lambda x: x.transpose(), lambda np, x: np.transpose(x)),
        (MATRIX, lambda x: x.transpose(1, 0), lambda np, x: np.transpose(x, (1, 0))),
        (MATRIX, lambda x: x.transpose((0, 1)), lambda np, x: np.transpose(x, (0, 1))),
        (MATRIX[0], lambda x: x.transpose(np.int64(0)), lambda np, x: np.transpose(x)),
    ],
    "var": [
        (MATRIX, lambda x: x.var(), lambda np, x: np.var(x)),
        (MATRIX, lambda x: x.var(0, ddof=1, keepdims=True), lambda np, x: np.var(x, 0, ddof=1, keepdims=True)),
    ],
    "view": [(MATRIX, lambda x: x.view("int32"), lambda np, x: np.asarray(x).view("int32"))],
}

# A property; what it is short for.
PROPERTIES: dict[str, tuple[np.ndarray, Method, Function]] = {
    "T": (MATRIX, lambda x: x.T, lambda np, x: np.transpose(x)),
    "mT": (MATRIX, lambda x: x.mT, lambda np, x: np.matrix_transpose(x)),
    "real": (COMPLEX, lambda x: x.real, lambda np, x: np.real(x)),
    "imag": (COMPLEX, lambda x: x.imag, lambda np, x: np.imag(x)),
    "flat": (MATRIX, lambda x: x.flat, lambda np, x: np.ravel(x)),
    "at": (MATRIX, lambda x: x.at[0, 1].set(5), lambda np, x: np.where(np.arange(6).reshape(2, 3) == 1, 5, x)),
}

# Methods and properties that tell of the type or the place of an array: the same for an array and a tracer of it.
DESCRIPTIONS = ["shape", "dtype", "ndim", "size", "weak_type", "nbytes", "itemsize", "aval", "device", "platform"]
DESCRIPTIONS += ["committed", "is_fully_addressable", "is_fully_replicated", "is_ready", "on_device_size_in_bytes"]
DESCRIPTIONS += ["sharding"]
# What has to do with the value, and what only arrays have.
OF_VALUES = {"item", "tolist", "tobytes", "devices"}
OF_VALUES |= {"addressable_data", "addressable_shards", "copy_to_host_async", "global_shards"}
OF_ARRAYS = {"host", "buffer", "delete", "is_deleted", "numbers"}

CASES = [
    pytest.param(*case, id=f"{name} {i}" if i else name)
    for name, cases in [*METHODS.items(), *((k, [v]) for k, v in PROPERTIES.items())]
    for i, case in enumerate(cases)
]


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_every_method_is_in_the_table() -> None:
    assert public(Array) == METHODS.keys() | PROPERTIES.keys() | {*DESCRIPTIONS} | OF_VALUES | OF_ARRAYS


@pytest.mark.parametrize("cls", [Tracer, JaxprTracer, JVPTracer, BatchTracer, JetTracer])
def test_no_slot_of_a_tracer_has_the_name_of_a_method(cls: type) -> None:
    slots = {slot for base in cls.__mro__ if issubclass(base, Tracer) for slot in base.__dict__.get("__slots__", ())}
    assert slots & public(ArrayLike) <= {"aval"}  # the one attribute that arrays hold in a slot too


same = functools.partial(assert_same, rtol=1e-6, atol=0)


@pytest.mark.parametrize("x, method, function", CASES)
def test_a_method_is_the_function(x: np.ndarray, method: Method, function: Function) -> None:
    expected = function(jnp, jnp.asarray(x))
    same(method(jnp.asarray(x)), expected)
    if function is not METHODS["nonzero"][0][2]:  # NumPy has no size=
        same(expected, function(np, x), weak_types=False)


TRANSFORMS: dict[str, Callable[[Method], Method]] = {
    "jit": fg.jit,
    "vmap": lambda f: fg.vmap(f, in_axes=-1, out_axes=0),
    "jit of vmap": lambda f: fg.jit(fg.vmap(f, in_axes=-1)),
    "checkpoint": fg.checkpoint,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("x, method, function", CASES)
def test_methods_under_transforms(x: np.ndarray, method: Method, function: Function, transform: str) -> None:
    elements = [x, x[::-1].copy()] if "vmap" in transform and x is not VECTOR else [x, x]
    if "vmap" in transform:
        expected = fg.tree.map(lambda *parts: jnp.stack(parts), *(function(jnp, jnp.asarray(e)) for e in elements))
        same(TRANSFORMS[transform](method)(jnp.stack(elements, -1)), expected)
    else:
        same(TRANSFORMS[transform](method)(x), function(jnp, jnp.asarray(x)))


@pytest.mark.parametrize("x, method, function", CASES)
def test_types_of_methods(x: np.ndarray, method: Method, function: Function) -> None:
    expected = function(jnp, jnp.asarray(x))
    assert [s.shape for s in fg.tree.leaves(fg.eval_shape(method, x))] == [e.shape for e in fg.tree.leaves(expected)]


@pytest.mark.parametrize("x, method, function", CASES)
def test_derivatives_of_methods(x: np.ndarray, method: Method, function: Function) -> None:
    def of(f: Method) -> tuple[Any, Any, Any]:
        tangent = np.ones(x.shape, fg.dtypes.float0) if x.dtype.kind == "i" else x / 3
        out, tangent_out = fg.jvp(f, (x,), (tangent,))
        if x.dtype.kind == "i" or jnp.asarray(fg.tree.leaves(out)[0]).dtype.kind not in "fc":
            return out, fg.tree.map(np.shape, tangent_out), ()
        pulled = fg.vjp(f, x)[1](jnp.arange(1, out.size + 1, dtype=out.dtype).reshape(out.shape))
        return out, tangent_out, pulled

    same(of(method), of(lambda x: function(jnp, x)), weak_types=False)


@pytest.mark.parametrize("name", [*DESCRIPTIONS, "devices"])
def test_descriptions_under_transforms(name: str) -> None:
    seen = []

    def read(x: Any) -> Any:
        found = getattr(x, name)
        seen.append(found() if callable(found) else found)
        return x

    read(jnp.asarray(MATRIX))
    fg.jit(read)(MATRIX)
    fg.checkpoint(read)(MATRIX)
    fg.eval_shape(read, MATRIX)
    fg.vmap(read)(MATRIX[None])
    fg.jvp(read, (MATRIX,), (MATRIX,))
    assert len(seen) >= 6 and all(value == seen[0] for value in seen)


@pytest.mark.parametrize("name", ["item", "tolist", "tobytes"])
def test_values_are_not_read_under_jit(name: str) -> None:
    with pytest.raises(ConcretizationError, match=rf"read with \.{name}\(\), but its value is not known while tracing"):
        fg.jit(lambda x: getattr(x, name)())(1.0)


def test_unknown_options_of_methods_raise() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        jnp.ones(3).flatten(ordre="C")
