"""What a net predicts for labelled images: accuracy, confusion matrix, worst mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from d2l_ft.backend.protocol import Backend, Placed
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import ModelError
from d2l_ft.training.loaders import loader_options

BATCH = 64
"""Images that are classified at once; apart from rounding, it does not change the result."""


@dataclass(frozen=True)
class Mistake:
    """One image that was classified wrongly, and the probability of the wrong class."""

    path: str
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """The predictions for labelled samples.

    Attributes:
        classes: Names, in the order of the labels.
        samples: The images that were classified.
        probabilities: (samples, classes), each row sums to 1.

    Example:
        >>> found = d2l.load_run('runs/mine').evaluate()
        >>> len(found.samples), found.confusion.shape
        (4, (2, 2))
        >>> mistakes = found.worst(3)
    """

    classes: list[str]
    samples: list[Sample]
    probabilities: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Share of samples whose most probable class is the label."""
        return float(np.trace(self.confusion)) / max(len(self.samples), 1)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts: row = true class, column = predicted class."""
        counts = np.zeros((len(self.classes),) * 2, dtype=np.int64)
        labels = [sample.label for sample in self.samples]
        np.add.at(counts, (labels, self.probabilities.argmax(axis=1)), 1)
        return counts

    def worst(self, count: int = 12) -> list[Mistake]:
        """Return the mistakes with the highest probability, the highest first."""
        predicted = self.probabilities.argmax(axis=1)
        mistakes = [
            Mistake(sample.path, sample.label, int(guess), float(row[guess]))
            for sample, guess, row in zip(self.samples, predicted, self.probabilities, strict=True)
            if guess != sample.label
        ]
        return sorted(mistakes, key=lambda mistake: -mistake.probability)[:count]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probabilities of (batch, classes) logits."""
    logits = logits.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def predict(
    backend: Backend,
    placed: Placed,
    samples: Sequence[Sample],
    pipeline: Pipeline,
    *,
    bar: bool = True,
    workers: int | None = None,
    cache: ImageCache | None = None,
) -> NDArray[np.float64]:
    """Return (samples, classes) probabilities; labels are not looked at.

    Args:
        backend: The framework.
        placed: The net.
        samples: Image files.
        pipeline: What makes the crops.
        bar: Whether to show progress; it needs a terminal too.
        workers: Loader processes; None leaves the choice to ``default_workers``.
        cache: Decoded images; those that are in it are not read again.

    Raises:
        DataError: A file cannot be decoded.
        ModelError: An output of the net is not finite.
    """
    if not samples:
        return np.zeros((0, 0))
    options = loader_options(backend, placed.devices, workers, cache)
    batches = tqdm(
        backend.loader(samples, pipeline, BATCH, **options),
        desc='predict',
        unit='batch',
        leave=False,
        disable=None if bar else True,
    )
    logits = backend.predict(placed, batches)
    for sample, good in zip(samples, np.isfinite(logits).all(axis=1), strict=True):
        if not good:
            raise ModelError(
                f'the net gives no finite numbers for {sample.path}, as values in it overflow: '
                'train it again with a smaller learning rate, or from another source'
            )
    return softmax(logits)


def evaluate_samples(
    backend: Backend,
    placed: Placed,
    classes: list[str],
    samples: list[Sample],
    pipeline: Pipeline,
    *,
    bar: bool = True,
    workers: int | None = None,
    cache: ImageCache | None = None,
) -> Evaluation:
    """Return the predictions of a net for labelled samples; arguments as in ``predict``."""
    found = predict(backend, placed, samples, pipeline, bar=bar, workers=workers, cache=cache)
    return Evaluation(classes, samples, found)
