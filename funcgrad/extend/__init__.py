"""funcgrad.extend: what interpreters of jaxprs and new primitives are written with."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.extend import core as core

_explain_missing_names(__name__)
