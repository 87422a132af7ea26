"""fit: the training loop."""

from __future__ import annotations

import itertools
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from funcgrad import tree
from funcgrad.arguments.axes import as_int
from funcgrad.errors import ArgumentError, DependencyError, NonFiniteError
from funcgrad.train.callbacks import Callback, Run, described, overrides
from funcgrad.train.diagnosis import cause_of_nan
from funcgrad.train.history import PREFIX, History
from funcgrad.train.manager import CheckpointManager

Step = Callable[[Any, Any], tuple[Any, dict[str, Any]]]
POLICIES = ("raise", "skip", "stop")
_MOST_SKIPS = 20


class Result(NamedTuple):
    """The last state, the metrics of each epoch, and why the run ended early: "" if it did not."""

    state: Any
    history: History
    stopped: str


def fit(
    step: Step,
    state: Any,
    loader: Iterable[Any],
    *,
    epochs: int,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoints: CheckpointManager | None = None,
    save_every: int | None = None,
    nan: str = "raise",
    progress: bool | None = None,
) -> Result:
    """Train for some epochs: state, measured = step(state, batch) for each minibatch.

    Ctrl-C ends the run after the current step: it is saved, if there are checkpoints, and returned as at the end. A
    second one raises KeyboardInterrupt.

    Args:
      step: a function (state, batch) → (state, metrics), such as `make_step` returns. The metrics are scalars, whose
        means over an epoch, weighted with the numbers of examples, are in the history.
      state: the first state, a pytree.
      loader: the minibatches of an epoch: a `DataLoader`, or anything that can be iterated over once per epoch.
      epochs: the number of epochs, including those of the run that a checkpoint continues.
      evaluate: a function from the state to metrics, called after each epoch, such as `evaluator` returns. They are in
        the history with the prefix "val_".
      callbacks: see `Callback`.
      checkpoints: where to save, and what to continue: if there is a checkpoint, the run goes on from there, to the
        same bits as if it had never ended. `state` then has only the structure.
      save_every: save after so many steps, and at the end; by default after each epoch.
      nan: what to do when a metric of a step is NaN or infinite: "raise"; "skip" the step, and keep the state; or
        "stop", and return the state before the step.
      progress: show a progress bar; by default in terminals and notebooks.

    Raises:
      NonFiniteError: a metric is NaN or infinite. The message names the step, and where it comes from.

    >>> from funcgrad import data, nn, optim, random, train
    >>> import funcgrad.numpy as jnp, numpy as np
    >>> x = np.linspace(0, 1, 64, dtype="float32")[:, None]
    >>> model, optimizer = nn.Linear(1), optim.sgd(0.5)
    >>> step = train.make_step(model, optimizer, lambda y, batch: jnp.mean((y - batch["y"]) ** 2))
    >>> state = train.init(model, optimizer, random.key(0), 1)
    >>> loader = data.DataLoader({"x": x, "y": 3 * x - 1}, 16, key=random.key(1))
    >>> result = fit(step, state, loader, epochs=100)
    >>> round(float(result.state.params["kernel"][0, 0]), 3)
    3.0
    """
    _check(step, loader, epochs, callbacks, save_every, nan)
    run = Run(state)
    loop = _Loop(run, step, loader, callbacks, checkpoints, save_every, nan)
    for callback in callbacks:
        callback.start(run)
    loop.restore()
    with _Interruption() as interruption, _Bar(run, loader, epochs, progress) as bar:
        while run.epoch < epochs and not run.stop:
            for _ in loop.steps():
                bar.update()
                run.stop = run.stop or interruption.reason
                if run.stop:
                    break
            else:
                loop.finish_epoch(evaluate)
                bar.update(run.history[-1])
    loop.finish()
    return Result(run.state, run.history, run.stop)


