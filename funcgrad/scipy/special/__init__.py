"""funcgrad.scipy.special: the scipy.special API that JAX has.

Functions of floats narrower than float64 are mostly computed in float64, which compiled code does in one pass. Their
accuracy is listed in docs/accuracy.md.
"""
# ruff: noqa: F403

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.scipy.special.bessel import *
from funcgrad.scipy.special.elementary import *
from funcgrad.scipy.special.errors import *
from funcgrad.scipy.special.gammas import *
from funcgrad.scipy.special.hypergeometric import *
from funcgrad.scipy.special.integrals import *

_explain_missing_names(__name__)
