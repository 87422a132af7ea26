"""funcgrad.scipy: the parts of SciPy that JAX has, on funcgrad arrays."""

from funcgrad.errors import explain_missing_names as _explain_missing_names

_SUBMODULES = (
    "cluster",
    "fft",
    "integrate",
    "interpolate",
    "linalg",
    "ndimage",
    "optimize",
    "signal",
    "sparse",
    "spatial",
    "special",
    "stats",
)

_explain_missing_names(__name__, _SUBMODULES)