class _Loop:
    """The steps of a run, its means, and its checkpoints."""

    def __init__(
        self,
        run: Run,
        step: Step,
        loader: Any,
        callbacks: Sequence[Callback],
        checkpoints: CheckpointManager | None,
        save_every: int | None,
        nan: str,
    ):
        self._run, self._step, self._loader, self._nan = run, step, loader, nan
        self._callbacks, self._checkpoints, self._save_every = callbacks, checkpoints, save_every
        self._after_step = [c for c in callbacks if overrides(c, "on_step")]
        self._sums: dict[str, list[float]] = {}
        self._batch = self._skipped = 0
        self._saved: int | None = None

    def steps(self) -> Iterator[None]:
        """Do the steps of an epoch, or what is left of it."""
        run, step = self._run, self._step
        batches = self._loader if hasattr(self._loader, "state") else itertools.islice(self._loader, self._batch, None)
        for batch in batches:
            before = run.state
            run.state, measured = _returned(step(before, batch))
            run.step += 1
            self._batch += 1
            run.measured = values = {name: _scalar(name, value) for name, value in measured.items()}
            if all(map(math.isfinite, values.values())):
                self._skipped = 0
                self._add(values, _size(batch))
            else:
                self._not_finite(before, batch, values)
            for callback in self._after_step:
                callback.on_step(run)
            if self._save_every and run.step % self._save_every == 0:
                self.save()
            yield
        if not self._batch:
            raise ArgumentError(
                f"fit: epoch {run.epoch + 1} has no minibatches",
                fix="pass a DataLoader or a list; a generator is empty after one epoch",
            )

    def _add(self, values: dict[str, float], size: int) -> None:
        for name, value in values.items():
            total = self._sums.setdefault(name, [0.0, 0])
            total[0] += value * size
            total[1] += size

    def _not_finite(self, before: Any, batch: Any, values: dict[str, float]) -> None:
        """Raise, or return to the state before the step, as the policy wants."""
        run = self._run
        name, value = next((name, value) for name, value in values.items() if not math.isfinite(value))
        what = f"{name} is {value} at step {run.step} (epoch {run.epoch + 1})"
        self._skipped += 1
        if self._nan == "raise" or self._skipped > _MOST_SKIPS:
            more = "" if self._nan == "raise" else f", as in {_MOST_SKIPS} steps before"
            raise NonFiniteError(
                f"fit: {what}{more}: {cause_of_nan(self._step, before, batch)}",
                fix="check the data, lower the learning rate or clip gradients; nan='skip' leaves such steps out",
            )
        run.state = before
        if self._nan == "stop":
            run.stop = what

    def finish_epoch(self, evaluate: Callable[[Any], dict[str, float]] | None) -> None:
        """Add a row to the history, and call the callbacks."""
        run = self._run
        run.epoch += 1
        means = {name: total / weight for name, (total, weight) in self._sums.items()}
        row = {"epoch": run.epoch, "step": run.step, **means}
        if evaluate is not None:
            measured = evaluate(run.state)
            row |= {PREFIX + name: _scalar(name, value) for name, value in measured.items()}
        run.history.append(row)
        self._sums, self._batch = {}, 0
        for callback in self._callbacks:
            callback.on_epoch(run)
        if not self._save_every:
            self.save(row)

    def finish(self) -> None:
        """Save, and call the callbacks for the last time."""
        if self._saved != self._run.step:
            self.save()
        for callback in self._callbacks:
            callback.end(self._run)
        if self._checkpoints is not None:
            self._checkpoints.wait()

    # ------------------------------------------------------------ checkpoints

    def _position(self) -> dict[str, Any]:
        """Return what a checkpoint has."""
        run = self._run
        progress = {"epoch": run.epoch, "step": run.step, "batch": self._batch, "sums": self._sums}
        return {
            "state": run.state,
            "loader": getattr(self._loader, "state", ()),
            "progress": json.dumps(progress | {"history": run.history, "stop": "" if self._batch else run.stop}),
            "callbacks": [callback.state for callback in self._callbacks],
        }

    def save(self, row: dict[str, float] | None = None) -> None:
        """Save a checkpoint, if there is a manager."""
        if self._checkpoints is not None:
            self._checkpoints.save(self._run.step, self._position(), metrics=row)
            self._saved = self._run.step

    def restore(self) -> None:
        """Continue from the latest checkpoint, if there is one."""
        if self._checkpoints is None or self._checkpoints.latest_step() is None:
            return
        found = self._checkpoints.restore(self._position())
        run, progress = self._run, json.loads(found["progress"])
        run.state, run.history = found["state"], History(progress["history"])
        run.epoch, run.step, self._batch = progress["epoch"], progress["step"], progress["batch"]
        run.stop = progress["stop"]
        self._sums, self._saved = progress["sums"], progress["step"]
        if hasattr(self._loader, "state"):
            self._loader.state = found["loader"]
        for callback, state in zip(self._callbacks, found["callbacks"], strict=True):
            if callback.state != ():
                callback.state = state


