"""What a jitted function is on its way to machine code: `jit(f).trace`, `lower` and `compile` return these."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.jit import JitFunction as Wrapped
from funcgrad.transforms.jit.stages import ArgInfo as ArgInfo
from funcgrad.transforms.jit.stages import Compiled as Compiled
from funcgrad.transforms.jit.stages import Lowered as Lowered
from funcgrad.transforms.jit.stages import Traced as Traced

CompilerOptions = dict[str, str | bool]

__all__ = ["ArgInfo", "Compiled", "CompilerOptions", "Lowered", "Traced", "Wrapped"]

_explain_missing_names(__name__)
