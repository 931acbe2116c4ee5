"""AlexNet: Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks"."""
from minidl.models.network import Classifier, Knobs, choose, small_start
from minidl.nn import LRN, AdaptiveAvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential


def alexnet(num_classes: int = 1000, *, variant: str = "paper", in_channels: int = 3, width: float = 1.0,
            image_size: int | None = None) -> Classifier:
    """Five convolutions and three fully connected layers: the net that won ImageNet in 2012.

    variant "paper": for 227x227 images, half of the channels on each of two GPUs (`groups=2` where a layer sees its own
    GPU's half only), local response normalisation, 60,965,224 parameters. Section 3.5 and figure 2; the layers are named
    as in the paper's reproduction in Caffe (bvlc_alexnet). The text says 224, but its 55x55 maps need 227.
    variant "torchvision": Krizhevsky 2014, "One weird trick", section 5: one GPU, no normalisation, 64 to 384 channels, for
    224x224 images, 61,100,840 parameters. Its keys are torchvision's.
    """
    choose("alexnet", "variant", variant, ("paper", "torchvision"))
    if image_size is None:
        image_size = 227 if variant == "paper" else 224
    make = _paper if variant == "paper" else _one_weird_trick
    return make(Knobs("alexnet", num_classes, in_channels, width, image_size))


def _paper(c: Knobs) -> Classifier:
    """c(n) is n channels, scaled."""
    c1, c2, c3, c4, c5 = (c(n, multiple_of=2) for n in (96, 256, 384, 384, 256))  # even: two groups
    features: dict[str, Module] = {
        "conv1": Conv2d(c.in_channels, c1, 11, stride=4), "relu1": ReLU(inplace=True), "norm1": LRN(), "pool1": MaxPool2d(3, 2),
        "conv2": Conv2d(c1, c2, 5, padding=2, groups=2), "relu2": ReLU(inplace=True), "norm2": LRN(), "pool2": MaxPool2d(3, 2),
        "conv3": Conv2d(c2, c3, 3, padding=1), "relu3": ReLU(inplace=True),
        "conv4": Conv2d(c3, c4, 3, padding=1, groups=2), "relu4": ReLU(inplace=True),
        "conv5": Conv2d(c4, c5, 3, padding=1, groups=2), "relu5": ReLU(inplace=True), "pool5": MaxPool2d(3, 2),
    }
    side = c.map_after(Sequential(features))
    return Classifier(features | {
        "flatten": Flatten(),
        "fc6": Linear(c5 * side * side, c(4096)), "relu6": ReLU(inplace=True), "drop6": Dropout(0.5),
        "fc7": Linear(c(4096), c(4096)), "relu7": ReLU(inplace=True), "drop7": Dropout(0.5),
        "fc8": small_start(Linear(c(4096), c.num_classes)),
    }, c.image_size, c.in_channels)


def _one_weird_trick(c: Knobs) -> Classifier:
    c1, c2, c3, c4, c5 = (c(n) for n in (64, 192, 384, 256, 256))
    features = Sequential(
        Conv2d(c.in_channels, c1, 11, stride=4, padding=2), ReLU(inplace=True), MaxPool2d(3, 2),
        Conv2d(c1, c2, 5, padding=2), ReLU(inplace=True), MaxPool2d(3, 2),
        Conv2d(c2, c3, 3, padding=1), ReLU(inplace=True),
        Conv2d(c3, c4, 3, padding=1), ReLU(inplace=True),
        Conv2d(c4, c5, 3, padding=1), ReLU(inplace=True), MaxPool2d(3, 2))
    side = c.map_after(features)
    return Classifier({
        "features": features, "avgpool": AdaptiveAvgPool2d(side), "flatten": Flatten(),
        "classifier": Sequential(
            Dropout(0.5), Linear(c5 * side * side, c(4096)), ReLU(inplace=True),
            Dropout(0.5), Linear(c(4096), c(4096)), ReLU(inplace=True),
            small_start(Linear(c(4096), c.num_classes))),
    }, c.image_size, c.in_channels)
