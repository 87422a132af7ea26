"""Programs of hand-written kernels: order, chunks, threads, forks, exceptions, exit."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from funcgrad.compiler.targets.llvm import runtime, toolchain
from funcgrad.compiler.targets.llvm.runtime import Instruction, Program

# double: y = 2 x.  mark: out[i] += thread, and 1000 more at the start of a chunk.  append: sizes[0] to a log.
IR = """
define void @double(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
entry:
  %y = load ptr, ptr %args
  %x.at = getelementptr ptr, ptr %args, i64 1
  %x = load ptr, ptr %x.at
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %from = getelementptr float, ptr %x, i64 %i
  %to = getelementptr float, ptr %y, i64 %i
  %value = load float, ptr %from
  %twice = fadd float %value, %value
  store float %twice, ptr %to
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}

define void @mark(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
entry:
  %out = load ptr, ptr %args
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %at = getelementptr i64, ptr %out, i64 %i
  %old = load i64, ptr %at
  %first = icmp eq i64 %i, %begin
  %extra = select i1 %first, i64 1000, i64 0
  %value = add i64 %thread, %extra
  %sum = add i64 %old, %value
  store i64 %sum, ptr %at
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}

define void @append(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
  %log = load ptr, ptr %args
  %count = load i64, ptr %log
  %count.next = add i64 %count, 1
  store i64 %count.next, ptr %log
  %at = getelementptr i64, ptr %log, i64 %count.next
  %value = load i64, ptr %sizes
  store i64 %value, ptr %at
  ret void
}
"""


@pytest.fixture(scope="module")
def library():
    return toolchain.link(toolchain.compile_ir(IR), ["double", "mark", "append"])


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    runtime.set_num_threads(request.param)
    yield request.param
    runtime.set_num_threads()


@pytest.fixture
def four_threads():
    runtime.set_num_threads(4)
    yield
    runtime.set_num_threads()


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def doubling(library, n: int, times: int = 1, grain: int = 1000) -> Program:
    return Program([Instruction(library.address("double"), ((0, 0), (1, 0)), (), n, grain)] * times, 2, [library])


def test_instructions_run_in_order_with_their_sizes(library):
    append = library.address("append")
    log = np.zeros(11, np.int64)
    Program([Instruction(append, ((0, 0),), (7 * i,), 1, 1) for i in range(10)], 1).run(runtime.pack([address(log)]))
    assert log.tolist() == [10, *range(0, 70, 7)]


def test_arguments_are_slots_with_byte_offsets(library):
    arena = np.arange(20, dtype=np.float32)
    instruction = Instruction(library.address("double"), ((1, 40), (0, 8)), (), 3, 10)
    out = np.zeros(20, np.float32)
    Program([instruction], 2).run(runtime.pack([address(arena), address(out)]))
    assert out.nonzero()[0].tolist() == [10, 11, 12] and out[10:13].tolist() == [4, 6, 8]


def test_an_empty_program_and_an_empty_extent(library):
    Program([], 0).run(b"")
    doubling(library, 0).run(runtime.pack([0, 0]))


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 123_457])
def test_every_iteration_runs_once(library, threads, n):
    program = Program([Instruction(library.address("mark"), ((0, 0),), (), n, 100)], 1)
    for _ in range(50):
        out = np.zeros(n, np.int64)
        program.run(runtime.pack([address(out)]))
        starts = np.flatnonzero(out >= 1000)
        assert (out % 1000 < threads).all() and (out < 2000).all()
        assert starts[0] == 0 and (starts % 100 == 0).all(), "chunks are whole multiples of the grain"
        assert len(starts) <= threads * runtime.CHUNKS_PER_THREAD


def test_chunks_depend_only_on_extent_grain_and_thread_count(library, four_threads):
    program = Program([Instruction(library.address("mark"), ((0, 0),), (), 10_000, 7)], 1)

    def starts() -> list[int]:
        out = np.zeros(10_000, np.int64)
        program.run(runtime.pack([address(out)]))
        return np.flatnonzero(out >= 1000).tolist()

    parallel = starts()
    assert all(starts() == parallel for _ in range(100))
    runtime.set_num_threads(1)  # the same program, with nobody to help
    assert starts() == parallel


def test_workers_take_part(library, four_threads):
    slow = []

    def chunk(pointers):
        slow.append(threading.get_ident())
        time.sleep(0.02)  # lets go of the GIL

    host = runtime.host_function(chunk, 0)
    Program([Instruction(host.function, (), host.sizes, 16, 1)], 0, [host]).run(b"")
    assert len(slow) == 16 and len(set(slow)) > 1


def test_many_small_jobs(library, four_threads):
    n, times = 5000, 300
    x, y = np.arange(n, dtype=np.float32), np.zeros(n, np.float32)
    program = doubling(library, n, times, grain=50)
    for _ in range(30):
        y[:] = 0
        program.run(runtime.pack([address(y), address(x)]))
        assert (y == 2 * x).all()


def test_concurrent_runs_from_python_threads(library, four_threads):
    n = 20_000
    program = doubling(library, n, 20, grain=100)
    wrong = []

    def work(seed: int) -> None:
        x, y = np.full(n, seed, np.float32), np.empty(n, np.float32)
        for _ in range(100):
            y[:] = 0
            program.run(runtime.pack([address(y), address(x)]))
            if not (y == 2 * seed).all():
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(1, 5)]
    [t.start() for t in workers]
    [t.join() for t in workers]
    assert not wrong


def test_thread_count_changes_while_others_run(library):
    n, stop, wrong = 20_000, threading.Event(), []
    program = doubling(library, n, 20, grain=100)

    def work() -> None:
        x, y = np.ones(n, np.float32), np.empty(n, np.float32)
        while not stop.is_set():
            y[:] = 0
            program.run(runtime.pack([address(y), address(x)]))
            if not (y == 2).all():
                wrong.append(1)

    runner = threading.Thread(target=work)
    runner.start()
    for count in (1, 3, 2, 6, 1, 4):
        runtime.set_num_threads(count)
        assert runtime.num_threads() == count
        time.sleep(0.01)
    stop.set()
    runner.join()
    runtime.set_num_threads()
    assert not wrong


def host_instruction(function, args=()) -> Instruction:
    """Return the instruction that calls a Python function of `args`, for whose life `kept` provides."""
    host = runtime.host_function(function, len(args))
    kept.append(host)
    return Instruction(host.function, tuple(args), host.sizes, 1, 1)


kept: list[object] = []


def test_host_functions_see_pointers():
    seen = []
    Program([host_instruction(seen.append, [(1, 4), (0, 0)])], 2).run(runtime.pack([100, 200]))
    assert seen == [[204, 100]]


def test_an_exception_in_a_host_function_ends_the_run_and_is_raised(library):
    error = KeyError("mine")

    def fail(pointers):
        raise error

    append = library.address("append")
    log = np.zeros(11, np.int64)
    before, after = (Instruction(append, ((0, 0),), (i,), 1, 1) for i in (1, 2))
    program = Program([before, host_instruction(fail, [(0, 0)]), after], 1, [library])
    for _ in range(3):
        log[:] = 0
        with pytest.raises(KeyError) as raised:
            program.run(runtime.pack([address(log)]))
        assert raised.value is error
        assert log[:3].tolist() == [1, 1, 0]


def test_exceptions_reach_the_thread_whose_run_failed():
    program = Program([host_instruction(lambda p: (_ for _ in ()).throw(ValueError(p[0])), [(0, 0)])], 1)
    wrong = []

    def work(seed: int) -> None:
        for _ in range(200):
            try:
                program.run(runtime.pack([seed]))
                wrong.append("no exception")
            except ValueError as error:
                if error.args != (seed,):
                    wrong.append(error.args)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_a_host_function_may_run_a_program(library, four_threads):
    x, y = np.ones(100_000, np.float32), np.zeros(100_000, np.float32)
    inner = doubling(library, x.size)
    Program([host_instruction(lambda p: inner.run(runtime.pack([address(y), address(x)])))], 0).run(b"")
    assert (y == 2).all()


def test_the_gil_is_released_while_a_program_runs(library):
    x, y = np.ones(1 << 20, np.float32), np.empty(1 << 20, np.float32)
    program = doubling(library, x.size, 2000, grain=1 << 30)
    ticks = 0
    runner = threading.Thread(target=program.run, args=(runtime.pack([address(y), address(x)]),))
    runner.start()
    while runner.is_alive():
        ticks += 1
        time.sleep(0.001)
    assert ticks > 10


def test_malformed_programs_are_refused(library):
    function = library.address("double")
    with pytest.raises(ValueError, match="slot 2 of 2"):
        Program([Instruction(function, ((2, 0),), (), 1, 1)], 2)
    with pytest.raises(ValueError, match="grain"):
        Program([Instruction(function, (), (), 1, 0)], 2)
    with pytest.raises(ValueError, match="null"):
        Program([Instruction(0, (), (), 1, 1)], 2)
    with pytest.raises(ValueError, match="2 slots was given 8 bytes"):
        doubling(library, 5).run(runtime.pack([0]))
    with pytest.raises(ValueError, match="between 1 and"):
        runtime.set_num_threads(0)


def test_runs_do_not_leak(library):
    x, y = np.ones(100, np.float32), np.empty(100, np.float32)
    program = doubling(library, 100, grain=10)
    slots = runtime.pack([address(y), address(x)])

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(20_000):
        program.run(slots)
    before = resident()
    for _ in range(100_000):
        program.run(slots)
    for _ in range(3000):
        doubling(library, 100)
    gc.collect()
    assert resident() - before < 2 << 20


def test_a_library_is_alive_as_long_as_its_program(library):
    own = toolchain.link(toolchain.compile_ir(IR), ["double"])
    program = Program([Instruction(own.address("double"), ((0, 0), (1, 0)), (), 3, 1)], 2, [own])
    del own
    gc.collect()
    x, y = np.ones(3, np.float32), np.empty(3, np.float32)
    program.run(runtime.pack([address(y), address(x)]))
    assert (y == 2).all()


def test_toolchain_errors_and_assembly():
    with pytest.raises(RuntimeError, match="parsing"):
        toolchain.compile_ir("define nonsense")
    assert "double:" in toolchain.assembly(IR)
    closed = toolchain.link(toolchain.compile_ir(IR), ["double"])
    with pytest.raises(KeyError):
        closed.address("append")
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        closed.address("double")


def test_imports():
    text = """
    declare double @{0}(double)
    define double @f(double %x) {{
      %y = call double @{0}(double %x)
      ret double %y
    }}"""
    cosine = ctypes.cast(ctypes.CDLL(None).cos, ctypes.c_void_p).value
    library = toolchain.link(toolchain.compile_ir(text.format("mine")), ["f"], {"mine": cosine})
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(library.address("f"))(0.0) == 1.0
    with pytest.raises(RuntimeError):
        toolchain.link(toolchain.compile_ir(text.format("nobody_has_this")), ["f"])


PREAMBLE = f"""
import os, sys, threading, time
import numpy as np
from funcgrad.compiler.targets.llvm import runtime, toolchain
from funcgrad.compiler.targets.llvm.runtime import Instruction, Program
runtime.set_num_threads(4)
library = toolchain.link(toolchain.compile_ir({IR!r}), ["double"])
x, y = np.ones(1 << 20, np.float32), np.empty(1 << 20, np.float32)
double = Instruction(library.address("double"), ((0, 0), (1, 0)), (), x.size, 1000)
program = Program([double] * 50, 2, [library])
slots = runtime.pack([a.__array_interface__["data"][0] for a in (y, x)])
def run():
    y[:] = 0
    program.run(slots)
    assert (y == 2).all()
