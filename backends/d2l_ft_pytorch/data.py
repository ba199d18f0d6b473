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
    WATCHED,
    IndexedImages,
    Item,
    check_workers,
    first_error,
    kill,
)
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import EpochSampler
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError, WorkerDied
from d2l_ft.system.signals import be_worker

Batch = tuple[Tensor, Tensor]


class ImageFiles(IndexedImages, Dataset[Item]):
    """The image files as PyTorch's Dataset; another transform is torchvision's, of a PIL image."""

    def transformed(self, path: str, epoch: int, index: int) -> Any:
        """Return the transform of an image, with draws that depend on the key alone."""
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
    """Stack the items of a batch; crops stay uint8, a quarter of the bytes between processes."""
    if (error := first_error(items)) is not None:
        return error
    images, labels = zip(*items, strict=True)
    if isinstance(images[0], Tensor):
        return torch.stack(images), torch.tensor(labels)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def start_worker(_: int) -> None:
    """Compute on one thread in a worker: a forked thread pool hangs."""
    torch.set_num_threads(1)
    be_worker()


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
    """Batches of one epoch after another; ``loader`` says what the arguments are."""

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
            pin_memory=device is not None and device.type == 'cuda',
            generator=torch.Generator(),  # the default one is dropout's
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
        standardise = self.standardise()
        for batch in self.received():
            if isinstance(batch, DataError):
                raise batch
            images, labels = batch
            if self.device is not None:
                images = images.to(self.device, non_blocking=True)
                labels = labels.to(self.device, non_blocking=True)
            yield standardise(images), labels

    def standardise(self) -> Callable[[Tensor], Tensor]:
        """Return what makes the images of a batch that has arrived into the net's input."""
        pipeline = self.pipeline
        if not isinstance(pipeline, Pipeline):
            return lambda images: images
        if self.device is None:
            return lambda crops: torch.from_numpy(pipeline.to_float(crops.numpy()))
        return look_up(pipeline, self.device)

    def received(self) -> Iterator[Batch | DataError]:
        """Yield what the workers send.

        Raises:
            WorkerDied: A worker was killed, or none sent anything; all of them are ended.
        """
        late = threading.Event()

        def give_up() -> None:
            if not wait([each.sentinel for each in self.workers()], timeout=0):
                late.set()
            kill(self.workers())

        try:
            with quiet_children(), alarm(give_up if self.batches.num_workers else None):
                batches = iter(self.batches)
            WATCHED.update(self.workers())
            while True:
                check_workers()
                with alarm(give_up if self.batches.num_workers else None):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        except (RuntimeError, OSError, EOFError) as error:
            # the last two: it died while it sent a batch
            if not wait([each.sentinel for each in self.workers()], timeout=1):
                raise
            kill(self.workers())
            raise WorkerDied(PATIENCE if late.is_set() else 0) from error

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
def quiet_children() -> Iterator[None]:
    """Keep torch's handler of SIGCHLD away, which a loader sets when it starts its workers.

    It raises in whatever the main thread does when a worker dies, be it the middle of a step;
    without it, the next batch that does not come tells.
    """
    former = signal.getsignal(signal.SIGCHLD) if hasattr(signal, 'SIGCHLD') else None
    try:
        yield
    finally:
        if former is not None and signal.getsignal(signal.SIGCHLD) is not former:
            signal.signal(signal.SIGCHLD, former)


def look_up(pipeline: Pipeline, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return ``to_float`` for a device, bit for bit.

    The tables go there once: a copy for each batch would have the host wait for the device.

    Returns:
        (batch, h, w, 3) uint8 on the device -> (batch, 3, h, w) float32, channels last in memory.
    """
    tables = torch.from_numpy(pipeline.tables().ravel()).to(device)
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
        device: Where the batches shall lie; None is the CPU. A ``Pipeline``'s go there as bytes
            and are standardised there. Their values do not depend on it.
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
