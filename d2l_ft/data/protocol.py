"""What a data set needs of a backend; ``backend.protocol.Backend`` inherits it."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample


class Loader(Protocol):
    """A sized iterable of batches; each iteration is one epoch."""

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the epoch that ``set_epoch`` chose."""
        ...

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch (0-based), on which the draws depend, and the first batch to yield."""
        ...


class LoaderFactory(Protocol):
    """Makes the loaders of a framework."""

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
            pipeline: A ``Pipeline``, or the framework's own transform (a Compose), which takes
                the decoded image in the form of the framework's own image data sets.
            batch_size: Examples a batch; the last may be smaller.
            shuffle: Whether each epoch has its own order, drawn from (seed, epoch).
            workers: Worker processes; 0 decodes in this process. The batches do not depend on it.
            seed: Seed of the order.
            cache: Keeps images of a ``Pipeline`` between epochs. The batches do not depend on it.
            device: The device of the batches, one of ``Backend.devices``; None is the CPU. The
                images of a ``Pipeline`` are sent as bytes and standardised there, with the same
                values.

        Raises:
            DataError: An image can't be read, or a worker died or hangs.
        """
        ...
