"""Compiled functions of modules: compiled by numba, or loaded from the disk cache of an earlier process.

The scalar functions that kernels call exist once per process. What numba makes of a function is stored in funcgrad's
cache under the text of its module, the types of its arguments, the processor, and the versions of Python and numba.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
from numba.core import serialize
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher

from funcgrad.compiler.targets.llvm import cache as disk
from funcgrad.compiler.targets.numba.module import CONSTANTS, HEAD, ModuleWriter

_lock = threading.RLock()
_shared: dict[str, Any] = {"__name__": __name__}  # the names that modules share: imports and scalar functions
_defined: set[str] = set()
exec(f"{HEAD}\n{CONSTANTS}", _shared)


class Compiled(NamedTuple):
    """A function for the types that it was compiled for, and the origin of its code: "compiled" or "disk"."""

    function: Any
    origin: str


def compile_function(writer: ModuleWriter, name: str, arguments: Sequence[Any]) -> Compiled:
    """Compile a function of a module for these numba types of arguments."""
    function = load(writer, name)
    entry = function.compile(tuple(arguments))
    return Compiled(entry, "disk" if function.stats.cache_hits else "compiled")


def load(writer: ModuleWriter, name: str) -> Any:
    """Return a function of a module. numba compiles it when it is called, unless the disk has it."""
    text = writer.text(name)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with _lock:
        for definition in writer.functions.texts():
            if definition not in _defined:
                exec(definition, _shared)
                _defined.add(definition)
        namespace = dict(_shared)
    exec("\n\n".join(writer.parts), namespace)
    for symbol in writer.names:
        if isinstance(namespace.get(symbol), Dispatcher) and namespace[symbol] is not _shared.get(symbol):
            # Symbols of machine code are made of this name; code from the disk would clash with a namesake's.
            namespace[symbol].py_func.__qualname__ = f"{symbol}_{digest[:16]}"
    namespace[name]._cache = _Cache(f"{text}\n{name}")
    return namespace[name]


class _Cache(NullCache):
    """What numba asks before it compiles a function, and tells what it compiled."""

    def __init__(self, text: str) -> None:
        self.text = text

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        target_context.refresh()
        stored = disk.get(self._key(sig, target_context.codegen()))
        return None if stored is None else CompileResult._rebuild(target_context, *pickle.loads(stored))

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        if not data.library.has_dynamic_globals:
            disk.put(self._key(sig, data.library.codegen), serialize.dumps(data._reduce()))

    def _key(self, sig: Any, codegen: Any) -> str:
        versions = numba.__version__, sys.version_info[:2], codegen.magic_tuple()
        return disk.key(f"numba {versions}\n{sig}\n{self.text}")
