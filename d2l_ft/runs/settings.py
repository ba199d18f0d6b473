"""What a run is asked for, and what of it no training can do."""

import os
from dataclasses import dataclass, replace

from d2l_ft.backend.devices import PRECISIONS, parse_devices
from d2l_ft.data.datasets import DataSet
from d2l_ft.errors import (
    CheckpointError,
    D2LFTError,
    ModelError,
)
from d2l_ft.models.architectures import architecture
from d2l_ft.optim.recipe import FINE_TUNED, SCRATCH_LR_FACTOR, Recipe
from d2l_ft.optim.schedules import SCHEDULES
from d2l_ft.runs.bounds import BOUNDS, check_number, check_text
from d2l_ft.runs.directory import NETS, Run
from d2l_ft.sources.load import SOURCES
from d2l_ft.storage.typed_json import from_json


@dataclass(frozen=True)
class Settings:
    """What a run is asked for; the command line's options have the same names.

    Attributes:
        data: 'sample', 'hotdog' or an image folder.
        arch: Architecture.
        source: 'sample', 'imagenet', 'none' or a file, as ``load_source`` takes it; None is the
            data set's own.
        epochs: Passes over the training part.
        batch_size: Examples a step; None is the data set's own.
        lr: Rate of the body of the fine-tuned net; the twin's is ten times that. None is the data
            set's own.
        head_lr_mult: The head learns so many times faster.
        weight_decay: As in ``Recipe``.
        momentum: As in ``Recipe``.
        freeze: Train the head alone.
        cache_features: Compute what the frozen body makes of the images once.
        augment: Crop and flip at random; otherwise each image is seen as in the test.
        views: The crops of the first so many epochs come again; 0 draws new ones each epoch.
        compare: Train the twin from scratch as well.
        image_size: Side of the net's input, in pixels; None is the data set's own.
        devices: As ``parse_devices`` reads it.
        workers: Loader processes; None is 0 on the CPU, up to 8 with a GPU.
        image_cache: MiB in which images are kept between epochs; None is a quarter of what is free.
        precision: 'auto', 'float32' or 'bfloat16'.
        channels_last: Layout of images in memory, where the framework leaves the choice.
        keep_memory: Keep freed memory for the next step, where the system lets the process choose.
        schedule: 'constant' or 'cosine', of the rates over all steps.
        save_every: Steps within an epoch between checkpoints; 0 writes them after each epoch only.
        skip_bad: Leave out bad images instead of refusing to train.
        seed: Seed of heads, twin, order, crops, flips and dropout.
    """

    data: str = 'sample'
    arch: str = 'resnet18'
    source: str | None = None
    epochs: int = 5
    batch_size: int | None = None
    lr: float | None = None
    head_lr_mult: float = FINE_TUNED.head_lr_mult
    weight_decay: float = FINE_TUNED.weight_decay
    momentum: float = FINE_TUNED.momentum
    freeze: bool = False
    cache_features: bool = False
    augment: bool = True
    views: int = 0
    compare: bool = False
    image_size: int | None = None
    devices: str = 'auto'
    workers: int | None = None
    image_cache: int | None = None
    precision: str = 'auto'
    channels_last: bool = True
    keep_memory: bool = True
    schedule: str = 'constant'
    save_every: int = 0
    skip_bad: bool = False
    seed: int = 0

    def recipe(self, net: str) -> Recipe:
        """Return the recipe of 'fine-tuned' or 'scratch', at the chapter's rate if none is set."""
        rate = FINE_TUNED.learning_rate if self.lr is None else self.lr
        multiplier = self.head_lr_mult
        if net == 'scratch':
            rate, multiplier = rate * SCRATCH_LR_FACTOR, 1.0
        return Recipe(rate, multiplier, self.weight_decay, self.momentum)

    def resolved(self, data: DataSet) -> 'Settings':
        """Return the settings with the data set's own values where there are none."""
        return replace(
            self,
            image_size=self.image_size or data.image_size,
            batch_size=self.batch_size or data.batch_size,
            lr=data.lr if self.lr is None else self.lr,
            data=data.name,
            source=full_path(self.source or data.source),
        )

    def check(self) -> None:
        """Refuse what no training can do, before a framework is imported.

        Raises:
            ModelError: A value is out of its bounds, or options contradict each other.
        """
        architecture(self.arch)
        for name, value in vars(self).items():
            if name in BOUNDS and value is not None:
                check_number(name, value)
            elif isinstance(value, str):
                check_text(name, value)
        for name, choices in (('precision', PRECISIONS), ('schedule', SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ModelError(
                    f'{name} is {getattr(self, name)!r}: choose one of {", ".join(choices)}'
                )
        parse_devices(self.devices)
        for net in self.nets():
            self.recipe(net)

    def nets(self) -> list[str]:
        """Return the nets to train; without a source there is only the twin.

        Raises:
            ModelError: The options contradict each other.
        """
        if self.views and not self.augment:
            raise ModelError('--no-augment leaves one view: leave out --views')
        if self.cache_features and not self.freeze:
            raise ModelError('--cache-features needs --freeze: a body that learns changes them')
        if self.cache_features and self.augment and not self.views:
            raise ModelError(
                '--cache-features needs crops that come again: add --no-augment, or --views 4'
            )
        if self.source == 'none':
            if self.freeze:
                raise ModelError('--freeze needs a source: random features would stay random')
            return ['scratch']
        return list(NETS) if self.compare else ['fine-tuned']


FEW_STEPS = 10
"""Steps an epoch below which a user is told."""


def check_shares(settings: Settings, data: DataSet, devices: int, size: int) -> None:
    """Refuse batches of which a device gets one image where BatchNorm cannot train on one.

    One value has no variance: PyTorch raises in the step, and MXNet trains on zeros.

    Raises:
        ModelError: There is such a batch; what to do instead.
    """
    arch, count = architecture(settings.arch), len(data.train.samples)
    if size >= arch.alone or (settings.freeze and settings.nets() == ['fine-tuned']):
        return

    def smallest_share(batch_size: int) -> int:
        sizes = {min(batch_size, count), count % batch_size or batch_size}
        return max(1, min(sizes) // devices)

    now = settings.batch_size or data.batch_size
    if smallest_share(now) > 1:
        return
    others = sorted(range(2, count + 1), key=lambda each: abs(each - now))
    better = next((each for each in others if smallest_share(each) > 1), None)
    what = f'--batch-size {better} or ' if better else ''
    raise ModelError(
        f'of the {count} images in batches of {now} a device gets one alone, on which BatchNorm of '
        f'{arch.name} cannot train at {size} pixels: give {what}--image-size {arch.alone}'
    )


def full_path(source: str) -> str:
    """Return a source as it is to be kept: a file by its full path, others by their name."""
    return source if source in SOURCES else os.path.realpath(os.path.expanduser(source))


def run_settings(run: Run) -> Settings:
    """Return the settings of a run.

    Raises:
        CheckpointError: They are damaged, out of their bounds, or of a newer d2l_ft.
    """
    try:
        settings = from_json(Settings, run.config['settings'])
        settings.check()
    except (ValueError, D2LFTError) as error:
        raise CheckpointError(f'the settings in {run.path}/config.json: {error}') from None
    return settings
