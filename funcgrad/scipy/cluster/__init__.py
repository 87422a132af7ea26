"""funcgrad.scipy.cluster: vector quantization."""

from funcgrad.errors import explain_missing_names as _explain_missing_names

_explain_missing_names(__name__, ["vq"])
