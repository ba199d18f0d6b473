"""A net of MXNet's graph in a framework: what the proof of a translation asks of both sides.

A backend's package has the class ``GraphNet`` in its module ``graph_net``: in MXNet it runs the
symbol itself, in PyTorch the module that was written for it. Names are MXNet's on both sides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from d2l_ft.backend.protocol import Backend
from d2l_ft.backend.registry import module_of

Arrays = dict[str, NDArray[Any]]


class GraphNet(Protocol):
    """A net that computes in one floating type and takes and gives NumPy arrays."""

    parameters: Sequence[str]
    """Names of what learns."""

    rounds: bool
    """Whether it rounds to float32 inside some operators, as MXNet does also with float64: the
    translation's net can be told not to, MXNet's cannot."""

    @property
    def pooled(self) -> int:
        """Return the most values of which the net takes a mean; only the translation's knows it."""
        ...

    scaled: frozenset[str]
    """Parameters whose gradient comes out times their value: the defect of MXNet's PReLU, which
    the translation's net can be told to have."""

    def forward(self, inputs: Mapping[str, NDArray[Any]], *, train: bool, nodes: bool) -> Arrays:
        """Return node -> value.

        Args:
            inputs: Name -> array.
            train: Whether it computes as in training; dropout is off all the same.
            nodes: Whether the values of all nodes are wanted, instead of the outputs alone.
        """
        ...

    def backward(self, gradients: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return parameter or input -> gradient, after ``forward`` in training.

        Args:
            gradients: Output -> the loss's gradient.
        """
        ...

    def arrays(self) -> Arrays:
        """Return a copy of every parameter and running statistic, by name."""
        ...

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set some of the parameters and running statistics."""
        ...


Maker = Callable[[str], GraphNet]
"""What makes a net of a floating type: 'float32' or 'float64'."""


def graph_nets(backend: Backend) -> Any:
    """Return a backend's module ``graph_net``."""
    return module_of(backend, 'graph_net')
