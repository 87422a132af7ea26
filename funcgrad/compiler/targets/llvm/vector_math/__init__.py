"""Scalar math functions that LLVM's loop vectorizer turns into vector code.

LLVM has no vector exp or sin of its own and would call libm once per element. Here every function is one
basic block of arithmetic, selects and integer operations on the bit pattern: no branches, no calls, no tables
in memory. `define` puts a function into a module; inlined into a loop, it vectorizes with the loop, to
whatever width the target has. `share` makes calls of it calls, where there are many.

They expect a target with fused multiply-add (x86-64-v3, or any AArch64); elsewhere LLVM calls libm's fma.
"""

from funcgrad.compiler.targets.llvm.vector_math import exponential, hyperbolic, special, trigonometric
from funcgrad.compiler.targets.llvm.vector_math.registry import arity, define, names, ulp_bounds
from funcgrad.compiler.targets.llvm.vector_math.sharing import share

__all__ = [
    "ULP_BOUNDS",
    "arity",
    "define",
    "exponential",
    "hyperbolic",
    "names",
    "share",
    "special",
    "trigonometric",
]

ULP_BOUNDS = ulp_bounds()
"""Largest error of each function in units in the last place: name → (f32, f64). The tests hold them."""
