"""Checkpoints: pytrees of arrays and simple values in files, without pickle, replaced atomically."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad import dtypes, random, tree
from funcgrad.core.array_types import ArrayLike
from funcgrad.core.arrays import as_array
from funcgrad.errors import ArgumentError, CheckpointError, DependencyError
from funcgrad.random.keys import is_key

_VERSION = 1
# The dtypes that safetensors writes and reads; arrays of others are stored as bytes along a new last axis.
_NATIVE = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}
_NATIVE |= {"float16", "bfloat16", "float32", "float64", "complex64"}
_VALUES = (bool, int, float, str)
_OTHER_STRUCTURE = "pass a structure like the one that was saved, as `like`; train.load(path) shows what is in the file"


class Snapshot(NamedTuple):
    """The leaves of a pytree on the host, by path; `keys` are the paths of random keys, whose words are arrays."""

    arrays: dict[str, np.ndarray]
    values: dict[str, Any]
    keys: list[str]


def save(path: str | os.PathLike[str], state: Any, *, metadata: dict[str, Any] | None = None) -> None:
    """Save a pytree of arrays, keys, and Python numbers, bools and strings.

    The file is in the safetensors format; its arrays are named by their paths, such as ".params['w']". `metadata` is
    what JSON can represent. The file appears at once: it is written under a temporary name, synced to the disk, and
    renamed. If the process is killed, the file that was there before is intact.

    Raises:
      ArgumentError: a leaf is of another type.

    >>> import tempfile, funcgrad.numpy as jnp
    >>> folder = tempfile.TemporaryDirectory()
    >>> save(f"{folder.name}/a.safetensors", {"w": jnp.ones(3), "step": 7})
    >>> load(f"{folder.name}/a.safetensors", like={"w": jnp.zeros(3), "step": 0})
    {'w': Array([1., 1., 1.], dtype=float32), 'step': 7}
    """
    write(Path(path), snapshot(state), {} if metadata is None else metadata)


def load(path: str | os.PathLike[str], like: Any = None) -> Any:
    """Load a pytree that `save` wrote.

    `like` has the structure, shapes and dtypes to restore; its arrays may be `ShapeDtypeStruct`s. NumPy arrays are
    restored as such. Without `like`, the result is a dict from paths to NumPy arrays and values.

    Raises:
      CheckpointError: the file is damaged, is not a checkpoint, or has other leaves, shapes, dtypes or types.
    """
    path = Path(path)
    with _opened(path) as file:
        shapes, header = _read_header(file, path)
        if like is not None:
            _check_leaves(path, like, shapes, header)
        arrays = {name: _read_leaf(file, path, name, header) for name in shapes}
    leaves = arrays | header["values"]
    if like is None:
        return leaves
    return tree.map_with_path(lambda path, leaf: _restored(leaf, leaves[tree.keystr(path)]), like)


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata of a checkpoint; the arrays are not read."""
    with _opened(Path(path)) as file:
        return _read_header(file, Path(path))[1]["metadata"]


# ---------------------------------------------------------------- writing


def snapshot(state: Any, *, copy: bool = False) -> Snapshot:
    """Return the leaves of a pytree by path, as NumPy arrays and Python values; raise for leaves of other types."""
    result = Snapshot({}, {}, [])
    for path, leaf in tree.leaves_with_path(state):
        name = tree.keystr(path)
        if is_key(leaf):
            result.keys.append(name)
            leaf = random.key_data(leaf)
        if isinstance(leaf, (np.ndarray, np.generic, ArrayLike)) and np.asarray(leaf).dtype.kind != "O":
            result.arrays[name] = np.array(leaf) if copy else np.asarray(leaf)
        elif type(leaf) in _VALUES:
            result.values[name] = leaf
        else:
            raise ArgumentError(
                f"save: leaf {name or 'the state'} is {leaf!r:.60} of type {type(leaf).__name__}",
                fix="save pytrees of arrays, numbers, bools and strings; keep other objects out of the state",
            )
    return result


