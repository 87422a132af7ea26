"""Loop kernels that several tests share."""

from __future__ import annotations

import numpy as np

from funcgrad.compiler.loops import (
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
from funcgrad.dtypes import float32, int64


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
