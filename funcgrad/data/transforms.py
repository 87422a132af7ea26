"""Transforms of batches, and augmentation of images, as values that `DataLoader` calls.

A transform is a function (batch, rng) → batch of NumPy arrays. The loader passes a NumPy generator that depends on its
key, the epoch and the number of the batch alone, so results do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcgrad.arguments.axes import as_axis, as_int, as_number
from funcgrad.errors import ArgumentError, ShapeError

Transform = Callable[[Any, np.random.Generator], Any]


class Compose:
    """Apply transforms in order, to the whole batch or to its entry `leaf`: a key of a dict, an index of a tuple.

    >>> augment = Compose(RandomCrop(1), RandomFlip(), leaf="x")
    >>> augment({"x": np.ones((2, 8, 8)), "y": np.arange(2)}, np.random.default_rng(0))["x"].shape
    (2, 8, 8)
    """

    def __init__(self, *transforms: Transform, leaf: Any = None):
        for i, transform in enumerate(transforms):
            if not callable(transform):
                raise ArgumentError(
                    f"Compose: transform {i} is {transform!r:.60} of type {type(transform).__name__}",
                    fix="pass functions (batch, rng) → batch as separate arguments",
                )
        self._transforms, self._leaf = transforms, leaf

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        value = batch if self._leaf is None else self._entry(batch)
        for transform in self._transforms:
            value = transform(value, rng)
        if self._leaf is None:
            return value
        if isinstance(batch, dict):
            return {**batch, self._leaf: value}
        entries = [value if i == self._leaf else x for i, x in enumerate(batch)]
        return type(batch)(*entries) if hasattr(batch, "_fields") else type(batch)(entries)

    def _entry(self, batch: Any) -> Any:
        try:
            return batch[self._leaf]
        except (KeyError, IndexError, TypeError):
            found = f"a dict of keys {list(batch)}" if isinstance(batch, dict) else f"of type {type(batch).__name__}"
            raise ArgumentError(
                f"Compose: no leaf {self._leaf!r} in a batch that is {found}", fix="name an entry of the batch"
            ) from None


def _check_images(images: Any, operation: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim < 3:
        raise ShapeError(
            f"{operation}: images of shape {images.shape}", fix="pass a batch: (batch, height, width[, channels])"
        )
    return images


@dataclass(frozen=True)
class RandomFlip:
    """Flip each image along `axis` with probability `p`. Axis 0 is that of the batch; 2 flips left and right."""

    axis: int = 2
    p: float = 0.5

    def __post_init__(self) -> None:
        as_number(self.p, "p", "RandomFlip", "[0, 1]")

    def __call__(self, images: Any, rng: np.random.Generator) -> np.ndarray:
        images = _check_images(images, "RandomFlip")
        axis = as_axis(self.axis, images.ndim, "RandomFlip")
        flipped = rng.random(len(images)) < self.p
        result = images.copy()
        result[flipped] = np.flip(images[flipped], axis)
        return result


@dataclass(frozen=True)
class RandomCrop:
    """Pad images (batch, height, width, …) by `padding` pixels, and cut their size out of each at a random place."""

    padding: int
    mode: str = "constant"

    def __post_init__(self) -> None:
        if as_int(self.padding, "padding", "RandomCrop") < 0:
            raise ArgumentError(f"RandomCrop: padding is {self.padding}", fix="pad by 0 or more pixels")

    def __call__(self, images: Any, rng: np.random.Generator) -> np.ndarray:
        images = _check_images(images, "RandomCrop")
        count, height, width = images.shape[:3]
        around = [(0, 0), (self.padding, self.padding), (self.padding, self.padding), *[(0, 0)] * (images.ndim - 3)]
        padded = np.pad(images, around, self.mode)  # ty: ignore[no-matching-overload]
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))
        rows, columns = rng.integers(0, 2 * self.padding + 1, (2, count))
        cut = windows[np.arange(count), rows, columns]  # the axes of a window come last
        return np.ascontiguousarray(np.moveaxis(cut, (-2, -1), (1, 2)))


@dataclass(frozen=True)
class Normalize:
    """Subtract `mean` and divide by `std`, which broadcast to the batch."""

    mean: Any
    std: Any

    def __post_init__(self) -> None:
        if not np.all(np.asarray(self.std) > 0):
            raise ArgumentError(f"Normalize: std is {self.std!r:.60}", fix="pass standard deviations above 0")

    def __call__(self, batch: Any, rng: np.random.Generator) -> np.ndarray:
        batch = np.asarray(batch)
        dtype = batch.dtype if batch.dtype.kind == "f" else np.float32
        return ((batch - np.asarray(self.mean)) / np.asarray(self.std)).astype(dtype)
