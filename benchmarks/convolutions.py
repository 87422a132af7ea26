"""Compare convolutions with JAX and PyTorch: `python -m benchmarks.convolutions`, or the cases that contain a word.

Each layer runs forward and as the gradient by its input and by its kernel; training steps run as a whole. funcgrad and
JAX get channels last. PyTorch gets channels first and channels last, and the faster of the two counts.

By default all run on one core and the times are those of the process's CPU, which other processes disturb least; with
`--wall`, all cores and the clock. Rows are medians of repetitions in alternation.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.convolution_steps import STEPS

Calls = dict[str, Callable[[], Any]]


class Layer(NamedTuple):
    """A convolution of `(batch, *space, in)` with `(*window, in / groups, out)`; pads half the window by default."""

    name: str
    group: str
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    groups: int = 1
    padding: int | None = None

    @property
    def rank(self) -> int:
        return len(self.x) - 2

    @property
    def pad(self) -> int:
        return self.kernel[0] // 2 if self.padding is None else self.padding


def _resnet(size: int, batch: int) -> list[Layer]:
    """The distinct layers of ResNet-18."""
    group = f"ResNet-18 at {size}²"
    first = [Layer("7×7/2, 3→64", group, (batch, size, size, 3), (7, 7, 3, 64), 2)]
    layers, side, channels = (first if size > 64 else []), size // 4 if size > 64 else size, 64
    for stage in range(4):
        before = channels
        if stage:
            channels *= 2
            down = (batch, side, side, before)
            layers.append(Layer(f"3×3/2, {before}→{channels} at {side}²", group, down, (3, 3, before, channels), 2))
            layers.append(
                Layer(f"1×1/2, {before}→{channels} at {side}²", group, down, (1, 1, before, channels), 2, padding=0)
            )
            side //= 2
        whole = (batch, side, side, channels)
        layers.append(Layer(f"3×3, {channels} at {side}²", group, whole, (3, 3, channels, channels)))
    return layers


LAYERS = [
    *_resnet(224, 4),
    *_resnet(32, 32),
    Layer("3×3 depthwise, 64 at 56²", "depthwise-separable", (8, 56, 56, 64), (3, 3, 1, 64), groups=64),
    Layer("3×3/2 depthwise, 128 at 56²", "depthwise-separable", (8, 56, 56, 128), (3, 3, 1, 128), 2, groups=128),
    Layer("1×1, 64→128 at 56²", "depthwise-separable", (8, 56, 56, 64), (1, 1, 64, 128), padding=0),
    Layer("80/4, 1→64 of 16000", "audio", (8, 16000, 1), (80, 1, 64), 4, padding=0),
    Layer("3, 64 of 4000", "audio", (8, 4000, 64), (3, 64, 64)),
    Layer("3×3×3, 32 at 32³", "volume", (1, 32, 32, 32, 32), (3, 3, 3, 32, 32)),
]
MODES = ("forward", "by input", "by kernel")


# ---------------------------------------------------------------- functions of each framework


def _functional(m: Any, layer: Layer, mode: str) -> Callable[..., Any]:
    """The layer, or a gradient of it, in funcgrad or JAX."""
    letters = "DHW"[3 - layer.rank :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")

    def forward(x: Any, kernel: Any) -> Any:
        return m.lax.conv_general_dilated(
            x,
            kernel,
            (layer.stride,) * layer.rank,
            [(layer.pad, layer.pad)] * layer.rank,
            dimension_numbers=numbers,
            feature_group_count=layer.groups,
        )

    if mode == "forward":
        return m.jit(lambda x, kernel, ct: forward(x, kernel))
    if mode == "by input":
        return m.jit(lambda x, kernel, ct: m.vjp(lambda x: forward(x, kernel), x)[1](ct)[0])
    return m.jit(lambda x, kernel, ct: m.vjp(lambda kernel: forward(x, kernel), kernel)[1](ct)[0])


def _torch(layer: Layer, mode: str, operands: Sequence[np.ndarray]) -> list[Callable[[], Any]]:
    """The same in PyTorch, channels first and channels last."""
    import torch

    first = [
        np.moveaxis(operands[0], -1, 1),
        np.moveaxis(operands[1], (-1, -2), (0, 1)),
        np.moveaxis(operands[2], -1, 1),
    ]
    tensors = [torch.tensor(np.ascontiguousarray(v)) for v in first]
    layouts = [tensors]
    if layer.rank > 1:
        last = torch.channels_last if layer.rank == 2 else torch.channels_last_3d
        layouts.append([t.contiguous(memory_format=last) for t in tensors])
    calls = []
    for x, kernel, ct in layouts:
        shape = [layer.stride] * layer.rank, [layer.pad] * layer.rank, [1] * layer.rank
        if mode == "forward":
            function = torch.ops.aten.convolution.default
            arguments = (x, kernel, None, *shape, False, [0] * layer.rank, layer.groups)
        else:
            function = torch.ops.aten.convolution_backward.default
            mask = [mode == "by input", mode == "by kernel", False]
            arguments = (ct, x, kernel, None, *shape, False, [0] * layer.rank, layer.groups, mask)
        calls.append(lambda function=function, arguments=arguments: function(*arguments))
    return calls


def _operands(layer: Layer) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    counts = [(n + 2 * layer.pad - k) // layer.stride + 1 for n, k in zip(layer.x[1:-1], layer.kernel, strict=False)]
    shapes = layer.x, layer.kernel, (layer.x[0], *counts, layer.kernel[-1])
    return [rng.normal(size=s).astype(np.float32) for s in shapes]


# ---------------------------------------------------------------- measuring


def _layer_calls(layer: Layer, mode: str, frameworks: Sequence[str]) -> Calls:
    operands = _operands(layer)
    calls: Calls = {}
    for name in frameworks:
        if name == "torch":
            calls |= {f"torch {i}": call for i, call in enumerate(_torch(layer, mode, operands))}
        else:
            m = importlib.import_module(name)
            function, arrays = _functional(m, layer, mode), [m.device_put(v) for v in operands]
            calls[name] = lambda m=m, function=function, arrays=arrays: m.block_until_ready(function(*arrays))
    return calls


def _step_calls(name: str, frameworks: Sequence[str]) -> Calls:
    functional, in_torch = STEPS[name]
    calls = {f: functional(importlib.import_module(f)) for f in frameworks if f != "torch"}
    return calls | ({f"torch {i}": call for i, call in enumerate(in_torch())} if "torch" in frameworks else {})


def measure(calls: Calls, repetitions: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median seconds of each call; of PyTorch's, the least."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    for i in range(repetitions):
        for name, call in list(calls.items())[:: 1 if i % 2 else -1]:
            start = clock()
            call()
            samples[name].append(clock() - start)
    medians = {name: statistics.median(s) for name, s in samples.items()}
    best = [medians.pop(name) for name in list(medians) if name.startswith("torch")]
    return medians | ({"torch": min(best)} if best else {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print every row as it comes, then the geometric means."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__)
    parser.add_argument("names", nargs="*", help="words; a layer or a group that contains one of them runs")
    parser.add_argument("--quick", action="store_true", help="few repetitions: a look, not a measurement")
    parser.add_argument("--wall", action="store_true", help="all cores and the clock, not one core and CPU time")
    options = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if not options.wall:  # before the frameworks count the cores
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.environ.setdefault("FUNCGRAD_NUM_THREADS", "1")
    frameworks = ["funcgrad", *(name for name in ("jax", "torch") if _installed(name))]
    clock = time.perf_counter if options.wall else time.process_time
    ratios: dict[tuple[str, str], list[float]] = {}
    cases = [(x.group, x.name, mode, _layer_calls, (x, mode)) for x in LAYERS for mode in MODES]
    cases += [("training", name, "step", _step_calls, (name,)) for name in STEPS]
    for group, name, mode, prepare, given in cases:
        if options.names and not any(n.lower() in f"{group} {name} {mode}".lower() for n in options.names):
            continue
        times = measure(prepare(*given, frameworks), 5 if options.quick else 15, clock)
        own = times.pop("funcgrad")
        for other, seconds in times.items():
            ratios.setdefault((mode, other), []).append(seconds / own)
        row = "  ".join(f"{other} {seconds / own:5.2f}" for other, seconds in times.items())
        print(f"{group:20} {name:36} {mode:10} {own * 1e3:9.3f} ms  {row}", flush=True)
    for (mode, name), each in ratios.items():
        mean = math.exp(statistics.mean(map(math.log, each)))
        print(f"{mode}: {name}'s time over ours {mean:.2f} in the geometric mean, at least {min(each):.2f}")


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    sys.exit(main())
