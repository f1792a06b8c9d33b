from .images.cnn import CNN as CNN
from .images.resnet import ResNet as ResNet
from .pretrained import available_backbone as available_backbone
from .tables.linear import Linear as Linear
from .tables.mlp import MLP as MLP
from .texts.bert import Bert as Bert
from .texts.bert import available_encoder as available_encoder
from .texts.lstm import LSTM as LSTM
