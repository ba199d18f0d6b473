"""Features: the output of a frozen body for each image, computed once and kept on disk.

A frozen body gives the same features whenever it sees the same crop. If the crops come again (no
augmentation, or a fixed number of views), the head can be trained on stored features. The steps are
the same apart from rounding, and the body is not run.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from d2l_ft.backend.protocol import Backend, Placed
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import EpochSampler
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import CheckpointError, ModelError
from d2l_ft.models.architectures import architecture
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, tensors_digest
from d2l_ft.models.state import State
from d2l_ft.storage.cache import cache_dir

BATCH = 64
"""Images that the body gets at once; apart from rounding, the features do not depend on it."""


def features(
    backend: Backend,
    placed: Placed,
    arch: str,
    samples: Sequence[Sample],
    pipeline: Pipeline,
    how: str,
    *,
    bar: bool = True,
    **loading: Any,
) -> NDArray[np.float32]:
    """Return the features of every view of the samples, from the disk if they are stored there.

    They are stored under a hash of everything that they depend on: the bytes of the images in
    order, the weights, the pipeline, the framework, and its precision and layout.

    Args:
        backend: The framework.
        placed: A net whose body is frozen.
        arch: Its architecture.
        samples: Checked image files.
        pipeline: What makes the crops; one that augments has ``views``.
        how: The precision and layout in which the net computes, as text.
        bar: Whether to show progress; it needs a terminal too.
        loading: Options of the loader: ``workers``, ``cache``, ``device``.

    Returns:
        (views, samples, width of the head's input).

    Raises:
        ModelError: The net's features cannot be stored, or are not finite.
        StorageError: The disk is full.
    """
    head = architecture(arch).head + '.'
    state = backend.get_state(placed).items()
    body = {name: array for name, array in state if not name.startswith(head)}
    key = _key([backend.NAME, arch, how, asdict(pipeline)], body, samples)
    path = cache_dir() / 'features' / f'{key}.safetensors'
    if (kept := _read(path, len(samples))) is not None:
        return kept
    loader = backend.loader(samples, pipeline, BATCH, **loading)
    views = []
    for view in range(pipeline.views if pipeline.train else 1):
        loader.set_epoch(view)
        batches = tqdm(loader, desc='features', unit='batch', disable=None if bar else True)
        views.append(backend.features(placed, batches))
    found: NDArray[np.float32] = np.stack(views).astype(np.float32)
    if not np.isfinite(found).all():
        raise ModelError('values in the frozen body overflow: train from another `source`')
    save_checkpoint(path, Checkpoint({'features': found}))
    return found


def _key(settings: list[Any], body: State, samples: Sequence[Sample]) -> str:
    """Return a hash of all that features depend on."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(tensors_digest(body).encode())
    for sample in samples:
        digest.update(hashlib.sha256(Path(sample.path).read_bytes()).digest())
    return digest.hexdigest()


def _read(path: Path, count: int) -> NDArray[np.float32] | None:
    """Return stored features, or None if there are none or they are damaged."""
    try:
        kept = load_checkpoint(path).model['features']
    except (CheckpointError, KeyError):
        return None
    return np.asarray(kept, np.float32) if kept.ndim == 3 and kept.shape[1] == count else None


class FeatureLoader:
    """Batches of features in place of images, in the order that the images would have.

    Args:
        backend: The framework.
        kept: (views, samples, width) features; each epoch takes the next view.
        samples: Their samples, for the labels.
        batch_size: Examples a batch; the last may be smaller.
        shuffle: Whether each epoch has its own order.
        seed: Seed of the order.
    """

    def __init__(
        self,
        backend: Backend,
        kept: NDArray[np.float32],
        samples: Sequence[Sample],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        self.backend, self.kept = backend, kept
        self.labels = np.array([sample.label for sample in samples], dtype=np.int64)
        self.sampler = EpochSampler(len(samples), batch_size, shuffle=shuffle, seed=seed)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.sampler)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch and the first batch to yield."""
        self.sampler.set_epoch(epoch, start)

    def __iter__(self) -> Iterator[Any]:
        """Yield the framework's batches: (batch, width) float32 and (batch,) labels."""
        view = self.kept[self.sampler.epoch % len(self.kept)]
        for keys in self.sampler:
            indices = [index for _, index in keys]
            yield self.backend.to_batch(view[indices], self.labels[indices])
