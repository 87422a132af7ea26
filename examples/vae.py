"""Train a variational autoencoder on handwritten digits, and draw digits that it invents.

    python examples/vae.py --epochs 100 --out vae.png

The encoder maps an image to a normal distribution of codes, the decoder maps a code to pixels. The loss is the negative
evidence lower bound (Kingma and Welling, "Auto-encoding variational Bayes", 2014). The figure shows the learning curve,
test images with their reconstructions, and images decoded from random codes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import funcgrad.numpy as jnp
from funcgrad import data, nn, optim, random, train

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after selecting a backend that needs no display)

CODES = 8
BLUE, MUTED = "#2a6f97", "#6c757d"


def sampling(key: Any, in_shape: Any) -> tuple[Any, Any]:
    """Initialize the layer that draws codes: 2·CODES numbers, means and log variances, to CODES numbers."""
    return (CODES,), ()


def sample(params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
    """Draw codes, as a function of the means and variances that has a derivative; without `train`, return the means."""
    mean, log_variance = jnp.split(x, 2, -1)
    return mean + jnp.exp(log_variance / 2) * random.normal(key, mean.shape) if train else mean


def autoencode(layers: Any, x: Any) -> tuple[Any, Any]:
    """Return the logits of the pixels, and the means and log variances of the codes."""
    codes = layers.encoder(x)
    return layers.decoder(layers.sample(codes)), codes


DECODER = nn.Sequential(nn.Linear(256), nn.relu, nn.Linear(64))
MODEL = nn.Compose(
    autoencode,
    encoder=nn.Sequential(nn.Linear(256), nn.relu, nn.Linear(2 * CODES)),
    sample=nn.Layer(sampling, sample, "sample"),
    decoder=DECODER,
)


def loss(outputs: Any, batch: Any) -> Any:
    """The negative evidence lower bound in nats per image: the cross-entropy of the pixels plus KL(code, N(0, 1))."""
    logits, (mean, log_variance) = outputs[0], jnp.split(outputs[1], 2, -1)
    pixels = jnp.sum(nn.softplus(logits) - batch["x"] * logits, -1)
    divergence = 0.5 * jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, -1)
    return jnp.mean(pixels + divergence)


def fit(training: np.ndarray, test: np.ndarray, epochs: int, batch: int, seed: int) -> train.Result:
    """Train; the loss of the test images is that of the means of their codes."""
    init_key, order_key = random.split(random.key(seed))
    loader = data.DataLoader({"x": training}, batch, key=order_key, drop_last=True)
    optimizer = optim.adam(optim.cosine_decay_schedule(3e-3, epochs * len(loader)))
    return train.fit(
        train.make_step(MODEL, optimizer, loss),
        train.init(MODEL, optimizer, init_key, training.shape[1:]),
        loader,
        epochs=epochs,
        evaluate=train.evaluator(MODEL, data.DataLoader({"x": test}, len(test)), loss=loss),
    )


def draw(path: str, result: train.Result, test: np.ndarray, seed: int) -> None:
    """Plot the learning curve, reconstructions and invented images."""
    params, history = result.state.params, result.history
    restored = nn.sigmoid(MODEL.apply(params, test[:12])[0])
    codes = random.normal(random.key(seed), (36, CODES))
    invented = nn.sigmoid(DECODER.apply(params["decoder"], codes))
    figure = plt.figure(figsize=(13, 4.4), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=[1.3, 1, 1])
    axes = left.subplots()
    axes.plot(history["epoch"], history["loss"], color=MUTED, label="training")
    axes.plot(history["epoch"], history["val_loss"], color=BLUE, label="test, without noise in the codes")
    axes.set(xlabel="epoch", ylabel="negative evidence lower bound (nats)")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    pairs = np.stack([test[:12], np.asarray(restored)], 1).reshape(24, 64)
    grid(middle, pairs, (6, 4), "Test images, and their reconstructions")
    grid(right, np.asarray(invented), (6, 6), "Images from random codes")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def grid(figure: Any, images: np.ndarray, shape: tuple[int, int], title: str) -> None:
    """Draw images (n, 64) in a grid."""
    figure.suptitle(title, fontsize=11)
    for axes, image in zip(figure.subplots(*shape).flat, images, strict=True):
        axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axes.axis("off")


def main() -> None:
    """Parse the command line, train, report and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="vae.png", help="file name of the figure")
    options = parser.parse_args()
    if options.epochs < 1 or not 1 <= options.batch <= 1347:
        parser.error("use at least one epoch, and a batch of 1 to 1347 images")
    start = time.perf_counter()
    images = load_digits().data.astype("float32") / 16
    training, test = train_test_split(images, test_size=0.25, random_state=0)
    result = fit(training, test, options.epochs, options.batch, options.seed)
    bound = result.history["val_loss"][-1]
    print(f"{bound:.2f} nats per test image after {time.perf_counter() - start:.1f} s")
    draw(options.out, result, test, options.seed)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
