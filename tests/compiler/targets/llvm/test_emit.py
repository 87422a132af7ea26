"""Compiled kernels against the Python functions that they mean, and those against NumPy."""

from __future__ import annotations

import ctypes
import functools
import mmap
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from funcgrad.compiler.loops.checking import check
from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    If,
    IndexValue,
    Init,
    Kernel,
    Let,
    Load,
    Name,
    Param,
    Store,
    Update,
    at,
    op,
    scratch_stride,
)
from funcgrad.compiler.loops.python import compile_python
from funcgrad.compiler.loops.scalars import DTYPES, SCALARS, kind
from funcgrad.compiler.targets.llvm import kernels, toolchain
from funcgrad.compiler.targets.llvm.emit import emit
from funcgrad.dtypes import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
    is_float,
    uint8,
)
from funcgrad.testing.special import FINITE_DIFFERENCES, ORDINARY_PARAMETERS
from tests.kernels import concatenate, elementwise, loads, row_reduction, softmax

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@functools.lru_cache(maxsize=64)
def compiled(kernel: Kernel):
    """Return (arrays, sizes, begin, end, thread) → None, the compiled kernel."""
    check(kernel)
    library = kernels.linked(toolchain.compile_ir(emit([kernel])), kernel.name)
    native = KERNEL(library.address(kernel.name))

    def run(arrays, sizes, begin, end, thread=0):
        going_well = ctypes.c_int64(0)
        pointers = (ctypes.c_void_p * (len(arrays) + 1))(*(a.ctypes.data for a in arrays), ctypes.addressof(going_well))
        numbers = (ctypes.c_int64 * max(len(sizes), 1))(*sizes)
        native(ctypes.addressof(pointers), ctypes.addressof(numbers), begin, end, thread)

    run.library = library
    return run


def both(kernel: Kernel, arrays, sizes, extent: int):
    """Run a kernel compiled and interpreted on copies of `arrays`; return the written arrays of each."""
    native, interpreted = ([a.copy() for a in arrays] for _ in range(2))
    compiled(kernel)(native, sizes, 0, extent)
    compile_python(kernel)(*interpreted, *sizes)
    written = [i for i, p in enumerate(kernel.params) if p.intent in ("out", "inout")]
    return [native[i] for i in written], [interpreted[i] for i in written]


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, context: object = "") -> None:
    """All values equal, zeros in sign too; NaNs need only be NaNs."""
    unsigned = f"u{actual.dtype.itemsize}"
    same = actual.view(unsigned) == expected.view(unsigned)
    if is_float(actual.dtype):
        with np.errstate(invalid="ignore"):
            same |= (actual != actual) & (expected != expected)
    bad = np.flatnonzero(~same)
    assert not bad.size, f"{context}: {bad.size} differ, first at {bad[0]}: {actual[bad[0]]} != {expected[bad[0]]}"


def samples(dtype: np.dtype) -> np.ndarray:
    """Return the values at which operations have corners, and some ordinary ones."""
    if dtype == bool_:
        return np.array([False, True])
    if not is_float(dtype):
        limits, width = np.iinfo(dtype), 8 * dtype.itemsize
        corners = [
            0,
            1,
            2,
            3,
            5,
            7,
            width - 1,
            width,
            100,
            limits.max - 1,
            limits.max,
            limits.min,
            limits.min + 1,
        ]
        return np.array(corners + ([-1, -2, -3, -7, -100] if dtype.kind == "i" else []), dtype)
    plain = [
        0,
        0.5,
        1,
        1.5,
        2,
        2.5,
        3.7,
        0.49999997,
        255,
        256,
        1e3,
        65504,
        2**31,
        2**53,
        2.0**63,
        2.0**64,
        1e-7,
        6e-8,
    ]
    limits = [np.inf, np.nan, 3e38, 1e-40, 3e-39] + ([1e300, 5e-324, 1e-310] if dtype == float64 else [])
    with np.errstate(over="ignore"):
        return np.array(plain + limits + [-v for v in plain + limits]).astype(dtype)


def grids(*dtypes: np.dtype) -> list[np.ndarray]:
    """Return every combination of samples as flat arrays."""
    return [np.ascontiguousarray(g).ravel() for g in np.meshgrid(*map(samples, dtypes), indexing="ij")]


