"""Compiled kernels: one piece of machine code per kernel form, shared by all programs of the process.

The canonical loop form is the key, in memory and on disk. Code is unloaded when the last program that uses it is gone.
"""

from __future__ import annotations

import functools
import hashlib
import weakref
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
# What compiling cost in this process, by origin: "compiled" from source, "disk", or "reused" from memory.
origins = {"compiled": 0, "disk": 0, "reused": 0}


def get(kernel: Kernel) -> tuple[CompiledKernel, str]:
    """Return the machine code of a kernel and its origin: "reused", "disk" or "compiled"."""
    found = _loaded.get(kernel)
    if found is not None:
        origins["reused"] += 1
        return found, "reused"
    imports = runtime.safepoint()
    with toolchain.lock:
        key = cache.key(f"{_sources()}\n{loops.format(kernel)}")
        code, origin = cache.get(key), "disk"
        if code is None:
            code, origin = toolchain.compile_ir(llvm_text(kernel)), "compiled"
            cache.put(key, code)
        found = CompiledKernel(kernel, toolchain.link(code, [kernel.name], imports))
        _loaded[kernel] = found
        origins[origin] += 1
        return found, origin


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
