"""The CUDA target without a GPU: the simulator runs its kernels, NVVM compiles them for sm_90.

The simulator is chosen when numba.cuda is imported, so each of the two is a process of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad.compiler import pipeline
from funcgrad.compiler.loop_checking import check
from funcgrad.compiler.loops import For, Kernel, Load, Param, Store, at, op
from funcgrad.compiler.program.instructions import KernelCall
from funcgrad.compiler.python import compile_python
from funcgrad.compiler.scalars import DTYPES, SCALARS, kind
from funcgrad.dtypes import bfloat16, bool_, float16, float32, int32, is_float
from funcgrad.errors import ArgumentError, DependencyError
from tests.kernels import concatenate, elementwise, loads, row_reduction, softmax

CUDA_DTYPES = [d for d in DTYPES if d not in (float16, bfloat16)]


def samples(dtype: np.dtype, name: str) -> np.ndarray:
    """Return values for an operation: corners, but for the functions of libdevice only their domain."""
    if dtype == bool_:
        return np.array([False, True])
    if not is_float(dtype):
        limits = np.iinfo(dtype)
        signed = [-1, -2, -7] if dtype.kind == "i" else []
        return np.array([0, 1, 2, 3, 7, 8, limits.min, limits.max, limits.max - 1, *signed], dtype)
    if SCALARS[name].vector_math:
        return np.array([1.25, 1.5, 3.5] if name == "acosh" else [0.1, 0.3, 0.5, 0.9], dtype)
    return np.array([0, 0.5, 1.5, 2.5, 3.7, 1e9, 1e30, np.inf, np.nan, -0.0, -0.5, -1.5, -2.5, -300.7, -np.inf], dtype)


def results(name: str, dtype: np.dtype) -> list[np.dtype | None]:
    """Return the dtypes to convert `dtype` to, or None alone for an operation that is no conversion."""
    if name == "cast":
        return list(CUDA_DTYPES)
    if name == "bitcast":
        return [d for d in CUDA_DTYPES if d.itemsize == dtype.itemsize and bool_ not in (d, dtype)]
    return [None]


@functools.cache
def cases() -> list[tuple[Kernel, list[np.ndarray], list[int]]]:
    """Return kernels with their arrays and sizes: every operation on every dtype, and nests of loops."""
    found = []
    for name, dtype in [(n, d) for n, s in SCALARS.items() for d in CUDA_DTYPES if kind(d) in s.domain]:
        arity = SCALARS[name].arity
        dtypes = (bool_, dtype, dtype) if name == "select" else (dtype,) * arity
        params, values = loads(*dtypes)
        most = 9 if arity == 3 else 99
        arrays = [g.ravel() for g in np.meshgrid(*(samples(d, name)[:most] for d in dtypes), indexing="ij")]
        for to in results(name, dtype):
            expr = op(name, *values, dtype=to)
            kernel = elementwise(f"{name}_{dtype.name}_{expr.dtype.name}_case", expr, params)
            found.append((kernel, [*arrays, np.zeros(arrays[0].size, expr.dtype)], [arrays[0].size]))
    return found + nests()


def nests() -> list[tuple[Kernel, list[np.ndarray], list[int]]]:
    """Return kernels with inner loops, masks, scratch and accumulators."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((11, 7)).astype(float32)
    column, out = np.zeros(11, float32), np.zeros(77, float32)
    integers = rng.integers(-9, 9, (11, 7)).astype(int32)
    a, b = np.arange(3, dtype=float32), np.arange(5, dtype=float32)
    reductions = [
        (row_reduction("sum", "add", 0), [x.ravel(), column], [11, 7]),
        (row_reduction("max", "max", -np.inf), [x.ravel(), column], [11, 7]),
        (row_reduction("xor", "xor", 0, int32), [integers.ravel(), np.zeros(11, int32)], [11, 7]),
    ]
    return [
        *reductions,
        (softmax(), [x.ravel(), out], [11, 7]),
        (concatenate(), [a, b, np.zeros(14, float32)], [3, 5, 14]),
    ]


def simulate() -> None:
    """Compare every case in the simulator with its Python; the main program of one subprocess."""
    from funcgrad.compiler.targets.cuda import emit

    for kernel, arrays, sizes in cases():
        check(kernel)
        simulated, interpreted = ([a.copy() for a in arrays] for _ in range(2))
        with np.errstate(all="ignore"):
            emit.launch(kernel, simulated, sizes)
        scratch = [np.zeros(sizes[-1], p.dtype) for p in kernel.params if p.intent == "scratch"]
        compile_python(kernel)(*interpreted, *scratch, *sizes)
        np.testing.assert_allclose(simulated[-1], interpreted[-1], rtol=1e-6, err_msg=str(kernel))
        assert simulated[-1].dtype.kind != "f" or (np.signbit(simulated[-1]) == np.signbit(interpreted[-1])).all(), (
            kernel
        )
    print(f"compared {len(cases())}")