# ---------------------------------------------------------------- Ctrl-C, the bar


class _Interruption:
    """Turns the first Ctrl-C into a reason to stop."""

    def __init__(self) -> None:
        self.reason = ""

    def __enter__(self) -> _Interruption:
        self._before = signal.getsignal(signal.SIGINT)
        # Elsewhere than in the main thread, and where the application handles Ctrl-C, it is left alone.
        self._ours = (
            threading.current_thread() is threading.main_thread() and self._before is signal.default_int_handler
        )
        if self._ours:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, *_: Any) -> None:
        if self.reason:
            raise KeyboardInterrupt
        self.reason = "interrupted"
        print("\nStopping after this step; Ctrl-C again stops at once.", file=sys.stderr)

    def __exit__(self, *_: Any) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, self._before)


class _Bar:
    """The progress bar: "epoch 3/10: 25%|██▌  | 110/440 [00:01<00:03, 98.1step/s, loss 0.251, val_loss 0.27]"."""

    _INTERVAL = 0.1

    def __init__(self, run: Run, loader: Any, epochs: int, progress: bool | None):
        self._run, self._epochs, self._bar, self._next = run, epochs, None, 0.0
        self._row = run.history[-1] if run.history else {}
        if progress if progress is not None else _is_interactive():
            try:
                total = epochs * len(loader)
            except TypeError:  # an iterable has no length
                total = None
            self._bar = _tqdm()(total=total, initial=run.step, unit="step", dynamic_ncols=True)

    def __enter__(self) -> _Bar:
        return self

    def update(self, row: dict[str, float] | None = None) -> None:
        """Show the current metrics, at most ten times per second."""
        if self._bar is None:
            return
        self._row = row or self._row
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._INTERVAL
            self._show()

    def _show(self) -> None:
        assert self._bar is not None
        run = self._run
        validation = {name: value for name, value in self._row.items() if name.startswith(PREFIX)}
        shown = {name: value for name, value in run.measured.items() if name != "grad_norm"} | validation
        self._bar.set_description(f"epoch {min(run.epoch + 1, self._epochs)}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(described(shown), refresh=False)
        self._bar.update(run.step - self._bar.n)

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._show()
            self._bar.close()


def _is_interactive() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell" or (sys.stderr is not None and sys.stderr.isatty())


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise DependencyError(
            "fit: the progress bar needs tqdm, which is not installed",
            fix="pip install funcgrad[train], or pass progress=False",
        ) from None
    return tqdm


# ---------------------------------------------------------------- checks


def _check(step: Any, loader: Any, epochs: Any, callbacks: Any, save_every: Any, nan: Any) -> None:
    if not callable(step):
        raise ArgumentError(
            f"fit: step is {step!r:.60} of type {type(step).__name__}", fix="the order is fit(step, state, loader)"
        )
    if not isinstance(loader, Iterable):
        raise ArgumentError(f"fit: {loader!r:.60} cannot be iterated over", fix="pass a DataLoader, or minibatches")
    if as_int(epochs, "epochs", "fit") < 1:
        raise ArgumentError(f"fit: epochs is {epochs}", fix="train for at least one epoch")
    if save_every is not None and as_int(save_every, "save_every", "fit") < 1:
        raise ArgumentError(f"fit: save_every is {save_every}", fix="save after one step or more")
    if nan not in POLICIES:
        raise ArgumentError(f"fit: unknown policy nan={nan!r}", fix=f"choose one of {', '.join(POLICIES)}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ArgumentError(
                f"fit: callback {callback!r:.60} of type {type(callback).__name__}", fix="derive it from train.Callback"
            )


def _returned(value: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
        return value
    raise ArgumentError(
        f"fit: the step returned {type(value).__name__}, not (state, metrics)",
        fix='return the next state and a dict of scalars: return state, {"loss": loss}',
    )


def _scalar(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        shape = getattr(value, "shape", type(value).__name__)
        raise ArgumentError(
            f"fit: metric {name!r} is {shape}, not a scalar", fix="return means over the minibatch"
        ) from None


def _size(batch: Any) -> int:
    """The number of examples of a minibatch, 1 if it has no arrays."""
    shape = next((x.shape for x in tree.leaves(batch) if getattr(x, "shape", ())), (1,))
    return shape[0]
