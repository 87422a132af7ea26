"""funcgrad.scipy: the parts of SciPy that JAX has, on funcgrad arrays."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.scipy import fft as fft
from funcgrad.scipy import linalg as linalg

_explain_missing_names(__name__)
