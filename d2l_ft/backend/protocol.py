"""The seam: what a backend must offer, and the little that crosses it.

Nets, trainers, devices and batches are the framework's own objects, so they are ``Any`` here.
Everything else that crosses the seam is NumPy or one of the small classes below.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample
from d2l_ft.models.state import State
from d2l_ft.optim.recipe import Recipe


@dataclass(frozen=True)
class Sums:
    """Sums over examples, which stay on the device until ``float`` reads them.

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


class Loader(Protocol):
    """A sized iterable of batches, one pass an epoch."""

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the epoch that ``set_epoch`` chose."""
        ...

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch (0-based), whose draws depend on it, and the first batch to yield."""
        ...


class Placed(Protocol):
    """A net, where it computes and how; ``Backend.place`` makes it.

    ``build_net``, ``freeze`` and ``head`` take a net, as they are about what it is; all that
    computes with it, or in which its replicas have a part, takes what ``place`` gave.
    """

    @property
    def net(self) -> Any:
        """The framework's own net."""
        ...

    @property
    def devices(self) -> Sequence[Any]:
        """Where it lies, a replica each."""
        ...

    @property
    def precision(self) -> str:
        """In which it computes: 'float32' or 'bfloat16'."""
        ...


class Backend(Protocol):
    """A framework's side of the seam; a module with these names satisfies it.

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
        """Seed the framework's own generators (dropout is all that draws from them)."""
        ...

    def loader(
        self,
        samples: Sequence[Sample],
        pipeline: Any,
        batch_size: int,
        *,
        shuffle: bool = False,
        workers: int = 0,
        seed: int = 0,
        cache: ImageCache | None = None,
        device: Any = None,
    ) -> Loader:
        """Return batches of the samples from the framework's own Dataset and DataLoader.

        Args:
            samples: Checked image files.
            pipeline: A ``Pipeline``, or the framework's own transform (a Compose), which then
                takes the decoded image as that framework's image data sets give it.
            batch_size: Examples a batch; the last may be smaller.
            shuffle: Whether each epoch has its own order, drawn from (seed, epoch).
            workers: Worker processes; 0 decodes in this process. The batches do not depend on it.
            seed: Seed of the order.
            cache: Keeps images of a ``Pipeline`` between epochs. The batches do not depend on it.
            device: One of ``devices``, where the batches shall lie; None is the CPU. A
                ``Pipeline``'s go there as bytes and are standardised there. Their values do not
                depend on it.

        Raises:
            DataError: An image can't be read, or a worker died or hangs.
        """
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
            source: State whose body is copied; its head, of any size, is not. None draws all.
            seed: Seed of ``initial_state``, from which all that is not copied is taken.

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
            ModelError: The net has no output layer in a place that is known.
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
        """Put the net on the devices, a replica each.

        Placing a net again ends what was placed before: go on with what the last call gave. The
        replicas' running statistics are the net's after ``get_state`` or ``evaluate``.

        Args:
            net: A net of the framework, ours or the user's.
            devices: Some of ``devices``; None is where the net lies now.
            precision: 'float32' is strict; 'bfloat16' computes with bfloat16 where it can;
                'auto' leaves the choice to the backend.
            channels_last: Keep images in memory with the channels last, where the framework
                leaves the choice: faster, and sums round otherwise. None does so unless the
                precision is 'float32'.

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
            reduction: 'mean': the gradient is that of the mean over the whole batch, however
                it is split; 'sum': of the sum; 'book': as the book's tab of this framework
                takes it, with whatever the loss gives.

        Returns:
            Sums of this batch before the step.
        """
        ...

    def evaluate(self, placed: Placed, loader: Any) -> Sums:
        """Return the sums of cross-entropy and hits over a loader, in eval mode.

        Running statistics are the mean over the replicas, which all have from here on.
        The loss is not finite where a value in a net of ``build_net`` was not.
        """
        ...

    def logits(self, placed: Placed, batch: Any) -> NDArray[Any]:
        """Return (batch, classes) logits in eval mode, float32 (float64 for a float64 net).

        An example's are not finite where a value in a net of ``build_net`` was not, also behind a
        ReLU, which can make 0 of it.
        """
        ...

    def predict(self, placed: Placed, loader: Any) -> NDArray[Any]:
        """Return the ``logits`` of every image of a loader that has some, (images, classes)."""
        ...

    def features(self, placed: Placed, loader: Any) -> NDArray[Any]:
        """Return what the head sees of every image of a loader, in eval mode.

        ``place`` takes ``head(net)`` for a net, which batches of features train as the net's own
        images would.

        Returns:
            (images, width of the head's input), float32 (float64 for a float64 net).

        Raises:
            ModelError: The head's input is random in training (the net has dropout), or is no
                vector.
        """
        ...

    def get_state(self, placed: Placed) -> State:
        """Return a copy of every parameter and running statistic.

        Statistics are the mean over the replicas, which all have from here on.
        """
        ...

    def set_state(self, placed: Placed, state: Mapping[str, NDArray[Any]]) -> None:
        """Set every parameter and running statistic on every device, all or nothing.

        Raises:
            ModelError: A name or shape is missing, unknown or different.
        """
        ...

    def get_trainer_state(self, placed: Placed, trainer: Any) -> State:
        """Return what the trainer remembers: canonical name -> learning rate x momentum buffer."""
        ...

    def set_trainer_state(
        self, placed: Placed, trainer: Any, state: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore what ``get_trainer_state`` gave; ``{}`` forgets.

        Raises:
            ModelError: A name or shape does not fit, or the trainer is not plain SGD.
        """
        ...
