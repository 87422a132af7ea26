"""funcgrad.interpreters: rules of primitives, registered under JAX's names; see `funcgrad.extend.core`."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.interpreters import ad as ad
from funcgrad.interpreters import batching as batching
from funcgrad.interpreters import mlir as mlir
from funcgrad.interpreters import partial_eval as partial_eval

_explain_missing_names(__name__)
