"""A state: the parameters and running statistics of a net, by their canonical names."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture, is_head

State = dict[str, NDArray[np.float32]]
"""Canonical parameter name -> float32 C-order array."""


def check_state(
    state: Mapping[str, NDArray[np.float32]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that a state has exactly the names and shapes of a net.

    Raises:
        ModelError: A name is missing, unknown or has another shape; it names the first.
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
            raise ModelError(f'the state has {name!r}, which the net does not have')


def find_problem(state: Mapping[str, NDArray[np.float32]]) -> str:
    """Return why no net can compute with a state, as a text that names the first array, or ''.

    Reasons are values that are not finite, and running variances below 0, which have no root.
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
