"""The main job: fine-tune a source model and, to compare, train a twin from scratch."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from d2l_ft.architectures import architecture
from d2l_ft.augment import Pipeline
from d2l_ft.bounds import BOUNDS, check_number, check_text
from d2l_ft.contents import changed, load_contents, save_contents
from d2l_ft.datasets import (
    DataSet,
    default_cache,
    default_workers,
    images_to_test,
    load_data,
    on_gpu,
)
from d2l_ft.devices import PRECISIONS, keep_freed_memory, parse_devices
from d2l_ft.errors import (
    CheckpointError,
    D2LFTError,
    DataError,
    ModelError,
    StorageError,
    TrainingDiverged,
    WorkerDied,
)
from d2l_ft.evaluation import Evaluation, evaluate_samples
from d2l_ft.features import FeatureLoader, features
from d2l_ft.image_cache import ImageCache
from d2l_ft.interface import Backend, Sample, State
from d2l_ft.messages import listed, listed_only
from d2l_ft.plotting import save_curves
from d2l_ft.recipe import FINE_TUNED, SCHEDULES, SCRATCH_LR_FACTOR, Recipe, scheduled
from d2l_ft.records import from_json
from d2l_ft.registry import BACKENDS
from d2l_ft.report import write_report
from d2l_ft.run import LEFT_OUT, NETS, Run, check_config, claimed
from d2l_ft.source import SOURCES, load_source
from d2l_ft.training import EpochMetrics, Fit, Position


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


def train(
    backend: Backend,
    settings: Settings,
    out: Path,
    resume: bool = False,
    bar: bool = True,
    say: Callable[[str], None] = print,
) -> tuple[Run, int]:
    """Train, and write all of it into a run directory.

    Args:
        backend: The framework.
        settings: What is asked for.
        out: The run directory: new, or with ``resume`` that of an earlier run of these settings.
        resume: Go on where the run was stopped.
        bar: Whether to show progress bars; they need a terminal too.
        say: Takes each line for the user.

    Returns:
        The run, and the number of the signal, such as SIGINT, that ended it early (then its
        checkpoint is written); otherwise 0.

    Raises:
        D2LFTError: Anything that the user can mend; nothing is trained before all is checked.
    """
    settings.check()
    names = settings.nets()
    if settings.keep_memory:
        keep_freed_memory()
    devices = backend.devices(settings.devices)
    begun = Run.open(out) if resume else None
    with claimed(out, resume):
        try:
            data = load_data(settings.data, settings.seed, bar, settings.skip_bad)
        except DataError as error:
            if begun and not os.path.exists(settings.data) and os.sep in settings.data:
                raise CheckpointError(
                    f'{settings.data} is gone: tell where its images are now:  '
                    f'd2l-ft train --out {out} --resume --data FOLDER'
                ) from error
            raise
        settings = settings.resolved(data)
        size = settings.image_size or data.image_size
        smallest = architecture(settings.arch).smallest
        if size < smallest:
            raise ModelError(
                f'{settings.arch} needs images of at least {smallest} pixels, not {size}'
            )
        for part in (data.train, data.test):
            if part.note():
                say(part.note())
        for line in data.remarks:
            say(line)
        run = begun or Run(out, _config(backend, settings, data, size))
        check_config(run.config)
        if resume:
            _check_same(run, data, size, bar)
            # there may be more epochs, and the data may have moved
            run.config |= {'data': data.name, 'settings': asdict(settings)}
        check_shares(settings, data, len(devices), size)
        steps = -(-len(data.train.samples) // (settings.batch_size or data.batch_size))
        say(
            f'source {settings.source}, data {data.name}: {len(data.classes)} classes, '
            f'{len(data.train.samples)} images to train on, {steps} step(s) an epoch'
        )
        if steps < FEW_STEPS:
            say('these are few steps: a smaller --batch-size, or more --epochs, takes more')
        source = None
        if 'fine-tuned' in names and not run.checkpoints('fine-tuned'):
            source = load_source(
                settings.source or data.source, settings.arch, backend, settings.devices, bar
            )
        if load_contents(out) is None:
            save_contents(out, data, bar)
        run.save_config()
        if data.left_out:
            run.save_left_out(data.left_out)
            say(f'left out {len(data.left_out)} bad image(s), named in {run.path / LEFT_OUT}')
        room = settings.image_cache
        cache = default_cache() if room is None else ImageCache(room << 20)
        job = Job(backend, settings, data, run, devices, bar, say, cache)
        for name in names:
            try:
                if stopped := job.train(name, source if name == 'fine-tuned' else None):
                    return run, stopped
                job.report(name)
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
        devices: Where the nets are placed.
        cache: Keeps images between epochs and nets.
        net: The net under way, or the last one.
        precision: In which it computes.
    """

    backend: Backend
    settings: Settings
    data: DataSet
    run: Run
    devices: list[Any]
    bar: bool
    say: Callable[[str], None]
    cache: ImageCache
    net: Any = None
    precision: str = ''

    def train(self, name: str, source: State | None) -> int:
        """Train a net, from its last checkpoint if it has one; return the signal that ended it."""
        backend, settings, run = self.backend, self.settings, self.run
        self.net = net = self.build(name, source)
        recipe = settings.recipe(name)
        trainer = backend.build_trainer(net, recipe)
        position = Position()
        if found := run.load(name):
            checkpoint, position = found
            backend.set_state(net, checkpoint.model)
            backend.set_trainer_state(net, trainer, checkpoint.trainer)
        # the twin has no frozen body
        on_features = settings.cache_features and name == 'fine-tuned'
        trained, train_iter, test_iter = self.on_features() if on_features else self.on_images()
        steps = len(train_iter)

        def rate(epoch: int, step: int) -> float:
            done = (epoch * steps + step) / (settings.epochs * steps)
            return scheduled(settings.schedule, recipe.learning_rate, done)

        fit = Fit(
            backend, trained, trainer, train_iter, test_iter, settings.epochs,
            name=name, position=position, seed=settings.seed,
            rate=None if settings.schedule == 'constant' else rate,
            save_every=settings.save_every, bar=self.bar,
        )  # fmt: skip

        def save(position: Position) -> None:
            state = backend.get_state(net), backend.get_trainer_state(net, trainer)
            run.save(name, *state, position)

        def on_epoch(metrics: EpochMetrics) -> None:
            run.add_metrics(metrics)
            save(fit.position)
            self.say(
                f'{name} epoch {metrics.epoch}/{settings.epochs}: loss {metrics.train_loss:.3f}, '
                f'train acc {metrics.train_acc:.3f}, test acc {metrics.test_acc:.3f}, '
                f'{metrics.examples_per_sec:.1f} examples/sec '
                f'(step only: {metrics.step_examples_per_sec:.1f})'
            )

        try:
            fit.run(on_epoch, save)
        except WorkerDied:
            if fit.position.step:
                save(fit.position)
            raise
        if fit.interrupted and fit.position.step:
            save(fit.position)
        return fit.interrupted

    def build(self, name: str, source: State | None) -> Any:
        """Return a new net on its devices; tell the first time how it computes."""
        settings = self.settings
        net = self.backend.build_net(settings.arch, len(self.data.classes), source, settings.seed)
        if settings.freeze and name == 'fine-tuned':
            self.backend.freeze(net)
        used = self.backend.place(net, self.devices, settings.precision, settings.channels_last)
        self.precision = used
        if not self.run.metrics():
            where = ', '.join(str(device) for device in self.devices)
            threads = self.backend.threads()
            self.say(f'{self.backend.NAME}, {used}, on {where} with {threads} threads')
        return net

    def pipeline(self) -> Pipeline:
        """Return what is done to the images of the training part."""
        settings, size = self.settings, self.run.config['image_size']
        return self.data.pipeline(size, settings.seed, settings.augment, settings.views)

    def on_images(self) -> tuple[Any, Any, Any]:
        """Return the net, and the loaders of both parts."""
        settings = self.settings
        loaders = self.data.loaders(
            self.backend,
            settings.batch_size or self.data.batch_size,
            self.run.config['image_size'],
            seed=settings.seed,
            pipeline=self.pipeline(),
            **self.loading(),
        )
        return self.net, *loaders

    def loading(self) -> dict[str, Any]:
        """Return the options of loaders: workers, cache and device."""
        workers = self.settings.workers
        return {
            'workers': default_workers(self.devices) if workers is None else workers,
            'cache': self.cache,
            'device': self.devices[0] if on_gpu(self.devices) else None,
        }

    def on_features(self) -> tuple[Any, Any, Any]:
        """Return the head, and loaders of the features of both parts in place of images."""
        settings, backend = self.settings, self.backend
        batch_size = settings.batch_size or self.data.batch_size
        head, loaders = backend.head(self.net), []
        train, test = self.pipeline(), Pipeline(self.run.config['image_size'])
        how = f'{self.precision}, channels last: {settings.channels_last}'
        for part, pipeline in ((self.data.train, train), (self.data.test, test)):
            kept = features(
                backend, self.net, settings.arch, part.samples, pipeline, how, self.bar,
                **self.loading(),
            )  # fmt: skip
            shuffle = part is self.data.train
            loaders.append(
                FeatureLoader(backend, kept, part.samples, batch_size, shuffle, settings.seed)
            )
        backend.place(head, self.devices, self.precision)
        self.say('the body is frozen: its features are kept, and epochs train the head on them')
        return head, *loaders

    def report(self, name: str) -> None:
        """Write the figures and the report, after each net."""
        run, data = self.run, self.data
        save_curves(run.path / 'curves.png', run.history())
        # the first net's report gets the twin's curves
        net = self.net if name == run.best_net() else load_net(run, self.backend)
        pipeline = Pipeline(run.config['image_size'])
        found = evaluate_samples(
            self.backend, net, data.classes, data.test.samples, pipeline, self.bar, self.cache
        )
        write_report(run, found)


