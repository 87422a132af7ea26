"""Layers of nn and the modules of PyTorch that compute the same, and what both compute.

`tools/make_torch_figures.py` writes what PyTorch computes, with which test_torch_layers.py compares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import nn


class Case(NamedTuple):
    """A layer, a function of PyTorch's `torch.nn` that makes its module, and the shape of a batch in PyTorch.

    With `moves`, the channels are last in the layer and first in the module.
    """

    layer: nn.Layer
    module: Callable[[Any], Any]
    shape: Any
    moves: bool = False
    train: bool = False


def _conv(rank: int, shape: tuple[int, ...], ours: dict[str, Any], theirs: dict[str, Any], transpose: str = "") -> Case:
    layer = getattr(nn, f"Conv{transpose}{rank}d")(**ours)
    moves = ours.get("channels") != "first"
    return Case(layer, lambda t: getattr(t, f"Conv{transpose}{rank}d")(shape[1], **theirs), shape, moves)


def _pool(kind: str, rank: int, shape: tuple[int, ...], ours: tuple, theirs: tuple, **options: Any) -> Case:
    names = {"window": "kernel_size", "strides": "stride", "include_padding": "count_include_pad"}
    layer = getattr(nn, f"{kind}Pool{rank}d")(*ours, **options)
    options = {names.get(name, name): value for name, value in options.items()}
    return Case(layer, lambda t: getattr(t, f"{kind}Pool{rank}d")(*theirs, **options), shape, True)


def _parametrized(name: str, make: Callable[[Any], Any], **options: Any) -> Callable[[Any], Any]:
    return lambda t: getattr(t.utils.parametrizations, name)(make(t), **options)


CASES = {
    "Linear": Case(nn.Linear(3), lambda t: t.Linear(4, 3), (5, 4)),
    "Linear without bias": Case(nn.Linear(3, bias=False), lambda t: t.Linear(4, 3, bias=False), (2, 3, 4)),
    "Bilinear": Case(nn.Bilinear(3), lambda t: t.Bilinear(4, 2, 3), ((5, 4), (5, 2))),
    "PReLU": Case(nn.PReLU(), lambda t: t.PReLU(), (3, 4)),
    "PReLU of channels": Case(nn.PReLU(4), lambda t: t.PReLU(4), (3, 4, 5), True),
    "LayerNorm": Case(nn.LayerNorm(), lambda t: t.LayerNorm(6), (3, 6)),
    "RMSNorm": Case(nn.RMSNorm(epsilon=1e-6), lambda t: t.RMSNorm(6, 1e-6), (3, 2, 6)),
    "GroupNorm": Case(nn.GroupNorm(2), lambda t: t.GroupNorm(2, 4), (2, 4, 3, 3), True),
    "GroupNorm, channels first": Case(nn.GroupNorm(2, channels="first"), lambda t: t.GroupNorm(2, 4), (2, 4, 5)),
    "InstanceNorm": Case(nn.InstanceNorm(), lambda t: t.InstanceNorm2d(3, affine=True), (2, 3, 4, 3), True),
    "BatchNorm1d": Case(nn.BatchNorm1d(), lambda t: t.BatchNorm1d(4), (6, 4), train=True),
    "BatchNorm1d of sequences": Case(
        nn.BatchNorm1d(momentum=0.3), lambda t: t.BatchNorm1d(3, momentum=0.3), (4, 3, 5), True, True
    ),
    "BatchNorm2d, evaluated": Case(nn.BatchNorm2d(), lambda t: t.BatchNorm2d(3), (2, 3, 4, 3), True),
    "BatchNorm2d, channels first": Case(
        nn.BatchNorm2d(channels="first", momentum=None),
        lambda t: t.BatchNorm2d(3, momentum=None),
        (2, 3, 4, 3),
        train=True,
    ),
    "BatchNorm3d": Case(
        nn.BatchNorm3d(scale=True, epsilon=1e-3), lambda t: t.BatchNorm3d(2, eps=1e-3), (2, 2, 3, 2, 3), True, True
    ),
    "Conv1d": _conv(
        1,
        (2, 4, 9),
        {"features": 6, "kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
        {"out_channels": 6, "kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
    ),
    "Conv2d": _conv(
        2,
        (2, 3, 6, 5),
        {"features": 4, "kernel_size": 3, "strides": 2, "padding": 1},
        {"out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1},
    ),
    "Conv2d, channels first": _conv(
        2,
        (2, 3, 6, 5),
        {"features": 4, "kernel_size": (3, 1), "padding": "SAME", "channels": "first"},
        {"out_channels": 4, "kernel_size": (3, 1), "padding": "same"},
    ),
    "Conv2d, depthwise": _conv(
        2,
        (2, 3, 5, 5),
        {"features": 6, "kernel_size": 3, "padding": "VALID", "groups": 3, "bias": False},
        {"out_channels": 6, "kernel_size": 3, "groups": 3, "bias": False},
    ),
    "Conv3d": _conv(
        3,
        (2, 2, 4, 3, 4),
        {"features": 3, "kernel_size": (2, 3, 2), "padding": (1, 1, 0)},
        {"out_channels": 3, "kernel_size": (2, 3, 2), "padding": (1, 1, 0)},
    ),
    "ConvTranspose1d": _conv(
        1,
        (2, 4, 5),
        {"features": 6, "kernel_size": 3, "strides": 2, "padding": 1, "output_padding": 1, "groups": 2},
        {"out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
        "Transpose",
    ),
    "ConvTranspose2d": _conv(
        2,
        (2, 3, 4, 3),
        {"features": 2, "kernel_size": (3, 2), "strides": (2, 1), "padding": "VALID", "channels": "first"},
        {"out_channels": 2, "kernel_size": (3, 2), "stride": (2, 1)},
        "Transpose",
    ),
    "ConvTranspose3d": _conv(
        3,
        (1, 2, 3, 2, 3),
        {"features": 2, "kernel_size": 2, "strides": 2, "padding": 0, "dilation": 2},
        {"out_channels": 2, "kernel_size": 2, "stride": 2, "dilation": 2},
        "Transpose",
    ),
    "MaxPool1d": _pool("Max", 1, (2, 3, 8), (3,), (3,), strides=2, padding=1),
    "MaxPool2d": _pool("Max", 2, (2, 3, 6, 5), (2,), (2,)),
    "MaxPool3d": _pool("Max", 3, (1, 2, 4, 4, 3), (2,), (2,), strides=1),
    "AvgPool1d": _pool("Avg", 1, (2, 3, 8), (3,), (3,), strides=2, padding=1),
    "AvgPool2d": _pool("Avg", 2, (2, 3, 6, 5), (3,), (3,), strides=2, padding=1, include_padding=False),
    "AvgPool3d": _pool("Avg", 3, (1, 2, 4, 4, 3), (2,), (2,)),
    "AdaptiveAvgPool1d": _pool("AdaptiveAvg", 1, (2, 3, 7), (3,), (3,)),
    "AdaptiveAvgPool2d": _pool("AdaptiveAvg", 2, (2, 2, 7, 6), ((3, 2),), ((3, 2),)),
    "AdaptiveAvgPool3d": _pool("AdaptiveAvg", 3, (1, 2, 5, 4, 3), (2,), (2,)),
    "AdaptiveMaxPool1d": _pool("AdaptiveMax", 1, (2, 3, 7), (3,), (3,)),
    "AdaptiveMaxPool2d": _pool("AdaptiveMax", 2, (2, 2, 7, 6), ((3, 2),), ((3, 2),)),
    "AdaptiveMaxPool3d": _pool("AdaptiveMax", 3, (1, 2, 5, 4, 3), (2,), (2,)),
    "Upsample nearest": Case(nn.Upsample(2), lambda t: t.Upsample(scale_factor=2), (1, 2, 3, 2), True),
    "Upsample nearest to a size": Case(nn.Upsample(size=7), lambda t: t.Upsample(7), (1, 2, 3), True),
    "Upsample linear": Case(
        nn.Upsample(size=7, method="linear"), lambda t: t.Upsample(7, mode="linear"), (1, 2, 4), True
    ),
    "Upsample bilinear": Case(
        nn.Upsample(1.5, method="bilinear", align_corners=True),
        lambda t: t.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True),
        (1, 2, 4, 3),
        True,
    ),
    "Upsample bicubic": Case(
        nn.Upsample(2, method="bicubic-pytorch"),
        lambda t: t.Upsample(scale_factor=2, mode="bicubic"),
        (1, 1, 4, 5),
        True,
    ),
    "Upsample trilinear": Case(
        nn.Upsample(2, method="trilinear", channels="first"),
        lambda t: t.Upsample(scale_factor=2, mode="trilinear"),
        (1, 1, 2, 3, 2),
    ),
    "PixelShuffle": Case(nn.PixelShuffle(2), lambda t: t.PixelShuffle(2), (1, 8, 2, 3), True),
    "PixelShuffle, channels first": Case(
        nn.PixelShuffle(2, channels="first"), lambda t: t.PixelShuffle(2), (1, 4, 2, 3)
    ),
    "SpectralNorm of Linear": Case(
        nn.SpectralNorm(nn.Linear(3)), _parametrized("spectral_norm", lambda t: t.Linear(4, 3)), (5, 4), train=True
    ),
    "SpectralNorm of Conv2d": Case(
        nn.SpectralNorm(nn.Conv2d(3, 2, padding="VALID")),
        _parametrized("spectral_norm", lambda t: t.Conv2d(2, 3, 2)),
        (2, 2, 4, 3),
        True,
        True,
    ),
    "SpectralNorm, evaluated": Case(
        nn.SpectralNorm(nn.Linear(3)), _parametrized("spectral_norm", lambda t: t.Linear(4, 3)), (5, 4)
    ),
    "WeightNorm of Linear": Case(
        nn.WeightNorm(nn.Linear(3)), _parametrized("weight_norm", lambda t: t.Linear(4, 3)), (5, 4)
    ),
    "WeightNorm of Conv1d": Case(
        nn.WeightNorm(nn.Conv1d(3, 2, padding=1)),
        _parametrized("weight_norm", lambda t: t.Conv1d(2, 3, 2, padding=1)),
        (2, 2, 5),
        True,
    ),
    "Sequential of images": Case(
        nn.Sequential(
            nn.Conv2d(3, 3, padding=1, channels="first"),
            nn.BatchNorm2d(channels="first"),
            nn.relu,
            nn.MaxPool2d(2, channels="first"),
            nn.Flatten(),
            nn.Linear(2),
        ),
        lambda t: t.Sequential(
            t.Conv2d(2, 3, 3, padding=1), t.BatchNorm2d(3), t.ReLU(), t.MaxPool2d(2), t.Flatten(), t.Linear(12, 2)
        ),
        (3, 2, 4, 4),
        train=True,
    ),
    "Sequential": Case(
        nn.Sequential(nn.Linear(5), nn.BatchNorm1d(), nn.Tanh(), nn.Linear(2)),
        lambda t: t.Sequential(t.Linear(4, 5), t.BatchNorm1d(5), t.Tanh(), t.Linear(5, 2)),
        (6, 4),
        train=True,
    ),
}


def in_torch(case: Case, torch: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Return what PyTorch computes: state dicts before and after, the output, and the gradients of Σ weights·output."""
    torch.manual_seed(seed)
    module = case.module(torch.nn)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape))
    several = isinstance(case.shape[0], tuple)
    xs = [torch.randn(shape, requires_grad=True) for shape in (case.shape if several else (case.shape,))]
    figures = {f"before:{name}": x.clone() for name, x in module.state_dict().items()}
    module.train(case.train)
    y = module(*xs)
    weights = torch.randn(y.shape)
    named = dict(module.named_parameters())
    grads = torch.autograd.grad((weights * y).sum(), [*xs, *named.values()])
    figures |= {f"after:{name}": x for name, x in module.named_buffers()}
    figures |= {f"x{i}": x for i, x in enumerate(xs)} | {"y": y, "weights": weights}
    figures |= {f"grad_x{i}": g for i, g in enumerate(grads[: len(xs)])}
    figures |= {f"grad:{name}": g for name, g in zip(named, grads[len(xs) :], strict=True)}
    return {name: x.detach().numpy() for name, x in figures.items()}


