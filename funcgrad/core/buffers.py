"""Host memory for arrays, taken from a pool.

Fresh memory costs a page fault per 4 KiB, which for a 4 MB result is many times the cost of an addition into
it. Freed blocks are therefore kept, by size class, and handed out again: a loop that allocates the same sizes
in every round touches the same warm pages. Blocks of 2 MiB and more ask the kernel for huge pages.

A block goes back to the pool when its `HostBuffer` and every NumPy view of it are gone; views hold the
buffer.
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
_TINY = 4 << 10  # blocks up to here have a class every 64 bytes, larger ones four classes an octave
_SMALL = 64 << 10  # blocks up to here are byte arrays, larger ones memory maps
_SMALL_IDLE = 1 << 20  # how many bytes of each small class may lie idle
_HUGE_PAGE = 2 << 20

Block = tuple[Any, int]  # the object that owns the memory, and the aligned address


class _Class(list):
    """The idle blocks of one size class, warmest last. List operations are atomic, so the pool needs no lock
    for them."""

    __slots__ = ("capacity", "size")

    def __init__(self, size: int):
        self.size = size
        self.capacity = 0  # how many blocks may lie here without being counted
        if 0 < size <= _SMALL:
            self.capacity = min(_SMALL_IDLE, _limit) // size


class HostBuffer:
    """`nbytes` of memory at address `pointer`, valid while this object or a view of it lives."""

    __slots__ = ("__weakref__", "_block", "_class", "nbytes", "pointer")

    def __init__(self, block: Block, nbytes: int, size_class: _Class):
        self.pointer = block[1]
        self.nbytes = nbytes
        self._block = block
        self._class = size_class

    def __del__(self) -> None:
        try:
            size_class = self._class
        except AttributeError:  # a signal's handler raised before __init__ was done: the block is freed, not pooled
            return
        if len(size_class) < size_class.capacity:
            size_class.append(self._block)
        elif _SMALL is not None and size_class.size > _SMALL:  # None while the interpreter shuts down
            _release_large(size_class, self._block)

    def as_numpy(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """A read-only, C-contiguous view of the first bytes as an array; its base keeps the buffer alive.

        Raises:
          ValueError: the array would be larger than the buffer.
        """
        dtype = np.dtype(dtype)
        count = dtype.itemsize
        for size in shape:
            count *= size
        if count > self.nbytes:
            wanted = f"{dtype}{list(shape)} needs {count} bytes"
            raise ValueError(f"as_numpy: {wanted}, the buffer has {self.nbytes}")
        if dtype.kind == "V":  # bfloat16 and the like, which the array interface cannot name
            return np.asarray(_View(self, tuple(shape), f"|u{dtype.itemsize}")).view(dtype)
        return np.asarray(_View(self, tuple(shape), dtype.str))


class _View:
    """What NumPy makes an array from, and keeps as its base: the array interface, and the buffer that owns
    the memory."""

    __slots__ = ("__array_interface__", "buffer")

    def __init__(self, buffer: HostBuffer, shape: tuple[int, ...], typestr: str):
        self.buffer = buffer
        data = (buffer.pointer, True)  # True: read-only
        self.__array_interface__ = {"shape": shape, "typestr": typestr, "data": data, "version": 3}


def allocate(nbytes: int) -> HostBuffer:
    """Uninitialized memory of `nbytes`, aligned to 64 bytes, from the pool.

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
    """The memory of a NumPy array as a buffer: shared if the array is C-contiguous, else a contiguous copy of
    it."""
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return HostBuffer((array, array.__array_interface__["data"][0]), array.nbytes, _not_pooled)


def set_pool_limit(nbytes: int | None = None) -> None:
    """Set how many bytes may lie idle in the pool; None is a quarter of the machine's memory, at least 1 GiB.

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
    """How many bytes lie idle in the pool."""
    return sum(size_class.size * len(size_class) for size_class in list(_classes.values()))


def clear_pool() -> None:
    """Give all idle memory back to the system."""
    for size_class in list(_classes.values()):
        size_class.clear()
    _recount()


def _class_of(nbytes: int) -> _Class:
    """The size class for a block of more than 4 KiB; it wastes at most a quarter."""
    if nbytes < 0:
        raise ValueError(f"allocate: {nbytes} bytes")
    step = nbytes.bit_length() - 3
    size = -(-nbytes >> step) << step
    found = _classes.get(size)
    return _classes.setdefault(size, _Class(size)) if found is None else found


def _release_large(size_class: _Class, block: Block) -> None:
    """Take a large block back; the largest idle ones go to the system when the limit is passed."""
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
    """A new block, if need be after the pool's idle memory was given back."""
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
# Re-entrant: the garbage collector may run a HostBuffer's __del__ while it is held.
_lock = forks.held("buffers", threading.RLock())
_not_pooled = _Class(0)
_classes = {size: _Class(size) for size in range(64, _TINY + 1, 64)}
_tiny = [_classes[max(size, 64)] for size in range(0, _TINY + 1, 64)]
