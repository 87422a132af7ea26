"""Compiled kernels: one piece of machine code per kernel form, shared by all programs of the process.

The canonical loop form is the key, in memory and on disk. Code is unloaded when the last program that uses it is gone.
"""

from __future__ import annotations

import functools
import hashlib
import re
import weakref
from collections.abc import Callable
from pathlib import Path

from funcgrad.compiler.loops import language as loops
from funcgrad.compiler.loops.language import Kernel
from funcgrad.compiler.targets.llvm import cache, runtime, toolchain


class CompiledKernel:
    """The machine code of a kernel: its address, and the reference that keeps it loaded."""

    __slots__ = ("address", "library", "__weakref__")

    def __init__(self, kernel: Kernel, library: toolchain.Library):
        self.library = library
        self.address = library.address(kernel.name)


_loaded: weakref.WeakValueDictionary[Kernel, CompiledKernel] = weakref.WeakValueDictionary()
# Symbols of functions for far arguments, in object code, and what keeps their code loaded.
_FAR = re.compile(rb"fg\.\w+\.far")
_resident: list[toolchain.Library] = []
# What compiling cost in this process, by origin: "compiled" from source, "disk", or "reused" from memory.
origins = {"compiled": 0, "disk": 0, "reused": 0}


def get(kernel: Kernel) -> tuple[CompiledKernel, str]:
    """Return the machine code of a kernel and its origin: "reused", "disk" or "compiled"."""
    found = _loaded.get(kernel)
    if found is not None:
        origins["reused"] += 1
        return found, "reused"
    with toolchain.lock:
        code, origin = _cached(loops.format(kernel), lambda: llvm_text(kernel))
        found = CompiledKernel(kernel, linked(code, kernel.name))
        _loaded[kernel] = found
        origins[origin] += 1
        return found, origin


def linked(code: bytes, name: str) -> toolchain.Library:
    """Load the object code of a kernel, with the functions that it calls."""
    far = _far_functions() if _FAR.search(code) else {}
    return toolchain.link(code, [name], runtime.safepoint() | far)


@functools.cache
def _far_functions() -> dict[str, int]:
    """The addresses of the functions for far arguments, which are compiled once: see `vector_math.choices`."""
    code, _ = _cached("far functions", _far_text)
    symbols = {name.decode() for name in _FAR.findall(code)}
    library = toolchain.link(code, symbols)
    _resident.append(library)
    return {name: library.address(name) for name in symbols}


def _cached(name: str, text: Callable[[], str]) -> tuple[bytes, str]:
    """Object code from the disk, or compiled from LLVM IR, and its origin."""
    key = cache.key(f"{_sources()}\n{name}")
    code = cache.get(key)
    if code is not None:
        return code, "disk"
    code = toolchain.compile_ir(text())
    cache.put(key, code)
    return code, "compiled"


def _far_text() -> str:
    from funcgrad.compiler.targets.llvm import vector_math  # as in `llvm_text`

    return vector_math.far_functions()


def llvm_text(kernel: Kernel) -> str:
    """Return the LLVM IR of a kernel."""
    from funcgrad.compiler.targets.llvm import emit  # llvmlite's IR builder: not needed when kernels come from disk

    return emit.emit([kernel])


@functools.cache
def _sources() -> str:
    """A digest of the code generator, which invalidates cached code when the generator changes."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    language = Path(loops.__file__)
    for path in sorted([language, *here.rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
