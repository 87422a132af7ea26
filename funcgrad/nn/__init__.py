"""Neural networks as pure functions, with parameters as pytrees.

`activations`, `attention` and `normalizers` are functions of arrays, with the names, values and derivatives of JAX.
`initializers` make parameters, `layers` are (init, apply) pairs, and `losses` compare outputs with targets.

>>> from funcgrad import nn, random
>>> model = nn.Sequential(nn.Linear(8), nn.Relu(), nn.Linear(3))
>>> out_shape, params = model.init(random.key(0), (4,))
>>> out_shape
(3,)
"""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.nn import initializers as initializers
from funcgrad.nn.activations import celu as celu
from funcgrad.nn.activations import elu as elu
from funcgrad.nn.activations import gelu as gelu
from funcgrad.nn.activations import glu as glu
from funcgrad.nn.activations import hard_sigmoid as hard_sigmoid
from funcgrad.nn.activations import hard_silu as hard_silu
from funcgrad.nn.activations import hard_swish as hard_swish
from funcgrad.nn.activations import hard_tanh as hard_tanh
from funcgrad.nn.activations import identity as identity
from funcgrad.nn.activations import leaky_relu as leaky_relu
from funcgrad.nn.activations import log1mexp as log1mexp
from funcgrad.nn.activations import log_sigmoid as log_sigmoid
from funcgrad.nn.activations import mish as mish
from funcgrad.nn.activations import relu as relu
from funcgrad.nn.activations import relu6 as relu6
from funcgrad.nn.activations import selu as selu
from funcgrad.nn.activations import sigmoid as sigmoid
from funcgrad.nn.activations import silu as silu
from funcgrad.nn.activations import soft_sign as soft_sign
from funcgrad.nn.activations import softplus as softplus
from funcgrad.nn.activations import softsign as softsign
from funcgrad.nn.activations import sparse_plus as sparse_plus
from funcgrad.nn.activations import sparse_sigmoid as sparse_sigmoid
from funcgrad.nn.activations import squareplus as squareplus
from funcgrad.nn.activations import swish as swish
from funcgrad.nn.activations import tanh as tanh
from funcgrad.nn.attention import dot_product_attention as dot_product_attention
from funcgrad.nn.layer import Layer as Layer
from funcgrad.nn.layers import GRU as GRU
from funcgrad.nn.layers import LSTM as LSTM
from funcgrad.nn.layers import RNN as RNN
from funcgrad.nn.layers import Activation as Activation
from funcgrad.nn.layers import Celu as Celu
from funcgrad.nn.layers import Dropout as Dropout
from funcgrad.nn.layers import Elu as Elu
from funcgrad.nn.layers import Embedding as Embedding
from funcgrad.nn.layers import Flatten as Flatten
from funcgrad.nn.layers import Gelu as Gelu
from funcgrad.nn.layers import Glu as Glu
from funcgrad.nn.layers import GRUCell as GRUCell
from funcgrad.nn.layers import HardSigmoid as HardSigmoid
from funcgrad.nn.layers import HardSwish as HardSwish
from funcgrad.nn.layers import HardTanh as HardTanh
from funcgrad.nn.layers import LayerNorm as LayerNorm
from funcgrad.nn.layers import LeakyRelu as LeakyRelu
from funcgrad.nn.layers import Linear as Linear
from funcgrad.nn.layers import LogSigmoid as LogSigmoid
from funcgrad.nn.layers import LogSoftmax as LogSoftmax
from funcgrad.nn.layers import LSTMCell as LSTMCell
from funcgrad.nn.layers import Mish as Mish
from funcgrad.nn.layers import Relu as Relu
from funcgrad.nn.layers import Relu6 as Relu6
from funcgrad.nn.layers import RNNCell as RNNCell
from funcgrad.nn.layers import Selu as Selu
from funcgrad.nn.layers import Sequential as Sequential
from funcgrad.nn.layers import Sigmoid as Sigmoid
from funcgrad.nn.layers import Silu as Silu
from funcgrad.nn.layers import Softmax as Softmax
from funcgrad.nn.layers import Softplus as Softplus
from funcgrad.nn.layers import SoftSign as SoftSign
from funcgrad.nn.layers import Squareplus as Squareplus
from funcgrad.nn.layers import Tanh as Tanh
from funcgrad.nn.losses import binary_cross_entropy as binary_cross_entropy
from funcgrad.nn.losses import contrastive as contrastive
from funcgrad.nn.losses import cosine_distance as cosine_distance
from funcgrad.nn.losses import cosine_embedding as cosine_embedding
from funcgrad.nn.losses import cosine_similarity as cosine_similarity
from funcgrad.nn.losses import cross_entropy as cross_entropy
from funcgrad.nn.losses import ctc as ctc
from funcgrad.nn.losses import dice as dice
from funcgrad.nn.losses import focal as focal
from funcgrad.nn.losses import gaussian_nll as gaussian_nll
from funcgrad.nn.losses import hinge as hinge
from funcgrad.nn.losses import huber as huber
from funcgrad.nn.losses import kl_divergence as kl_divergence
from funcgrad.nn.losses import log_cosh as log_cosh
from funcgrad.nn.losses import mae as mae
from funcgrad.nn.losses import mse as mse
from funcgrad.nn.losses import nll as nll
from funcgrad.nn.losses import poisson_nll as poisson_nll
from funcgrad.nn.losses import smooth_l1 as smooth_l1
from funcgrad.nn.losses import squared_hinge as squared_hinge
from funcgrad.nn.losses import triplet_margin as triplet_margin
from funcgrad.nn.normalizers import logmeanexp as logmeanexp
from funcgrad.nn.normalizers import one_hot as one_hot
from funcgrad.nn.normalizers import standardize as standardize
from funcgrad.numpy.exponential_sums import log_softmax as log_softmax
from funcgrad.numpy.exponential_sums import logsumexp as logsumexp
from funcgrad.numpy.exponential_sums import softmax as softmax

_explain_missing_names(__name__)
