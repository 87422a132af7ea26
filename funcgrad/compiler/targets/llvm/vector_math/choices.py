"""The choice between the value of a formula and a function out of line, for the few arguments beyond a limit.

A loop with a branch is not vectorized, and computing both costs all arguments. So LLVM vectorizes a call: of a scalar
function that takes the argument and the value, or of its variant for vectors. Only then, at the end of the passes, the
variant is inlined: it branches if any element of a vector is beyond the limit. Where none is, this costs a comparison
and a branch a vector, which is not measurable next to a sine.

The functions out of line are compiled once, not with each kernel: see `far_functions`.
"""

from __future__ import annotations

from llvmlite import ir

from funcgrad.compiler.targets.llvm import toolchain
from funcgrad.compiler.targets.llvm.vector_math.scalar import FormulaBuilder, Scalar, absolute, select

FAR = "fg.{}.far"  # the symbol of a function out of line, by the name of the function


def choice(module: ir.Module, name: str, limit: float, type: ir.Type, in_series: bool) -> ir.Function:
    """The function (x, value) → value, or `FAR` of x where |x| > limit. In series, it is inlined at once."""
    lanes = type.count if isinstance(type, ir.VectorType) else 1
    if lanes > 1 or in_series:
        return _inlined(module, name, limit, type, lanes)
    symbol = f"fg.{name}.choice"
    if symbol not in module.globals:
        lanes = toolchain.vector_bytes() // 8
        variant = _inlined(module, name, limit, ir.VectorType(type, lanes), lanes)
        variant.linkage = "weak_odr"  # nothing calls it before the loops are vectorized
        scalar = _Choice(module, type, symbol, name, limit)
        scalar.text = f'noinline "vector-function-abi-variant"="_ZGV_LLVM_N{lanes}vv_{symbol}({variant.name})"'
    return module.globals[symbol]


def _inlined(module: ir.Module, name: str, limit: float, type: ir.Type, lanes: int) -> ir.Function:
    symbol = f"fg.{name}.choice.x{lanes}"
    return module.globals.get(symbol) or _Choice(module, type, symbol, name, limit)


class _Choice(ir.Function):
    """A choice, with attributes that llvmlite does not know."""

    def __init__(self, module: ir.Module, type: ir.Type, symbol: str, name: str, limit: float):
        super().__init__(module, ir.FunctionType(type, [type, type]), symbol)
        self.linkage, self.text = "internal", "alwaysinline"
        builder = FormulaBuilder(self.append_basic_block("entry"))
        x, value = (Scalar(builder, a) for a in self.args)
        beyond = absolute(x) > limit
        with builder.if_then(builder.any(beyond.value), likely=False):
            builder.ret(select(beyond, Scalar(builder, _far(builder, name, x.value)), value).value)
        builder.ret(value.value)

    def descr_prototype(self, buf: list[str]) -> None:
        super().descr_prototype(buf)
        buf[-1] = f"{buf[-1].rstrip()} {self.text} nounwind willreturn memory(none)\n"


def _far(builder: FormulaBuilder, name: str, x: ir.Value) -> ir.Value:
    """Call the function out of line for each element of x."""
    module, symbol = builder.module, FAR.format(name)
    function = module.globals.get(symbol) or ir.Function(
        module, ir.FunctionType(ir.DoubleType(), [ir.DoubleType()]), symbol
    )
    function.attributes.update({"cold", "nounwind", "readnone"})
    if not isinstance(x.type, ir.VectorType):
        return builder.call(function, [x])
    found = ir.Constant(x.type, ir.Undefined)
    for i in range(x.type.count):
        lane = ir.Constant(ir.IntType(32), i)
        found = builder.insert_element(found, builder.call(function, [builder.extract_element(x, lane)]), lane)
    return found
