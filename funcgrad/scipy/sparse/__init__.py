"""funcgrad.scipy.sparse: iterative solvers of linear systems."""

from funcgrad.errors import explain_missing_names as _explain_missing_names

_explain_missing_names(__name__, ["linalg"])
