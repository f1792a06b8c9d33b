from .cnn import CNN as CNN
from .pretrained import available_backbone as available_backbone
from .resnet import ResNet as ResNet
