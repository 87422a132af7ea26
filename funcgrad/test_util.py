"""funcgrad.test_util: checks of derivatives, under JAX's names. `funcgrad.testing` has more."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.testing.gradients import check_grads as check_grads
from funcgrad.testing.gradients import check_jvp as check_jvp
from funcgrad.testing.gradients import check_vjp as check_vjp

_explain_missing_names(__name__)
