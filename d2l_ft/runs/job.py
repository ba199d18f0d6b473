"""The main job: fine-tune a source model and, to compare, train a from-scratch baseline."""

import datetime
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from d2l_ft.backend.protocol import Backend, Placed
from d2l_ft.backend.versions import versions
from d2l_ft.convert.trainable import add_folder
from d2l_ft.data.datasets import DataSet, default_cache, load_data
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import (
    CheckpointError,
    DataError,
    OptionError,
    StorageError,
    TrainingDiverged,
    WorkerDied,
)
from d2l_ft.models.architectures import Architecture, architecture
from d2l_ft.models.state import State
from d2l_ft.optim.schedules import scheduled_rate
from d2l_ft.report.figures import save_curves
from d2l_ft.report.live import LiveCurves
from d2l_ft.report.page import write_report
from d2l_ft.runs.callbacks import Checkpoints, EpochLines, MetricsFile, Report
from d2l_ft.runs.contents import find_change, load_contents, save_contents
from d2l_ft.runs.directory import LEFT_OUT, Run, RunConfig, claim, new_path
from d2l_ft.runs.results import load_net
from d2l_ft.runs.settings import FEW_STEPS, Settings, check_shares, full_path, is_folder
from d2l_ft.sources.load import load_source
from d2l_ft.system.hardware import keep_freed_memory
from d2l_ft.training.callbacks import LogLines, ProgressBar
from d2l_ft.training.evaluation import evaluate_samples
from d2l_ft.training.feature_cache import FeatureLoader, features
from d2l_ft.training.loaders import loader_options
from d2l_ft.training.metrics import Position
from d2l_ft.training.trainer import Trainer