EXACT = [s for s in SCALARS.values() if s.result != "free"]
CASES = [(s.name, d) for s in EXACT for d in DTYPES if kind(d) in s.domain and not (s.vector_math and is_float(d))]


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_every_operation_is_exact_on_every_dtype(name):
    for dtype in [d for n, d in CASES if n == name]:
        dtypes = (bool_, dtype, dtype) if name == "select" else (dtype,) * SCALARS[name].arity
        params, values = loads(*dtypes)
        kernel = elementwise(f"{name}_{dtype.name}", op(name, *values), params)
        arrays = grids(*dtypes)
        output = np.zeros(arrays[0].size, kernel.params[-1].dtype)
        native, interpreted = both(kernel, [*arrays, output], [output.size], output.size)
        assert_same_bits(native[0], interpreted[0], (name, dtype))


def test_powers_with_constant_exponents():
    for dtype in [d for d in DTYPES if d.kind in "iu"]:
        params, (x,) = loads(dtype)
        for exponent in [0, 1, 2, 3, 10, 127, *([-1, -2, -3] if dtype.kind == "i" else [255])]:
            name = f"power_{dtype.name}_{'minus_' * (exponent < 0)}{abs(exponent)}"
            kernel = elementwise(name, op("pow", x, Const(exponent, dtype)), params)
            base = samples(dtype)
            native, interpreted = both(kernel, [base, np.zeros_like(base)], [base.size], base.size)
            assert_same_bits(native[0], interpreted[0], name)


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts_between_all_dtypes(source):
    for target in DTYPES:
        params, values = loads(source)
        kernel = elementwise(f"cast_{source.name}_{target.name}", op("cast", *values, dtype=target), params)
        x = samples(source)
        native, interpreted = both(kernel, [x, np.zeros(x.size, target)], [x.size], x.size)
        assert_same_bits(native[0], interpreted[0], (source, target))


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_bitcasts(source):
    for target in [d for d in DTYPES if d.itemsize == source.itemsize and bool_ not in (d, source)]:
        params, values = loads(source)
        kernel = elementwise(f"bitcast_{source.name}_{target.name}", op("bitcast", *values, dtype=target), params)
        x = samples(source)
        native, interpreted = both(kernel, [x, np.zeros(x.size, target)], [x.size], x.size)
        assert_same_bits(native[0], interpreted[0], (source, target))


# ------------------------------------------------------------------------------------------------------ trees
# Contraction of a·b + c is allowed where a product is not rounded first: only in float32 and float64. There,
# trees with no products must agree bit for bit; everywhere else all trees must.
INEXACT_CHOICE = {"mul", "pow", "rem"}
TREE_OPS = {
    dtype: [
        s
        for s in EXACT
        if s.result == "same"
        and kind(dtype) in s.domain
        and not (is_float(dtype) and (s.vector_math or dtype.itemsize > 2 and s.name in INEXACT_CHOICE))
    ]
    for dtype in DTYPES
}


@st.composite
def trees(draw, dtype: np.dtype, params: tuple[Param, ...], depth: int = 4) -> Expr:
    """Draw an expression of `dtype`: every operation, casts, comparisons and selects between dtypes."""
    choice = draw(st.sampled_from(["leaf"] if depth == 0 else ["op", "op", "op", "leaf", "cast", "select"]))
    if choice == "leaf":
        names = [p.name for p in params if p.dtype == dtype]
        if names and draw(st.booleans()):
            return Load(draw(st.sampled_from(names)), at("i"), dtype)
        return Const(draw(st.sampled_from(samples(dtype).tolist())), dtype)
    if choice == "cast":
        source = draw(st.sampled_from(DTYPES))
        return op("cast", draw(trees(source, params, depth - 1)), dtype=dtype)
    if choice == "select":
        other = draw(st.sampled_from(DTYPES))
        compare = draw(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]))
        sides = [draw(trees(other, params, depth - 2 if depth > 2 else 0)) for _ in range(2)]
        return op("select", op(compare, *sides), *(draw(trees(dtype, params, depth - 1)) for _ in range(2)))
    scalar = draw(st.sampled_from(TREE_OPS[dtype]))
    if scalar.name == "select":
        return draw(trees(dtype, params, depth - 1))
    return op(scalar.name, *(draw(trees(dtype, params, depth - 1)) for _ in range(scalar.arity)))


