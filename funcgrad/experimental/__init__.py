"""funcgrad.experimental: what JAX keeps under that name."""

from funcgrad.transforms.callbacks import io_callback as io_callback
