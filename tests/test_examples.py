"""The examples run from the command line and reach what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.paths import ROOT


def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an example as a user does, its output going to a pipe."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    for module in ("matplotlib", "sklearn", "tqdm"):
        pytest.importorskip(module, reason=f"the example draws with and reads from {module}")
    picture = tmp_path_factory.mktemp("digits") / "curve.png"
    return run_example("digits.py", "--epochs", 12, "--batch", 64, "--seed", 1, "--out", picture), picture


def test_digits_learns(digits):
    done, _ = digits
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"test accuracy ([\d.]+) %", done.stdout).group(1))
    assert accuracy >= 97


def test_digits_draws(digits):
    import matplotlib.image

    _, picture = digits
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[:2] == (780, 1800)
    # The red frames of wrong answers and the blue ones of right answers are there.
    for red, green, blue in ((0xC1, 0x12, 0x1F), (0x2A, 0x6F, 0x97)):
        assert (abs(pixels[..., :3] * 255 - [red, green, blue]).max(-1) < 2).sum() > 500


def test_digits_writes_no_progress_bar_to_a_pipe(digits):
    done, _ = digits
    assert "epoch/s" not in done.stderr + done.stdout and "\r" not in done.stderr


def test_digits_refuses_nonsense(digits):
    done = run_example("digits.py", "--epochs", 0)
    assert done.returncode == 2 and "at least one epoch" in done.stderr


@pytest.fixture(scope="module")
def neural_ode(tmp_path_factory):
    for module in ("matplotlib", "tqdm"):
        pytest.importorskip(module, reason=f"the example draws with {module} and shows its progress with tqdm")
    picture = tmp_path_factory.mktemp("neural_ode") / "field.png"
    return run_example("neural_ode.py", "--steps", 200, "--noise", 0.02, "--out", picture), picture


def losses_and_temporaries(done):
    assert done.returncode == 0, done.stderr
    before, after = map(float, re.search(r"loss ([\d.]+) before, ([\d.]+) after", done.stdout).groups())
    return before, after, int(re.search(r"temporaries of a training step: (\d+) KiB", done.stdout).group(1))


def test_neural_ode_learns(neural_ode):
    before, after, _ = losses_and_temporaries(neural_ode[0])
    assert before > 0.1
    assert after < 0.01  # targets with errors of 0.02, from starts with the same, leave 0.001 to the best field


def test_neural_ode_draws(neural_ode):
    import matplotlib.image

    pixels = matplotlib.image.imread(neural_ode[1])
    assert pixels.shape[:2] == (630, 1800)
    for red, green, blue in ((0x2A, 0x6F, 0x97), (0xC1, 0x12, 0x1F)):  # both populations are there
        assert (abs(pixels[..., :3] * 255 - [red, green, blue]).max(-1) < 2).sum() > 500


def test_neural_ode_of_checkpointed_steps_learns_the_same_in_less_memory(neural_ode):
    _, after, temporaries = losses_and_temporaries(neural_ode[0])
    done = run_example("neural_ode.py", "--steps", 200, "--noise", 0.02, "--checkpoint")
    _, after_checkpointed, temporaries_checkpointed = losses_and_temporaries(done)
    assert abs(after_checkpointed - after) < 0.1 * after  # sums in another order, two hundred steps long
    assert temporaries_checkpointed < temporaries / 4


def test_neural_ode_refuses_nonsense(neural_ode):
    done = run_example("neural_ode.py", "--steps", 0)
    assert done.returncode == 2 and "at least one step" in done.stderr


@pytest.fixture(scope="module")
def tabular(tmp_path_factory):
    picture = tmp_path_factory.mktemp("tabular") / "tabular.png"
    return run_example("tabular.py", "--folds", 3, "--epochs", 60, "--out", picture), picture


def test_tabular_learns_from_a_frame(tabular):
    done, _ = tabular
    assert done.returncode == 0, done.stderr
    network, ridge = map(
        float, re.search(r"R² of the network ([\d.]+), of ridge regression ([\d.]+)", done.stdout).groups()
    )
    assert network > 0.44 and abs(network - ridge) < 0.05
    assert "fold/s" not in done.stderr + done.stdout


def test_tabular_draws(tabular):
    import matplotlib.image

    pixels = matplotlib.image.imread(tabular[1])
    assert pixels.shape[:2] == (690, 1650)
    for red, green, blue in ((0x2A, 0x6F, 0x97), (0xE0, 0x9F, 0x3E)):  # predictions of both models, half transparent
        tint = [0.6 * part + 0.4 * 255 for part in (red, green, blue)]
        assert (abs(pixels[..., :3] * 255 - tint).max(-1) < 3).sum() > 300
