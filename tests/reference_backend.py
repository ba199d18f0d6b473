"""A whole backend in NumPy: softmax regression on pixels. It shows how small a backend is.

The net is a linear layer over the mean colours of a coarse grid. It runs loops, checkpoints and
contracts with no framework installed; every architecture's name builds the same net.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.backend.devices import parse_devices
from d2l_ft.backend.protocol import Sums
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import EpochSampler
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DeviceError, ModelError
from d2l_ft.models.state import State
from d2l_ft.optim.recipe import Recipe

NAME, FRAMEWORK = 'reference', 'numpy'
GRID = 4


@dataclass
class Linear:
    """A layer with float32 parameters of its own learning-rate multiplier."""

    weight: NDArray[Any]
    bias: NDArray[Any]

    def parameters(self) -> State:
        """Return the arrays themselves."""
        return {'fc.weight': self.weight, 'fc.bias': self.bias}


@dataclass
class Net:
    """A fixed grid of colours, a trainable scale for each (the body), a linear head."""

    scale: NDArray[Any]
    fc: Linear
    frozen: bool = False

    def parameters(self) -> State:
        """Return the arrays themselves."""
        return {'scale': self.scale} | self.fc.parameters()


@dataclass(frozen=True)
class Placed:
    """A net or its head, as one replica, whatever the devices."""

    net: Net | Linear
    devices: Sequence[Any]
    precision: str = 'float32'


@dataclass
class Sgd:
    """The trainer."""

    recipe: Recipe
    velocity: State = field(default_factory=dict)
    d2l_reduction: str = 'mean'


class ArrayLoader:
    """Batches in this process."""

    def __init__(
        self,
        samples: Sequence[Sample],
        pipeline: Any,
        sampler: EpochSampler,
        cache: ImageCache | None,
    ) -> None:
        self.samples, self.pipeline, self.sampler = samples, pipeline, sampler
        self.cache = cache

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch and its first batch."""
        self.sampler.set_epoch(epoch, start)

    def __iter__(self) -> Iterator[Any]:
        for keys in self.sampler:
            crops = [self.pipeline.crop(self.samples[i].path, e, i, self.cache) for e, i in keys]
            labels = [self.samples[index].label for _, index in keys]
            yield to_batch(self.pipeline.to_float(np.stack(crops)), np.array(labels))


def devices(request: str = 'auto') -> list[Any]:
    """Return names."""
    kind, numbers = parse_devices(request)
    if kind == 'gpu':
        raise DeviceError('NumPy computes on the CPU: use auto or cpu')
    return ['cpu'] * max(1, len(numbers))


def is_gpu(device: Any) -> bool:
    """Return False."""
    return False


def threads() -> int:
    """Return 1."""
    return 1


def seed(value: int) -> None:
    """Do nothing: nothing is drawn."""


def loader(
    samples: Sequence[Sample],
    pipeline: Pipeline,
    batch_size: int,
    *,
    shuffle: bool = False,
    workers: int = 0,
    seed: int = 0,
    cache: ImageCache | None = None,
    device: Any = None,
) -> ArrayLoader:
    """Return batches; workers and devices are of no use here."""
    sampler = EpochSampler(len(samples), batch_size, shuffle=shuffle, seed=seed)
    return ArrayLoader(samples, pipeline, sampler, cache)


def to_batch(images: NDArray[Any], labels: NDArray[Any]) -> Any:
    """Return the arrays."""
    return images, labels


def build_net(
    arch: str, classes: int, source: Mapping[str, NDArray[Any]] | None = None, seed: int = 0
) -> Net:
    """Return a net; the source gives the scale."""
    count = 3 * GRID * GRID
    if classes < 1:
        raise ModelError('a net needs a class')
    draws = np.random.default_rng(seed)
    weight = draws.uniform(-0.1, 0.1, (classes, count)).astype(np.float32)
    scale = np.ones(count, np.float32)
    if source is not None:
        if 'scale' not in source or source['scale'].shape != scale.shape:
            raise ModelError(f'the source is no {arch}')
        scale = np.array(source['scale'], dtype=np.float32)
    return Net(scale, Linear(weight, np.zeros(classes, np.float32)))


def freeze(net: Net) -> None:
    """Keep the scale."""
    net.frozen = True


def head(net: Net) -> Linear:
    """Return the linear layer."""
    if not hasattr(net, 'fc'):
        raise ModelError('the net has no output layer')
    return net.fc


def place(
    net: Net | Linear,
    devices: Sequence[Any] | None = None,
    precision: str = 'float32',
    *,
    channels_last: bool | None = None,
) -> Placed:
    """Note the devices."""
    if precision == 'bfloat16':
        raise DeviceError('NumPy has no bfloat16: use float32')
    return Placed(net, devices or ['cpu'])


