"""The safetensors format: arrays by name, a JSON header, and no code.

A file is the length of the header (8 bytes), the header, and the bytes of the arrays without gaps. See
https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from funcgrad.errors import CheckpointError

_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "U16": np.uint16,
    "I16": np.int16,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "U32": np.uint32,
    "I32": np.int32,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
    "C64": np.complex64,
}
_BY_NAME = {name: np.dtype(dtype) for name, dtype in _DTYPES.items()}
_NAMES = {dtype: name for name, dtype in _BY_NAME.items()}
_LONGEST_HEADER = 100_000_000
_NOT_WHOLE = "restore an earlier checkpoint, and delete this file"


class Entry(NamedTuple):
    """Where an array is in a file, from the end of the header on."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def is_supported(dtype: np.dtype) -> bool:
    """Whether the format has this dtype."""
    return dtype in _NAMES


def write(file: BinaryIO, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write arrays of supported dtypes."""
    # Wide dtypes first, so that every array is aligned.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(struct.pack("<Q", len(encoded)))
    file.write(encoded)
    for _, array in ordered:
        if array.size:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_header(file: BinaryIO, path: str) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return where the arrays are, and the metadata; raise CheckpointError unless the file is whole."""
    size = os.fstat(file.fileno()).st_size
    [length] = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    if not 2 <= length <= _LONGEST_HEADER or size < 9 or file.read(1) != b"{":
        raise CheckpointError(f"{path} is not a safetensors file", fix="pass a file that train.save wrote")
    if size < 8 + length:
        raise CheckpointError(
            f"{path} is truncated: it has {size} bytes, and its header alone {length}", fix=_NOT_WHOLE
        )
    try:
        header = json.loads(b"{" + file.read(length - 1))
        metadata = header.pop("__metadata__", {})
        entries = {name: _entry(value) for name, value in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: the header is damaged", fix=_NOT_WHOLE) from None
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start != end or entry.end - end != math.prod(entry.shape) * entry.dtype.itemsize:
            raise CheckpointError(f"{path}: the header is damaged at {name}", fix=_NOT_WHOLE)
        end = entry.end
    expected = 8 + length + end
    if size != expected:
        kind = "is truncated" if size < expected else "has bytes behind its arrays"
        raise CheckpointError(f"{path} {kind}: it has {size} bytes, not {expected}", fix=_NOT_WHOLE)
    return entries, metadata


def _entry(value: Any) -> Entry:
    start, end = value["data_offsets"]
    shape = tuple(value["shape"])
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ValueError
    return Entry(_BY_NAME[value["dtype"]], shape, start, end)


def read_array(file: io.BufferedReader, entry: Entry, path: str) -> np.ndarray:
    """Read one array."""
    [length] = struct.unpack("<Q", os.pread(file.fileno(), 8, 0))
    array = np.empty(entry.shape, entry.dtype)
    file.seek(8 + length + entry.start)
    if array.size and file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
        raise CheckpointError(f"{path} is truncated", fix=_NOT_WHOLE)
    return array
