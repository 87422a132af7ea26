"""Every math function, compiled in a loop as kernels use it, against references of higher precision."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import numpy as np
import pytest
import scipy.special
from llvmlite import ir

from funcgrad.compiler.targets.llvm import kernels, toolchain, vector_math
from funcgrad.compiler.targets.llvm.vector_math import registry
from funcgrad.compiler.targets.llvm.vector_math.special import GILES_CENTER, GILES_TAIL
from funcgrad.errors import ArgumentError, DTypeError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

TYPES = {np.float32: ir.FloatType(), np.float64: ir.DoubleType()}
POINTS_PER_EXPONENT = {np.float32: 2048, np.float64: 64}


class Kernel(NamedTuple):
    """A compiled loop ``out[i] = f(*arguments[i])``."""

    library: toolchain.Library
    function: Callable

    def __call__(self, *arguments: np.ndarray) -> np.ndarray:
        arguments = [np.ascontiguousarray(a) for a in arguments]
        out = np.empty_like(arguments[0])
        self.function(*(a.ctypes.data for a in (*arguments, out)), out.size)
        return out


def loop_text(name: str, dtype: type, in_series: bool = False) -> str:
    """LLVM IR of the loop, with the pointers marked as generated kernels mark them."""
    module, element, index = ir.Module(), TYPES[dtype], ir.IntType(64)
    scalar = vector_math.define(module, name, element, in_series)
    pointers = [ir.PointerType()] * (vector_math.arity(name) + 1)
    loop = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, index]), "kernel")
    for pointer in loop.args[:-1]:
        pointer.add_attribute("noalias")
    *sources, target, count = loop.args
    entry, body, done = (loop.append_basic_block(label) for label in ("entry", "body", "done"))
    ir.IRBuilder(entry).branch(body)
    b = ir.IRBuilder(body)
    i = b.phi(index)
    i.add_incoming(index(0), entry)
    values = [b.load(b.gep(source, [i], source_etype=element), typ=element) for source in sources]
    call = b.call(scalar, values)
    b.store(call, b.gep(target, [i], source_etype=element))
    if registry.loops(name):
        vector_math.share([call], toolchain.vector_bytes(), np.dtype(dtype).itemsize)
    following = b.add(i, index(1))
    i.add_incoming(following, body)
    b.cbranch(b.icmp_signed("<", following, count), body, done)
    ir.IRBuilder(done).ret_void()
    return str(module)


@functools.cache
def compiled(name: str, dtype: type, in_series: bool = False) -> Kernel:
    library = kernels.linked(toolchain.compile_ir(loop_text(name, dtype, in_series)), "kernel")
    signature = [ctypes.c_void_p] * (vector_math.arity(name) + 1)
    return Kernel(library, ctypes.CFUNCTYPE(None, *signature, ctypes.c_int64)(library.address("kernel")))


def ulp_error(actual: np.ndarray, expected: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """|actual - expected| in units in the last place of ``scale``, by default of ``expected``, a wider type.

    Values that overflow count as 2^(largest exponent + 1); a NaN on one side only is an infinite error.
    """
    facts, wide = np.finfo(actual.dtype), expected.dtype.type
    top = np.ldexp(wide(1), facts.maxexp)
    a, e = np.clip(actual.astype(wide), -top, top), np.clip(expected, -top, top)
    size = np.abs(e) if scale is None else np.abs(scale)
    exponent = np.frexp(np.minimum(size, wide(facts.max)))[1] - 1
    unit = np.ldexp(wide(1), np.maximum(exponent, facts.minexp) - facts.nmant)
    error = np.abs(a - e) / unit
    return np.where(np.isnan(a) & np.isnan(e), 0.0, np.where(np.isnan(a) != np.isnan(e), np.inf, error))


def assert_within(name: str, dtype: type, actual, expected, points, scale=None, bound=None) -> None:
    """Fail with the worst point when an error exceeds the function's bound."""
    bound = vector_math.ULP_BOUNDS[name][dtype is np.float64] if bound is None else bound
    error = ulp_error(actual, expected, scale)
    worst = int(np.argmax(error))
    where = ", ".join(repr(p[worst]) for p in points)
    assert error[worst] <= bound, (
        f"{name}({where}) = {actual[worst]!r}, not {expected[worst]!r}: {error[worst]:.3f} ULP, bound {bound}"
    )


