"""Taylor-mode derivatives: `jax.experimental.jet`."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.jet import jet as jet

_explain_missing_names(__name__)
