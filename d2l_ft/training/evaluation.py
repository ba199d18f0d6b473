"""What a net says of labelled images: accuracy, confusion matrix, worst mistakes."""

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


@dataclass(frozen=True)
class Mistake:
    """One image that was taken for another class, and how sure the net was of that."""

    path: str
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """The predictions for labelled samples.

    Attributes:
        classes: Names, in the order of the labels.
        samples: What was looked at.
        probabilities: (samples, classes), each row sums to 1.
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
        """Return the mistakes that the net was surest of, the surest first."""
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
    paths: Sequence[str],
    pipeline: Pipeline,
    batch_size: int = 64,
    bar: bool = True,
    cache: ImageCache | None = None,
) -> NDArray[np.float64]:
    """Return (paths, classes) probabilities for image files; a cache may have their crops.

    Raises:
        DataError: A file cannot be decoded.
        ModelError: An output of the net is not finite.
    """
    rows = []
    batches = tqdm(
        range(0, len(paths), batch_size),
        desc='predict',
        unit='batch',
        leave=False,
        disable=None if bar else True,
    )
    for first in batches:
        some = paths[first : first + batch_size]
        crops = np.stack([pipeline.crop(path, cache=cache) for path in some])
        batch = backend.to_batch(pipeline.to_float(crops), np.zeros(len(crops), dtype=np.int64))
        logits = backend.logits(placed, batch)
        for path, good in zip(some, np.isfinite(logits).all(axis=1), strict=True):
            if not good:
                raise ModelError(
                    f'the net gives no finite numbers for {path}, as values in it overflow: '
                    'train it anew with a smaller learning rate, or from another source'
                )
        rows.append(softmax(logits))
    return np.concatenate(rows) if rows else np.zeros((0, 0))


def evaluate_samples(
    backend: Backend,
    placed: Placed,
    classes: list[str],
    samples: list[Sample],
    pipeline: Pipeline,
    bar: bool = True,
    cache: ImageCache | None = None,
) -> Evaluation:
    """Return the predictions of a net for labelled samples."""
    paths = [sample.path for sample in samples]
    found = predict(backend, placed, paths, pipeline, bar=bar, cache=cache)
    return Evaluation(classes, samples, found)
