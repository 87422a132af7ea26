"""Connectionist temporal classification: the loss of label sequences without alignment."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import dtypes, lax
from funcgrad.arguments.axes import as_int
from funcgrad.arguments.promotion import as_operand, promote_inexact
from funcgrad.errors import ArgumentError, DTypeError, ShapeError
from funcgrad.nn.labels import validity, widen
from funcgrad.nn.losses.reduction import as_mask, reduce
from funcgrad.numpy.exponential_sums import log_softmax

# Stands for log 0. It is finite, so that derivatives are 0 and not NaN; sums with log-probabilities do not change it.
_LOG_ZERO = -1e30


def ctc(
    logits: Any,
    labels: Any,
    logit_lengths: Any = None,
    label_lengths: Any = None,
    *,
    blank: int = 0,
    weights: Any = None,
    where: Any = None,
    reduction: str = "mean",
) -> Any:
    """Connectionist temporal classification: −log Σ p(path) over the paths that spell the labels.

    A path has one class per time. It spells what remains when runs of one class are merged and blanks dropped.
    One term per sequence; it is ∞ where there is no path, because the labels are too many, and its derivative then 0.

    Args:
      logits: (…, time, classes); logarithms of probabilities are logits too.
      labels: integers (…, labels), from 0 to classes − 1 and other than `blank`; beyond `label_lengths`, anything.
      logit_lengths, label_lengths: integers (…); by default, sequences are as long as the arrays.
      blank: the class of blanks.

    Sums over paths are made in log space, in float32 at least, by a scan over time with two values for each label: the
    paths that end in it, and those that end in the blank before it.

    >>> ctc(jnp.zeros((3, 4)), jnp.array([1, 2]))  # 5 paths: 112 122 12_ 1_2 _12, of 4³
    Array(2.5494452, dtype=float32)

    Source: Graves et al., "Connectionist temporal classification", 2006.
    """
    (logits,) = promote_inexact(logits, operation="ctc")
    labels = as_operand(labels, "ctc")
    _check(logits, labels)
    (*batch, times, classes), count = logits.shape, labels.shape[-1]
    blank = as_int(blank, "blank", "ctc")
    if not 0 <= blank < classes:
        raise ArgumentError(f"ctc: blank is {blank}, logits are {logits.aval}", fix=f"give a class below {classes}")
    logit_lengths, valid_times = _lengths(logit_lengths, "logit_lengths", times, logits, batch)
    label_lengths, valid_counts = _lengths(label_lengths, "label_lengths", count, logits, batch)
    where = None if where is None else as_mask("ctc", where, tuple(batch))
    labels, valid_labels = _checked_labels(labels, label_lengths, where, blank, logits)
    terms = _negative_log_likelihood(logits, labels, logit_lengths, label_lengths, blank)
    return reduce("ctc", terms * valid_times * valid_counts * valid_labels, weights, where, reduction)


def _negative_log_likelihood(logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any, blank: int) -> Any:
    wide = jnp.promote_types(logits.dtype, np.float32)
    log_p = jnp.maximum(log_softmax(logits.astype(wide)), _LOG_ZERO)
    of_labels = jnp.moveaxis(jnp.take_along_axis(log_p, labels[..., None, :], -1), -2, 0)
    of_blanks = jnp.moveaxis(log_p[..., blank, None], -2, 0)
    # A label may follow the one before it without a blank in between, unless both are of one class.
    repeated = jnp.where(labels[..., 1:] == labels[..., :-1], _LOG_ZERO, 0).astype(wide)
    repeated = jnp.concatenate([jnp.zeros((*labels.shape[:-1], 1), wide), repeated], -1)[..., : labels.shape[-1]]
    none = jnp.full((*labels.shape[:-1], 1), _LOG_ZERO, wide)

    def step(carry: Any, at: Any) -> tuple[Any, None]:
        blanks, ends = carry  # log-probabilities of prefixes: (…, labels + 1) and (…, labels)
        time, blank_p, label_p = at
        before = jnp.concatenate([none, ends], -1)
        entered = jnp.logaddexp(blanks[..., :-1], before[..., :-1] + repeated)
        new = (blank_p + jnp.logaddexp(blanks, before), label_p + jnp.logaddexp(ends, entered))
        if logit_lengths is None:
            return new, None
        within = (time < logit_lengths)[..., None]
        return tuple(jnp.where(within, n, old) for n, old in zip(new, carry, strict=True)), None

    start = jnp.concatenate([jnp.zeros_like(none), jnp.broadcast_to(none, labels.shape)], -1)
    times = jnp.arange(of_blanks.shape[0])
    (blanks, ends), _ = lax.scan(step, (start, jnp.full(labels.shape, _LOG_ZERO, wide)), (times, of_blanks, of_labels))
    complete = jnp.logaddexp(blanks, jnp.concatenate([none, ends], -1))
    if label_lengths is None:
        total = complete[..., -1]
    else:
        last = jnp.arange(complete.shape[-1]) == label_lengths[..., None]
        total = jnp.sum(jnp.where(last, complete, 0), -1)
    return jnp.where(total < _LOG_ZERO / 2, np.inf, -total).astype(logits.dtype)


def _check(logits: Any, labels: Any) -> None:
    if logits.ndim < 2 or labels.ndim != logits.ndim - 1 or labels.shape[:-1] != logits.shape[:-2]:
        fix = "logits are (…, time, classes), labels (…, labels)"
        raise ShapeError(f"ctc: labels {labels.aval} do not fit logits {logits.aval}", fix=fix)
    if not dtypes.is_integer(labels.dtype):
        raise DTypeError(f"ctc: labels are {labels.aval}", fix="labels are integers: cast them with labels.astype(int)")


def _lengths(lengths: Any, what: str, limit: int, logits: Any, batch: list[int]) -> tuple[Any, Any]:
    """Return lengths and their validity, both without a trailing axis."""
    if lengths is None:
        return None, 1
    lengths = as_operand(lengths, f"ctc: {what}")
    if list(lengths.shape) != batch or not dtypes.is_integer(lengths.dtype):
        raise ShapeError(f"ctc: {what} are {lengths.aval}", fix=f"give integers of shape {tuple(batch)}")
    lengths = widen(lengths, limit)
    problem, fix = (
        f"ctc: {what} has {{}}, but the sequences are at most {limit} long",
        "lengths count what is not padding",
    )
    return lengths, validity(lengths, lambda n: (n >= 0) & (n <= limit), logits.dtype, problem, fix)


def _checked_labels(labels: Any, lengths: Any, where: Any, blank: int, logits: Any) -> tuple[Any, Any]:
    """Return labels with a valid class in place of those that do not count, and their validity per sequence."""
    classes = logits.shape[-1]
    labels = widen(labels, classes)
    padding = (blank + 1) % classes
    if lengths is not None:
        labels = jnp.where(jnp.arange(labels.shape[-1]) < lengths[..., None], labels, padding)
    if where is not None:
        labels = jnp.where(where[..., None], labels, padding)
    problem = f"ctc: label {{}} is the blank or not one of the {classes} classes of logits {logits.aval}"
    fix = f"labels are from 0 to {classes - 1} and not {blank}; pass label_lengths for padding"
    factor = validity(
        labels, lambda label: (label >= 0) & (label < classes) & (label != blank), logits.dtype, problem, fix
    )
    return jnp.clip(labels, 0, classes - 1), factor if isinstance(factor, int) else jnp.prod(factor, -1)
