"""The loop IR: each rule of its checker, and its printed and rendered forms."""

from __future__ import annotations

import linecache
import os
import traceback

import numpy as np
import pytest

from funcgrad.compiler.loops import language as loops
from funcgrad.compiler.loops import python
from funcgrad.compiler.loops.checking import check
from funcgrad.compiler.loops.language import (
    Const,
    For,
    If,
    Index,
    IndexValue,
    Init,
    Kernel,
    Let,
    Load,
    LoopError,
    Name,
    Op,
    Param,
    Store,
    Update,
    at,
    op,
)
from funcgrad.compiler.loops.scalars import DTYPES, SCALARS
from funcgrad.dtypes import bfloat16, bool_, complex64, float16, float32, float64, int32, int64, uint8
from funcgrad.errors import DTypeError
from tests.kernels import concatenate, elementwise, loads, row_reduction, softmax
from tests.paths import GOLDEN

ONE = Const(1, float32)
X = Load("x", at("i"), float32)
COPY = Store("y", at("i"), X)


def kernel(*statements, before=(), params=(), sizes=("n",), kind="parallel", extent="n") -> Kernel:
    """Return a kernel of x, y and z whose parallel loop over i has these statements."""
    standard = (Param("x", float32, "in"), Param("y", float32, "out"), Param("z", int32, "in"))
    return Kernel("k", (*standard, *params), sizes, (*before, For("i", extent, statements, kind)))


