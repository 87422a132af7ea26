"""The CUDA target without a GPU: the simulator runs its kernels, NVVM compiles them for sm_90.

The simulator is chosen when numba.cuda is imported, so each of the two is a process of its own.
"""

from __future__ import annotations

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
from funcgrad.compiler.loops.checking import check
from funcgrad.compiler.loops.language import For, Kernel, Load, Param, Store, at, op
from funcgrad.compiler.loops.python import compile_python
from funcgrad.compiler.loops.scalars import DTYPES
from funcgrad.compiler.program.instructions import KernelCall
from funcgrad.dtypes import bfloat16, bool_, float16
from funcgrad.errors import ArgumentError, DependencyError
from tests.compiled_programs import PROGRAMS, gelu, programs
from tests.kernels import cases, elementwise, loads, nests, softmax
from tests.paths import ROOT

CUDA_DTYPES = [d for d in DTYPES if d not in (float16, bfloat16)]


def simulate() -> None:
    """Compare every case in the simulator with its Python; the main program of one subprocess."""
    from funcgrad.compiler.targets.cuda import emit

    for kernel, arrays, sizes in cases(CUDA_DTYPES):
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
    print(f"compared {len(cases(CUDA_DTYPES))}")


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
        for kernel, _, _ in cases(CUDA_DTYPES):
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


def simulate_programs() -> None:
    """Compare the results of every program in the simulator and in machine code."""
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
        calls = {"host_steps": {"gemm"}, "marks": {"copy"}, "complex_movement": {"copy"}}
        assert on_host == calls.get(name, set()), name
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
    code = f"from tests.compiler.targets.cuda.test_cuda import {main}; {main}()"
    env = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"} | environment
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_simulator_agrees_with_the_python_kernel():
    count = int(run("simulate", NUMBA_ENABLE_CUDASIM="1").split()[-1])
    assert count == len(cases(CUDA_DTYPES)) > 400


@pytest.mark.cuda
def test_every_kernel_compiles_for_hopper():
    ptx = run("compile_all")
    assert ptx.count(".visible .entry") == len(CUDA_DTYPES) + len(nests())
    assert set(re.findall(r"\.target (\w+)", ptx)) == {"sm_90"}
    # The work of the operations, in instructions of their own.
    expected = "sqrt.rn.f32 popc.b32 clz.b64 fma.rn.f64 ld.global.f32 st.global.f64 div.s64 ex2.approx cvt.rzi"
    assert [i for i in expected.split() if i not in ptx] == []


def test_programs_in_the_simulator_agree_with_machine_code():
    lines = run("simulate_programs", NUMBA_ENABLE_CUDASIM="1").splitlines()
    assert [line.split()[0] for line in lines] == list(PROGRAMS)


@pytest.mark.cuda
def test_programs_compile_for_hopper():
    assert run("compile_programs").split() == list(PROGRAMS)


@pytest.mark.parametrize(("main", "simulated"), [("without_numba_cuda", "0"), ("ptx_in_the_simulator", "1")])
def test_the_error_names_a_fix_if_nothing_compiles(main, simulated):
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
