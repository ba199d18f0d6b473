"""The architectures as data: name, output layer, smallest image.

The same name is the same function in both frameworks. Canonical parameter names are
torchvision's; those of ``resnet18_v2``, which torchvision lacks, are Gluon's structural names
with gamma and beta called weight and bias.
"""

from dataclasses import dataclass

from d2l_ft.errors import OptionError

MEAN = (0.485, 0.456, 0.406)

STD = (0.229, 0.224, 0.225)
"""Channel means and deviations of ImageNet for pixels in [0, 1], RGB, as both zoos use them."""


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        name: The name on the command line.
        head: Prefix of the canonical names of the output layer's parameters.
        features: Inputs of the output layer.
        smallest: Smallest image side, in pixels, that the net takes.
        alone: Smallest image side at which BatchNorm can train on a batch of one image, because
            its last feature map has more than one pixel; 0 without BatchNorm.
        kernel: Kernel size of an output layer that is a convolution; () for a dense one.
    """

    name: str
    head: str
    features: int
    # five halvings: at 32 pixels the last feature map is 1 x 1, above that at least 2 x 2
    smallest: int = 32
    alone: int = 33
    kernel: tuple[int, ...] = ()


ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture('resnet18', 'fc', 512),
        Architecture('resnet34', 'fc', 512),
        Architecture('resnet50', 'fc', 2048),
        Architecture('resnet18_v2', 'output', 512),
        Architecture('mobilenet_v2', 'classifier.1', 1280),
        Architecture('vgg11', 'classifier.6', 4096, alone=0),
        Architecture('densenet121', 'classifier', 1024, alone=61),
        Architecture('squeezenet1_1', 'classifier.1', 512, alone=0, kernel=(1, 1)),
    )
}


def architecture(name: str) -> Architecture:
    """Return the architecture of a name.

    Raises:
        OptionError: There is none.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise OptionError(
            f'unknown architecture {name!r}: choose one of {", ".join(ARCHITECTURES)}'
        ) from None


def is_head(name: str, head: str) -> bool:
    """Tell whether a canonical parameter name belongs to the head of that prefix."""
    return name.startswith(head + '.')
