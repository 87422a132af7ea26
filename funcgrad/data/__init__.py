"""Data for training loops: datasets, minibatches in an order that depends on a key alone, and augmentation.

>>> import numpy as np
>>> from funcgrad import data, random
>>> loader = data.DataLoader({"x": np.ones((100, 3)), "y": np.zeros(100)}, 32, key=random.key(0))
>>> [len(batch["y"]) for batch in loader]
[32, 32, 32, 4]
"""

from funcgrad.data.batches import batches as batches
from funcgrad.data.dataset import ArrayDataset as ArrayDataset
from funcgrad.data.dataset import Dataset as Dataset
from funcgrad.data.dataset import SequenceDataset as SequenceDataset
from funcgrad.data.dataset import Subset as Subset
from funcgrad.data.dataset import collate as collate
from funcgrad.data.dataset import from_files as from_files
from funcgrad.data.dataset import from_frame as from_frame
from funcgrad.data.dataset import pad as pad
from funcgrad.data.loader import DataLoader as DataLoader
from funcgrad.data.samplers import random_split as random_split
from funcgrad.data.samplers import stratified_sampler as stratified_sampler
from funcgrad.data.samplers import weighted_sampler as weighted_sampler
from funcgrad.data.transforms import Compose as Compose
from funcgrad.data.transforms import Normalize as Normalize
from funcgrad.data.transforms import RandomCrop as RandomCrop
from funcgrad.data.transforms import RandomFlip as RandomFlip
from funcgrad.errors import explain_missing_names as _explain_missing_names

_explain_missing_names(__name__)
