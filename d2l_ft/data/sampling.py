"""The order of the samples and the random draws, which depend only on seed, epoch and index."""

from collections.abc import Iterator

import numpy as np

STREAM_CROPS, STREAM_ORDER = 0, 1
"""Random streams of a seed that do not overlap; ``image_folder`` has a third one."""

Key = tuple[int, int]
"""(epoch, index of the sample): all that a worker needs to know to make one example."""


def generator(seed: int, stream: int, epoch: int, index: int = 0) -> np.random.Generator:
    """Return the random generator of one (seed, stream, epoch, index); no two overlap."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, index, epoch]))


def epoch_order(count: int, seed: int, epoch: int, *, shuffle: bool) -> list[int]:
    """Return the order of the samples in an epoch."""
    if not shuffle:
        return list(range(count))
    return [int(i) for i in generator(seed, STREAM_ORDER, epoch).permutation(count)]


class EpochSampler:
    """Batches of (epoch, index) keys for one epoch after another.

    It is a batch sampler for the DataLoader of either framework. As the keys contain the epoch,
    workers that live longer than an epoch still draw the right crops.

    Args:
        count: Number of samples.
        batch_size: Examples a batch; the last may be smaller.
        shuffle: Whether each epoch has its own order.
        seed: Seed of the order.
    """

    def __init__(self, count: int, batch_size: int, *, shuffle: bool, seed: int) -> None:
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch and its first batch to yield."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield the keys, batch by batch."""
        order = epoch_order(self.count, self.seed, self.epoch, shuffle=self.shuffle)
        for first in range(self.start * self.batch_size, self.count, self.batch_size):
            yield [(self.epoch, index) for index in order[first : first + self.batch_size]]
