"""How distributions are declared: a few functions of the standardized variable, from which the others follow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.scipy.special.declare import real_operands

Function = Callable[..., Any]

# What follows from another function of the distribution.
_DERIVED: dict[str, tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    "pdf": (("logpdf", jnp.exp),),
    "pmf": (("logpmf", jnp.exp),),
    "cdf": (("logcdf", jnp.exp), ("sf", lambda s: 1 - s), ("logsf", lambda s: -jnp.expm1(s))),
    "sf": (("logsf", jnp.exp), ("cdf", lambda c: 1 - c)),
    "logcdf": (("cdf", jnp.log),),
    "logsf": (("sf", jnp.log),),
}


class Distribution:
    """A distribution: a namespace of functions such as `pdf` and `cdf`."""

    def __init__(self, name: str, doc: str, parameters: str, functions: dict[str, Function], derived: str = ""):
        self.__name__, self.__doc__ = name, doc
        for method in (*functions, *derived.split()):
            setattr(self, method, _method(name, method, parameters, functions))

    def __repr__(self) -> str:
        return f"<distribution {self.__name__}>"


def _resolve(method: str, functions: dict[str, Function]) -> Function:
    if method in functions:
        return functions[method]
    source, convert = next(pair for pair in _DERIVED[method] if pair[0] in functions)
    return lambda *args: convert(functions[source](*args))


def _method(name: str, method: str, parameters: str, functions: dict[str, Function]) -> Function:
    """A function with the signature (x, *shape, loc=0, scale=1), of which `parameters` names what the family has."""
    standard = _resolve(method, functions)
    names = parameters.split()
    quantile = method in ("ppf", "isf")
    first = "q" if quantile else names[0]
    shapes = [n for n in names[1:] if n not in ("loc", "scale")]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = {"loc": 0, "scale": 1}
    signature = inspect.Signature(
        [inspect.Parameter(n, kind, default=defaults.get(n, inspect.Parameter.empty)) for n in (first, *names[1:])]
    )
    full = f"{name}.{method}"

    def function(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        values = dict(zip(bound.arguments, real_operands(full, *bound.arguments.values()), strict=True))
        x, loc, scale = values[first], values.get("loc", 0), values.get("scale", 1)
        given = [values[n] for n in shapes]
        if quantile:
            return loc + scale * standard(jnp.where((x >= 0) & (x <= 1), x, jnp.nan), *given)
        out = standard((x - loc) / scale if "scale" in values else x - loc, *given)
        if "scale" in values and method in ("pdf", "logpdf"):
            out = out / scale if method == "pdf" else out - jnp.log(scale)
        return out

    function.__name__, function.__qualname__ = method, full
    function.__doc__ = f"The {_MEANINGS[method]} of the distribution `{name}`."
    function.__signature__ = signature  # ty: ignore[missing-attribute]
    return function


_MEANINGS = {
    "pdf": "density",
    "logpdf": "logarithm of the density",
    "pmf": "probability",
    "logpmf": "logarithm of the probability",
    "cdf": "distribution function",
    "logcdf": "logarithm of the distribution function",
    "sf": "survival function, 1 − cdf,",
    "logsf": "logarithm of the survival function",
    "ppf": "quantile function, the inverse of cdf,",
    "isf": "inverse of the survival function",
}


def within(inside: Any, x: Any, point: float, function: Callable[[Any], Any], outside: float) -> Any:
    """function(x) where `inside`, and `outside` elsewhere; x is replaced there by a point where f is differentiable."""
    return jnp.where(inside | jnp.isnan(x), function(jnp.where(inside, x, jnp.where(jnp.isnan(x), x, point))), outside)
