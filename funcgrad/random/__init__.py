"""Random numbers: pure functions of a key, with the same bits as in JAX.

Use each key only once. `split` makes new keys, and `fold_in` derives a key from a key and a step number. The same key
gives the same numbers on every machine, eagerly, under `jit` and under `vmap`.

>>> from funcgrad import random
>>> key, subkey = random.split(random.key(0))
>>> random.uniform(subkey, (2,))
Array([0.00729382, 0.02089119], dtype=float32)
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.random.continuous import cauchy as cauchy
from funcgrad.random.continuous import exponential as exponential
from funcgrad.random.continuous import gumbel as gumbel
from funcgrad.random.continuous import laplace as laplace
from funcgrad.random.continuous import logistic as logistic
from funcgrad.random.continuous import lognormal as lognormal
from funcgrad.random.continuous import maxwell as maxwell
from funcgrad.random.continuous import normal as normal
from funcgrad.random.continuous import pareto as pareto
from funcgrad.random.continuous import rayleigh as rayleigh
from funcgrad.random.continuous import triangular as triangular
from funcgrad.random.continuous import truncated_normal as truncated_normal
from funcgrad.random.continuous import uniform as uniform
from funcgrad.random.continuous import wald as wald
from funcgrad.random.continuous import weibull_min as weibull_min
from funcgrad.random.counts import binomial as binomial
from funcgrad.random.counts import multinomial as multinomial
from funcgrad.random.counts import poisson as poisson
from funcgrad.random.discrete import bernoulli as bernoulli
from funcgrad.random.discrete import categorical as categorical
from funcgrad.random.discrete import choice as choice
from funcgrad.random.discrete import geometric as geometric
from funcgrad.random.discrete import permutation as permutation
from funcgrad.random.discrete import rademacher as rademacher
from funcgrad.random.discrete import randint as randint
from funcgrad.random.gammas import ball as ball
from funcgrad.random.gammas import beta as beta
from funcgrad.random.gammas import chisquare as chisquare
from funcgrad.random.gammas import dirichlet as dirichlet
from funcgrad.random.gammas import double_sided_maxwell as double_sided_maxwell
from funcgrad.random.gammas import f as f
from funcgrad.random.gammas import gamma as gamma
from funcgrad.random.gammas import generalized_normal as generalized_normal
from funcgrad.random.gammas import loggamma as loggamma
from funcgrad.random.gammas import multivariate_normal as multivariate_normal
from funcgrad.random.gammas import t as t
from funcgrad.random.keys import PRNGKey as PRNGKey
from funcgrad.random.keys import bits as bits
from funcgrad.random.keys import clone as clone
from funcgrad.random.keys import fold_in as fold_in
from funcgrad.random.keys import key as key
from funcgrad.random.keys import key_data as key_data
from funcgrad.random.keys import key_dtype as key_dtype
from funcgrad.random.keys import key_impl as key_impl
from funcgrad.random.keys import split as split
from funcgrad.random.keys import wrap_key_data as wrap_key_data
from funcgrad.random.matrices import orthogonal as orthogonal

_explain_missing_names(__name__)
