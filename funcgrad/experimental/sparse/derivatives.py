"""Gradients by sparse arrays: by the elements that they store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.core.array_types import aval_of
from funcgrad.transforms import grad as transforms


def value_and_grad(fun: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function with the value and the gradient of `fun`; the gradient by a sparse array stores its places.

    >>> import funcgrad.numpy as jnp
    >>> from funcgrad.experimental.sparse import BCOO
    >>> m = BCOO.fromdense(jnp.eye(2))
    >>> value, gradient = value_and_grad(lambda m, x: (m @ x).sum())(m, jnp.array([3.0, 4.0]))
    >>> gradient.todense()
    Array([[3., 0.],
           [0., 4.]], dtype=float32)
    """

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        leaves, structure = tree.flatten(tuple(args[n] for n in numbers))
        smooth = [i for i, leaf in enumerate(leaves) if dtypes.is_inexact(aval_of(leaf).dtype)]

        def rebuilt(values: Any) -> Any:
            new = list(leaves)
            for i, value in zip(smooth, values, strict=True):
                new[i] = value
            return structure.unflatten(new)

        def of_values(values: Any) -> Any:
            given = list(args)
            for n, arg in zip(numbers, rebuilt(values), strict=True):
                given[n] = arg
            return fun(*given, **kwargs)

        value, gradients = transforms.value_and_grad(of_values, has_aux=has_aux)([leaves[i] for i in smooth])
        result = rebuilt(gradients)
        return value, result[0] if isinstance(argnums, int) else result

    return evaluate


def grad(fun: Callable[..., Any], argnums: Any = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function with the gradient of `fun`, or the gradient and aux; see `value_and_grad`."""
    both = value_and_grad(fun, argnums, has_aux)

    def evaluate(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return evaluate
