"""Interoperability with numba and SciPy."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.interop.numba_callable import low_level_callable as low_level_callable
from funcgrad.interop.numba_callable import numba_callable as numba_callable

_explain_missing_names(__name__)
