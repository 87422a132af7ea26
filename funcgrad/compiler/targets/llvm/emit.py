"""Code generation from loops to LLVM IR: one module, as text, for a batch of kernels.

Every kernel becomes `void name(ptr args, ptr sizes, i64 begin, i64 end, i64 thread)`, which fetches its
pointers and sizes and calls the loop nest proper. The nest takes them as parameters, because `noalias` on a
parameter is how LLVM learns that buffers do not overlap.

Vectorization is LLVM's. What it needs is said here: loops whose iterations are independent carry
`llvm.loop.parallel_accesses`, reductions `reassoc` (and those only), and scalar operations have no branches.

Loops in series may run for hours, so they call `@safepoint` of runtime.ll every millisecond or so and return if the run
has failed. `fuel` counts down the iterations until then. A loop of known length runs as many at once as there is fuel
for, which leaves its code alone; others pay for every iteration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from llvmlite import ir

from funcgrad.compiler.loops.language import (
    Const,
    Expr,
    For,
    If,
    Index,
    IndexValue,
    Init,
    Kernel,
    Let,
    Load,
    Name,
    Op,
    Param,
    Stmt,
    Store,
    Update,
    While,
    moved,
)
from funcgrad.compiler.targets.llvm import lanes, safepoints, toolchain, vector_math
from funcgrad.compiler.targets.llvm.registers import CONTRACT, I32, I64, constant, memory_type
from funcgrad.compiler.targets.llvm.scalar_code import ScalarCode

POINTER = ir.PointerType()
VOID = ir.VoidType()
KERNEL_TYPE = ir.FunctionType(VOID, [POINTER, POINTER, I64, I64, I64])
# The order of a fold's operations is free; which of two zeros a maximum returns is too. A sum of −0 is −0.
_FOLD = ("contract", "reassoc")
_EXTREME = (*_FOLD, "nsz")


def emit(kernels: Sequence[Kernel]) -> str:
    """Return the text of one LLVM module that defines each kernel under its name."""
    module = ir.Module("kernels")
    for kernel in kernels:
        nest = _LoopNest(module, kernel)
        widest = max((p.dtype.itemsize for p in kernel.params), default=1)
        vector_math.share(nest.code.math_calls, toolchain.vector_bytes(), widest)
        _entry(module, kernel, nest.function)
    return str(module)


def _entry(module: ir.Module, kernel: Kernel, nest: ir.Function) -> None:
    """Define the function of the kernel ABI, which unpacks its arguments."""
    function = ir.Function(module, KERNEL_TYPE, kernel.name)
    arguments, sizes, begin, end, thread = function.args
    b = ir.IRBuilder(function.append_basic_block())
    pointers = [_element(b, arguments, i, POINTER) for i in range(len(kernel.params))]
    values = [_element(b, sizes, i, I64) for i in range(len(kernel.sizes))]
    by_name = dict(zip(kernel.sizes, values, strict=True))
    for i, param in enumerate(kernel.params):
        if param.intent == "scratch":
            pointers[i] = b.gep(
                pointers[i], [b.mul(thread, _scratch_stride(b, param, by_name))], source_etype=ir.IntType(8)
            )
    run = [_element(b, arguments, len(kernel.params), POINTER)] if safepoints.may_take_long(kernel.body) else []
    b.call(nest, [*pointers, *values, begin, end, *run])
    b.ret_void()


def _safepoint(module: ir.Module) -> ir.Function:
    """Declare the function of runtime.ll."""
    if "safepoint" not in module.globals:
        function = ir.Function(module, ir.FunctionType(ir.IntType(1), [POINTER]), "safepoint")
        function.attributes.add("cold")
        function.attributes.add("nounwind")
    return module.globals["safepoint"]


def _element(b: ir.IRBuilder, table: ir.Value, i: int, kind: ir.Type) -> ir.Value:
    return b.load(b.gep(table, [ir.Constant(I64, i)], source_etype=kind), typ=kind)


def _scratch_stride(b: ir.IRBuilder, param: Param, sizes: dict[str, ir.Value]) -> ir.Value:
    """Emit `loops.scratch_stride`."""
    extent = sizes[param.extent] if isinstance(param.extent, str) else ir.Constant(I64, param.extent)
    nbytes = b.mul(extent, ir.Constant(I64, param.dtype.itemsize))
    return b.and_(b.add(nbytes, ir.Constant(I64, 63)), ir.Constant(I64, -64))


class _Loop(ir.values.MDValue):
    """The metadata node of one loop: distinct and its own first operand, which llvmlite's nodes cannot be."""

    def __init__(self, module: ir.Module, properties: Sequence[ir.values.MDValue]):
        super().__init__(module, properties, name=str(len(module.metadata)))

    def descr(self, buf: list[str]) -> None:
        operands = [self, *self.operands]
        buf += (f"distinct !{{ {', '.join(o.get_reference() for o in operands)} }}", "\n")

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class _Group(_Loop):
    """The metadata node of an access group: distinct and empty."""

    def descr(self, buf: list[str]) -> None:
        buf += ("distinct !{}", "\n")


