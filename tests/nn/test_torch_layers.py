"""Layers against PyTorch: outputs, gradients and state for the same parameters, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.nn.layers_in_torch import CASES, check, in_torch

FIGURES = np.load(Path(__file__).parent / "layers_in_torch.npz")
JITTED = {"BatchNorm3d", "ConvTranspose1d", "AdaptiveAvgPool1d"}


@pytest.mark.parametrize("name", CASES)
def test_layers_compute_what_pytorch_computed(name):
    prefix = f"{name}: "
    figures = {key.removeprefix(prefix): FIGURES[key] for key in FIGURES.files if key.startswith(prefix)}
    check(CASES[name], figures, jitted=name in JITTED)


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_layers_compute_what_pytorch_computes(torch, name):
    check(CASES[name], in_torch(CASES[name], torch, seed=1))
