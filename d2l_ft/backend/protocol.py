"""The interface of a backend, and the types that it takes and returns.

Nets, trainers, devices and batches are the framework's own objects, so they are ``Any`` here.
Everything else is a NumPy array or one of the small classes below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from d2l_ft.data.protocol import LoaderFactory
from d2l_ft.models.state import State
from d2l_ft.optim.recipe import Recipe


@dataclass(frozen=True)
class Sums:
    """Sums over examples; they stay on the device until ``float`` reads them.

    Attributes:
        loss: Sum of the per-example losses; a scalar of the framework.
        correct: Number of examples whose largest logit is the label's; a scalar of the framework.
        examples: Number of examples.

    Example:
        >>> backend = d2l.get_backend()
        >>> _, test_iter = d2l.load_data('photos').loaders(backend, 8, image_size=48)
        >>> sums = backend.evaluate(backend.place(d2l.load_run('runs/mine').net()), test_iter)
        >>> sums.examples
        4
    """

    loss: Any
    correct: Any
    examples: int


class Placed(Protocol):
    """A net with its devices and precision; ``Backend.place`` returns it.

    ``build_net``, ``freeze`` and ``head`` are about the structure of a net and take the net. All
    functions that compute with it, or read or set its state, take a ``Placed``.
    """

    @property
    def net(self) -> Any:
        """The framework's own net."""
        ...

    @property
    def devices(self) -> Sequence[Any]:
        """Its devices, with a replica on each."""
        ...

    @property
    def precision(self) -> str:
        """The precision in which it computes: 'float32' or 'bfloat16'."""
        ...


