"""The draw that initialises every net, the same numbers in both frameworks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture


def draw_parameter(
    name: str, shape: tuple[int, ...], number: int, seed: int
) -> NDArray[np.float32]:
    """Draw one parameter or running statistic of a fresh net.

    Weights of two or more axes are Xavier-uniform (Glorot and Bengio 2010, equation 16): the
    bound is sqrt(6 / (fan_in + fan_out)), fans counted with the kernel's area, as in Gluon's
    Xavier() and PyTorch's xavier_uniform_. Scales and running variances are 1, the rest is 0.

    Args:
        name: Canonical name; only its last part is looked at.
        shape: Shape of the parameter; (outputs, inputs, ...) for a weight.
        number: Position in the net's state: each parameter has its own random stream, so a head
            of another size changes no other draw.
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
            by the sorted names, so the order in which a framework lists them does not matter.
        seed: Seed of the draw.

    Raises:
        ModelError: The head's weight is not among the names.
    """
    wanted = architecture(arch)
    if f'{wanted.head}.weight' not in shapes:
        raise ModelError(f'{arch} has no output layer named {wanted.head!r}')
    state = {
        name: draw_parameter(name, tuple(shapes[name]), number, seed)
        for number, name in enumerate(sorted(shapes))
    }
    if wanted.definition is not None:
        for name, value in wanted.definition.starts.items():
            state[name] = np.full(shapes[name], value, np.float32)
    return state