def compile_all() -> None:
    """Compile all cases to PTX, many operations to a kernel; the main program of the other subprocess."""
    from funcgrad.compiler.targets.cuda import emit

    for kernel in [*merged(), *(kernel for kernel, _, _ in nests())]:
        check(kernel)
        print(emit.compile_ptx(kernel, cc=(9, 0)))


def merged() -> list[Kernel]:
    """Return one kernel for each dtype that holds all of its elementwise cases."""
    found = []
    for dtype in CUDA_DTYPES:
        stores, params = [], [Param(f"x{k}", dtype, "in") for k in range(3)] + [Param("p", bool_, "in")]
        for kernel, _, _ in cases():
            first = kernel.params[0] if not kernel.name.startswith("select") else kernel.params[1]
            if kernel.name.endswith("_case") and first.dtype == dtype:
                (store,) = kernel.parallel.body
                name = f"y{len(params)}"
                params.append(Param(name, store.value.dtype, "out"))
                value = store.value
                if kernel.name.startswith("select"):
                    value = op(
                        "select",
                        Load("p", at("i"), bool_),
                        *(Load(f"x{k}", at("i"), dtype) for k in range(2)),
                    )
                stores.append(Store(name, at("i"), value))
        found.append(Kernel(f"all_{dtype.name}", tuple(params), ("n",), (For("i", "n", tuple(stores), "parallel"),)))
    return found


def gelu(x):
    return 0.5 * x * (1 + jnp.tanh(0.7978846 * (x + 0.044715 * x**3)))


def softmax_rows(x):
    e = jnp.exp(x - jnp.max(x, -1, keepdims=True))
    return e / jnp.sum(e, -1, keepdims=True)


def layer_norm(x, scale, shift):
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5) * scale + shift


def gradients(function, n):
    """Return the function's gradients by its first n arguments; the last argument weighs its results."""
    return fg.grad(lambda *args: jnp.sum(function(*args[:-1]) * args[-1]), tuple(range(n)))


def join(x, y):
    left = jnp.pad(x, ((1, 0), (0, 2)), constant_values=-1)
    return jnp.concatenate([left, y, jnp.pad(x[:, ::-1] * 3, ((0, 0), (2, 0)))], 0)


def moments(x):
    mean = jnp.mean(x, 0)
    return mean, jnp.mean((x - mean) ** 2, 0), jnp.max(x, 0)


def dense(x, w, b):
    return jnp.tanh(x @ w + b), jnp.sort(x + 1, 1)