class Backend(LoaderFactory, Protocol):
    """The interface of a backend; a module with these names, and ``loader``, satisfies it.

    Example:
        >>> import numpy as np
        >>> backend = d2l.get_backend()
        >>> placed = backend.place(backend.build_net('resnet18', 2), backend.devices('cpu'))
        >>> batch = backend.to_batch(np.zeros((4, 3, 48, 48), np.float32), np.zeros(4, np.int64))
        >>> backend.logits(placed, batch).shape
        (4, 2)
    """

    NAME: str
    FRAMEWORK: str

    def devices(self, request: str = 'auto') -> list[Any]:
        """Return the framework's devices for a request as ``parse_devices`` reads it.

        Raises:
            DeviceError: The request cannot be read, or a GPU in it does not exist.
        """
        ...

    def is_gpu(self, device: Any) -> bool:
        """Tell whether one of ``devices`` is a GPU."""
        ...

    def threads(self) -> int:
        """Return the number of threads on which the framework computes."""
        ...

    def seed(self, value: int) -> None:
        """Seed the framework's own random generators (only dropout draws from them)."""
        ...

    def to_batch(self, images: NDArray[Any], labels: NDArray[Any]) -> Any:
        """Return (images, labels) as the framework's tensors; dtypes are kept.

        Args:
            images: (batch, 3, height, width), float32 or float64.
            labels: (batch,), integers.
        """
        ...

    def build_net(
        self,
        arch: str,
        classes: int,
        source: Mapping[str, NDArray[Any]] | None = None,
        seed: int = 0,
    ) -> Any:
        """Return a net on the CPU.

        Args:
            arch: A name of ``ARCHITECTURES``.
            classes: Outputs of the head.
            source: State whose body is copied, not its head, which may have any size. None draws
                the whole net.
            seed: Seed of ``initial_state``, for the parameters that are not copied.

        Raises:
            ModelError: Unknown architecture, or the source's body does not fit.
        """
        ...

    def freeze(self, net: Any) -> None:
        """Train the head alone: the body gets no gradient, its BatchNorm stays in eval mode."""
        ...

    def head(self, net: Any) -> Any:
        """Return the output layer, the framework's own object.

        Raises:
            ModelError: The net has no output layer under a known name.
        """
        ...

    def place(
        self,
        net: Any,
        devices: Sequence[Any] | None = None,
        precision: str = 'float32',
        *,
        channels_last: bool | None = None,
    ) -> Placed:
        """Put the net on the devices, with a replica on each.

        If a net is placed again, only the result of the last call may be used. The net itself has
        the mean of the replicas' running statistics after ``get_state`` or ``evaluate``.

        Args:
            net: A net of the framework, ours or the user's.
            devices: Some of ``devices``; None is the net's present device.
            precision: 'float32' uses nothing less precise; 'bfloat16' uses bfloat16 where
                possible; 'auto' leaves the choice to the backend.
            channels_last: Whether images lie in memory with the channels last, if the framework
                lets one choose: it is faster, and sums are rounded differently. None is True
                unless the precision is 'float32'.

        Raises:
            DeviceError: The framework or the device can't compute in that precision.
        """
        ...

    def build_trainer(self, placed: Placed, recipe: Recipe) -> Any:
        """Return SGD over the net's trainable parameters, the head at ``head_lr_mult``.

        Raises:
            ModelError: A group (body or head) is empty while the multiplier needs two groups,
                or a parameter is in both.
        """
        ...

    def set_rate(self, trainer: Any, learning_rate: float) -> None:
        """Set the body's rate of a trainer of ``build_trainer``; the head keeps its multiple."""
        ...

    def train_step(
        self, placed: Placed, trainer: Any, batch: Any, loss: Any = None, reduction: str = 'mean'
    ) -> Sums:
        """Take one step on every device of the net.

        Args:
            placed: From ``place``.
            trainer: From ``build_trainer``, or the framework's own.
            batch: (images, labels) as a loader yields them.
            loss: The framework's loss object that gives one value per example; None is
                softmax cross-entropy.
            reduction: 'mean': the gradient is that of the mean loss over the whole batch, however
                it is split; 'sum': that of the sum; 'book': that of the book's tab for this
                framework, whatever the loss returns.

        Returns:
            Sums of this batch before the step.
        """
        ...

    def evaluate(self, placed: Placed, loader: Any) -> Sums:
        """Return the sums of cross-entropy and correct predictions over a loader, in eval mode.

        All replicas get the mean of their running statistics first. The loss is not finite if a
        value inside a net of ``build_net`` was not.
        """
        ...

    def logits(self, placed: Placed, batch: Any) -> NDArray[Any]:
        """Return (batch, classes) logits in eval mode, float32 (float64 for a float64 net).

        The logits of an example are not finite if a value inside a net of ``build_net`` was not,
        even if a ReLU turned that value into 0.
        """
        ...

    def predict(self, placed: Placed, loader: Any) -> NDArray[Any]:
        """Return the ``logits`` of all images of a loader, of at least one, (images, classes)."""
        ...

    def features(self, placed: Placed, loader: Any) -> NDArray[Any]:
        """Return the features of all images of a loader, the input of the head, in eval mode.

        ``head(net)`` can be placed and trained like a net, on batches of features, with the same
        result as the net with a frozen body on the images.

        Returns:
            (images, width of the head's input), float32 (float64 for a float64 net).

        Raises:
            ModelError: The head's input is random in training (the net has dropout), or is no
                vector.
        """
        ...

    def get_state(self, placed: Placed) -> State:
        """Return a copy of every parameter and running statistic.

        All replicas get the mean of their running statistics first.
        """
        ...

    def set_state(self, placed: Placed, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every parameter and running statistic on every device, all or nothing.

        Raises:
            ModelError: A name or shape is missing, unknown or different.
        """
        ...

    def get_trainer_state(self, placed: Placed, trainer: Any) -> State:
        """Return the trainer's state: canonical name -> velocity (rate x momentum buffer)."""
        ...

    def set_trainer_state(
        self, placed: Placed, trainer: Any, state: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore the result of ``get_trainer_state``; ``{}`` clears the trainer's state.

        Raises:
            ModelError: A name or shape does not fit, or the trainer is not plain SGD.
        """
        ...
