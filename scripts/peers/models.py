"""The networks of kd-models in PyTorch: the same layers in the same order, with the same number of parameters.

    python scripts/peers/models.py          prints name, parameters and shape of one image

An architecture is chosen by kd-models' name: lenet5, resnetN, wrnN-K, mobilenetv2, mlp:A,B,...
"""

import re

import torch
import torch.nn.functional as F
from torch import nn

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


def conv(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class ConvNorm(nn.Sequential):
    def __init__(self, inputs, outputs, kernel, stride=1, groups=1):
        super().__init__(conv(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs))


class LeNet5(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, classes)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Mlp(nn.Module):
    def __init__(self, hidden, classes=10):
        super().__init__()
        widths = [784, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.output = nn.Linear(widths[-1], classes)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.output(x)


class BasicBlock(nn.Module):
    """Shortcuts without parameters: every second position, missing channels are zeros on both sides."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(inputs, outputs, 3, stride), ConvNorm(outputs, outputs, 3)
        self.stride, self.widen = stride, outputs - inputs

    def forward(self, x):
        y = self.conv2(F.relu(self.conv1(x)))
        if self.stride > 1 or self.widen:
            before = self.widen // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.widen - before))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, depth, classes=10):
        super().__init__()
        blocks = (depth - 2) // 6
        self.stem = ConvNorm(3, 16, 3)
        layers, inputs = [], 16
        for outputs, stride in ((16, 1), (32, 2), (64, 2)):
            for block in range(blocks):
                layers.append(BasicBlock(inputs, outputs, stride if block == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = self.blocks(F.relu(self.stem(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class PreactBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        changes = stride > 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, 1, stride) if changes else None

    def forward(self, x):
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes=10):
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = conv(3, 16, 3)
        layers, inputs = [], 16
        for outputs, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for block in range(blocks):
                layers.append(PreactBlock(inputs, outputs, stride if block == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.bn1, self.fc = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.blocks(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride):
        super().__init__()
        wide = inputs * expansion
        self.expand, self.depthwise = ConvNorm(inputs, wide, 1), ConvNorm(wide, wide, 3, stride, groups=wide)
        self.project = ConvNorm(wide, outputs, 1)
        self.residual = stride == 1
        self.shortcut = ConvNorm(inputs, outputs, 1) if self.residual and inputs != outputs else None

    def forward(self, x):
        y = self.project(F.relu(self.depthwise(F.relu(self.expand(x)))))
        if self.shortcut is not None:
            return y + self.shortcut(x)
        return y + x if self.residual else y


class MobileNetV2(nn.Module):
    STAGES = (
        (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )

    def __init__(self, classes=10):
        super().__init__()
        self.stem = ConvNorm(3, 32, 3)
        layers, inputs = [], 32
        for expansion, outputs, blocks, stride in self.STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, expansion, stride if block == 0 else 1))
                inputs = outputs
        self.blocks, self.head = nn.Sequential(*layers), ConvNorm(inputs, 1280, 1)
        self.linear = nn.Linear(1280, classes)

    def forward(self, x):
        x = F.relu(self.head(self.blocks(F.relu(self.stem(x)))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build(name):
    """The network of that name and the shape of one image."""
    if name == "lenet5":
        return LeNet5(), MNIST
    if name == "mobilenetv2":
        return MobileNetV2(), CIFAR
    if found := re.fullmatch(r"resnet(\d+)", name):
        return ResNet(int(found[1])), CIFAR
    if found := re.fullmatch(r"wrn(\d+)-(\d+)", name):
        return WideResNet(int(found[1]), int(found[2])), CIFAR
    if found := re.fullmatch(r"mlp:(\d+(?:,\d+)*)", name):
        return Mlp([int(width) for width in found[1].split(",")]), MNIST
    raise ValueError(f"no model `{name}`: lenet5, resnetN, wrnN-K, mobilenetv2 or mlp:A,B,...")


def parameter_count(model):
    """What training sets: running means and variances don't count."""
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    for name in ("lenet5", "resnet20", "mobilenetv2", "wrn16-2", "mlp:1200,1200"):
        model, shape = build(name)
        with torch.inference_mode():
            classes = model.eval()(torch.zeros(2, *shape)).shape[1]
        print(f"{name:<14} {parameter_count(model):>9} parameters, image {shape}, {classes} classes")
