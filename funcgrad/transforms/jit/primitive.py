"""The primitive `jit`: a call of a jaxpr that is compiled by itself outside of other jitted functions."""

from __future__ import annotations

from collections.abc import Sequence

from funcgrad.compiler import pipeline
from funcgrad.config import config
from funcgrad.core import interning
from funcgrad.core.arrays import Array
from funcgrad.core.avals import ShapedArray
from funcgrad.core.jaxprs import ClosedJaxpr, eval_jaxpr
from funcgrad.core.lowering import Inline
from funcgrad.core.primitives import ParamStyle
from funcgrad.transforms.calls import JaxprCall
from funcgrad.transforms.interpreters.partial_eval import Split, forward_residuals, partial_eval_jaxpr


def _jit_evaluate(*arrays: Array, jaxpr: ClosedJaxpr, name: str, inline: bool = False) -> list[Array]:
    if config.disable_jit:
        return eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *arrays)
    return pipeline.executable(interning.interned(jaxpr), name)(arrays)


def _jit_partial_eval(
    unknown: list[bool], avals: Sequence[ShapedArray], *, jaxpr: ClosedJaxpr, name: str, inline: bool = False
) -> Split:
    split = partial_eval_jaxpr(jaxpr, unknown)
    known_jaxpr, forwarded = forward_residuals(split)
    known = {"jaxpr": known_jaxpr, "name": name, "inline": inline}
    rest = {"jaxpr": split.unknown, "name": name, "inline": inline}
    return Split((jit_p, known), (jit_p, rest), split.unknown_out, split.residual_avals, forwarded)


jit_p = JaxprCall(
    "jit",
    evaluate=_jit_evaluate,
    partial_eval=_jit_partial_eval,
    lowering=Inline("jaxpr"),
    params_style=ParamStyle(hidden=lambda name, value: value is False, first="name", shares_names=True),
)
