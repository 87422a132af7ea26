"""Optimizers as pairs of pure functions, in the style of optax.

`init(params)` returns a state, which is a pytree. `update(grads, state, params)` returns the updates to add to the
parameters, and the next state. Both run under `jit`; `chain` composes optimizers.

>>> import funcgrad as fg
>>> optimizer = sgd(0.1)
>>> params = {"w": fg.numpy.array(1.0)}
>>> updates, state = optimizer.update({"w": fg.numpy.array(2.0)}, optimizer.init(params), params)
>>> apply_updates(params, updates)["w"]
Array(0.8, dtype=float32)
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.optim.base import Optimizer as Optimizer
from funcgrad.optim.base import apply_updates as apply_updates
from funcgrad.optim.base import chain as chain
from funcgrad.optim.base import global_norm as global_norm
from funcgrad.optim.base import identity as identity
from funcgrad.optim.optimizers import adam as adam
from funcgrad.optim.optimizers import adamw as adamw
from funcgrad.optim.optimizers import sgd as sgd
from funcgrad.optim.schedules import constant as constant
from funcgrad.optim.schedules import cosine as cosine
from funcgrad.optim.schedules import exponential as exponential
from funcgrad.optim.schedules import join as join
from funcgrad.optim.schedules import linear as linear
from funcgrad.optim.schedules import warmup_cosine as warmup_cosine
from funcgrad.optim.steps import add_decayed_weights as add_decayed_weights
from funcgrad.optim.steps import clip as clip
from funcgrad.optim.steps import clip_by_global_norm as clip_by_global_norm
from funcgrad.optim.steps import scale as scale
from funcgrad.optim.steps import scale_by_adam as scale_by_adam
from funcgrad.optim.steps import scale_by_learning_rate as scale_by_learning_rate
from funcgrad.optim.steps import trace as trace

_explain_missing_names(__name__)
