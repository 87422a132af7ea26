"""The residuals that reverse mode saves, and where each comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad import tree
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import Jaxpr, JaxprEqn, Literal, Var
from funcgrad.core.staging import trace_to_jaxpr
from funcgrad.dtypes import is_inexact
from funcgrad.transforms.checkpoint.policies import name_p
from funcgrad.transforms.checkpoint.remat import remat_p
from funcgrad.transforms.flattening import FlatFunction, abstract, callable_or_error, leaf_names, name_of
from funcgrad.transforms.interpreters.partial_eval import linearize_flat
from funcgrad.transforms.jit import jit_p


def saved_residuals(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> list[tuple[ShapedArray, str]]:
    """Return type and origin of each value that reverse mode of `fun` at these arguments would save.

    Arguments come first, then the others in the order in which they are computed. Nothing is evaluated.

    >>> import funcgrad.numpy as jnp
    >>> for aval, origin in saved_residuals(lambda x, y: jnp.exp(x) * y, 1.0, 2.0):
    ...     print(aval.short(), origin.split(" from <")[0])
    f32[] from the argument y
    f32[] output of exp
    """
    callable_or_error(fun, "saved_residuals")
    flat, in_tree = tree.flatten((args, kwargs))
    avals = [abstract(x) for x in flat]

    def residuals(*leaves: Any) -> list[Any]:
        flat_fun = FlatFunction(fun, in_tree, transform="saved_residuals")
        return linearize_flat(flat_fun, leaves, [is_inexact(a.dtype) for a in avals]).jaxpr.consts

    jaxpr = trace_to_jaxpr(residuals, avals, description=f"linearizing {name_of(fun)}").jaxpr
    saved = {v for v in jaxpr.outvars if isinstance(v, Var)}
    names = leaf_names(fun, in_tree, len(avals))
    out = [(v.aval, "from a literal") for v in jaxpr.outvars if isinstance(v, Literal)]
    out += [(v.aval, f"from the argument {n}") for v, n in zip(jaxpr.invars, names, strict=True) if v in saved]
    out += [(v.aval, "from a constant") for v in jaxpr.constvars if v in saved]
    return out + [(v.aval, _origin(v, e)) for e in jaxpr.eqns for v in e.outvars if v in saved]


def _origin(var: Var, eqn: JaxprEqn) -> str:
    """Say which operation computes a value, looking into checkpointed functions."""
    if eqn.primitive is remat_p:
        inner: Jaxpr = eqn.params["jaxpr"].jaxpr
        result = inner.outvars[eqn.outvars.index(var)]
        made = next((e for e in inner.eqns if result in e.outvars), None)
        if made is not None and isinstance(result, Var):
            return _origin(result, made)
    if eqn.primitive is name_p:
        what = f"named {eqn.params['name']!r}"
    elif eqn.primitive is jit_p:
        what = f"output of jitted function {eqn.params['name']!r}"
    else:
        what = f"output of {eqn.primitive}"
    return f"{what} from {eqn.source}" if eqn.source else what


def print_saved_residuals(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Print what `saved_residuals` returns, a line for each value.

    >>> import funcgrad.numpy as jnp
    >>> print_saved_residuals(lambda x, y: x * y, jnp.ones(3), jnp.ones(3))
    f32[3] from the argument x
    f32[3] from the argument y
    """
    for aval, origin in saved_residuals(fun, *args, **kwargs):
        print(aval.short(), origin)


__all__ = ["print_saved_residuals", "saved_residuals"]
