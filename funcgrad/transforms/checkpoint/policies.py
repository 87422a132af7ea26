"""Policies: which intermediate values a checkpointed function saves; `funcgrad.checkpoint_policies`.

A policy is a function of one application of a primitive, policy(primitive, *avals, **params), that says whether the
results may be saved for the backward pass (`True` or `Saveable`) or are computed again (`False` or `Recompute`). It is
asked about what does not depend on tangents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.core.avals import ShapedArray
from funcgrad.core.lowering import Rewrite
from funcgrad.core.primitives import Primitive
from funcgrad.errors import ArgumentError
from funcgrad.ops.products import dot_general_p


class RecomputeType:
    """A policy may return this in place of False."""


class SaveableType:
    """A policy may return this in place of True."""


Recompute, Saveable = RecomputeType(), SaveableType()
Policy = Callable[..., Any]


def is_saveable(policy: Policy | None, primitive: Primitive, avals: list[ShapedArray], params: dict[str, Any]) -> bool:
    """Ask a policy; None saves nothing."""
    if policy is None:
        return False
    answer = policy(primitive, *avals, **params)
    if isinstance(answer, (bool, np.bool_, RecomputeType, SaveableType)):
        return isinstance(answer, SaveableType) or answer is True or answer is np.True_
    raise ArgumentError(
        f"checkpoint: the policy answered {answer!r:.60} of type {type(answer).__name__} for {primitive}",
        fix="return a bool, ad_checkpoint.Saveable or ad_checkpoint.Recompute",
    )


# ---------------------------------------------------------------- names

name_p = Primitive(
    "name",
    infer=lambda x, *, name: x,
    evaluate=lambda x, *, name: x,
    # The tangent is another value: it has no name.
    jvp=lambda primals, tangents, *, name: (name_p.bind(*primals, name=name), tangents[0]),
    batch=lambda axis, args, dims, *, name: (name_p.bind(*args, name=name), dims[0]),
    lowering=Rewrite(lambda x, *, name: x),
    moves_only=True,
)


def checkpoint_name(x: Any, name: str) -> Any:
    """Return the pytree `x`, its leaves named for the policies that go by names; elsewhere it changes nothing.

    >>> checkpoint_name(np.float32(1.0), "activation")
    Array(1., dtype=float32)
    """
    return tree.map(lambda leaf: name_p.bind(leaf, name=name), x)


# ---------------------------------------------------------------- policies


def everything_saveable(*_: Any, **__: Any) -> bool:
    """Save every intermediate value, as if there were no checkpoint.

    >>> import funcgrad as fg
    >>> from funcgrad.ad_checkpoint import print_saved_residuals
    >>> print_saved_residuals(fg.checkpoint(fg.numpy.exp, policy=everything_saveable), 1.0)
    f32[] output of exp from ...
    """
    return True


def nothing_saveable(*_: Any, **__: Any) -> bool:
    """Save nothing but the inputs: the same as no policy.

    >>> import funcgrad as fg
    >>> from funcgrad.ad_checkpoint import print_saved_residuals
    >>> print_saved_residuals(fg.checkpoint(fg.numpy.exp, policy=nothing_saveable), 1.0)
    f32[] from the argument x
    """
    return False


@dataclass(frozen=True)
class DotsSaveable:
    """Save the results of matrix products."""

    only_if_no_batch_dims: bool

    def __call__(self, primitive: Primitive, *_: ShapedArray, **params: Any) -> bool:
        if primitive is not dot_general_p:
            return False
        _, (lhs_batch, rhs_batch) = params["dimension_numbers"]
        return not self.only_if_no_batch_dims or not (lhs_batch or rhs_batch)


dots_saveable = checkpoint_dots = DotsSaveable(only_if_no_batch_dims=False)
dots_with_no_batch_dims_saveable = checkpoint_dots_with_no_batch_dims = DotsSaveable(only_if_no_batch_dims=True)


@dataclass(frozen=True)
class SaveOnlyTheseNames:
    """Save the values with one of these names."""

    saveable_names: frozenset[str]

    def __call__(self, primitive: Primitive, *_: ShapedArray, **params: Any) -> bool:
        return primitive is name_p and params["name"] in self.saveable_names


@dataclass(frozen=True)
class SaveAnyNamesButThese:
    """Save all named values except those with these names."""

    names: frozenset[str]

    def __call__(self, primitive: Primitive, *_: ShapedArray, **params: Any) -> bool:
        return primitive is name_p and params["name"] not in self.names


@dataclass(frozen=True)
class SaveAnythingExceptTheseNames:
    """Save all values except those with one of these names."""

    names: frozenset[str]

    def __call__(self, primitive: Primitive, *_: ShapedArray, **params: Any) -> bool:
        return not (primitive is name_p and params["name"] in self.names)


@dataclass(frozen=True)
class SaveFromBothPolicies:
    """Save what either of two policies saves."""

    first: Policy
    second: Policy

    def __call__(self, primitive: Primitive, *avals: ShapedArray, **params: Any) -> bool:
        return any(is_saveable(p, primitive, list(avals), params) for p in (self.first, self.second))


def save_only_these_names(*names_which_can_be_saved: str) -> SaveOnlyTheseNames:
    """Save the values given one of these names by `checkpoint_name`, and nothing else.

    >>> import funcgrad as fg
    >>> from funcgrad.ad_checkpoint import print_saved_residuals
    >>> f = lambda x: fg.numpy.sin(checkpoint_name(fg.numpy.exp(x), "e"))
    >>> print_saved_residuals(fg.checkpoint(f, policy=save_only_these_names("e")), 1.0)
    f32[] from the argument x
    f32[] named 'e' from ...
    """
    return SaveOnlyTheseNames(frozenset(names_which_can_be_saved))


def save_any_names_but_these(*names_not_to_save: str) -> SaveAnyNamesButThese:
    """Save the values that have a name, except these names, and nothing else.

    >>> import funcgrad as fg
    >>> from funcgrad.ad_checkpoint import print_saved_residuals
    >>> f = lambda x: fg.numpy.sin(checkpoint_name(fg.numpy.exp(x), "e"))
    >>> print_saved_residuals(fg.checkpoint(f, policy=save_any_names_but_these("e")), 1.0)
    f32[] from the argument x
    """
    return SaveAnyNamesButThese(frozenset(names_not_to_save))


def save_anything_except_these_names(*names_not_to_save: str) -> SaveAnythingExceptTheseNames:
    """Save every value, named or not, except those with these names.

    The value that a name is given to is saveable too under this policy; name it and use no other.
    """
    return SaveAnythingExceptTheseNames(frozenset(names_not_to_save))


def save_from_both_policies(policy_1: Policy, policy_2: Policy) -> SaveFromBothPolicies:
    """Save the values that at least one of the policies saves.

    >>> policy = save_from_both_policies(dots_saveable, save_only_these_names("e"))
    >>> policy(dot_general_p, dimension_numbers=(((1,), (0,)), ((), ())))
    True
    """
    return SaveFromBothPolicies(policy_1, policy_2)


def offload_dot_with_no_batch_dims(offload_src: str, offload_dst: str) -> Policy:
    """Raise: results live in host memory already; `dots_with_no_batch_dims_saveable` saves the same ones."""
    raise _no_offloading("offload_dot_with_no_batch_dims", "checkpoint_policies.dots_with_no_batch_dims_saveable")


def save_and_offload_only_these_names(
    *, names_which_can_be_saved: Any, names_which_can_be_offloaded: Any, offload_src: str, offload_dst: str
) -> Policy:
    """Raise: results live in host memory already; `save_only_these_names` with all names saves the same ones."""
    names = ", ".join(map(repr, [*names_which_can_be_saved, *names_which_can_be_offloaded]))
    raise _no_offloading("save_and_offload_only_these_names", f"checkpoint_policies.save_only_these_names({names})")


class Offloadable:
    """JAX's policies may return this on an accelerator; creating one raises."""

    def __init__(self, src: str, dst: str):
        raise _no_offloading("Offloadable", "Saveable")


def _no_offloading(name: str, instead: str) -> ArgumentError:
    return ArgumentError(
        f"{name}: offloading moves saved values from a device to the host's memory, "
        "and they are in the host's memory already",
        fix=f"use {instead}, which saves the same values",
    )


__all__ = [
    "Offloadable",
    "Recompute",
    "Saveable",
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
    "checkpoint_name",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
    "nothing_saveable",
    "offload_dot_with_no_batch_dims",
    "save_and_offload_only_these_names",
    "save_any_names_but_these",
    "save_anything_except_these_names",
    "save_from_both_policies",
    "save_only_these_names",
]
