"""Programs of native instructions, and the threads that run them.

A `Program` is a table that `runtime.ll` walks without Python and without the GIL; this file is its Python
face. It also owns the life of the worker threads: daemon threads that enter native code once and stay there,
started with the first program, gone after a fork (the child runs serially) and stopped at interpreter exit.

Signals are handled while a program runs: every few milliseconds the main thread takes the GIL and runs the handlers of
signals that came, as the interpreter does between bytecodes. What they raise, KeyboardInterrupt for one, ends the run.
"""

from __future__ import annotations

import array
import atexit
import ctypes
import functools
import math
import os
import platform
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from funcgrad.compiler.targets.llvm import cache, toolchain
from funcgrad.config import MAX_THREADS, Config, config, on_update
from funcgrad.core import forks


class Functions(NamedTuple):
    """Addresses of functions of runtime.ll with the kernel ABI; their heads in that file say what they do."""

    loop: int
    branch: int
    copy: int
    join: int
    interleave: int
    host: int


class HostFunction(NamedTuple):
    """A Python function as an instruction: its C function, its sizes, and the reference that keeps it alive."""

    function: int
    sizes: tuple[int, ...]
    keep_alive: object


SPIN_SECONDS = 30e-6
SIGNAL_SECONDS = 5e-3  # between two looks at signals: see @safepoint of runtime.ll
CHUNKS_PER_THREAD = 4
# The files that the runtime is made of, in this order.
_PARTS = ("runtime", "instructions", "signals", "pool")
_EXPORTS = ("run", *Functions._fields, "safepoint", "worker", "reset", "configure", "stop", "spin")
# What runtime.ll calls of the interpreter.
_PYTHON = (
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
    "PyGILState_Ensure",
    "PyGILState_Release",
    "PyThread_get_thread_ident",
    "PyErr_CheckSignals",
    "PyErr_Fetch",
    "PyErr_Restore",
    "PyErr_Clear",
    "PyObject_CallFunction",
    "Py_DecRef",
)

# The number of the futex system call; elsewhere there are no workers and programs run serially.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_RELAX = {"x86_64": ("@llvm.x86.sse2.pause", "", ""), "aarch64": ("@llvm.aarch64.isb", "i32", "i32 15")}
_WAIT, _WAKE = 128, 129  # FUTEX_WAIT, FUTEX_WAKE; both FUTEX_PRIVATE_FLAG


class Instruction(NamedTuple):
    """A call of a function with the kernel ABI.

    `args` are (slot, byte offset) pairs; `sizes` is what the function finds in its second argument. The
    iterations [0, extent) are split among threads, in multiples of `grain`, if there are more than `grain` of
    them.
    """

    function: int
    args: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]
    extent: int
    grain: int


class Program:
    """A sequence of instructions over `n_slots` pointers.

    `keep_alive` holds whatever owns the functions' code. The program is made for the thread count that is set
    when it is made: its chunks, and the highest `thread` its functions see, follow from that count.
    """

    __slots__ = ("_call", "_keep_alive", "_length", "_table", "n_slots", "threads")

    def __init__(self, instructions: Sequence[Instruction], n_slots: int, keep_alive: Sequence[object] = ()):
        for instruction in instructions:
            _check(instruction, n_slots)
        runtime = _runtime()
        self.n_slots, self.threads = n_slots, num_threads()
        self._length = 8 * n_slots
        self._table = array.array("q", _table(instructions, self.threads))
        self._keep_alive = tuple(keep_alive)
        self._call = functools.partial(runtime.run, self._table.buffer_info()[0])

    def run(self, slots: bytes) -> None:
        """Execute the instructions in order, without the GIL. `slots` are `n_slots` packed native pointers.

        Any number of threads may run one program at once. An exception in a host function or in the handler of a
        signal ends the run, on all of its threads, and is raised.
        """
        if len(slots) != self._length:
            raise ValueError(f"a program of {self.n_slots} slots was given {len(slots)} bytes of pointers")
        self._call(slots)


