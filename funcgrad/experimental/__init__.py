"""funcgrad.experimental: features that JAX has in jax.experimental."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.effects.callbacks import io_callback as io_callback

_explain_missing_names(__name__)
