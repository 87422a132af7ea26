"""Checkpoints: round trips, kills, damage, foreign files, saving in a thread."""

from __future__ import annotations

import json
import os
import pickle
import random as python_random
import signal
import struct
import sys
import time
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import optim, random, train
from funcgrad.errors import ArgumentError, CheckpointError, DependencyError, FuncgradError

PARAMS = {"layers": ({"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}, {}), "none": None}


class Mixed(NamedTuple):
    array: object
    value: object


def same(x, y):
    """Whether two trees have equal leaves of equal types, dtypes and bits."""
    assert fg.tree.structure(x) == fg.tree.structure(y)
    for a, b in zip(fg.tree.leaves(x), fg.tree.leaves(y), strict=True):
        assert type(a) is type(b)
        if hasattr(a, "dtype"):
            assert a.dtype == b.dtype and a.shape == b.shape
            a, b = (random.key_data(x) if x.dtype is fg.dtypes.key else x for x in (a, b))
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        else:
            assert a == b or (a != a and b != b)


# ---------------------------------------------------------------- round trips


def test_training_state_comes_back(tmp_path):
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adam(optim.cosine_decay_schedule(0.1, 5)))
    state = {
        "params": PARAMS,
        "optimizer": optimizer.init(PARAMS),
        "key": random.key(3),
        "keys": random.split(random.key(4), 3),
        "loader": {"epoch": 2, "batch": 7, "key": [0, 3]},
        "values": Mixed(np.arange(3), (1, 2.5, True, "text", float("nan"), -float("inf"), 1 << 70)),
    }
    path = tmp_path / "a.safetensors"
    train.save(path, state, metadata={"note": "ü"})
    same(train.load(path, state), state)
    blank = fg.tree.map(lambda x: jnp.zeros_like(x) if isinstance(x, fg.Array) else x, state)
    same(train.load(path, blank), state)
    assert train.load_metadata(path) == {"note": "ü"}
    shapes = fg.eval_shape(lambda: {"w": jnp.ones(3)})
    train.save(path, {"w": jnp.ones(3)})
    same(train.load(path, shapes), {"w": jnp.ones(3)})
    same(train.load(path), {"['w']": np.ones(3, np.float32)})


DTYPES = [
    *(
        np.bool_,
        np.int8,
        np.uint16,
        np.int32,
        np.uint64,
        np.float16,
        np.float32,
        np.float64,
        np.complex64,
        np.complex128,
    ),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz, ml_dtypes.int4),
]


def test_every_dtype_and_layout_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {np.dtype(d).name: (rng.random((2, 3)) * 7).astype(d) for d in DTYPES}
    odd = {
        "scalar": np.array(2.5),
        "empty": np.ones((0, 3)),
        "empty int4": np.ones((0, 3), ml_dtypes.int4),
        "fortran": np.asfortranarray(rng.random((3, 4))),
        "strided": rng.random((6, 4))[::2, 1:3],
        "NaN payload": np.array([0x7FF8000000000123], np.uint64).view(np.float64),
    }
    path = tmp_path / "a.safetensors"
    train.save(path, arrays | odd)
    same(train.load(path, arrays | odd), arrays | odd)
    big = {"x": np.arange(3, dtype=">i4")}
    train.save(path, big)
    assert train.load(path)["['x']"].tolist() == [0, 1, 2]


def test_other_programs_read_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    train.save(path, {"w": np.arange(6.0).reshape(2, 3), "h": np.ones(3, np.float16), "n": 3})
    read = safetensors.numpy.load_file(path)
    assert read.keys() == {"['w']", "['h']"} and np.array_equal(read["['w']"], np.arange(6.0).reshape(2, 3))


# ---------------------------------------------------------------- kills


def save_until_killed(folder, asynchronous, begin):
    """Save checkpoints forever, and tell after the first; the arrays of a checkpoint have its step as values."""
    manager = train.CheckpointManager(folder, keep=2, asynchronous=asynchronous)
    step = (manager.latest_step() or 0) + 1
    while True:
        manager.save(step, {"x": np.full(60_000, step), "y": [np.full(3, step, np.float32)] * 4, "step": step})
        if begin is not None:
            manager.wait()
            os.write(begin, b"1")
            begin = None
        step += 1


def kill_at_random(folder, times, asynchronous):
    """Kill the process that saves after random times; return the latest steps, each of which must load."""
    rng, latest, unfinished = python_random.Random(times), [], 0
    like = {"x": np.zeros(60_000, int), "y": [np.zeros(3, np.float32)] * 4, "step": 0}
    manager = train.CheckpointManager(folder, keep=2)
    manager.save(0, like)
    for _ in range(times):
        begun, begin = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                save_until_killed(folder, asynchronous, begin)
            finally:
                os._exit(1)
        assert os.read(begun, 1)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.close(begun)
        os.close(begin)
        os.waitpid(pid, 0)
        unfinished += any(folder.glob(".*.saving"))
        restored, step = manager.restore(like), manager.latest_step()
        assert restored["step"] == step and (restored["x"] == step).all()
        assert all((y == step).all() for y in restored["y"])
        latest.append(step)
    assert latest == sorted(latest) and latest[-1] > 0
    assert unfinished > 0  # kills did come while a file was written


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_kill_leaves_the_latest_checkpoint_whole(asynchronous, tmp_path):
    kill_at_random(tmp_path, 10, asynchronous)


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
def test_two_hundred_kills_leave_the_latest_checkpoint_whole(asynchronous, tmp_path):
    kill_at_random(tmp_path, 200, asynchronous)


def test_a_file_is_synced_before_it_is_renamed_and_the_folder_after(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        act = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, act=act, name=name: (order.append(name), act(*args))[1])
    train.save(tmp_path / "a.safetensors", {"x": np.ones(3)})
    assert order == ["fsync", "replace", "fsync"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    train.save(path, {"x": np.ones(3)})

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        train.save(path, {"x": np.zeros(3)})
    assert train.load(path)["['x']"].tolist() == [1, 1, 1] and os.listdir(tmp_path) == ["a.safetensors"]


def test_leftovers_of_a_kill_are_removed(tmp_path):
    (tmp_path / ".step-0000000007.safetensors.saving").write_bytes(b"half")
    manager = train.CheckpointManager(tmp_path)
    assert manager.steps() == []
    manager.save(8, PARAMS)
    assert os.listdir(tmp_path) == ["step-0000000008.safetensors"]


# ---------------------------------------------------------------- the manager


def test_the_last_and_the_best_are_kept(tmp_path):
    manager = train.CheckpointManager(tmp_path, keep=2, best="accuracy", mode="max")
    for step, value in enumerate([0.1, 0.9, float("nan"), 0.3, 0.9, 0.2, 0.1]):
        manager.save(10 * step, {"step": step}, metrics={"accuracy": value, "loss": 1.0})
    assert manager.steps() == [10, 50, 60] and manager.best_step() == 10 and manager.latest_step() == 60
    assert manager.restore({"step": 0}) == {"step": 6} and manager.restore({"step": 0}, 10) == {"step": 1}
    assert train.CheckpointManager(tmp_path, best="accuracy", mode="max").best_step() == 10
    everything = train.CheckpointManager(tmp_path / "all", keep=None)
    for step in range(5):
        everything.save(step, {"step": step})
    assert everything.steps() == [0, 1, 2, 3, 4]


def test_a_thread_saves_what_was_there(tmp_path):
    x = np.zeros(100_000)
    with train.CheckpointManager(tmp_path, asynchronous=True, keep=None) as manager:
        for step in range(4):
            manager.save(step, {"x": x})
            x += 1
    assert [manager.restore({"x": x}, step)["x"].max() for step in range(4)] == [0, 1, 2, 3]


def test_an_error_of_the_thread_is_raised_by_the_next_call(tmp_path, monkeypatch):
    manager = train.CheckpointManager(tmp_path, asynchronous=True)

    def fail(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        manager.save(1, {"x": np.ones(3)})
        with pytest.raises(OSError, match="No space left"):
            manager.save(2, {"x": np.ones(3)})
    manager.save(3, {"x": np.ones(3)})
    manager.close()
    assert manager.steps() == [3]


# ---------------------------------------------------------------- damage

STATE = {"params": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.ones(3)}, "step": 3}


@pytest.fixture
def path(tmp_path):
    train.save(tmp_path / "a.safetensors", STATE)
    return tmp_path / "a.safetensors"


def test_changed_bytes_and_truncations_are_noticed(path):
    whole = path.read_bytes()
    for i in [*range(0, len(whole), 5), *range(len(whole) - 24, len(whole))]:
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            same(train.load(path, STATE), STATE)  # a changed blank of the header means the same
        except CheckpointError as error:
            assert "a.safetensors" in str(error)
    for i in range(0, len(whole), 9):
        path.write_bytes(whole[:i])
        with pytest.raises(CheckpointError, match=r"a\.safetensors (is|cannot)"):
            train.load(path, STATE)


def test_a_changed_array_is_named(path):
    content = bytearray(path.read_bytes())
    content[content.rindex(np.float64(5.0).tobytes())] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"leaf \['params'\]\['kernel'\] does not match its checksum"):
        train.load(path, STATE)


def test_a_changed_shape_is_noticed(path):
    path.write_bytes(path.read_bytes().replace(b"[2,3]", b"[3,2]"))
    with pytest.raises(CheckpointError, match=r"leaf \['params'\]\['kernel'\] does not match"):
        train.load(path)


def foreign(write):
    def act(path):
        write(path)
        return train.load(path, STATE)

    return act


def header(content, data=b""):
    encoded = json.dumps(content).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


DAMAGED = "is damaged, or not a safetensors file: "
OVERLAP = {name: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for name in "ab"}
ERRORS = {
    "another program's": (
        foreign(lambda path: safetensors.numpy.save_file({"w": np.ones(3)}, path)),
        ["is a safetensors file of another program", "load_file"],
    ),
    "a pickle": (
        foreign(lambda path: path.write_bytes(pickle.dumps(STATE))),
        [DAMAGED],
    ),
    "text": (foreign(lambda path: path.write_text("hello, this is text")), [DAMAGED]),
    "empty": (foreign(lambda path: path.write_bytes(b"")), [DAMAGED]),
    "overlapping arrays": (
        foreign(lambda path: path.write_bytes(header(OVERLAP, b"1234"))),
        [DAMAGED],
    ),
    "unknown dtype": (
        foreign(lambda p: p.write_bytes(header({"a": {"dtype": "X", "shape": [], "data_offsets": [0, 0]}}))),
        [DAMAGED],
    ),
    "bytes at the end": (
        foreign(lambda path: path.write_bytes(path.read_bytes() + b"1")),
        [DAMAGED, "not fully covered"],
    ),
    "no file": (lambda path: train.load(path.with_name("b"), STATE), ["b cannot be read: No such file"]),
    "missing leaf": (
        lambda path: train.load(path, STATE | {"key": 1}),
        ["a.safetensors: there is no leaf ['key']", "train.load(path) shows"],
    ),
    "extra leaf": (lambda path: train.load(path, {"params": STATE["params"]}), ["leaf ['step'] is not in `like`"]),
    "renamed leaf": (
        lambda path: train.load(path, {"params": {"kernel": STATE["params"]["kernel"], "bias_": 0}, "step": 1}),
        ["there is no leaf ['params']['bias_'] (but ['params']['bias'])"],
    ),
    "other shape": (
        lambda path: train.load(path, STATE | {"params": {"kernel": np.ones((3, 2)), "bias": np.ones(3)}}),
        ["leaf ['params']['kernel'] is float64[2, 3] in the file, not float64[3, 2]"],
    ),
    "other dtype": (
        lambda path: train.load(path, STATE | {"params": {"kernel": np.ones((2, 3)), "bias": jnp.ones(3)}}),
        ["leaf ['params']['bias'] is float64[3] in the file, not float32[3]"],
    ),
    "other type": (
        lambda path: train.load(path, STATE | {"step": 1.0}),
        ["leaf ['step'] is int in the file, not float"],
    ),
    "no checkpoint": (
        lambda path: train.CheckpointManager(path.parent / "none").restore(STATE),
        ["no checkpoint; there are none", "latest_step()"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, path):
    action, parts = ERRORS[name]
    with pytest.raises(CheckpointError) as caught:
        action(path)
    for part in [*parts, "test_train_checkpoint.py:", "fix: "]:
        assert part in str(caught.value), caught.value


ARGUMENTS = {
    "a function": (lambda tmp: train.save(tmp / "a", {"f": [len]}), ["save: leaf ['f'][0] is <built-in function len>"]),
    "objects": (lambda tmp: train.save(tmp / "a", np.array([{}])), ["save: leaf the state is array([{}]"]),
    "keep nothing": (lambda tmp: train.CheckpointManager(tmp, keep=0), ["keep is 0"]),
    "unknown mode": (lambda tmp: train.CheckpointManager(tmp, mode="low"), ["unknown mode 'low'"]),
    "no metric": (
        lambda tmp: train.CheckpointManager(tmp, best="loss").save(1, {}, metrics={"accuracy": 1}),
        ["metrics ['accuracy'] without 'loss'"],
    ),
    "under jit": (lambda tmp: fg.jit(lambda x: train.save(tmp / "a", x))(X), ["traced"]),
}
X = jnp.ones(3)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_arguments(name, tmp_path):
    action, parts = ARGUMENTS[name]
    with pytest.raises(FuncgradError) as caught:
        action(tmp_path)
    for part in [*parts, "test_train_checkpoint.py:", "fix: "]:
        assert part in str(caught.value), caught.value
    assert name == "under jit" or isinstance(caught.value, ArgumentError)


def test_without_safetensors_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)  # importing it raises
    with pytest.raises(DependencyError, match=r"(?s)checkpoints need safetensors.*pip install funcgrad\[train\]"):
        train.save(tmp_path / "a.safetensors", {"x": np.ones(3)})
