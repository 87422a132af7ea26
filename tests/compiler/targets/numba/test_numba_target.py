"""The numba target: its modules run, alone and under jit, and compute what the Python of their kernels means."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import dtypes, lax, ops, transforms
from funcgrad.compiler import pipeline, targets
from funcgrad.compiler.loops.language import For, Kernel, Load, Param, Store
from funcgrad.compiler.loops.python import compile_python
from funcgrad.compiler.loops.scalars import DTYPES
from funcgrad.compiler.targets.llvm import runtime, vector_math
from funcgrad.compiler.targets.llvm.vector_math.registry import loops as has_loops
from funcgrad.compiler.targets.numba.compiled import load
from funcgrad.compiler.targets.numba.kernels import can_be_interrupted
from funcgrad.compiler.targets.numba.module import ModuleWriter
from funcgrad.config import config, enable_x64
from funcgrad.core.primitives import registry
from funcgrad.errors import ArgumentError
from funcgrad.testing import laws
from funcgrad.testing.calls import CALLS, Call, calls_of
from tests.compiled_programs import PROGRAMS, programs
from tests.kernels import Case, cases, nests


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def dtype(request):
    return request.param


def on_numba(kernel: Kernel, arrays: Sequence[np.ndarray], sizes: Sequence[int]) -> None:
    """Run a kernel as numba compiles it; 16-bit floats travel as their bits."""
    writer = ModuleWriter()
    function = load(writer, writer.kernel(kernel))
    ended = [np.zeros(1, np.uint8)] if can_be_interrupted(kernel) else []
    sixteen = (dtypes.float16, dtypes.bfloat16)
    extent = dict(zip(kernel.sizes, sizes, strict=True))[kernel.parallel.extent]
    function(*(x.view(np.uint16) if x.dtype in sixteen else x for x in arrays), *sizes, 0, extent, *ended)


def merged(found: list[Case]) -> list[Case]:
    """One kernel of many elementwise cases whose operands are the same: numba's time goes by the function."""
    out = []
    for _, group in itertools.groupby(found, key=lambda case: [id(x) for x in case[1][:-1]]):
        group = list(group)
        kernel, arrays, sizes = group[0]
        params, results, stores = list(kernel.params[:-1]), [], []
        for k, _, _ in group:
            (store,) = k.parallel.body
            params.append(Param(f"y{len(results)}", store.value.dtype, "out"))
            stores.append(Store(params[-1].name, store.index, store.value))
            results.append(np.zeros(arrays[0].size, store.value.dtype))
        body = For("i", "n", tuple(stores), "parallel")
        out.append((Kernel("operations", tuple(params), ("n",), (body,)), [*arrays[:-1], *results], sizes))
    return out


def grouped_by_operands(dtype: np.dtype) -> list[Case]:
    """The elementwise cases of a dtype but formulas with loops, those with the same operands side by side."""
    shared: dict[tuple[bytes, ...], list[np.ndarray]] = {}
    found = []
    for kernel, arrays, sizes in cases(DTYPES):
        if not kernel.name.endswith("_case") or _operand_dtype(kernel) != dtype:
            continue
        (store,) = kernel.parallel.body
        if store.value.op in vector_math.names() and has_loops(store.value.op):
            continue  # numba takes seconds for each of these; test_formulas compares them bit by bit
        key = tuple(x.tobytes() + x.dtype.name.encode() for x in arrays[:-1])
        found.append((kernel, [*shared.setdefault(key, arrays[:-1]), arrays[-1]], sizes))
    return sorted(found, key=lambda case: [id(x) for x in case[1][:-1]])


def _operand_dtype(kernel: Kernel) -> np.dtype:
    (store,) = kernel.parallel.body
    loads = [a for a in store.value.args if isinstance(a, Load)]
    return loads[-1].dtype


