"""DataLoader: the order of examples, resuming, worker processes and what happens when they fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from funcgrad import data, random
from funcgrad.errors import ArgumentError, FuncgradError, WorkerError

KEY = random.key(7)
EXAMPLES = {"x": np.arange(46).reshape(23, 2), "y": np.arange(23)}
AUGMENT = data.Compose(lambda x, rng: x + rng.random(x.shape), leaf="x")


def flat(batches):
    """The contents of batches as something that compares."""
    return [(batch["x"].tolist(), batch["y"].tolist()) for batch in batches]


def labels(loader):
    return [batch["y"].tolist() for batch in loader]


class Items(data.Dataset):
    """Examples one by one. `act` is called with the index, in the process that reads it."""

    def __init__(self, act=lambda index: None, count=12):
        self.act, self.count = act, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.act(index)
        return {"x": np.full((2, 2), index, np.float32), "y": index}


@pytest.fixture
def open_loader():
    """Make loaders, and end their workers after the test."""
    loaders = []

    def make(*args, **kwargs):
        loaders.append(data.DataLoader(*args, **kwargs))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


# ---------------------------------------------------------------- order


def test_an_epoch_has_every_example_once_in_the_order_of_batches():
    loader = data.DataLoader(EXAMPLES, 5, key=KEY)
    assert len(loader) == 5
    for epoch in range(2):
        expected = data.batches(random.fold_in(KEY, epoch), EXAMPLES, 5, drop_last=False)
        assert flat(loader) == flat(expected)


def test_without_a_key_the_order_is_that_of_the_dataset():
    assert labels(data.DataLoader(EXAMPLES, 10)) == [[*range(10)], [*range(10, 20)], [20, 21, 22]]
    loader = data.DataLoader(EXAMPLES, 10, drop_last=True)
    assert labels(loader) == [[*range(10)], [*range(10, 20)]] and len(loader) == 2
    assert labels(data.DataLoader(EXAMPLES, 23, key=KEY, shuffle=False)) == [[*range(23)]]


def test_a_look_at_the_first_batch_changes_nothing():
    loader, other = (data.DataLoader(EXAMPLES, 5, key=KEY) for _ in range(2))
    next(iter(loader))
    assert flat(loader) == flat(other) and flat(loader) == flat(other)


@pytest.mark.parametrize("drop_last", [False, True])
def test_shards_share_the_examples_out(drop_last):
    loaders = [data.DataLoader(EXAMPLES, 3, key=KEY, shard=(i, 4), drop_last=drop_last) for i in range(4)]
    seen = [labels(loader) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(batches) for batches in seen]
    everything = sorted(y for batches in seen for batch in batches for y in batch)
    if drop_last:
        assert [len(batches) for batches in seen] == [1, 1, 1, 1] and len(set(everything)) == 12
    else:
        assert everything == [*range(23)]


def test_lists_generators_and_iterables():
    items = [{"x": np.ones(2) * i, "y": i} for i in range(7)]

    def generate():
        yield from items

    expected = [[0, 1, 2], [3, 4, 5], [6]]
    for source in (items, generate, range(7), {"y": np.arange(7)}, set(range(7))):
        loader = data.DataLoader(source, 3)
        for _ in range(2):
            ys = [batch["y"] if isinstance(batch, dict) else batch for batch in loader]
            assert [y.tolist() for y in ys] == expected
    assert len(list(data.DataLoader(generate, 3, drop_last=True))) == 2


def test_collate_and_transform_are_applied():
    loader = data.DataLoader(
        [[1], [2, 3], [4]], 2, collate=lambda items: sum(items, []), transform=lambda batch, rng: [batch, "t"]
    )
    assert list(loader) == [[[1, 2, 3], "t"], [[4], "t"]]


# ---------------------------------------------------------------- resuming


KINDS = {
    "arrays": lambda: data.DataLoader(EXAMPLES, 5, key=KEY, transform=AUGMENT),
    "thread": lambda: data.DataLoader(EXAMPLES, 5, key=KEY, transform=AUGMENT, prefetch=2),
    "workers": lambda: data.DataLoader(EXAMPLES, 5, key=KEY, transform=AUGMENT, workers=2),
    "items": lambda: data.DataLoader(Items(count=23), 5, key=KEY, transform=AUGMENT),
    "stream": lambda: data.DataLoader(lambda: iter(Items(count=23)), 5, key=KEY, shuffle=False, transform=AUGMENT),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_loader_has_the_rest_of_the_batches(kind, request):
    loader = KINDS[kind]()
    request.addfinalizer(loader.close)
    states, expected = [loader.state], []
    for _ in range(2):
        for batch in loader:
            expected += flat([batch])
            states.append(loader.state)
    assert len(expected) == 10
    for seen in (0, 1, 4, 5, 7, 10):
        resumed = KINDS[kind]()
        request.addfinalizer(resumed.close)
        resumed.state = states[seen]
        rest = []
        while resumed.state["epoch"] < 2:
            rest += flat(resumed)
        assert rest == expected[seen:]


def test_workers_and_threads_make_the_same_batches(open_loader):
    expected = [flat(data.DataLoader(EXAMPLES, 4, key=KEY, transform=AUGMENT)) for _ in range(1)][0]
    for options in ({"prefetch": 3}, {"workers": 1}, {"workers": 3, "prefetch": 1}):
        assert flat(open_loader(EXAMPLES, 4, key=KEY, transform=AUGMENT, **options)) == expected


# ---------------------------------------------------------------- workers


def test_batches_are_made_in_other_processes_and_outlive_their_slot(open_loader):
    loader = open_loader(Items(), 2, workers=2, collate=lambda items: {"pid": os.getpid(), "x": items[0]["x"]})
    batches = list(loader)
    assert len({batch["pid"] for batch in batches[1:]} - {os.getpid()}) == 2
    assert [batch["x"][0, 0] for batch in batches] == [0, 2, 4, 6, 8, 10]
    assert all(batch["x"].flags.owndata and batch["x"].flags.writeable for batch in batches[1:])


def test_larger_batches_than_the_first_and_other_values_come_through(open_loader):
    def collate(items):
        n = items[0]["y"]
        return {"x": np.full((1 + 50_000 * n,), n), "name": f"batch {n}", "none": None}

    batches = list(open_loader(Items(), 3, workers=1, collate=collate))
    assert [b["name"] for b in batches] == ["batch 0", "batch 3", "batch 6", "batch 9"]
    assert [(len(b["x"]), b["x"][-1]) for b in batches] == [(1 + 50_000 * n, n) for n in (0, 3, 6, 9)]


def test_workers_stay_for_the_next_epoch_and_after_an_early_end(open_loader):
    loader = open_loader(Items(), 2, workers=2, collate=lambda items: {"y": np.array([i["y"] for i in items])})
    expected = labels(loader)
    pool = loader._pool
    for _, _ in zip(loader, range(2), strict=False):
        pass
    assert labels(loader) == expected and loader._pool is pool


def raising(index):
    if index == 7:
        raise LookupError(f"no record {index}")


def test_an_error_in_a_worker_has_its_traceback(open_loader):
    loader = open_loader(Items(raising), 2, workers=2)
    seen = []
    with pytest.raises(WorkerError) as caught:
        for batch in loader:
            seen.append(batch["y"].tolist())
    assert seen == [[0, 1], [2, 3], [4, 5]]
    message = str(caught.value)
    assert "failed to make batch 3 of epoch 0: LookupError: no record 7" in message and "test_loader.py" in message
    assert isinstance(caught.value.__cause__, LookupError)
    assert "in raising" in caught.value.__notes__[0] and "raise LookupError" in caught.value.__notes__[0]
    assert not any(p.name == "funcgrad-loader" for p in multiprocessing.active_children())


def unpicklable(index):
    class LocalError(Exception):
        pass

    if index > 3:
        raise LocalError("what")


def test_an_error_that_cannot_be_pickled_is_described(open_loader):
    with pytest.raises(WorkerError, match="LocalError: what"):
        list(open_loader(Items(unpicklable), 2, workers=1))


def killing(index):
    if index == 6:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_reported(open_loader):
    with pytest.raises(WorkerError, match=r"worker \d \(process \d+\) was killed by SIGKILL before .* batch 3 of"):
        list(open_loader(Items(killing), 2, workers=2))


def test_a_worker_that_is_killed_between_epochs_is_reported_and_replaced(open_loader):
    loader = open_loader(Items(), 2, workers=2)
    expected = flat(loader)
    victim = loader._pool._workers[0].process
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    with pytest.raises(WorkerError, match="was killed by SIGKILL"):
        list(loader)
    assert flat(loader) == expected


def exiting(index):
    if index == 4:
        os._exit(3)


def test_a_worker_that_exits_is_reported(open_loader):
    with pytest.raises(WorkerError, match="exited with status 3"):
        list(open_loader(Items(exiting), 2, workers=1))


def stuck(index):
    if index == 4:
        time.sleep(60)


def test_a_worker_that_takes_too_long_is_reported(open_loader):
    with pytest.raises(WorkerError, match=r"did not finish batch 2 of epoch 0 within 0\.3 seconds"):
        list(open_loader(Items(stuck), 2, workers=1, timeout=0.3))


def test_spawned_workers_read_mapped_files(open_loader, tmp_path):
    np.save(tmp_path / "y.npy", np.arange(6))
    loader = open_loader(data.from_files(tmp_path), 2, key=KEY, workers=1, context="spawn")
    assert labels(loader) == labels(data.DataLoader({"y": np.arange(6)}, 2, key=KEY))


def test_two_iterations_at_a_time_are_refused(open_loader):
    loader = open_loader(Items(), 2, workers=1)
    first = iter(loader)
    next(first), next(first)
    list(loader)
    with pytest.raises(ArgumentError, match="another iteration has started"):
        next(first)


def test_an_error_in_a_thread_surfaces():
    with pytest.raises(LookupError, match="no record 7"):
        list(data.DataLoader(Items(raising), 2, prefetch=2))


# ---------------------------------------------------------------- bad input


def resumed(state, **options):
    loader = data.DataLoader(EXAMPLES, 5, **{"key": KEY, **options})
    loader.state = state
    return loader


def grown():
    items = [1, 2, 3]
    loader = data.DataLoader(items, 2)
    items.append(4)
    return list(loader)


STATE = data.DataLoader(EXAMPLES, 5, key=KEY).state
ERRORS = {
    "empty list": (lambda: data.DataLoader([], 2), ["DataLoader: the dataset is empty", "at least one example"]),
    "empty array": (lambda: data.DataLoader(np.ones((0, 3)), 2), ["no examples", "(0, 3)"]),
    "batch of 0": (lambda: data.DataLoader(EXAMPLES, 0), ["DataLoader: batch_size 0", "at least one"]),
    "too large": (lambda: data.DataLoader(EXAMPLES, 24, drop_last=True), ["batch_size 24 exceeds the 23 examples"]),
    "no key": (lambda: data.DataLoader(EXAMPLES, 2, shuffle=True), ["no key to shuffle with", "random.key(seed)"]),
    "a seed": (lambda: data.DataLoader(EXAMPLES, 2, key=0), ["DataLoader: 0 is not a key"]),
    "two orders": (
        lambda: data.DataLoader(EXAMPLES, 2, key=KEY, shuffle=True, sampler=lambda key: [0]),
        ["shuffle=True and a sampler"],
    ),
    "wrong sampler": (
        lambda: list(data.DataLoader(EXAMPLES, 2, key=KEY, sampler=lambda key: [0, 23])),
        ["index 23 of the sampler is out of range for 23 examples"],
    ),
    "wrong shard": (lambda: data.DataLoader(EXAMPLES, 2, shard=(2, 2)), ["shard is (2, 2)", "from 0 to count - 1"]),
    "a generator": (lambda: data.DataLoader((i for i in [1]), 2), ["can be read only once", "lambda: open(path)"]),
    "shuffled iterable": (lambda: data.DataLoader({1, 2}, 2, key=KEY), ["shuffle for an iterable", "shuffle=False"]),
    "iterable with workers": (lambda: data.DataLoader({1}, 2, workers=1), ["workers for an iterable", "pass a list"]),
    "length of an iterable": (lambda: len(data.DataLoader({1}, 2)), ["an iterable has no length"]),
    "negative workers": (lambda: data.DataLoader(EXAMPLES, 2, workers=-1), ["workers is -1"]),
    "unknown context": (
        lambda: list(data.DataLoader(EXAMPLES, 2, workers=1, context="threads")),
        ["context 'threads'", "fork, spawn, forkserver"],
    ),
    "unpicklable": (
        lambda: list(data.DataLoader(Items(), 2, workers=1, context="spawn")),
        ["cannot be sent to a worker", "context='fork'"],
    ),
    "grown": (grown, ["the dataset had 3 examples and now has 4", "make a new DataLoader"]),
    "state of another size": (lambda: resumed(STATE | {"batch_size": 4}), ["batch_size 4, and this one has 5"]),
    "state of other data": (lambda: resumed(STATE | {"examples": 9}), ["with examples 9, and this one has 23"]),
    "state of another key": (lambda: resumed(STATE, key=random.key(8)), ["with key [0, 7], and this one has [0, 8]"]),
    "no state": (lambda: resumed(3), ["3 is not a state"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    action, parts = ERRORS[name]
    with pytest.raises(FuncgradError) as caught:
        action()
    for part in [*parts, "test_loader.py:", "fix: "]:
        assert part in str(caught.value), caught.value
