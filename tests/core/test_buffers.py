"""The buffer pool: reuse, lifetime through views, bounds, and threads."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest

from funcgrad.core import buffers


@pytest.fixture(autouse=True)
def fresh_pool():
    gc.collect()
    buffers.clear_pool()
    yield
    buffers.set_pool_limit()
    buffers.clear_pool()


@pytest.mark.parametrize("nbytes", [0, 1, 64, 65, 4096, 4097, 100_000, 65 << 10, 3 << 20])
def test_memory_is_aligned_writable_and_reused(nbytes):
    first = buffers.allocate(nbytes)
    pointer = first.pointer
    assert pointer % buffers.ALIGNMENT == 0 and first.nbytes == nbytes
    del first
    assert buffers.idle_bytes() >= nbytes
    again = buffers.allocate(nbytes)
    assert again.pointer == pointer
    assert buffers.allocate(nbytes).pointer != pointer, "two live buffers share memory"


def test_every_byte_belongs_to_one_buffer():
    rng = np.random.default_rng(0)
    live = []
    for step in range(3000):
        if live and rng.random() < 0.5:
            buffer, mark = live.pop(rng.integers(len(live)))
            assert set(ctypes.string_at(buffer.pointer, buffer.nbytes)) == {mark}
        else:
            buffer = buffers.allocate(int(2 ** rng.uniform(0, 18)))
            mark = step % 256
            ctypes.memset(buffer.pointer, mark, buffer.nbytes)
            live.append((buffer, mark))


def test_views_are_read_only_and_keep_the_memory():
    source = np.arange(24, dtype=np.float32)
    buffer = buffers.allocate(source.nbytes)
    ctypes.memmove(buffer.pointer, source.ctypes.data, source.nbytes)
    view = buffer.as_numpy((2, 3, 4), np.float32)
    part = view[1, 1:].T
    del view, buffer
    gc.collect()
    assert buffers.idle_bytes() == 0, "the memory was released under a view"
    assert part.tolist() == source.reshape(2, 3, 4)[1, 1:].T.tolist()
    with pytest.raises(ValueError):
        part[0, 0] = 1
    with pytest.raises(ValueError):
        part.flags.writeable = True
    del part
    assert buffers.idle_bytes() > 0


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float16, ml_dtypes.bfloat16, np.complex128])
def test_views_of_every_kind_of_dtype(dtype):
    values = np.array([0, 1, 3]).astype(dtype)
    view = buffers.wrap(values).as_numpy((3,), dtype)
    assert view.dtype == np.dtype(dtype) and view.tolist() == values.tolist() and not view.flags.writeable


def test_views_of_no_elements_and_no_axes():
    assert buffers.allocate(0).as_numpy((0, 3), np.float32).shape == (0, 3)
    assert buffers.wrap(np.array(5.0)).as_numpy((), np.float64) == 5.0


def test_a_view_larger_than_the_buffer_is_refused():
    with pytest.raises(ValueError, match=r"float32\[5\] needs 20 bytes, the buffer has 16"):
        buffers.allocate(16).as_numpy((5,), np.float32)


def test_wrap_shares_contiguous_memory_and_copies_the_rest():
    array = np.arange(12.0).reshape(3, 4)
    shared = buffers.wrap(array)
    assert shared.pointer == array.ctypes.data
    del array
    gc.collect()
    assert shared.as_numpy((12,), np.float64).tolist() == list(range(12))
    turned = np.arange(12.0).reshape(3, 4).T
    copied = buffers.wrap(turned)
    assert copied.pointer != turned.ctypes.data
    assert copied.as_numpy((4, 3), np.float64).tolist() == turned.tolist()
    del shared, copied
    assert buffers.idle_bytes() == 0, "a foreign array went into the pool"


def test_the_pool_keeps_no_more_than_its_limit():
    buffers.set_pool_limit(4 << 20)
    live = [buffers.allocate(1 << 20) for _ in range(10)]
    live.append(buffers.allocate(8 << 20))
    live.clear()
    assert 0 < buffers.idle_bytes() <= 4 << 20
    buffers.set_pool_limit(0)
    assert buffers.idle_bytes() == 0
    buffers.allocate(100)
    buffers.allocate(1 << 20)
    assert buffers.idle_bytes() == 0


def test_idle_small_blocks_are_bounded():
    live = [buffers.allocate(1000) for _ in range(20_000)]
    live.clear()
    assert buffers.idle_bytes() <= 1 << 20


def test_too_much_is_a_memory_error_and_negative_a_value_error():
    with pytest.raises(MemoryError):
        buffers.allocate(1 << 60)
    with pytest.raises(MemoryError):
        buffers.allocate(1 << 200)
    with pytest.raises(ValueError):
        buffers.allocate(-1)


def test_threads_share_the_pool():
    failures = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(2000):
            one = buffers.allocate(int(rng.integers(1, 200_000)))
            two = buffers.allocate(one.nbytes)
            if one.pointer == two.pointer:
                failures.append(one.pointer)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    gc.collect()
    large = [c for c in buffers._classes.values() if c.size > 64 << 10]
    assert buffers._large_idle == sum(c.size * len(c) for c in large) > 0, "the count of idle bytes drifted"


def test_buffers_alive_at_interpreter_exit_are_silent():
    script = (
        "from funcgrad.core import buffers\n"
        "keep = [buffers.allocate(n) for n in (10, 10**5, 10**7)]\n"
        "view = keep[0].as_numpy((2,), 'f4')\n"
        "class Cycle: pass\n"
        "c = Cycle(); c.me = c; c.buffer = buffers.allocate(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
