"""Batches of image files from PyTorch's Dataset and DataLoader."""

import copy
import multiprocessing
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from d2l_ft.backend.common import (
    PATIENCE,
    IndexedImages,
    Item,
    check_workers,
    exit_code_of,
    first_error,
    kill,
    watch_workers,
)
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import EpochSampler
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError, WorkerDied
from d2l_ft.system.signals import set_worker_signals

Batch = tuple[Tensor, Tensor]


class ImageFiles(IndexedImages, Dataset[Item]):
    """The image files as PyTorch's Dataset; the framework's own transform takes a PIL image."""

    def apply_transform(self, path: str, epoch: int, index: int) -> Any:
        """Apply a torchvision transform, seeded so that the draws depend only on the key."""
        image, before = open_rgb(path), random.getstate()
        words = np.random.SeedSequence([self.seed, epoch, index]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed the GPUs too, where dropout draws
            torch.default_generator.manual_seed(int(words[0]))
            random.seed(int(words[0]))
            try:
                return self.pipeline(image)
            finally:
                random.setstate(before)


def open_rgb(path: str) -> Image.Image:
    """Read an image as torchvision's ImageFolder does.

    Raises:
        DataError: The file cannot be read or decoded.
    """
    try:
        with Image.open(path) as image:
            rgb: Image.Image = image.convert('RGB')
            return rgb
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f'cannot decode {path}: run  d2l-ft data check  on its folder') from error


def collate(items: Sequence[Item]) -> Batch | DataError:
    """Stack the items of a batch; crops stay uint8, as float32 is four times as much to send."""
    if (error := first_error(items)) is not None:
        return error
    images, labels = zip(*items, strict=True)
    if isinstance(images[0], Tensor):
        return torch.stack(images), torch.tensor(labels)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def start_worker(_: int) -> None:
    """Prepare a worker: one thread, as a thread pool that was forked hangs, and its signals."""
    torch.set_num_threads(1)
    set_worker_signals()


class Flag:
    """An event between processes without a lock, which a process that is killed would keep.

    With the one of multiprocessing, whoever asks for it after that waits for ever.
    """

    def __init__(self, context: BaseContext) -> None:
        self.byte = context.RawValue('b', 0)

    def set(self) -> None:
        """Set it, for good."""
        self.byte.value = 1

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return bool(self.byte.value)


def processes() -> BaseContext:
    """Return multiprocessing's way to start processes here, with ``Flag`` for events."""
    context = copy.copy(multiprocessing.get_context())
    context.Event = lambda: Flag(context)  # type: ignore[method-assign,assignment,return-value]
    return context


