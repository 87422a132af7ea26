"""Python threads that share the iterations of a kernel, which runs without the GIL.

numba has parallel loops of its own. Their threads abort the process when two callers enter at once (workqueue), do not
survive a fork and stall while another process has a core (omp), or must be installed separately (tbb). Here the caller
takes part, threads claim pieces one by one, and nobody waits for a thread that has not started.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

Work = Callable[[int, int, int], None]  # start, stop, number of the thread


def divide(work: Work, pieces: Iterable[tuple[int, int]], threads: int, ended: Any = None) -> None:
    """Call `work` for each piece (start, stop), on as many as `threads` threads, the caller's being number 0.

    What it raises ends the work, after the other threads have left it, and is raised. The first element of `ended` then
    becomes 1, which pieces that take long may look at.
    """
    job = _Job(work, pieces, ended if ended is not None else [0])
    _pool.invite(job, threads - 1)
    job.run()


class _Job:
    """A job: the work and its remaining pieces."""

    def __init__(self, work: Work, pieces: Iterable[tuple[int, int]], ended: Any) -> None:
        self.work, self.ended = work, ended
        self.pieces = iter(list(pieces))  # under the GIL, only one thread gets each
        self.lock = threading.Lock()
        self.helpers = self.inside = 0
        self.closed = False
        self.empty = threading.Event()
        self.error: BaseException | None = None

    def help(self) -> None:
        """Work on the job, unless it is finished."""
        with self.lock:
            if self.closed:
                return
            self.helpers, self.inside = self.helpers + 1, self.inside + 1
            number = self.helpers
        try:
            self._claim(number)
        except BaseException as error:
            self.error = error
        with self.lock:
            self.inside -= 1
            if self.closed and self.inside == 0:
                self.empty.set()

    def run(self) -> None:
        """Work on the job, and return when it is finished."""
        try:
            self._claim(0)
        finally:
            self._close()
        if self.error is not None:
            raise self.error

    def _claim(self, number: int) -> None:
        try:
            for start, stop in self.pieces:
                self.work(start, stop, number)
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self.ended[0] = 1
        list(self.pieces)  # nobody starts another piece

    def _close(self) -> None:
        """Wait for the threads that are inside: the memory that they work on is the caller's."""
        with self.lock:
            self.closed = True
            waits = self.inside > 0
        interrupt: BaseException | None = None
        while waits and not self.empty.is_set():
            try:
                self.empty.wait()
            except BaseException as error:  # the handler of a signal raised it
                interrupt = error
                self._end()
        if interrupt is not None:
            raise interrupt


class _Pool:
    """Threads that wait for jobs."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Reset the pool in the child of a fork, which has no threads."""
        self.lock = threading.Lock()
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.count = 0

    def invite(self, job: _Job, count: int) -> None:
        """Wake `count` threads to work on a job."""
        if self.count < count:
            with self.lock:
                for number in range(self.count, count):
                    threading.Thread(target=self._serve, name=f"funcgrad-numba-{number + 1}", daemon=True).start()
                self.count = max(self.count, count)
        for _ in range(count):
            self.jobs.put(job)

    def _serve(self) -> None:
        while True:
            self.jobs.get().help()


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)
