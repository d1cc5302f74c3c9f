"""The default network as torchvision builds it, without torchvision, whose import takes longer."""

import torch
from torch import nn

# of each stage: by how much its blocks are wider inside, channels out, blocks, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FIRST, LAST, CLASSES = 32, 1280, 1000


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; added to what came where shapes allow it."""

    def __init__(self, inside: int, outside: int, stride: int, wider: int) -> None:
        super().__init__()
        hidden = inside * wider
        widen = [_convolution(inside, hidden, 1)] if wider > 1 else []
        self.conv = nn.Sequential(
            *widen,
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.adds = stride == 1 and inside == outside

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.conv(images) if self.adds else self.conv(images)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018, https://arxiv.org/abs/1801.04381, with torchvision's names and start.

    Its layers, its tensors, and what a seed fills them with are those of
    `torchvision.models.mobilenet_v2`.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, FIRST, 3, 2)]
        inside = FIRST
        for wider, outside, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inside, outside, 1 if block else stride, wider))
                inside = outside
        self.features = nn.Sequential(*layers, _convolution(inside, LAST, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST, CLASSES))
        for module in self.modules():
            _fill(module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = nn.functional.adaptive_avg_pool2d(self.features(images), (1, 1))
        return self.classifier(torch.flatten(maps, 1))


def _convolution(
    inside: int, outside: int, side: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU6(inplace=True))


def _fill(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)