def _advice(error: str, run: Run, name: str, settings: Settings) -> str:
    """Return an error's line for a training that diverged: what is left, and what to try."""
    kept = run.checkpoints(name)
    left = f'the last good checkpoint is {kept[-1]}' if kept else 'there is no checkpoint yet'
    rate = FINE_TUNED.learning_rate if settings.lr is None else settings.lr
    cause = error.partition(':')[0]
    other = '' if kept or name == 'scratch' else ', or from another --source'
    return f'{name}: {cause}; {left}: train anew with  --lr {rate / 10:g}  (a tenth){other}'


def _config(backend: Backend, settings: Settings, data: DataSet, size: int) -> dict[str, Any]:
    """Return what config.json holds."""
    return {
        'backend': backend.NAME,
        'arch': settings.arch,
        'classes': data.classes,
        'image_size': size,
        'data': data.name,
        'train_examples': len(data.train.samples),
        'test_examples': len(data.test.samples),
        'settings': asdict(settings),
        'recipes': {name: asdict(settings.recipe(name)) for name in settings.nets()},
        'created': datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
        'versions': versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    found = {'python': platform.python_version()}
    names = ['d2l-ft', 'numpy', 'opencv-python-headless', 'pillow', 'safetensors']
    for package in [
        *names,
        *(framework for _, framework in BACKENDS.values()),
        'torchvision',
        'gluoncv',
    ]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _check_same(run: Run, data: DataSet, size: int, bar: bool) -> None:
    """Refuse to resume on other data.

    Raises:
        CheckpointError: Classes, images or image size differ.
    """
    config = run.config
    kept = load_contents(run.path)
    if (data.name == 'sample') != (config['data'] == 'sample'):  # which has crops of its own
        raise CheckpointError(
            f'{run.path} was begun with --data {config["data"]}: '
            'leave the option out, or train anew with another --out'
        )
    if kept is not None and (found := changed(kept, data, bar)):
        raise CheckpointError(
            f'{found} since {run.path} began: make it as it was, or train anew with another --out'
        )
    now = {'classes': data.classes, 'image_size': size}
    if kept is None:  # a run of before the contents were kept
        now['fingerprint'] = data.fingerprint()
    if any(config.get(key) != value for key, value in now.items()):
        raise CheckpointError(
            f'{config["data"]} has changed since {run.path} began: train anew with another --out'
        )


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


def load_net(run: Run, backend: Backend, name: str | None = None) -> Any:
    """Return a trained net of a run, in either framework.

    Raises:
        CheckpointError: There is no good checkpoint.
    """
    found = run.load(name or run.best_net())
    if found is None:
        raise CheckpointError(f'{run.path} has no checkpoint of {name}')
    net = backend.build_net(run.config['arch'], len(run.config['classes']))
    backend.set_state(net, found[0].model)
    backend.place(net, backend.devices('auto'))
    return net


def evaluate_run(
    run: Run, backend: Backend, data: str | None = None, bar: bool = True
) -> tuple[Evaluation, str]:
    """Evaluate a run's net on the test part of its data, or on another data set.

    Args:
        run: The run.
        backend: The framework.
        data: A data set, whose test part is taken, or a folder of class folders, of which all is.
            It may have some of the run's classes only; they are matched by name.
        bar: Whether to show progress; it needs a terminal too.

    Returns:
        The evaluation, and in words what was looked at.

    Raises:
        DataError: The data set cannot be had, or an image in it is bad.
        CheckpointError: It has a class that the run has not.
    """
    settings = run_settings(run)
    classes = run.config['classes']
    if data is None:
        dataset = load_data(settings.data, settings.seed, bar, settings.skip_bad)
        part, which = dataset.test, f'the test part of {dataset.name}'
    else:
        part, which = images_to_test(data, bar, settings.skip_bad)
        if which == f'all of {settings.data}':
            which += ', also what the run was trained on'
    if set(part.classes) - set(classes):
        raise CheckpointError(
            f'{part.root} has classes that {run.path} does not know: '
            f'{listed_only(part.classes, classes)}; it was trained for {listed(classes)}'
        )
    labels = [classes.index(name) for name in part.classes]
    samples = [Sample(each.path, labels[each.label]) for each in part.samples]
    net = load_net(run, backend)
    pipeline = Pipeline(run.config['image_size'])
    return evaluate_samples(backend, net, classes, samples, pipeline, bar), which
