"""LLVM IR text → object code → callable addresses, for the processor this process runs on.

llvmlite is imported on first use, so `import funcgrad` does not pay for it. Everything here may be called
from any thread: llvmlite serializes LLVM under its own lock and releases the GIL meanwhile.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import threading
import types
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from funcgrad.core import forks

# What generated code may call in libc and libm; LLVM itself introduces the mem* functions.
_EXTERNALS = ("memcpy", "memmove", "memset", "fmod", "fmodf", "syscall")
_library_numbers = itertools.count()


class Target(NamedTuple):
    """The machine that code is compiled for: LLVM's target triple, CPU name and feature string."""

    triple: str
    cpu: str
    features: str


class Library:
    """Linked machine code, unloaded when this object is closed or collected."""

    __slots__ = ("_tracker",)

    def __init__(self, tracker: Any):
        self._tracker = tracker

    def address(self, name: str) -> int:
        """Return the address of an exported function or global; raise KeyError if `name` was not linked."""
        if self._tracker is None:
            raise ValueError(f"address of {name!r}: the library is closed")
        return self._tracker[name]

    def close(self) -> None:
        """Unload the code now. Calling into it afterwards crashes."""
        self._tracker = None


lock = forks.held("toolchain", threading.RLock())  # held while compiling; a signal's handler may compile too


@functools.cache
def _llvm() -> types.ModuleType:
    with lock:
        import llvmlite.binding as llvm

        forks.held("llvmlite", llvm.ffi.lib._lock)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        return llvm


@functools.cache
def host() -> Target:
    """Return the processor of this machine, with its features.

    512-bit vectors are used wherever the processor has them: LLVM's tuning for Intel prefers 256 bits, a
    guard against the clock drop of early AVX-512 parts that costs half the throughput on later ones.
    """
    llvm = _llvm()
    features = llvm.get_host_cpu_features()
    flags = features.flatten()
    if features.get("avx512f"):
        flags += ",-prefer-256-bit"
    return Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), flags)


def vector_bytes() -> int:
    """Return the number of bytes in a vector register of the target."""
    features = host().features.split(",")
    return 64 if "+avx512f" in features else 32 if "+avx" in features else 16


def fingerprint() -> str:
    """Return everything that object code depends on except its source: the compiler versions and the target."""
    import llvmlite

    version = ".".join(map(str, _llvm().llvm_version_info))
    return "\n".join((llvmlite.__version__, version, *host()))


def compile_ir(text: str, *, optimize: bool = True) -> bytes:
    """Optimize a module of LLVM IR (O2, loop and SLP vectorization, late inlining) and return its object code.

    Code written by hand as it shall run is compiled without `optimize`, in a third of the time.

    Raises:
      RuntimeError: the text is not valid IR.
    """
    module, machine = _parsed(text), _machine(3 if optimize else 1)
    return machine.emit_object(_optimized(module) if optimize else module)


def assembly(text: str) -> str:
    """Return the assembly that `compile_ir` makes from `text`."""
    return _machine().emit_assembly(_optimized(_parsed(text)))


def link(object_bytes: bytes, names: Iterable[str], imports: Mapping[str, int] | None = None) -> Library:
    """Load object code into the process and export `names`.

    Undefined symbols resolve to `imports`, a table from name to address, and to a few functions of libc and
    libm.

    Raises:
      RuntimeError: a symbol is undefined, or a name is not in the object.
    """
    builder = _llvm().JITLibraryBuilder().add_object_img(object_bytes)
    for name, address in {**_externals(), **(imports or {})}.items():
        builder.import_symbol(name, address)
    for name in names:
        builder.export_symbol(name)
    return Library(builder.link(_jit(), f"funcgrad.{next(_library_numbers)}"))


@functools.cache
def _machine(effort: int = 3) -> Any:
    target = host()
    return (
        _llvm()
        .Target.from_triple(target.triple)
        .create_target_machine(cpu=target.cpu, features=target.features, opt=effort)
    )


@functools.cache
def _jit() -> Any:
    jit = _llvm().create_lljit_compiler(_machine())
    # Threads may still be inside linked code while the interpreter shuts down: never dispose of it.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(jit))
    return jit


@functools.cache
def _externals() -> dict[str, int]:
    libc = ctypes.CDLL("msvcrt" if os.name == "nt" else None)
    found = {name: getattr(libc, name, None) for name in _EXTERNALS}
    return {name: ctypes.cast(f, ctypes.c_void_p).value or 0 for name, f in found.items() if f is not None}


def _parsed(text: str) -> Any:
    module = _llvm().parse_assembly(text, _llvm().create_context())
    module.triple = host().triple
    module.data_layout = str(_machine().target_data)
    module.verify()
    return module


def _optimized(module: Any) -> Any:
    llvm = _llvm()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    passes = llvm.create_pass_builder(_machine(), tuning)
    manager = passes.getModulePassManager()
    manager.add_always_inliner_pass()  # of vector variants that loops call since they are vectorized
    manager.run(module, passes)
    _dispose(manager)
    return module


def _dispose(manager: Any) -> None:
    """Free a pass manager and its analyses, 50 to 200 KB, which llvmlite 0.50 does not free.

    Its class inherits ObjectRef's empty `_dispose` before the one that is meant for it.
    """
    from llvmlite.binding import ffi, newpassmanagers

    if type(manager)._dispose is ffi.ObjectRef._dispose:
        newpassmanagers.NewPassManager._dispose(manager)
        manager.detach()