@hypothesis.given(st.data())
def test_random_expressions_mean_their_python(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    others = data.draw(st.lists(st.sampled_from(DTYPES), min_size=1, max_size=2))
    params = tuple(Param(f"x{k}", d, "in") for k, d in enumerate([dtype, *others]))
    kernel = elementwise("tree", data.draw(trees(dtype, params)), list(params))
    check(kernel)
    count = 37
    arrays = [np.resize(np.roll(samples(p.dtype), k), count) for k, p in enumerate(params)]
    native, interpreted = both(kernel, [*arrays, np.zeros(count, dtype)], [count], count)
    assert_same_bits(native[0], interpreted[0], kernel)


@pytest.mark.parametrize("name", sorted(s.name for s in SCALARS.values() if s.vector_math))
def test_vector_math_is_reached_from_every_float_dtype(name):
    for dtype in (float16, bfloat16, float32, float64):
        params, values = loads(*(dtype,) * SCALARS[name].arity)
        kernel = elementwise(f"{name}_{dtype.name}", op(name, *values), params)
        x = np.linspace(1.0, 2.0, 40).astype(dtype) if name == "acosh" else np.linspace(0.05, 0.95, 40).astype(dtype)
        native, interpreted = both(kernel, [x] * SCALARS[name].arity + [np.zeros_like(x)], [x.size], x.size)
        # The bounds proper are vector_math's tests; here a few units in the last place tell a wrong function.
        # SciPy's incomplete gamma and beta functions are wrong by some tens of units in float64.
        units = 64 if dtype == float64 and name in ORDINARY_PARAMETERS else 8
        tolerance = units * float(np.finfo(dtype).eps if dtype != bfloat16 else 2**-7)
        if dtype == float64 and name in FINITE_DIFFERENCES:
            tolerance = max(tolerance, 1e-10)
        actual, expected = native[0].astype(float64), interpreted[0].astype(float64)
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance / 8)


# ------------------------------------------------------------------------------------------------- loop nests
@pytest.mark.parametrize("n", [0, 1, 3, 16, 17, 63, 64, 65, 1000])
@pytest.mark.parametrize(
    "update, start, reference",
    [("add", 0, np.sum), ("mul", 1, np.prod), ("max", -np.inf, np.max), ("min", np.inf, np.min)],
)
def test_row_reductions(update, start, reference, n):
    m = 5
    x = np.random.default_rng(n).uniform(0.9, 1.1, (m, n)).astype(float32)
    native, interpreted = both(row_reduction(update, update, start), [x.ravel(), np.zeros(m, float32)], [m, n], m)
    expected = reference(x.astype(float64), axis=1, initial=start)
    # Each of n additions in some order errs by half a unit in the last place at most.
    tolerance = 0 if update in ("max", "min") else max(n, 1) * np.finfo(float32).eps
    np.testing.assert_allclose(native[0], expected.astype(float32), rtol=tolerance)
    np.testing.assert_allclose(interpreted[0], expected.astype(float32), rtol=tolerance)


@pytest.mark.parametrize("update, start", [("max", -np.inf), ("min", np.inf)])
@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_a_nan_anywhere_is_the_maximum_and_minimum(update, start, dtype):
    n = 150
    for position in range(n):
        x = np.zeros((2, n), dtype)
        x[1, position] = np.nan
        y = np.zeros(2, dtype)
        compiled(row_reduction(f"{update}_{dtype}", update, start, dtype))([x, y], [2, n], 0, 2)
        assert y[0] == 0 and np.isnan(y[1]), position


