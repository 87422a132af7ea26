"""Datasets: examples with random access, in memory, in files, or made one by one."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funcgrad import dtypes, tree
from funcgrad.core.tracers import Tracer
from funcgrad.errors import ArgumentError, ConcretizationError, DTypeError, ShapeError


class Dataset(abc.ABC):
    """A finite number of examples with random access; each example is a pytree.

    A subclass defines `__len__` and `__getitem__(index)`. It may override `batch`, if it reads many examples faster
    than one by one.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 10
    ...     def __getitem__(self, index):
    ...         return {"x": index, "y": index**2}
    >>> Squares().batch([2, 3])["y"].tolist()
    [4, 9]
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of examples."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> Any:
        """The example at an index."""

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def batch(self, indices: Any) -> Any:
        """Return the examples at these indices, stacked by `collate`."""
        return collate([self[int(i)] for i in indices])

    def arrays(self) -> Any:
        """Return all examples, stacked."""
        return self.batch(np.arange(len(self)))


class ArrayDataset(Dataset):
    """The examples of a pytree of arrays, whose first axis is that of the examples.

    >>> examples = ArrayDataset({"x": np.eye(3), "y": np.arange(3)})
    >>> examples[2]["y"], examples.batch([0, 2])["x"].shape
    (np.int64(2), (2, 3))

    Raises:
      ShapeError: the arrays have no examples, or different numbers of them.
    """

    def __init__(self, arrays: Any, operation: str = "ArrayDataset"):
        self._leaves, self._structure = _examples(arrays, operation)

    def __len__(self) -> int:
        return len(self._leaves[0])

    def __getitem__(self, index: Any) -> Any:
        return self._structure.unflatten([x[index] for x in self._leaves])

    def batch(self, indices: Any) -> Any:
        """Return the examples at these indices."""
        return self[np.asarray(indices)]


class _FileDataset(ArrayDataset):
    """Examples in memory-mapped files. A process that does not share this memory maps them again."""

    def __init__(self, paths: Any):
        self._paths = paths
        super().__init__(tree.map(_map_file, paths), "from_files")

    def __reduce__(self) -> tuple[Any, ...]:
        return _FileDataset, (self._paths,)


class SequenceDataset(Dataset):
    """The examples of a sequence: anything with a length and integer indices."""

    def __init__(self, items: Any):
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


class Subset(Dataset):
    """Some examples of a dataset, in a given order."""

    def __init__(self, dataset: Any, indices: Any):
        self._dataset = as_dataset(dataset, "Subset")
        self.indices = checked_indices(indices, len(self._dataset), "Subset", "indices")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[int(self.indices[index])]

    def batch(self, indices: Any) -> Any:
        """Return the examples at these positions of the subset, stacked."""
        return self._dataset.batch(self.indices[np.asarray(indices)])


def is_sequence(x: Any) -> bool:
    """Whether `x` has examples by index: a list, or an object with `__len__` and `__getitem__` that is no pytree."""
    indexed = hasattr(x, "__len__") and hasattr(x, "__getitem__")
    return isinstance(x, list) or (indexed and not tree.is_tree_node(type(x)) and not hasattr(x, "shape"))


def as_dataset(x: Any, operation: str) -> Dataset:
    """Return a dataset as it is; make one of arrays, frames and sequences.

    A list is a sequence of examples; tuples, dicts and other containers are pytrees of arrays.
    """
    if isinstance(x, Dataset):
        return x
    if isinstance(x, (str, bytes, os.PathLike)):
        raise ArgumentError(
            f"{operation}: the dataset is {x!r:.60} of type {type(x).__name__}",
            fix="read files with data.from_files, or pass the list of lines",
        )
    if _is_frame(x):
        return ArrayDataset({name: _column(x, name, operation) for name in x.columns}, operation)
    if is_sequence(x):
        return SequenceDataset(x)
    return ArrayDataset(x, operation)


