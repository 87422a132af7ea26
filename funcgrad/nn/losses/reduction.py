"""What all losses share: reduction of their terms, and checks of their arguments."""

from __future__ import annotations

from typing import Any

import funcgrad.numpy as jnp
from funcgrad import dtypes
from funcgrad.arguments.promotion import as_operand, broadcast_to, promote_inexact
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.nn.labels import validity

REDUCTIONS = ("mean", "sum", "none")


def reduce(name: str, terms: Any, weights: Any, where: Any, reduction: str, counts: Any = None) -> Any:
    """Reduce the terms of a loss. `counts`, by default 1, are their contributions to the denominator of the mean."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"{name}: unknown reduction {reduction!r}", fix=f"choose one of {', '.join(REDUCTIONS)}")
    if weights is not None:
        weights = broadcast_to(as_operand(weights, f"{name}: weights"), terms.shape, f"{name}: weights")
        terms = terms * weights
        counts = weights if counts is None else weights * counts
    if where is not None:
        where = as_mask(name, where, terms.shape)
        terms = jnp.where(where, terms, 0)
        counts = jnp.where(where, 1 if counts is None else counts, 0)
    if reduction == "none":
        return terms
    total = jnp.sum(terms)
    if reduction == "sum":
        return total
    return total / (terms.size if counts is None else jnp.sum(counts))


def as_mask(name: str, where: Any, shape: tuple[int, ...]) -> Any:
    """Return `where` as bools of the shape of the terms."""
    where = as_operand(where, f"{name}: where")
    if where.dtype != dtypes.bool_:
        raise DTypeError(
            f"{name}: where is {where.aval}", fix="pass bools, e.g. where=mask > 0; weights= multiply the terms"
        )
    return broadcast_to(where, shape, f"{name}: where")


def as_pair(name: str, predictions: Any, targets: Any, *more: Any) -> list[Any]:
    """Return arrays of one dtype, a float; raise unless all have one shape."""
    predictions, *rest = promote_inexact(predictions, targets, *more, operation=name)
    for other in rest:
        if predictions.shape != other.shape:
            raise ShapeError(
                f"{name}: predictions {predictions.aval} and targets {other.aval} differ in shape",
                fix="reshape one of them: broadcasting would pair each prediction with each target",
            )
    return [predictions, *rest]


def two_valued(name: str, labels: Any, values: tuple[int, int], dtype: Any, fix: str, where: Any = None) -> Any:
    """Return the validity of integer labels, which must be one of two values; 1 for labels of other dtypes.

    Labels where `where` is False may be any.
    """
    labels = as_operand(labels, name)
    if not dtypes.is_integer(labels.dtype):
        return 1
    low, high = values
    labels = labels if where is None else jnp.where(as_mask(name, where, labels.shape), labels, low)
    problem = f"{name}: label {{}} is neither {low} nor {high}"
    return validity(labels, lambda label: (label == low) | (label == high), dtype, problem, fix)