@pytest.mark.parametrize("update", ["add", "mul", "max", "min", "and", "or", "xor"])
def test_integer_reductions_are_exact(update):
    rng = np.random.default_rng(0)
    for dtype in [d for d in DTYPES if not is_float(d) and kind(d) in SCALARS[update].domain]:
        x = rng.integers(0, 100, (3, 77)).astype(dtype)
        kernel = row_reduction(f"{update}_{dtype.name}", update, 1, dtype)
        native, interpreted = both(kernel, [x.ravel(), np.zeros(3, dtype)], [3, 77], 3)
        assert_same_bits(native[0], interpreted[0], dtype)


@pytest.mark.parametrize("m, n", [(1, 1), (3, 20), (7, 129)])
def test_softmax_with_scratch(m, n):
    x = np.random.default_rng(0).standard_normal((m, n)).astype(float32) * 10
    arrays = [x.ravel(), np.zeros(m * n, float32), np.zeros(n, float32)]
    native, interpreted = both(softmax(), arrays, [m, n], m)
    exact = np.exp((x - x.max(1, keepdims=True)).astype(float64))  # the kernel's differences, too, are float32
    exact /= exact.sum(1, keepdims=True)
    for result in (native[0], interpreted[0]):
        np.testing.assert_allclose(result.reshape(m, n), exact, rtol=2e-6, atol=1e-37)


