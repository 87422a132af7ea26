"""funcgrad.scipy.optimize: minimization of functions of vectors, by their gradients."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.scipy.optimize.minimize import OptimizeResults as OptimizeResults
from funcgrad.scipy.optimize.minimize import minimize as minimize

_explain_missing_names(__name__)