def train(  # noqa: C901 -- a run from its first check to its last net, part by part
    backend: Backend,
    settings: Settings,
    out: Path | None = None,
    *,
    resume: bool = False,
    bar: bool = True,
    say: Callable[[str], None] = print,
) -> tuple[Run, int]:
    """Train the nets of a run, and write its run directory.

    Args:
        backend: The framework.
        settings: The options.
        out: The run directory: new, or with ``resume`` that of an earlier run of these settings.
            None makes one below runs/.
        resume: Whether to continue where the run stopped.
        bar: Whether to show progress bars; they need a terminal too.
        say: Prints a line for the user.

    Returns:
        The run, and the number of the signal, such as SIGINT, that ended it early (a checkpoint is
        written);
        0 if it is complete.

    Raises:
        D2LFTError: Anything that the user can fix; all is checked before training starts.
    """
    # check what needs no image
    settings.check()
    settings = take_converted(settings, say)
    names = settings.model.nets()
    if settings.system.keep_memory:
        keep_freed_memory()
    devices = backend.devices(settings.system.devices)
    earlier_run = Run.open(out) if out and resume else None
    out = out or new_path(backend.NAME, settings.data.data)
    with claim(out, resume=resume):
        # find and check the images; the data set fills in the options that were not given
        try:
            name = settings.data.data
            data = load_data(
                name, seed=settings.optim.seed, bar=bar, skip_bad=settings.data.skip_bad
            )
        except DataError as error:
            if earlier_run and not os.path.exists(name) and os.sep in name:
                raise CheckpointError(
                    f'{name} is gone: tell where its images are now:  '
                    f'd2l-ft train --out {out} --resume --data FOLDER'
                ) from error
            raise
        settings = settings.resolve(data)
        arch, size = settings.model.arch, settings.data.image_size or data.image_size
        check_size(backend, arch, size)
        # say what is remarkable about them
        for part in (data.train, data.test):
            if part.note():
                say(part.note())
        for line in data.remarks:
            say(line)
        # the run: new, or an earlier one if its images are the same
        run = earlier_run or Run(out, _config(backend, settings, data, size))
        run.config.check()
        if resume:
            _check_same(run, data, size, bar=bar)
            # the epochs may be more now, and the data may have moved
            run.config = replace(run.config, data=data.name, settings=settings)
        check_shares(settings, data, len(devices), size)
        steps = -(-len(data.train.samples) // (settings.optim.batch_size or data.batch_size))
        say(
            f'source {settings.model.source}, data {data.name}: {len(data.classes)} classes, '
            f'{len(data.train.samples)} images to train on, {steps} step(s) an epoch'
        )
        if steps < FEW_STEPS:
            say('these are few steps: a smaller `batch_size`, or more `num_epochs`, takes more')
        # load the source model before anything is written: it may have to be downloaded or trained
        source = None
        if 'fine-tuned' in names and not run.checkpoints('fine-tuned'):
            source = load_source(
                settings.model.source or data.source,
                arch,
                backend,
                devices=settings.system.devices,
                bar=bar,
            )
        if not resume:
            run.save_net()
            save_contents(out, data, bar=bar)
        run.save_config()
        if data.left_out:
            run.save_left_out(data.left_out)
            say(f'left out {len(data.left_out)} bad image(s), named in {run.path / LEFT_OUT}')
        # train the nets, one after the other
        room = settings.system.image_cache
        cache = default_cache() if room is None else ImageCache(room << 20)
        job = Job(backend, settings, data, run, devices, bar, say, cache)
        for name in names:
            try:
                if stopped := job.train(name, source if name == 'fine-tuned' else None):
                    return run, stopped
            except TrainingDiverged as error:
                raise TrainingDiverged(_advice(str(error), run, name, settings)) from error
            except (StorageError, WorkerDied) as error:
                error.args = (f'{error}; the run goes on with  d2l-ft train --out {out} --resume',)
                raise
    return run, 0


@dataclass
class Job:
    """The training of the nets of a run, one after the other.

    Attributes:
        backend, settings, data, run, bar, say: As in ``train``.
        devices: Devices of the nets.
        cache: Keeps images between epochs and nets.
        placed: The current net, or the last one.
    """

    backend: Backend
    settings: Settings
    data: DataSet
    run: Run
    devices: list[Any]
    bar: bool
    say: Callable[[str], None]
    cache: ImageCache
    placed: Placed | None = None

    def train(self, name: str, source: State | None) -> int:
        """Train a net, from its last checkpoint if any; return the signal that ended it, or 0."""
        backend, settings, run = self.backend, self.settings, self.run
        self.placed = placed = self.build(name, source)
        # the trainer, with its state and position if there is a checkpoint
        optim, recipe = settings.optim, settings.optim.recipe(name)
        trainer = backend.build_trainer(placed, recipe)
        position = Position()
        if found := run.load(name):
            checkpoint, position = found
            backend.set_state(placed, checkpoint.model)
            backend.set_trainer_state(placed, trainer, checkpoint.trainer)
        # batches of images, or of features for the head: the baseline has no frozen body
        on_features = settings.model.cache_features and name == 'fine-tuned'
        kind = self.feature_loaders if on_features else self.image_loaders
        net, train_iter, test_iter = kind(placed)
        steps = len(train_iter)

        def rate(epoch: int, step: int) -> float:
            done = (epoch * steps + step) / (optim.num_epochs * steps)
            return scheduled_rate(optim.schedule, recipe.learning_rate, done)

        # the loop, with what it writes and shows
        training = Trainer(
            backend,
            net,
            trainer,
            train_iter,
            test_iter,
            optim.num_epochs,
            name=name,
            position=position,
            seed=optim.seed,
            rate=None if optim.schedule == 'constant' else rate,
            callbacks=[
                *([ProgressBar(), LogLines(self.say), LiveCurves()] if self.bar else []),
                MetricsFile(run),
                Checkpoints(run, placed, settings.system.save_every),
                EpochLines(self.say),
                Report(self.report),
            ],
        )
        training.fit()
        return training.interrupted

    def build(self, name: str, source: State | None) -> Placed:
        """Return a new net on its devices; say where and how the first one computes."""
        model, system = self.settings.model, self.settings.system
        classes, seed = len(self.data.classes), self.settings.optim.seed
        net = self.backend.build_net(model.arch, classes, source, seed)
        if model.freeze and name == 'fine-tuned':
            self.backend.freeze(net)
        placed = self.backend.place(
            net, self.devices, system.precision, channels_last=system.channels_last
        )
        if not self.run.metrics():
            where = ', '.join(str(device) for device in self.devices)
            threads = self.backend.threads()
            self.say(f'{self.backend.NAME}, {placed.precision}, on {where} with {threads} threads')
        return placed

    def pipeline(self) -> Pipeline:
        """Return the pipeline of the training part."""
        options, size = self.settings.data, self.run.config.image_size
        seed = self.settings.optim.seed
        made = self.data.pipeline(size, seed=seed, augment=options.augment, views=options.views)
        return replace(made, **architecture(self.settings.model.arch).preparation)

    def image_loaders(self, placed: Placed) -> tuple[Placed, Any, Any]:
        """Return the net, and the loaders of both parts."""
        optim = self.settings.optim
        loaders = self.data.loaders(
            self.backend,
            optim.batch_size or self.data.batch_size,
            image_size=self.run.config.image_size,
            seed=optim.seed,
            pipeline=self.pipeline(),
            **self.loading_options(),
        )
        return placed, *loaders

    def loading_options(self) -> dict[str, Any]:
        """Return the options of loaders: workers, cache and device."""
        return loader_options(self.backend, self.devices, self.settings.system.workers, self.cache)

    def feature_loaders(self, placed: Placed) -> tuple[Placed, Any, Any]:
        """Return the head, and loaders of the features of both parts in place of images."""
        settings, backend = self.settings, self.backend
        batch_size = settings.optim.batch_size or self.data.batch_size
        loaders: list[Any] = []
        train, test = self.pipeline(), self.run.config.pipeline()
        how = f'{placed.precision}, channels last: {settings.system.channels_last}'
        for part, pipeline in ((self.data.train, train), (self.data.test, test)):
            kept = features(
                backend,
                placed,
                settings.model.arch,
                part.samples,
                pipeline,
                how,
                bar=self.bar,
                **self.loading_options(),
            )
            shuffle = part is self.data.train
            loaders.append(
                FeatureLoader(
                    backend,
                    kept,
                    part.samples,
                    batch_size,
                    shuffle=shuffle,
                    seed=settings.optim.seed,
                )
            )
        head = backend.place(backend.head(placed.net), self.devices, placed.precision)
        self.say('the body is frozen: its features are kept, and epochs train the head on them')
        return head, *loaders

    def report(self, name: str) -> None:
        """Write the figures and the report, after each net."""
        run, data, settings = self.run, self.data, self.settings
        save_curves(run.path / 'curves.png', run.history())
        # after the baseline the report is written again, with its curves, about the first net
        placed = self.placed if name == run.best_net() else None
        pipeline = run.config.pipeline()
        found = evaluate_samples(
            self.backend,
            placed or load_net(run, self.backend),
            data.classes,
            data.test.samples,
            pipeline,
            bar=self.bar,
            workers=settings.system.workers,
            cache=self.cache,
        )
        write_report(
            run.path / 'report.html',
            asdict(run.config),
            run.metrics(),
            run.best_net(),
            found,
            (run.path / 'curves.png').read_bytes(),
        )


def _advice(error: str, run: Run, name: str, settings: Settings) -> str:
    """Return the message for a loss that diverged: the last checkpoint, and what to try."""
    kept = run.checkpoints(name)
    left = f'the last good checkpoint is {kept[-1]}' if kept else 'there is no checkpoint yet'
    rate = settings.optim.recipe('fine-tuned').learning_rate
    cause = error.partition(':')[0]
    other = '' if kept or name == 'scratch' else ', or from another `source`'
    tenth = f'`learning_rate={rate / 10:g}`  (a tenth)'
    return f'{name}: {cause}; {left}: train again with  {tenth}{other}'


def take_converted(settings: Settings, say: Callable[[str], None]) -> Settings:
    """Return the settings with a folder of ``d2l-ft convert`` as architecture and source.

    A converted net starts from its own weights unless another source is given. A run that is
    resumed has its net already, whatever its folder has become.

    Raises:
        ModelError: The folder is none, or its net cannot be trained here.
        OptionError: Architecture and source are two such folders.
    """
    arch, source = settings.model.arch, settings.model.source
    if not is_folder(arch) and architecture(arch).definition is not None:
        return settings
    folders = [each for each in (arch, source) if each is not None and is_folder(each)]
    if not folders:
        return settings
    if len({full_path(each) for each in folders}) > 1:
        raise OptionError('`arch` and `source` are two converted nets: give one of them')
    net = add_folder(folders[0])
    for line in describe_net(net, folders[0]):
        say(line)
    return settings.replace(arch=net.name, source=source or full_path(folders[0]))


def describe_net(net: Architecture, folder: str) -> list[str]:
    """Return what a user should know of a converted net before it is trained."""
    order = 'BGR' if net.bgr else 'RGB'
    mean, std = (
        ', '.join(f'{each * 255:.4g}' for each in values) for values in (net.mean, net.std)
    )
    return [
        f'the net is that of {folder}, called {net.name}: its output layer {net.head} is new',
        f'it gets {order} from 0 to 255, less {mean}, divided by {std}: if it was trained '
        f'otherwise, correct {folder}/preprocess.json',
    ]


def check_size(backend: Backend, arch: str, size: int) -> None:
    """Refuse images of a size that a net cannot take.

    Raises:
        OptionError: They are too small, or the converted net does not take this size.
    """
    net = architecture(arch)
    if size < net.smallest:
        raise OptionError(f'{arch} needs images of at least {net.smallest} pixels, not {size}')
    if net.definition is None:
        return
    placed = backend.place(backend.build_net(arch, 2))
    images = np.zeros((1, 3, size, size), np.float32)
    try:
        backend.logits(placed, backend.to_batch(images, np.zeros(1, np.int64)))
    except Exception as error:  # whatever the framework makes of shapes that do not fit
        own = f': give `image_size={net.image_size}`' if size != net.image_size else ''
        reason = ' '.join(str(error).split())[:200]
        raise OptionError(
            f'{arch} does not take images of {size} pixels ({reason}){own}'
        ) from error


def _config(backend: Backend, settings: Settings, data: DataSet, size: int) -> RunConfig:
    """Return what config.json holds."""
    return RunConfig(
        backend=backend.NAME,
        arch=settings.model.arch,
        classes=data.classes,
        image_size=size,
        data=data.name,
        train_examples=len(data.train.samples),
        test_examples=len(data.test.samples),
        settings=settings,
        recipes={name: settings.optim.recipe(name) for name in settings.model.nets()},
        created=datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
        versions=versions(),
    )


def _check_same(run: Run, data: DataSet, size: int, *, bar: bool) -> None:
    """Refuse to resume with other data.

    Raises:
        CheckpointError: Classes, images or image size differ.
    """
    config = run.config
    if (data.name == 'sample') != (config.data == 'sample'):  # the sample has its own pipeline
        raise CheckpointError(
            f'{run.path} was started with `data={config.data}`: '
            'leave the option out, or train again with another `out`'
        )
    if found := find_change(load_contents(run.path), data, bar=bar):
        raise CheckpointError(
            f'{found} since {run.path} was started: '
            'make it as it was, or train again with another `out`'
        )
    if (data.classes, size) != (config.classes, config.image_size):
        raise CheckpointError(
            f'{config.data} has changed since {run.path} was started: '
            'train again with another `out`'
        )