BROKEN = {
    "the body is Lets followed by exactly one parallel For": [
        Kernel("k", (), ("n",), ()),
        kernel(COPY, kind="serial"),
        kernel(COPY, before=(Init("a", ONE),)),
        kernel(COPY, before=(For("h", "n", (), "parallel"),)),
    ],
    "the parallel loop is the outermost one": [kernel(For("j", "n", (), "parallel"))],
    "a loop of lanes has n iterations, a size": [kernel(For("j", "n", (), "lanes"))],
    "a loop of lanes has only values, accumulators, stores and loops": [
        kernel(For("j", 4, (If(Const(True, bool_), ()),), "lanes")),
        kernel(For("j", 4, (For("k", 4, (For("l", 4, (), "lanes"),)),), "lanes")),
    ],
    "'diagonal' is not a kind of loop": [kernel(For("j", "n", (), "diagonal"))],
    "i is defined twice": [kernel(For("i", "n", ())), kernel(Let("i", ONE)), kernel(COPY, sizes=("i", "n"))],
    "x is defined twice": [kernel(COPY, params=(Param("x", float32, "in"),))],
    "j is defined twice": [kernel(For("j", "n", ()), For("j", "n", ()))],
    "'exp' is a keyword, an operation or not an identifier": [kernel(Let("exp", ONE))],
    "'lambda' is a keyword, an operation or not an identifier": [kernel(Let("lambda", ONE))],
    "'a b' is a keyword, an operation or not an identifier": [kernel(Let("a b", ONE))],
    "parameter w has dtype complex64, which loops do not have": [kernel(params=(Param("w", complex64, "in"),))],
    "'both' is not an intent": [kernel(params=(Param("w", float32, "both"),))],
    "scratch, and only scratch, states an extent (parameter w)": [
        kernel(params=(Param("w", float32, "scratch"),)),
        kernel(params=(Param("w", float32, "in", "n"),)),
    ],
    "extent m is not a size": [kernel(params=(Param("w", float32, "scratch", "m"),))],
    "extent m is neither a size nor (in an inner loop) an int64 Let": [
        kernel(extent="m"),
        kernel(For("j", "m", ())),
        kernel(extent="m", before=(Let("m", IndexValue(at(offset="n"))),)),
    ],
    "extent -1 is negative": [kernel(For("j", -1, ()))],
    "a is used but no Let or Init in scope defines it": [
        kernel(Store("y", at("i"), Name("a", float32))),
        kernel(For("j", "n", (Let("a", ONE),)), Store("y", at("i"), Name("a", float32))),
        kernel(Let("b", Name("a", float32)), Let("a", ONE)),
    ],
    "i is used but no Let or Init in scope defines it": [kernel(Let("a", Name("i", int64)))],
    "a is float32, used as float64": [kernel(Let("a", ONE), Let("b", Name("a", float64)))],
    "a is no accumulator in scope": [
        kernel(Let("a", ONE), Update("a", "add", ONE)),
        kernel(Update("a", "add", ONE)),
    ],
    "'sub' is not an update; they are add, mul, max, min, and, or, xor, set": [
        kernel(Init("a", ONE), Update("a", "sub", ONE))
    ],
    "a is float32, the value float64": [kernel(Init("a", ONE), Update("a", "add", Const(1, float64)))],
    "and(float32, float32): does not take float32": [kernel(Init("a", ONE), Update("a", "and", ONE))],
    "x is an input and is not written": [kernel(Store("x", at("i"), ONE))],
    "w is not a parameter": [kernel(Store("w", at("i"), ONE)), kernel(Let("a", Load("w", at("i"), float32)))],
    "y is float32, the value int32": [kernel(Store("y", at("i"), Const(1, int32)))],
    "x is float32, loaded as int32": [kernel(Let("a", Load("x", at("i"), int32)))],
    "a masked load has both a mask and another value": [
        kernel(Let("a", Load("x", at("i"), float32, Const(True, bool_))))
    ],
    "a mask is bool": [kernel(Let("a", Load("x", at("i"), float32, ONE, ONE)))],
    "x is float32, the other value float64": [
        kernel(Let("a", Load("x", at("i"), float32, Const(True, bool_), Const(1, float64))))
    ],
    "a condition is bool": [kernel(If(ONE, ()))],
    "index term j is neither a loop index nor an int64 Let in scope": [
        kernel(Store("y", at("j"), ONE)),
        kernel(Let("j", Load("z", at("i"), int32)), Store("y", at("j"), ONE)),
    ],
    "m in an index is not a size": [
        kernel(Store("y", at(("i", "m")), ONE)),
        kernel(Store("y", at("i", offset="m"), ONE)),
        kernel(Store("y", at("i", offset=(1, "m")), ONE)),
    ],
    "frobnicate is not a scalar operation": [kernel(Let("a", Op("frobnicate", (ONE,), float32)))],
    "exp takes 1 arguments, got 2 (float32, float32)": [kernel(Let("a", Op("exp", (ONE, ONE), float32)))],
    "add(float32, float64): arguments must have one dtype": [
        kernel(Let("a", Op("add", (ONE, Const(1, float64)), float32)))
    ],
    "select(float32, float32, float32): the predicate must be bool": [
        kernel(Let("a", Op("select", (ONE, ONE, ONE), float32)))
    ],
    "exp(int32): does not take int32": [kernel(Let("a", Op("exp", (Const(1, int32),), int32)))],
    "bitcast(float32) to int64: widths differ": [kernel(Let("a", Op("bitcast", (ONE,), int64)))],
    "exp gives float32, not float64": [kernel(Let("a", Op("exp", (ONE,), float64)))],
    "lt gives bool, not float32": [kernel(Let("a", Op("lt", (ONE, ONE), float32)))],
    "a constant has dtype complex64, which loops do not have": [kernel(Let("a", Const(1, complex64)))],
    "int is not an expression": [kernel(Let("a", 1))],
    "Const is not a statement": [kernel(ONE)],
}


@pytest.mark.parametrize("rule", BROKEN)
def test_the_checker_names_the_broken_rule(rule):
    for broken in BROKEN[rule]:
        with pytest.raises(LoopError) as error:
            check(broken)
        assert rule in error.value.summary and "kernel k" in error.value.summary
        assert "fix:" in str(error.value)


def test_an_error_shows_the_statement():
    with pytest.raises(LoopError, match=r"at `y\[i\] = a`"):
        check(kernel(Store("y", at("i"), Name("a", float32))))


def test_the_checker_accepts_the_grammar():
    inner = Let("count", IndexValue(at("i", offset=1)))
    check(kernel(COPY))
    check(kernel(inner, For("j", "count", (Store("y", at("count", ("j", 0)), ONE),)), sizes=("n",)))
    check(kernel(COPY, before=(Let("half", Const(0.5, float32)),), extent=3))
    check(kernel(Init("a", ONE), Update("a", "set", X), If(op("lt", Name("a", float32), ONE), (COPY,))))
    check(kernel(Store("w", at("i"), ONE), params=(Param("w", float32, "inout"),)))


