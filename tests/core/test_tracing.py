"""The core: traces and tracers, arrays, avals, primitives."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
from backends import FUNCGRAD
from hypothesis import given

from funcgrad import dtypes
from funcgrad.config import enable_x64
from funcgrad.core import traces
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import Array, as_array
from funcgrad.core.avals import ShapedArray, ShapeDtypeStruct
from funcgrad.core.primitives import Primitive, registry
from funcgrad.core.staging import hoist_tracers, trace_to_jaxpr
from funcgrad.core.tracers import Tracer
from funcgrad.core.traces import eval_trace
from funcgrad.testing import assert_close
from funcgrad.testing.strategies import arrays
from funcgrad.transforms.derivatives import jvp
from funcgrad.transforms.grad import grad
from funcgrad.transforms.jit import jit
from funcgrad.transforms.make_jaxpr import make_jaxpr
from funcgrad.transforms.vmap import vmap

lax = FUNCGRAD.lax
X = np.array([1.0, 2.0, 3.0], np.float32)


# ---------------------------------------------------------------- avals


def test_equal_avals_are_one_object():
    assert ShapedArray((2, 3), dtypes.float32) is ShapedArray((2, 3), dtypes.float32)
    assert ShapedArray((2, 3), dtypes.float32) is not ShapedArray((2, 3), dtypes.float32, True)


def test_avals_interned_in_threads_are_one_object():
    found = []
    threads = [threading.Thread(target=lambda: found.append(ShapedArray((7, 11, 13), dtypes.int8))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(map(id, found))) == 1


def test_aval_survives_pickling_as_itself():
    aval = ShapedArray((2,), dtypes.bfloat16, False)
    assert pickle.loads(pickle.dumps(aval)) is aval


def test_aval_attributes():
    aval = ShapedArray((2, 3), dtypes.int16)
    assert (aval.ndim, aval.size, aval.nbytes, aval.short(), repr(aval)) == (2, 6, 12, "i16[2,3]", "i16[2,3]")
    assert aval.tangent().dtype == dtypes.float0
    assert aval.update(shape=(1,)) is ShapedArray((1,), dtypes.int16)
    assert repr(aval_of(2)) == "i32[]{weak_type=True}" and aval_of(2).strengthened() is ShapedArray((), dtypes.int32)


@pytest.mark.parametrize(
    "value, short, weak",
    [
        (True, "bool[]", False),
        (1, "i32[]", True),
        (1.0, "f32[]", True),
        (1j, "c64[]", True),
        (np.float64(1), "f32[]", False),
        (np.zeros(2, np.int64), "i32[2]", False),
        (ShapeDtypeStruct((3,), "bfloat16"), "bf16[3]", False),
        (np.zeros(2, dtypes.float0), "float0[2]", False),
    ],
)
def test_aval_of(value, short, weak):
    aval = aval_of(value)
    assert (aval.short(), aval.weak_type) == (short, weak)


def test_aval_of_in_64_bit_mode():
    with enable_x64():
        assert [aval_of(v).short() for v in (1, 1.0, 1j, np.float64(1))] == ["i64[]", "f64[]", "c128[]", "f64[]"]


def test_shape_dtype_struct_equality_and_hash():
    a, b = ShapeDtypeStruct((2,), "float32"), ShapeDtypeStruct([2], np.float32)
    assert a == b and hash(a) == hash(b) and a != ShapeDtypeStruct((2,), "int32") and (a.ndim, a.size) == (1, 2)


# ---------------------------------------------------------------- arrays


@given(arrays())
def test_arrays_round_trip(x):
    with enable_x64():
        a = as_array(x)
        assert a.shape == x.shape and a.dtype == x.dtype and a.size == x.size
        assert_close(a, x)
        assert a.tobytes() == x.tobytes()
        assert_close(pickle.loads(pickle.dumps(a)), x)


def test_an_array_shares_no_memory_that_the_caller_could_write():
    x = X.copy()
    a = as_array(x)
    x[0] = 100
    assert float(np.asarray(a)[0]) == 1.0


def test_views_of_arrays_are_read_only():
    a = as_array(X)
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(a)[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(jit(lambda x: x * 2.0)(a))[0] = 5


def test_asking_for_a_copy_gives_one():
    a = as_array(X)
    copied = np.array(a, copy=True)
    copied[0] = 5
    assert float(np.asarray(a)[0]) == 1.0


def test_copies_of_arrays():
    a = as_array(X)
    assert copy.copy(a) is a
    assert_close(copy.deepcopy(a), a)


def test_scalars_convert_to_python():
    assert (bool(as_array(1)), int(as_array(2)), float(as_array(2.5)), complex(as_array(1j))) == (True, 2, 2.5, 1j)
    assert [10, 20, 30][as_array(1)] == 20 and range(as_array(3)) == range(3)
    assert as_array(2.5).item() == 2.5 and as_array(X).tolist() == [1.0, 2.0, 3.0]
    assert f"{as_array(2.5):.2f}" == "2.50" and f"{as_array(X)}" == "[1. 2. 3.]"


def test_arrays_print_as_code():
    assert repr(as_array(X)) == "Array([1., 2., 3.], dtype=float32)"
    assert repr(as_array(1.0)) == "Array(1., dtype=float32, weak_type=True)"
    assert repr(as_array(np.zeros((2, 0), np.int32))) == "Array([], shape=(2, 0), dtype=int32)"
    a = as_array(X)
    a.delete()
    assert repr(a) == "Array<deleted, f32[3]>" and a.is_deleted()


def test_arrays_speak_dlpack_and_buffers():
    assert_close(np.from_dlpack(as_array(X)), X)
    assert as_array(X).buffer.nbytes == 12


def test_arrays_die_when_unreferenced():
    a = as_array(X)
    died = weakref.ref(a)
    del a
    gc.collect()
    assert died() is None


def test_tracers_die_with_their_trace():
    seen = []
    make_jaxpr(lambda x: seen.append(weakref.ref(x)) or x * 2)(1.0)
    gc.collect()
    assert seen[0]() is None


# ---------------------------------------------------------------- traces


def test_tracers_look_like_arrays():
    def check(x):
        assert isinstance(x, Tracer) and (x.shape, x.ndim, x.size, x.nbytes) == ((3,), 1, 3, 12)
        assert x.dtype == np.float32 and not x.weak_type and len(x) == 3 and repr(x).endswith("<f32[3]>")
        return lax.reduce_sum(x)

    for transform in (jit, grad, make_jaxpr):
        transform(check)(X)
    vmap(check)(np.stack([X, X]))


def test_constants_are_evaluated_while_tracing():
    def f(x):
        y = lax.sin(as_array(X))
        assert type(y) is not Array
        return x + y

    assert [e.primitive.name for e in make_jaxpr(f)(X).eqns] == ["sin", "add"]


def test_values_without_tangents_are_evaluated_under_grad():
    def f(x):
        assert type(lax.sin(as_array(X))) is Array
        return x * 2.0

    grad(f)(1.0)


def test_unbatched_values_stay_unbatched_under_vmap():
    def f(x):
        y = lax.sin(as_array(2.0))
        assert type(y) is Array
        return x * y

    vmap(f)(X)


def test_each_thread_has_its_own_trace():
    seen = []

    def f(x):
        thread = threading.Thread(target=lambda: seen.append(traces.state.trace is eval_trace))
        thread.start()
        thread.join()
        return x

    jit(f)(1.0)
    assert seen == [True]


def test_nested_traces_keep_levels_apart():
    # d/dx (x · d/dy (x + y)) = 1: the tangents of the two levels must not be confused.
    assert float(grad(lambda x: x * grad(lambda y: x + y)(1.0))(2.0)) == 1.0
    assert float(jvp(lambda x: jvp(lambda y: x * y * y, (3.0,), (1.0,))[1], (2.0,), (1.0,))[1]) == 6.0


def test_trace_to_jaxpr_hoists_outer_tracers():
    found = []

    def outer(x):
        closed = trace_to_jaxpr(lambda y: [y * x], [aval_of(1.0)])
        hoisted, values = hoist_tracers(closed)
        found.append((len(closed.consts), len(hoisted.consts), [v is x for v in values], str(hoisted)))
        return x

    make_jaxpr(outer)(1.0)
    assert found == [(1, 0, [True], "{ lambda ; a:f32[] b:f32[]. let c:f32[] = mul b a in (c,) }")]


def test_a_constant_used_twice_is_one_constant():
    shared = as_array(X)
    closed = make_jaxpr(lambda x: x * shared + shared)(X)
    assert len(closed.consts) == 1 and closed.consts[0] is shared


# ---------------------------------------------------------------- primitives


def test_inference_is_remembered_per_types_and_params():
    calls = []
    once = Primitive("once", infer=lambda x, *, k: calls.append(0) or x, evaluate=lambda x, *, k: x * k)
    del registry["once"]
    for k in (1, 1, 2):
        once.bind(X, k=k)
    assert len(calls) == 2
    once.bind(X, k=[3][0])
    assert len(calls) == 3


def test_params_that_do_not_hash_are_inferred_each_time():
    p = Primitive("unhashable", infer=lambda x, *, k: x, evaluate=lambda x, *, k: x * k[0])
    del registry["unhashable"]
    assert_close(p.bind(X, k=[2]), X * 2)


def test_primitive_knows_its_rules():
    assert registry["sin"].has("jvp") and registry["sin"].has("batch") and not registry["sin"].has("transpose")
    assert repr(registry["sin"]) == "sin"
