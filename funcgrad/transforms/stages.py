"""The stages of a jitted function, ahead of time: traced, lowered, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcgrad import tree
from funcgrad.compiler import pipeline
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapeDtypeStruct
from funcgrad.core.jaxprs import ClosedJaxpr
from funcgrad.core.tracing import aval_of
from funcgrad.errors import ArgumentError


class Traced:
    """A function traced at given types: its jaxpr and the structures of its arguments and result."""

    def __init__(self, jaxpr: ClosedJaxpr, name: str, in_tree: Any, out_tree: Any, donated: Sequence[bool] = ()):
        self.jaxpr, self.fun_name, self.in_tree, self.out_tree, self.donated = jaxpr, name, in_tree, out_tree, donated

    in_avals = property(lambda self: self.jaxpr.in_avals)
    out_avals = property(lambda self: self.jaxpr.out_avals)

    @property
    def out_info(self) -> Any:
        """The result's structure with a `ShapeDtypeStruct` per leaf."""
        leaves = [ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in self.out_avals]
        return self.out_tree.unflatten(leaves)

    def lower(self) -> Lowered:
        """Continue to the compiler's stages."""
        return Lowered(self)

    def __repr__(self) -> str:
        return f"<Traced {self.fun_name}: {', '.join(map(repr, self.in_avals))}>"


class Lowered:
    """A traced function on its way through the compiler, every stage of it readable."""

    def __init__(self, traced: Traced):
        self._traced = traced

    in_tree = property(lambda self: self._traced.in_tree)
    out_tree = property(lambda self: self._traced.out_tree)
    in_avals = property(lambda self: self._traced.in_avals)
    out_info = property(lambda self: self._traced.out_info)

    def as_text(self, stage: str = "jaxpr") -> str:
        """Return one stage as text.

        Stages, in the order of compilation: "jaxpr", "simplified", "groups" (what is fused), "loops",
        "kernels" (the loops as runnable Python), "program" (instructions and memory plan), "llvm",
        "assembly". For an NVIDIA card: "cuda" (the kernels in the Python that numba.cuda compiles), "ptx"
        (for sm_90; no card is needed).
        """
        return pipeline.as_text(self._traced.jaxpr, self._traced.fun_name, stage)

    def compile(self) -> Compiled:
        """Compile to native code."""
        return Compiled(self._traced)

    def __repr__(self) -> str:
        return f"<Lowered {self._traced.fun_name}>"


class Compiled:
    """A function compiled for given types; calling it with others is an error, not a recompilation."""

    def __init__(self, traced: Traced):
        self._traced = traced
        self._executable = pipeline.executable(traced.jaxpr, traced.fun_name)

    in_tree = property(lambda self: self._traced.in_tree)
    out_tree = property(lambda self: self._traced.out_tree)
    in_avals = property(lambda self: self._traced.in_avals)
    out_info = property(lambda self: self._traced.out_info)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        flat, in_tree = tree.flatten((args, kwargs))
        if in_tree != self.in_tree:
            raise ArgumentError(
                f"compiled {self._traced.fun_name} was called with arguments of structure {in_tree}, "
                f"it was compiled for {self.in_tree}",
                fix="pass arguments of that structure, or call the jitted function, which specialises",
            )
        flat = [as_array(x) for x in flat]
        paths = [path for path, _ in tree.leaves_with_path((args, kwargs))]
        for path, x, wanted in zip(paths, flat, self.in_avals, strict=True):
            have = aval_of(x)
            if have.shape != wanted.shape or have.dtype != wanted.dtype:
                raise ArgumentError(
                    f"compiled {self._traced.fun_name}: argument {tree.keystr(path[1:])} has type {have}, "
                    f"it was compiled for {wanted}",
                    fix="pass an argument of that type, or call the jitted function, which specialises",
                )
        return self.out_tree.unflatten(self._executable(flat))

    def as_text(self, stage: str = "assembly") -> str:
        """Return a stage of the compilation as text; see `Lowered.as_text`."""
        return pipeline.as_text(self._traced.jaxpr, self._traced.fun_name, stage)

    def memory_analysis(self) -> Any:
        """Return sizes in bytes: arguments, outputs, temporaries."""
        return pipeline.memory_analysis(self._traced.jaxpr, self._traced.fun_name)

    def __repr__(self) -> str:
        return f"<Compiled {self._traced.fun_name}>"
