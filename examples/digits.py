"""Train a classifier of handwritten digits, and plot its learning curve and its errors.

    python examples/digits.py --epochs 60 --out digits.png

The data set is that of scikit-learn: 1797 scanned images of 8×8 pixels, from the UCI repository. A training step (loss,
gradient, Adam) is one compiled function.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import data, nn, optim, random

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after selecting a backend that needs no display)

MODEL = nn.Sequential(nn.Linear(128), nn.Relu(), nn.Dropout(0.2), nn.Linear(64), nn.Relu(), nn.Linear(10))
CORRECT, WRONG, MUTED = "#2a6f97", "#c1121f", "#6c757d"


def digits() -> tuple[Any, Any, np.ndarray]:
    """Return training and test examples {"x": (n, 64), "y": (n,)}, standardized, and the test images (n, 8, 8)."""
    raw = load_digits()
    parts = train_test_split(raw.data, raw.target, test_size=0.25, random_state=0, stratify=raw.target)
    train_x, test_x, train_y, test_y = parts
    # Pixels are 0…16. Those at the edge hardly vary in the training data; do not amplify them.
    mean, spread = train_x.mean(0), np.maximum(train_x.std(0), 1)

    def examples(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": ((x - mean) / spread).astype("float32"), "y": y.astype("int32")}

    return examples(train_x, train_y), examples(test_x, test_y), test_x.reshape(-1, 8, 8)


def train(epochs: int, batch: int, seed: int) -> tuple[np.ndarray, dict[str, list[float]], np.ndarray, np.ndarray]:
    """Train; return the class probabilities of the test images, the history per epoch, and test labels and images."""
    training, test, images = digits()
    steps = epochs * (len(training["y"]) // batch)
    rate = optim.warmup_cosine_decay_schedule(0.0, 3e-3, max(1, steps // 20), max(2, steps))
    optimizer = optim.adamw(rate, weight_decay=1e-2)
    init_key, order_key, dropout_key = random.split(random.key(seed), 3)
    _, params = MODEL.init(init_key, (64,))
    state = optimizer.init(params)

    def loss(params: Any, examples: Any, key: Any) -> Any:
        logits = MODEL.apply(params, examples["x"], key=key, train=True)
        return nn.cross_entropy(logits, examples["y"], label_smoothing=0.05)

    @fg.jit
    def step(params: Any, state: Any, examples: Any, count: Any) -> tuple[Any, Any, Any]:
        value, grads = fg.value_and_grad(loss)(params, examples, random.fold_in(dropout_key, count))
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state, value

    @fg.jit
    def evaluate(params: Any, examples: Any) -> tuple[Any, Any, Any]:
        logits = MODEL.apply(params, examples["x"])
        right = jnp.mean(jnp.argmax(logits, -1) == examples["y"])
        return nn.softmax(logits), nn.cross_entropy(logits, examples["y"]), right

    history: dict[str, list[float]] = {"train": [], "test": [], "accuracy": []}
    count = 0
    with tqdm(range(epochs), unit="epoch", disable=None) as progress:
        for epoch in progress:
            losses = []
            for examples in data.batches(random.fold_in(order_key, epoch), training, batch):
                params, state, value = step(params, state, examples, count)
                losses.append(value)
                count += 1
            probabilities, test_loss, accuracy = evaluate(params, test)
            history["train"].append(float(np.mean(losses)))
            history["test"].append(float(test_loss))
            history["accuracy"].append(float(accuracy))
            progress.set_postfix(loss=f"{history['train'][-1]:.3f}", test=f"{100 * float(accuracy):.1f}%")
    return np.asarray(probabilities), history, test["y"], images


def draw(
    path: str, probabilities: np.ndarray, history: dict[str, list[float]], labels: np.ndarray, images: np.ndarray
) -> None:
    """Plot the learning curve next to test images with their predictions, the wrong ones first."""
    guesses, confidence = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(guesses != labels)
    # The most confident errors, then the least confident correct predictions.
    right = np.flatnonzero(guesses == labels)
    shown = np.concatenate([wrong[np.argsort(-confidence[wrong])], right[np.argsort(confidence[right])]])[:24]

    figure = plt.figure(figsize=(12, 5.2), layout="constrained")
    left, side = figure.subfigures(1, 2, width_ratios=[1, 1.25])
    curves(*left.subplots(2, 1, sharex=True), history)
    side.suptitle(
        f"{len(wrong)} errors on {len(labels)} test images; then the least confident correct predictions", fontsize=11
    )
    for axes, i in zip(side.subplots(4, 6).flat, shown, strict=False):
        good = guesses[i] == labels[i]
        axes.imshow(images[i], cmap="gray_r", vmin=0, vmax=16)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=CORRECT if good else WRONG, linewidth=1 if good else 2.5)
        text = (
            f"{guesses[i]} ({100 * confidence[i]:.0f}%)"
            if good
            else f"{guesses[i]} ({100 * confidence[i]:.0f}%), is {labels[i]}"
        )
        axes.set_title(text, fontsize=8.5, color=CORRECT if good else WRONG, pad=3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def curves(upper: Any, lower: Any, history: dict[str, list[float]]) -> None:
    """Plot the losses above and the accuracy below."""
    epochs = np.arange(1, len(history["train"]) + 1)
    accuracy = 100 * np.asarray(history["accuracy"])
    upper.plot(epochs, history["train"], color=MUTED, label="training, smoothed labels")
    upper.plot(epochs, history["test"], color=CORRECT, label="test")
    upper.set(ylabel="cross-entropy", yscale="log")
    upper.legend(frameon=False, fontsize=9)
    upper.set_title(f"Digits: {accuracy[-1]:.1f} % of the test images are classified correctly", fontsize=11)
    lower.plot(epochs, accuracy, color=CORRECT)
    # The first epochs would compress the scale, so the axis starts at the accuracy after a tenth of the training.
    lower.set(xlabel="epoch", ylabel="test accuracy (%)", xlim=(1, max(2, len(epochs))))
    lower.set_ylim(np.floor(accuracy[len(accuracy) // 10 :].min()) - 1, 100)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)


def main() -> None:
    """Parse the command line, train, report and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64, help="examples per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="digits.png", help="file name of the figure")
    options = parser.parse_args()
    if options.epochs < 1 or not 1 <= options.batch <= 1347:
        parser.error("use at least one epoch, and a batch of 1 to 1347 examples")
    start = time.perf_counter()
    probabilities, history, labels, images = train(options.epochs, options.batch, options.seed)
    print(f"test accuracy {100 * history['accuracy'][-1]:.2f} % after {time.perf_counter() - start:.1f} s")
    draw(options.out, probabilities, history, labels, images)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
