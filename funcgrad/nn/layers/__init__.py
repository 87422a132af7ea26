"""Layers: pairs of pure functions, `init(key, in_shape) → (out_shape, params)` and `apply(params, x) → y`.

Shapes are those of one example; `apply` takes a batch, x of shape (batch, *in_shape). Parameters are a pytree, which is
() for layers without parameters. `apply` also takes `key=` and `train=`, for layers that behave differently in
training. A layer with state has a third result of `init` and a second of `apply`: see `funcgrad.nn.Layer`.
"""

from funcgrad.nn.layers.activations import Activation as Activation
from funcgrad.nn.layers.activations import Celu as Celu
from funcgrad.nn.layers.activations import Elu as Elu
from funcgrad.nn.layers.activations import Gelu as Gelu
from funcgrad.nn.layers.activations import Glu as Glu
from funcgrad.nn.layers.activations import HardSigmoid as HardSigmoid
from funcgrad.nn.layers.activations import HardSwish as HardSwish
from funcgrad.nn.layers.activations import HardTanh as HardTanh
from funcgrad.nn.layers.activations import LeakyRelu as LeakyRelu
from funcgrad.nn.layers.activations import LogSigmoid as LogSigmoid
from funcgrad.nn.layers.activations import LogSoftmax as LogSoftmax
from funcgrad.nn.layers.activations import Mish as Mish
from funcgrad.nn.layers.activations import PReLU as PReLU
from funcgrad.nn.layers.activations import Relu as Relu
from funcgrad.nn.layers.activations import Relu6 as Relu6
from funcgrad.nn.layers.activations import Selu as Selu
from funcgrad.nn.layers.activations import Sigmoid as Sigmoid
from funcgrad.nn.layers.activations import Silu as Silu
from funcgrad.nn.layers.activations import Softmax as Softmax
from funcgrad.nn.layers.activations import Softplus as Softplus
from funcgrad.nn.layers.activations import SoftSign as SoftSign
from funcgrad.nn.layers.activations import Squareplus as Squareplus
from funcgrad.nn.layers.activations import Tanh as Tanh
from funcgrad.nn.layers.batch_norm import BatchNorm1d as BatchNorm1d
from funcgrad.nn.layers.batch_norm import BatchNorm2d as BatchNorm2d
from funcgrad.nn.layers.batch_norm import BatchNorm3d as BatchNorm3d
from funcgrad.nn.layers.containers import Compose as Compose
from funcgrad.nn.layers.containers import Parallel as Parallel
from funcgrad.nn.layers.containers import Residual as Residual
from funcgrad.nn.layers.containers import Sequential as Sequential
from funcgrad.nn.layers.convolution import Conv1d as Conv1d
from funcgrad.nn.layers.convolution import Conv2d as Conv2d
from funcgrad.nn.layers.convolution import Conv3d as Conv3d
from funcgrad.nn.layers.convolution import ConvTranspose1d as ConvTranspose1d
from funcgrad.nn.layers.convolution import ConvTranspose2d as ConvTranspose2d
from funcgrad.nn.layers.convolution import ConvTranspose3d as ConvTranspose3d
from funcgrad.nn.layers.dropout import Dropout as Dropout
from funcgrad.nn.layers.embedding import Embedding as Embedding
from funcgrad.nn.layers.linear import Bilinear as Bilinear
from funcgrad.nn.layers.linear import Linear as Linear
from funcgrad.nn.layers.linear import LoRA as LoRA
from funcgrad.nn.layers.linear import merge_lora as merge_lora
from funcgrad.nn.layers.normalization import GroupNorm as GroupNorm
from funcgrad.nn.layers.normalization import InstanceNorm as InstanceNorm
from funcgrad.nn.layers.normalization import LayerNorm as LayerNorm
from funcgrad.nn.layers.normalization import RMSNorm as RMSNorm
from funcgrad.nn.layers.pooling import AdaptiveAvgPool1d as AdaptiveAvgPool1d
from funcgrad.nn.layers.pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from funcgrad.nn.layers.pooling import AdaptiveAvgPool3d as AdaptiveAvgPool3d
from funcgrad.nn.layers.pooling import AdaptiveMaxPool1d as AdaptiveMaxPool1d
from funcgrad.nn.layers.pooling import AdaptiveMaxPool2d as AdaptiveMaxPool2d
from funcgrad.nn.layers.pooling import AdaptiveMaxPool3d as AdaptiveMaxPool3d
from funcgrad.nn.layers.pooling import AvgPool1d as AvgPool1d
from funcgrad.nn.layers.pooling import AvgPool2d as AvgPool2d
from funcgrad.nn.layers.pooling import AvgPool3d as AvgPool3d
from funcgrad.nn.layers.pooling import GlobalAvgPool as GlobalAvgPool
from funcgrad.nn.layers.pooling import GlobalMaxPool as GlobalMaxPool
from funcgrad.nn.layers.pooling import MaxPool1d as MaxPool1d
from funcgrad.nn.layers.pooling import MaxPool2d as MaxPool2d
from funcgrad.nn.layers.pooling import MaxPool3d as MaxPool3d
from funcgrad.nn.layers.recurrent import GRU as GRU
from funcgrad.nn.layers.recurrent import LSTM as LSTM
from funcgrad.nn.layers.recurrent import RNN as RNN
from funcgrad.nn.layers.recurrent_cells import GRUCell as GRUCell
from funcgrad.nn.layers.recurrent_cells import LSTMCell as LSTMCell
from funcgrad.nn.layers.recurrent_cells import RNNCell as RNNCell
from funcgrad.nn.layers.reparametrizations import SpectralNorm as SpectralNorm
from funcgrad.nn.layers.reparametrizations import WeightNorm as WeightNorm
from funcgrad.nn.layers.shapes import Flatten as Flatten
from funcgrad.nn.layers.shapes import PixelShuffle as PixelShuffle
from funcgrad.nn.layers.shapes import Upsample as Upsample
