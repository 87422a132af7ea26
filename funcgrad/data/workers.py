"""Processes that make minibatches, which come back through shared memory."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import sharedctypes
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np

from funcgrad import tree
from funcgrad.errors import ArgumentError, WorkerError

_ALIGNMENT = 64


class Task(NamedTuple):
    """A minibatch to make: its epoch, its number in the epoch, and the indices of its examples."""

    epoch: int
    number: int
    indices: np.ndarray


@dataclass(frozen=True)
class _Placed:
    """An array in shared memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, slot: Any) -> np.ndarray:
        """Return a copy: the slot is used again."""
        return np.ndarray(self.shape, self.dtype, slot, self.offset).copy()


@dataclass(frozen=True)
class _Failure:
    """What a worker raised; `error` is None if it cannot be pickled."""

    error: bytes | None
    summary: str
    traceback: str


class _Worker(NamedTuple):
    process: Any
    connection: Any
    slots: list[Any]


class WorkerPool:
    """Processes that make minibatches in turn: the k-th minibatch of a run is made by worker k mod n.

    A worker has slots of shared memory, one per minibatch that it prepares ahead. The slot of a task first holds the
    indices of the examples, then the arrays of the minibatch. Arrays that do not fit come through the pipe.
    """

    def __init__(self, recipe: Any, workers: int, prefetch: int, slot_size: int, context: str, timeout: float | None):
        methods = multiprocessing.get_all_start_methods()
        if context not in methods:
            raise ArgumentError(f"DataLoader: context {context!r}", fix=f"choose one of {', '.join(methods)}")
        self._timeout, self.closed = timeout, False
        self._pending: deque[tuple[int, int, Task]] = deque()
        self._runs = 0
        self._workers: list[_Worker] = []
        for _ in range(workers):
            self._workers.append(_start(recipe, prefetch, slot_size, multiprocessing.get_context(context)))

    def run(self, tasks: Iterator[Task]) -> Iterator[Any]:
        """Yield the minibatches of the tasks, in order. A new run ends the one before."""
        self._runs += 1
        mine = self._runs
        while self._pending:  # what an iteration that was left early had asked for
            self._receive(*self._pending.popleft())
        places = [(w, s) for s in range(len(self._workers[0].slots)) for w in range(len(self._workers))]
        for (worker, slot), task in zip(places, tasks, strict=False):
            self._send(worker, slot, task)
        while self._pending:
            worker, slot, task = self._pending.popleft()
            batch = self._receive(worker, slot, task)
            for following in itertools.islice(tasks, 1):
                self._send(worker, slot, following)
            yield batch
            if self._runs != mine:
                raise ArgumentError(
                    "DataLoader: another iteration has started, which ended this one",
                    fix="iterate over one DataLoader at a time, or use workers=0",
                )

    def _send(self, worker: int, slot: int, task: Task) -> None:
        process, connection, slots = self._workers[worker]
        np.frombuffer(slots[slot], np.int64, len(task.indices))[:] = task.indices
        try:
            connection.send((slot, task.epoch, task.number, len(task.indices)))
        except OSError:
            raise self._ended(worker, task) from None
        self._pending.append((worker, slot, task))

    def _receive(self, worker: int, slot: int, task: Task) -> Any:
        process, connection, slots = self._workers[worker]
        ready = multiprocessing.connection.wait([connection, process.sentinel], self._timeout)
        if not ready:
            self.close()
            raise WorkerError(
                f"DataLoader: worker {worker} did not finish {_named(task)} within {self._timeout} seconds",
                fix="use a longer timeout, or find what it waits for with workers=0",
            )
        try:
            message = connection.recv()
        except (EOFError, OSError):
            raise self._ended(worker, task) from None
        if isinstance(message, _Failure):
            raise self._failed(worker, task, message)
        return tree.map(lambda x: x.read(slots[slot]) if isinstance(x, _Placed) else x, message)

    def _ended(self, worker: int, task: Task) -> WorkerError:
        process = self._workers[worker].process
        process.join(1)
        code = process.exitcode
        self.close()
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"exited with status {code}"
        return WorkerError(
            f"DataLoader: worker {worker} (process {process.pid}) {how} before it finished {_named(task)}",
            fix="if memory ran out, use fewer workers or smaller minibatches; workers=0 runs the same code here",
        )

    def _failed(self, worker: int, task: Task, failure: _Failure) -> WorkerError:
        self.close()
        error = WorkerError(
            f"DataLoader: worker {worker} failed to make {_named(task)}: {failure.summary}",
            fix="see the traceback of the worker below; workers=0 runs the same code here, under a debugger",
        )
        error.__cause__ = None if failure.error is None else pickle.loads(failure.error)
        error.add_note(f"\nIn worker {worker}:\n{failure.traceback}")
        return error

    def close(self) -> None:
        """End the processes."""
        self.closed = True
        self._pending.clear()
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()


def _named(task: Task) -> str:
    return f"batch {task.number} of epoch {task.epoch}"


def _start(recipe: Any, prefetch: int, slot_size: int, context: Any) -> _Worker:
    """Start one process. Its memory has no name, so nothing is left behind, however the processes end."""
    slots = [sharedctypes.RawArray("b", slot_size) for _ in range(prefetch)]
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(recipe, there, slots), name="funcgrad-loader", daemon=True)
    try:
        process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ArgumentError(
            f"DataLoader: the dataset, collate and transform cannot be sent to a worker: {error}",
            fix="define classes and functions at the top of a module, or use context='fork'",
        ) from None
    there.close()
    return _Worker(process, here, slots)


def slot_size(batch: Any, examples: int) -> int:
    """Return how many bytes of shared memory minibatches like this one need."""
    arrays = [x for x in map(np.asarray, tree.leaves(batch)) if x.dtype.kind != "O"]
    # Later minibatches may have longer sequences.
    return max(8 * examples, int(1.25 * sum(x.nbytes + _ALIGNMENT for x in arrays)))


# ---------------------------------------------------------------- in the worker


def _serve(recipe: Any, connection: Any, slots: list[Any]) -> None:
    """Make minibatches until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal
    while True:
        try:
            slot, epoch, number, count = connection.recv()
        except (EOFError, OSError):
            return
        indices = np.frombuffer(slots[slot], np.int64, count).copy()
        try:
            reply = ForkingPickler.dumps(_place(recipe.make(Task(epoch, number, indices)), slots[slot]))
        except Exception as error:
            reply = ForkingPickler.dumps(_failure(error))
        try:
            connection.send_bytes(reply)
        except OSError:
            return


def _place(batch: Any, slot: Any) -> Any:
    """Copy the arrays into the slot, and return the batch with their places."""
    end = 0

    def place(x: Any) -> Any:
        """Return the place of an array that fits, and other values as they are."""
        nonlocal end
        array = np.asarray(x)
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        if not hasattr(x, "shape") or isinstance(x, np.generic) or array.dtype.hasobject:
            return x
        if start + array.nbytes > len(slot):
            return array
        np.ndarray(array.shape, array.dtype, slot, start)[...] = array
        end = start + array.nbytes
        return _Placed(start, array.shape, array.dtype)

    return tree.map(place, batch)


def _failure(error: Exception) -> _Failure:
    summary = "".join(traceback.format_exception_only(error)).strip()
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        pickled = None  # what cannot be pickled is described by the summary and the traceback
    return _Failure(pickled, summary, "".join(traceback.format_exception(error)))