def every_exponent(dtype: type, seed: int) -> np.ndarray:
    """Numbers of both signs and of every exponent, zeros, subnormals, infinities and NaN among them."""
    facts = np.finfo(dtype)
    count = POINTS_PER_EXPONENT[dtype]
    bits = np.uint32 if dtype is np.float32 else np.uint64
    mantissas = np.random.default_rng(seed).integers(0, 1 << facts.nmant, (1 << (facts.iexp + 1), count), bits)
    mantissas[:, :3] = 0, 1, (1 << facts.nmant) - 1
    exponents = np.arange(1 << (facts.iexp + 1), dtype=bits)[:, None] << bits(facts.nmant)
    return (exponents | mantissas).ravel().view(dtype)


def ordinary(dtype: type, seed: int) -> np.ndarray:
    """Numbers where functions do their work: [-1, 1], around ±1, the bell curve, the range of exp."""
    rng = np.random.default_rng(seed)
    count = 1 << (18 if dtype is np.float32 else 15)
    wide = 110 if dtype is np.float32 else 760
    pieces = [
        rng.uniform(-1, 1, count),
        rng.normal(0, 3, count),
        rng.uniform(-wide, wide, count),
        rng.normal(0, 0.01, count) + rng.choice([-1, 1], count),
    ]
    return np.concatenate(pieces).astype(dtype)


def logistic(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def at_gamma_pole(x: np.ndarray) -> np.ndarray:
    return (x <= 0) & (x == np.floor(x))


def lgamma(x: np.ndarray) -> np.ndarray:
    """scipy's, which is infinite for subnormal x, with the limits that its reflection misses."""
    value = np.where(np.abs(x) < 1e-20, -np.log(np.abs(x)), scipy.special.gammaln(x))
    return np.where(np.isinf(x) | at_gamma_pole(x), np.inf, value)


def erf_inv(x: np.ndarray) -> np.ndarray:
    """scipy's, which loses the sign of zero."""
    return np.copysign(scipy.special.erfinv(x), x)


def digamma(x: np.ndarray) -> np.ndarray:
    return np.where(at_gamma_pole(x), np.nan, scipy.special.digamma(x))


# Each is evaluated in float64 for float32, and in long double for float64.
UNARY = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log1p": np.log1p,
    "logistic": logistic,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
}
# scipy evaluates these in float64 only: enough to judge float32; mpmath judges float64.
SPECIAL = {
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "erf_inv": erf_inv,
    "lgamma": lgamma,
    "digamma": digamma,
}
BINARY = {"pow": np.power, "atan2": np.arctan2}


@pytest.mark.parametrize("name", [*UNARY, *SPECIAL])
def test_float32_is_within_its_bound(name):
    x = np.concatenate([every_exponent(np.float32, 1), ordinary(np.float32, 2)])
    expected = (UNARY | SPECIAL)[name](x.astype(np.float64))
    assert_within(name, np.float32, compiled(name, np.float32)(x), expected, [x])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than float64 here")
@pytest.mark.parametrize("name", UNARY)
def test_float64_is_within_its_bound(name):
    x = np.concatenate([every_exponent(np.float64, 3), ordinary(np.float64, 4)])
    if name in ("sin", "cos", "tan"):  # long double reduces by 66 bits of pi: see the test of huge arguments
        x = x[np.abs(x) <= 2.0**48]
    expected = UNARY[name](x.astype(np.longdouble))
    assert_within(name, np.float64, compiled(name, np.float64)(x), expected, [x])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than float64 here")
