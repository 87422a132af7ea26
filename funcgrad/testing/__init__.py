"""Tools for testing array programs, used for funcgrad itself and available to users.

`check_grads`, `check_vmap`, `check_jit` and `check_jvp_vjp` compare a transform with its definition. The submodules
`strategies` and `calls` (with hypothesis, extra `test`) generate arrays, pytrees and calls of primitives; `laws`
contains the laws that every primitive satisfies.
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.testing.comparisons import assert_close, tolerance
from funcgrad.testing.gradients import (
    check_grads,
    check_jit,
    check_jvp_vjp,
    check_vmap,
    inner_product,
    numerical_jvp,
    random_like,
)

__all__ = [
    "assert_close",
    "check_grads",
    "check_jit",
    "check_jvp_vjp",
    "check_vmap",
    "inner_product",
    "numerical_jvp",
    "random_like",
    "tolerance",
]

_explain_missing_names(__name__)
