"""Networks, each in the words of its paper's table. `build(name)` knows them all."""
from minidl.models.alexnet import alexnet
from minidl.models.cifar import plain_cifar, resnet_cifar
from minidl.models.convolutional import to_fully_convolutional
from minidl.models.fcn import FCN, fcn8s, fcn16s, fcn32s
from minidl.models.googlenet import GoogLeNet, googlenet
from minidl.models.mini import MINI_NETS, mini_inception, mini_resnet, mini_vgg
from minidl.models.network import Classifier, Network
from minidl.models.resnet import plain, plain18, plain34, resnet, resnet18, resnet34, resnet50, resnet101, resnet152
from minidl.models.vgg import vgg, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from minidl.models.zoo import ZOO, Entry, build, find, names

__all__ = [
    "FCN", "MINI_NETS", "ZOO", "Classifier", "Entry", "GoogLeNet", "Network", "alexnet", "build", "fcn16s", "fcn32s", "fcn8s",
    "find", "googlenet", "mini_inception", "mini_resnet", "mini_vgg", "names", "plain", "plain18", "plain34", "plain_cifar",
    "resnet", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50", "resnet_cifar", "to_fully_convolutional", "vgg",
    "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
]