@pytest.mark.parametrize("dtype, wide", [(np.float32, np.float64), (np.float64, np.longdouble)])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_shortcuts_of_loops_in_series_are_within_the_bounds(name, dtype, wide):
    x = np.concatenate([every_exponent(dtype, 11)[::4], ordinary(dtype, 12)])
    actual, usual = compiled(name, dtype, in_series=True)(x), compiled(name, dtype)(x)
    np.testing.assert_array_equal(np.signbit(actual[x == 0]), np.signbit(usual[x == 0]))
    far = np.abs(x) > 2.0**48
    np.testing.assert_array_equal(actual[far], usual[far])
    assert_within(name, dtype, actual[~far], UNARY[name](x[~far].astype(wide)), [x[~far]])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than float64 here")
@pytest.mark.parametrize("dtype, wide", [(np.float32, np.float64), (np.float64, np.longdouble)])
@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_are_within_their_bounds(name, dtype, wide):
    rng = np.random.default_rng(5)
    x = np.concatenate([every_exponent(dtype, 6)[::4], ordinary(dtype, 7)])
    y = np.concatenate([rng.permutation(every_exponent(dtype, 8)[::4]), rng.permutation(ordinary(dtype, 9))])
    for first in (x, np.abs(x)):
        expected = BINARY[name](first.astype(wide), y.astype(wide))
        assert_within(name, dtype, compiled(name, dtype)(first, y), expected, [first, y])


@pytest.mark.parametrize("dtype", TYPES)
def test_pow_near_one_raised_to_large_powers(dtype):
    """Where the error of the logarithm is multiplied most."""
    rng = np.random.default_rng(10)
    x = (1 + rng.normal(0, 1e-3, 50_000)).astype(dtype)
    limit = 80 if dtype is np.float32 else 700
    y = (rng.uniform(-limit, limit, x.size) / np.log(x.astype(np.float64))).astype(dtype)
    expected = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    assert_within("pow", dtype, compiled("pow", dtype)(x, y), expected, [x, y])


def spread(rng, low: float, high: float, count: int) -> np.ndarray:
    """Numbers of every magnitude between 10^low and 10^high."""
    return 10.0 ** rng.uniform(low, high, count)


