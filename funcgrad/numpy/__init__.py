"""funcgrad.numpy: the NumPy API on funcgrad arrays."""
from funcgrad.numpy import operators  # noqa: F401
from funcgrad.numpy.ufuncs import *  # noqa: F403
