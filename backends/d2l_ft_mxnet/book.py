"""The net of the book's chapter on several GPUs."""

from typing import Any

from mxnet.gluon import nn


class Residual(nn.HybridBlock):
    """Two convolutions with a shortcut; the names of the layers are the book's.

    Args:
        num_channels: Channels of the output.
        use_1x1conv: Whether the shortcut has a 1 x 1 convolution.
        strides: Stride of the first convolution and of the shortcut's.
    """

    def __init__(self, num_channels: int, use_1x1conv: bool = False, strides: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(num_channels, 3, strides, 1)
        self.conv2 = nn.Conv2D(num_channels, 3, 1, 1)
        self.conv3 = nn.Conv2D(num_channels, 1, strides) if use_1x1conv else None
        self.bn1, self.bn2 = nn.BatchNorm(), nn.BatchNorm()
        self.relu = nn.Activation('relu')

    def hybrid_forward(self, F: Any, X: Any) -> Any:
        """Return (batch, num_channels, height / strides, width / strides)."""
        Y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(X)))))
        return self.relu(Y + (self.conv3(X) if self.conv3 else X))


def resnet18(num_classes: int, in_channels: int | None = None) -> nn.HybridSequential:
    """Return the book's ResNet-18 for small images, not initialized.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the images; None takes those of the first batch.
    """
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(64, 3, 1, 1, in_channels=in_channels or 0),
        nn.BatchNorm(),
        nn.Activation('relu'),
    )
    for stage, channels in enumerate((64, 128, 256, 512)):
        part = nn.HybridSequential()
        part.add(Residual(channels, stage > 0, 2 if stage else 1), Residual(channels))
        net.add(part)
    net.add(nn.GlobalAvgPool2D(), nn.Dense(num_classes))
    return net