def special_points(name: str, count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(11)
    ranges = {
        "erf": [rng.uniform(-6, 6, count), spread(rng, -307, 0, 50)],
        "erfc": [rng.uniform(-3, 27.2, count), rng.uniform(26, 27.2, 50)],
        "erf_inv": [rng.uniform(-1, 1, count), 1 - spread(rng, -15.9, 0, count), spread(rng, -307, 0, 20)],
        "lgamma": [rng.uniform(-9, 12, count), spread(rng, -300, 300, 50), rng.normal(1.5, 0.4, count)],
        "digamma": [rng.uniform(-9, 12, count), spread(rng, -300, 300, 50), rng.normal(1.46, 0.01, 50)],
    }
    return np.concatenate(ranges[name])


def mp_erf_inv(x: mpmath.mpf) -> mpmath.mpf:
    """Newton's iteration on erfc, which keeps its precision where mpmath.erfinv needs many more digits."""
    y = mpmath.mpf(float(scipy.special.erfinv(float(x))))
    for _ in range(3):
        y += (mpmath.erfc(y) - (1 - x)) * mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(y * y)
    return y


def mp_lgamma(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.re(mpmath.loggamma(x))


MP = {
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "erf_inv": mp_erf_inv,
    "lgamma": mp_lgamma,
    "digamma": mpmath.digamma,
}


@pytest.mark.parametrize("name", MP)
def test_float64_special_functions_are_within_their_bounds(name):
    """Below 0 the gamma functions cancel: there the ULP of the terms counts, as their docstrings say."""
    x = special_points(name)
    with mpmath.workprec(120):
        values = [MP[name](mpmath.mpf(float(v))) for v in x]
        expected = np.array([float(v) for v in values])
        rest = np.array([float(v - mpmath.mpf(e)) for v, e in zip(values, expected, strict=True)])
        terms = np.maximum(np.abs(expected), 1.0)
        if name == "digamma":
            terms = np.maximum(terms, scipy.special.digamma(1 - np.minimum(x, 0)))
    scale = np.where(x < 0, terms, expected) if name in ("lgamma", "digamma") else expected
    actual = compiled(name, np.float64)(x)
    # actual - expected is exact for neighbors, so the error keeps the digits that float64 cannot hold.
    assert_within(name, np.float64, actual - expected, rest, [x], scale)


def test_float32_erf_inv_follows_giles():
    """Within a few ULP of the published formula with x·x rounded to float32, which is what JAX evaluates."""
    x = np.concatenate([ordinary(np.float32, 12), 1 - np.arange(1, 100_000, dtype=np.float32) * 2.0**-24])
    x = x[np.abs(x) < 1]
    w = -np.log1p(-(x * x).astype(np.float64))
    center = np.polynomial.polynomial.polyval(w - 2.5, GILES_CENTER)
    tail = np.polynomial.polynomial.polyval(np.sqrt(w) - 3, GILES_TAIL)
    expected = np.where(w < 5, center, tail) * x
    assert_within("erf_inv", np.float32, compiled("erf_inv", np.float32)(x), expected, [x], bound=4)


def edge_values(dtype: type) -> np.ndarray:
    facts = np.finfo(dtype)
    positive = [0, facts.smallest_subnormal, facts.tiny, 0.5, 1, 1.5, 2, 3, 2.0**40, facts.max, np.inf]
    return np.array([*positive, *(-np.array(positive)), np.nan], dtype)


def assert_same_limits(name: str, actual: np.ndarray, expected: np.ndarray, points: list[np.ndarray]) -> None:
    """NaN, infinities and zeros, with their signs, stand in the same places."""
    for property in (
        np.isnan,
        np.isposinf,
        np.isneginf,
        lambda v: v == 0,
        lambda v: (v == 0) & np.signbit(v),
    ):
        differs = property(actual) != property(expected)
        i = int(np.argmax(differs))
        where = ", ".join(repr(p[i]) for p in points)
        assert not differs.any(), f"{name}({where}) = {actual[i]!r}, expected {expected[i]!r}"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", [*UNARY, *SPECIAL])
def test_limits_of_unary_functions(name, dtype):
    x = edge_values(dtype)
    expected = (UNARY | SPECIAL)[name](x.astype(np.float64)).astype(dtype)
    assert_same_limits(name, compiled(name, dtype)(x), expected, [x])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", BINARY)
def test_limits_of_binary_functions(name, dtype):
    x, y = (v.ravel() for v in np.meshgrid(edge_values(dtype), edge_values(dtype)))
    assert_same_limits(name, compiled(name, dtype)(x, y), BINARY[name](x, y), [x, y])


EXACT = [
    ("exp", 0.0, 1.0),
    ("exp", -0.0, 1.0),
    ("exp2", 10.0, 1024.0),
    ("exp2", -20.0, 2.0**-20),
    ("log", 1.0, 0.0),
    ("log2", 8.0, 3.0),
    ("log2", 2.0**-30, -30.0),
    ("logistic", 0.0, 0.5),
    ("logistic", np.inf, 1.0),
    ("cbrt", 27.0, 3.0),
    ("cbrt", -0.125, -0.5),
    ("cos", 0.0, 1.0),
    ("cos", 1e-5, 1.0 - 0.5e-10),
    ("acos", 1.0, 0.0),
    ("cosh", 0.0, 1.0),
    ("acosh", 1.0, 0.0),
    ("tanh", 50.0, 1.0),
    ("tanh", -np.inf, -1.0),
    ("erf", 30.0, 1.0),
    ("erfc", 0.0, 1.0),
    ("erfc", -np.inf, 2.0),
    ("lgamma", 1.0, 0.0),
    ("lgamma", 2.0, 0.0),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name, x, expected", EXACT)
def test_exact_values(name, x, expected, dtype):
    assert compiled(name, dtype)(np.array([x], dtype))[0] == dtype(expected)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_float64_trigonometry_at_huge_arguments(name):
    """Every exponent from 2^40, the numbers closest to multiples of pi/2, and ordinary ones in the same vectors."""
    rng = np.random.default_rng(14)
    x = rng.uniform(1, 2, 984) * 2.0 ** np.arange(40, 1024) * rng.choice([-1, 1], 984)
    closest = [6381956970095103 * 2.0**797, 6411027962775774 * 2.0**-48, 5319372648326541 * 2.0**255]
    x = rng.permutation(np.concatenate([x, closest, np.negative(closest), rng.normal(0, 3, 300)]))
    with mpmath.workprec(1300):
        values = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]
        expected = np.array([float(v) for v in values])
        rest = np.array([float(v - mpmath.mpf(e)) for v, e in zip(values, expected, strict=True)])
    actual = compiled(name, np.float64)(x)
    assert_within(name, np.float64, actual - expected, rest, [x], expected)
    one_by_one = np.concatenate([compiled(name, np.float64)(x[i : i + 1]) for i in range(0, x.size, 50)])
    np.testing.assert_array_equal(actual[::50], one_by_one)


def test_float32_trigonometry_at_huge_arguments():
    """The float32 numbers closest to multiples of pi/2 in every binade, where reduction loses most."""
    hard = []
    for exponent in range(1, 104):
        grid = np.arange(1 << 23, 1 << 24, 4097, dtype=np.int64)
        x = np.ldexp(grid.astype(np.float64), exponent)
        distance = np.abs(np.sin(2 * x))
        hard.append(x[np.argsort(distance)[:20]])
    x = np.concatenate(hard).astype(np.float32)
    for name in ("sin", "cos", "tan"):
        assert_within(name, np.float32, compiled(name, np.float32)(x), UNARY[name](x.astype(np.float64)), [x])


@pytest.mark.parametrize("name", ["exp", "log", "sin", "tanh", "erf"])
def test_results_do_not_depend_on_the_position_in_the_array(name):
    """The vector body and the scalar remainder of the loop are the same arithmetic."""
    x = ordinary(np.float32, 13)[:1000]
    kernel = compiled(name, np.float32)
    one_by_one = np.concatenate([kernel(x[i : i + 1]) for i in range(x.size)])
    np.testing.assert_array_equal(kernel(x), one_by_one)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", vector_math.names())
def test_loops_vectorize_without_calls(name, dtype):
    """Packed arithmetic and no call but for far arguments, in the mnemonics of x86 and AArch64."""
    text = toolchain.assembly(loop_text(name, dtype))
    instructions = [line.split() for line in text.splitlines() if line.startswith("\t") and line[1] != "."]
    calls = [i for i in instructions if i[0] in ("call", "callq", "bl", "blr")]
    assert bool(calls) == (registry.loops(name) or registry.far(name, TYPES[dtype]) is not None)
    x86, arm = ("ps", "pd"), (".4s", ".2d")
    packed = [i for i in instructions if i[0].endswith(x86) or any(a in operand for a in arm for operand in i[1:])]
    wanted = 3 if name == "rsqrt" else 10
    assert len(packed) >= wanted, f"{name}: {len(packed)} packed instructions"


def test_define_returns_the_same_function_for_the_same_module():
    module = ir.Module()
    first = vector_math.define(module, "exp", ir.FloatType())
    assert vector_math.define(module, "exp", ir.FloatType()) is first
    assert first.name == "fg.exp.f32"
    assert vector_math.define(module, "exp", ir.DoubleType()) is not first
    assert vector_math.define(ir.Module(), "exp", ir.FloatType()) is not first


def test_define_names_missing_functions():
    with pytest.raises(ArgumentError, match="no function named 'sinc'"):
        vector_math.define(ir.Module(), "sinc", ir.FloatType())
    with pytest.raises(DTypeError, match="exp: there is no implementation for LLVM type half"):
        vector_math.define(ir.Module(), "exp", ir.HalfType())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*UNARY, *SPECIAL])
def test_every_float32(name):
    """All 2^32 arguments."""
    kernel, reference = compiled(name, np.float32), (UNARY | SPECIAL)[name]
    chunk = np.arange(1 << 22, dtype=np.uint32)
    for start in range(0, 1 << 32, chunk.size):
        x = (chunk + np.uint32(start)).view(np.float32)
        assert_within(name, np.float32, kernel(x), reference(x.astype(np.float64)), [x])
