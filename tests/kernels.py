"""Loop kernels that several tests share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
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
)
from funcgrad.compiler.loops.scalars import SCALARS, kind
from funcgrad.dtypes import bool_, float32, int32, int64, is_float

Case = tuple[Kernel, list[np.ndarray], list[int]]  # a kernel, its arrays (results last), its sizes


def elementwise(name: str, expr: Expr, params: list[Param]) -> Kernel:
    """Return the kernel y[i] = expr, whose parameters are loaded at i."""
    body = For("i", "n", (Store("y", at("i"), expr),), "parallel")
    return Kernel(name, (*params, Param("y", expr.dtype, "out")), ("n",), (body,))


def loads(*dtypes: np.dtype) -> tuple[list[Param], list[Load]]:
    """Return inputs x0, x1, … of these dtypes, and their loads at i."""
    names = [f"x{k}" for k in range(len(dtypes))]
    pairs = list(zip(names, dtypes, strict=True))
    return [Param(n, d, "in") for n, d in pairs], [Load(n, at("i"), d) for n, d in pairs]


def row_reduction(name: str, update: str, start: float, dtype: np.dtype = float32) -> Kernel:
    """Return the kernel y[i] = reduction of x[i, :]."""
    inner = For("j", "n", (Update("acc", update, Load("x", at(("i", "n"), "j"), dtype)),), "vector")
    body = (Init("acc", Const(start, dtype)), inner, Store("y", at("i"), Name("acc", dtype)))
    params = (Param("x", dtype, "in"), Param("y", dtype, "out"))
    return Kernel(f"rows_{name}", params, ("m", "n"), (For("i", "m", body, "parallel"),))


def softmax() -> Kernel:
    """Return a softmax over rows that keeps each row's exponentials in scratch."""
    x = Load("x", at(("i", "n"), "j"), float32)
    shifted = op("sub", Load("x", at(("i", "n"), "k"), float32), Name("top", float32))
    value, scale = Name("value", float32), Name("scale", float32)
    exponentials = (
        Let("value", op("exp", shifted)),
        Store("row", at("k"), value),
        Update("total", "add", value),
    )
    quotient = Store("y", at(("i", "n"), "l"), op("mul", Load("row", at("l"), float32), scale))
    rows = (
        Init("top", Const(-np.inf, float32)),
        For("j", "n", (Update("top", "max", x),), "vector"),
        Init("total", Const(0, float32)),
        For("k", "n", exponentials, "vector"),
        Let("scale", op("div", Const(1, float32), Name("total", float32))),
        For("l", "n", (quotient,), "vector"),
    )
    params = (Param("x", float32, "in"), Param("y", float32, "out"), Param("row", float32, "scratch", "n"))
    return Kernel("softmax", params, ("m", "n"), (For("i", "m", rows, "parallel"),))


def concatenate() -> Kernel:
    """Return y = [9, 9, *a, *b, 0, …], whose loads of a and b are masked."""
    here = IndexValue(at("i"))
    end_a, end_b = (IndexValue(at(offset=o)) for o in ((2, "count_a"), (2, "count_a", "count_b")))
    inside = op("ge", here, Const(2, int64))
    constants = op("select", inside, Const(0, float32), Const(9, float32))
    in_b = op("and", op("ge", here, end_a), op("lt", here, end_b))
    from_b = Load("b", at("i", ("skip", -1)), float32, in_b, constants)
    from_a = Load("a", at("i", offset=-2), float32, op("and", inside, op("lt", here, end_a)), from_b)
    params = (Param("a", float32, "in"), Param("b", float32, "in"), Param("y", float32, "out"))
    loop = For("i", "n", (Store("y", at("i"), from_a),), "parallel")
    return Kernel("concatenate", params, ("count_a", "count_b", "n"), (Let("skip", end_a), loop))


def samples(dtype: np.dtype, name: str) -> np.ndarray:
    """Return operands for an operation: special values, but only ordinary ones for the functions of libdevice."""
    if dtype == bool_:
        return np.array([False, True])
    if not is_float(dtype):
        limits = np.iinfo(dtype)
        signed = [-1, -2, -7] if dtype.kind == "i" else []
        return np.array([0, 1, 2, 3, 7, 8, limits.min, limits.max, limits.max - 1, *signed], dtype)
    if SCALARS[name].vector_math:
        return np.array([1.25, 1.5, 3.5] if name == "acosh" else [0.1, 0.3, 0.5, 0.9], dtype)
    values = [0, 0.5, 1.5, 2.5, 3.7, 1e9, 1e30, np.inf, np.nan, -0.0, -0.5, -1.5, -2.5, -300.7, -np.inf]
    with np.errstate(over="ignore"):  # 1e30 is infinite in float16
        return np.array(values, dtype)


def results(name: str, dtype: np.dtype, known: Sequence[np.dtype]) -> list[np.dtype | None]:
    """Return the dtypes to convert `dtype` to, or None alone for an operation that is no conversion."""
    if name == "cast":
        return list(known)
    if name == "bitcast":
        return [d for d in known if d.itemsize == dtype.itemsize and bool_ not in (d, dtype)]
    return [None]


def cases(known: Sequence[np.dtype]) -> list[Case]:
    """Return kernels with their arrays and sizes: every operation on every one of the dtypes, and nests of loops."""
    found = []
    for name, dtype in [(n, d) for n, s in SCALARS.items() for d in known if kind(d) in s.domain]:
        arity = SCALARS[name].arity
        dtypes = (bool_, dtype, dtype) if name == "select" else (dtype,) * arity
        params, values = loads(*dtypes)
        most = 9 if arity == 3 else 99
        arrays = [g.ravel() for g in np.meshgrid(*(samples(d, name)[:most] for d in dtypes), indexing="ij")]
        for to in results(name, dtype, known):
            expr = op(name, *values, dtype=to)
            kernel = elementwise(f"{name}_{dtype.name}_{expr.dtype.name}_case", expr, params)
            found.append((kernel, [*arrays, np.zeros(arrays[0].size, expr.dtype)], [arrays[0].size]))
    return found + nests()


def nests() -> list[Case]:
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