def test_kernels_are_their_own_cache_keys():
    assert hash(softmax()) == hash(softmax()) and softmax() == softmax()
    assert softmax() != row_reduction("sum", "add", 0)


@pytest.mark.parametrize(
    "a, b, same",
    [
        (Const(0.0, float32), Const(-0.0, float32), False),
        (Const(np.nan, float32), Const(float("nan"), float32), True),
        (Const(1, float32), Const(1, int32), False),
        (Const(1, float32), Const(1.0, float32), True),
        (Const(0.1, float32), Const(np.float32(0.1), float32), True),
        (Const(0.1, float32), Const(0.1, float64), False),
    ],
)
def test_constants_are_equal_when_their_bits_are(a, b, same):
    assert (a == b) is same and (len({a, b}) == 1) is same


def test_a_constant_must_fit_its_integer_dtype():
    with pytest.raises(OverflowError):
        Const(300, uint8)


@pytest.mark.parametrize("dtype", [float16, bfloat16, float32, float64], ids=str)
def test_constants_print_so_that_they_read_back(dtype):
    values = [0.1, -0.0, 1e-7, 3.14159265358979, 1 / 3, 65504.0, float("inf")]
    for value in values:
        constant = Const(value, dtype)
        assert Const(float(loops.format_const(constant.value, dtype)), dtype) == constant


def test_op_infers_dtypes():
    assert op("add", ONE, ONE).dtype == float32
    assert op("select", op("lt", ONE, ONE), ONE, ONE).dtype == float32
    assert op("cast", ONE, dtype=int32).dtype == int32
    with pytest.raises(DTypeError, match="add"):
        op("add", ONE, Const(1, int32))


def test_scratch_of_a_thread_is_whole_cache_lines():
    assert [loops.scratch_stride(n, float32) for n in (0, 1, 16, 17)] == [0, 64, 64, 128]


# ------------------------------------------------------------------------------------- printing and rendering
def every_operator() -> Kernel:
    """Return a kernel of every Python operator, nested with and without need for parentheses."""
    _, (a, b, c) = loads(int32, int32, int32)
    sums = op("sub", op("sub", a, b), op("sub", b, c))
    products = op("mul", op("add", a, b), op("neg", op("mul", b, c)))
    bits = op("or", op("xor", op("and", a, op("or", b, c)), b), op("not", c))
    order = op("and", op("lt", sums, products), op("not", op("eq", op("div", a, b), op("rem", a, c))))
    value = op("select", op("xor", order, op("ge", a, b)), op("add", sums, bits), op("clamp", a, b, c))
    return elementwise("every_operator", value, loads(int32, int32, int32)[0])


def strided() -> Kernel:
    """Return a kernel with every form of index, and a loop that assigns."""
    index = Index((("i", "n"), ("j", -1), ("row", 2), ("unused", 0)), (3, "start"))
    body = (
        Let("row", op("cast", Load("rows", at("i"), int32), dtype=int64)),
        Let("unused", Const(0, int64)),
        Init("last", Const(True, bool_)),
        For(
            "j",
            4,
            (
                If(op("not", Name("last", bool_)), (Store("y", at("i", offset=-1), Load("x", index, float64)),)),
                Update("last", "set", op("gt", IndexValue(at("j", offset="start")), Name("row", int64))),
                Update("last", "or", op("is_finite", Load("x", at(), float64))),
            ),
            "serial",
        ),
    )
    params = (Param("rows", int32, "in"), Param("x", float64, "in"), Param("y", float64, "inout"))
    return Kernel("strided", params, ("m", "n", "start"), (For("i", "m", body, "parallel"),))


KERNELS = {k.name: k for k in (softmax(), concatenate(), every_operator(), strided())}


