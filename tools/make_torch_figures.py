"""Write what PyTorch computes for the tables in tests/nn/*_in_torch.py to tests/nn/*_in_torch.npz.

The tests compare with these figures everywhere, and the figures with PyTorch where it is installed.
Run it again after a change of a table: `python tools/make_torch_figures.py`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "tests" / "nn"


def main() -> None:
    """Write a file of figures for each table."""
    sys.path.insert(0, str(FOLDER))
    for path in sorted(FOLDER.glob("*_in_torch.py")):
        table = importlib.import_module(path.stem)
        figures = {
            f"{name}: {what}": np.asarray(figure)
            for name, case in table.CASES.items()
            for what, figure in table.in_torch(case, torch).items()
        }
        np.savez_compressed(path.with_suffix(".npz"), **figures)
        print(f"{path.with_suffix('.npz').name}: {len(figures)} figures")


if __name__ == "__main__":
    main()
