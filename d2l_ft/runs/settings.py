"""The settings of a run, in four groups of options, and which of them are refused.

Each option is declared once, as a field. The options of ``d2l-ft train`` are made from the fields,
and config.json has a value for each. To add an option, add a field here, its use and its test.
"""

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from d2l_ft.backend.devices import PRECISIONS, parse_devices
from d2l_ft.errors import CheckpointError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES, architecture
from d2l_ft.optim.recipe import FINE_TUNED, SCRATCH_LR_FACTOR, Recipe
from d2l_ft.optim.schedules import SCHEDULES
from d2l_ft.runs.fields import check_fields, option

if TYPE_CHECKING:  # the command line's help does without OpenCV
    from d2l_ft.data.datasets import DataSet

NETS = ('fine-tuned', 'scratch')

SOURCES = ('sample', 'imagenet', 'none')
"""Names of sources; any other is a file."""


@dataclass(frozen=True)
class DataOptions:
    """The images and their augmentation."""

    data: str = option(
        'sample',
        'sample, hotdog, or a folder with a folder of images per class.',
        may_change=True,  # it may have moved; its contents are compared
    )
    image_size: int | None = option(
        None,
        "Side of the net's input in pixels.  [default: 48 for sample, else 224; a converted "
        "net's own]",
        bounds=(8, 1 << 13),
    )
    augment: bool = option(True, 'Crop and flip the training images at random.')
    views: int = option(
        0,
        'Fixed crops of each image, used in turn, one an epoch.  [default: new crops each epoch]',
        bounds=(0, 10**6),
        metavar='COUNT',
    )
    skip_bad: bool = option(False, 'Leave out bad images; the run lists them.')

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            OptionError: A value is out of its bounds, or options contradict each other.
        """
        check_fields(self)
        if self.views and not self.augment:
            raise OptionError('`augment=False` leaves one view: leave out `views`')


@dataclass(frozen=True)
class ModelOptions:
    """The net, and which part of it is trained."""

    arch: str = option(
        'resnet18', f'{", ".join(ARCHITECTURES)}, or a folder of d2l-ft convert.', metavar='NAME'
    )
    source: str | None = option(
        None,
        'sample (pre-trained at first use), imagenet, none, a weights file, or a folder of '
        'd2l-ft convert, whose net is trained.  [default: sample for sample, else imagenet]',
    )
    freeze: bool = option(False, 'Train the output layer alone.')
    cache_features: bool = option(
        False,
        'With `freeze`, run the body once and train the output layer on what it gave: the same '
        'net to rounding, in a fraction of the time. It needs `augment=False` or `views`.',
    )
    compare: bool = option(False, 'Also train a from-scratch baseline.')

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            OptionError: A value is out of its bounds, or options contradict each other.
        """
        check_fields(self)
        if not is_folder(self.arch):
            architecture(self.arch)
        if self.cache_features and not self.freeze:
            raise OptionError('`cache_features` needs `freeze`: a body that learns changes them')
        if self.source == 'none' and self.freeze:
            raise OptionError('`freeze` needs a `source`: random features would stay random')

    def nets(self) -> list[str]:
        """Return the nets to train; without a source there is only the baseline."""
        if self.source == 'none':
            return ['scratch']
        return list(NETS) if self.compare else ['fine-tuned']


