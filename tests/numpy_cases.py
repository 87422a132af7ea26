"""Calls of funcgrad.numpy as data: (name, arguments, keyword arguments), shared by the tests of the namespace."""
# ruff: noqa: E501, SIM905

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_rng = np.random.default_rng(0)


class Call(NamedTuple):
    """One call of a function of the namespace."""

    name: str
    args: tuple
    options: dict[str, Any] = {}  # noqa: RUF012

    def __str__(self) -> str:
        shown = [
            f"{a.dtype.name}{list(a.shape)}" if isinstance(a, np.ndarray) else str(a).replace(" ", "")[:24]
            for a in self.args
        ]
        shown += [f"{k}={str(v)[:12]}" for k, v in self.options.items()]
        return f"{self.name}({','.join(shown)})".replace("\n", " ")


def data(dtype: Any, *shape: int, special: bool = True) -> np.ndarray:
    """Values of a dtype; floats with a NaN, an infinity and −0 among them."""
    dtype = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    if dtype.kind == "b":
        return _rng.random(shape) > 0.5
    if dtype.kind in "iu":
        return _rng.integers(0 if dtype.kind == "u" else -6, 7, shape).astype(dtype)
    values = np.asarray(_rng.standard_normal(shape) * 2)
    if dtype.kind == "c":
        return (values + 1j * _rng.standard_normal(shape)).astype(dtype)
    if special and values.size > 3:
        values.flat[1:4] = np.nan, np.inf, -0.0
    return values.astype(dtype)


def _normal(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape).astype(np.float32)


DTYPES = ("bool", "int8", "uint32", "float32", "bfloat16", "complex64")
UNARY = """negative absolute fabs sign square floor ceil trunc rint round exp exp2 expm1 log log1p log2 log10 sqrt cbrt
reciprocal sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh sinc deg2rad rad2deg isnan isinf isfinite
isposinf isneginf isreal iscomplex signbit nan_to_num angle positive modf frexp spacing real imag conj logical_not
bitwise_not bitwise_count""".split()
BINARY = """add subtract multiply divide floor_divide remainder fmod power float_power maximum minimum fmax fmin arctan2 hypot
logaddexp logaddexp2 nextafter copysign heaviside ldexp gcd lcm equal not_equal less less_equal greater greater_equal
logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor left_shift right_shift divmod""".split()
REDUCTIONS = """sum prod mean var std max min ptp any all count_nonzero argmax argmin nansum nanprod nanmean nanvar nanstd
nanmax nanmin nanargmax nanargmin cumsum cumprod nancumsum nancumprod average""".split()
SCALARS = (True, 3, -2, 0.5, 0.3 + 1j)
PAIRS = (("int8", "uint8"), ("bool", "float32"), ("int32", "float16"), ("bfloat16", "float16"), ("uint32", "int8"))


def unary_calls() -> list[Call]:
    """Every function of one operand, on every dtype and on Python scalars."""
    calls = [Call(n, (data(d, 6),)) for n in UNARY for d in DTYPES]
    return calls + [Call(n, (s,)) for n in UNARY for s in SCALARS]


def binary_calls() -> list[Call]:
    """Every function of two operands, on equal and mixed dtypes and with Python scalars."""
    same = [(d, d) for d in DTYPES if d != "complex64"]
    calls = [Call(n, (data(a, 6), data(b, 6))) for n in BINARY for a, b in (*same, *PAIRS)]
    calls += [
        Call(n, (data(d, 6), s))
        for n in BINARY
        for d, s in (("int8", 3), ("float16", -2), ("uint8", 3), ("int32", 0.5))
    ]
    calls += [Call(n, (s, data(d, 6))) for n in BINARY for d, s in (("float32", 2), ("uint32", 1.5), ("bool", 3))]
    return calls + [Call(n, (data("float32", 2, 1), data("float32", 3, special=False))) for n in BINARY]