def checked_indices(indices: Any, count: int, operation: str, what: str) -> np.ndarray:
    """Return a vector of integer indices; raise for other shapes and dtypes, and outside [0, count)."""
    array = np.asarray(indices)
    array = array.astype(np.int64) if array.size == 0 else array
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ArgumentError(
            f"{operation}: {what} are {array.dtype}{list(array.shape)}", fix="pass a vector of integers: int64[n]"
        )
    outside = (array < 0) | (array >= count)
    if outside.any():
        raise ArgumentError(
            f"{operation}: index {array[outside.argmax()]} of {what} is out of range for {count} examples",
            fix=f"use indices from 0 to {count - 1}",
        )
    return array.astype(np.int64)


def _examples(arrays: Any, operation: str) -> tuple[list[np.ndarray], Any]:
    """Return the leaves as NumPy arrays of equal positive lengths, and their structure."""
    pairs, structure = tree.flatten_with_path(arrays)
    if any(isinstance(x, Tracer) for _, x in pairs):
        raise ConcretizationError(
            f"{operation}: the arrays are traced, but minibatches need concrete arrays",
            fix=f"call {operation} outside of jit, and pass each minibatch to the jitted function",
        )
    leaves = [x if isinstance(x, np.ndarray) else np.asarray(x) for _, x in pairs]
    if len({x.shape[:1] for x in leaves}) != 1 or not leaves[0].ndim:
        places = ((tree.keystr(path) or "the array", x.shape) for (path, _), x in zip(pairs, leaves, strict=True))
        listed = ", ".join(f"{place} has shape {shape}" for place, shape in places)
        raise ShapeError(
            f"{operation}: {listed or 'there are no arrays'}",
            fix="all arrays need the same first axis, that of the examples; convert lists of numbers with np.asarray",
        )
    if not len(leaves[0]):
        raise ShapeError(
            f"{operation}: no examples: the first array has shape {leaves[0].shape}", fix="pass at least one example"
        )
    return leaves, structure


# ---------------------------------------------------------------- frames and files


def _is_frame(x: Any) -> bool:
    return hasattr(x, "columns") and hasattr(x, "to_numpy")


def from_frame(frame: Any, **columns: str | Sequence[str]) -> dict[str, np.ndarray]:
    """Return arrays of the columns of a pandas DataFrame: a vector for one name, a matrix for a list of names.

    Floats are converted to the default float dtype.

    Raises:
      DTypeError: a column has no numbers.
      ArgumentError: a column does not exist, or has missing values.

    >>> import pandas
    >>> frame = pandas.DataFrame({"age": [30, 40], "height": [1.7, 1.8], "price": [10.0, 20.0]})
    >>> from_frame(frame, x=["age", "height"], y="price")["x"].shape
    (2, 2)
    """
    if not _is_frame(frame):
        raise ArgumentError(
            f"from_frame: {frame!r:.60} of type {type(frame).__name__} has no columns", fix="pass a pandas DataFrame"
        )
    if not columns:
        raise ArgumentError(
            "from_frame: no columns are selected", fix='name the arrays and their columns: from_frame(frame, x=["a"])'
        )
    return {name: _columns(frame, selected) for name, selected in columns.items()}


def _columns(frame: Any, selected: str | Sequence[str]) -> np.ndarray:
    if isinstance(selected, str) or not isinstance(selected, Sequence):
        return _column(frame, selected, "from_frame")
    matrix = np.stack([_column(frame, name, "from_frame") for name in selected], axis=-1)
    return matrix.astype(dtypes.canonicalize(float)) if matrix.dtype.kind == "f" else matrix


