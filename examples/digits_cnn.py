"""Train a convolutional network on handwritten digits, with randomly shifted images.

    python examples/digits_cnn.py --epochs 16 --out digits_cnn.png

The data set is that of scikit-learn: 1797 images of 8×8 pixels. The network has a residual block, and batch
normalization, whose running statistics are the state of its layers. The figure shows the learning curve and the errors
on the test images.
"""

from __future__ import annotations

import argparse
import time

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from funcgrad import data, nn, optim, random, train

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after selecting a backend that needs no display)

Arrays = dict[str, np.ndarray]
BLUE, RED, MUTED = "#2a6f97", "#c1121f", "#6c757d"


def convolution(channels: int) -> nn.Layer:
    """A 3×3 convolution, without a bias, and batch normalization."""
    return nn.Sequential(nn.Conv2d(channels, 3, bias=False), nn.BatchNorm2d())


MODEL = nn.Sequential(
    stem=nn.Sequential(convolution(32), nn.relu),
    block=nn.Residual(nn.Sequential(convolution(32), nn.relu, convolution(32))),
    pool=nn.Sequential(nn.relu, nn.MaxPool2d(2)),
    wide=nn.Sequential(convolution(64), nn.relu, nn.GlobalAvgPool()),
    head=nn.Sequential(nn.Dropout(0.3), nn.Linear(10)),
)


def digits() -> tuple[Arrays, Arrays]:
    """Return training and test examples {"x": (n, 8, 8, 1) from 0 to 1, "y": (n,)}."""
    raw = load_digits()
    images, labels = raw.images[..., None].astype("float32") / 16, raw.target.astype("int32")
    parts = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    train_x, test_x, train_y, test_y = parts
    return {"x": train_x, "y": train_y}, {"x": test_x, "y": test_y}


def fit(training: Arrays, test: Arrays, epochs: int, batch: int, seed: int) -> train.Result:
    """Train on images that are shifted by up to one pixel, with a learning rate that rises and falls."""
    init_key, order_key = random.split(random.key(seed))
    augment = data.Compose(data.RandomCrop(1), leaf="x")
    loader = data.DataLoader(training, batch, key=order_key, drop_last=True, transform=augment)
    steps = epochs * len(loader)
    optimizer = optim.adamw(optim.cosine_onecycle_schedule(steps, 1e-2), weight_decay=1e-2)
    step = train.make_step(
        MODEL, optimizer, lambda logits, batch: nn.cross_entropy(logits, batch["y"], label_smoothing=0.05)
    )
    evaluate = train.evaluator(
        MODEL,
        data.DataLoader(test, len(test["y"])),
        {"accuracy": train.metrics.accuracy()},
        loss=lambda logits, batch: nn.cross_entropy(logits, batch["y"]),
    )
    state = train.init(MODEL, optimizer, init_key, training["x"].shape[1:])
    return train.fit(step, state, loader, epochs=epochs, evaluate=evaluate)


def draw(path: str, result: train.Result, test: Arrays) -> None:
    """Plot the learning curve next to the errors on the test images."""
    logits, _ = MODEL.apply(result.state.params, test["x"], state=result.state.layer_state)
    guesses = np.asarray(logits).argmax(-1)
    wrong = np.flatnonzero(guesses != test["y"])
    history = result.history
    figure = plt.figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.4, 1])
    axes = left.subplots()
    axes.plot(history["epoch"], history["loss"], color=MUTED, label="training, smoothed labels")
    axes.plot(history["epoch"], history["val_loss"], color=BLUE, label="test")
    axes.set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
    axes.set_title(
        f"{100 * history['val_accuracy'][-1]:.1f} % of the test images are classified correctly", fontsize=11
    )
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    right.suptitle(f"{len(wrong)} errors on {len(guesses)} test images", fontsize=11)
    for axes, place in zip(right.subplots(3, 4).flat, range(12), strict=True):
        axes.axis("off")
        if place < len(wrong):
            i = wrong[place]
            axes.imshow(test["x"][i, ..., 0], cmap="gray_r", vmin=0, vmax=1)
            axes.set_title(f"{guesses[i]}, is {test['y'][i]}", fontsize=9, color=RED, pad=3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Parse the command line, train, report and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64, help="examples per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="digits_cnn.png", help="file name of the figure")
    options = parser.parse_args()
    if options.epochs < 1 or not 2 <= options.batch <= 1347:
        parser.error("use at least one epoch, and a batch of 2 to 1347 examples")
    start = time.perf_counter()
    training, test = digits()
    result = fit(training, test, options.epochs, options.batch, options.seed)
    accuracy = 100 * result.history["val_accuracy"][-1]
    print(f"test accuracy {accuracy:.2f} % after {time.perf_counter() - start:.1f} s")
    draw(options.out, result, test)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
