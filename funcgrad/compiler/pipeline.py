"""From a jaxpr to something that runs."""

from funcgrad.core.jaxprs import eval_jaxpr


def executable(closed, name):
    return lambda args: eval_jaxpr(closed.jaxpr, closed.consts, *args)