def write(path: Path, state: Snapshot, metadata: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name, sync it to the disk, rename it, and sync the folder."""
    header = {
        "version": _VERSION,
        "values": state.values,
        "keys": state.keys,
        "dtypes": {name: x.dtype.name for name, x in state.arrays.items()},
        "sha256": {name: _digest(x) for name, x in state.arrays.items()},
        "metadata": metadata,
    }
    encoded = json.dumps(header)
    about = {"funcgrad": encoded, "sha256": hashlib.sha256(encoded.encode()).hexdigest()}
    temporary = path.with_name(f".{path.name}.saving")
    with _locked(path.parent) as folder:
        for leftover in path.parent.glob(".*.saving"):  # of processes that were killed
            leftover.unlink()
        try:
            arrays = {name: _storable(x) for name, x in state.arrays.items()}
            _safetensors().numpy.save_file(arrays, temporary, about)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        os.fsync(folder)


def _safetensors() -> Any:
    """The library, which is not needed to import funcgrad."""
    try:
        import safetensors.numpy
    except ImportError:
        raise DependencyError(
            "checkpoints need safetensors, which is not installed", fix="pip install funcgrad[train]"
        ) from None
    return safetensors


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Keep other processes from writing checkpoints in this folder. The lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        # Closing is not enough: children that were forked meanwhile share the lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _storable(array: np.ndarray) -> np.ndarray:
    """Return the array in C order, or its bytes along a new last axis if the format does not have its dtype."""
    array = np.asarray(array, array.dtype.newbyteorder("=") if array.dtype.kind in "iufc" else None, order="C")
    return array if array.dtype.name in _NATIVE else array[..., None].view(np.uint8)


def _digest(array: np.ndarray) -> str:
    stored = _storable(array)
    digest = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    if array.size:
        digest.update(np.ascontiguousarray(stored).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# ---------------------------------------------------------------- reading


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    library = _safetensors()
    try:
        opened = library.safe_open(path, framework="numpy")
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}", fix="pass the name of a file that train.save wrote"
        ) from None
    except library.SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged, or not a safetensors file: {error}",
            fix="pass a file that train.save wrote; if it did, restore an earlier checkpoint and delete this file",
        ) from None
    with opened as file:
        yield file


def _read_header(file: Any, path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Return the shapes of the stored arrays, and what `write` wrote beside them."""
    about = file.metadata() or {}
    if "funcgrad" not in about:
        raise CheckpointError(
            f"{path} is a safetensors file of another program",
            fix="read its arrays with safetensors.numpy.load_file, and build the pytree of them",
        )
    encoded = about["funcgrad"]
    if hashlib.sha256(encoded.encode()).hexdigest() != about.get("sha256"):
        raise CheckpointError(f"{path}: the header does not match its checksum", fix="restore an earlier checkpoint")
    header = json.loads(encoded)
    if header["version"] != _VERSION:
        raise CheckpointError(
            f"{path} has version {header['version']} of the format, and this is version {_VERSION}",
            fix="load it with the version of funcgrad that wrote it",
        )
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (not a dict)
    if header["sha256"].keys() != shapes.keys():
        odd = sorted(header["sha256"].keys() ^ shapes.keys())
        raise CheckpointError(f"{path}: array {odd[0]} was added or removed", fix="restore an earlier checkpoint")
    return shapes, header


def _read_leaf(file: Any, path: Path, name: str, header: dict[str, Any]) -> np.ndarray:
    stored, dtype = file.get_tensor(name), np.dtype(header["dtypes"][name])
    array = stored if header["dtypes"][name] in _NATIVE else stored.view(dtype)[..., 0]
    if array.dtype != dtype or _digest(array) != header["sha256"][name]:
        raise CheckpointError(
            f"{path}: leaf {name or 'the array'} does not match its checksum", fix="restore an earlier checkpoint"
        )
    return array


def _check_leaves(path: Path, like: Any, shapes: dict[str, tuple[int, ...]], header: dict[str, Any]) -> None:
    """Raise unless the file has exactly the leaves of `like`, with their shapes and dtypes, or types."""
    expected = {tree.keystr(path): leaf for path, leaf in tree.leaves_with_path(like)}
    found = header["dtypes"].keys() | header["values"].keys()
    missing, extra = sorted(expected.keys() - found), sorted(found - expected.keys())
    if missing or extra:
        raise CheckpointError(f"{path}: {_difference(missing, extra)}", fix=_OTHER_STRUCTURE)
    for name, leaf in expected.items():
        wanted, stored = _kind(leaf), _stored_kind(name, shapes, header)
        if wanted != stored:
            raise CheckpointError(f"{path}: leaf {name} is {stored} in the file, not {wanted}", fix=_OTHER_STRUCTURE)


def _difference(missing: list[str], extra: list[str]) -> str:
    parts = []
    if missing:
        close = difflib.get_close_matches(missing[0], extra, 1)
        like = f" (but {close[0]})" if close else ""
        parts.append(
            f"there is no leaf {missing[0]}{like}" + (f", nor {len(missing) - 1} others" if missing[1:] else "")
        )
    if extra:
        others = f" and {len(extra) - 1} others are" if extra[1:] else " is"
        parts.append(f"leaf {extra[0]}{others} not in `like`")
    return "; ".join(parts)


def _kind(leaf: Any) -> str:
    """Describe a leaf of `like`: "float32[3, 2]", "int"."""
    if type(leaf) in _VALUES:
        return type(leaf).__name__
    if not hasattr(leaf, "shape"):
        raise ArgumentError(f"load: `like` has a leaf {leaf!r:.60}", fix="it has arrays, numbers, bools and strings")
    return f"{'key' if leaf.dtype is dtypes.key else np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _stored_kind(name: str, shapes: dict[str, tuple[int, ...]], header: dict[str, Any]) -> str:
    if name in header["values"]:
        return type(header["values"][name]).__name__
    dtype, shape = header["dtypes"][name], shapes[name]
    if name in header["keys"]:
        return f"key{list(shape[:-1])}"
    return f"{dtype}{list(shape if dtype in _NATIVE else shape[:-1])}"


def _restored(leaf: Any, value: Any) -> Any:
    if getattr(leaf, "dtype", None) is dtypes.key:
        return random.wrap_key_data(value)
    return value if type(leaf) in _VALUES or isinstance(leaf, np.ndarray) else as_array(value)
