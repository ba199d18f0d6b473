"""The architectures as data: where the head lies, and the draw that initialises every net.

The same name is the same function in both frameworks. Canonical parameter names are
torchvision's; those of ``resnet18_v2``, which torchvision lacks, are Gluon's structural names
with gamma and beta called weight and bias.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import ModelError

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
        alone: Smallest image side at which BatchNorm can train on one image, as it sees more than
            one value of it; 0 without BatchNorm.
        kernel: Of an output layer that is a convolution; () for a dense one.
    """

    name: str
    head: str
    features: int
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
        ModelError: There is none.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise ModelError(
            f'unknown architecture {name!r}: choose one of {", ".join(ARCHITECTURES)}'
        ) from None


def is_head(name: str, head: str) -> bool:
    """Tell whether a canonical parameter name belongs to the head of that prefix."""
    return name.startswith(head + '.')


def draw_parameter(
    name: str, shape: tuple[int, ...], number: int, seed: int
) -> NDArray[np.float32]:
    """Draw one parameter or running statistic of a fresh net.

    Weights of two or more axes are Xavier-uniform (Glorot and Bengio 2010, equation 16): the
    bound is sqrt(6 / (fan_in + fan_out)), fans counted with the kernel's area; so do Gluon's
    Xavier() and PyTorch's xavier_uniform_. Scales and running variances are 1, all else is 0.

    Args:
        name: Canonical name; only its last part is looked at.
        shape: Shape of the parameter; (outputs, inputs, ...) for a weight.
        number: Position in the net's state: each parameter has a stream of its own, so a head of
            another size changes no other draw.
        seed: Seed of the net.
    """
    kind = name.rsplit('.', 1)[-1]
    if kind == 'weight' and len(shape) > 1:
        area = int(np.prod(shape[2:]))
        bound = np.sqrt(6.0 / ((shape[0] + shape[1]) * area))
        generator = np.random.Generator(np.random.Philox(key=seed, counter=(0, 0, number, 0)))
        uniform = generator.random(shape, dtype=np.float32)
        uniform *= np.float32(2 * bound)
        uniform -= np.float32(bound)
        return uniform
    one = kind in ('weight', 'running_var')
    return np.full(shape, 1.0 if one else 0.0, dtype=np.float32)


def initial_state(
    arch: str, shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Draw every parameter of a net, the same numbers in every framework.

    Args:
        arch: Name of the architecture, for the error.
        shapes: Canonical name -> shape of every parameter and running statistic. The streams go
            by the sorted names, so the order in which a framework lists them is of no account.
        seed: Seed of the draw.

    Raises:
        ModelError: The head's weight is not among the names.
    """
    head = architecture(arch).head
    if f'{head}.weight' not in shapes:
        raise ModelError(f'{arch} has no output layer named {head!r}')
    return {
        name: draw_parameter(name, tuple(shapes[name]), number, seed)
        for number, name in enumerate(sorted(shapes))
    }


def check_state(
    state: Mapping[str, NDArray[np.float32]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that a state has just the names and shapes of a net.

    Raises:
        ModelError: The first name that is missing, unknown or of another shape.
    """
    for name in shapes:
        if name not in state:
            raise ModelError(f'the state has no {name!r}, which the net needs')
        if tuple(state[name].shape) != tuple(shapes[name]):
            raise ModelError(
                f'{name!r} is {tuple(state[name].shape)} in the state, '
                f'{tuple(shapes[name])} in the net'
            )
    for name in state:
        if name not in shapes:
            raise ModelError(f'the state has {name!r}, which the net has not')


def unusable(state: Mapping[str, NDArray[np.float32]]) -> str:
    """Return what in a state no net can compute with, or nothing: one text, that names it.

    That is what is not finite, and a running variance below 0, whose root is not a number.
    """
    for name, array in state.items():
        if not np.isfinite(array).all():
            return f'{name} has values that are not finite'
        if name.endswith('running_var') and (array < 0).any():
            return f'{name} has variances below 0'
    return ''


def merge_source(
    arch: str,
    fresh: Mapping[str, NDArray[np.float32]],
    source: Mapping[str, NDArray[np.float32]] | None,
) -> dict[str, NDArray[np.float32]]:
    """Return the fresh state with the body of a source state in it; the head stays fresh.

    Raises:
        ModelError: The source's body lacks a parameter, or has another shape.
    """
    if source is None:
        return dict(fresh)
    head = architecture(arch).head
    body = {name: array.shape for name, array in fresh.items() if not is_head(name, head)}
    try:
        check_state(
            {name: array for name, array in source.items() if not is_head(name, head)}, body
        )
    except ModelError as error:
        raise ModelError(f'the source is no {arch}: {error}') from None
    return {name: source[name] if name in body else array for name, array in fresh.items()}