def reduction_calls() -> list[Call]:
    """Every reduction on every dtype, with axes, masks, initial values and dtypes."""
    calls = []
    for name, dtype in itertools.product(REDUCTIONS, ("bool", "int8", "float32", "bfloat16", "complex64")):
        a = data(dtype, 3, 4)
        calls += [Call(name, (a,)), Call(name, (a,), {"axis": -1})]
        if name in ("sum", "prod", "mean", "var", "max", "any", "nansum"):
            where = {"where": _rng.random((3, 4)) > 0.3} | ({"initial": 1} if name == "max" else {})
            calls += [
                Call(name, (a,), {"axis": (0, 1), "keepdims": True}),
                Call(name, (a,), {"axis": ()}),
                Call(name, (a,), where),
            ]
    calls += [Call(n, (s,)) for n in REDUCTIONS for s in (3, -2.5)]
    calls += [Call(n, (np.zeros((0, 3), np.float32),), {"axis": 0}) for n in REDUCTIONS]
    calls += [Call(n, (np.zeros((2, 3), np.float32),), {"axis": 2}) for n in REDUCTIONS]
    calls += [
        Call(n, (data("int32", 3, 4),), {"axis": 0, "dtype": "float32"})
        for n in ("sum", "prod", "mean", "var", "cumsum")
    ]
    calls += [Call(n, (data("float32", 3, 4),), {"axis": 0, "ddof": 1}) for n in ("var", "std", "nanvar")]
    calls += [
        Call(n, (data("int8", 3, 4),), {"axis": 1, "include_initial": True})
        for n in ("cumulative_sum", "cumulative_prod")
    ]
    return calls


x = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
i = np.arange(6, dtype=np.int32)
m = np.arange(9.0, dtype=np.float32).reshape(3, 3)
_PADS = [
    Call("pad", (a, w, mode))
    for mode in "constant edge reflect symmetric wrap linear_ramp maximum minimum mean".split()
    for a in (i, m, np.arange(2.0, dtype=np.float32))
    for w in ((1, (2, 1), 3) if a.ndim == 1 else (1, ((1, 0), (2, 1)), (4, 3)))
]
SHAPING = [
    ("reshape", (x, (4, -1))),
    ("reshape", (x, -1)),
    ("reshape", (x, (5, -1))),
    ("reshape", (x, (3, 8)), {"order": "F"}),
    ("ravel", (x,)),
    ("ravel", (x,), {"order": "F"}),
    ("transpose", (x,)),
    ("transpose", (x, (1, 0, 2))),
    ("swapaxes", (x, 0, -1)),
    ("moveaxis", (x, 0, -1)),
    ("moveaxis", (x, (0, 1), (2, 0))),
    ("rollaxis", (x, 2)),
    ("rollaxis", (x, 0, 3)),
    ("squeeze", (x[:1],)),
    ("squeeze", (x[:1], 0)),
    ("squeeze", (x, 0)),
    ("expand_dims", (x, 0)),
    ("expand_dims", (x, (0, -1))),
    ("broadcast_to", (i, (2, 6))),
    ("broadcast_to", (i, (6, 2))),
    ("broadcast_arrays", (x, x[0])),
    ("broadcast_shapes", ((2, 1), (3,))),
    ("concatenate", ([x, x],)),
    ("concatenate", ([x, x],), {"axis": -1}),
    ("concatenate", ([x, x],), {"axis": None}),
    ("concatenate", ([i, m[0]],)),
    ("concatenate", ([i, m],)),
    ("concatenate", ([],)),
    ("stack", ([i, i],)),
    ("stack", ([i, i],), {"axis": 1}),
    ("stack", ([i, m[0]],)),
    ("hstack", ([i, i],)),
    ("vstack", ([i, i],)),
    ("dstack", ([i, i],)),
    ("column_stack", ([i, i],)),
    ("hstack", ([m, m],)),
    ("block", ([[m, m], [m, m]],)),
    ("block", ([1, 2, 3],)),
    ("split", (x, 3), {"axis": 1}),
    ("split", (i, [1, 4])),
    ("split", (i, 4)),
    ("array_split", (i, 4)),
    ("hsplit", (m, 3)),
    ("vsplit", (m, 3)),
    ("dsplit", (x, 2)),
    ("tile", (i, 2)),
    ("tile", (m, (2, 1))),
    ("tile", (m, (2, 1, 2))),
    ("repeat", (m, 2)),
    ("repeat", (m, 2), {"axis": 0}),
    ("repeat", (m, np.array([1, 0, 2])), {"axis": 1}),
    ("repeat", (i, np.array([1, 0, 2, 1, 1, 1])), {"total_repeat_length": 4}),
    ("repeat", (i, np.array([1, 0, 2, 1, 1, 1])), {"total_repeat_length": 9}),
    ("roll", (i, 2)),
    ("roll", (m, 1)),
    ("roll", (m, (1, 2), (0, 1))),
    ("roll", (m, -1, 1)),
    ("rot90", (m,)),
    ("rot90", (m, 2)),
    ("rot90", (m, -1)),
    ("flip", (x,)),
    ("flip", (x, 1)),
    ("fliplr", (m,)),
    ("flipud", (m,)),
    ("append", (i, i)),
    ("append", (m, m), {"axis": 1}),
    ("atleast_1d", (3.0,)),
    ("atleast_2d", (i,)),
    ("atleast_3d", (i,)),
    ("atleast_3d", (m,)),
    ("resize", (i, (2, 4))),
    ("trim_zeros", (np.array([0, 0, 1, 2, 0]),)),
    ("unstack", (m,)),
    ("permute_dims", (x, (2, 0, 1))),
    ("matrix_transpose", (x,)),
    ("matrix_transpose", (i,)),
    ("array", ([1, 2],)),
    ("array", (1,)),
    ("array", (True,)),
    ("array", ([1.0, 2],)),
    ("array", ([[1, 2], [3]],)),
    ("array", (300, "uint8")),
    ("array", ([300], "uint8")),
    ("array", (2**40,)),
    ("array", ([2**40],)),
    ("array", ("s",)),
    ("array", (None,)),
    ("array", (1.5, "int32")),
    ("array", ([1.5], "int32")),
    ("array", (1j,)),
    ("array", (np.float64(1),)),
    ("array", (np.arange(3),)),
    ("array", (-1, "uint8")),
    ("array", (i,), {"ndmin": 3}),
    ("asarray", (1.0,)),
    ("asarray", ([],)),
    ("asarray", (i, "float16")),
    ("asarray", (np.float16(2),)),
    ("zeros", (3,)),
    ("zeros", ((2, 3), "int8")),
    ("ones", ((),)),
    ("full", ((2,), 1)),
    ("full", ((2,), 1.5)),
    ("full", ((2,), 1, "float16")),
    ("full", ((2, 3), i[:3])),
    ("full", (2, True)),
    ("zeros_like", (i,)),
    ("ones_like", (1.0,)),
    ("full_like", (m, 3)),
    ("full_like", (i, 3.7)),
    ("zeros_like", (i,), {"dtype": "float32", "shape": (2,)}),
    ("zeros", (-1,)),
    ("zeros", (2.5,)),
    ("empty", (2,)),
    ("eye", (3,)),
    ("eye", (3, 4, 1)),
    ("eye", (3,), {"k": -1, "dtype": "int32"}),
    ("identity", (2,)),
    ("arange", (5,)),
    ("arange", (2, 5)),
    ("arange", (5, 2, -1)),
    ("arange", (0.0, 1.0, 0.25)),
    ("arange", (0, 1, 0.1)),
    ("arange", (5,), {"dtype": "float32"}),
    ("arange", (5.0,)),
    ("arange", (2, 2)),
    ("arange", (1, 5, 0)),
    ("arange", (1, 10, 3), {"dtype": "float16"}),
    ("arange", (np.int8(5),)),
    ("arange", (True,)),
    ("linspace", (0, 1, 5)),
    ("linspace", (0, 1, 5), {"endpoint": False}),
    ("linspace", (0, 10, 5), {"dtype": "int32"}),
    ("linspace", (0, 1, 1)),
    ("linspace", (0, 1, 0)),
    ("linspace", (i[:3], m[0], 4)),
    ("linspace", (i[:3], m[0], 4), {"axis": 1}),
    ("linspace", (0, 1, 5), {"retstep": True}),
    ("linspace", (0, 1j, 3)),
    ("logspace", (0, 2, 3)),
    ("logspace", (0, 2, 3), {"base": 2}),
    ("geomspace", (1, 1000, 4)),
    ("geomspace", (1, 1000, 4), {"endpoint": False}),
    ("meshgrid", (i[:2], i[:3])),
    ("meshgrid", (i[:2], i[:3]), {"indexing": "ij", "sparse": True}),
    ("tri", (3,)),
    ("tri", (3, 4, 1)),
    ("tril", (m,)),
    ("tril", (x, 1)),
    ("triu", (m, -1)),
    ("triu", (i,)),
    ("diag", (i,)),
    ("diag", (i, 1)),
    ("diag", (i, -2)),
    ("diag", (m,)),
    ("diag", (m, 1)),
    ("diag", (m, -1)),
    ("diag", (m, 5)),
    ("diagonal", (x,)),
    ("diagonal", (x,), {"axis1": 1, "axis2": 2, "offset": 1}),
    ("diagflat", (m[:2, :2],)),
    ("vander", (i,)),
    ("vander", (m[0], 2)),
    ("vander", (i, 3), {"increasing": True}),
    ("where", (i > 2, i, 0)),
    ("where", (i > 2, 1.0, m[:2].reshape(-1))),
    ("clip", (i, 1, 3)),
    ("clip", (m, None, 2)),
    ("clip", (m, 1.5)),
    ("clip", (i, 1.5, 3)),
    ("round", (m * 1.234, 1)),
    ("round", (i * 17, -1)),
    ("round", (-2.5,)),
    ("packbits", (np.array([1, 0, 1, 1, 0, 0, 0, 1, 1]),)),
    ("unpackbits", (np.array([5, 200], "uint8"),)),
    ("unpackbits", (np.array([5, 200], "uint8"),), {"count": 11, "bitorder": "little"}),
    ("promote_types", ("int8", "uint8")),
    ("result_type", ("int8", 1.0)),
    ("result_type", (np.float64,)),
    ("can_cast", ("int8", "int32")),
    ("issubdtype", ("bfloat16", np.floating)),
    ("isdtype", ("int8", "integral")),
    ("ndim", (m,)),
    ("size", (m,)),
    ("shape", (m,)),
    ("isscalar", (3,)),
    ("iterable", ([],)),
    ("iscomplexobj", (m,)),
    ("isrealobj", (m,)),
]

