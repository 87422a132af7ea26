"""Data for training loops."""

from funcgrad.data.batches import batches as batches
from funcgrad.errors import explain_missing_names as _explain_missing_names

_explain_missing_names(__name__)
