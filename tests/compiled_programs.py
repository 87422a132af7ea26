"""Functions that several targets compile, and what they are compared on."""

from __future__ import annotations

import numpy as np

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax


def gelu(x):
    return 0.5 * x * (1 + jnp.tanh(0.7978846 * (x + 0.044715 * x**3)))


def softmax_rows(x):
    e = jnp.exp(x - jnp.max(x, -1, keepdims=True))
    return e / jnp.sum(e, -1, keepdims=True)


def layer_norm(x, scale, shift):
    centered = x - jnp.mean(x, -1, keepdims=True)
    return centered / jnp.sqrt(jnp.mean(centered**2, -1, keepdims=True) + 1e-5) * scale + shift


def gradients(function, n):
    """Return the function's gradients by its first n arguments; the last argument weighs its results."""
    return fg.grad(lambda *args: jnp.sum(function(*args[:-1]) * args[-1]), tuple(range(n)))


def join(x, y):
    left = jnp.pad(x, ((1, 0), (0, 2)), constant_values=-1)
    return jnp.concatenate([left, y, jnp.pad(x[:, ::-1] * 3, ((0, 0), (2, 0)))], 0)


def moments(x):
    mean = jnp.mean(x, 0)
    return mean, jnp.mean((x - mean) ** 2, 0), jnp.max(x, 0)


def lookup(table, x):
    return jnp.tanh(table[(2 * x).astype(int)])


def dense(x, w, b):
    return jnp.tanh(x @ w + b), jnp.sort(x + 1, 1)


def convolved(x, kernel):
    x, kernel = (jnp.round(9 * v).astype(int) for v in (x, kernel))  # products of floats are library routines
    return lax.conv_general_dilated(x, kernel, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def maxima(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 2, 1), "SAME")


def waves(x, y):
    z = lax.complex(x, y)
    return z * jnp.conj(z.T[:5, :5].sum()) / (1 + z), jnp.abs(jnp.exp(1j * z)), jnp.sum(z, 0), jnp.sqrt(z)[::-1].T


def complex_movement(x, y):
    z, i = lax.complex(x, y), jnp.array([3, 0, 3])
    joined = jnp.concatenate([z, jnp.pad(z[:, 2:], ((0, 1), (2, 0)))], 0)
    return joined, z[i], z.at[i].add(1j), jnp.sort(z, 1), jnp.cumsum(z, 0), z.reshape(7, 5) == z.T


# What the whole compiler makes of functions, and the shapes of their arguments.
PROGRAMS = {
    "gelu": (gelu, (37,)),
    "gelu_gradient": (gradients(gelu, 1), (37,), (37,)),
    "bias_and_tanh": (lambda x, b: jnp.tanh(x + b), (5, 7), (7,)),
    "softmax": (softmax_rows, (5, 7)),
    "softmax_gradient": (gradients(softmax_rows, 1), (5, 7), (5, 7)),
    "layer_norm": (layer_norm, (5, 7), (7,), (7,)),
    "layer_norm_gradients": (gradients(layer_norm, 3), (5, 7), (7,), (7,), (5, 7)),
    "column_sums": (moments, (9, 6)),
    "wide_columns": (lambda x: jnp.sum(jnp.exp(x), 0), (3, 1500)),
    "transpose": (lambda x, y: x.T + y, (40, 35), (35, 40)),
    "swap": (lambda x: jnp.transpose(x, (2, 0, 1)) * 2, (4, 33, 34)),
    "pad_and_join": (join, (4, 3), (2, 5)),
    "long_sum": (lambda x: jnp.sum(jnp.sin(x)), (66000,)),
    "long_columns": (lambda x: (jnp.sum(x, 0), jnp.max(x * x, 0)), (22000, 3)),
    "integers": (lambda x: jnp.where(x > 0, (x * 100).astype(int) // 7, -1) ^ jnp.arange(11), (11,)),
    "lookup_gradient": (gradients(lookup, 1), (7, 3), (6,), (6, 3)),
    "wide_lookup_gradient": (gradients(lookup, 1), (3, 200), (5,), (5, 200)),
    "histogram": (lambda x: jnp.zeros(3).at[(2 * x).astype(int)].add(x), (700,)),
    "marks": (lambda x, y: x.at[(2 * y).astype(int)].set(y), (9,), (6,)),
    "complex": (waves, (5, 7), (5, 7)),
    "complex_movement": (complex_movement, (5, 7), (5, 7)),
    "scalars": (lambda x, y: jnp.mean(x[::-2] * y), (7,), ()),
    "empty": (lambda x: (x + 1, jnp.sum(x, 0)), (0, 4)),
    "convolution": (convolved, (2, 6, 5, 3), (3, 2, 3, 4)),
    "maxima_gradient": (gradients(maxima, 1), (9, 6, 5, 3), (9, 3, 3, 3)),
    "products": (lambda x, y, z: (x @ y, jnp.swapaxes(y, 1, 2) @ z), (5, 3, 4), (5, 4, 6), (5, 4, 7)),
    "transposed_products": (lambda x, y: x @ jnp.swapaxes(y, 1, 2), (2, 17, 18), (2, 19, 18)),
    "integer_products": (lambda x, y: (4 * x).astype(int) @ (9 * y).astype(int), (40, 21), (21, 33)),
    "host_steps": (dense, (4, 6), (6, 5), (5,)),
}


def programs():
    """Yield name, jitted function and arguments of every program."""
    rng = np.random.default_rng(1)
    for name, (function, *shapes) in PROGRAMS.items():
        yield name, fg.jit(function), [jnp.array(rng.standard_normal(s), jnp.float32) for s in shapes]
