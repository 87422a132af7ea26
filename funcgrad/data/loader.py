"""DataLoader: the minibatches of a dataset, epoch after epoch, in an order that depends on a key alone."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from funcgrad import random
from funcgrad.arguments.axes import as_int
from funcgrad.data.batches import as_batch_size
from funcgrad.data.dataset import Dataset, as_dataset, checked_indices, is_sequence
from funcgrad.data.dataset import collate as stack
from funcgrad.data.samplers import Sampler
from funcgrad.data.transforms import Transform
from funcgrad.data.workers import Task, WorkerPool, slot_size
from funcgrad.errors import ArgumentError
from funcgrad.random.keys import words_of

_END: Any = object()


class Recipe(NamedTuple):
    """How a minibatch is made; workers have a copy."""

    dataset: Any
    collate: Callable[[Sequence[Any]], Any] | None
    transform: Transform | None
    seed: tuple[int, ...]

    def make(self, task: Task) -> Any:
        """Return the minibatch of the examples at some indices."""
        if self.collate is None:
            return self.finish(self.dataset.batch(task.indices), task.epoch, task.number)
        return self.finish(self.collate([self.dataset[int(i)] for i in task.indices]), task.epoch, task.number)

    def finish(self, batch: Any, epoch: int, number: int) -> Any:
        """Apply the transform."""
        if self.transform is None:
            return batch
        return self.transform(batch, np.random.default_rng([*self.seed, epoch, number]))


class DataLoader:
    """The minibatches of a dataset; each iteration is one epoch.

    The order of the examples, and what `transform` draws, depend on the key, the epoch and the number of the minibatch
    alone. So every run has the same minibatches, with any number of workers, and `state` is enough to go on in the
    middle of an epoch.

    Args:
      dataset: a pytree of arrays whose first axis is that of the examples; a pandas DataFrame; a `Dataset`; a list or
        another sequence of examples; or an iterable of examples, which has no length, no shuffling and no workers. A
        function without arguments that returns an iterator is an iterable too.
      batch_size: the number of examples of a minibatch. The last one of an epoch may have fewer.
      key: the key from which the order of each epoch is derived. Without a key, the examples are in order.
      shuffle: False leaves the examples in order although there is a key, which `transform` may need.
      sampler: a function from a key to the indices of an epoch, such as `weighted_sampler(...)`.
      shard: (index, count): this loader has every count-th example of the order, from the index-th on.
      drop_last: drop a last minibatch with fewer examples; with `shard`, all shards then have equally many.
      collate: a function that makes a minibatch of a list of examples, by default `data.collate`.
      transform: a function (minibatch, rng) → minibatch; `rng` is a NumPy generator.
      workers: the number of processes that make minibatches. They start at the first iteration, as forks by default,
        and see the dataset as it is then.
      prefetch: how many minibatches each worker, or one thread if there are no workers, prepares ahead. By default 2
        for workers, otherwise 0.
      context: how workers start: "fork", "forkserver" or "spawn".
      timeout: the number of seconds to wait for a worker before it is an error.

    Raises:
      WorkerError: while iterating: a worker raised, or was killed.

    >>> loader = DataLoader({"x": np.arange(6)}, 4, key=random.key(1))
    >>> [batch["x"].tolist() for batch in loader]
    [[1, 2, 4, 3], [0, 5]]
    >>> loader.state["epoch"], loader.state["batch"], len(loader)
    (1, 0, 2)
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        key: Any = None,
        shuffle: bool | None = None,
        sampler: Sampler | None = None,
        shard: tuple[int, int] = (0, 1),
        drop_last: bool = False,
        collate: Callable[[Sequence[Any]], Any] | None = None,
        transform: Transform | None = None,
        workers: int = 0,
        prefetch: int | None = None,
        context: str = "fork",
        timeout: float | None = None,
    ):
        self._stream = None if not _is_stream(dataset) else _restartable(dataset)
        source = None if self._stream else as_dataset(dataset, "DataLoader")
        self._count = None if source is None else len(source)
        if self._count == 0:
            raise ArgumentError("DataLoader: the dataset is empty", fix="pass at least one example")
        self._size = as_batch_size(batch_size, self._count, drop_last, "batch_size", "DataLoader")
        self._key = key
        words = () if key is None else tuple(map(int, np.asarray(words_of("DataLoader", key)).tolist()))
        self._recipe = Recipe(source, collate, transform, words)
        self._shuffle = shuffle if shuffle is not None else key is not None and sampler is None
        self._sampler, self._drop_last = sampler, drop_last
        self._shard = _as_shard(shard)
        self._workers = _not_negative(workers, "workers")
        self._prefetch = (2 if workers else 0) if prefetch is None else _not_negative(prefetch, "prefetch")
        self._options = context, timeout
        self._pool: WorkerPool | None = None
        self._epoch = self._batch = self._resume = 0
        self._check()

    def _check(self) -> None:
        if (self._shuffle or self._sampler) and self._key is None:
            raise ArgumentError("DataLoader: no key to shuffle with", fix="pass key=random.key(seed)")
        if self._shuffle and self._sampler:
            raise ArgumentError("DataLoader: shuffle=True and a sampler", fix="the sampler alone decides the order")
        unsuited = {
            "shuffle": self._shuffle,
            "sampler": self._sampler,
            "workers": self._workers,
            "shard": self._shard != (0, 1),
        }
        given = [name for name, value in unsuited.items() if value]
        if self._stream and given:
            raise ArgumentError(
                f"DataLoader: {given[0]} for an iterable, whose examples can be read only in order",
                fix="pass a list of the examples, or shuffle=False" if given == ["shuffle"] else "pass a list",
            )
        if self._workers and not self._prefetch:
            raise ArgumentError(
                "DataLoader: workers with prefetch=0", fix="workers prepare at least one minibatch each"
            )

    def __len__(self) -> int:
        """The number of minibatches of an epoch."""
        if self._count is None:
            raise ArgumentError("DataLoader: an iterable has no length", fix="pass a list, or count while iterating")
        examples = self._count if self._sampler is None else len(self._order(self._epoch))
        return self._batches(len(range(self._shard[0], examples, self._shard[1])), examples)

    def _batches(self, mine: int, examples: int) -> int:
        if self._drop_last:
            return examples // self._shard[1] // self._size
        return -(-mine // self._size)

    @property
    def batch_size(self) -> int:
        """The number of examples of a minibatch."""
        return self._size

    @property
    def state(self) -> dict[str, Any]:
        """The position of the latest iteration: a pytree of numbers, to be saved and assigned to `state` again.

        The next iteration after an assignment starts behind the minibatches that had been seen; if these were all of
        their epoch, it is empty. Otherwise every iteration is a whole epoch: one that was left early starts again.
        """
        key = list(self._recipe.seed)
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "batch_size": self._size,
            "examples": self._count,
            "key": key,
        }

    @state.setter
    def state(self, state: Any) -> None:
        own = self.state
        if not isinstance(state, dict) or state.keys() != own.keys():
            raise ArgumentError(f"DataLoader: {state!r:.80} is not a state", fix="assign what `state` of a loader was")
        for name in ("batch_size", "examples", "key"):
            if state[name] != own[name]:
                raise ArgumentError(
                    f"DataLoader: the state is of a loader with {name} {state[name]}, and this one has {own[name]}",
                    fix="resume with the same data, batch_size and key, or start anew without the state",
                )
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])
        self._resume = self._batch

    def __iter__(self) -> Iterator[Any]:
        if self._stream is None and len(self._recipe.dataset) != self._count:
            raise ArgumentError(
                f"DataLoader: the dataset had {self._count} examples and now has {len(self._recipe.dataset)}",
                fix="make a new DataLoader for the changed dataset",
            )
        first, self._resume = self._resume, 0
        self._batch = first
        batches = self._read(first) if self._stream else self._made(self._tasks(first))
        return self._counted(batches)

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Keep the position up to date."""
        epoch = self._epoch
        for number, batch in enumerate(batches, self._batch + 1):
            self._batch = number
            yield batch
        self._epoch, self._batch = epoch + 1, 0

    # ------------------------------------------------------------ examples by index

    def _order(self, epoch: int) -> np.ndarray:
        """Return the indices of an epoch, before they are divided among shards."""
        count = len(self._recipe.dataset)
        if not (self._shuffle or self._sampler):
            return np.arange(count)
        key = random.fold_in(self._key, epoch)
        if self._sampler is None:
            return np.asarray(random.permutation(key, count), np.int64)
        return checked_indices(self._sampler(key), count, "DataLoader", "the sampler")

    def _tasks(self, first: int) -> Iterator[Task]:
        """Yield what to make in this epoch, from minibatch `first` on."""
        order = self._order(self._epoch)
        mine = order[self._shard[0] :: self._shard[1]]
        count = self._batches(len(mine), len(order))
        size, epoch = self._size, self._epoch
        return (Task(epoch, i, mine[i * size : (i + 1) * size]) for i in range(first, count))

    def _made(self, tasks: Iterator[Task]) -> Iterator[Any]:
        if self._workers:
            return self._made_by_workers(tasks)
        if self._prefetch:
            calls = ((self._recipe.make, (task,)) for task in tasks)
            return _ahead(calls, self._prefetch)
        return map(self._recipe.make, tasks)

    def _made_by_workers(self, tasks: Iterator[Task]) -> Iterator[Any]:
        if self._pool is None or self._pool.closed:
            # How much memory a minibatch needs is not known before there is one.
            for task in itertools.islice(tasks, 1):
                batch = self._recipe.make(task)
                size = slot_size(batch, self._size)
                self._pool = WorkerPool(self._recipe, self._workers, self._prefetch, size, *self._options)
                weakref.finalize(self, self._pool.close)
                yield batch
        if self._pool is not None:
            yield from self._pool.run(tasks)

    def close(self) -> None:
        """End the workers. The next iteration starts new ones."""
        if self._pool is not None:
            self._pool.close()

    # ------------------------------------------------------------ iterables

    def _read(self, first: int) -> Iterator[Any]:
        """Yield the minibatches of an iterable, from minibatch `first` on."""
        assert self._stream is not None
        examples = iter(self._stream())
        for _ in itertools.islice(examples, first * self._size):
            pass
        numbers, epoch = itertools.count(first), self._epoch
        combine = self._recipe.collate or stack

        def read() -> Any:
            items = list(itertools.islice(examples, self._size))
            if not items or (self._drop_last and len(items) < self._size):
                return _END
            return self._recipe.finish(combine(items), epoch, next(numbers))

        calls = itertools.repeat((read, ()))
        batches = _ahead(calls, self._prefetch) if self._prefetch else (read() for _ in calls)
        return itertools.takewhile(lambda batch: batch is not _END, batches)


def _is_stream(x: Any) -> bool:
    """Whether examples can be read only in order."""
    if isinstance(x, Dataset) or is_sequence(x) or isinstance(x, (str, bytes, dict, tuple)) or hasattr(x, "shape"):
        return False
    return callable(x) or isinstance(x, Iterable)


def _restartable(x: Any) -> Callable[[], Iterable[Any]]:
    """Return a function that reads the examples from the start."""
    if callable(x):
        return x
    if iter(x) is x:
        raise ArgumentError(
            f"DataLoader: {x!r:.60} can be read only once, but each epoch reads it again",
            fix="pass the function that makes it, as in DataLoader(lambda: open(path), 32)",
        )
    return lambda: x


def _not_negative(value: Any, what: str) -> int:
    number = as_int(value, what, "DataLoader")
    if number < 0:
        raise ArgumentError(f"DataLoader: {what} is {number}", fix="it must be 0 or more")
    return number


def _as_shard(shard: Any) -> tuple[int, int]:
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise ArgumentError(f"DataLoader: shard is {shard!r:.60}", fix="pass (index, count)")
    index, count = (as_int(value, "a number in shard", "DataLoader") for value in shard)
    if not 0 <= index < count:
        raise ArgumentError(f"DataLoader: shard is {shard}", fix="the index is from 0 to count - 1")
    return index, count


def _ahead(calls: Iterator[tuple[Callable[..., Any], tuple[Any, ...]]], count: int) -> Iterator[Any]:
    """Yield the results of calls, which run in order in a thread, up to `count` of them ahead."""
    pool = ThreadPoolExecutor(1, "funcgrad-loader")
    try:
        pending = deque(pool.submit(f, *args) for f, args in itertools.islice(calls, count))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(f, *args) for f, args in itertools.islice(calls, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