i = np.array([3, 1, 2, 3, 0, 7], np.int32)
x, m, f = _normal(6), _normal(3, 4), _normal
NUMERICAL = [
    ("isclose", (x, x + 1e-09)),
    ("isclose", (data("float32", 6), data("float32", 6))),
    ("isclose", (x, x), {"equal_nan": True}),
    ("allclose", (i, i)),
    ("array_equal", (i, i)),
    ("array_equal", (i, m)),
    ("array_equiv", (m, m[:1])),
    ("array_equiv", (np.ones((2, 3)), 1)),
    ("isin", (i, np.array([1, 3]))),
    ("isin", (i, np.arange(2, 30))),
    ("isin", (i, np.array([1])), {"invert": True}),
    ("union1d", (i, np.array([9, 1]))),
    ("union1d", (i, np.array([9, 1])), {"size": 8}),
    ("setdiff1d", (i, np.array([3, 1]))),
    ("setdiff1d", (i, np.array([3, 1])), {"size": 5}),
    ("setxor1d", (i, np.array([3, 9]))),
    ("setxor1d", (i, np.array([3, 9])), {"size": 7}),
    ("intersect1d", (i, np.array([3, 0, 5]))),
    ("intersect1d", (i, np.array([3, 0, 5])), {"return_indices": True}),
    ("intersect1d", (i, np.array([3, 0, 5])), {"size": 4}),
    ("diff", (x,)),
    ("diff", (m,), {"axis": 0, "n": 2}),
    ("diff", (i,), {"prepend": 0, "append": 9}),
    ("diff", (i > 1,)),
    ("ediff1d", (i,)),
    ("ediff1d", (i,), {"to_end": np.array([1]), "to_begin": 2}),
    ("gradient", (x,)),
    ("gradient", (m,)),
    ("gradient", (m, 2.0), {"axis": 1}),
    ("gradient", (x, np.cumsum(np.abs(x)))),
    ("trapezoid", (x,)),
    ("trapezoid", (m,), {"dx": 0.5, "axis": 0}),
    ("trapezoid", (x, np.arange(6.0, dtype="f4"))),
    ("unwrap", (np.cumsum(f(20)).astype("f4") % 6.2,)),
    ("unwrap", (i,), {"period": 4}),
    ("interp", (x, np.arange(4.0, dtype="f4") - 2, f(4))),
    ("interp", (x, np.arange(4.0, dtype="f4") - 2, f(4)), {"left": 0, "right": 9.0}),
    ("interp", (x * 3, np.arange(4.0, dtype="f4"), f(4)), {"period": 4.0}),
    ("interp", (0.5, np.array([0, 1]), np.array([3, 4]))),
    ("hanning", (5,)),
    ("hamming", (6,)),
    ("blackman", (7,)),
    ("bartlett", (6,)),
    ("kaiser", (6, 5.0)),
    ("kaiser", (1, 5.0)),
    ("hanning", (0,)),
    ("i0", (x,)),
    ("i0", (2,)),
    ("cov", (m,)),
    ("cov", (m,), {"rowvar": False}),
    ("cov", (x, x[::-1])),
    ("cov", (m,), {"bias": True, "fweights": np.array([1, 2, 1, 3])}),
    ("cov", (m,), {"aweights": np.array([1, 2, 1, 3.0])}),
    ("cov", (x,)),
    ("corrcoef", (m,)),
    ("corrcoef", (x, f(6))),
    ("bincount", (i,)),
    ("bincount", (i, x)),
    ("bincount", (i,), {"minlength": 10}),
    ("bincount", (i,), {"length": 3}),
    ("bincount", (m,)),
    ("histogram", (x,)),
    ("histogram", (x, 4), {"range": (-1, 1)}),
    ("histogram", (x, np.array([-1.0, 0, 0.5, 2], "f4")), {"density": True}),
    ("histogram", (i, 3), {"weights": x}),
    ("histogram_bin_edges", (x, 5)),
    ("histogram_bin_edges", (np.ones(3, "f4"), 2)),
    ("histogram2d", (x, f(6), 3)),
    ("histogramdd", (f(5, 2), (2, 3))),
    ("polyval", (np.array([1, 2, 3]), x)),
    ("polyval", (f(3), 2.0)),
    ("polyadd", (np.array([1, 2]), np.array([1, 2, 3]))),
    ("polysub", (np.array([1, 2]), np.array([1, 2, 3]))),
    ("polymul", (np.array([1, 2]), np.array([1, 2, 3]))),
    ("polydiv", (f(5), f(3))),
    ("polyder", (f(4),)),
    ("polyder", (f(4), 2)),
    ("polyint", (f(3),)),
    ("polyint", (f(3), 2), {"k": 3}),
    ("poly", (f(3),)),
    ("cross", (f(2, 3), f(2, 3))),
    ("cross", (f(2), f(2))),
    ("cross", (f(3, 2), f(3, 2)), {"axis": 0}),
    ("cross", (f(4), f(4))),
]
_SIZES = ((5, 3), (3, 5), (4, 4), (6, 2), (2, 6), (5, 4), (4, 5), (1, 3))
_CONVOLUTIONS = [
    Call(name, (_normal(n), _normal(k), mode))
    for name in ("convolve", "correlate")
    for n, k in _SIZES
    for mode in ("full", "same", "valid")
]


def other_calls() -> list[Call]:
    """Creation, shape manipulation, padding, comparisons, sets, statistics, signals, polynomials."""
    return [Call(*c) for c in (*SHAPING, *NUMERICAL)] + _PADS + _CONVOLUTIONS