# What the whole compiler makes of functions, and the shapes of their arguments.
PROGRAMS = {
    "gelu": (gelu, (37,)),
    "gelu_gradient": (gradients(gelu, 1), (37,), (37,)),
    "bias_and_tanh": (lambda x, b: jnp.tanh(x + b), (5, 7), (7,)),
    "softmax": (softmax_rows, (5, 7)),
    "softmax_gradient": (gradients(softmax_rows, 1), (5, 7), (5, 7)),
    "layer_norm": (layer_norm, (5, 7), (7,), (7,)),
    "layer_norm_gradients": (gradients(layer_norm, 3), (5, 7), (7,), (7,), (5, 7)),
    "column_sums": (moments, (9, 6)),
    "wide_columns": (lambda x: jnp.sum(jnp.exp(x), 0), (3, 1500)),
    "transpose": (lambda x, y: x.T + y, (40, 35), (35, 40)),
    "swap": (lambda x: jnp.transpose(x, (2, 0, 1)) * 2, (4, 33, 34)),
    "pad_and_join": (join, (4, 3), (2, 5)),
    "long_sum": (lambda x: jnp.sum(jnp.sin(x)), (66000,)),
    "long_columns": (lambda x: (jnp.sum(x, 0), jnp.max(x * x, 0)), (22000, 3)),
    "integers": (lambda x: jnp.where(x > 0, (x * 100).astype(int) // 7, -1) ^ jnp.arange(11), (11,)),
    "scalars": (lambda x, y: jnp.mean(x[::-2] * y), (7,), ()),
    "empty": (lambda x: (x + 1, jnp.sum(x, 0)), (0, 4)),
    "host_steps": (dense, (4, 6), (6, 5), (5,)),
}


def programs():
    """Yield name, jitted function and arguments of every program."""
    rng = np.random.default_rng(1)
    for name, (function, *shapes) in PROGRAMS.items():
        yield name, fg.jit(function), [jnp.array(rng.standard_normal(s), jnp.float32) for s in shapes]


def simulate_programs() -> None:
    """Compare every program's results in the simulator with those of its machine code."""
    from funcgrad.compiler.targets import cuda

    for name, function, args in programs():
        plan = pipeline.executable(function.trace(*args).jaxpr, name).plan
        callees = [i.callee for i in plan.routine.instructions]
        assert any(isinstance(c, KernelCall) for c in callees), name
        found, expected = cuda.run(plan, args), fg.tree.leaves(function(*args))
        for x, y in zip(found, expected, strict=True):
            assert x.aval == y.aval
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6, err_msg=name)
        on_host = {str(c) for c in callees if not isinstance(c, KernelCall)}
        assert on_host == ({"gemm", "host sort"} if name == "host_steps" else set()), name
        print(name, *dict.fromkeys(map(str, callees)))


def compile_programs() -> None:
    """Compile every program's kernels to PTX by the public way."""
    for name, function, args in programs():
        lowered = function.lower(*args)
        kernels = lowered.as_text("kernels").count("def ")
        ptx = lowered.as_text("ptx")
        assert ptx.count(".visible .entry") == lowered.as_text("cuda").count("def ") == kernels > 0, name
        assert set(re.findall(r"\.target (\w+)", ptx)) == {"sm_90"}, name
        print(name)


def without_numba_cuda() -> None:
    """Ask for PTX where numba-cuda is not installed."""
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *args: None if name == "numba_cuda" else find(name, *args)
    lowered = fg.jit(gelu).lower(jnp.ones(3))
    for stage in ("cuda", "ptx"):
        with pytest.raises(DependencyError, match=r"needs numba-cuda(.|\n)*fix: pip install funcgrad\[cuda\]"):
            lowered.as_text(stage)
    print("refused")


def ptx_in_the_simulator() -> None:
    with pytest.raises(ArgumentError, match="fix: unset NUMBA_ENABLE_CUDASIM"):
        fg.jit(gelu).lower(jnp.ones(3)).as_text("ptx")
    print("refused")


def run(main: str, **environment: str) -> str:
    code = f"from tests.test_cuda import {main}; {main}()"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"} | environment
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_simulator_computes_what_the_python_means():
    count = int(run("simulate", NUMBA_ENABLE_CUDASIM="1").split()[-1])
    assert count == len(cases()) > 400


@pytest.mark.cuda
def test_every_kernel_compiles_for_hopper():
    ptx = run("compile_all")
    assert ptx.count(".visible .entry") == len(CUDA_DTYPES) + len(nests())
    assert set(re.findall(r"\.target (\w+)", ptx)) == {"sm_90"}
    # The work of the operations, in instructions of their own.
    expected = "sqrt.rn.f32 popc.b32 clz.b64 fma.rn.f64 ld.global.f32 st.global.f64 div.s64 ex2.approx cvt.rzi"
    assert [i for i in expected.split() if i not in ptx] == []


def test_programs_in_the_simulator_give_what_machine_code_gives():
    lines = run("simulate_programs", NUMBA_ENABLE_CUDASIM="1").splitlines()
    assert [line.split()[0] for line in lines] == list(PROGRAMS)


@pytest.mark.cuda
def test_programs_compile_for_hopper():
    assert run("compile_programs").split() == list(PROGRAMS)


@pytest.mark.parametrize(("main", "simulated"), [("without_numba_cuda", "0"), ("ptx_in_the_simulator", "1")])
def test_the_remedy_is_named_where_nothing_compiles(main, simulated):
    assert run(main, NUMBA_ENABLE_CUDASIM=simulated) == "refused\n"


@pytest.mark.cuda
def test_rendered_source():
    source = run("show").splitlines()
    assert source[1] == "    row = row[cuda.grid(1)*n:(cuda.grid(1) + 1)*n]"
    assert source[2] == "    for i in range(cuda.grid(1), m, cuda.gridsize(1)):"
    assert "            value = exp_float32(x[i*n + k] - top)" in source


def show() -> None:
    from funcgrad.compiler.targets.cuda import emit

    print(emit.render(softmax()))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
def test_sixteen_bit_floats_are_refused(dtype):
    from funcgrad.compiler.targets.cuda import emit

    params, (x,) = loads(dtype)
    with pytest.raises(TypeError, match=f"not in {dtype.name}"):
        emit.render(elementwise("k", op("exp", x), params))
