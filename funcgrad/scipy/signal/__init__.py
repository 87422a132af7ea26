"""funcgrad.scipy.signal: convolution, trends, and spectra of segments, with the names of scipy.signal that JAX has."""
# ruff: noqa: F403

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.scipy.signal.convolutions import *
from funcgrad.scipy.signal.spectra import *
from funcgrad.scipy.signal.trends import *

_explain_missing_names(__name__)
