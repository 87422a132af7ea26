"""Layers against PyTorch: outputs, gradients and state for the same parameters, by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from funcgrad.nn.torch import kinds
from tests.nn.layers_in_torch import CASES, check, in_torch
from tests.paths import ROOT

FIGURES = np.load(Path(__file__).parent / "layers_in_torch.npz")


@pytest.mark.parametrize("name", CASES)
def test_layers_compute_what_pytorch_computed(name):
    prefix = f"{name}: "
    figures = {key.removeprefix(prefix): FIGURES[key] for key in FIGURES.files if key.startswith(prefix)}
    check(CASES[name], figures)


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_layers_compute_what_pytorch_computes(torch, name):
    check(CASES[name], in_torch(CASES[name], torch, seed=1))


def test_the_page_has_every_layer_with_tensors():
    page = (ROOT / "docs" / "nn.md").read_text(encoding="utf-8")
    table = page[page.index("| layer | PyTorch |") :].split("\n\n")[0]
    missing = [kind for kind in kinds() if f"`{kind.removesuffix('Cell').removesuffix('Layer')}`" not in table]
    assert not missing and len(kinds()) > 15
