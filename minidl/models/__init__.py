"""Networks, each in the words of its paper's table."""
from minidl.models.mini import MINI_NETS, mini_inception, mini_resnet, mini_vgg

__all__ = ["MINI_NETS", "mini_inception", "mini_resnet", "mini_vgg"]
