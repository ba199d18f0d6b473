"""Code that the backends share: image files by index, choice of devices, finding the head, checks.

A backend need not use it; what it must have is in ``protocol``.
"""

import atexit
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakKeyDictionary, ref

from d2l_ft.backend.devices import PRECISIONS, parse_devices
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import Key
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError, DeviceError, ModelError, WorkerDied

Item = tuple[Any, int] | DataError
"""(image, label), or the error of the image."""

PATIENCE = 120
"""Seconds until a batch that no worker delivers is given up."""

END_SECONDS = 5
"""How long a worker may take to end when it is told to."""

HEAD_PLACES = ('output', 'fc', 'classifier', 'heads', 'head')
"""Attributes with the output layer in the nets of Gluon's zoos, torchvision, timm and ours."""

RANDOM_FEATURES = 'the net has dropout, so what its head sees is random: leave out `cache_features`'
"""The message for a net whose features cannot be cached."""


class IndexedImages:
    """A map from (epoch, index) to (image, label); to be mixed into a framework's Dataset.

    A DataError is returned, not raised: after an exception in a worker the frameworks' loaders
    raise an error that no user understands, or end their workers for good.

    Args:
        samples: Checked image files.
        pipeline: A ``Pipeline``, or the framework's own transform.
        seed: Seed of such a transform's draws.
        cache: Keeps images of a ``Pipeline`` between epochs.
    """

    def __init__(
        self, samples: Sequence[Sample], pipeline: Any, seed: int, cache: ImageCache | None
    ) -> None:
        self.samples, self.pipeline, self.seed, self.cache = list(samples), pipeline, seed, cache

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, key: Key) -> Item:
        """Return ((size, size, 3) uint8, or what the framework's transform returns; label)."""
        epoch, index = key
        sample = self.samples[index]
        try:
            if isinstance(self.pipeline, Pipeline):
                crop = self.pipeline.crop(sample.path, epoch, index, self.cache)
                return crop, sample.label
            return self.apply_transform(sample.path, epoch, index), sample.label
        except DataError as error:
            return error

    def apply_transform(self, path: str, epoch: int, index: int) -> Any:
        """Apply the framework's transform, seeded so that the draws depend only on the key."""
        raise NotImplementedError


def first_error(items: Sequence[Item]) -> DataError | None:
    """Return the first error among the items of a batch."""
    return next((each for each in items if isinstance(each, DataError)), None)


WATCHED: WeakKeyDictionary[BaseProcess, 'ref[object]'] = WeakKeyDictionary()
"""Worker processes of all loaders of this process -> what ends them when it is no longer used."""

WATCHING = threading.Lock()
"""Held while they are added, looked at or removed: MXNet's loader has a thread for each."""


def watch_workers(owner: object, workers: Iterable[BaseProcess]) -> None:
    """Let ``check_workers`` look at these processes, too.

    Args:
        owner: What ends them. How a process ends after its owner is gone matters to nobody.
        workers: The processes.
    """
    with WATCHING:
        WATCHED.update(dict.fromkeys(workers, ref(owner)))


def check_workers() -> None:
    """Check that no worker was killed; each loader asks before each batch.

    That of another loader would else be missed at its next batch, which may be an epoch away.

    Raises:
        WorkerDied: One was; the other ones of its loader end with the process.
    """
    with WATCHING:
        died = [each for each, owner in WATCHED.items() if owner() is not None and each.exitcode]
    if died:
        kill(died)
        raise WorkerDied(code=died[0].exitcode or 0)


def exit_code_of(workers: Sequence[BaseProcess]) -> int:
    """Return the exit code of a worker that died; 0 if none ends within a second."""
    last = time.monotonic() + 1
    wait([each.sentinel for each in workers], timeout=1)
    # the system tells the code once: of several threads that ask, all but one find it a bit later
    while not (code := next((each.exitcode for each in workers if each.exitcode), 0)):
        if time.monotonic() > last:
            return 0
        time.sleep(0.01)
    return code


