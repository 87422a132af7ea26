"""The formulas as Python: under numba they give the bits that they give under LLVM, in loops that are vectorized."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from funcgrad.compiler.loops.language import Kernel, op
from funcgrad.compiler.targets.llvm import vector_math
from funcgrad.compiler.targets.llvm.vector_math import registry
from funcgrad.compiler.targets.numba.compiled import load
from funcgrad.compiler.targets.numba.functions import Functions
from funcgrad.compiler.targets.numba.module import ModuleWriter
from tests.compiler.targets.llvm.test_special_functions import FUNCTIONS
from tests.compiler.targets.llvm.test_vector_math import TYPES, compiled, every_exponent, ordinary
from tests.kernels import elementwise, loads

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def kernel(name: str, dtype: type) -> Kernel:
    params, values = loads(*[np.dtype(dtype)] * vector_math.arity(name))
    return elementwise(f"{name}_loop", op(name, *values), params)


def on_numba(name: str, dtype: type):
    writer = ModuleWriter()
    return load(writer, writer.kernel(kernel(name, dtype)))


def points(name: str, dtype: type) -> list[np.ndarray]:
    if registry.loops(name):  # the number of iterations goes by the arguments, so huge ones take minutes
        return [v.astype(dtype) for v in FUNCTIONS[name][1](np.random.default_rng(21))]
    x = np.concatenate([every_exponent(dtype, 21)[::4], ordinary(dtype, 22)])
    return [np.random.default_rng(i).permutation(x) for i in range(vector_math.arity(name))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", vector_math.names())
def test_both_targets_compute_the_same_bits(name, dtype):
    """So the error bounds that test_vector_math holds for llvm hold for numba too, up to the limit of the formula."""
    x, bits = points(name, dtype), np.dtype(f"i{np.dtype(dtype).itemsize}")
    found = np.empty_like(x[0])
    on_numba(name, dtype)(*x, found, found.size, 0, found.size)
    expected = compiled(name, dtype)(*x)
    far = registry.far(name, TYPES[dtype])
    if far is not None:
        expected[np.abs(x[0]) > far.limit] = np.nan
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(bits), expected[~nan].view(bits))


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sin", "erf", "logistic"])
def test_loops_are_vectorized(name):
    writer, module = ModuleWriter(), {}
    symbol = writer.kernel(kernel(name, np.float32))
    exec(writer.text(name), module)  # not from the disk, for numba shows the assembly of what it compiled itself
    function = module[symbol]
    array = numba.float32[::1]
    function.compile((array, array, *[numba.int64] * 3))
    (text,) = function.inspect_asm().values()
    instructions = [line.split() for line in text.splitlines() if line.startswith("\t") and line[1] != "."]
    fused = [i for i in instructions if i[0].startswith(("vfmadd", "vfnmadd")) and i[0].endswith("ps")]
    fused += [i for i in instructions if i[0] in ("fmla", "fmls") and any(".4s" in operand for operand in i[1:])]
    assert len(fused) >= 5, f"{name}: {len(fused)} packed multiply-adds"


def test_a_formula_is_readable():
    functions = Functions()
    functions.operation("logistic", np.dtype(np.float32))
    assert functions.definitions["logistic_float32"] == (
        '@njit(error_model="numpy", forceinline=True)\n'
        "def logistic_float32(x):\n"
        '    """1 / (1 + e^-x), through e^-|x| so that small results keep their precision."""\n'
        "    v1 = exp_float32(-abs(x))\n"
        "    return select(x < float32(0.0), v1, float32(1.0)) / (v1 + float32(1.0))\n"
    )
    assert list(functions.definitions) == ["select", "fma", "bitcast", "exp_float32", "logistic_float32"]
