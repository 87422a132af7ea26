"""Predict the progression of diabetes from a pandas frame, and compare with ridge regression.

    python examples/tabular.py --out tabular.png

The data set is that of scikit-learn: ten measurements of 442 patients, and a score of their disease a year later (Efron
et al., "Least angle regression", 2004). Networks are trained on folds of it, each with early stopping on a fifth of its
training data. The figure shows predictions of patients that the network has not seen.
"""

from __future__ import annotations

import argparse
from typing import Any

import matplotlib
import numpy as np
import pandas
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from tqdm import tqdm

import funcgrad.numpy as jnp
from funcgrad import data, nn, optim, random, train

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after selecting a backend that needs no display)

MODEL = nn.Sequential(nn.Linear(32), nn.tanh, nn.Dropout(0.3), nn.Linear(1))
OPTIMIZER = optim.adamw(3e-3, weight_decay=1e-2)
NETWORK, RIDGE, MUTED = "#2a6f97", "#e09f3e", "#6c757d"


def loss(outputs: Any, batch: Any) -> Any:
    """The mean square error of the standardized score."""
    return jnp.mean((outputs[:, 0] - batch["y"]) ** 2)


STEP = train.make_step(MODEL, OPTIMIZER, loss)


def arrays(frame: pandas.DataFrame) -> dict[str, np.ndarray]:
    """Return {"x": measurements (n, 10), "y": scores (n,)}."""
    return data.from_frame(frame, x=[name for name in frame.columns if name != "target"], y="target")


def fit_network(training: dict[str, np.ndarray], key: Any, epochs: int) -> train.Result:
    """Train a network until its loss on a fifth of the data has not fallen for 20 epochs."""
    split_key, init_key, order_key = random.split(key, 3)
    fitted, held_out = data.random_split(split_key, training, [0.8, 0.2])
    return train.fit(
        STEP,
        train.init(MODEL, OPTIMIZER, init_key, training["x"].shape[1:]),
        data.DataLoader(fitted, 32, key=order_key),
        epochs=epochs,
        evaluate=train.evaluator(MODEL, data.DataLoader(held_out, 128), loss=loss),
        callbacks=[train.EarlyStopping(patience=20)],
        progress=False,
    )


def cross_validate(
    frame: pandas.DataFrame, folds: int, epochs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, list[train.History]]:
    """Return predictions of networks and of ridge regressions for patients that they have not seen, and histories."""
    network, ridge, histories = np.empty(len(frame)), np.empty(len(frame)), []
    parts = list(KFold(folds, shuffle=True, random_state=seed).split(frame))
    with tqdm(parts, unit="fold", disable=None) as progress:
        for fold, (seen, unseen) in enumerate(progress):
            mean, deviation = frame.iloc[seen].mean(), frame.iloc[seen].std()
            standardized = (frame - mean) / deviation
            training, test = arrays(standardized.iloc[seen]), arrays(standardized.iloc[unseen])
            result = fit_network(training, random.fold_in(random.key(seed), fold), epochs)
            linear = RidgeCV(np.logspace(-1, 3, 20)).fit(training["x"], training["y"])
            outputs = np.asarray(MODEL.apply(result.state.params, test["x"]))[:, 0]
            network[unseen] = outputs * deviation["target"] + mean["target"]
            ridge[unseen] = linear.predict(test["x"]) * deviation["target"] + mean["target"]
            histories.append(result.history)
            progress.set_postfix(val_loss=f"{result.history['val_loss'].min():.3f}", epochs=len(result.history))
    return network, ridge, histories


def draw(path: str, scores: np.ndarray, network: np.ndarray, ridge: np.ndarray, histories: list[train.History]) -> None:
    """Plot predictions next to scores, and the losses of the folds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=[1, 1.2])
    ends = [scores.min(), scores.max()]
    left.plot(ends, ends, color=MUTED, linewidth=1)
    for name, predicted, color in (("ridge regression", ridge, RIDGE), ("network", network, NETWORK)):
        label = f"{name}: R² = {r2_score(scores, predicted):.3f}"
        left.scatter(scores, predicted, s=9, color=color, alpha=0.6, linewidths=0, label=label)
    left.set(xlabel="score a year later", ylabel="prediction", title="Patients that were not seen in training")
    left.legend(frameon=False, fontsize=9, markerscale=2, loc="upper left")
    for history in histories:
        right.plot(history["epoch"], history["loss"], color=MUTED, alpha=0.7)
        right.plot(history["epoch"], history["val_loss"], color=NETWORK, alpha=0.7)
        best = int(history["val_loss"].argmin())
        right.plot(best + 1, history["val_loss"][best], "o", color=NETWORK, markersize=5)
    right.lines[0].set_label("training, with dropout")
    right.lines[1].set_label("held out; the dot is the state that is kept")
    right.set(xlabel="epoch", ylabel="mean square error (standardized)", title=f"{len(histories)} folds")
    right.legend(frameon=False, fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_size(11)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Parse the command line, train, report and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200, help="the most epochs per fold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="tabular.png", help="file name of the figure")
    options = parser.parse_args()
    if options.folds < 2 or options.epochs < 1:
        parser.error("use at least two folds, and at least one epoch")
    frame = load_diabetes(as_frame=True, scaled=False).frame
    network, ridge, histories = cross_validate(frame, options.folds, options.epochs, options.seed)
    scores = frame["target"].to_numpy()
    print(f"R² of the network {r2_score(scores, network):.3f}, of ridge regression {r2_score(scores, ridge):.3f}")
    draw(options.out, scores, network, ridge, histories)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
