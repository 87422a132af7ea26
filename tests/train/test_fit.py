"""The training loop: what it computes, resuming, Ctrl-C, NaNs, callbacks, and what it shows."""

from __future__ import annotations

import csv
import os
import signal
import sys
import types

import matplotlib
import numpy as np
import pytest
import tqdm

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import data, nn, optim, random, train
from funcgrad.errors import ArgumentError, FuncgradError, NonFiniteError

matplotlib.use("Agg")
KEY = random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype("float32")
EXAMPLES = {"x": X, "y": (X[:, :1] * X[:, 1:2]).astype("float32")}
MODEL = nn.Sequential(nn.Linear(4), nn.tanh, nn.Dropout(0.2), nn.Linear(1))


def squares(outputs, batch):
    return jnp.mean((outputs - batch["y"]) ** 2)


OPTIMIZER = optim.adam(0.02)
STEP = train.make_step(MODEL, OPTIMIZER, squares)
STATE = train.init(MODEL, OPTIMIZER, KEY, 3)
EVALUATE = train.evaluator(MODEL, data.DataLoader(EXAMPLES, 8), loss=squares)


def loader(size=5):
    jitter = data.Compose(lambda x, rng: x + 0.01 * rng.normal(size=x.shape).astype("float32"), leaf="x")
    return data.DataLoader(EXAMPLES, size, key=random.key(9), transform=jitter)


def words(x):
    return random.key_data(x) if getattr(x, "dtype", None) is fg.dtypes.key else x


def same_bits(x, y):
    assert fg.tree.structure(x) == fg.tree.structure(y)
    for a, b in zip(fg.tree.leaves(x), fg.tree.leaves(y), strict=True):
        assert np.asarray(words(a)).tobytes() == np.asarray(words(b)).tobytes()


