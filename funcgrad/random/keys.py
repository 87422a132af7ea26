"""Keys, and the random bits derived from them.

A key has 64 bits, which are two uint32 words. `key` returns an array of dtype `key<fry>`, whose elements are keys;
`PRNGKey` returns the words, uint32[2]. Every function accepts both kinds.

>>> keys = split(key(0), 3)
>>> keys.shape, keys.dtype, keys[0].shape
((3,), key<fry>, ())
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad import dtypes
from funcgrad.arguments.axes import as_shape
from funcgrad.arguments.promotion import as_operand
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.numpy import creation, joining
from funcgrad.ops.casts import convert_element_type
from funcgrad.ops.logic import or_p, shift_left_p, shift_right_logical_p, xor_p
from funcgrad.ops.random_bits import counters, random_unwrap_p, random_wrap_p, threefry2x32
from funcgrad.ops.shapes import full

IMPLEMENTATION = "threefry2x32"
# Generators of JAX whose bits depend on the platform. Their keys are keys of the only generator here.
_ACCEPTED = ("rbg", "unsafe_rbg")


# ---------------------------------------------------------------- creating and unwrapping keys


def key(seed: Any, *, impl: Any = None, dtype: Any = None) -> Any:
    """Make a key from an integer seed.

    >>> key_data(key(42))
    Array([ 0, 42], dtype=uint32)
    """
    _check_implementation("key", impl if dtype is None else dtype)
    return random_wrap_p.bind(_words_of_seed("key", seed))


def PRNGKey(seed: Any, *, impl: Any = None) -> Any:
    """Make a key from an integer seed, as an array of two words.

    >>> PRNGKey(-1)
    Array([         0, 4294967295], dtype=uint32)
    """
    _check_implementation("PRNGKey", impl)
    return _words_of_seed("PRNGKey", seed)


def _words_of_seed(name: str, seed: Any) -> Any:
    """The high and low 32 bits of the seed; the high bits of a narrower seed are 0."""
    if is_key(seed):
        raise ArgumentError(f"{name}: the seed is a key", fix="pass an integer, or use the key itself")
    if isinstance(seed, int) and not isinstance(seed, bool):
        # Python integers wrap, so that hash values can be seeds.
        seed = as_array(np.int64(seed).astype(dtypes.canonicalize(dtypes.int64)))
    seed = as_operand(seed, name)
    aval = aval_of(seed)
    if aval.shape:
        raise ShapeError(
            f"{name}: the seed has shape {aval.shape}", fix="pass a scalar, and use vmap to make several keys"
        )
    if not dtypes.is_integer(aval.dtype):
        raise DTypeError(f"{name}: the seed is {aval}", fix="pass an integer")
    high = full((), 0, dtypes.uint32)
    if aval.dtype.itemsize == 8:
        high = convert_element_type(shift_right_logical_p.bind(seed, full((), 32, aval.dtype)), dtypes.uint32)
    return joining.stack([high, convert_element_type(seed, dtypes.uint32)])


def _check_implementation(name: str, implementation: Any) -> None:
    if implementation not in (None, IMPLEMENTATION, dtypes.key, *_ACCEPTED):
        raise ArgumentError(
            f"{name}: unknown generator {implementation!r}",
            fix=f"the only generator is {IMPLEMENTATION!r}: leave out impl",
        )


def key_data(keys: Any) -> Any:
    """Return the words of keys, uint32[*shape, 2]."""
    return words_of("key_data", keys)


def wrap_key_data(key_bits_array: Any, *, impl: Any = None, dtype: Any = None) -> Any:
    """Return the keys with the given words, uint32[*shape, 2]; the inverse of `key_data`."""
    _check_implementation("wrap_key_data", impl if dtype is None else dtype)
    return random_wrap_p.bind(words_of("wrap_key_data", key_bits_array))


def key_impl(keys: Any) -> str:
    """Return the name of the generator of keys."""
    words_of("key_impl", keys)
    return IMPLEMENTATION


def key_dtype(impl: Any = None) -> Any:
    """Return the dtype of key arrays."""
    _check_implementation("key_dtype", impl)
    return dtypes.key


def clone(key: Any) -> Any:
    """Return the same key, to document that it is reused on purpose."""
    words = words_of("clone", key)
    return _like(key, words)


def is_key(x: Any) -> bool:
    """Whether `x` is an array of keys, rather than of words."""
    return isinstance(x, ArrayLike) and x.aval.dtype is dtypes.key


def _like(key: Any, words: Any) -> Any:
    """Return the keys with the given words, as words where `key` is given by words."""
    return random_wrap_p.bind(words) if is_key(key) else words


def words_of(name: str, keys: Any) -> Any:
    """Return the words of keys of either kind; raise for anything else."""
    if is_key(keys):
        return random_unwrap_p.bind(keys)
    words = keys
    if not isinstance(words, (ArrayLike, np.ndarray)):
        raise ArgumentError(f"{name}: {keys!r:.60} is not a key", fix="make one with funcgrad.random.key(seed)")
    aval = aval_of(words)
    if aval.dtype != dtypes.uint32 or aval.shape[-1:] != (2,):
        raise ArgumentError(
            f"{name}: {aval} is not a key, which is uint32[2]", fix="make one with funcgrad.random.key(seed)"
        )
    return as_array(words)


def single(name: str, key: Any) -> Any:
    """Return the words of a single key; raise for an array of keys."""
    words = words_of(name, key)
    shape = aval_of(words).shape[:-1]
    if shape:
        raise ShapeError(
            f"{name}: expected a single key, got an array of keys of shape {shape}",
            fix=f"use funcgrad.vmap(lambda key: {name}(key, ...))(keys)",
        )
    return words


# ---------------------------------------------------------------- deriving keys, drawing bits


def _hash(words: Any, shape: Sequence[int]) -> list[Any]:
    """Two random words for each element of an array of this shape."""
    return threefry2x32(words[0], words[1], *counters(shape))


def split_words(words: Any, num: int = 2) -> list[Any]:
    """Split a key into `num` new keys, all given by their words."""
    words = joining.stack(_hash(words, (num,)), axis=-1)
    return [words[i] for i in range(num)]


def split(key: Any, num: int | Sequence[int] = 2) -> Any:
    """Split a key into `num` new keys, or into an array of keys of shape `num`.

    >>> split(key(0), (2, 3)).shape
    (2, 3)
    """
    words = joining.stack(_hash(single("split", key), as_shape(num, "split")), axis=-1)
    return _like(key, words)


def fold_in(key: Any, data: Any) -> Any:
    """Derive a key from a key and a 32-bit integer, for example the number of a step.

    >>> key_data(fold_in(key(0), 1))
    Array([ 928981903, 3453687069], dtype=uint32)
    """
    words = single("fold_in", key)
    data = creation.asarray(data, dtypes.uint32)
    if data.aval.shape:
        raise ShapeError(f"fold_in: data has shape {data.aval.shape}", fix="pass a scalar, and use vmap for several")
    words = joining.stack(threefry2x32(words[0], words[1], full((), 0, dtypes.uint32), data))
    return _like(key, words)


def bits(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Sample uniformly random unsigned integers.

    >>> bits(key(0), (2,))
    Array([4070199207, 4202968722], dtype=uint32)
    """
    dtype = dtypes.canonicalize(dtypes.uint64) if dtype is None else dtypes.requested(dtype, "bits")
    if dtype.kind != "u":
        raise DTypeError(
            f"bits: dtype {dtype.name} is not an unsigned integer", fix="use uint8, uint16, uint32 or uint64"
        )
    return bits_of(single("bits", key), as_shape(shape, "bits"), dtype)


def bits_of(words: Any, shape: Sequence[int], dtype: np.dtype) -> Any:
    """`bits`, given the words of a key."""
    high, low = _hash(words, shape)
    if dtype.itemsize < 8:
        return convert_element_type(xor_p.bind(high, low), dtype)
    high, low = (convert_element_type(x, dtype) for x in (high, low))
    return or_p.bind(shift_left_p.bind(high, full((), 32, dtype)), low)


def float_dtype(name: str, dtype: Any) -> np.dtype:
    """Return the requested float dtype, or the default one for None."""
    result_dtype = dtypes.canonicalize(float) if dtype is None else dtypes.requested(dtype, name)
    if not dtypes.is_float(result_dtype):
        raise DTypeError(
            f"{name}: dtype {result_dtype.name} is not a float", fix="use float32, float16, bfloat16 or float64"
        )
    return result_dtype
