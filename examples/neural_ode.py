"""Learn predator-prey dynamics from noisy samples with a neural ordinary differential equation.

    python examples/neural_ode.py --steps 2000 --out neural_ode.png

The samples come from the Lotka–Volterra equations, which the model does not know: a network f gives the derivative of
the state, dy/dt = f(y), and is learned. The integrator, a fourth-order Runge–Kutta method, is a `lax.scan`; reverse
mode differentiates through it, and `vmap` runs it from many samples at once. A training step (solutions, loss,
gradient, Adam) is one compiled function. See Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential
equations", NeurIPS 2018.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

import funcgrad as fg
import funcgrad.numpy as jnp
from funcgrad import lax, nn, optim, random

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after selecting a backend that needs no display)

START = (1.2, 0.9)
INTERVAL = 0.1  # the time between samples, and the step of the integrator
SAMPLES = 160
SEGMENT = 20  # the number of samples that a solution is compared with
MODEL = nn.Sequential(nn.Linear(32), nn.Tanh(), nn.Linear(32), nn.Tanh(), nn.Linear(2))
PREY, PREDATOR, MUTED = "#2a6f97", "#c1121f", "#6c757d"


def lotka_volterra(y: Any) -> Any:
    """Return dy/dt for prey and predators."""
    prey, predator = y
    return jnp.stack([2 / 3 * prey - 4 / 3 * prey * predator, prey * predator - predator])


def solve(field: Callable[[Any], Any], start: Any, steps: int, checkpoint: bool = False) -> Any:
    """Integrate dy/dt = field(y) from `start`, of shape (2,); return the state after each step, of shape (steps, 2).

    With `checkpoint`, the derivative stores one state per step and recomputes the intermediate values.
    """

    def step(y: Any, _: None) -> tuple[Any, Any]:
        h = INTERVAL
        k1 = field(y)
        k2 = field(y + h / 2 * k1)
        k3 = field(y + h / 2 * k2)
        k4 = field(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y

    return lax.scan(fg.checkpoint(step) if checkpoint else step, start, None, length=steps)[1]


def observe(key: Any, noise: float) -> tuple[Any, Any]:
    """Return the true states, and the samples: the first half of them, with noise."""
    start = jnp.array(START)
    states = fg.jit(solve, static_argnums=(0, 2))(lotka_volterra, start, 2 * SAMPLES - 1)
    truth = jnp.concatenate([start[None], states])
    return truth, truth[:SAMPLES] + noise * random.normal(key, (SAMPLES, 2))


def train(steps: int, batch: int, noise: float, seed: int, checkpoint: bool) -> dict[str, Any]:
    """Train; return parameters, losses, bytes of temporaries, and the true, sampled and learned states."""
    sample_key, init_key, start_key = random.split(random.key(seed), 3)
    truth, samples = observe(sample_key, noise)
    _, untrained = MODEL.init(init_key, (2,))
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adam(optim.cosine_decay_schedule(1e-2, steps)))
    params, state = untrained, optimizer.init(untrained)

    def loss(params: Any, starts: Any) -> Any:
        # Short solutions from many samples: early in training, a long solution diverges from the data.
        targets = samples[starts[:, None] + 1 + jnp.arange(SEGMENT)]
        field = functools.partial(MODEL.apply, params)
        solutions = fg.vmap(lambda y: solve(field, y, SEGMENT, checkpoint))(samples[starts])
        return jnp.mean((solutions - targets) ** 2)

    @fg.jit
    def step(params: Any, state: Any, count: Any) -> tuple[Any, Any, Any]:
        starts = random.randint(random.fold_in(start_key, count), (batch,), 0, SAMPLES - SEGMENT)
        value, grads = fg.value_and_grad(loss)(params, starts)
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), state, value

    losses = []
    with tqdm(range(steps), unit="step", disable=None) as progress:
        for count in progress:
            params, state, value = step(params, state, count)
            losses.append(value)
            if count % 50 == 0:
                progress.set_postfix(loss=f"{float(value):.5f}")
    evaluate, everywhere = fg.jit(loss), jnp.arange(SAMPLES - SEGMENT)
    learned = fg.jit(lambda params: solve(functools.partial(MODEL.apply, params), truth[0], len(truth) - 1))(params)
    return {
        "params": params,
        "before": float(evaluate(untrained, everywhere)),
        "after": float(evaluate(params, everywhere)),
        "temporaries": step.lower(params, state, 0).compile().memory_analysis().temp_size_in_bytes,
        "truth": np.asarray(truth),
        "samples": np.asarray(samples),
        "learned": np.asarray(jnp.concatenate([truth[:1], learned])),
    }


def draw(path: str, result: dict[str, Any]) -> None:
    """Plot the populations over time, within and beyond the samples, next to the learned vector field."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), width_ratios=[1.7, 1], layout="constrained")
    truth, samples, learned = result["truth"], result["samples"], result["learned"]
    over_time(left, truth, samples, learned)
    low, high = 0.0, truth.max(0) + 0.35
    grid = np.stack(np.meshgrid(np.linspace(low, high[0], 24), np.linspace(low, high[1], 24)), -1)
    slopes = np.asarray(fg.vmap(fg.vmap(functools.partial(MODEL.apply, result["params"])))(grid.astype("float32")))
    right.streamplot(
        grid[..., 0], grid[..., 1], slopes[..., 0], slopes[..., 1], color="#c9ced2", linewidth=0.8, arrowsize=0.8
    )
    right.plot(*samples.T, ".", color=MUTED, markersize=4, label="samples")
    right.plot(*learned.T, color="black", linewidth=1.5, label="learned solution")
    right.set(xlabel="prey", ylabel="predators", xlim=(low, high[0]), ylim=(low, high[1]))
    right.set_title("The learned field", fontsize=11)
    right.legend(frameon=True, fontsize=9, loc="upper right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def over_time(axes: Any, truth: np.ndarray, samples: np.ndarray, learned: np.ndarray) -> None:
    """Plot the samples, the true and the learned populations over time."""
    times = INTERVAL * np.arange(len(truth))
    for i, (name, color) in enumerate({"prey": PREY, "predators": PREDATOR}.items()):
        axes.plot(times[: len(samples)], samples[:, i], ".", color=color, markersize=4, alpha=0.6)
        axes.plot(times, learned[:, i], color=color, linewidth=1.6, label=f"{name}, learned")
    axes.plot(times, truth[:, 0], ":", color="black", linewidth=1.2, label="truth")
    axes.plot(times, truth[:, 1], ":", color="black", linewidth=1.2)
    end = times[len(samples) - 1]
    axes.axvspan(end, times[-1], color=MUTED, alpha=0.1, linewidth=0)
    axes.text(end, 0.03, "  no samples", transform=axes.get_xaxis_transform(), color=MUTED, fontsize=9)
    far = np.abs(learned - truth).max()
    axes.set(xlabel="time", ylabel="population", xlim=(0, times[-1]), ylim=(0, 1.15 * truth.max()))
    axes.set_title(f"Predator and prey: at most {far:.2f} from the truth", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="upper right", ncols=3)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Parse the command line, train, report, and plot with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32, help="solutions per step")
    parser.add_argument("--noise", type=float, default=0.03, help="standard deviation of the noise in the samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", action="store_true", help="store less for the derivative, and recompute it")
    parser.add_argument("--out", help="file name of the figure")
    options = parser.parse_args()
    if options.steps < 1 or options.batch < 1 or options.noise < 0:
        parser.error("use at least one step, one solution per step, and noise >= 0")
    start = time.perf_counter()
    result = train(options.steps, options.batch, options.noise, options.seed, options.checkpoint)
    print(f"loss {result['before']:.5f} before, {result['after']:.5f} after {time.perf_counter() - start:.1f} s")
    print(f"temporaries of a training step: {result['temporaries'] / 1024:.0f} KiB")
    if options.out:
        draw(options.out, result)
        print(f"saved {options.out}")


if __name__ == "__main__":
    main()
