"""Batches of image files from Gluon's Dataset and DataLoader."""

import gc
import multiprocessing
import queue
import random
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]  # not in typeshed
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon.data import DataLoader, Dataset
from numpy.typing import NDArray

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
from d2l_ft.data.sampling import EpochSampler, Key
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError, WorkerDied
from d2l_ft.system.signals import set_worker_signals
from d2l_ft_mxnet.semantics import array, in_legacy, numpy_semantics, semantics, to_caller

Batch = tuple[mx.nd.NDArray, mx.nd.NDArray]


class ImageFiles(IndexedImages, Dataset):
    """The image files as Gluon's Dataset; the framework's own transform is one of Gluon's.

    Args:
        samples, pipeline, seed, cache: See ``IndexedImages``.
        forked: Whether worker processes make the examples.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        pipeline: Any,
        seed: int,
        *,
        forked: bool,
        cache: ImageCache | None,
    ) -> None:
        super().__init__(samples, pipeline, seed, cache)
        self.forked = forked
        self.numpy = numpy_semantics()  # a Gluon transform may support only these semantics

    def apply_transform(self, path: str, epoch: int, index: int) -> NDArray[Any]:
        """Apply a Gluon transform, seeded so that the draws depend only on the key."""
        words = np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)
        python, numpy = random.getstate(), np.random.get_state()
        # MXNet's state cannot be saved; in this process it is seeded afterwards by its next draw
        after = None if self.forked else next_draw()
        # Gluon's transforms draw from all three generators
        for seed in (random.seed, np.random.seed, mx.random.seed):
            seed(int(words[0]) % 2**31)
        try:
            with semantics(numpy=self.numpy):
                image: NDArray[Any] = self.pipeline(read_image(path)).asnumpy()
                return image
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if after is not None:
                mx.random.seed(after)


@in_legacy
def next_draw() -> int:
    """Return a number that MXNet's generator draws."""
    return int(mx.nd.random.randint(0, 2**31 - 1).asscalar())


def read_image(path: str) -> mx.nd.NDArray:
    """Read an image as Gluon's ImageFolderDataset does: (height, width, 3) RGB uint8.

    Raises:
        DataError: The file cannot be read or decoded.
    """
    try:
        image = mx.image.imread(path, 1)
        image.wait_to_read()
    except (mx.MXNetError, OSError, ValueError) as error:
        raise DataError(f'cannot decode {path}: run  d2l-ft data check  on its folder') from error
    return image


def batchify(items: Sequence[Item]) -> tuple[NDArray[Any], NDArray[np.int32]] | DataError:
    """Stack the items of a batch; crops stay uint8, as float32 is four times as much to send."""
    if (error := first_error(items)) is not None:
        return error
    images, labels = zip(*items, strict=True)
    return np.stack(images), np.array(labels, dtype=np.int32)


class Keys(Dataset):
    """A Dataset of the keys instead of the examples, which the worker processes make."""

    def __init__(self, files: ImageFiles) -> None:
        self.count = len(files)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    def __getitem__(self, key: Key) -> Key:
        """Return the key."""
        return key


class Workers:
    """Processes that make batches, each connected by its own pipe.

    Gluon's processes share queues with locks: if one is killed it keeps a lock for ever, its batch
    never comes, and the pool cannot even be ended. A pipe ends as soon as its process does; and a
    process whose parent has died sees the end of its pipe too.

    Args:
        files: The image files that they read.
        count: Number of processes.
    """

    def __init__(self, files: ImageFiles, count: int) -> None:
        for step in (mx.nd.waitall, gc.collect, mx.nd.waitall):  # before a fork, as Gluon does
            step()
        self.processes: list[multiprocessing.Process] = []
        self.idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        pipes: list[Connection] = []
        for _ in range(count):
            here, there = multiprocessing.Pipe()
            pipes.append(here)
            process = multiprocessing.Process(target=work, args=(files, there, pipes), daemon=True)
            process.start()
            there.close()
            self.processes.append(process)
            self.idle.put(here)
        watch_workers(self, self.processes)

    def make(self, keys: Sequence[Key]) -> Any:
        """Have an idle worker make the batch of these keys; several threads may call this at once.

        Raises:
            WorkerDied: A worker was killed; the others are ended.
        """
        pipe, died = self.idle.get(), False
        try:
            pipe.send(keys)
            answer = pipe.recv()
        except (EOFError, OSError):
            died = True
        finally:
            self.idle.put(pipe)
        if died:  # raised here, as the other error holds half a batch
            code = exit_code_of(self.processes)
            kill(self.processes)
            raise WorkerDied(code=code)
        if isinstance(answer, Exception) and not isinstance(answer, DataError):
            raise answer
        return answer


def work(files: ImageFiles, pipe: Connection, parents: Sequence[Connection]) -> None:
    """Run as a process of ``Workers`` until the parent's end of the pipe is closed."""
    set_worker_signals()
    for each in parents:  # the fork has copied these ends too: while they are open no pipe ends
        each.close()
    while True:
        try:
            keys = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Any
        try:
            answer = batchify([files[key] for key in keys])
        except Exception as error:
            # a pickled exception loses its traceback; this class keeps it as text
            answer = ExceptionWithTraceback(error, error.__traceback__)
        pipe.send(answer)