def test_every_operation_agrees_with_the_python_kernel(dtype):
    found = merged(grouped_by_operands(dtype))
    assert found
    for kernel, arrays, sizes in found:
        compiled, interpreted = ([a.copy() for a in arrays] for _ in range(2))
        with np.errstate(all="ignore"):
            on_numba(kernel, compiled, sizes)
        compile_python(kernel)(*interpreted, *sizes)
        for store, x, y in zip(
            kernel.parallel.body,
            compiled[-len(kernel.parallel.body) :],
            interpreted[-len(kernel.parallel.body) :],
            strict=True,
        ):
            wide = (x.astype(np.float64), y.astype(np.float64)) if dtypes.is_float(x.dtype) else (x, y)
            rtol = {2: 1e-2, 4: 2e-6, 8: 1e-13}[x.dtype.itemsize] if dtypes.is_float(x.dtype) else 0
            np.testing.assert_allclose(*wide, rtol=rtol, err_msg=str(store))
            if dtypes.is_float(x.dtype):
                signs = (np.where(np.isnan(w), False, np.signbit(w)) for w in wide)
                np.testing.assert_array_equal(*signs, err_msg=str(store))


@pytest.mark.parametrize("case", nests(), ids=lambda case: case[0].name)
def test_loop_nests_agree_with_the_python_kernel(case):
    kernel, arrays, sizes = case
    compiled, interpreted = ([a.copy() for a in arrays] for _ in range(2))
    scratch = [np.zeros(sizes[-1], p.dtype) for p in kernel.params if p.intent == "scratch"]
    on_numba(kernel, [*compiled, *scratch], sizes)
    compile_python(kernel)(*interpreted, *scratch, *sizes)
    np.testing.assert_allclose(compiled[-1], interpreted[-1], rtol=1e-6)


for _package in (ops, transforms):  # importing a module registers its primitives
    for _module in pkgutil.walk_packages(_package.__path__, _package.__name__ + "."):
        importlib.import_module(_module.name)


