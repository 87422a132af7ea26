"""Taylor-mode derivatives: `jax.experimental.jet`."""

from funcgrad.transforms.jet import jet as jet
