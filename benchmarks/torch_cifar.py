"""PyTorch's side of train_step.py for the CIFAR networks, which timm does not have: images (B, 3, 32, 32) -> logits."""

from torch import nn
from torch.nn import functional as F


def conv(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)


class Basic(nn.Module):
    """The unit of He et al. 2016, with the shortcut that pads with zeros (option A)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = conv(channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.stride, self.missing = stride, width - channels

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.missing:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
        return F.relu(x + y, inplace=True)


class WideBasic(nn.Module):
    """The pre-activation unit of Zagoruyko and Komodakis 2016."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), conv(channels, width, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, 3)
        self.shortcut = conv(channels, width, 1, stride) if channels != width else None

    def forward(self, x):
        a = F.relu(self.norm1(x), inplace=True)
        y = self.conv2(F.relu(self.norm2(self.conv1(a)), inplace=True))
        return y + (x if self.shortcut is None else self.shortcut(a))


def stages(unit: type[nn.Module], units: int, width: int) -> nn.Sequential:
    """Three stages of 1, 2 and 4 times ``width`` channels, after a stem of 16."""
    layers, channels = [], 16
    for s in range(3):
        for u in range(units):
            layers.append(unit(channels, width << s, 2 if s and not u else 1))
            channels = width << s
    return nn.Sequential(*layers)


def pool_and_head(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]


def resnet20(num_classes: int) -> nn.Module:
    stem = [conv(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, stages(Basic, 3, 16), *pool_and_head(64, num_classes))


def wrn_28_10(num_classes: int) -> nn.Module:
    last = [nn.BatchNorm2d(640), nn.ReLU(inplace=True)]
    return nn.Sequential(conv(3, 16, 3), stages(WideBasic, 4, 160), *last, *pool_and_head(640, num_classes))


def create_model(name: str, num_classes: int) -> nn.Module:
    return {"resnet20": resnet20, "wrn_28_10": wrn_28_10}[name](num_classes)
