"""Functions with batching rules of their own: how vmap maps them.

>>> import funcgrad as fg
>>> f = sequential_vmap(lambda x: x * x)
>>> fg.vmap(f)(fg.numpy.arange(3.0))
Array([0., 1., 4.], dtype=float32)
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.custom_rules.batching import custom_vmap as custom_vmap
from funcgrad.transforms.custom_rules.batching import sequential_vmap as sequential_vmap

_explain_missing_names(__name__)