@dataclass(frozen=True)
class OptimOptions:
    """How long and how fast the nets learn."""

    num_epochs: int = option(
        5, 'Passes over the training images.', bounds=(1, 10**6), flag='--epochs'
    )
    batch_size: int | None = option(
        None, 'Examples a step.  [default: 64 for sample, else 128]', bounds=(1, 10**6)
    )
    learning_rate: float | None = option(
        None,
        'Rate of the body, for the mean loss; the from-scratch baseline gets 10 x.  '
        '[default: 0.002 for sample, else 0.01]',
        flag='--lr',
    )
    head_lr_mult: float = option(
        FINE_TUNED.head_lr_mult, 'How many times faster the new output layer learns.'
    )
    weight_decay: float = option(FINE_TUNED.weight_decay, "Factor of the L2 penalty's gradient.")
    momentum: float = option(FINE_TUNED.momentum, 'Factor of the velocity, below 1.')
    schedule: str = option(
        'constant',
        'Course of the learning rates: cosine lowers them to 0 over all steps.',
        choices=SCHEDULES,
    )
    seed: int = option(
        0, 'Seed of heads, baseline, order, crops, flips and dropout.', bounds=(0, 2**63 - 1)
    )

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            OptionError: A value is out of its bounds.
        """
        check_fields(self)
        for net in NETS:
            self.recipe(net)

    def recipe(self, net: str) -> Recipe:
        """Return the recipe of 'fine-tuned' or 'scratch'.

        This is the one rule for rates: what was given, else the data set's own, which
        ``Settings.resolve`` has filled in, else the chapter's; and ten times that from scratch,
        where all layers have the same rate.
        """
        rate = FINE_TUNED.learning_rate if self.learning_rate is None else self.learning_rate
        multiplier = self.head_lr_mult
        if net == 'scratch':
            rate, multiplier = rate * SCRATCH_LR_FACTOR, 1.0
        return Recipe(rate, multiplier, self.weight_decay, self.momentum)


@dataclass(frozen=True)
class SystemOptions:
    """Devices, loading, memory and checkpoints."""

    devices: str = option('auto', 'auto, cpu, cpu:2 (two replicas), gpu, gpu:0,1.', may_change=True)
    workers: int | None = option(
        None,
        'Loader processes.  [default: 0 on the CPU, up to 8 with a GPU]',
        bounds=(0, 1 << 10),
        may_change=True,
    )
    image_cache: int | None = option(
        None,
        'Memory in which decoded images are kept between epochs; the result does not depend on '
        'it.  [default: a quarter of what is free]',
        bounds=(0, 1 << 24),
        metavar='MIB',
        may_change=True,
    )
    precision: str = option(
        'auto', 'auto takes bfloat16 with PyTorch where the hardware has it.', choices=PRECISIONS
    )
    channels_last: bool = option(
        True,
        'Layout of images in memory with PyTorch: faster, and sums are rounded in another order.',
    )
    keep_memory: bool = option(
        True,
        'Keep freed memory for the next step instead of giving it back to the system (glibc).',
        may_change=True,
    )
    save_every: int = option(
        0,
        'Write checkpoints within an epoch too.  [default: after each epoch]',
        bounds=(0, 10**9),
        metavar='STEPS',
        may_change=True,
    )
    keep_checkpoints: int = option(
        2,
        'Keep the newest checkpoints of each net; the one before the last serves if that is '
        'damaged.',
        bounds=(1, 10**6),
        metavar='COUNT',
        may_change=True,
    )

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            OptionError: A value is out of its bounds.
            DeviceError: The devices cannot be read.
        """
        check_fields(self)
        parse_devices(self.devices)