def build_trainer(placed: Placed, recipe: Recipe) -> Sgd:
    """Return SGD."""
    trainer = Sgd(recipe)
    trainer.d2l_reduction = recipe.reduction
    return trainer


def set_rate(trainer: Sgd, learning_rate: float) -> None:
    """Set the rate."""
    trainer.recipe = trainer.recipe.at_rate(learning_rate)


def colours(images: NDArray[Any]) -> NDArray[Any]:
    """Return (batch, 3 * GRID * GRID) means of the cells of a grid; features are these already."""
    if images.ndim == 2:
        return images
    batch, _, height, width = images.shape
    cells = images[:, :, : height // GRID * GRID, : width // GRID * GRID]
    cells = cells.reshape(batch, 3, GRID, height // GRID, GRID, width // GRID)
    return cells.mean(axis=(3, 5), dtype=images.dtype).reshape(batch, -1)


def train_step(
    placed: Placed, trainer: Sgd, batch: Any, loss: Any = None, reduction: str = 'mean'
) -> Sums:
    """Take one step."""
    net = whole(placed.net)
    x, labels = colours(batch[0]), np.asarray(batch[1])
    scores = (x * net.scale) @ net.fc.weight.T + net.fc.bias
    total, correct, probabilities = losses(scores, labels)
    delta = probabilities - np.eye(scores.shape[1], dtype=scores.dtype)[labels]
    delta = delta / (1 if reduction == 'sum' else len(labels))
    gradients = {
        'scale': (delta @ net.fc.weight * x).sum(axis=0),
        'fc.weight': delta.T @ (x * net.scale),
        'fc.bias': delta.sum(axis=0),
    }
    recipe = trainer.recipe
    for name, weight in net.parameters().items():
        if name == 'scale' and net.frozen:
            continue
        rate = recipe.learning_rate * (recipe.head_lr_mult if name != 'scale' else 1.0)
        step = rate * (gradients[name] + recipe.weight_decay * weight)
        if recipe.momentum:
            step = step + recipe.momentum * trainer.velocity.get(name, np.zeros_like(weight))
            trainer.velocity[name] = step.astype(weight.dtype)
        weight -= step.astype(weight.dtype)
    return Sums(total, correct, len(labels))


def whole(net: Net | Linear) -> Net:
    """Return a net, around a head that is trained on features alone."""
    if isinstance(net, Net):
        return net
    return Net(np.ones(net.weight.shape[1], np.float32), net, frozen=True)


def losses(scores: NDArray[Any], labels: NDArray[Any]) -> tuple[Any, Any, NDArray[Any]]:
    """Return summed cross-entropy, hits and probabilities."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    total = -logs[np.arange(len(labels)), labels].sum()
    return total, (scores.argmax(axis=1) == labels).sum(), np.exp(logs)


def logits(placed: Placed, batch: Any) -> NDArray[Any]:
    """Return the scores."""
    net = whole(placed.net)
    return (colours(batch[0]) * net.scale) @ net.fc.weight.T + net.fc.bias


def predict(placed: Placed, loader: Any) -> NDArray[Any]:
    """Return the scores of a loader's images."""
    return np.concatenate([logits(placed, batch) for batch in loader])


def features(placed: Placed, loader: Any) -> NDArray[Any]:
    """Return the scaled colours."""
    return np.concatenate([colours(images) * placed.net.scale for images, _ in loader])


def evaluate(placed: Placed, loader: Any) -> Sums:
    """Return the sums over a loader."""
    loss, correct, examples = 0.0, 0.0, 0
    for batch in loader:
        total, hits, _ = losses(logits(placed, batch), np.asarray(batch[1]))
        loss, correct, examples = loss + total, correct + hits, examples + len(batch[1])
    return Sums(loss, correct, examples)


def get_state(placed: Placed) -> State:
    """Return copies."""
    return {name: array.copy() for name, array in placed.net.parameters().items()}


def set_state(placed: Placed, state: Mapping[str, NDArray[Any]]) -> None:
    """Copy into the net, all or nothing."""
    own = placed.net.parameters()
    if {name: array.shape for name, array in state.items()} != {
        name: array.shape for name, array in own.items()
    }:
        raise ModelError('the state does not fit the net')
    for name, array in own.items():
        array[...] = state[name]


def get_trainer_state(placed: Placed, trainer: Sgd) -> State:
    """Return the velocities."""
    return {name: array.copy() for name, array in trainer.velocity.items()}


def set_trainer_state(placed: Placed, trainer: Sgd, state: Mapping[str, NDArray[Any]]) -> None:
    """Restore the velocities."""
    own = placed.net.parameters()
    if any(name not in own or own[name].shape != array.shape for name, array in state.items()):
        raise ModelError('the state does not fit the trainer')
    trainer.velocity = {name: np.array(array) for name, array in state.items()}