class ImageLoader:
    """Batches of one epoch after another; ``loader`` describes the arguments."""

    def __init__(
        self, files: ImageFiles, sampler: EpochSampler, workers: int, device: mx.Context | None
    ) -> None:
        self.pipeline, self.sampler, self.device = files.pipeline, sampler, device
        self.workers = Workers(files, workers) if workers else None
        # Gluon's loader runs threads, each of which waits for one of our processes
        self.batches = DataLoader(
            Keys(files) if self.workers else files,
            batch_sampler=sampler,
            num_workers=workers,
            batchify_fn=self.workers.make if self.workers else batchify,
            thread_pool=True,
            timeout=PATIENCE,
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch and the first batch to yield."""
        self.sampler.set_epoch(epoch, start)

    def __iter__(self) -> Iterator[Batch]:
        """Yield (images, labels): (batch, 3, h, w) float32 and (batch,) int32, on the device.

        They are ``mx.np`` arrays where NumPy semantics is on.

        Raises:
            DataError: An image can't be read.
            WorkerDied: A worker was killed, or no batch comes.
        """
        to_input = self.make_converter()
        for batch in self.receive():
            if isinstance(batch, DataError):
                raise batch
            yield to_input(*batch)

    def make_converter(self) -> Callable[[NDArray[Any], NDArray[Any]], Batch]:
        """Return a function that turns arrays from the workers into a batch on the device."""
        pipeline, device = self.pipeline, self.device
        ours = isinstance(pipeline, Pipeline)
        if device is None:
            return lambda images, labels: to_batch(
                pipeline.to_float(images) if ours else images, labels
            )
        standardise = make_lookup(pipeline, device) if ours else lambda images: images

        def send(images: NDArray[Any], labels: NDArray[Any]) -> Batch:
            there, marks = (each.as_in_context(device) for each in to_batch(images, labels))
            return standardise(there), marks

        return send

    def receive(self) -> Iterator[Any]:
        """Yield the batches, or the errors, that the workers send.

        Raises:
            WorkerDied: A worker was killed, or none sent anything; all of them are ended.
        """
        try:
            for batch in self.batches:
                check_workers()
                yield batch
        except (multiprocessing.TimeoutError, KeyboardInterrupt) as error:
            if self.workers is not None:  # Gluon's threads wait for them, for ever if one hangs
                kill(self.workers.processes)
            if isinstance(error, KeyboardInterrupt):
                raise
            raise WorkerDied(PATIENCE) from error


def make_lookup(pipeline: Pipeline, device: mx.Context) -> Callable[[mx.nd.NDArray], mx.nd.NDArray]:
    """Return a function like ``to_float``, to the bit, for a device; the tables are sent once.

    Returns:
        (batch, h, w, 3) uint8 on the device -> (batch, 3, h, w) float32.
    """
    with semantics(numpy=False):
        tables = mx.nd.array(pipeline.tables().ravel(), ctx=device)
        # where the table of each channel begins
        first = mx.nd.array([0, 256, 512], ctx=device, dtype='int32').reshape((1, 3, 1, 1))

    @in_legacy
    def look(crops: mx.nd.NDArray) -> mx.nd.NDArray:
        planes = crops.transpose((0, 3, 1, 2)).astype('int32')
        return mx.nd.take(tables, mx.nd.broadcast_add(planes, first))

    return lambda crops: to_caller(look(crops.as_nd_ndarray()))


def loader(
    samples: Sequence[Sample],
    pipeline: Any,
    batch_size: int,
    *,
    shuffle: bool = False,
    workers: int = 0,
    seed: int = 0,
    cache: ImageCache | None = None,
    device: mx.Context | None = None,
) -> ImageLoader:
    """Return batches of the samples from a DataLoader.

    Args:
        samples: Checked image files.
        pipeline: A ``Pipeline``, or a Gluon transform (a Compose), which takes the (height,
            width, 3) uint8 NDArray that ImageFolderDataset gives and returns a (3, height,
            width) NDArray.
        batch_size: Examples a batch; the last may be smaller.
        shuffle: Whether each epoch has its own order, drawn from (seed, epoch).
        workers: Worker processes; 0 decodes in this process. The batches do not depend on it.
        seed: Seed of the order, and of a Gluon transform's draws.
        cache: Keeps images of a ``Pipeline`` between epochs. The batches do not depend on it.
        device: The device of the batches; None is the CPU. The images of a ``Pipeline`` are sent
            as bytes and standardised there, with the same values.
    """
    files = ImageFiles(samples, pipeline, seed, forked=workers > 0, cache=cache)
    sampler = EpochSampler(len(files), batch_size, shuffle=shuffle, seed=seed)
    return ImageLoader(files, sampler, workers, device)


def to_batch(images: NDArray[Any], labels: NDArray[Any]) -> Batch:
    """Return (images, labels) as arrays on the CPU, copied; dtypes are kept.

    They are ``mx.np`` arrays where NumPy semantics is on.

    Args:
        images: (batch, 3, height, width), float32 or float64.
        labels: (batch,), int32 or int64.
    """
    numpy = numpy_semantics()
    return array(images, numpy=numpy), array(labels, numpy=numpy)