class Table:
    """A sequence of instructions that an instruction of another table runs: `@loop` and `@branch` of runtime.ll."""

    __slots__ = ("_keep_alive", "_words", "address")

    def __init__(self, instructions: Sequence[Instruction], keep_alive: Sequence[object] = ()):
        self._words = array.array("q", _table(instructions, num_threads()))
        self._keep_alive = tuple(keep_alive)
        self.address = self._words.buffer_info()[0]


def native_functions() -> Functions:
    """The functions of runtime.ll that are instructions."""
    return _runtime().functions


def safepoint() -> dict[str, int]:
    """The function of runtime.ll that long loops call, as an import of linked code."""
    return {"safepoint": _runtime().safepoint}


def host_function(function: Callable[[list[int]], None], n_args: int) -> HostFunction:
    """Make an instruction from a Python function of `n_args` pointers.

    It is called with the GIL held; give its instruction extent 1, so that it runs on the thread that called
    `Program.run`. What it raises ends the run and comes out of `Program.run`.
    """
    pointers = ctypes.c_size_t * n_args

    def call(args: int) -> None:
        function(pointers.from_address(args)[:])

    address = native_functions().host
    return HostFunction(address, (address, id(call), n_args), call)


def num_threads() -> int:
    """Return the number of threads, including the caller, of new programs: `config.num_threads`, where 0 means all."""
    return config.num_threads or _state.processors


def set_num_threads(count: int | None = None) -> None:
    """Set `config.num_threads`; None means the number of processors available to this process."""
    if count is not None and not 1 <= count <= MAX_THREADS:
        raise ValueError(f"set_num_threads: {count} is not between 1 and {MAX_THREADS}")
    config.update("num_threads", count or 0)


def _resize_pool() -> None:
    with _state.lock:
        _stop_workers()
        _state.processors = available_processors()
        if _state.native is not None:
            _start_workers(_state.native)


on_update("num_threads", _resize_pool)


