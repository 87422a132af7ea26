"""Callbacks of `fit`: early stopping, plateaus, logs."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from typing import Any

import funcgrad.numpy as jnp
from funcgrad.arguments.axes import as_int, as_number
from funcgrad.errors import ArgumentError
from funcgrad.train.history import History
from funcgrad.train.state import TrainState


class Run:
    """What a run has done so far. Callbacks may replace `state`, and end the run by giving a reason in `stop`.

    `epoch` is the number of complete epochs and `step` that of minibatches; `measured` is what the last step returned.
    """

    def __init__(self, state: Any):
        self.state = state
        self.history = History()
        self.epoch = self.step = 0
        self.stop = ""
        self.measured: dict[str, float] = {}


class Callback:
    """What `fit` calls; a subclass overrides some of the methods.

    `state` is a pytree of arrays and simple values that checkpoints hold. It has one structure from `start` on.
    """

    state: Any = ()

    def start(self, run: Run) -> None:
        """Called before the first step, and before a checkpoint is restored."""

    def on_step(self, run: Run) -> None:
        """Called after each step."""

    def on_epoch(self, run: Run) -> None:
        """Called after each epoch, whose metrics are `run.history[-1]`."""

    def end(self, run: Run) -> None:
        """Called at the end, however the run ends, unless by an error."""


class _Watch(Callback):
    """Whether a metric has improved, and for how many epochs it has not."""

    def __init__(self, metric: str, patience: int, mode: str, min_delta: float):
        name = type(self).__name__
        if mode not in ("min", "max"):
            raise ArgumentError(f"{name}: unknown mode {mode!r}", fix="choose 'min' or 'max'")
        if as_int(patience, "patience", name) < 1:
            raise ArgumentError(f"{name}: patience is {patience}", fix="wait for at least one epoch")
        self.metric, self.patience, self._sign = metric, patience, 1 if mode == "min" else -1
        self._min_delta = as_number(min_delta, "min_delta", name, "[0, inf)")
        self.best, self.waited = math.inf, 0

    def start(self, run: Run) -> None:
        self.best, self.waited = math.inf, 0

    def improved(self, run: Run) -> bool:
        """Take the value of this epoch into account; a NaN is no improvement."""
        if self.metric not in run.history[-1]:
            raise ArgumentError(
                f"{type(self).__name__}: no metric {self.metric!r}",
                fix=f"choose one of {', '.join(run.history.names())}",
            )
        value = self._sign * run.history[-1][self.metric]
        better = value < self.best - self._min_delta
        self.waited = 0 if better else self.waited + 1
        self.best = value if better else self.best
        return better


class EarlyStopping(_Watch):
    """End the run when a metric has not improved for `patience` epochs, and return to the state in which it was best.

    An improvement is by more than `min_delta`; `mode` is "min" or "max". With `restore_best=False`, the last state is
    returned.
    """

    def __init__(
        self,
        metric: str = "val_loss",
        patience: int = 10,
        *,
        mode: str = "min",
        min_delta: float = 0.0,
        restore_best: bool = True,
    ):
        super().__init__(metric, patience, mode, min_delta)
        self._restore_best = restore_best
        self._best_state: Any = ()

    @property
    def state(self) -> Any:
        """The best value, the number of epochs since, and the best state."""
        return {"best": self.best, "waited": self.waited, "state": self._best_state}

    @state.setter
    def state(self, state: Any) -> None:
        self.best, self.waited, self._best_state = state["best"], state["waited"], state["state"]

    def start(self, run: Run) -> None:
        """Start anew."""
        super().start(run)
        self._best_state = run.state if self._restore_best else ()

    def on_epoch(self, run: Run) -> None:
        """Keep the best state, and stop when the patience is exhausted."""
        if self.improved(run):
            self._best_state = run.state if self._restore_best else ()
        elif self.waited >= self.patience:
            run.stop = f"{self.metric} has not improved for {self.patience} epochs"

    def end(self, run: Run) -> None:
        """Return to the best state."""
        if self._restore_best and self.best < math.inf and run.stop != "interrupted":
            run.state = self._best_state


class ReduceOnPlateau(_Watch):
    """Multiply the learning rate by `factor` when a metric has not improved for `patience` epochs.

    It changes `state.rate` of a `TrainState`, which multiplies the updates, and stops at `min_rate`.
    """

    def __init__(
        self,
        metric: str = "val_loss",
        factor: float = 0.5,
        patience: int = 5,
        *,
        mode: str = "min",
        min_delta: float = 0.0,
        min_rate: float = 1e-3,
    ):
        super().__init__(metric, patience, mode, min_delta)
        self._factor = as_number(factor, "factor", "ReduceOnPlateau", "(0, 1)")
        self._min_rate = as_number(min_rate, "min_rate", "ReduceOnPlateau", "[0, 1]")

    @property
    def state(self) -> Any:
        """The best value, and the number of epochs since."""
        return {"best": self.best, "waited": self.waited}

    @state.setter
    def state(self, state: Any) -> None:
        self.best, self.waited = state["best"], state["waited"]

    def start(self, run: Run) -> None:
        """Start anew."""
        super().start(run)
        if not isinstance(run.state, TrainState):
            raise ArgumentError(
                f"ReduceOnPlateau: the state is of type {type(run.state).__name__}, not TrainState",
                fix="use train.make_step, which multiplies the updates by state.rate",
            )

    def on_epoch(self, run: Run) -> None:
        """Reduce the rate when the patience is exhausted."""
        if not self.improved(run) and self.waited >= self.patience:
            rate = max(float(run.state.rate) * self._factor, self._min_rate)
            run.state = run.state._replace(rate=jnp.float32(rate))
            self.waited = 0


class CsvLog(Callback):
    """Write the history to a CSV file after each epoch."""

    def __init__(self, path: str | os.PathLike[str]):
        self._path = path

    def on_epoch(self, run: Run) -> None:
        """Write all rows: an interrupted run may have written some that are computed again."""
        with open(self._path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["epoch", "step", *run.history.names()])
            writer.writeheader()
            writer.writerows(run.history)


class WriterLog(Callback):
    """Write metrics by `writer.add_scalar(name, value, step)`, the interface of TensorBoard's SummaryWriter.

    The metrics of an epoch are written always, those of single steps every `every` steps, by default never.
    """

    def __init__(self, writer: Any, every: int | None = None):
        if not hasattr(writer, "add_scalar"):
            raise ArgumentError(
                f"WriterLog: {writer!r:.60} has no method add_scalar",
                fix="pass a writer such as torch.utils.tensorboard.SummaryWriter(folder)",
            )
        self._writer, self._every = writer, every

    def on_step(self, run: Run) -> None:
        """Write the metrics of a step."""
        if self._every and run.step % self._every == 0:
            for name, value in run.measured.items():
                self._writer.add_scalar(f"step/{name}", value, run.step)

    def on_epoch(self, run: Run) -> None:
        """Write the metrics of the epoch."""
        for name in run.history[-1].keys() - {"epoch", "step"}:
            self._writer.add_scalar(name, run.history[-1][name], run.step)


class PrintLog(Callback):
    """Print a line of metrics after every `every`-th epoch, where there is no progress bar."""

    def __init__(self, every: int = 1, print: Callable[[str], Any] = print):
        self._every, self._print = as_int(every, "every", "PrintLog"), print

    def on_epoch(self, run: Run) -> None:
        """Print the line."""
        if run.epoch % self._every == 0:
            self._print(f"epoch {run.epoch}: {described(run.history[-1])}")


def described(row: dict[str, float]) -> str:
    """Return metrics as text: "loss 0.251, val_accuracy 0.981"."""
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "step"))


def overrides(callback: Callback, method: str) -> bool:
    """Whether a callback has its own version of a method."""
    return getattr(type(callback), method) is not getattr(Callback, method)
