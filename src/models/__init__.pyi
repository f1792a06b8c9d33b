from .bert import Bert as Bert
from .bert import available_encoder as available_encoder
from .cnn import CNN as CNN
from .lstm import LSTM as LSTM
from .pretrained import available_backbone as available_backbone
from .resnet import ResNet as ResNet
