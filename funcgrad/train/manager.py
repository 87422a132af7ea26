"""CheckpointManager: the checkpoints of a training run in a folder."""

from __future__ import annotations

import math
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from funcgrad.arguments.axes import as_int
from funcgrad.errors import ArgumentError, CheckpointError
from funcgrad.train import checkpoint

_NAME = re.compile(r"step-(\d+)\.safetensors")


class CheckpointManager:
    """Checkpoints in a folder, one file per step; the last ones and the best one are kept.

    Saving is atomic (see `save`): a process may be killed at any moment, and the latest file is whole. What is kept
    follows from the files alone, so there is nothing else to be damaged.

    Args:
      folder: where the files are; it is created if it does not exist.
      keep: how many of the last checkpoints are kept; None keeps all.
      best: the name of a metric; the checkpoint in which it is best is kept too.
      mode: "min" or "max", which values of the metric are better.
      asynchronous: write in a thread. Values are copied before `save` returns, and an error of the thread is raised by
        the next call. Leaving the manager as a context, `wait` and `close` wait for the thread.

    >>> import tempfile, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> manager = CheckpointManager(folder.name, keep=2, best="loss")
    >>> for step, loss in enumerate([3.0, 1.0, 2.0, 2.5]):
    ...     manager.save(step, {"w": np.full(2, step)}, metrics={"loss": loss})
    >>> manager.steps(), manager.best_step()
    ([1, 2, 3], 1)
    >>> manager.restore({"w": np.zeros(2, int)})["w"]
    array([3, 3])
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int | None = 3,
        best: str | None = None,
        mode: str = "min",
        asynchronous: bool = False,
    ):
        if keep is not None and as_int(keep, "keep", "CheckpointManager") < 1:
            raise ArgumentError(f"CheckpointManager: keep is {keep}", fix="keep at least one checkpoint")
        if mode not in ("min", "max"):
            raise ArgumentError(f"CheckpointManager: unknown mode {mode!r}", fix="choose 'min' or 'max'")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._keep, self._best, self._sign = keep, best, 1 if mode == "min" else -1
        self._thread = ThreadPoolExecutor(1, "funcgrad-checkpoints") if asynchronous else None
        self._saving: Future[None] | None = None

    def path(self, step: int) -> Path:
        """Return the file of a step."""
        return self.folder / f"step-{step:010d}.safetensors"

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        names = map(_NAME.fullmatch, os.listdir(self.folder))
        return sorted(int(match[1]) for match in names if match)

    def latest_step(self) -> int | None:
        """Return the last step that has a checkpoint, or None."""
        self.wait()
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Return the step whose metric `best` is best, the first one of equals, or None."""
        self.wait()
        return self._best_of(self.steps())

    def _best_of(self, steps: list[int]) -> int | None:
        values = {step: self.metrics(step).get(self._best, math.nan) for step in steps} if self._best else {}
        known = [step for step in values if not math.isnan(values[step])]
        return min(known, key=lambda step: self._sign * values[step], default=None)

    def metrics(self, step: int) -> dict[str, float]:
        """Return the metrics of a checkpoint."""
        return checkpoint.load_metadata(self.path(step)).get("metrics", {})

    def save(self, step: int, state: Any, *, metrics: dict[str, float] | None = None) -> None:
        """Save a pytree, and delete the checkpoints that are not to be kept."""
        self.wait()
        step = as_int(step, "step", "CheckpointManager.save")
        measured = {name: float(value) for name, value in (metrics or {}).items()}
        if self._best is not None and self._best not in measured:
            raise ArgumentError(
                f"CheckpointManager: metrics {list(measured)} without {self._best!r}, by which the best is kept",
                fix=f"pass metrics={{{self._best!r}: value}}",
            )
        taken = checkpoint.snapshot(state, copy=self._thread is not None)
        if self._thread is None:
            self._write(step, taken, measured)
        else:
            self._saving = self._thread.submit(self._write, step, taken, measured)

    def _write(self, step: int, taken: checkpoint.Snapshot, metrics: dict[str, float]) -> None:
        checkpoint.write(self.path(step), taken, {"step": step, "metrics": metrics})
        steps = self.steps()
        kept = {*steps[-self._keep :], self._best_of(steps), step} if self._keep else {*steps}
        for old in set(steps) - kept:
            self.path(old).unlink(missing_ok=True)

    def restore(self, like: Any, step: int | None = None) -> Any:
        """Return the latest checkpoint, or that of a step, in the structure of `like`; see `load`."""
        self.wait()
        step = self.latest_step() if step is None else step
        if step is None or step not in self.steps():
            found = f"those of steps {self.steps()}" if self.steps() else "none"
            raise CheckpointError(
                f"{self.folder}: no checkpoint{'' if step is None else f' of step {step}'}; there are {found}",
                fix="check `latest_step()` before, which is None if there is no checkpoint",
            )
        return checkpoint.load(self.path(step), like)

    def wait(self) -> None:
        """Wait until the last checkpoint is written; raise if it could not be."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
