"""funcgrad.numpy.linalg: the numpy.linalg API, on batches of matrices.

Integers become floats. A ShapeError is raised if shapes do not fit. What does not exist, such as the inverse of a
singular matrix, is NaN or infinite; NumPy raises LinAlgError instead.
"""
# ruff: noqa: F403

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.numpy.linalg.factorizations import *
from funcgrad.numpy.linalg.norms import *
from funcgrad.numpy.linalg.products import *
from funcgrad.numpy.linalg.systems import *

_explain_missing_names(__name__)