def available_processors() -> int:
    """Return the number of processors available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


def _check(instruction: Instruction, n_slots: int) -> None:
    if instruction.function == 0:
        raise ValueError("an instruction's function is null")
    if instruction.extent < 0 or instruction.grain < 1:
        raise ValueError(f"extent {instruction.extent} and grain {instruction.grain}: need extent >= 0, grain >= 1")
    for slot, _ in instruction.args:
        if not 0 <= slot < n_slots:
            raise ValueError(f"an instruction refers to slot {slot} of {n_slots}")


def _table(instructions: Sequence[Instruction], threads: int) -> list[int]:
    """The words that runtime.ll walks; its head describes them."""
    header = [len(instructions), max((len(i.args) for i in instructions), default=0), threads]
    body: list[int] = []
    heads: list[int] = []
    start = len(header) + 6 * len(instructions)
    for i in instructions:
        args = start + len(body)
        body += [word for pair in i.args for word in pair]
        sizes = start + len(body)
        body += i.sizes
        heads += [i.function, 8 * args, len(i.args), 8 * sizes, i.extent, i.grain]
    return header + heads + body


class _Native:
    """The linked functions of runtime.ll as ctypes callables, which release the GIL."""

    def __init__(self) -> None:
        here = Path(__file__).parent
        text = _platform_text() + "\n".join((here / f"{name}.ll").read_text(encoding="utf-8") for name in _PARTS)
        python = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in _PYTHON}
        library = toolchain.link(cache.compiled(text), _EXPORTS, python)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))  # workers may run in it when the interpreter is gone

        def function(name: str, result: Any, *parameters: Any, kind: Any = ctypes.CFUNCTYPE) -> Any:
            return kind(result, *parameters)(library.address(name))

        pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        self.functions = Functions(*map(library.address, Functions._fields))
        self.safepoint = library.address("safepoint")
        # It lets go of the GIL by itself, and leaves an exception for ctypes to raise.
        self.run = function("run", None, pointer, ctypes.c_char_p, kind=ctypes.PYFUNCTYPE)
        self.worker = function("worker", None, i64)
        self._reset = function("reset", None, i64, i64)
        self.configure = function("configure", None, i32, i32, i64)
        self.stop = function("stop", None)
        self.spin = function("spin", i64, i32)
        self.spins_per_second, self.cycles_per_second = self._measure_spin()

    def _measure_spin(self) -> tuple[float, float]:
        """Measure the pause instruction of this processor, which takes 5 to 150 cycles depending on the model."""
        times = []
        for _ in range(5):
            start = time.perf_counter()
            cycles = self.spin(200)
            times.append((time.perf_counter() - start, cycles))
        seconds, cycles = min(times)
        return 200 / seconds, cycles / seconds

    def reset(self) -> None:
        """Reset to no job and no workers."""
        self._reset(threading.main_thread().ident, int(SIGNAL_SECONDS * self.cycles_per_second))


class _State:
    """The state of the process."""

    def __init__(self) -> None:
        self.lock = forks.held("runtime", threading.RLock())
        self.native: _Native | None = None
        self.workers: list[threading.Thread] = []
        self.processors = available_processors()
        self.may_start = True


_state = _State()


def _runtime() -> _Native:
    """Return the native runtime; link it and start its workers on first use."""
    if _state.native is None:
        with _state.lock:
            if _state.native is None:
                native = _Native()
                native.reset()
                _start_workers(native)
                _state.native = native
    return _state.native


def _platform_text() -> str:
    """Return @relax, @wait and @wake for this platform."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    hint, parameters, arguments = _RELAX.get(machine, ("", "", ""))
    relax = f"declare void {hint}({parameters})\n" if hint else ""
    call = f"call void {hint}({arguments})" if hint else ""
    relax += f"define internal void @relax() alwaysinline {{\n  {call}\n  ret void\n}}\n"
    if not _can_sleep():
        names = ("wait", "nap", "wake")
        return relax + "".join(f"define internal void @{n}(ptr %word, i32 %value) {{\n  ret void\n}}\n" for n in names)
    futex = "".join(
        f"define internal void @{name}(ptr %word, i32 %value) {{\n"
        f"  %result = call i64 (i64, ...) @syscall(i64 {_FUTEX[machine]}, ptr %word, i32 {operation},"
        f" i32 %value, ptr {limit})\n"
        "  ret void\n}\n"
        for name, operation, limit in (("wait", _WAIT, "null"), ("nap", _WAIT, "@nap.time"), ("wake", _WAKE, "null"))
    )
    nap = f"@nap.time = internal constant {{ i64, i64 }} {{ i64 0, i64 {int(SIGNAL_SECONDS * 1e9)} }}\n"
    return relax + futex + nap + "declare i64 @syscall(i64, ...)\n"


def _can_sleep() -> bool:
    return sys.platform == "linux" and platform.machine().lower() in _FUTEX and sys.byteorder == "little"


def _start_workers(native: _Native) -> None:
    """Start the workers of the pool. The caller holds the lock of the state, and no worker is alive."""
    count = (Config.num_threads or _state.processors) - 1 if _state.may_start and _can_sleep() else 0
    native.configure(count, int(SPIN_SECONDS * native.spins_per_second), CHUNKS_PER_THREAD)
    for number in range(1, count + 1):
        thread = threading.Thread(target=native.worker, args=(number,), name=f"funcgrad-{number}", daemon=True)
        thread.start()
        _state.workers.append(thread)


def _stop_workers(patience: float = math.inf) -> None:
    """Stop the workers; do not wait longer than `patience` seconds for one that is inside a kernel."""
    native = _state.native
    deadline = time.monotonic() + patience
    while native is not None and any(t.is_alive() for t in _state.workers) and time.monotonic() < deadline:
        native.stop()
        for thread in _state.workers:
            thread.join(0.001)
    _state.workers.clear()


def _after_fork_in_child() -> None:
    """Reset the pool after a fork, which no worker survives."""
    _state.workers.clear()
    if _state.native is not None:
        _state.native.reset()


def _at_exit() -> None:
    _state.may_start = False
    _stop_workers(patience=1.0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)


def pack(pointers: Sequence[int]) -> bytes:
    """Pack pointers for `Program.run`. Frequent callers keep a `struct.Struct` instead."""
    return struct.pack(f"={len(pointers)}Q", *pointers)