run()
"""


def python(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", PREAMBLE + script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_exit_with_workers_spinning_asleep_and_at_work():
    python("print('done')")
    python("time.sleep(0.1); print('done')")
    python(
        "def forever():\n    while True: program.run(slots)\n"
        "threading.Thread(target=forever, daemon=True).start()\n"
        "time.sleep(0.05); print('done', flush=True)"
    )


def test_programs_run_in_exit_handlers():
    python("import atexit\natexit.register(lambda: (run(), print('done')))")
    # A handler registered before the pool's runs after the workers are gone.
    done = subprocess.run(
        [sys.executable, "-c", "import atexit\natexit.register(lambda: (run(), print('done')))\n" + PREAMBLE],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_forked_child_runs_serially():
    python(
        "stop = threading.Event()\n"
        "def busy():\n    while not stop.is_set(): program.run(slots)\n"
        "thread = threading.Thread(target=busy)\n"
        "thread.start()\n"  # the pool is in use, its lock held, at the moment of the fork
        "for _ in range(20):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        try:\n"
        "            for _ in range(3): run()\n"
        "            assert runtime.num_threads() == 4 and not runtime._state.workers\n"
        "            os._exit(0)\n"
        "        except BaseException as error:\n"
        "            print(error, file=sys.stderr)\n"
        "            os._exit(1)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "stop.set(); thread.join(); run()\n"
        "print('done')"
    )
