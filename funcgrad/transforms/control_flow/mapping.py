"""map: a function applied to slices of arrays one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import tree
from funcgrad.core.array_types import aval_of
from funcgrad.errors import ArgumentError
from funcgrad.ops.shapes import reshape
from funcgrad.ops.slicing import concatenate
from funcgrad.tracebacks import boundary
from funcgrad.transforms.control_flow.scan import length_of, scan_as
from funcgrad.transforms.flattening import as_arrays, callable_or_error, name_of, places
from funcgrad.transforms.vmap import vmap


@boundary
def map(f: Callable[..., Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """Apply `f` to each slice of arrays along their leading axis, one after another, and stack the results.

    ys[i] = f(xs[i]). With `batch_size`, that many slices at once, as `vmap` does (0: all of them): between
    `vmap`, which takes most memory, and the plain loop, which takes least.

    Args:
      f: x → y, of pytrees.
      xs: arrays of one leading size.
      batch_size: how many slices to take at once; the last batch may be smaller.

    Raises:
      ArgumentError: xs has no arrays, or batch_size is negative.

    >>> import funcgrad.numpy as jnp
    >>> map(lambda x: x * x, jnp.arange(3.0))
    Array([0., 1., 4.], dtype=float32)
    """
    callable_or_error(f, "map")
    if batch_size is None:
        return _mapped(f, xs)
    if batch_size < 0:
        raise ArgumentError(f"map: batch_size is {batch_size}", fix="give a number of slices, or 0 for all at once")
    leaves, xs_tree = tree.flatten(xs)
    leaves = as_arrays(leaves, "map", places("xs", xs_tree))
    length = length_of(leaves, xs_tree, None, "map")
    batches, rest = divmod(length, batch_size) if batch_size else (0, length)
    whole = length - rest
    f_of_batch = vmap(f)
    if not batches:
        return f_of_batch(xs_tree.unflatten(leaves))
    rows = [reshape(x[:whole], (batches, batch_size, *aval_of(x).shape[1:])) for x in leaves]
    last = [x[whole:] for x in leaves] if rest else []
    ys = _mapped(f_of_batch, xs_tree.unflatten(rows))
    last_ys = f_of_batch(xs_tree.unflatten(last)) if rest else None
    flat = tree.map(lambda y: reshape(y, (whole, *aval_of(y).shape[2:])), ys)
    return tree.map(lambda a, b: concatenate([a, b], 0), flat, last_ys) if rest else flat


def _mapped(f: Callable[..., Any], xs: Any) -> Any:
    def step(_: tuple[()], x: Any) -> tuple[tuple[()], Any]:
        return (), f(x)

    step.__name__ = name_of(f)
    return scan_as("map", step, (), xs, None, False, 1)[1]
