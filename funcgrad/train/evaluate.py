"""Evaluation of a model over a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from funcgrad.errors import ArgumentError
from funcgrad.train.metrics import Metric
from funcgrad.train.state import TrainState, apply, inputs_of, targets_of
from funcgrad.transforms.jit import jit


def evaluator(
    model: Any,
    loader: Iterable[Any],
    metrics: Mapping[str, Metric] | None = None,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    inputs: Callable[[Any], Any] = inputs_of,
    targets: Callable[[Any], Any] = targets_of,
    weights: Callable[[Any], Any] | None = None,
) -> Callable[[TrainState], dict[str, float]]:
    """Return a function from a state to metrics over the minibatches of `loader`.

    The model is applied with `train=False`; to the moving average of the parameters if there is one, `state.ema`.

    Args:
      metrics: metrics by name.
      loss: a function (outputs, batch) → the mean loss of the minibatch; its mean over all examples is "loss".
      inputs, targets, weights: functions of a minibatch; by default `batch["x"]` or `batch[0]`, `batch["y"]` or
        `batch[1]`, and no weights.

    >>> from funcgrad import data, nn, optim, random, train
    >>> loader = data.DataLoader((np.eye(4, dtype="float32"), np.arange(4)), 3)
    >>> evaluate = evaluator(nn.Linear(4), loader, {"accuracy": train.metrics.accuracy()})
    >>> state = train.init(nn.Linear(4), optim.sgd(0.1), random.key(0), 4)
    >>> evaluate(state._replace(params={"kernel": np.eye(4), "bias": np.zeros(4)}))
    {'accuracy': 1.0}
    """
    metrics = dict(metrics or {})
    if not metrics and loss is None:
        raise ArgumentError("evaluator: no metrics and no loss", fix='pass metrics={"accuracy": metrics.accuracy()}')

    @jit
    def forward(params: Any, layer_state: Any, batch: Any) -> tuple[Any, Any]:
        outputs, _ = apply(model, params, layer_state, inputs(batch))
        return outputs, loss(outputs, batch) if loss is not None else 0.0

    def evaluate(state: TrainState) -> dict[str, float]:
        params = state.params if state.ema is None else state.ema
        totals = {name: metric.init() for name, metric in metrics.items()}
        total = count = 0.0
        for batch in loader:
            outputs, value = forward(params, state.layer_state, batch)
            weight = None if weights is None else weights(batch)
            for name, metric in metrics.items():
                totals[name] = metric.update(totals[name], outputs, targets(batch), weight)
            size = np.shape(inputs(batch))[0]
            total, count = total + float(value) * size, count + size
        if not count:
            raise ArgumentError("evaluator: the loader has no minibatches", fix="pass a DataLoader, or a list")
        measured = {name: metric.result(totals[name]) for name, metric in metrics.items()}
        return measured if loss is None else {"loss": total / count, **measured}

    return evaluate