def check(case: Case, figures: dict[str, np.ndarray]) -> None:
    """Compare a layer with what PyTorch computes from the same parameters."""
    layer = case.layer
    to_ours = (lambda x: np.moveaxis(x, 1, -1)) if case.moves else (lambda x: x)
    xs = [jnp.asarray(to_ours(figures[f"x{i}"])) for i in range(2) if f"x{i}" in figures]
    x = tuple(xs) if len(xs) > 1 else xs[0]
    before = {name[7:]: value for name, value in figures.items() if name.startswith("before:")}
    in_shape = tuple(part.shape[1:] for part in xs) if len(xs) > 1 else x.shape[1:]
    loaded = nn.from_torch(layer, before, in_shape=in_shape)
    params, state = loaded if layer.stateful else (loaded, ())
    weights = to_ours(figures["weights"])

    def loss(params, x):
        y, after = layer.apply_with_state(params, x, state, train=case.train)
        return jnp.sum(weights * y), (y, after)

    (grads, grad_x), (y, after) = fg.grad(loss, (0, 1), has_aux=True)(params, x)
    assert layer.init_with_state(fg.random.key(0), in_shape)[0] == y.shape[1:]
    np.testing.assert_allclose(y, to_ours(figures["y"]), rtol=2e-4, atol=2e-5)
    for i, g in enumerate(grad_x if len(xs) > 1 else (grad_x,)):
        np.testing.assert_allclose(g, to_ours(figures[f"grad_x{i}"]), rtol=2e-4, atol=5e-5)
    # The gradients and the state have the names of PyTorch after a round trip.
    found = nn.to_torch(layer, grads, after if layer.stateful else None)
    for name, value in figures.items():
        kind, _, name = name.partition(":")
        if kind == "grad":
            np.testing.assert_allclose(found[name], value, rtol=5e-4, atol=1e-4, err_msg=name)
        elif kind == "after" and not name.endswith("tracked"):
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    back = nn.to_torch(layer, params, state if layer.stateful else None)
    assert back.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)
