"""Factorizations of matrices through LAPACK, in the OpenBLAS that `blas` loads, run by funcgrad's own threads."""

from __future__ import annotations

import functools
import string
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.compiler.program.target import Division
from funcgrad.compiler.targets.llvm import blas, cache, toolchain

_CHUNK_MULTIPLY_ADDS = 100_000  # what is worth handing to another thread


class Factorization(NamedTuple):
    """A factorization as the fields of an instruction. `library` owns the code."""

    function: int
    sizes: tuple[int, ...]
    library: toolchain.Library


def divided(dtype: Any, batch: int, n: int, threads: int) -> Division | None:
    """Return how a batch of n × n matrices is divided among threads, each whole; None for other element types."""
    if np.dtype(dtype) not in blas.ELEMENTS:
        return None
    return Division(batch, max(1, min(batch, _CHUNK_MULTIPLY_ADDS // max(1, n**3 // 6))))


def potrf(dtype: Any, batch: int, n: int, threads: int) -> Factorization:
    """A[b] = L[b] @ L[b]ᴴ with L lower triangular. Reads the lower triangles.

    Where there is no L, its triangle is NaN.
    """
    library = _library(blas.ELEMENTS[np.dtype(dtype)])
    return Factorization(library.address("potrf"), (n,), library)


@functools.cache
def _library(element: blas.Element) -> toolchain.Library:
    template = string.Template(Path(__file__).with_suffix(".ll").read_text(encoding="utf-8"))
    text = template.substitute(
        real=element.real,
        bytes={"float": 4, "double": 8}[element.real],
        parts=1 + element.complex,
        nan="0x7FF8000000000000",
    )
    imports = {"lapack_potrf": blas.address(f"{element.letter}potrf_")}
    return toolchain.link(cache.compiled(text), ("potrf",), imports)
