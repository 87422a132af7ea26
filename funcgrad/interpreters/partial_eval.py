"""Functions of jaxprs, under JAX's names."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.core.jaxprs import ClosedJaxpr, Jaxpr
from funcgrad.core.jaxprs import dce_jaxpr as _dce_jaxpr
from funcgrad.errors import explain_missing_names as _explain_missing_names


def dce_jaxpr(
    jaxpr: Jaxpr, used_outputs: Sequence[bool], instantiate: bool | Sequence[bool] = False
) -> tuple[Jaxpr, list[bool]]:
    """Return a jaxpr without constants restricted to the used outputs, and the mask of the inputs that it needs."""
    smaller, used = _dce_jaxpr(ClosedJaxpr(jaxpr), used_outputs, instantiate)
    return smaller.jaxpr, used


_explain_missing_names(__name__)
