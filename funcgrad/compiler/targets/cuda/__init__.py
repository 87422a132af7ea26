"""The CUDA target: loops to kernels that numba.cuda compiles, and programs of them run on a card or in its simulator.

    closed = jit(f).trace(x).jaxpr
    plan = pipeline.executable(closed, "f").plan
    (y,) = cuda.run(plan, [x])

Importing it imports numba.cuda; `jit(f).lower(x).as_text("cuda")` and `as_text("ptx")` show its kernels.
"""

from funcgrad.compiler.targets.cuda.emit import compile_ptx, launch, render
from funcgrad.compiler.targets.cuda.runtime import run

__all__ = ["compile_ptx", "launch", "render", "run"]
