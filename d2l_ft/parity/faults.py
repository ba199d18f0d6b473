"""Faults that the ladder must find: the proof of the proof.

Each is planted in one framework's process, in the real code, while that framework is traced. The
table says which check must fail first and what its ``where`` must name.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from d2l_ft.data import sampling, transforms
from d2l_ft.errors import ParityError
from d2l_ft.models import checkpoint
from d2l_ft.parity.plan import Context
from d2l_ft.parity.rungs import checkpoints

Plant = Callable[[Context], Any]
"""Takes the context of a process and yields the context to trace with, as a context manager."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: What is wrong.
        check: Beginning of the name of the check that must be the first to fail.
        where: What the place must name.
        plant: How it is planted.
        rungs: Rungs that are traced to find it.
        both: Whether both frameworks have it, so that only the comparison with the recipe finds it.
    """

    name: str
    check: str
    where: str
    plant: Plant
    rungs: tuple[str, ...]
    both: bool = False

    @property
    def text(self) -> str:
        """Return what is done wrong, in one line; it stands in the tables."""
        return (self.plant.__doc__ or '').partition('\n')[0]


FAULTS: dict[str, Fault] = {}


def fault(
    check: str, where: str, *more: str, both: bool = False
) -> Callable[[Callable[..., Any]], Plant]:
    """Register a function as a fault under its own name, with hyphens.

    Args:
        check: As in ``Fault``.
        where: As in ``Fault``.
        more: Earlier rungs, which must find nothing.
        both: As in ``Fault``.
    """

    def register(function: Callable[..., Any]) -> Plant:
        name = function.__name__.replace('_', '-')
        plant = contextmanager(function)
        rungs = (*more, check.partition('/')[0])
        FAULTS[name] = Fault(name, check, where, plant, rungs, both)
        return plant

    return register


@contextmanager
def plant(name: str, context: Context) -> Iterator[Context]:
    """Plant a fault for the duration of a ``with`` block.

    Raises:
        ParityError: There is no such fault.
    """
    if name not in FAULTS:
        raise ParityError(f'no fault is named {name!r}: choose one of {", ".join(FAULTS)}')
    with FAULTS[name].plant(context) as faulty:
        yield faulty


def with_backend(context: Context, **functions: Any) -> Context:
    """Return a context with some functions of its backend replaced."""
    backend: Any = SimpleNamespace(**{**vars(context.backend), **functions})
    return dataclasses.replace(context, backend=backend)


def with_recipe(context: Context, change: Callable[[Any], Any]) -> Context:
    """Return a context whose trainers are built from a changed recipe."""
    build = context.backend.build_trainer
    return with_backend(context, build_trainer=lambda placed, recipe: build(placed, change(recipe)))


def with_nets(context: Context, change: Callable[[Any], None]) -> Context:
    """Return a context whose nets are changed when they are built."""

    @functools.wraps(context.backend.build_net)
    def build(*args: Any, **options: Any) -> Any:
        net = original(*args, **options)
        change(net)
        return net

    original = context.backend.build_net
    return with_backend(context, build_net=build)


@fault('samples/data/labels', 'epoch 0, batch 0, example 0')
def labels_reversed(context: Context) -> Iterator[Context]:
    """Count the classes from the end."""
    original = context.backend.loader

    def loader(samples: Any, *args: Any, **options: Any) -> Any:
        last = max(each.label for each in samples)
        samples_to_load = [dataclasses.replace(each, label=last - each.label) for each in samples]
        return original(samples_to_load, *args, **options)

    yield with_backend(context, loader=loader)


@fault('samples/data/', 'epoch 0, batch 0')
def order_of_another_seed(context: Context) -> Iterator[Context]:
    """Shuffle with another seed."""
    original = context.backend.loader

    def loader(*args: Any, **options: Any) -> Any:
        return original(*args, **{**options, 'seed': options['seed'] + 1})

    yield with_backend(context, loader=loader)


@fault('samples/data/labels', 'epoch 0, batch 5')
def last_batch_dropped(context: Context) -> Iterator[Context]:
    """Leave out the last, short batch of an epoch."""
    keys = sampling.EpochSampler.__iter__

    def whole_batches(sampler: Any) -> Iterator[Any]:
        return (batch for batch in keys(sampler) if len(batch) == sampler.batch_size)

    with mock.patch.object(sampling.EpochSampler, '__iter__', whole_batches):
        yield context


@fault('samples/data/shards', '2 devices, device 0')
def shares_the_other_way(context: Context) -> Iterator[Context]:
    """Give the larger shares to the last devices."""
    split = context.probe.split

    def split_in_reverse(placed: Any, batch: Any) -> Any:
        sizes = [len(share) for share in split(placed, batch)][::-1]
        return np.split(np.concatenate(split(placed, batch)), np.cumsum(sizes)[:-1])

    probe: Any = SimpleNamespace(**{**vars(context.probe), 'split': split_in_reverse})
    yield dataclasses.replace(context, probe=probe)


@fault('pixels/data/crops', 'epoch 0, row 0, column 0')
def channels_swapped(context: Context) -> Iterator[Context]:
    """Decode as BGR."""
    decode = transforms.decode
    with mock.patch.object(transforms, 'decode', lambda path: decode(path)[:, :, ::-1].copy()):
        yield context


@fault('pixels/data/crops', 'epoch 0')
def crop_off_by_one(context: Context) -> Iterator[Context]:
    """Take the crop a pixel too far to the right, where there is room."""
    draw = transforms.random_box

    def shift_box(height: int, width: int, *args: Any) -> Any:
        top, left, box_height, box_width = draw(height, width, *args)
        return top, min(left + 1, width - box_width), box_height, box_width

    with mock.patch.object(transforms, 'random_box', shift_box):
        yield context


@fault('pixels/data/', 'epoch 0')
def mean_and_deviation_exchanged(context: Context) -> Iterator[Context]:
    """Standardise with the deviation for the mean."""
    to_float = transforms.Pipeline.to_float

    def standardise_wrongly(self: Any, crops: Any) -> Any:
        return to_float(dataclasses.replace(self, mean=self.std, std=self.mean), crops)

    with mock.patch.object(transforms.Pipeline, 'to_float', standardise_wrongly):
        yield context


@fault('structure/resnet18-2/groups', 'fc.')
def head_multiplier_lost(context: Context) -> Iterator[Context]:
    """Train the head at the rate of the body."""
    yield with_recipe(context, lambda recipe: dataclasses.replace(recipe, head_lr_mult=1.0))


@fault('structure/resnet18-2/frozen', 'fc.weight')
def freezing_forgotten(context: Context) -> Iterator[Context]:
    """Leave the body trainable."""
    yield with_backend(context, freeze=lambda net: None)


@fault('forward/resnet18-2/layers-eval-float64', 'layer3.0.conv2', 'structure')
def stale_weight(context: Context) -> Iterator[Context]:
    """Forget one weight when a state is loaded."""
    get, put = context.backend.get_state, context.backend.set_state

    def set_state(placed: Any, state: Mapping[str, Any]) -> None:
        state_before = get(placed)
        name = 'layer3.0.conv2.weight'
        put(placed, {**state, name: state_before[name] + 1e-3 * np.sign(state_before[name])})

    yield with_backend(context, set_state=set_state)


@fault('forward/resnet18-2/layers-eval-float64', 'bn1')
def epsilon_of_another_library(context: Context) -> Iterator[Context]:
    """Give BatchNorm the epsilon 1e-3."""

    def change(net: Any) -> None:
        for norm in context.probe.batch_norms(net):
            if hasattr(norm, 'eps'):
                norm.eps = 1e-3
            else:
                norm._kwargs['eps'] = 1e-3

    yield with_nets(context, change)


@fault('forward/resnet18-2/logits-eval-float64', 'the logits')
def evaluation_in_train_mode(context: Context) -> Iterator[Context]:
    """Normalise by the batch when testing."""
    head = 'fc'

    def logits(placed: Any, batch: Any) -> Any:
        return context.probe.feature_maps(placed.net, batch, train=True)[head]

    yield with_backend(context, logits=logits)


@fault('backward/resnet18-2/gradients-float64', 'layer2.0.downsample.0.weight', 'forward')
def gradient_lost(context: Context) -> Iterator[Context]:
    """Lose a tenth of the gradient of one layer."""
    read = context.probe.gradients

    def gradients(net: Any, trainer: Any) -> Any:
        found = read(net, trainer)
        name = 'layer2.0.downsample.0.weight'
        return {**found, name: found[name] * 0.9}

    probe: Any = SimpleNamespace(**{**vars(context.probe), 'gradients': gradients})
    yield dataclasses.replace(context, probe=probe)


@fault('backward/resnet18-2/gradients-float64', 'conv1.weight')
def loss_summed(context: Context) -> Iterator[Context]:
    """Take the gradient of the sum over the batch."""
    step = context.backend.train_step

    def step_on_sum(
        placed: Any, trainer: Any, batch: Any, loss: Any = None, reduction: str = ''
    ) -> Any:
        return step(placed, trainer, batch, loss, 'sum')

    yield with_backend(context, train_step=step_on_sum)


@fault('update/resnet18-2/plain', 'conv1.weight', 'backward')
def decay_doubled(context: Context) -> Iterator[Context]:
    """Decay twice as much."""
    yield with_recipe(
        context,
        lambda recipe: dataclasses.replace(recipe, weight_decay=2 * recipe.weight_decay),
    )


@fault('update/resnet18-2/plain', 'conv1.weight', 'backward')
def decay_before_the_mean(context: Context) -> Iterator[Context]:
    """Divide the decay by the batch too, as a summed loss does."""
    size = context.plan.batch_size
    yield with_recipe(
        context,
        lambda recipe: dataclasses.replace(recipe, weight_decay=recipe.weight_decay / size),
    )


@fault('update/resnet18-2/rates-', 'fc.weight', 'backward', both=True)
def head_multiplier_of_both(context: Context) -> Iterator[Context]:
    """Give the head five times the rate, in both frameworks, so that only the recipe tells."""
    yield with_recipe(context, lambda recipe: dataclasses.replace(recipe, head_lr_mult=5.0))


@fault('update/resnet18-2/plain', 'bn1.running_mean', 'backward')
def statistics_of_the_other_meaning(context: Context) -> Iterator[Context]:
    """Take BatchNorm's momentum for the share of the new statistics, or the other way round."""

    def change(net: Any) -> None:
        for norm in context.probe.batch_norms(net):
            if hasattr(norm, 'momentum'):
                norm.momentum = 1 - norm.momentum
            else:
                norm._kwargs['momentum'] = 1 - norm._kwargs['momentum']

    yield with_nets(context, change)


