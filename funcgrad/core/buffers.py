"""Host memory for arrays, allocated from a pool.

Fresh memory costs a page fault per 4 KiB, which for a 4 MB result is many times the cost of an addition. Freed blocks
are therefore kept by size class and reused: a loop that allocates the same sizes in every iteration uses the same warm
pages. Blocks of 2 MiB or more use huge pages.

A block returns to the pool when its `HostBuffer` and all NumPy views of it are deleted; views reference the buffer.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.core import forks

ALIGNMENT = 64
_TINY = 4 << 10  # blocks up to this size have a class every 64 bytes, larger ones four classes per octave
_SMALL = 64 << 10  # blocks up to this size are byte arrays, larger ones memory maps
_SMALL_IDLE = 1 << 20  # the limit of idle bytes per small class
_HUGE_PAGE = 2 << 20

Block = tuple[Any, int]  # the object that owns the memory, and the aligned address


class _Class(list):
    """The idle blocks of a size class, the most recently used last. They need no lock: list operations are atomic."""

    __slots__ = ("capacity", "size")

    def __init__(self, size: int):
        self.size = size
        self.capacity = 0  # the number of idle blocks that are not counted
        if 0 < size <= _SMALL:
            self.capacity = min(_SMALL_IDLE, _limit) // size


class HostBuffer:
    """`nbytes` of memory at address `pointer`, valid while this object or a view of it is alive."""

    __slots__ = ("__weakref__", "_block", "_class", "nbytes", "pointer")

    def __init__(self, block: Block, nbytes: int, size_class: _Class):
        self.pointer = block[1]
        self.nbytes = nbytes
        self._block = block
        self._class = size_class

    def __del__(self) -> None:
        try:
            size_class = self._class
        except AttributeError:  # a signal handler raised during __init__: the block is freed instead of pooled
            return
        if len(size_class) < size_class.capacity:
            size_class.append(self._block)
        elif _SMALL is not None and size_class.size > _SMALL:  # None during interpreter shutdown
            _release_large(size_class, self._block)

    def as_numpy(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Return a read-only, C-contiguous view of the first bytes, whose base keeps the buffer alive.

        Raises:
          ValueError: the array would be larger than the buffer.
        """
        dtype = np.dtype(dtype)
        count = dtype.itemsize
        for size in shape:
            count *= size
        if count > self.nbytes:
            raise ValueError(f"as_numpy: {dtype}{list(shape)} needs {count} bytes, the buffer has {self.nbytes}")
        if dtype.kind == "V":  # extension dtypes such as bfloat16, which the array interface does not support
            return np.asarray(_View(self, tuple(shape), f"|u{dtype.itemsize}")).view(dtype)
        return np.asarray(_View(self, tuple(shape), dtype.str))


class _View:
    """An object with the array interface, from which NumPy makes an array, and a reference to the buffer."""

    __slots__ = ("__array_interface__", "buffer")

    def __init__(self, buffer: HostBuffer, shape: tuple[int, ...], typestr: str):
        self.buffer = buffer
        data = (buffer.pointer, True)  # True: read-only
        self.__array_interface__ = {"shape": shape, "typestr": typestr, "data": data, "version": 3}


def allocate(nbytes: int) -> HostBuffer:
    """Allocate `nbytes` of uninitialized memory, aligned to 64 bytes, from the pool.

    Raises:
      MemoryError: the system does not have that much.
    """
    size_class = _tiny[(nbytes + 63) >> 6] if 0 <= nbytes <= _TINY else _class_of(nbytes)
    try:
        block = size_class.pop()
    except IndexError:
        block = _fresh(size_class.size)
    else:
        if not size_class.capacity:
            _count_idle(-size_class.size)
    return HostBuffer(block, nbytes, size_class)


def wrap(array: np.ndarray) -> HostBuffer:
    """Return the memory of a NumPy array as a buffer, shared if it is C-contiguous, otherwise copied."""
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return HostBuffer((array, array.__array_interface__["data"][0]), array.nbytes, _not_pooled)


def set_pool_limit(nbytes: int | None = None) -> None:
    """Set the limit of idle bytes in the pool; None means a quarter of the machine's memory, at least 1 GiB.

    The many small blocks are bounded class by class, at 1 MiB or the limit if that is less, and not counted
    together.
    """
    global _limit
    _limit = max(1 << 30, _physical_memory() // 4) if nbytes is None else nbytes
    for size_class in list(_classes.values()):
        size_class.capacity = _Class(size_class.size).capacity
        del size_class[size_class.capacity :]
    _recount()


def idle_bytes() -> int:
    """Return the number of idle bytes in the pool."""
    return sum(size_class.size * len(size_class) for size_class in list(_classes.values()))


def clear_pool() -> None:
    """Return all idle memory to the system."""
    for size_class in list(_classes.values()):
        size_class.clear()
    _recount()


def _class_of(nbytes: int) -> _Class:
    """Return the size class of a block of more than 4 KiB, which wastes at most a quarter."""
    if nbytes < 0:
        raise ValueError(f"allocate: {nbytes} bytes")
    step = nbytes.bit_length() - 3
    size = -(-nbytes >> step) << step
    found = _classes.get(size)
    return _classes.setdefault(size, _Class(size)) if found is None else found


def _release_large(size_class: _Class, block: Block) -> None:
    """Return a large block to the pool; above the limit, the largest idle blocks are returned to the system."""
    if size_class.size > _limit:
        return
    if _large_idle + size_class.size > _limit:
        for other in sorted(list(_classes.values()), key=lambda c: -c.size):
            while other and not other.capacity and _large_idle + size_class.size > _limit:
                _take(other)
    _count_idle(size_class.size)
    size_class.append(block)


def _take(size_class: _Class) -> None:
    with contextlib.suppress(IndexError):  # another thread took the last one
        size_class.pop()
        _count_idle(-size_class.size)


def _count_idle(change: int) -> None:
    global _large_idle
    with _lock:
        _large_idle += change


def _recount() -> None:
    global _large_idle
    with _lock:
        _large_idle = sum(c.size * len(c) for c in list(_classes.values()) if c.size > _SMALL)


def _fresh(size: int) -> Block:
    """Allocate a new block; if that fails, return the idle memory to the system and try again."""
    try:
        return _from_system(size)
    except MemoryError:
        clear_pool()
        return _from_system(size)


def _from_system(size: int) -> Block:
    if size <= _SMALL:
        return _aligned(bytearray(size + ALIGNMENT), ALIGNMENT)
    huge = size >= _HUGE_PAGE
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        memory = mmap.mmap(-1, size + _HUGE_PAGE if huge else size, **private)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(f"cannot allocate {size} bytes: {error}") from error
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without transparent huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return _aligned(memory, _HUGE_PAGE if huge else ALIGNMENT)


def _aligned(memory: Any, alignment: int) -> Block:
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return memory, address + -address % alignment


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


_limit = max(1 << 30, _physical_memory() // 4)
_large_idle = 0
# Reentrant: the garbage collector may run HostBuffer.__del__ while it is held.
_lock = forks.held("buffers", threading.RLock())
_not_pooled = _Class(0)
_classes = {size: _Class(size) for size in range(64, _TINY + 1, 64)}
_tiny = [_classes[max(size, 64)] for size in range(0, _TINY + 1, 64)]