def collatz(n):
    def step(c):
        return jnp.where(c[0] % 2, 3 * c[0] + 1, c[0] // 2), c[1] + 1

    return lax.while_loop(lambda c: c[0] != 1, step, (n, 0))


def heat(x):
    return lax.fori_loop(0, 7, lambda i, x: x.at[1:-1].add(0.1 * (x[2:] - 2 * x[1:-1] + x[:-2])), x)


def products(x):
    return lax.scan(lambda c, a: (jnp.tanh(c @ x.T @ x) + a, c.sum()), x[0], x, reverse=True)


def small_branches(x):
    branches = [lambda x: x + 1, lambda x: x * 2, lambda x: x @ x.T @ x]
    return lax.switch(x[0, 0].astype(int) % 3, branches, x)


def large_branches(x):
    return lax.cond(x[0, 0] > 0, lambda y: y @ y, lambda y: y + 1, jnp.tile(x[:, :1], (10, 50)) * 0.01)


def host_call(x):
    return fg.pure_callback(lambda x: np.sort(x), fg.ShapeDtypeStruct(x.shape, x.dtype), x)


def constants(x):
    return x * np.arange(60, dtype=np.float32).reshape(5, 12) + np.float32([[1], [2], [3], [4], [5]])


def complex_numbers(x):
    z = lax.complex(x[0], x[1])
    turned = lax.fori_loop(1, 12, lambda i, z: z.at[i].set(0.5j * z[i - 1] + z[i]), z)
    last, all_of_them = lax.scan(lambda c, z: (c * 0.5j + z, c * jnp.conj(z)), z[0], z)
    steps = fg.vmap(lambda c: lax.while_loop(lambda s: (abs(s[0]) < 2) & (s[1] < 9), lambda s: step(c, *s), (c, 0)))
    return turned, last, all_of_them, steps(z)


def step(c, z, n):
    return z * z + c, n + 1


LOOPS = {
    "scan": lambda x: lax.scan(lambda c, a: (c * 0.5 + a, c), x[0], x),
    "reversed scan of products": products,
    "gradient of a scan": fg.grad(lambda x: lax.scan(lambda c, a: (jnp.sin(c * a), c.sum()), x[0], x)[1].sum()),
    "while": lambda x: lax.while_loop(lambda c: c.sum() < 1e3, lambda c: c * c + 1, x),
    "lanes": lambda x: fg.vmap(collatz)(jnp.abs(x[:, 0] * 100).astype(int) + 1),
    "windows": heat,
    "branches": small_branches,
    "large branches": large_branches,
    "a host call in a loop": lambda x: lax.scan(lambda c, a: (host_call(c + a), c), x[0], x),
    "constants": constants,
    "complex numbers": complex_numbers,
}


def compared(function, *args):
    """Compare a function on both targets, types included."""
    expected = fg.jit(function)(*args)
    with config.override("cpu_target", "numba"):
        found = fg.jit(function)(*args)
    for x, y in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        assert x.aval == y.aval
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", LOOPS)
def test_loops_agree_with_the_llvm_target(name):
    compared(LOOPS[name], jnp.array(np.random.default_rng(0).standard_normal((5, 12)), jnp.float32))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_agree_with_the_llvm_target(name):
    (args,) = [args for found, _, args in programs() if found == name]
    compared(PROGRAMS[name][0], *args)


def sampled() -> set[str]:
    """A primitive for each way of lowering, the first of its name, and every twelfth of all.

    The operations of elementwise primitives are tested above, one by one.
    """
    names = sorted(CALLS)
    return {min(group, key=names.index) for group in _by_lowering(names).values()} | set(names[::12])


def _by_lowering(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(type(registry[name].lowering).__name__, []).append(name)
    return found


# A law takes about half a second here, the time of numba's compiler.
SAMPLE = sampled()


def test_the_sample_has_every_way_of_lowering():
    assert _by_lowering(sorted(SAMPLE)).keys() == _by_lowering(sorted(CALLS)).keys()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SAMPLE else pytest.mark.slow) for n in sorted(CALLS)]
)
def test_jit_is_eager_on_this_target(name):
    @settings(max_examples=2, suppress_health_check=list(HealthCheck), deadline=None)
    @given(call=calls_of(name))
    def holds(call: Call):
        with enable_x64(), config.override("cpu_target", "numba"):
            laws.LAWS["compilation"](*call)

    holds()


# ---------------------------------------------------------------------------------------------------- modules


def model(weights, x):
    hidden = jnp.tanh(x @ weights[0])
    final, _ = lax.scan(lambda c, a: (c * 0.9 + a, None), jnp.zeros(4), hidden @ weights[1])
    return jax_like_softmax(final), jnp.sum(final), weights[0]


def jax_like_softmax(x):
    e = jnp.exp(x - x.max())
    return e / e.sum()


