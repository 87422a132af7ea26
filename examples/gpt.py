"""Train a language model on Python's own documentation, character by character, and let it write.

    python examples/gpt.py --steps 1500 --out gpt.png

The text is that of `help()` topics, which ships with Python, in `pydoc_data/topics.py`. The model is a small GPT: a
stack of causal attention. The figure shows the bits per character on the last tenth of the text, which is not in the
training data. A sample is then generated with a cache of keys and values, so that a character costs one position.
"""

from __future__ import annotations

import argparse
import pydoc_data.topics
import textwrap
import time
from typing import Any

import matplotlib
import numpy as np

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import data, nn, optim, random, train

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after selecting a backend that needs no display)

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))  # others are left out
CONTEXT, FEATURES = 128, 128
EMBED, HEAD = nn.Embedding(len(CHARACTERS), FEATURES), nn.Linear(len(CHARACTERS))
BODY = nn.TransformerEncoder(3, FEATURES, heads=4, hidden=4 * FEATURES, causal=True, rotary=nn.RotaryEmbedding())
MODEL = nn.Sequential(embed=EMBED, body=BODY, head=HEAD)
BLUE, MUTED = "#2a6f97", "#6c757d"


def text() -> np.ndarray:
    """Return the documentation as the numbers of its characters."""
    topics = "\n\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    return np.array([CHARACTERS.index(c) for c in topics if c in CHARACTERS], "uint8")


def windows(tokens: np.ndarray, every: int) -> dict[str, np.ndarray]:
    """Return windows of CONTEXT characters, one at every so many characters, and the characters that follow each."""
    views = np.lib.stride_tricks.sliding_window_view(tokens, CONTEXT + 1)[::every]
    return {"x": views[:, :-1], "y": views[:, 1:]}


def loss(logits: Any, batch: Any) -> Any:
    """The cross-entropy in bits per character."""
    return nn.cross_entropy(logits, batch["y"]) / np.log(2)


def fit(tokens: np.ndarray, steps: int, batch: int, seed: int) -> train.Result:
    """Train on windows at random places; evaluate every 50 steps, on windows of the last tenth of the text."""
    init_key, order_key = random.split(random.key(seed))
    end = len(tokens) * 9 // 10
    per_epoch = min(50, steps)
    training, held_out = windows(tokens[:end], 1), windows(tokens[end:], 4 * CONTEXT)
    sampler = data.weighted_sampler(np.ones(len(training["x"])), per_epoch * batch)
    rate = optim.warmup_cosine_decay_schedule(0.0, 3e-3, max(1, steps // 20), max(2, steps))
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(rate, weight_decay=1e-2))
    return train.fit(
        train.make_step(MODEL, optimizer, loss),
        train.init(MODEL, optimizer, init_key, (CONTEXT,)),
        data.DataLoader(training, batch, key=order_key, sampler=sampler),
        epochs=steps // per_epoch,
        evaluate=train.evaluator(MODEL, data.DataLoader(held_out, batch), loss=loss),
    )


def generate(params: Any, prompt: str, count: int, temperature: float, seed: int) -> tuple[str, float]:
    """Return the prompt with `count` characters more, and the median speed in characters per second."""

    def step(token: Any, cache: Any, key: Any) -> tuple[Any, Any]:
        x = EMBED.apply(params["embed"], token)
        x, cache = BODY.apply(params["body"], x, cache=cache)
        logits = HEAD.apply(params["head"], x[:, -1:])
        return random.categorical(key, logits / temperature), cache

    step = fg.jit(step, donate_argnums=1)
    half, times = CONTEXT // 2, []
    written = [CHARACTERS.index(c) for c in prompt]
    token = cache = None
    for i, key in enumerate(random.split(random.key(seed), count)):
        if i % half == 0:  # the positions end with those of training: go on with the last characters only
            token, cache = jnp.array([written[-half:]]), BODY.init_cache(params["body"], 1, CONTEXT)
        token, cache = step(token, cache, key)
        written.append(int(token[0, 0]))
        times.append(time.perf_counter())
    return "".join(CHARACTERS[i] for i in written), float(1 / np.median(np.diff(times)))


def draw(path: str, history: train.History, sample: str) -> None:
    """Plot the learning curve next to the sample."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    left.plot(history["step"], history["loss"], ".-", color=MUTED, label="training")
    left.plot(history["step"], history["val_loss"], ".-", color=BLUE, label="held-out text")
    left.set(xlabel="step", ylabel="bits per character")
    left.set_title(f"{history['val_loss'][-1]:.2f} bits per character on held-out text", fontsize=11)
    left.legend(frameon=False, fontsize=9)
    left.spines[["top", "right"]].set_visible(False)
    left.grid(alpha=0.25)
    right.axis("off")
    right.set_title("What the model writes", fontsize=11, loc="left")
    lines = [part for line in sample.splitlines() for part in textwrap.wrap(line.replace("$", r"\$"), 72) or [""]]
    right.text(0, 1, "\n".join(lines[:24]), family="monospace", fontsize=8.5, va="top", transform=right.transAxes)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Parse the command line, train, write and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500, help="from 50 on, rounded down to a multiple of 50")
    parser.add_argument("--batch", type=int, default=16, help=f"windows of {CONTEXT} characters per step")
    parser.add_argument("--prompt", default="The ", help="how the sample starts")
    parser.add_argument("--count", type=int, default=1000, help="characters to generate")
    parser.add_argument("--temperature", type=float, default=0.7, help="less is more probable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="gpt.png", help="file name of the figure")
    options = parser.parse_args()
    if options.steps < 1 or options.batch < 1 or options.count < 3 or options.temperature <= 0:
        parser.error("use at least one step and window, three characters, and a positive temperature")
    if not options.prompt or not set(options.prompt) <= set(CHARACTERS):
        parser.error("use a prompt of ASCII characters")
    start = time.perf_counter()
    result = fit(text(), options.steps, options.batch, options.seed)
    bits = result.history["val_loss"][-1]
    print(f"{bits:.3f} bits per character of held-out text after {time.perf_counter() - start:.1f} s")
    sample, speed = generate(result.state.params, options.prompt, options.count, options.temperature, options.seed)
    print(f"{sample}\n\ngenerated at {speed:.0f} tokens/s (median)")
    draw(options.out, result.history, sample)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