@fault('update/resnet18-2/momentum', 'conv1.weight', 'backward')
def momentum_forgotten(context: Context) -> Iterator[Context]:
    """Begin again without velocity at each change of the rate."""
    yield with_backend(context, set_trainer_state=lambda placed, trainer, state: None)


@fault('trajectory/resnet18-2/losses-strict', 'step 3')
def step_repeated(context: Context) -> Iterator[Context]:
    """Take every fourth step twice."""
    step, calls = context.backend.train_step, [0]

    def repeat_step(placed: Any, trainer: Any, batch: Any, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] % 4 == 0:
            step(placed, trainer, batch, *args)
        return step(placed, trainer, batch, *args)

    yield with_backend(context, train_step=repeat_step)


@fault('trajectory/resnet18-2/logits-strict', 'the test logits')
def mirrored_when_tested(context: Context) -> Iterator[Context]:
    """Test on mirrored pictures; training sees the right ones."""
    crop = transforms.Pipeline.crop

    def mirror(self: Any, *args: Any) -> Any:
        image = crop(self, *args)
        return image if self.train else np.ascontiguousarray(image[:, ::-1])

    with mock.patch.object(transforms.Pipeline, 'crop', mirror):
        yield context


@fault('runs/resnet18/', 'epoch')
def source_not_loaded(context: Context) -> Iterator[Context]:
    """Begin from random weights of another seed instead of the source."""
    build = context.backend.build_net

    def build_without_source(arch: str, classes: int, source: Any = None, seed: int = 0) -> Any:
        return build(arch, classes, None, seed + 1)

    yield with_backend(context, build_net=build_without_source)


