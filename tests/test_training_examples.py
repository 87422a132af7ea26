"""The examples that train with `funcgrad.train` learn and draw. They run in this process, which has their imports."""

from __future__ import annotations

import re
import runpy
import sys

import pytest

from tests.paths import ROOT

BLUE = (0x2A, 0x6F, 0x97)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """A function that runs an example as a script, and returns what it prints and the pixels of its picture."""

    def run(name, *arguments):
        import matplotlib.image

        picture = tmp_path / "picture.png"
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), "--out", str(picture)])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out, matplotlib.image.imread(picture)[..., :3] * 255

    return run


def number(pattern, text):
    return float(re.search(pattern, text).group(1))


def test_digits_cnn(run):
    printed, pixels = run("digits_cnn.py", "--epochs", 3)
    assert number(r"test accuracy ([\d.]+) %", printed) >= 96  # 99.3 after the default number of epochs
    assert (abs(pixels - BLUE).max(-1) < 2).sum() > 100


def test_gpt(run):
    printed, pixels = run("gpt.py", "--steps", 50, "--batch", 4, "--count", 60, "--prompt", "Python ")
    assert number(r"([\d.]+) bits per character", printed) < 4.2  # 6.6 without training: log₂ of 96 characters
    sample, _ = printed.partition("after ")[2].partition("\n")[2].split("\n\ngenerated at ")
    assert sample.startswith("Python ") and len(sample) == 67
    assert (abs(pixels - BLUE).max(-1) < 2).sum() > 30


def test_vae(run):
    printed, pixels = run("vae.py", "--epochs", 20)
    assert number(r"([\d.]+) nats per test image", printed) < 24.5  # 27.2 for the mean of the training images
    assert (abs(pixels - BLUE).max(-1) < 2).sum() > 100
