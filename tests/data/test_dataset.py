"""Datasets, collation, frames, files, splits, samplers and image transforms against NumPy."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import numpy as np
import pandas
import pytest

from funcgrad import data, random
from funcgrad.errors import ArgumentError, DTypeError, FuncgradError, ShapeError

KEY = random.key(3)
FRAME = pandas.DataFrame(
    {"a": [1.5, 2.5, 3.5], "b": [1, 2, 3], "c": ["x", "y", "z"], "d": [1.0, np.nan, np.nan], "e": [True, False, True]}
)


class Pair(NamedTuple):
    x: object
    y: object


# ---------------------------------------------------------------- datasets


def test_arrays_keep_their_structure():
    examples = data.ArrayDataset(Pair(np.arange(12).reshape(6, 2), {"label": np.arange(6)}))
    batch = examples.batch([4, 1])
    assert isinstance(batch, Pair) and batch.x.tolist() == [[8, 9], [2, 3]] and batch.y["label"].tolist() == [4, 1]
    assert len(examples) == 6 and examples[3].y["label"] == 3


def test_collate_stacks_examples_with_default_dtypes():
    batch = data.collate([{"x": np.float64([1, 2]), "y": 1.0, "z": (3, True)}] * 3)
    assert batch["x"].shape == (3, 2) and batch["x"].dtype == np.float64
    assert batch["y"].dtype == np.float32 and batch["z"][0].dtype == np.int32 and batch["z"][1].dtype == bool


def test_pad_fills_up_to_the_longest():
    batch = data.pad([{"x": np.ones((n, 2)), "n": n} for n in (1, 3)], value=-1)
    assert batch["x"].shape == (2, 3, 2) and batch["n"].tolist() == [1, 3]
    assert (batch["x"][0, 1:] == -1).all() and (batch["x"][1] == 1).all()


def test_subsets_of_subsets():
    part = data.Subset(data.Subset(np.arange(10) * 10, [9, 7, 5, 3]), [3, 0])
    assert part.arrays().tolist() == [30, 90] and part[1] == 90


def test_frames_become_arrays():
    arrays = data.from_frame(FRAME, x=["a", "b"], y="e", b="b")
    assert arrays["x"].dtype == np.float32 and arrays["x"].tolist() == [[1.5, 1], [2.5, 2], [3.5, 3]]
    assert arrays["y"].dtype == bool and arrays["b"].dtype == np.int64
    [batch] = data.DataLoader(FRAME[["a", "b"]], 3)
    assert batch["a"].tolist() == [1.5, 2.5, 3.5] and batch["b"].tolist() == [1, 2, 3]


def test_files_are_mapped_not_read(tmp_path):
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    for examples in (data.from_files(tmp_path), data.from_files({n: str(tmp_path / f"{n}.npy") for n in "xy"})):
        copied = pickle.loads(pickle.dumps(examples))
        for dataset in (examples, copied):
            assert all(isinstance(leaf, np.memmap) for leaf in dataset._leaves)
            assert np.array_equal(dataset.batch([7, 3])["x"], x[[7, 3]])
        assert len(pickle.dumps(examples)) < 600


# ---------------------------------------------------------------- splits, samplers


@pytest.mark.parametrize("sizes, counts", [([0.7, 0.2, 0.1], [7, 2, 1]), ([6, 4], [6, 4]), ([1 / 3, 2 / 3], [3, 7])])
def test_random_split_is_a_partition(sizes, counts):
    parts = data.random_split(KEY, np.arange(10), sizes)
    assert [len(part) for part in parts] == counts
    assert sorted(np.concatenate([part.arrays() for part in parts])) == list(range(10))
    again = data.random_split(KEY, np.arange(10), sizes)
    assert all(np.array_equal(p.indices, q.indices) for p, q in zip(parts, again, strict=True))
    assert not np.array_equal(parts[0].indices, data.random_split(random.key(4), np.arange(10), sizes)[0].indices)


def test_stratified_split_keeps_the_proportions():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [70, 20, 10]))
    training, test = data.random_split(KEY, labels, [0.8, 0.2], stratify=labels)
    assert abs(np.bincount(training.arrays()) - [56, 16, 8]).max() <= 1
    assert abs(np.bincount(test.arrays()) - [14, 4, 2]).max() <= 1
    assert sorted([*training.indices, *test.indices]) == list(range(100))
    assert len(set(training.arrays()[:10])) > 1  # not sorted by class


def test_stratified_batches_have_the_proportions_of_the_dataset():
    labels = np.repeat(["a", "b", "c"], [600, 300, 100])
    loader = data.DataLoader(labels, 50, key=KEY, sampler=data.stratified_sampler(labels))
    for batch in loader:
        shares = [(batch == name).sum() for name in "abc"]
        assert np.abs(np.subtract(shares, [30, 15, 5])).max() <= 2
    first, second = (data.stratified_sampler(labels)(random.key(k)) for k in (0, 1))
    assert sorted(first) == sorted(second) == list(range(1000)) and not np.array_equal(first, second)


def test_weighted_samples_follow_the_weights():
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    counts = np.bincount(data.weighted_sampler(weights, 8000)(KEY), minlength=4)
    expected = weights * 1000
    assert counts[0] == 0 and (np.abs(counts - expected) < 5 * np.sqrt(expected + 1)).all()
    assert sorted(data.weighted_sampler(weights, 3, replace=False)(KEY)) == [1, 2, 3]


# ---------------------------------------------------------------- transforms


def test_flips_are_flips():
    images = np.random.default_rng(0).random((200, 3, 4, 2))
    flipped = data.RandomFlip()(images, np.random.default_rng(1))
    same = (flipped == images).all((1, 2, 3))
    assert (same | (flipped == images[:, :, ::-1]).all((1, 2, 3))).all() and 70 < same.sum() < 130
    assert np.array_equal(data.RandomFlip(axis=1, p=1.0)(images, np.random.default_rng(1)), images[:, ::-1])


@pytest.mark.parametrize("shape", [(60, 5, 4), (60, 5, 4, 3)])
def test_crops_are_windows_of_the_padded_image(shape):
    images = 1 + np.random.default_rng(0).random(shape)
    cut = data.RandomCrop(1)(images, np.random.default_rng(1))
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)][: images.ndim])
    seen = set()
    for i in range(60):
        places = [(r, c) for r in range(3) for c in range(3) if (padded[i, r : r + 5, c : c + 4] == cut[i]).all()]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 9 and cut.shape == shape


def test_compose_changes_one_leaf():
    double = data.Compose(lambda x, rng: 2 * x, data.Normalize(1.0, 2.0), leaf="x")
    batch = double({"x": np.float32([1, 3]), "y": np.arange(2)}, np.random.default_rng(0))
    assert batch["x"].tolist() == [0.5, 2.5] and batch["x"].dtype == np.float32 and batch["y"].tolist() == [0, 1]
    pair = data.Compose(lambda x, rng: x + 1, leaf=1)(Pair(np.zeros(2), np.zeros(2)), np.random.default_rng(0))
    assert isinstance(pair, Pair) and pair.y.tolist() == [1, 1] and pair.x.tolist() == [0, 0]


# ---------------------------------------------------------------- bad input


def write(path, content):
    path.write_bytes(content)
    return data.from_files({"x": path})


ERRORS = {
    "examples of other shapes": (
        lambda _: data.collate([{"x": np.ones(2)}, {"x": np.ones(2)}, {"x": np.ones(3)}]),
        ShapeError,
        ["collate: ['x'] has shape (2,) in example 0 of the batch, and (3,) in example 2", "data.pad"],
    ),
    "examples of other structure": (
        lambda _: data.collate([{"x": 1}, {"y": 1}]),
        ArgumentError,
        ["tree 1 is a dict with key 'x', tree 2 a dict with key 'y'"],
    ),
    "text column": (
        lambda _: data.from_frame(FRAME, x=["a", "c"]),
        DTypeError,
        ["from_frame: column 'c' has dtype str, not numbers", "factorize"],
    ),
    "missing values": (
        lambda _: data.from_frame(FRAME, x="d"),
        ArgumentError,
        ["column 'd' has 2 missing values of 3"],
    ),
    "no such column": (lambda _: data.from_frame(FRAME, x="z"), ArgumentError, ["no column 'z'", "a, b, c, d, e"]),
    "no frame": (lambda _: data.from_frame([1], x="z"), ArgumentError, ["[1] of type list has no columns"]),
    "truncated file": (
        lambda tmp: (np.save(tmp / "x.npy", np.ones(99)), write(tmp / "x.npy", (tmp / "x.npy").read_bytes()[:300])),
        ArgumentError,
        ["from_files: ", "x.npy cannot be read", "np.save"],
    ),
    "foreign file": (lambda tmp: write(tmp / "x.npy", b"hello"), ArgumentError, ["x.npy cannot be read"]),
    "pickled file": (
        lambda tmp: (np.save(tmp / "x.npy", np.array([{}])), data.from_files(tmp)),
        ArgumentError,
        ["x.npy cannot be read"],
    ),
    "no files": (lambda tmp: data.from_files(tmp), ArgumentError, ["no .npy files in"]),
    "index out of range": (
        lambda _: data.Subset(np.arange(3), [0, 3]),
        ArgumentError,
        ["index 3 of indices", "3 exam"],
    ),
    "indices of floats": (lambda _: data.Subset(np.arange(3), [0.5]), ArgumentError, ["indices are float64[1]"]),
    "sizes do not add up": (lambda _: data.random_split(KEY, np.arange(9), [5, 5]), ArgumentError, ["[5, 5] of 9"]),
    "labels of another length": (
        lambda _: data.random_split(KEY, np.arange(9), [0.5, 0.5], stratify=[1, 2]),
        ShapeError,
        ["2 labels in stratify for 9 examples"],
    ),
    "negative weight": (lambda _: data.weighted_sampler([1, -1]), ArgumentError, ["weights are array([ 1., -1.])"]),
    "too few weights": (
        lambda _: data.weighted_sampler([0, 1], 2, replace=False),
        ArgumentError,
        ["2 examples without replacement, but 1 have a positive weight"],
    ),
    "flat images": (
        lambda _: data.RandomFlip()(np.ones((2, 64)), np.random.default_rng(0)),
        ShapeError,
        ["RandomFlip: images of shape (2, 64)", "(batch, height, width[, channels])"],
    ),
    "no such leaf": (
        lambda _: data.Compose(leaf="z")({"x": 1}, np.random.default_rng(0)),
        ArgumentError,
        ["Compose: no leaf 'z' in a batch that is a dict of keys ['x']"],
    ),
    "a file name as the dataset": (lambda _: data.DataLoader("x.npy", 2), ArgumentError, ["'x.npy'", "from_files"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, tmp_path):
    action, kind, parts = ERRORS[name]
    with pytest.raises(FuncgradError) as caught:
        action(tmp_path)
    assert isinstance(caught.value, kind)
    for part in [*parts, "test_dataset.py:", "fix: "]:
        assert part in str(caught.value), caught.value