class At(train.Callback):
    """Do something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step(self, run):
        if run.step == self.step:
            self.act(run)


class Simple:
    """A step of a state that is a number; it returns one loss after the other."""

    def __init__(self, losses):
        self.losses = iter(losses)

    def __call__(self, state, batch):
        return state + 1, {"loss": next(self.losses)}


def evaluations(values, name="loss"):
    iterator = iter(values)
    return lambda state: {name: next(iterator)}


# ---------------------------------------------------------------- what is computed


def test_fit_is_the_loop_written_by_hand():
    result = train.fit(STEP, STATE, loader(), epochs=2, evaluate=EVALUATE)
    state, rows, batches = STATE, [], loader()
    for epoch in (1, 2):
        losses, sizes = [], []
        for batch in batches:
            state, measured = STEP(state, batch)
            losses.append(float(measured["loss"]))
            sizes.append(len(batch["y"]))
        rows.append({"epoch": epoch, "step": 5 * epoch, "loss": np.average(losses, weights=sizes)})
    same_bits(result.state, state)
    assert result.stopped == "" and [len(b["y"]) for b in loader()] == [5, 5, 5, 5, 2]
    for row, found in zip(rows, result.history, strict=True):
        assert found.keys() == {*row, "grad_norm", "val_loss"}
        assert all(np.isclose(found[name], value, rtol=1e-12) for name, value in row.items())
    outputs = MODEL.apply(state.params, X)
    assert np.isclose(result.history["val_loss"][-1], squares(outputs, EXAMPLES), rtol=1e-5)


def test_a_step_is_the_gradient_step():
    optimizer = optim.sgd(0.1)
    state = train.init(MODEL, optimizer, KEY, 3)._replace(rate=jnp.float32(0.5))
    step = train.make_step(MODEL, optimizer, squares, ema=0.9)
    moved, measured = step(state._replace(ema=state.params), EXAMPLES)

    def loss(params):
        key = random.fold_in(state.key, 0)
        return squares(MODEL.apply(params, X, key=key, train=True), EXAMPLES)

    value, grads = fg.value_and_grad(loss)(state.params)
    expected = fg.tree.map(lambda p, g: p - 0.05 * g, state.params, grads)
    average = fg.tree.map(lambda p, q: 0.9 * p + 0.1 * q, state.params, expected)
    for found, wanted in ((moved.params, expected), (moved.ema, average)):
        assert fg.tree.all(fg.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted))
    assert np.isclose(measured["loss"], value) and np.isclose(measured["grad_norm"], optim.global_norm(grads))
    assert int(moved.step) == 1 and np.array_equal(random.key_data(moved.key), random.key_data(state.key))


def test_accumulated_gradients_are_those_of_the_whole_minibatch():
    model, optimizer = nn.Sequential(nn.Linear(1), nn.tanh), optim.sgd(0.1)
    state = train.init(model, optimizer, KEY, 3)
    whole, parts = (train.make_step(model, optimizer, squares, accumulate=n)(state, EXAMPLES) for n in (1, 2))
    assert fg.tree.all(fg.tree.map(lambda a, b: np.allclose(words(a), words(b), atol=1e-6), whole, parts))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains_parameters_in_float32(precision):
    model, optimizer = nn.Linear(1), optim.sgd(0.2)
    examples = {"x": X, "y": X[:, :1] - X[:, 1:2]}
    state = train.init(model, optimizer, KEY, 3, precision=precision)
    step = train.make_step(model, optimizer, squares, precision=precision)
    result = train.fit(step, state, [examples], epochs=9)
    losses = result.history["loss"]
    assert losses[-1] < losses[0] / 2
    assert {x.dtype.name for x in fg.tree.leaves(result.state.params)} == {"float32"}
    low = model.apply(fg.tree.map(lambda p: p.astype(precision), state.params), jnp.asarray(X, precision))
    value = squares(low.astype("float32"), examples)
    assert losses[0] == pytest.approx(float(value), rel=1e-3)


def test_overflow_in_float16_halves_the_factor_and_changes_nothing_else():
    model = nn.Linear(1)
    state = train.init(model, OPTIMIZER, KEY, 3, precision="float16", ema=True)
    step = train.make_step(model, OPTIMIZER, squares, precision="float16", ema=0.9)
    huge = EXAMPLES | {"y": EXAMPLES["y"] + 1e3}
    moved, measured = step(state, huge)
    same_bits(moved._replace(scale=None, step=state.step), state._replace(scale=None))
    assert float(moved.scale.factor) == 2.0**14 and measured["overflow"] == 1 and int(moved.step) == 1
    grown, measured = step(state._replace(scale=train.LossScale(jnp.float32(8), jnp.int32(1999))), EXAMPLES)
    assert float(grown.scale.factor) == 16 and int(grown.scale.good) == 0 and measured["overflow"] == 0


def test_layers_with_state_are_trained_and_evaluated():
    def apply(params, x, *, state, key, train):
        mean = jnp.mean(x, 0)
        return (x - (mean if train else state)) * params, 0.9 * state + 0.1 * mean if train else state

    centered = nn.Layer(lambda key, shape: (shape, jnp.ones(()), jnp.zeros(shape)), apply, stateful=True)
    model = nn.Sequential(nn.Linear(4), centered, nn.Linear(1))
    state = train.init(model, OPTIMIZER, KEY, 3)
    moved, _ = train.make_step(model, OPTIMIZER, squares, accumulate=2)(state, EXAMPLES)
    changed = fg.tree.map(lambda a, b: not np.array_equal(a, b), moved.layer_state, state.layer_state)
    assert fg.tree.all(changed) and fg.tree.leaves(changed)
    evaluate = train.evaluator(model, data.DataLoader(EXAMPLES, 8), loss=squares)
    outputs, _ = model.apply(moved.params, X, state=moved.layer_state)
    assert evaluate(moved)["loss"] == pytest.approx(float(squares(outputs, EXAMPLES)), rel=1e-5)


def test_evaluation_uses_the_moving_average_and_weights():
    examples = (X, np.arange(22) % 2)
    model = nn.Linear(2)
    evaluate = train.evaluator(
        model, data.DataLoader(examples, 8), {"accuracy": train.metrics.accuracy()}, weights=lambda batch: batch[1]
    )
    state = train.init(model, OPTIMIZER, KEY, 3, ema=True)
    always = {"kernel": jnp.zeros((3, 2)), "bias": jnp.array([0.0, 1.0])}
    assert evaluate(state._replace(ema=always)) == {"accuracy": 1.0}


# ---------------------------------------------------------------- resuming


def parts(save_every=None):
    stopping = train.EarlyStopping("val_loss", patience=2)
    plateau = train.ReduceOnPlateau("val_loss", patience=1, min_delta=0.5)
    return {"callbacks": [stopping, plateau], "evaluate": EVALUATE, "save_every": save_every}


class Killed(Exception):
    pass


def kill(run):
    raise Killed


@pytest.mark.parametrize("kind", ["loader", "list"])
def test_a_resumed_run_has_the_same_bits(kind, tmp_path):
    batches = loader if kind == "loader" else lambda: list(data.batches(KEY, EXAMPLES, 5, drop_last=False))
    whole = train.fit(STEP, STATE, batches(), epochs=4, **parts())
    assert float(whole.state.rate) < 1
    blank = fg.tree.map(jnp.zeros_like, STATE._replace(key=random.key(5)))
    for i, killed_at in enumerate((1, 7, 10, 16)):
        folder = tmp_path / str(i)
        options = parts(save_every=1 if i % 2 else 3)
        options["callbacks"].append(At(killed_at, kill))
        with pytest.raises(Killed):
            train.fit(STEP, STATE, batches(), epochs=4, checkpoints=train.CheckpointManager(folder), **options)
        options = parts(save_every=3)
        options["callbacks"].append(At(0, kill))
        checkpoints = train.CheckpointManager(folder)
        first = STATE if checkpoints.latest_step() is None else blank
        resumed = train.fit(STEP, first, batches(), epochs=4, checkpoints=checkpoints, **options)
        same_bits(resumed.state, whole.state)
        assert resumed.history == whole.history and resumed.stopped == whole.stopped


def test_a_finished_run_is_continued_with_more_epochs(tmp_path):
    whole = train.fit(STEP, STATE, loader(), epochs=3)
    for epochs in (1, 1, 3):
        with train.CheckpointManager(tmp_path, asynchronous=True) as checkpoints:
            result = train.fit(STEP, STATE, loader(), epochs=epochs, checkpoints=checkpoints)
        assert len(result.history) == epochs
    same_bits(result.state, whole.state)


def test_the_best_checkpoint_is_kept(tmp_path):
    checkpoints = train.CheckpointManager(tmp_path, keep=1, best="val_loss")
    evaluate = evaluations([3.0, 1.0, 2.0])
    train.fit(Simple([1.0] * 3), 0, [np.ones(2)], epochs=3, evaluate=evaluate, checkpoints=checkpoints, nan="stop")
    assert checkpoints.steps() == [2, 3] and checkpoints.best_step() == 2


# ---------------------------------------------------------------- Ctrl-C


def interrupt(run):
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_saves_and_returns(tmp_path, capsys):
    checkpoints = train.CheckpointManager(tmp_path)
    result = train.fit(STEP, STATE, loader(), epochs=3, checkpoints=checkpoints, callbacks=[At(7, interrupt)])
    assert result.stopped == "interrupted" and int(result.state.step) == 7 and len(result.history) == 1
    assert checkpoints.latest_step() == 7 and "Ctrl-C again stops at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = train.fit(STEP, STATE, loader(), epochs=3, checkpoints=checkpoints, callbacks=[At(0, kill)])
    same_bits(resumed.state, train.fit(STEP, STATE, loader(), epochs=3).state)


def test_a_second_ctrl_c_stops_at_once():
    def twice(run):
        interrupt(run)
        interrupt(run)

    with pytest.raises(KeyboardInterrupt):
        train.fit(Simple([1.0] * 9), 0, [1, 2, 3], epochs=3, callbacks=[At(2, twice)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# ---------------------------------------------------------------- NaN

NAN, INF = float("nan"), float("inf")


def test_policies_for_nan():
    losses = [1.0, NAN, 3.0, INF, 5.0, 6.0]
    with pytest.raises(NonFiniteError, match=r"fit: loss is nan at step 2 \(epoch 1\)"):
        train.fit(Simple([*losses, 0.0, 0.0]), 0, [1, 2, 3], epochs=2)
    skipped = train.fit(Simple(losses), 0, [1, 2, 3], epochs=2, nan="skip")
    assert skipped.state == 4 and skipped.history["loss"].tolist() == [2.0, 5.5] and skipped.history["step"][-1] == 6
    stopped = train.fit(Simple(losses), 0, [1, 2, 3], epochs=2, nan="stop")
    assert stopped.state == 1 and stopped.stopped == "loss is nan at step 2 (epoch 1)" and not stopped.history
    with pytest.raises(NonFiniteError, match="loss is nan at step 21 .*, as in 20 steps before"):
        train.fit(Simple([NAN] * 30), 0, [1] * 30, epochs=1, nan="skip")


def test_a_nan_is_traced_to_the_batch_the_state_or_the_operation():
    def cause(step, state, batch):
        with pytest.raises(NonFiniteError) as caught:
            train.fit(step, state, [EXAMPLES, batch], epochs=1)
        return str(caught.value)

    poisoned = EXAMPLES | {"x": np.where(np.arange(66).reshape(22, 3) == 10, np.float32(NAN), X)}
    message = cause(STEP, STATE, poisoned)
    assert "loss is nan at step 2" in message and "batch['x'][3, 1] is NaN before the step" in message

    root = nn.Sequential(nn.Linear(1), jnp.sqrt)
    step = train.make_step(root, OPTIMIZER, squares)
    message = cause(step, train.init(root, OPTIMIZER, KEY, 3), EXAMPLES)
    assert "loss is nan at step 1" in message and "invalid value (nan) encountered in sqrt" in message
    assert "[1] sqrt" in message and "test_fit.py" in message and "nan='skip'" in message


def test_a_label_out_of_range_is_named():
    model = nn.Linear(2)
    step = train.make_step(model, OPTIMIZER, lambda outputs, batch: nn.cross_entropy(outputs, batch["y"]))
    labels = np.where(np.arange(22) == 4, 2, 0)
    with pytest.raises(NonFiniteError, match=r"loss is nan at step 1 .*cross_entropy: label 2 at index \(4,\)"):
        train.fit(step, train.init(model, OPTIMIZER, KEY, 3), [{"x": X, "y": labels}], epochs=1)


def test_a_finite_loss_with_infinite_gradient_is_noticed_in_its_step():
    model = nn.Linear(1, bias=False)
    step = train.make_step(model, OPTIMIZER, lambda outputs, batch: jnp.mean(jnp.sqrt(jnp.abs(outputs * 0))))
    state = train.init(model, OPTIMIZER, KEY, 3)
    with pytest.raises(NonFiniteError, match=r"grad_norm is (nan|inf) at step 1"):
        train.fit(step, state, [EXAMPLES], epochs=1)
    result = train.fit(step, state, [EXAMPLES] * 2, epochs=1, nan="stop")
    same_bits(result.state, state)


# ---------------------------------------------------------------- callbacks


def test_early_stopping_returns_to_the_best_state():
    values = [5.0, 4.0, NAN, 4.5, 3.0, 3.5, 2.999, 3.2]
    stopping = train.EarlyStopping(patience=3, min_delta=0.01)
    result = train.fit(Simple([1.0] * 9), 0, [1], epochs=9, evaluate=evaluations(values), callbacks=[stopping])
    assert result.state == 5 and len(result.history) == 8 and "not improved for 3 epochs" in result.stopped
    highest = train.EarlyStopping("val_accuracy", 1, mode="max", restore_best=False)
    evaluate = evaluations([0.1, 0.2, 0.2], "accuracy")
    result = train.fit(Simple([1.0] * 9), 0, [1], epochs=9, evaluate=evaluate, callbacks=[highest])
    assert result.state == 3


def test_the_rate_falls_on_plateaus():
    plateau = train.ReduceOnPlateau("loss", 0.1, 2, min_rate=0.05)
    rates = []

    def step(state, batch):
        rates.append(float(state.rate))
        return state, {"loss": 1.0 if len(rates) < 4 else 0.5}

    train.fit(step, STATE, [1], epochs=9, callbacks=[plateau])
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


def test_logs(tmp_path):
    written, printed = [], []
    writer = types.SimpleNamespace(add_scalar=lambda *args: written.append(args))
    callbacks = [
        train.CsvLog(tmp_path / "log.csv"),
        train.WriterLog(writer, every=2),
        train.PrintLog(2, print=printed.append),
    ]
    evaluate = evaluations([0.5, 0.25])
    train.fit(Simple([4.0, 2.0, 1.0, 3.0]), 0, [1, 2], epochs=2, evaluate=evaluate, callbacks=callbacks)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"epoch": "2", "step": "4", "loss": "2.0", "val_loss": "0.25"} and rows[0]["loss"] == "3.0"
    assert sorted(written) == [
        ("loss", 2.0, 4),
        ("loss", 3.0, 2),
        ("step/loss", 2.0, 2),
        ("step/loss", 3.0, 4),
        ("val_loss", 0.25, 4),
        ("val_loss", 0.5, 2),
    ]
    assert printed == ["epoch 2: loss 2, val_loss 0.25"]


# ---------------------------------------------------------------- what is shown


def test_the_progress_bar_shows_epochs_and_metrics(capsys):
    evaluate = evaluations([0.5, 0.25], "accuracy")
    train.fit(Simple([4.0, 2.0, 1.0, 3.0]), 0, data.DataLoader(X, 11), epochs=2, evaluate=evaluate, progress=True)
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("epoch 2/2: 100%|") and "4/4 [" in last and "loss 3, val_accuracy 0.25]" in last
    train.fit(Simple([4.0, 2.0]), 0, [1, 2], epochs=1)
    assert capsys.readouterr().err == ""  # not a terminal


def test_the_bar_is_shown_in_notebooks(monkeypatch, capsys):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "tqdm.auto", tqdm.std)
    train.fit(Simple([4.0]), 0, [1], epochs=1)
    assert "epoch 1/1: 100%" in capsys.readouterr().err


def test_the_learning_curve_has_a_panel_for_each_metric(tmp_path):
    rows = [
        {"epoch": i, "step": i, "loss": 1 / i, "grad_norm": 1.0, "val_loss": 0.1 + 1 / i, "val_accuracy": 1 - 1 / i}
        for i in range(1, 6)
    ]
    figure = train.History(rows).plot(tmp_path / "curve.png")
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy"]
    lines = [[line.get_ydata().tolist() for line in axis.lines] for axis in figure.axes]
    assert lines[0][0] == [1 / i for i in range(1, 6)] and lines[1][0] == [1 - 1 / i for i in range(1, 6)]
    assert figure.axes[0].texts[0].get_text() == "0.3" and figure.axes[-1].get_xlabel() == "epoch"
    assert (tmp_path / "curve.png").stat().st_size > 5000
    assert len(train.History(rows).plot(metrics=["grad_norm"]).axes) == 1


# ---------------------------------------------------------------- bad input

ERRORS = {
    "swapped": (lambda: train.fit(STATE, STEP, [1], epochs=1), ["fit: step is TrainState", "fit(step, state, loader)"]),
    "no loader": (lambda: train.fit(STEP, STATE, 3, epochs=1), ["fit: 3 cannot be iterated over"]),
    "no epochs": (lambda: train.fit(STEP, STATE, [1], epochs=0), ["fit: epochs is 0"]),
    "policy": (lambda: train.fit(STEP, STATE, [1], epochs=1, nan="ignore"), ["unknown policy nan='ignore'", "raise"]),
    "callback": (
        lambda: train.fit(STEP, STATE, [1], epochs=1, callbacks=[print]),
        ["callback <built-in", "train.Call"],
    ),
    "generator": (
        lambda: train.fit(Simple([1.0]), 0, (i for i in [1]), epochs=2),
        ["epoch 2 has no minibatches", "a generator is empty after one epoch"],
    ),
    "what a step returns": (lambda: train.fit(lambda s, b: s, 0, [1], epochs=1), ["the step returned int, not (state"]),
    "no scalar": (
        lambda: train.fit(lambda s, b: (s, {"loss": np.ones(2)}), 0, [1], epochs=1),
        ["metric 'loss' is (2,), not a scalar"],
    ),
    "no metric": (
        lambda: train.fit(Simple([1.0]), 0, [1], epochs=1, callbacks=[train.EarlyStopping()]),
        ["EarlyStopping: no metric 'val_loss'", "choose one of loss"],
    ),
    "plateau of another state": (
        lambda: train.fit(Simple([1.0]), 0, [1], epochs=1, callbacks=[train.ReduceOnPlateau()]),
        ["ReduceOnPlateau: the state is of type int", "train.make_step"],
    ),
    "vector loss": (
        lambda: train.make_step(MODEL, OPTIMIZER, lambda y, b: (y - b["y"]) ** 2)(STATE, EXAMPLES),
        ["make_step: the loss is f32[22,1], not a scalar"],
    ),
    "indivisible": (
        lambda: train.make_step(MODEL, OPTIMIZER, squares, accumulate=4)(STATE, EXAMPLES),
        ["['x'] is f32[22,3], which does not divide into 4 equal parts", "drop_last=True"],
    ),
    "no ema": (
        lambda: train.make_step(MODEL, OPTIMIZER, squares, ema=0.9)(STATE, EXAMPLES),
        ["state.ema is missing", "ema=True"],
    ),
    "precision": (lambda: train.make_step(MODEL, OPTIMIZER, squares, precision="f8"), ["precision 'f8'", "bfloat16"]),
    "params for the state": (lambda: STEP(STATE.params, EXAMPLES), ["the state is of type tuple, not TrainState"]),
    "no inputs": (lambda: STEP(STATE, {"z": X}), ["a minibatch is a dict of keys ['z'], without 'x'"]),
    "wrong features": (lambda: STEP(STATE, {"x": X[:, :2], "y": EXAMPLES["y"]}), ["[0] Linear(4)", "2 features", "3"]),
    "column": (lambda: train.History()["loss"], ["no metric 'loss'", "none so far"]),
    "empty plot": (lambda: train.History().plot(), ["no epoch to plot"]),
    "nothing to evaluate": (lambda: train.evaluator(MODEL, [1]), ["evaluator: no metrics and no loss"]),
    "empty evaluation": (lambda: train.evaluator(MODEL, [], loss=squares)(STATE), ["the loader has no minibatches"]),
    "writer": (lambda: train.WriterLog(print), ["has no method add_scalar", "SummaryWriter"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    action, parts = ERRORS[name]
    with pytest.raises(FuncgradError) as caught:
        action()
    assert isinstance(caught.value, (ArgumentError, ValueError))
    for part in [*parts, "test_fit.py:", "fix: "]:
        assert part in str(caught.value), caught.value