def kill(workers: Sequence[BaseProcess]) -> None:
    """Kill worker processes: they may wait for a lock that a dead one holds, or do nothing."""
    with WATCHING:
        for each in workers:
            WATCHED.pop(each, None)
    for each in workers:
        each.kill()
    for each in workers:
        each.join(END_SECONDS)


@atexit.register
def end_workers() -> None:
    """End the worker processes when this one ends, also those that hear no other signal.

    multiprocessing sends SIGTERM and waits, for ever if a worker has been stopped (SIGSTOP).
    """
    workers = [each for each in multiprocessing.active_children() if each.daemon]
    for each in workers:
        each.terminate()
    last = time.monotonic() + END_SECONDS  # for all together: there may be dozens
    for each in workers:
        each.join(max(last - time.monotonic(), 0))
    kill([each for each in workers if each.is_alive()])


def choose_devices(
    request: str,
    framework: str,
    cpu: Callable[[int], Any],
    gpu: Callable[[int], Any],
    count: Callable[[], int],
    note: str = '',
) -> list[Any]:
    """Return the devices of a request as ``parse_devices`` reads it.

    Args:
        request: The user's request.
        framework: The name of the framework, for an error.
        cpu: Number -> device in the main memory.
        gpu: Number -> GPU.
        count: Returns the number of GPUs; not called for a request for the CPU, as counting may
            initialise the GPU driver.
        note: Added to that number in an error.

    Raises:
        DeviceError: The request cannot be read, or a GPU in it does not exist.
    """
    kind, numbers = parse_devices(request)
    if kind == 'cpu':
        return [cpu(number) for number in numbers]
    found = count()
    if kind == 'auto' and found == 0:
        return [cpu(0)]
    numbers = numbers or list(range(found))
    missing = [number for number in numbers if number >= found]
    if missing or not numbers:
        which = f'GPU {missing[0]}' if missing else 'GPU'
        raise DeviceError(
            f'{framework} finds no {which} here ({found} in all{note}): use auto or cpu'
        )
    return [gpu(number) for number in numbers]


def check_place(devices: Sequence[Any], precision: str) -> None:
    """Check the arguments of ``place``.

    Raises:
        DeviceError: No device, or an unknown precision.
    """
    if not devices:
        raise DeviceError('a net needs at least one device: use auto or cpu')
    if precision not in PRECISIONS:
        raise DeviceError(f'unknown precision {precision!r}: choose {", ".join(PRECISIONS)}')


def check_classes(classes: int) -> None:
    """Check the number of classes for ``build_net``.

    Raises:
        ModelError: It is not positive.
    """
    if classes < 1:
        raise ModelError(f'a net needs at least one class, not {classes}')


def find_head(net: Any, block: type, layers: Any, walk: Callable[[Any], Sequence[Any]]) -> Any:
    """Return the output layer: the last dense layer or convolution under one of ``HEAD_PLACES``.

    Args:
        net: The net.
        block: The framework's base class of layers.
        layers: The classes of output layers.
        walk: Layer -> it and all layers in it, in order.

    Raises:
        ModelError: The net has no such layer.
    """
    for place in HEAD_PLACES:
        part = getattr(net, place, None)
        if isinstance(part, block):
            found = [each for each in walk(part) if isinstance(each, layers)]
            if found:
                return found[-1]
    raise ModelError(
        f'{type(net).__name__} has no output layer that is known: '
        f'name it one of {", ".join(HEAD_PLACES)}'
    )


def check_groups(body: Sequence[Any], top: Sequence[Any], trained: Sequence[Any]) -> None:
    """Check that body and head are two groups of parameters, neither of them empty.

    Args:
        body: Parameters of the body.
        top: Parameters of the head.
        trained: Those parameters of the head that get a gradient.

    Raises:
        ModelError: A group is empty, or a parameter is in both.
    """
    if {id(parameter) for parameter in body} & {id(parameter) for parameter in top}:
        raise ModelError('a parameter is in the body and in the head: use `head_lr_mult=1`')
    if not body or not trained:
        empty = 'head' if body else 'body'
        raise ModelError(f'the {empty} has no trainable parameter: use `head_lr_mult=1`')