def _column(frame: Any, name: Any, operation: str) -> np.ndarray:
    if name not in frame.columns:
        raise ArgumentError(
            f"{operation}: no column {name!r:.60}", fix=f"the columns are {', '.join(map(str, frame.columns))}"
        )
    series = frame[name]
    missing = int(series.isna().sum())
    if missing:
        raise ArgumentError(
            f"{operation}: column {name!r} has {missing} missing values of {len(series)}",
            fix="drop these rows with frame.dropna(), or fill them with frame.fillna(value)",
        )
    values = series.to_numpy()
    if values.dtype.kind not in "biuf":
        raise DTypeError(
            f"{operation}: column {name!r} has dtype {series.dtype}, not numbers",
            fix="encode it, for example with pandas.factorize or pandas.get_dummies",
        )
    return values.astype(dtypes.canonicalize(float)) if values.dtype.kind == "f" else values


def from_files(paths: Any) -> ArrayDataset:
    """Return the examples in .npy files, which are memory-mapped: only the examples of a batch are read.

    `paths` is a pytree of file names, or a folder, whose .npy files then have their stems as names. The first axis of
    each file is that of the examples.

    Raises:
      ArgumentError: a file does not exist, is truncated, or is not an .npy file of numbers.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.save(f"{folder.name}/x.npy", np.ones((5, 2)))
    >>> from_files(folder.name).batch([0, 3])["x"].shape
    (2, 2)
    """
    if isinstance(paths, (str, os.PathLike)) and Path(paths).is_dir():
        found = {path.stem: path for path in sorted(Path(paths).glob("*.npy"))}
        if not found:
            raise ArgumentError(f"from_files: no .npy files in {os.fspath(paths)!r}", fix="write them with np.save")
        paths = found
    return _FileDataset(paths)


def _map_file(path: Any) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"from_files: {path!s:.200} cannot be read: {error}", fix="pass names of .npy files written by np.save"
        ) from None


# ---------------------------------------------------------------- examples → batch


def collate(items: Sequence[Any]) -> Any:
    """Stack examples: a list of pytrees becomes one pytree of arrays with a new first axis.

    Python numbers get the default dtypes.

    Raises:
      ArgumentError: the examples differ in structure.
      ShapeError: the arrays at one place differ in shape.

    >>> collate([{"x": [1.0, 2.0], "y": 0}, {"x": [3.0, 4.0], "y": 1}])["y"]
    array([0, 1], dtype=int32)
    """
    return tree.map(lambda *leaves: _stack(leaves, items), items[0], *items[1:])


def _stack(leaves: Sequence[Any], items: Sequence[Any]) -> np.ndarray:
    arrays = [np.asarray(x) for x in leaves]
    if len({x.shape for x in arrays}) > 1:
        first, other = next((0, i) for i, x in enumerate(arrays) if x.shape != arrays[0].shape)
        path = next(p for p, x in tree.leaves_with_path(items[0]) if x is leaves[0])
        place = tree.keystr(path) or "the array"
        raise ShapeError(
            f"collate: {place} has shape {arrays[first].shape} in example {first} of the batch, "
            f"and {arrays[other].shape} in example {other}",
            fix="pad them to one shape, with collate=data.pad, or with a function of your own",
        )
    stacked = np.stack(arrays)
    return stacked.astype(dtypes.canonicalize(stacked.dtype)) if isinstance(leaves[0], (int, float)) else stacked


def pad(items: Sequence[Any], value: Any = 0) -> Any:
    """Stack examples, after padding their first axes with `value` to the longest: a `collate` for sequences.

    Arrays without axes are stacked as they are. Masks follow from the lengths, which an example should have as well.

    >>> pad([{"x": np.array([1, 2, 3]), "n": 3}, {"x": np.array([4]), "n": 1}])["x"].tolist()
    [[1, 2, 3], [4, 0, 0]]
    """

    def padded(*leaves: Any) -> Any:
        arrays = [np.asarray(x) for x in leaves]
        if any(x.ndim == 0 for x in arrays):
            return _stack(leaves, items)
        longest = max(map(len, arrays))
        widths: Callable[[np.ndarray], Any] = lambda x: [(0, longest - len(x)), *[(0, 0)] * (x.ndim - 1)]  # noqa: E731
        return _stack([np.pad(x, widths(x), constant_values=value) for x in arrays], items)

    return tree.map(padded, items[0], *items[1:])
