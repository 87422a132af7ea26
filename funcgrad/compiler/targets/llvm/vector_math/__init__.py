"""Scalar math functions that LLVM's loop vectorizer turns into vector code.

LLVM has no vector exp or sin of its own and would call libm once per element. Here a function is one basic block of
arithmetic, selects and integer operations on the bit pattern: no branches, no calls, no tables in memory. `define` puts
a function into a module; inlined into a loop, it vectorizes with the loop, to whatever width the target has. `share`
turns many calls into calls of one copy.

Series, continued fractions and recurrences have loops, which run until all numbers of a vector have converged: such
functions come in variants for vectors, which loops call.

They expect a target with fused multiply-add (x86-64-v3, or any AArch64); elsewhere LLVM calls libm's fma.
"""

from funcgrad.compiler.targets.llvm.vector_math import (
    bessel,
    exponential,
    hyperbolic,
    incomplete_beta,
    incomplete_gamma,
    special,
    trigonometric,
    zeta,
)
from funcgrad.compiler.targets.llvm.vector_math.registry import arity, define, far_functions, names, ulp_bounds
from funcgrad.compiler.targets.llvm.vector_math.sharing import share

__all__ = [
    "ULP_BOUNDS",
    "arity",
    "bessel",
    "define",
    "exponential",
    "far_functions",
    "hyperbolic",
    "incomplete_beta",
    "incomplete_gamma",
    "names",
    "share",
    "special",
    "trigonometric",
    "zeta",
]

ULP_BOUNDS = ulp_bounds()
"""Largest error of each function in units in the last place: name → (f32, f64). The tests hold them."""