@fault('checkpoints/resnet18-', 'layer1.0.conv1.weight')
def tensors_exchanged(context: Context) -> Iterator[Context]:
    """Write two tensors of the same shape under each other's name."""
    write = checkpoint.save_checkpoint
    pair = 'layer1.0.conv1.weight', 'layer1.0.conv2.weight'

    def write_exchanged(path: Any, written: Any) -> None:
        model = dict(written.model)
        model[pair[0]], model[pair[1]] = model[pair[1]], model[pair[0]]
        write(path, dataclasses.replace(written, model=model))

    with mock.patch.object(checkpoints, 'save_checkpoint', write_exchanged):
        yield context


@fault('checkpoints/resnet18-mxnet-to-pytorch/trainer', 'bn1.bias')
def velocity_turned(context: Context) -> Iterator[Context]:
    """Restore velocities with the other framework's sign."""
    put = context.backend.set_trainer_state

    def set_negated(placed: Any, trainer: Any, state: Mapping[str, Any]) -> None:
        put(placed, trainer, {name: -array for name, array in state.items()})

    yield with_backend(context, set_trainer_state=set_negated)


@fault('devices/', 'conv1.weight')
def replica_left_out(context: Context) -> Iterator[Context]:
    """Train on the first device's share alone."""
    step, split = context.backend.train_step, context.probe.split

    def step_on_first_share(placed: Any, trainer: Any, batch: Any, *args: Any) -> Any:
        first = len(split(placed, batch)[0])
        return step(placed, trainer, (batch[0][:first], batch[1][:first]), *args)

    yield with_backend(context, train_step=step_on_first_share)


@fault('book/', 'conv1.weight')
def decay_left_out_of_the_print(context: Context) -> Iterator[Context]:
    """Follow the printed recipe without its decay."""
    yield with_recipe(context, lambda recipe: dataclasses.replace(recipe, weight_decay=0.0))