@dataclass(frozen=True)
class Settings:
    """All options of a run."""

    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    optim: OptimOptions = OptimOptions()
    system: SystemOptions = SystemOptions()

    @classmethod
    def of(cls, **options: Any) -> 'Settings':
        """Return the settings with some options, each given by its name alone.

        Raises:
            OptionError: There is no such option.
        """
        return cls().replace(**options)

    def replace(self, **options: Any) -> 'Settings':
        """Return the settings with other values of some options.

        Raises:
            OptionError: There is no such option.
        """
        groups = {}
        for name, group in vars(self).items():
            mine = {
                each.name: options.pop(each.name) for each in fields(group) if each.name in options
            }
            groups[name] = replace(group, **mine)
        if options:
            names = ', '.join(each.name for each in option_fields().values())
            raise OptionError(f'there is no option {next(iter(options))!r}; there are {names}')
        return Settings(**groups)

    def values(self) -> dict[str, Any]:
        """Return name -> value of all options."""
        return {name: value for group in vars(self).values() for name, value in vars(group).items()}

    def resolve(self, data: 'DataSet') -> 'Settings':
        """Return the settings with the values of the data set, or the net, where there are none."""
        rate = self.optim.learning_rate
        own_size = architecture(self.model.arch).image_size
        return self.replace(
            data=data.name,
            image_size=self.data.image_size or own_size or data.image_size,
            batch_size=self.optim.batch_size or data.batch_size,
            learning_rate=data.learning_rate if rate is None else rate,
            source=full_path(self.model.source or data.source),
        )

    def resume(self, given: Mapping[str, Any]) -> 'Settings':
        """Return the settings with which to resume a run that has these.

        Options that change no result may be given another value, and so may the epochs unless the
        learning rates depend on them. All others must be unchanged.

        Raises:
            CheckpointError: One of the others is changed.
        """
        values, options = self.values(), option_fields()
        settings = self
        for name, value in given.items():
            longer = name == 'num_epochs' and self.optim.schedule == 'constant'
            if options[name].metadata['option'].may_change or longer:
                settings = settings.replace(**{name: value})
                continue
            before = values[name]
            if name == 'source' and before:
                value, before = full_path(value), full_path(before)
            if value != before:
                raise CheckpointError(
                    f'the run was started with `{name}={values[name]}`: '
                    'leave the option out, or train again with another `out`'
                )
        return settings

    def check(self) -> None:
        """Refuse what cannot be trained, before a framework is imported.

        Raises:
            OptionError: A value is out of its bounds, or options contradict each other.
            DeviceError: The devices cannot be read.
        """
        for group in (self.data, self.model, self.optim, self.system):
            group.check()
        if self.model.cache_features and self.data.augment and not self.data.views:
            raise OptionError(
                '`cache_features` needs crops that come again: add `augment=False`, or `views=4`'
            )


def option_fields() -> dict[str, Field[Any]]:
    """Return name -> field of all options, in the order of the groups."""
    groups = vars(Settings()).values()
    return {each.name: each for group in groups for each in fields(group)}


FEW_STEPS = 10
"""With fewer steps an epoch the user gets a hint; most nets learn little from so few."""


def check_shares(settings: Settings, data: 'DataSet', devices: int, size: int) -> None:
    """Refuse batches that leave a device one image, if BatchNorm cannot train on one.

    One value has no variance: PyTorch raises in the step, and MXNet trains on zeros.

    Raises:
        OptionError: There is such a batch; the message names values that work.
    """
    model = settings.model
    arch, count = architecture(model.arch), len(data.train.samples)
    if size >= arch.alone or (model.freeze and model.nets() == ['fine-tuned']):
        return

    def smallest_share(batch_size: int) -> int:
        sizes = {min(batch_size, count), count % batch_size or batch_size}
        return max(1, min(sizes) // devices)

    now = settings.optim.batch_size or data.batch_size
    if smallest_share(now) > 1:
        return
    others = sorted(range(2, count + 1), key=lambda each: abs(each - now))
    better = next((each for each in others if smallest_share(each) > 1), None)
    ways = [f'`batch_size={better}`'] if better else []
    if arch.definition is None:  # of a converted net the size is not known
        ways.append(f'`image_size={arch.alone}`')
    raise OptionError(
        f'of the {count} images in batches of {now} a device gets one alone, on which BatchNorm of '
        f'{arch.name} cannot train at {size} pixels: give {" or ".join(ways) or "more images"}'
    )


def is_folder(name: str) -> bool:
    """Tell whether the name of an architecture or a source is that of a folder."""
    known = name in ARCHITECTURES or name in SOURCES
    return not known and os.path.isdir(os.path.expanduser(name))


def full_path(source: str) -> str:
    """Return a source as config.json has it: a file by its full path, others by name."""
    return source if source in SOURCES else os.path.realpath(os.path.expanduser(source))
