"""funcgrad.scipy.stats: the scipy.stats API that JAX has.

Distributions are namespaces of functions: `norm.logpdf(x, loc=0, scale=1)`.
"""
# ruff: noqa: F403

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.scipy.stats.continuous import *
from funcgrad.scipy.stats.discrete import *
from funcgrad.scipy.stats.kde import *
from funcgrad.scipy.stats.multivariate import *
from funcgrad.scipy.stats.samples import *

_explain_missing_names(__name__)
