"""Networks that belong to nobody but a test, as a user's file has them."""

NETS = '''
"""A residual network, and some that are none."""

import torch
from torch import nn

from facenet_ext.models import register

print("nets is imported")


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.drop = nn.Dropout(0.1)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        out = out + (x if self.downsample is None else self.downsample(x))
        return self.drop(torch.relu(out))


class ResNet(nn.Module):
    def __init__(self, channels, embedding_dim, width):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.layer1 = nn.Sequential(Block(width, width, 1), Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, embedding_dim)

    def forward(self, x):
        return self.fc(self.pool(self.layer2(self.layer1(self.stem(x)))).flatten(1))


@register("tiny-resnet")
def resnet(channels, embedding_dim, width):
    return ResNet(channels, embedding_dim, width)


class Flat(nn.Module):
    """Takes no options, and says ``view`` where others say ``flatten``."""

    def __init__(self, dim=8, inside=None):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, 2)
        self.fc = nn.Linear(4 * 7 * 7, dim)

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(x.shape[0], -1))


class Features(nn.Module):
    def __init__(self, input_shape, embedding_dim):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(torch.Size(input_shape).numel(), embedding_dim)

    def forward(self, x):
        return self.fc(self.flatten(x))


def needs_depth(depth, heads, embedding_dim):
    return ResNet(1, embedding_dim, 4)


def fails(width):
    raise KeyError("no weights here")


def no_module():
    return "resnet"


class Tuple(Flat):
    def forward(self, x):
        return x, x


class Branching(Features):
    """Decides by its input, which ONNX cannot."""

    def forward(self, x):
        return super().forward(x if float(x.sum()) < 1e9 else -x)


class Map(Flat):
    def forward(self, x):
        return self.conv(x)


class Empty(nn.Module):
    def forward(self, x):
        return x.flatten(1)


def other_size(embedding_dim):
    return Features((1, 16, 16), embedding_dim + 1)


value = 3
'''
"""The text of a module nets.py."""
