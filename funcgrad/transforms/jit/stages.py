"""The stages of a jitted function, ahead of time: traced, lowered, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.compiler import pipeline
from funcgrad.core.array_types import aval_of
from funcgrad.core.arrays import as_array
from funcgrad.core.avals import ShapedArray, ShapeDtypeStruct
from funcgrad.core.jaxprs import ClosedJaxpr
from funcgrad.core.tracers import Tracer, check_not_leaked
from funcgrad.errors import ArgumentError
from funcgrad.tracebacks import boundary
from funcgrad.transforms.flattening import not_an_array


@dataclass(frozen=True)
class ArgInfo:
    """The type of an argument, and whether it is donated."""

    _aval: ShapedArray
    donated: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self._aval.shape

    @property
    def dtype(self) -> np.dtype:
        return self._aval.dtype


class _Stage:
    """Base class of stages: the types and structures of the arguments and the result."""

    _traced: Traced

    @property
    def in_tree(self) -> Any:
        """The structure of (args, kwargs), static arguments left out."""
        return self._traced._in_tree

    @property
    def out_tree(self) -> Any:
        """The structure of the result."""
        return self._traced._out_tree

    @property
    def in_avals(self) -> Any:
        """Types of the arguments, as (args, kwargs)."""
        return self.in_tree.unflatten(self._traced.jaxpr.in_avals)

    @property
    def args_info(self) -> Any:
        """An `ArgInfo` for each argument, as (args, kwargs)."""
        donated = self._traced._donated or [False] * self.in_tree.num_leaves
        return self.in_tree.unflatten(map(ArgInfo, self._traced.jaxpr.in_avals, donated))

    @property
    def donate_argnums(self) -> tuple[int, ...]:
        """Positions of the donated ones among the leaves of the arguments."""
        return tuple(i for i, donated in enumerate(self._traced._donated) if donated)

    @property
    def out_avals(self) -> Any:
        """Types of the result."""
        return self.out_tree.unflatten(self._traced.jaxpr.out_avals)

    @property
    def out_info(self) -> Any:
        """A `ShapeDtypeStruct` for each leaf of the result."""
        leaves = [ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type) for a in self._traced.jaxpr.out_avals]
        return self.out_tree.unflatten(leaves)


class Traced(_Stage):
    """A function traced at given types: its jaxpr and the structures of its arguments and result."""

    def __init__(
        self,
        jaxpr: ClosedJaxpr,
        name: str,
        in_tree: Any,
        out_tree: Any,
        donated: Sequence[bool] = (),
        argument_names: Sequence[str] = (),
        target: str | None = None,
    ):
        self.jaxpr, self.fun_name, self._target = jaxpr, name, target
        self._in_tree, self._out_tree, self._donated, self._argument_names = in_tree, out_tree, donated, argument_names
        self._traced = self

    def lower(self, *, lowering_platforms: Sequence[str] | None = None) -> Lowered:
        """Continue to the compiler's stages; `lowering_platforms` other than this machine's are ignored."""
        return Lowered(self)

    def __repr__(self) -> str:
        return f"<Traced {self.fun_name}: {', '.join(map(repr, self.jaxpr.in_avals))}>"


class Lowered(_Stage):
    """A traced function on its way through the compiler; every stage can be read as text."""

    def __init__(self, traced: Traced):
        self._traced = traced

    def as_text(self, stage: str = "jaxpr") -> str:
        """Return one stage as text.

        Stages, in the order of compilation: "jaxpr", "simplified", "groups" (fused equations), "loops",
        "kernels" (the loops as runnable Python), "program" (instructions and memory plan), "llvm",
        "assembly"; "numba" is the module of `numba_source`. For an NVIDIA card: "cuda" (the kernels in
        the Python that numba.cuda compiles), "ptx" (for sm_90; no card is needed).
        """
        return pipeline.as_text(self._traced.jaxpr, self._traced.fun_name, stage, self._traced._target)

    def numba_source(self) -> str:
        """Return the program as the source of a Python module that needs NumPy and numba alone.

        Its last function has the name of this one and takes the leaves of the arguments as arrays, those without
        dimensions as numbers; it returns an array, a number, or a tuple of them. Such a module can be saved, imported
        and called from functions that numba compiles. float16 and bfloat16 are arrays of uint16 there, of their bits.

        Raises ArgumentError where the program calls NumPy, for an operation that has no kernel.
        """
        return pipeline.numba_source(self._traced.jaxpr, self._traced.fun_name)

    def cost_analysis(self) -> dict[str, float]:
        """Return the numbers of operations and of bytes moved; see `Compiled.cost_analysis`."""
        return pipeline.cost_analysis(self._traced.jaxpr)

    def compile(self, compiler_options: Any = None) -> Compiled:
        """Compile to native code. There are no compiler options."""
        if compiler_options:
            raise ArgumentError(
                f"compile: unknown compiler_options {sorted(compiler_options)}", fix="set options in funcgrad.config"
            )
        return Compiled(self._traced)

    def __repr__(self) -> str:
        return f"<Lowered {self._traced.fun_name}>"


class Compiled(_Stage):
    """A function compiled for given types; calling it with others is an error, not a recompilation.

    Static arguments are fixed: omit them in calls.
    """

    def __init__(self, traced: Traced):
        self._traced = traced
        self._executable = pipeline.executable(traced.jaxpr, traced.fun_name, traced._target)

    @boundary
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        flat, in_tree = tree.flatten((args, kwargs))
        if in_tree != self.in_tree:
            raise ArgumentError(
                f"compiled {self._traced.fun_name} was called with arguments of another structure than it was compiled "
                f"for (which leaves out static ones): {self._differences(in_tree)}",
                fix="pass arguments of that structure, or call the jitted function, which specializes",
            )
        self._check_not_transformed(flat)
        try:
            arrays = [as_array(x) for x in flat]
        except ArgumentError:
            names = [f"argument {name}" for name in self._names()]
            raise not_an_array(f"compiled {self._traced.fun_name}", names, flat, as_array) from None
        for name, x, wanted in zip(self._names(), arrays, self._traced.jaxpr.in_avals, strict=True):
            have = aval_of(x)
            if have.shape != wanted.shape or have.dtype != wanted.dtype:
                raise ArgumentError(
                    f"compiled {self._traced.fun_name}: argument {name} has type {have}, it was compiled for {wanted}",
                    fix="pass an argument of that type, or call the jitted function, which specializes",
                )
        out = self._executable(arrays)
        for i in self.donate_argnums:
            if not any(o is arrays[i] for o in out):
                arrays[i].delete()
        return self.out_tree.unflatten(out)

    call = __call__

    def _differences(self, in_tree: Any) -> str:
        (wanted, wanted_keywords), (given, given_keywords) = self.in_tree.children(), in_tree.children()
        found = [
            tree.describe_mismatch("the compiled args", wanted, "those given", given),
            tree.describe_mismatch("the compiled kwargs", wanted_keywords, "those given", given_keywords),
        ]
        return "; ".join(f for f in found if f)

    def _names(self) -> Sequence[str]:
        return self._traced._argument_names or [f"leaf {i}" for i in range(self.in_tree.num_leaves)]

    def _check_not_transformed(self, flat: Sequence[Any]) -> None:
        for name, x in zip(self._names(), flat, strict=True):
            if isinstance(x, Tracer):
                check_not_leaked(x)
                raise ArgumentError(
                    f"compiled {self._traced.fun_name}: argument {name} is a traced array of type {x.aval}; "
                    "machine code can be neither traced nor transformed",
                    fix="call the jitted function inside transforms, and compile the outermost one",
                )

    def as_text(self, stage: str = "assembly") -> str:
        """Return a stage of the compilation as text; see `Lowered.as_text`."""
        return pipeline.as_text(self._traced.jaxpr, self._traced.fun_name, stage, self._traced._target)

    def cost_analysis(self) -> dict[str, float]:
        """Return "flops" (arithmetic operations), "transcendentals" (exp, tanh, …) and "bytes accessed" of a call.

        Bytes are what kernels read and write, each value once per kernel. Bodies of loops of unknown length
        count once, branches as the most expensive one.
        """
        return pipeline.cost_analysis(self._traced.jaxpr)

    def memory_analysis(self) -> pipeline.MemoryAnalysis:
        """Return sizes in bytes: arguments, outputs, temporaries."""
        return pipeline.memory_analysis(self._traced.jaxpr, self._traced.fun_name, self._traced._target)

    def __repr__(self) -> str:
        return f"<Compiled {self._traced.fun_name}>"