class ImageLoader:
    """Batches of one epoch after another; ``loader`` describes the arguments."""

    def __init__(
        self, files: ImageFiles, sampler: EpochSampler, workers: int, device: torch.device | None
    ) -> None:
        self.pipeline, self.sampler, self.device = files.pipeline, sampler, device
        self.batches: DataLoader[Item] = DataLoader(
            files,
            batch_sampler=sampler,
            num_workers=workers,
            multiprocessing_context=processes() if workers else None,
            collate_fn=collate,
            worker_init_fn=start_worker,
            persistent_workers=workers > 0,
            # pinned memory is what non_blocking copies to a GPU need
            pin_memory=device is not None and device.type == 'cuda',
            generator=torch.Generator(),  # drawing from the default one would change dropout
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch and the first batch to yield."""
        self.sampler.set_epoch(epoch, start)

    def __iter__(self) -> Iterator[Batch]:
        """Yield (images, labels): (batch, 3, h, w) float32 and (batch,) int64, on the device.

        Without a device the images are contiguous, on the CPU.

        Raises:
            DataError: An image can't be read.
            WorkerDied: A worker was killed, or hangs.
        """
        to_input = self.make_converter()
        for batch in self.receive():
            if isinstance(batch, DataError):
                raise batch
            images, labels = batch
            if self.device is not None:
                images = images.to(self.device, non_blocking=True)
                labels = labels.to(self.device, non_blocking=True)
            yield to_input(images), labels

    def make_converter(self) -> Callable[[Tensor], Tensor]:
        """Return a function that turns the images from the workers into the net's input."""
        pipeline = self.pipeline
        if not isinstance(pipeline, Pipeline):
            return lambda images: images
        if self.device is None:
            return lambda crops: torch.from_numpy(pipeline.to_float(crops.numpy()))
        return make_lookup(pipeline, self.device)

    def receive(self) -> Iterator[Batch | DataError]:
        """Yield the batches, or the errors, that the workers send.

        Raises:
            WorkerDied: A worker was killed, or none sent anything; all of them are ended.
        """
        late = threading.Event()

        def give_up() -> None:
            if not wait([each.sentinel for each in self.workers()], timeout=0):
                late.set()
            kill(self.workers())

        try:
            with keep_child_handler(), alarm(give_up if self.batches.num_workers else None):
                batches = iter(self.batches)
            watch_workers(batches, self.workers())
            while True:
                check_workers()
                with alarm(give_up if self.batches.num_workers else None):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        except (RuntimeError, OSError, EOFError) as error:
            # OSError and EOFError: it died while it was sending a batch
            if not wait([each.sentinel for each in self.workers()], timeout=1):
                raise
            code = exit_code_of(self.workers())
            kill(self.workers())
            raise WorkerDied(PATIENCE if late.is_set() else 0, code) from error

    def workers(self) -> list[BaseProcess]:
        """Return the worker processes that there are."""
        return list(getattr(getattr(self.batches, '_iterator', None), '_workers', []))


@contextmanager
def alarm(call: Callable[[], None] | None) -> Iterator[None]:
    """Call something, from another thread, after ``PATIENCE`` seconds in this context."""
    if call is None:
        yield
        return
    timer = threading.Timer(PATIENCE, call)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def keep_child_handler() -> Iterator[None]:
    """Keep the handler of SIGCHLD, which torch replaces when a loader starts its workers.

    torch's handler raises an error wherever the main thread is when a worker dies, even in the
    middle of a step. Without it the error comes with the next batch that is missing.
    """
    former = signal.getsignal(signal.SIGCHLD) if hasattr(signal, 'SIGCHLD') else None
    try:
        yield
    finally:
        if former is not None and signal.getsignal(signal.SIGCHLD) is not former:
            signal.signal(signal.SIGCHLD, former)


def make_lookup(pipeline: Pipeline, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function like ``to_float``, to the bit, for a device.

    The tables are sent once: if they were sent for each batch, the host would wait for the device.

    Returns:
        (batch, h, w, 3) uint8 on the device -> (batch, 3, h, w) float32, channels last in memory.
    """
    tables = torch.from_numpy(pipeline.tables().ravel()).to(device)
    # where the table of each channel begins
    first = torch.tensor([0, 256, 512], dtype=torch.int32, device=device)

    def standardise(crops: Tensor) -> Tensor:
        values = tables.index_select(0, (crops + first).flatten())
        return values.reshape(crops.shape).permute(0, 3, 1, 2)

    return standardise


def loader(
    samples: Sequence[Sample],
    pipeline: Any,
    batch_size: int,
    *,
    shuffle: bool = False,
    workers: int = 0,
    seed: int = 0,
    cache: ImageCache | None = None,
    device: torch.device | None = None,
) -> ImageLoader:
    """Return batches of the samples from a DataLoader.

    Args:
        samples: Checked image files.
        pipeline: A ``Pipeline``, or a torchvision transform (a Compose), which takes the RGB
            PIL image that ImageFolder gives and returns a (3, height, width) tensor.
        batch_size: Examples a batch; the last may be smaller.
        shuffle: Whether each epoch has its own order, drawn from (seed, epoch).
        workers: Worker processes; 0 decodes in this process. The batches do not depend on it.
        seed: Seed of the order, and of a torchvision transform's draws.
        cache: Keeps images of a ``Pipeline`` between epochs. The batches do not depend on it.
        device: The device of the batches; None is the CPU. The images of a ``Pipeline`` are sent
            as bytes and standardised there, with the same values.
    """
    files = ImageFiles(samples, pipeline, seed, cache)
    sampler = EpochSampler(len(files), batch_size, shuffle=shuffle, seed=seed)
    return ImageLoader(files, sampler, workers, device)


def to_batch(images: NDArray[Any], labels: NDArray[Any]) -> Batch:
    """Return (images, labels) as tensors on the CPU, copied; dtypes are kept.

    Args:
        images: (batch, 3, height, width), float32 or float64.
        labels: (batch,), integers.
    """
    return torch.from_numpy(np.array(images, order='C')), torch.from_numpy(np.array(labels))
