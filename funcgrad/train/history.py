"""History: the metrics of each epoch, and their plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcgrad.errors import ArgumentError, DependencyError

_TRAINING, _VALIDATION = "#6c757d", "#2a6f97"
PREFIX = "val_"


class History(list[dict[str, float]]):
    """A list of rows, one per epoch: {"epoch": 1, "step": 40, "loss": 0.7, "val_loss": 0.8, …}.

    Indexed with a name, it is the column of this metric.

    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"]
    array([0.5 , 0.25])
    >>> history.names()
    ['loss']
    """

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, str):
            return super().__getitem__(index)
        if not any(index in row for row in self):
            raise ArgumentError(
                f"history: no metric {index!r}", fix=f"the metrics are {', '.join(self.names()) or 'none so far'}"
            )
        return np.array([row.get(index, np.nan) for row in self])

    def names(self) -> list[str]:
        """Return the names of the metrics."""
        names = dict.fromkeys(name for row in self for name in row)
        return [name for name in names if name not in ("epoch", "step")]

    def plot(self, path: Any = None, *, metrics: Sequence[str] | None = None) -> Any:
        """Plot the learning curves, and save them in a file if there is a `path`; return the matplotlib figure.

        There is one panel for each metric, by default all but the gradient norm, with training and validation values.

        Raises:
          ArgumentError: there is no epoch, or no such metric.
        """
        if not self:
            raise ArgumentError("history: no epoch to plot", fix="train for at least one epoch")
        pyplot = _pyplot()
        panels = metrics if metrics is not None else [n for n in self._panels() if n not in ("grad_norm", "overflow")]
        figure, axes = pyplot.subplots(
            len(panels), 1, figsize=(7, 0.8 + 2.2 * len(panels)), sharex=True, squeeze=False, layout="constrained"
        )
        for axis, name in zip(axes[:, 0], panels, strict=True):
            self._draw(axis, name)
        axes[-1, 0].set_xlabel("epoch")
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def _panels(self) -> list[str]:
        return list(dict.fromkeys(name.removeprefix(PREFIX) for name in self.names()))

    def _draw(self, axis: Any, name: str) -> None:
        """Draw the curves of a metric, and mark the best validation value."""
        epochs = self["epoch"]
        curves = {"training": (name, _TRAINING), "validation": (PREFIX + name, _VALIDATION)}
        curves = {label: curve for label, curve in curves.items() if any(curve[0] in row for row in self)}
        values = [self[column] for column, _ in curves.values()] or [self[name]]
        for label, (column, color) in curves.items():
            axis.plot(epochs, self[column], color=color, label=label, marker="" if len(self) > 20 else ".")
        finite = np.concatenate(values)[np.isfinite(np.concatenate(values))]
        if name == "loss" and len(finite) and finite.min() > 0 and finite.max() > 10 * finite.min():
            axis.set_yscale("log")
        if name == "loss" and "validation" in curves and np.isfinite(values[-1]).any():
            best = int(np.nanargmin(values[-1]))
            axis.plot(epochs[best], values[-1][best], "o", color=_VALIDATION)
            where = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
            text = f"{values[-1][best]:.4g}"
            axis.annotate(text, (epochs[best], values[-1][best]), fontsize=9, color=_VALIDATION, **where)
        axis.set_ylabel(name.replace("_", " "))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.margins(y=0.15)
        if len(curves) > 1:
            axis.legend(frameon=False, fontsize=9)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise DependencyError(
            "history.plot needs matplotlib, which is not installed", fix="pip install funcgrad[train]"
        ) from None
    return pyplot
