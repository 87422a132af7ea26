"""Training: steps made of a model, an optimizer and a loss; the loop around them; metrics; checkpoints.

>>> import numpy as np
>>> from funcgrad import data, nn, optim, random, train
>>> x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
>>> examples = {"x": x, "y": (x[:, 0] * x[:, 1] > 0).astype("int32")}
>>> model, optimizer = nn.Sequential(nn.Linear(16), nn.tanh, nn.Linear(2)), optim.adam(0.05)
>>> loss = lambda outputs, batch: nn.cross_entropy(outputs, batch["y"])
>>> step = train.make_step(model, optimizer, loss)
>>> evaluate = train.evaluator(model, data.DataLoader(examples, 64), {"accuracy": train.metrics.accuracy()}, loss=loss)
>>> state = train.init(model, optimizer, random.key(0), (2,))
>>> result = train.fit(step, state, data.DataLoader(examples, 32, key=random.key(1)), epochs=15, evaluate=evaluate)
>>> bool(result.history[-1]["val_accuracy"] > 0.95)
True
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.train import metrics as metrics
from funcgrad.train.callbacks import Callback as Callback
from funcgrad.train.callbacks import CsvLog as CsvLog
from funcgrad.train.callbacks import EarlyStopping as EarlyStopping
from funcgrad.train.callbacks import PrintLog as PrintLog
from funcgrad.train.callbacks import ReduceOnPlateau as ReduceOnPlateau
from funcgrad.train.callbacks import Run as Run
from funcgrad.train.callbacks import WriterLog as WriterLog
from funcgrad.train.checkpoint import load as load
from funcgrad.train.checkpoint import load_metadata as load_metadata
from funcgrad.train.checkpoint import save as save
from funcgrad.train.evaluate import evaluator as evaluator
from funcgrad.train.fit import Result as Result
from funcgrad.train.fit import fit as fit
from funcgrad.train.history import History as History
from funcgrad.train.manager import CheckpointManager as CheckpointManager
from funcgrad.train.state import LossScale as LossScale
from funcgrad.train.state import TrainState as TrainState
from funcgrad.train.state import init as init
from funcgrad.train.state import make_step as make_step

_explain_missing_names(__name__)
