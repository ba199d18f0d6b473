"""The net of the book's chapter on several GPUs."""

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two convolutions with a shortcut; the names of the layers are the book's.

    Args:
        input_channels: Channels of the input.
        num_channels: Channels of the output.
        use_1x1conv: Whether the shortcut has a 1 x 1 convolution.
        strides: Stride of the first convolution and of the shortcut's.
    """

    def __init__(
        self, input_channels: int, num_channels: int, use_1x1conv: bool = False, strides: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_channels, num_channels, 3, strides, 1)
        self.conv2 = nn.Conv2d(num_channels, num_channels, 3, 1, 1)
        self.conv3 = nn.Conv2d(input_channels, num_channels, 1, strides) if use_1x1conv else None
        self.bn1, self.bn2 = nn.BatchNorm2d(num_channels), nn.BatchNorm2d(num_channels)

    def forward(self, X: Tensor) -> Tensor:
        """Return (batch, num_channels, height / strides, width / strides)."""
        Y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(X)))))
        return F.relu(Y + (self.conv3(X) if self.conv3 else X))


def resnet18(num_classes: int, in_channels: int | None = None) -> nn.Sequential:
    """Return the book's ResNet-18 for small images.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the images; None is 1.
    """
    net = nn.Sequential(nn.Conv2d(in_channels or 1, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.ReLU())
    before = 64
    for stage, channels in enumerate((64, 128, 256, 512)):
        first = Residual(before, channels, stage > 0, 2 if stage else 1)
        part = nn.Sequential(first, Residual(channels, channels))
        net.add_module(f'resnet_block{stage + 1}', part)
        before = channels
    net.add_module('global_avg_pool', nn.AdaptiveAvgPool2d((1, 1)))
    net.add_module('fc', nn.Sequential(nn.Flatten(), nn.Linear(512, num_classes)))
    return net
