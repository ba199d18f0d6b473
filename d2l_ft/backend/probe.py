"""What the parity proof needs of a framework in addition to what training needs.

A backend's package has these functions in its module ``probe``.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from d2l_ft.backend.protocol import Backend, Placed
from d2l_ft.backend.registry import module_of
from d2l_ft.data.transforms import Box
from d2l_ft.errors import ParityError
from d2l_ft.models.state import State
from d2l_ft.optim.recipe import Recipe


class Probe(Protocol):
    """A framework's side of the proof; a module with these names satisfies it."""

    STACKS: Sequence[str]
    BOOK_ARCH: str

    def prepare(self, net: Any, dtype: str = 'float64', *, strict: bool = True) -> Any:
        """Cast a net, switch its dropout off and, if strict, give its BatchNorm MXNet's rules."""
        ...

    def round_rates(self, trainer: Any) -> None:
        """Round rate, decay, momentum and 1 / batch size to float32, as MXNet takes them."""
        ...

    def feature_maps(self, net: Any, batch: Any, *, train: bool = False) -> State:
        """Return canonical layer name -> output, in the order of execution."""
        ...

    def losses(self, net: Any, batch: Any) -> NDArray[Any]:
        """Return the cross-entropy of each example in eval mode, (batch,)."""
        ...

    def gradients(self, net: Any, trainer: Any) -> State:
        """Return canonical name -> the gradient that the last step was taken from."""
        ...

    def multipliers(self, net: Any, trainer: Any) -> dict[str, tuple[float, float]]:
        """Return canonical name -> (rate, weight decay), as multiples of the smallest ones."""
        ...

    def head_layout(self, net: Any) -> dict[str, Any]:
        """Return 'kind' ('dense' or 'conv'), 'inputs' and 'outputs' of the output layer."""
        ...

    def batch_norms(self, net: Any) -> list[Any]:
        """Return the framework's BatchNorm layers."""
        ...

    def split(self, placed: Placed, batch: Any) -> list[NDArray[Any]]:
        """Return the images of a batch that go to each device of a placed net."""
        ...

    def round_differently(self) -> AbstractContextManager[None]:
        """Compute with kernels that round differently, if the framework has any."""
        ...

    def decode(self, path: str) -> NDArray[Any]:
        """Return a file's (h, w, 3) RGB by the framework's own reader."""
        ...

    def train_transform(
        self, path: str, box: Box, *, flip: bool, size: int, stack: str
    ) -> dict[str, Any]:
        """Return 'crop' and 'float' by the framework's own transforms, one of STACKS."""
        ...

    def eval_transform(self, path: str, side: int, size: int, stack: str) -> dict[str, Any]:
        """Return 'crop' and 'float' by the framework's own Resize and CenterCrop."""
        ...

    def center_edges(self, sides: Sequence[int], size: int) -> list[int]:
        """Return where the framework's own CenterCrop begins in squares of these sides."""
        ...

    def draw_crops_and_flips(
        self, height: int, width: int, count: int, seed: int
    ) -> tuple[NDArray[Any], int]:
        """Return (count, 4) crops and the number of flips, of the framework's own transforms."""
        ...

    def train_as_book(self, state: State, batches: list[Any], recipe: Recipe, epochs: int) -> State:
        """Train with the book's own package, as its tab prints it; return the state after it."""
        ...


class NoAnimator:
    """Replaces the book's Animator, which needs a notebook."""

    def __init__(self, **_: Any) -> None:
        pass

    def add(self, *_: Any) -> None:
        """Draw nothing."""


def get_probe(backend: Backend) -> Probe:
    """Return the probe of a backend.

    Raises:
        ParityError: The backend's package has none.
    """
    probe = module_of(backend, 'probe')
    if probe is None:
        raise ParityError(f'the backend {backend.NAME} has no module probe, which the proof needs')
    return cast(Probe, probe)