def test_each_thread_has_its_own_scratch_and_iterations():
    m, n, threads = 6, 21, 3
    x = np.random.default_rng(1).standard_normal((m, n)).astype(float32)
    whole, parts = (np.full((m, n), -1, float32) for _ in range(2))
    stride = scratch_stride(n, float32)
    scratch = np.full(threads * stride // 4, -7, float32)
    compiled(softmax())([x, whole, scratch[: stride // 4].copy()], [m, n], 0, m)
    for thread in (2, 0, 1):
        compiled(softmax())([x, parts, scratch], [m, n], 2 * thread, 2 * thread + 2, thread)
        assert (parts[2 * thread : 2 * thread + 2] != -1).all()
    np.testing.assert_array_equal(parts, whole)
    assert (scratch.reshape(threads, -1)[:, :n] != -7).all() and (scratch.reshape(threads, -1)[:, n:] == -7).all()


def guarded(values: np.ndarray) -> np.ndarray:
    """Return a copy that ends at the end of a page, the next of which faults when touched."""
    page = mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, 2 * page), np.uint8)
    address = ctypes.c_void_p(pages.ctypes.data + page)
    assert ctypes.CDLL(None).mprotect(address, ctypes.c_size_t(page), 0) == 0
    copy = pages[page - values.nbytes : page].view(values.dtype)
    copy[:] = values
    return copy


def test_iterations_of_the_parallel_loop_share_scratch_without_mixing():
    """y[i] = 2·x[i] + 1 by way of one scratch element: vectorizing it would mix iterations up."""
    doubled = Store("t", at(), op("mul", Load("x", at("i"), int32), Const(2, int32)))
    back = Store("y", at("i"), op("add", Load("t", at(), int32), Const(1, int32)))
    params = (Param("x", int32, "in"), Param("y", int32, "out"), Param("t", int32, "scratch", 1))
    kernel = Kernel("through_scratch", params, ("n",), (For("i", "n", (doubled, back), "parallel"),))
    x = np.arange(100, dtype=int32)
    native, interpreted = both(kernel, [x, np.zeros_like(x), np.zeros(16, int32)], [100], 100)
    np.testing.assert_array_equal(native[0], 2 * x + 1)
    np.testing.assert_array_equal(interpreted[0], native[0])


def test_inout_is_updated_in_place():
    """y = y·y + x, in two steps: each element is read, written, read again and written again."""
    y, x = Load("y", at("i"), float32), Load("x", at("i"), float32)
    twice = (Store("y", at("i"), op("mul", y, y)), Store("y", at("i"), op("add", y, x)))
    params = (Param("x", float32, "in"), Param("y", float32, "inout"))
    kernel = Kernel("in_place", params, ("n",), (For("i", "n", twice, "parallel"),))
    x0, y0 = np.arange(100, dtype=float32), np.arange(100, 200, dtype=float32)
    native, interpreted = both(kernel, [x0, y0], [100], 100)
    np.testing.assert_array_equal(native[0], y0 * y0 + x0)
    np.testing.assert_array_equal(interpreted[0], native[0])


def test_a_masked_load_reads_nothing_where_the_mask_is_false():
    a, b = (guarded(v.astype(float32)) for v in (np.arange(1, 38), np.arange(100, 130)))
    n = 2 + a.size + b.size + 5
    native, interpreted = np.full(n, -1, float32), np.full(n, -1, float32)
    compiled(concatenate())([a, b, native], [a.size, b.size, n], 0, n)
    compile_python(concatenate())(a, b, interpreted, a.size, b.size, n)
    expected = np.concatenate([[9, 9], a, b, np.zeros(5)])
    np.testing.assert_array_equal(native, expected)
    np.testing.assert_array_equal(interpreted, expected)


def test_indirect_loads_and_runtime_strides():
    """y[i, j] = table[rows[i], j·step], a gather."""
    row = op("cast", Load("rows", at("i"), int32), dtype=int64)
    value = Load("table", at(("row", "width"), ("j", "step")), float32)
    body = (Let("row", row), For("j", "n", (Store("y", at(("i", "n"), "j"), value),), "vector"))
    params = (Param("table", float32, "in"), Param("rows", int32, "in"), Param("y", float32, "out"))
    kernel = Kernel("gather", params, ("m", "n", "width", "step"), (For("i", "m", body, "parallel"),))
    table = np.arange(7 * 40, dtype=float32).reshape(7, 40)
    rows = np.array([6, 0, 3, 3], int32)
    native, interpreted = both(kernel, [table.ravel(), rows, np.zeros(4 * 20, float32)], [4, 20, 40, 2], 4)
    np.testing.assert_array_equal(native[0].reshape(4, 20), table[rows, ::2])
    np.testing.assert_array_equal(interpreted[0], native[0])


def test_broadcasts_and_reversals_are_strides():
    """y[i] = x[-i] · s[0], with stride -1 and stride 0."""
    value = op("mul", Load("x", at(("i", -1), offset="last"), float32), Load("s", at(("i", 0)), float32))
    params = (Param("x", float32, "in"), Param("s", float32, "in"), Param("y", float32, "out"))
    kernel = Kernel("flip", params, ("n", "last"), (For("i", "n", (Store("y", at("i"), value),), "parallel"),))
    x = np.arange(50, dtype=float32)
    native, interpreted = both(kernel, [x, np.array([3], float32), np.zeros_like(x)], [50, 49], 50)
    np.testing.assert_array_equal(native[0], x[::-1] * 3)
    np.testing.assert_array_equal(interpreted[0], native[0])


def test_conditionals_and_plain_assignment():
    """argmax with the first of equals, by Update set; rows whose flag is off are left alone."""
    x = Load("x", at(("i", "n"), "j"), float32)
    better = op("gt", Name("value", float32), Name("best", float32))
    search = For(
        "j",
        "n",
        (
            Let("value", x),
            Let("found", better),
            If(
                Name("found", bool_),
                (Update("best", "set", Name("value", float32)), Update("where", "set", IndexValue(at("j")))),
            ),
        ),
        "serial",
    )
    body = (
        Init("best", Const(-np.inf, float32)),
        Init("where", Const(0, int64)),
        search,
        Store("y", at("i"), op("cast", Name("where", int64), dtype=int32)),
    )
    guard = If(op("ne", Load("flag", at("i"), uint8), Const(0, uint8)), body)
    params = (Param("x", float32, "in"), Param("flag", uint8, "in"), Param("y", int32, "inout"))
    kernel = Kernel("argmax", params, ("m", "n"), (For("i", "m", (guard,), "parallel"),))
    values = np.random.default_rng(0).integers(0, 9, (5, 30)).astype(float32)
    flags = np.array([1, 0, 1, 1, 0], uint8)
    native, interpreted = both(kernel, [values.ravel(), flags, np.full(5, -1, int32)], [5, 30], 5)
    np.testing.assert_array_equal(native[0], np.where(flags, values.argmax(1), -1))
    np.testing.assert_array_equal(interpreted[0], native[0])


def test_a_running_sum_reads_its_accumulator_in_order():
    update = Update("acc", "add", Load("x", at(("i", "n"), "j"), int32))
    inner = For("j", "n", (update, Store("y", at(("i", "n"), "j"), Name("acc", int32))), "serial")
    params = (Param("x", int32, "in"), Param("y", int32, "out"))
    loop = For("i", "m", (Init("acc", Const(0, int32)), inner), "parallel")
    x = np.random.default_rng(0).integers(-99, 99, (4, 50)).astype(int32)
    native, interpreted = both(
        Kernel("cumsum", params, ("m", "n"), (loop,)), [x.ravel(), np.zeros(200, int32)], [4, 50], 4
    )
    np.testing.assert_array_equal(native[0].reshape(4, 50), x.cumsum(1))
    np.testing.assert_array_equal(interpreted[0], native[0])


def test_the_extent_of_an_inner_loop_may_be_a_let():
    """Row i of a triangle: y[i] = sum of x[: i + 1]."""
    inner = For("j", "count", (Update("acc", "add", Load("x", at("j"), float64)),), "vector")
    body = (
        Let("count", IndexValue(at("i", offset=1))),
        Init("acc", Const(0, float64)),
        inner,
        Store("y", at("i"), Name("acc", float64)),
    )
    params = (Param("x", float64, "in"), Param("y", float64, "out"))
    x = np.arange(100, dtype=float64)
    kernel = Kernel("triangle", params, ("n",), (For("i", "n", body, "parallel"),))
    native, interpreted = both(kernel, [x, np.zeros(100)], [100], 100)
    np.testing.assert_array_equal(native[0], x.cumsum())
    np.testing.assert_array_equal(interpreted[0], native[0])


# --------------------------------------------------------------------------------------------- machine code
def vector_width() -> str:
    """Return the widest vector register of this machine's assembly, or skip: its mnemonics are x86's."""
    target = toolchain.host()
    if not target.triple.startswith("x86_64") or "+avx2" not in target.features:
        pytest.skip(f"reads x86 assembly with AVX2; this is {target.triple}")
    return "zmm" if "+avx512f" in target.features else "ymm"


def test_one_module_holds_a_batch_of_kernels():
    params, (x,) = loads(float32)
    batch = [elementwise(f"kernel{k}", op("exp", op("mul", x, Const(k, float32))), params) for k in range(4)]
    library = toolchain.link(toolchain.compile_ir(emit(batch)), [k.name for k in batch])
    assert len({library.address(k.name) for k in batch}) == 4


@pytest.mark.parametrize("update, packed", [("add", "vaddps"), ("max", "vmaxps"), ("min", "vminps"), ("mul", "vmulps")])
def test_reductions_vectorize_with_several_accumulators(update, packed):
    width = vector_width()
    lines = toolchain.assembly(emit([row_reduction(update, update, 0.0)])).splitlines()
    accumulators = {line.split()[-1] for line in lines if packed in line and width in line}
    assert len(accumulators) >= 4, "\n".join(lines)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_operation_vectorizes(dtype):
    """A loop over any operation uses vectors and calls nothing, except float64 rem and 64-bit division."""
    width = vector_width()
    for name in [n for n, d in CASES if d == dtype]:
        if name in ("div", "rem") and dtype.itemsize == 8 and (name == "rem" or not is_float(dtype)):
            continue
        if (name == "abs" and dtype.kind == "u") or name == "pow":
            continue  # a copy, which is memcpy; a loop
        dtypes = (bool_, dtype, dtype) if name == "select" else (dtype,) * SCALARS[name].arity
        params, values = loads(*dtypes)
        text = toolchain.assembly(emit([elementwise(f"{name}_loop", op(name, *values), params)]))
        loops = text.split(f"{name}_loop.loops:")[-1]
        assert "call" not in loops and any(r in loops for r in (width, "ymm", "xmm")), f"{name}\n{text}"
        assert re.search(r"\bv?p?[a-z0-9]+\s.*[xyz]mm", loops), text


def test_softmax_rows_are_vector_loops():
    text = toolchain.assembly(emit([softmax()]))
    for instruction in ("vmaxps", "vaddps", "vmulps"):
        assert re.search(rf"{instruction}\s.*{vector_width()}", text), text
    assert not re.search(r"call\w*\s+(?!softmax.loops)", text), text
