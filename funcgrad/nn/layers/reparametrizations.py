"""Layers whose kernel is computed from other parameters: SpectralNorm, WeightNorm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcgrad.numpy as jnp
from funcgrad import lax, random
from funcgrad.arguments.axes import as_number
from funcgrad.errors import ArgumentError
from funcgrad.nn.layer import FROM_INIT, Layer, Shape, as_size, constructor, parameters
from funcgrad.nn.layers.spatial import as_sizes
from funcgrad.nn.torch import Tensor, tensors_of, torch_tensors


@constructor
def SpectralNorm(layer: Layer, *, parameter: str = "kernel", iterations: int = 1, epsilon: float = 1e-12) -> Layer:
    """The layer with its kernel divided by the largest singular value σ of the kernel as a matrix, (rest, features).

    σ is estimated as uᵀ·W·v, with W the transposed matrix. In training, each application improves the estimate by
    `iterations` steps v ← Wᵀu / |Wᵀu|, u ← Wv / |Wv| of the power method. Params are those of the layer. State:
    {"u": (features,), "v": (rest,)}.

    Source: Miyato et al., "Spectral normalization for generative adversarial networks", 2018.

    >>> from funcgrad import nn
    >>> model = nn.SpectralNorm(nn.Linear(3))
    >>> _, params, state = model.init(random.key(0), 4)
    >>> y, state = model.apply(params, jnp.ones((2, 4)), state=state, train=True)
    """
    name = "SpectralNorm"
    _check_wrapped(layer, name)
    as_size(iterations, "iterations", name)
    as_number(epsilon, "epsilon", name, "[0, inf)")

    def normalized(x: Any) -> Any:
        return x / jnp.maximum(jnp.linalg.norm(x), epsilon)

    def improved(matrix: Any, u: Any, v: Any, steps: int) -> tuple[Any, Any]:
        for _ in range(steps):
            u = normalized(v @ matrix)
            v = normalized(matrix @ u)
        return u, v

    def init(key: Any, in_shape: Shape) -> tuple[Any, ...]:
        layer_key, u_key, v_key = random.split(key, 3)
        shape, params = layer.init(layer_key, in_shape)
        matrix = _matrix(_kernel(params, parameter, name))
        starts = [
            normalized(random.normal(k, (n,), matrix.dtype)) for k, n in zip((v_key, u_key), matrix.shape, strict=True)
        ]
        u, v = improved(matrix, starts[1], starts[0], 15)
        return shape, params, {"u": u, "v": v}

    def apply(params: Any, x: Any, *, state: Any, key: Any = None, train: bool = False) -> tuple[Any, Any]:
        kernel = _kernel(params, parameter, name)
        matrix = _matrix(kernel)
        u, v = parameters(state, name, {"u": (matrix.shape[1],), "v": (matrix.shape[0],)}, "state")
        if train:
            u, v = improved(lax.stop_gradient(matrix), u, v, iterations)
            state = {"u": u, "v": v}
        sigma = jnp.dot(v, matrix @ u)
        with model.scope("layer"):
            return layer.apply({**params, parameter: kernel / sigma}, x, key=key, train=train), state

    model = Layer(init, apply, name, (layer,), labels=("layer",), stateful=True)
    return model


@constructor
def WeightNorm(layer: Layer, *, parameter: str = "kernel") -> Layer:
    """The layer with the kernel magnitude · direction / |direction|, for each feature, which is its last axis.

    Params are those of the layer, with {"direction": kernel's shape, "magnitude": (features,)} as the kernel.

    Source: Salimans, Kingma, "Weight normalization: a simple reparameterization to accelerate training of deep neural
    networks", 2016.

    >>> from funcgrad import nn
    >>> _, params = nn.WeightNorm(nn.Linear(3)).init(random.key(0), 4)
    >>> params["kernel"]["magnitude"].shape
    (3,)
    """
    name = "WeightNorm"
    _check_wrapped(layer, name)

    def norm(direction: Any) -> Any:
        return jnp.sqrt(jnp.sum(jnp.square(direction), tuple(range(direction.ndim - 1))))

    def init(key: Any, in_shape: Shape) -> tuple[Any, ...]:
        shape, params = layer.init(key, in_shape)
        direction = _kernel(params, parameter, name)
        return shape, {**params, parameter: {"direction": direction, "magnitude": norm(direction)}}

    def apply(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
        parts = _kernel(params, parameter, name)
        shape = getattr(parts.get("direction"), "shape", ()) if isinstance(parts, dict) else ()
        direction, magnitude = parameters(parts, name, {"direction": shape, "magnitude": shape[-1:]})
        kernel = direction * (magnitude / norm(direction))
        with model.scope("layer"):
            return layer.apply({**params, parameter: kernel}, x, key=key, train=train)

    model = Layer(init, apply, name, (layer,), labels=("layer",))
    return model


def _check_wrapped(layer: Any, name: str) -> None:
    if not isinstance(layer, Layer) or layer.stateful:
        fix = f"wrap a layer with a kernel and without state, e.g. {name}(nn.Linear(8))"
        raise ArgumentError(f"{name}: the layer is {layer!r:.60}", fix=fix)


def _kernel(params: Any, parameter: str, name: str) -> Any:
    if not isinstance(params, dict) or parameter not in params:
        has = f"keys {list(params)}" if isinstance(params, dict) else f"type {type(params).__name__}"
        raise ArgumentError(f"{name}: no parameter {parameter!r} in params of {has}", fix=FROM_INIT)
    return params[parameter]


def _matrix(kernel: Any) -> Any:
    return jnp.reshape(kernel, (math.prod(kernel.shape[:-1]), kernel.shape[-1]))


@torch_tensors("SpectralNorm")
def _spectral_tensors(layer: Layer) -> list[Tensor]:
    """`torch.nn.utils.parametrizations.spectral_norm`, whose v has the axes of PyTorch's kernel: (in, *window)."""
    others, kernel = _split_tensors(layer)
    name, window = f"parametrizations.{kernel.name}", _window(layer.layers[0])
    flipped = tuple(range(len(window))) if layer.layers[0].kind.startswith("ConvTranspose") else ()

    def load(v: np.ndarray) -> np.ndarray:
        return np.flip(np.moveaxis(v.reshape(-1, *window), 0, -1), flipped).ravel()

    def save(v: np.ndarray) -> np.ndarray:
        return np.moveaxis(np.flip(v.reshape(*window, -1), flipped), -1, 0).ravel()

    return [
        *others,
        kernel._replace(name=f"{name}.original"),
        Tensor(f"{name}.0._u", ("u",), in_state=True),
        Tensor(f"{name}.0._v", ("v",), load, save, in_state=True),
    ]


@torch_tensors("WeightNorm")
def _weight_tensors(layer: Layer) -> list[Tensor]:
    """`torch.nn.utils.parametrizations.weight_norm`, with the features as the first axis."""
    others, kernel = _split_tensors(layer)
    name, (path,) = f"parametrizations.{kernel.name}", kernel.ours
    ones = (1,) * (1 + len(_window(layer.layers[0])))
    return [
        *others,
        Tensor(f"{name}.original0", (f"{path}/magnitude",), np.ravel, lambda g: g.reshape(-1, *ones)),
        kernel._replace(name=f"{name}.original1", ours=(f"{path}/direction",)),
    ]


def _split_tensors(layer: Layer) -> tuple[list[Tensor], Tensor]:
    """Return the other tensors of the wrapped layer, and that of the parameter."""
    tensors, path = tensors_of(layer.layers[0]), (layer.options["parameter"],)
    return [t for t in tensors if t.ours != path], next(t for t in tensors if t.ours == path)


def _window(layer: Layer) -> tuple[int, ...]:
    """Return the window of a convolution; () for other layers."""
    size = layer.options.get("kernel_size", ())
    return as_sizes(size, int(layer.kind[-2]), "kernel_size", layer.kind) if size != () else ()
