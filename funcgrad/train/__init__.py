"""Training: checkpoints that survive a kill at any moment.

>>> import numpy as np, tempfile
>>> from funcgrad import train
>>> folder = tempfile.TemporaryDirectory()
>>> manager = train.CheckpointManager(folder.name)
>>> manager.save(100, {"params": np.ones(3), "epoch": 2})
>>> manager.restore({"params": np.zeros(3), "epoch": 0})["epoch"]
2
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.train.checkpoint import load as load
from funcgrad.train.checkpoint import load_metadata as load_metadata
from funcgrad.train.checkpoint import save as save
from funcgrad.train.manager import CheckpointManager as CheckpointManager

_explain_missing_names(__name__)
