"""What the backends say alike: image files by index, choice of devices, place of the head, checks.

A backend may use it or not; the seam is ``protocol``.
"""

import atexit
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakSet

from d2l_ft.backend.devices import PRECISIONS, parse_devices
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import Key
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError, DeviceError, ModelError, WorkerDied

Item = tuple[Any, int] | DataError
"""(image, label), or why there is none."""

PATIENCE = 120
"""Seconds until a batch that no worker delivers is given up."""

END_SECONDS = 5
"""How long a worker may take to end when it is told to."""

HEAD_PLACES = ('output', 'fc', 'classifier', 'heads', 'head')
"""Attributes under which Gluon's zoos, torchvision, timm and the backends keep the output layer."""

RANDOM_FEATURES = 'the net has dropout, so what its head sees is random: leave out `cache_features`'
"""Why features of a net cannot be kept."""


class IndexedImages:
    """Image files as a map from (epoch, index) to (image, label); a framework's Dataset beside it.

    A DataError is returned instead of raised, as the frameworks' loaders make of an exception in a
    worker what no user understands, or end their workers for good.

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
        """Return ((size, size, 3) uint8, label), or the transform's result in the first place."""
        epoch, index = key
        sample = self.samples[index]
        try:
            if isinstance(self.pipeline, Pipeline):
                crop = self.pipeline.crop(sample.path, epoch, index, self.cache)
                return crop, sample.label
            return self.transformed(sample.path, epoch, index), sample.label
        except DataError as error:
            return error

    def transformed(self, path: str, epoch: int, index: int) -> Any:
        """Return the framework's transform of an image, with draws that depend on the key alone."""
        raise NotImplementedError


def first_error(items: Sequence[Item]) -> DataError | None:
    """Return the first error among the items of a batch."""
    return next((each for each in items if isinstance(each, DataError)), None)


WATCHED: WeakSet[BaseProcess] = WeakSet()
"""Worker processes of all loaders of this process."""


def check_workers() -> None:
    """Check that no worker was killed; each loader asks before each batch.

    That of another loader would else be missed at its next batch, which may be an epoch away.

    Raises:
        WorkerDied: One was; the other ones of its loader end with the process.
    """
    died = [each for each in WATCHED if each.exitcode]
    if died:
        kill(died)
        raise WorkerDied


def kill(workers: Sequence[BaseProcess]) -> None:
    """Kill worker processes: they may wait for a lock that a dead one holds, or do nothing."""
    WATCHED.difference_update(workers)
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
    for each in workers:
        each.join(END_SECONDS)
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
        request: What the user asks for.
        framework: Its name in an error.
        cpu: Number -> device in the main memory.
        gpu: Number -> GPU.
        count: Returns the number of GPUs; not asked where the CPU is wanted.
        note: What an error adds to that number.

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
    """Check what ``place`` is asked for.

    Raises:
        DeviceError: No device, or an unknown precision.
    """
    if not devices:
        raise DeviceError('a net needs at least one device: use auto or cpu')
    if precision not in PRECISIONS:
        raise DeviceError(f'unknown precision {precision!r}: choose {", ".join(PRECISIONS)}')


def check_classes(classes: int) -> None:
    """Check the number of outputs that ``build_net`` is asked for.

    Raises:
        ModelError: There is none.
    """
    if classes < 1:
        raise ModelError(f'a net needs at least one class, not {classes}')


def find_head(net: Any, block: type, layers: Any, walk: Callable[[Any], Sequence[Any]]) -> Any:
    """Return the output layer: the last one of its kind in a place that is known.

    Args:
        net: The net.
        block: Class of the framework's parts of nets.
        layers: Classes of output layers.
        walk: Part -> all parts of it, in their order.

    Raises:
        ModelError: The net has none.
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
    """Check that body and head are two groups of parameters.

    Args:
        body: Parameters of the body.
        top: Parameters of the head.
        trained: Those of the head that get a gradient.

    Raises:
        ModelError: A group is empty, or a parameter is in both.
    """
    if {id(parameter) for parameter in body} & {id(parameter) for parameter in top}:
        raise ModelError('a parameter is in the body and in the head: use `head_lr_mult=1`')
    if not body or not trained:
        empty = 'head' if body else 'body'
        raise ModelError(f'the {empty} has no trainable parameter: use `head_lr_mult=1`')
