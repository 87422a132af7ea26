"""funcgrad.scipy.spatial: rotations."""

from funcgrad.errors import explain_missing_names as _explain_missing_names

_explain_missing_names(__name__, ["transform"])
