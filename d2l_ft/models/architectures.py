"""The architectures as data: name, output layer, smallest image.

The same name is the same function in both frameworks. Canonical parameter names are
torchvision's; those of ``resnet18_v2``, which torchvision lacks, are Gluon's structural names
with gamma and beta called weight and bias. A net that was converted from MXNet is one more
architecture, after ``add_architecture``; its names are those of its translation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from d2l_ft.errors import OptionError

MEAN = (0.485, 0.456, 0.406)

STD = (0.229, 0.224, 0.225)
"""Channel means and deviations of ImageNet for pixels in [0, 1], RGB, as both zoos use them."""


@dataclass(frozen=True)
class Definition:
    """The definition of a net that neither framework has: its graph, and the same as PyTorch.

    Attributes:
        record: JSON from which it can be made again.
        body: JSON of a symbol file of MXNet: what comes before the output layer.
        tail: JSON of what comes after it, with the input 'head'; '' for nothing.
        images: The name of the body's only input.
        source: Python source with PyTorch's module as its class ``Model``.
        names: Canonical name -> MXNet's name of each parameter and running statistic.
        shapes: Canonical name -> shape of the same.
        fixed: Canonical names of the parameters that do not learn: a BatchNorm's scale of 1.
        starts: Canonical name -> the value with which a parameter starts in a net from scratch,
            where its name does not say it.
    """

    record: str
    body: str
    tail: str
    images: str
    source: str
    names: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    fixed: frozenset[str] = frozenset()
    starts: Mapping[str, float] = field(default_factory=dict)


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
        image_size: Side of the images that the net is made for; 0 if any will do.
        mean, std: Channel means and deviations for pixels in [0, 1], RGB.
        bgr: Whether the net takes blue, green, red instead.
        definition: Of a converted net.
    """

    name: str
    head: str
    features: int
    # five halvings: at 32 pixels the last feature map is 1 x 1, above that at least 2 x 2
    smallest: int = 32
    alone: int = 33
    kernel: tuple[int, ...] = ()
    image_size: int = 0
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    bgr: bool = False
    definition: Definition | None = None

    @property
    def preparation(self) -> dict[str, Any]:
        """How images become the net's input: the arguments of ``Pipeline`` that say it."""
        return {'mean': self.mean, 'std': self.std, 'bgr': self.bgr}


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

ADDED: dict[str, Architecture] = {}
"""Name -> converted net of this process; a name has the hash of its graph, so it never changes."""


def add_architecture(new: Architecture) -> None:
    """Let ``architecture`` know a converted net."""
    ADDED[new.name] = new


def architecture(name: str) -> Architecture:
    """Return the architecture of a name.

    Raises:
        OptionError: There is none.
    """
    found = ARCHITECTURES.get(name) or ADDED.get(name)
    if found is None:
        raise OptionError(
            f'unknown architecture {name!r}: choose one of {", ".join(ARCHITECTURES)}, or a folder '
            'that  d2l-ft convert  wrote'
        )
    return found


def is_head(name: str, head: str) -> bool:
    """Tell whether a canonical parameter name belongs to the head of that prefix."""
    return name.startswith(head + '.')
