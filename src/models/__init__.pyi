from .bert import Bert as Bert
from .bert import available_encoder as available_encoder
from .cnn import CNN as CNN
from .linear import Linear as Linear
from .lstm import LSTM as LSTM
from .mlp import MLP as MLP
from .pretrained import available_backbone as available_backbone
from .resnet import ResNet as ResNet
