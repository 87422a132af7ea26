"""funcgrad.scipy.linalg: the scipy.linalg API that JAX has.

Options about memory and checks (`overwrite_a`, `check_finite`, …) are accepted and have no effect.
"""
# ruff: noqa: F403

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.scipy.linalg.factorizations import *
from funcgrad.scipy.linalg.functions import *
from funcgrad.scipy.linalg.special_matrices import *
from funcgrad.scipy.linalg.systems import *

_explain_missing_names(__name__)