def test_a_saved_module_runs_without_funcgrad(tmp_path):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(s).astype(np.float32) for s in ((3, 5), (5, 4))]
    x = rng.standard_normal((20, 3)).astype(np.float32)
    (tmp_path / "saved.py").write_text(fg.jit(model).lower(weights, x).numba_source())
    np.savez(tmp_path / "given.npz", *weights, x)
    code = (
        "import sys, numpy, saved; given = numpy.load('given.npz'); "
        "found = saved.model(*(given[name] for name in given.files)); "
        "assert not any(name.split('.')[0] in ('funcgrad', 'jax', 'optree') for name in sys.modules); "
        "numpy.savez('found.npz', *found)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        for y, z in zip((found[name] for name in found.files), fg.jit(model)(weights, x), strict=True):
            np.testing.assert_allclose(y, z, rtol=1e-5)


def every_form(x):
    e = jnp.exp(x - x.max(axis=1, keepdims=True))
    rows = e / e.sum(axis=1, keepdims=True)
    decay = lax.scan(lambda c, a: (0.5 * c + a, c), x[0, 0], x[:, 1])
    counts = fg.vmap(collatz)(jnp.abs(x[:, 0] * 100).astype(int) + 1)
    return rows, jnp.sum(x, 0), decay, counts, heat(x), large_branches(x), LOOPS["while"](x)


def test_a_module_of_every_form_of_kernel_and_routine_runs():
    x = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    text, module = fg.jit(every_form).lower(x).as_text("numba"), {}
    defined = re.findall(r"^def ([a-z]+_[a-z]+)\w*\(", text, re.MULTILINE)
    starts = {name.split("_")[0] for name in defined} | {
        name for name in defined if name.startswith(("scan_", "while_"))
    }
    assert {"map", "row", "column", "scan", "scatter", "branch", "scan_loop", "while_loop", "while_body"} <= starts
    exec(text, module)
    expected = fg.tree.leaves(fg.jit(every_form)(x))
    for found, wanted in zip(module["every_form"](x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)


def test_a_module_documents_its_signature():
    text = fg.jit(lambda x: jnp.sum(jnp.sin(x) * 2)).lower(jnp.ones((4, 8))).as_text("numba")
    module = {}
    exec(text, module)
    program = module["program"]
    assert '"""(f32[4,8]) -> (f32[])"""' in text
    np.testing.assert_allclose(program(np.ones((4, 8), np.float32)), 64 * np.sin(1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"x0 is not of shape \(4, 8\), for which the program was compiled"):
        program(np.ones((4, 9), np.float32))


def test_programs_without_kernels_have_no_module():
    lowered = fg.jit(lambda x: jnp.gcd(x, 6) + 1).lower(jnp.ones(4, int))
    with pytest.raises(ArgumentError, match=r"no module for numba can be made, because gcd has no kernel") as error:
        lowered.numba_source()
    assert "fix: leave the operation out" in str(error.value)


def test_the_target_is_chosen_by_the_configuration():
    closed = fg.jit(lambda x: x + 1).trace(jnp.ones(3)).jaxpr
    with config.override("cpu_target", "numba"):
        assert pipeline.executable(closed, "f") is pipeline.executable(closed, "f", "numba")
        assert pipeline.executable(closed, "f") is not pipeline.executable(closed, "f", "llvm")
    with pytest.raises(ArgumentError, match="config.cpu_target: got 'gpu'"):
        config.update("cpu_target", "gpu")
    f = fg.jit(lambda x: x + 1, target="numba")
    assert f(1.0) == 2.0
    with pytest.raises(ArgumentError, match=r"jit: target='tpu'") as error:
        fg.jit(lambda x: x, target="tpu")
    assert "fix: choose 'llvm' or 'numba'" in str(error.value)


def test_numba_is_chosen_where_the_native_runtime_cannot_be_built(monkeypatch):
    def fail():
        raise RuntimeError("no such machine")

    monkeypatch.setattr(runtime, "native_functions", fail)
    targets._has_runtime.cache_clear()
    try:
        with pytest.warns(UserWarning, match="compiled by numba(.|\n)*no such machine(.|\n)*fix: set FUNCGRAD"):
            assert targets.find("llvm").name == "numba"
        assert fg.jit(lambda x: jnp.sin(x) * 2)(0.0) == 0.0
    finally:
        targets._has_runtime.cache_clear()


def test_a_kernel_is_counted_as_compiled_once():
    one, other = (fg.jit(lambda x, n=n: jnp.cos(x) * 3.0 + 7.0, target="numba") for n in range(2))
    assert one(jnp.ones(5)) is not None and other(jnp.ones(9)) is not None
    assert (one.cache_info().kernels_compiled, one.cache_info().kernels_reused) == (1, 0)
    assert (other.cache_info().kernels_compiled, other.cache_info().kernels_reused) == (0, 1)


def test_stages_are_of_the_chosen_target():
    x = jnp.ones((1000, 1000))
    lowered = fg.jit(lambda x: x @ x, target="numba").lower(x)
    assert lowered.as_text("program").endswith("× 1 by 1")
    with config.override("cpu_target", "numba"):
        assert lowered.as_text("program") == fg.jit(lambda x: x @ x).lower(x).as_text("program")