class _LoopNest:
    """Emits the body of one kernel as a function of (pointers, sizes, begin, end, and the run if it may take long)."""

    def __init__(self, module: ir.Module, kernel: Kernel):
        self.module = module
        long = safepoints.may_take_long(kernel.body)
        types = [POINTER] * len(kernel.params) + [I64] * (len(kernel.sizes) + 2) + [POINTER] * long
        self.function = ir.Function(module, ir.FunctionType(VOID, types), f"{kernel.name}.loops")
        self.function.linkage = "internal"
        names = [p.name for p in kernel.params] + [*kernel.sizes, "begin", "end"] + ["run"] * long
        arguments = dict(zip(names, self.function.args, strict=True))
        for name, argument in arguments.items():
            argument.name = name
        self.params = {p.name: (p, arguments[p.name]) for p in kernel.params}
        for _, pointer in self.params.values():
            pointer.add_attribute("noalias")
        self.begin, self.end, self.run = arguments["begin"], arguments["end"], arguments.get("run")
        self.scope: dict[str, ir.Value] = {s: arguments[s] for s in kernel.sizes}
        self.depth: dict[str, int] = {}
        self.entry = self.function.append_basic_block("entry")
        self.b = ir.IRBuilder(self.function.append_basic_block("start"))
        self.code = ScalarCode(self.b)
        self.groups: list[tuple[str, _Group]] = []
        self.full = ir.Constant(I64, safepoints.fuel(kernel))
        self.fuel: ir.Value | None = None
        self.in_long = False
        self.lane, self.lanes = "", 0  # the loop of lanes around the code, if there is one
        start = self.b.block
        self._block(kernel.body)
        self.b.ret_void()
        # The entry block collects the accumulators; it is finished last.
        ir.IRBuilder(self.entry).branch(start)

    # ------------------------------------------------------------------------------------------- statements
    def _block(self, body: tuple[Stmt, ...]) -> None:
        for statement in self._with_neighbors(body) if self.lanes else body:
            match statement:
                case For():
                    self._for(statement)
                case Let(name, value):
                    self._bind(name, self._expr(value))
                case list():
                    self._load_neighbors(statement)
                case Init(name, value):
                    start = self._expr(value)
                    if self.lanes:
                        start = lanes.splat(self.b, start, self.lanes)
                    self.scope[name] = ir.IRBuilder(self.entry).alloca(start.type, name=name)
                    self.b.store(start, self.scope[name])
                case Update():
                    self._update(statement)
                case Store(name, index, value):
                    param, _ = self.params[name]
                    self._store(param, index, self.code.to_memory(self._expr(value), param.dtype))
                case If(condition, inner):
                    with self.b.if_then(self._expr(condition)):
                        self._block(inner)
                case While():
                    self._while(statement)

    def _bind(self, name: str, value: ir.Value) -> None:
        self.scope[name] = value
        self.depth[name] = len(self.depth)

    def _for(self, loop: For) -> None:
        if loop.kind == "parallel":
            self._counted(loop, self.begin, self.end)
            return
        if loop.kind == "lanes":
            assert isinstance(loop.extent, int)
            self.lane, self.lanes = loop.index, loop.extent
            self._block(loop.body)
            self.lane, self.lanes = "", 0
            return
        start, extent = ir.Constant(I64, 0), self._size(loop.extent)
        if not safepoints.is_long(loop):
            self._counted(loop, start, extent)
            if self.in_long and isinstance(loop.extent, str):
                self._burn(extent)
        elif safepoints.has_long_vectors(loop.body):
            with self._long():
                self._counted(loop, start, extent, metered=True)
        else:
            with self._long():
                self._in_pieces(loop, extent)

    def _counted(self, loop: For, start: ir.Value, end: ir.Value, metered: bool = False) -> None:
        b = self.b
        before = b.block
        head, body, done = (b.append_basic_block(f"{loop.index}.{part}") for part in ("head", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64, name=loop.index)
        index.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, end), body, done)
        b.position_at_end(body)
        self._bind(loop.index, index)
        properties = self._enter(loop)
        self._in_loop(loop.body, in_series=loop.kind == "serial")
        following = b.add(index, ir.Constant(I64, 1), flags=("nsw", "nuw"))
        if metered:
            self._burn(ir.Constant(I64, 1))
            for block in self._again(head):
                index.add_incoming(following, block)
        else:
            index.add_incoming(following, b.block)
            back = b.branch(head)
            if properties:
                back.set_metadata("llvm.loop", _Loop(self.module, properties))
        self._leave(loop)
        b.position_at_end(done)

    def _in_pieces(self, loop: For, end: ir.Value) -> None:
        """A loop in series, as many iterations at once as there is fuel for."""
        b, before, one = self.b, self.b.block, ir.Constant(I64, 1)
        piece, more, done = (b.append_basic_block(f"{loop.index}.{part}") for part in ("piece", "more", "end"))
        b.branch(piece)
        b.position_at_end(piece)
        start = b.phi(I64)
        start.add_incoming(ir.Constant(I64, 0), before)
        left, fuel = b.sub(end, start), b.load(self.fuel, typ=I64)
        least = b.select(b.icmp_signed(">", fuel, one), fuel, one)
        count = b.select(b.icmp_signed("<", left, least), left, least)
        stop = b.add(start, count)
        self._counted(loop, start, stop)
        self._burn(count)
        b.cbranch(b.icmp_signed("<", stop, end), more, done)
        b.position_at_end(more)
        for block in self._again(piece):
            start.add_incoming(stop, block)
        b.position_at_end(done)

    def _while(self, loop: While) -> None:
        b = self.b
        head, body, done = (b.append_basic_block(f"while.{part}") for part in ("head", "body", "done"))
        with self._long():
            b.branch(head)
            b.position_at_end(head)
            self._in_loop(loop.setup, in_series=True)
            b.cbranch(self._expr(loop.condition), body, done)
            b.position_at_end(body)
            self._in_loop(loop.body, in_series=True)
            self._burn(ir.Constant(I64, 1))
            self._again(head)
        b.position_at_end(done)

    def _in_loop(self, body: tuple[Stmt, ...], in_series: bool) -> None:
        outside, self.code.in_series = self.code.in_series, in_series
        self._block(body)
        self.code.in_series = outside

    def _enter(self, loop: For) -> list[ir.values.MDValue]:
        """Begin a loop body; return the properties that its metadata states."""
        if loop.kind == "serial":
            return []
        group = _Group(self.module, ())
        self.groups.append((loop.kind, group))
        return [self.module.add_metadata(["llvm.loop.parallel_accesses", group])]

    def _leave(self, loop: For) -> None:
        if loop.kind != "serial":
            self.groups.pop()

    def _tag(self, access: ir.Instruction, param: Param) -> ir.Instruction:
        """Say that an access belongs to the innermost loop of independent iterations."""
        # Iterations of the parallel loop share their thread's scratch: there they are not independent.
        if self.groups and not (param.intent == "scratch" and self.groups[-1][0] == "parallel"):
            access.set_metadata("llvm.access.group", self.groups[-1][1])
        return access

    def _update(self, statement: Update) -> None:
        place, value = self.scope[statement.name], self._expr(statement.value)
        if statement.op != "set":
            dtype = statement.value.dtype
            old = self.b.load(place, typ=place.allocated_type)
            flags = _EXTREME if statement.op in ("max", "min") else CONTRACT if self.lanes else _FOLD
            value = self.code.operation(statement.op, self._alike([old, value]), dtype, dtype, flags=flags)
        self.b.store(lanes.splat(self.b, value, self.lanes) if self.lanes else value, place)

    # ------------------------------------------------------------------------------------------- safepoints
    @contextlib.contextmanager
    def _long(self) -> Iterator[None]:
        """Emit a loop that may take long: iterations in it burn fuel."""
        if self.fuel is None:
            entry = ir.IRBuilder(self.entry)
            self.fuel = entry.alloca(I64, name="fuel")
            entry.store(self.full, self.fuel)
        outside, self.in_long = self.in_long, True
        yield
        self.in_long = outside

    def _burn(self, iterations: ir.Value) -> None:
        self.b.store(self.b.sub(self.b.load(self.fuel, typ=I64), iterations), self.fuel)

    def _again(self, head: ir.Block) -> tuple[ir.Block, ir.Block]:
        """Go to the head of a loop, by way of a safepoint when fuel is out; return the blocks that go there."""
        b, before = self.b, self.b.block
        safepoint, failed = (b.append_basic_block(name) for name in ("safepoint", "failed"))
        out = b.icmp_signed("<=", b.load(self.fuel, typ=I64), ir.Constant(I64, 0))
        b.cbranch(out, safepoint, head).set_weights([1, 1 << 16])
        b.position_at_end(safepoint)
        b.store(self.full, self.fuel)
        b.cbranch(b.call(_safepoint(self.module), [self.run]), failed, head)
        b.position_at_end(failed)
        b.ret_void()
        return before, safepoint

    # ------------------------------------------------------------------------------------------ expressions
    def _expr(self, expr: Expr) -> ir.Value:
        match expr:
            case Const(value, dtype):
                return constant(value, dtype)
            case Name(name):
                value = self.scope[name]
                accumulator = isinstance(value, ir.instructions.AllocaInstr)
                return self.b.load(value, typ=value.allocated_type) if accumulator else value
            case IndexValue(index):
                return self._index(index)
            case Load():
                return self._load(expr) if expr.mask is None else self._masked(expr)
            case Op("cast", (IndexValue(),), dtype) if dtype.kind in "iu" and dtype.itemsize < 8:
                number = self.code.operation("cast", [self._expr(a) for a in expr.args], expr.args[0].dtype, dtype)
                return self.b.xor(number, self._zero(number.type))
            case Op(name, args, dtype):
                values = self._alike([self._expr(a) for a in args])
                return self.code.operation(name, values, args[-1].dtype, dtype, CONTRACT)
        raise TypeError(f"{expr!r} is not an expression")

    def _zero(self, kind: ir.Type) -> ir.Value:
        """A zero that LLVM does not know to be one.

        An index as a number is hidden behind it: LLVM's loop strength reduction would rewrite every sum of the index,
        which takes time quadratic in their number (a third of a second for the rounds of two random keys).
        """
        b = ir.IRBuilder(self.entry)
        zero = b.asm(ir.FunctionType(I32, [I32]), "", "=r,0", [ir.Constant(I32, 0)], side_effect=False)
        return b.trunc(zero, kind) if kind.width < 32 else zero

    def _load(self, load: Load) -> ir.Value:
        param, _ = self.params[load.param]
        kind, step = memory_type(load.dtype), self._lane_step(load.index)
        if step == 0:
            return self.code.from_memory(self._read(param, load.index, kind), load.dtype)
        if step == 1:
            value = self._read(param, load.index, ir.VectorType(kind, self.lanes))
        else:
            value = lanes.gathered(self.b, [self._read(param, load.index, kind, i) for i in range(self.lanes)])
        return self.code.from_memory(value, load.dtype)

    def _read(self, param: Param, index: Index, kind: ir.Type, lane: int = 0) -> ir.Value:
        value = self.b.load(self._address(param.name, index, lane), typ=kind, align=param.dtype.itemsize)
        return self._tag(value, param)

    def _store(self, param: Param, index: Index, value: ir.Value) -> None:
        elements = [value]
        if self.lanes:
            value = lanes.splat(self.b, value, self.lanes)
            apart = self._lane_step(index) != 1
            elements = (
                [self.b.extract_element(value, ir.Constant(I32, i)) for i in range(self.lanes)] if apart else [value]
            )
        for i, element in enumerate(elements):
            place = self._address(param.name, index, i)
            self._tag(self.b.store(element, place, align=param.dtype.itemsize), param)

    # ---------------------------------------------------------------------------------------------- lanes
    def _alike(self, values: list[ir.Value]) -> list[ir.Value]:
        return lanes.alike(self.b, values, self.lanes) if self.lanes else values

    def _lane_step(self, index: Index) -> int | str:
        """The distance of what neighboring lanes access; 0 where there are no lanes."""
        return next((stride for name, stride in index.terms if name == self.lane), 0)

    def _with_neighbors(self, body: Sequence[Stmt]) -> Iterator[Stmt | list[Let]]:
        """The statements of a block; Lets that read neighbors in memory, where lanes are apart, are a list."""
        at = 0
        while at < len(body):
            found = self._neighbors(body[at:])
            yield found or body[at]
            at += len(found) or 1

    def _neighbors(self, body: Sequence[Stmt]) -> list[Let]:
        """As many Lets as are read together, or none."""
        match body[0]:
            case Let(_, Load(param, index, dtype, None)) if self._lane_step(index) not in (0, 1):
                count = lanes.part(dtype.itemsize)
                lets = [s for s in body[:count] if isinstance(s, Let)]
                together = [s.value for s in lets] == [Load(param, moved(index, i), dtype) for i in range(count)]
                return lets if together and self.lanes % count == 0 else []
        return []

    def _load_neighbors(self, lets: Sequence[Let]) -> None:
        load = lets[0].value
        assert isinstance(load, Load)
        param, kind = self.params[load.param][0], ir.VectorType(memory_type(load.dtype), len(lets))
        rows = [self._read(param, load.index, kind, i) for i in range(self.lanes)]
        for let, value in zip(lets, lanes.transposed(self.b, rows), strict=True):
            self._bind(let.name, self.code.from_memory(value, load.dtype))

    # ------------------------------------------------------------------------------------------ addresses
    def _masked(self, load: Load) -> ir.Value:
        """Load under a branch, which LLVM turns into a masked vector load."""
        assert load.mask is not None and load.other is not None
        with self.b.if_else(self._expr(load.mask)) as (then, otherwise):
            with then:
                value, loaded = self._load(load), self.b.block
            with otherwise:
                other, skipped = self._expr(load.other), self.b.block
        phi = self.b.phi(value.type)
        phi.add_incoming(value, loaded)
        phi.add_incoming(other, skipped)
        return phi

    def _address(self, name: str, index: Index, lane: int = 0) -> ir.Value:
        param, pointer = self.params[name]
        kind, place = memory_type(param.dtype), self._index(index)
        if lane:
            step = self.b.mul(ir.Constant(I64, lane), self._size(self._lane_step(index)), flags=("nsw",))
            place = self.b.add(place, step, flags=("nsw",))
        return self.b.gep(pointer, [place], inbounds=True, source_etype=kind)

    def _index(self, index: Index) -> ir.Value:
        """Emit an index, outer loops' terms first so that LLVM hoists their sum."""
        b, signed = self.b, ("nsw",)
        total = None
        terms = sorted((t for t in index.terms if t[1] != 0 and t[0] != self.lane), key=lambda t: self.depth[t[0]])
        addends = [self._size(o) for o in index.offsets]
        for name, stride in terms:
            addends.append(
                self.scope[name] if stride == 1 else b.mul(self.scope[name], self._size(stride), flags=signed)
            )
        for addend in addends:
            total = addend if total is None else b.add(total, addend, flags=signed)
        return ir.Constant(I64, 0) if total is None else total

    def _size(self, size: int | str) -> ir.Value:
        return self.scope[size] if isinstance(size, str) else ir.Constant(I64, size)
