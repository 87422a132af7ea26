"""Small libraries for examples, as in JAX. For programs of your own, see `funcgrad.nn` and `funcgrad.optim`."""

from funcgrad.errors import explain_missing_names as _explain_missing_names

_explain_missing_names(__name__, ["optimizers", "stax"])