@pytest.mark.parametrize("name", KERNELS)
def test_printed_and_rendered_forms(name):
    """Golden files hold the printed kernel, then its Python; UPDATE_GOLDEN=1 writes them anew."""
    check(KERNELS[name])
    text = f"{KERNELS[name]}\n{python.render(KERNELS[name])}"
    golden = GOLDEN / f"loops_{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_tracebacks_show_the_rendered_source():
    run = python.compile_python(softmax())
    with pytest.raises(IndexError) as error:
        run(np.zeros(3, float32), np.zeros(3, float32), np.zeros(3, float32), 2, 3)
    frame = traceback.extract_tb(error.tb)[-1]
    assert frame.line == "top = max(top, x[i*n + j])"
    assert linecache.getline(frame.filename, 1).startswith("def softmax(x, y, row, m, n):")


# ----------------------------------------------------------------------------------------------- references
@pytest.mark.parametrize(
    "name, arguments, expected",
    [
        ("div", (np.int8(-7), np.int8(2)), -3),
        ("div", (np.int8(-128), np.int8(-1)), -128),
        ("div", (np.int8(5), np.int8(0)), -1),
        ("div", (np.uint8(5), np.uint8(0)), 255),
        ("rem", (np.int8(-7), np.int8(2)), -1),
        ("rem", (np.int8(7), np.int8(0)), 7),
        ("rem", (np.float32(-7.5), np.float32(2)), -1.5),
        ("pow", (np.int8(3), np.int8(5)), -13),
        ("pow", (np.int8(-1), np.int8(-3)), -1),
        ("pow", (np.int8(2), np.int8(-1)), 0),
        ("shift_left", (np.int8(1), np.int8(8)), 0),
        ("shift_left", (np.uint8(200), np.uint8(1)), 144),
        ("shift_right_logical", (np.int8(-1), np.int8(4)), 15),
        ("shift_right_logical", (np.int8(-1), np.int8(-1)), 0),
        ("shift_right_arithmetic", (np.int8(-128), np.int8(9)), -1),
        ("shift_right_arithmetic", (np.uint8(128), np.uint8(1)), 192),
        ("clz", (np.int16(1),), 15),
        ("clz", (np.uint8(0),), 8),
        ("population_count", (np.int8(-1),), 8),
        ("round", (np.float32(2.5),), 2),
        ("round_away", (np.float32(2.5),), 3),
        ("round_away", (np.float32(0.49999997),), 0),
        ("sign", (np.float32(-3),), -1),
        ("clamp", (np.int32(0), np.int32(-4), np.int32(9)), 0),
        ("nextafter", (np.float32(0), np.float32(1)), 1e-45),
    ],
)
def test_references_at_their_corners(name, arguments, expected):
    result = SCALARS[name].reference(*arguments)
    assert result == type(arguments[0])(expected) and result.dtype == arguments[0].dtype


@pytest.mark.parametrize("name", ["max", "min", "clamp"])
def test_nan_propagates(name):
    nan, one = np.float32("nan"), np.float32(1)
    for position in range(SCALARS[name].arity):
        arguments = [one] * SCALARS[name].arity
        arguments[position] = nan
        assert np.isnan(SCALARS[name].reference(*arguments)), position


def test_zeros_are_ordered():
    zero, minus = np.float32(0.0), np.float32(-0.0)
    for a, b in ((zero, minus), (minus, zero)):
        assert not np.signbit(SCALARS["max"].reference(a, b))
        assert np.signbit(SCALARS["min"].reference(a, b))
    assert np.signbit(SCALARS["sign"].reference(minus))


def test_casts_saturate():
    cast = SCALARS["cast"].reference
    assert cast(np.float32(1e9), np.dtype("i1")) == 127 and cast(np.float32(-1e9), np.dtype("u1")) == 0
    assert cast(np.float64("inf"), np.dtype("u8")) == 2**64 - 1 and cast(np.float32("nan"), np.dtype("i4")) == 0
    assert cast(np.int32(300), np.dtype("u1")) == 44 and cast(np.float32("nan"), bool_)


def test_every_dtype_of_the_table_has_a_kind():
    assert len(DTYPES) == 13 and {d.name for d in DTYPES} >= {"bool", "bfloat16", "float16", "uint64"}
