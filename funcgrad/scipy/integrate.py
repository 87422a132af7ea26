"""funcgrad.scipy.integrate: integrals of sampled functions."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.numpy import trapezoid as trapezoid

__all__ = ["trapezoid"]

_explain_missing_names(__name__)
