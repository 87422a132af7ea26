"""The functions of Refs that users call."""

from __future__ import annotations

from typing import Any

from funcgrad.core import traces
from funcgrad.core.array_types import ArrayLike, aval_of
from funcgrad.core.arrays import as_array
from funcgrad.errors import ArgumentError
from funcgrad.ops.shapes import zeros_of
from funcgrad.transforms.refs.ref import Ref


def new_ref(init_val: Any, *, memory_space: Any = None, kind: str | None = None) -> Ref:
    """Return a mutable array with the given initial contents.

    ``ref[index]`` reads and ``ref[index] = value`` writes, with the index expressions of arrays; ``ref[...]`` is all.
    A function that makes Refs is pure for whoever calls it, so it may be jitted, differentiated and mapped. Functions
    under jit, bodies of loops and branches may also read and write Refs from outside, which they close over; jit and
    vmap take them as arguments. `memory_space` and `kind` are accepted for compatibility.

    >>> import funcgrad.numpy as np
    >>> ref = new_ref(np.arange(3.0))
    >>> ref[0] = 5.0
    >>> ref[1:] *= 2.0
    >>> ref
    Ref([5., 2., 4.], dtype=float32)
    """
    return Ref(init_val if isinstance(init_val, ArrayLike) else as_array(init_val))


def empty_ref(ty: Any, memory_space: Any = None) -> Ref:
    """Return a Ref for contents of a type (anything with a shape and dtype); it starts with zeros.

    >>> import funcgrad as fg
    >>> empty_ref(fg.ShapeDtypeStruct((2,), "float32"))
    Ref([0., 0.], dtype=float32)
    """
    return Ref(zeros_of(aval_of(ty).strengthened()))


def _home_only(ref: Ref, operation: str) -> Any:
    if ref._trace is not traces.state.trace:
        raise ArgumentError(
            f"{operation}: the Ref of type {ref.aval} was made outside of this function",
            fix=f"{operation} it where it was made",
        )
    return ref.read()


def freeze(ref: Ref) -> Any:
    """Return the contents of a Ref and end its life: using it afterwards raises DeletedArrayError.

    >>> freeze(new_ref(1.0))
    Array(1., dtype=float32, weak_type=True)
    """
    contents = _home_only(ref, "freeze")
    ref._contents = None
    return contents


def free_ref(ref: Ref) -> None:
    """End the life of a Ref."""
    freeze(ref)


def get(ref: Ref, idx: Any = None) -> Any:
    """Return ref[idx]; None means all.

    >>> import funcgrad.numpy as np
    >>> get(new_ref(np.arange(3)), 1)
    Array(1, dtype=int32)
    """
    return ref[... if idx is None else idx]


def swap(ref: Ref, idx: Any, value: Any) -> Any:
    """Write a value and return the one that was there: ``ref[idx], previous = value, ref[idx]``.

    >>> import funcgrad.numpy as np
    >>> swap(new_ref(np.arange(3)), 2, 7)
    Array(2, dtype=int32)
    """
    previous = get(ref, idx)
    set(ref, idx, value)
    return previous


def set(ref: Ref, idx: Any, value: Any) -> None:  # noqa: A001
    """Write ``ref[idx] = value``; None means all.

    >>> import funcgrad.numpy as np
    >>> ref = new_ref(np.arange(3))
    >>> set(ref, 1, 7)
    >>> ref
    Ref([0, 7, 2], dtype=int32)
    """
    ref[... if idx is None else idx] = value


def addupdate(ref: Ref, idx: Any, x: Any) -> None:
    """Add `x` to ref[idx], repeatedly where indices repeat; None means all.

    >>> import funcgrad.numpy as np
    >>> ref = new_ref(np.zeros(2))
    >>> addupdate(ref, np.array([0, 0]), 1.0)
    >>> ref
    Ref([2., 0.], dtype=float32)
    """
    ref.addupdate(x, ... if idx is None else idx)
