"""A run directory: all that is needed to resume, evaluate and predict.

config.json       the settings, and what was used
metrics.jsonl     one object per epoch and net
checkpoints/      the newest of each net: <net>-<epoch>-<step>.safetensors
images.jsonl      the contents of the images when it started (``contents``)
net.json          the graph of a converted net, if it trains one
left-out.txt      the bad images that were left out, and why, if there were any
curves.png  report.html
"""

import datetime
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from d2l_ft.convert.trainable import add_run_net
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import CheckpointError, D2LFTError, StorageError, TrainingDiverged
from d2l_ft.models.architectures import architecture
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.models.state import find_problem
from d2l_ft.optim.recipe import Recipe
from d2l_ft.runs.fields import Option, check_classes, check_fields
from d2l_ft.runs.settings import NETS, Settings, option_fields
from d2l_ft.storage.atomic import (
    check_writable,
    describe,
    is_leftover,
    read_file,
    remove_leftovers,
    write_atomic,
)
from d2l_ft.storage.locks import hold_lock, lock_file
from d2l_ft.storage.typed_json import from_json
from d2l_ft.system.console import visible, warn
from d2l_ft.training.metrics import EpochMetrics, Position

MOST = 10**18
"""Largest sum in a position (losses, examples, seconds); larger ones come from damaged files."""

LEFT_OUT, CONTENTS, NET = 'left-out.txt', 'images.jsonl', 'net.json'

LARGEST_CONFIG, LARGEST_METRICS = 1 << 26, 1 << 30
"""Bytes of the files; larger ones are damaged."""


COUNT = {'option': Option('', bounds=(0, 10**9))}
"""Metadata of a field that counts images."""


@dataclass(frozen=True)
class RunConfig:
    """What config.json holds.

    Attributes:
        backend: The framework that started the run.
        arch: Architecture.
        classes: Their names, in the order of the labels.
        image_size: Side of the net's input, in pixels.
        data: The data set's name, or its folder's full path.
        train_examples: Images to train on.
        test_examples: Images to test on.
        settings: The settings, with the data set's own values for what was not given.
        recipes: Net -> the hyper-parameters of its optimiser.
        created: When the run started, in ISO 8601.
        versions: Package -> version.
    """

    backend: str
    arch: str
    classes: list[str]
    image_size: int = field(metadata=option_fields()['image_size'].metadata)
    data: str
    train_examples: int = field(metadata=COUNT)
    test_examples: int = field(metadata=COUNT)
    settings: Settings
    recipes: dict[str, Recipe] = field(default_factory=dict)
    created: str = ''
    versions: dict[str, str] = field(default_factory=dict)

    def pipeline(self) -> Pipeline:
        """Return how the run's net is given an image that is not augmented."""
        return Pipeline(self.image_size, **architecture(self.arch).preparation)

    def check(self) -> None:
        """Refuse what cannot be the config of a run.

        Raises:
            D2LFTError: A value is out of its bounds, or settings contradict each other.
        """
        check_fields(self)
        check_classes(self.classes)
        self.settings.check()


def new_path(backend: str, data: str) -> Path:
    """Make a new directory below runs/ and return it; two processes never get the same one.

    Raises:
        StorageError: It cannot be made.
    """
    time = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
    # file systems allow 255 bytes, and a character may take four of them
    first = Path('runs') / f'{time}-{backend}-{Path(data).expanduser().resolve().name[:50]}'
    for number in itertools.count(1):
        path = first if number == 1 else first.with_name(f'{first.name}-{number}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            if path.parent.is_dir():
                continue
            raise StorageError(f'{path.parent} is not a folder: name another with `out`') from None
        except OSError as error:
            raise StorageError(describe(error, path)) from error
        break
    return path


@contextmanager
def claim(path: Path, *, resume: bool) -> Iterator[None]:
    """Lock a run directory against other processes; a new one that stays empty is removed.

    Raises:
        CheckpointError: It is not empty, and its run is not to be resumed.
        StorageError: It cannot be written, or another process has it locked.
    """
    config = path / 'config.json'
    lock = lock_file(config)

    def may_stay(each: Path) -> bool:
        # of a run that was killed before it had its config
        orphan = each.name in (CONTENTS, NET) and not config.exists()
        return orphan or each == lock or is_leftover(each)

    if path.exists() and not resume and not (path.is_dir() and all(map(may_stay, path.iterdir()))):
        go_on = ', or go on with its run: `resume=True`' if config.exists() else ''
        raise CheckpointError(f'{path} is not empty: name another with `out`{go_on}')
    check_writable(path)
    with hold_lock(config):
        try:
            remove_leftovers(path)
            remove_leftovers(path / 'checkpoints')
            yield
        finally:  # under the lock: a process that was refused must not remove the run of another
            if path.is_dir() and list(path.iterdir()) == [lock]:
                lock.unlink()
                path.rmdir()


class Run:
    """A run directory."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config = path, config

    @classmethod
    def open(cls, path: Path) -> 'Run':
        """Open an existing run.

        Raises:
            CheckpointError: It is no run directory, or its config cannot be read or is damaged.
            ModelError: The same of its converted net.
        """
        if (path / NET).is_file():
            add_run_net(path / NET)  # the config names it
        try:
            text = read_file(path / 'config.json', LARGEST_CONFIG)
            config = from_json(RunConfig, json.loads(text))
            config.check()
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(
                f'{path} is no run directory (it has no config.json): train with `out={path}`'
            ) from None
        except OSError as error:
            raise CheckpointError(f'cannot read {path}/config.json: {error.strerror}') from error
        except (ValueError, RecursionError, D2LFTError) as error:
            problem = str(error).replace(
                '`', "'"
            )  # backticks would name arguments; these are keys of a file
            raise CheckpointError(
                f'{path}/config.json is damaged ({problem}): repair it, or train again'
            ) from None
        return cls(path, config)

    def save_config(self) -> None:
        """Write the config."""
        text = json.dumps(asdict(self.config), indent=2) + '\n'
        write_atomic(self.path / 'config.json', text.encode())

    def save_net(self) -> None:
        """Write the graph of a converted net, so that the run needs no other folder."""
        net = architecture(self.config.arch)
        if net.definition is not None:
            write_atomic(self.path / NET, net.definition.record.encode())

    def save_left_out(self, lines: Sequence[str]) -> None:
        """Write the list of the images that were left out."""
        write_atomic(self.path / LEFT_OUT, ''.join(f'{visible(line)}\n' for line in lines).encode())

    def add_metrics(self, metrics: EpochMetrics) -> None:
        """Add one line; an epoch that is repeated after a resume replaces its earlier line."""
        lines = [
            each
            for each in self.metrics()
            if (each.net, each.epoch) != (metrics.net, metrics.epoch)
        ]
        text = ''.join(json.dumps(asdict(each)) + '\n' for each in [*lines, metrics])
        write_atomic(self.path / 'metrics.jsonl', text.encode())

    def metrics(self) -> list[EpochMetrics]:
        """Return the metrics of all epochs so far.

        Raises:
            CheckpointError: The file cannot be read, or is damaged.
        """
        path = self.path / 'metrics.jsonl'
        if not path.exists():
            return []
        try:
            lines = read_file(path, LARGEST_METRICS).splitlines()
            return [from_json(EpochMetrics, json.loads(line)) for line in lines]
        except OSError as error:
            raise CheckpointError(f'cannot read {path}: {error.strerror}') from error
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f'{path} is damaged ({error}): remove it') from None

    def history(self) -> dict[str, list[EpochMetrics]]:
        """Return the metrics by net, in the order of training."""
        nets: dict[str, list[EpochMetrics]] = {}
        for each in self.metrics():
            nets.setdefault(each.net, []).append(each)
        return nets

    def checkpoints(self, net: str) -> list[Path]:
        """Return the checkpoints of a net, the newest last."""
        pattern = re.compile(rf'{re.escape(net)}-\d+-\d+\.safetensors')
        folder = self.path / 'checkpoints'
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in found if pattern.fullmatch(path.name))

    def save(
        self,
        net: str,
        model: Mapping[str, Any],
        trainer: Mapping[str, Any],
        position: Position,
    ) -> None:
        """Write a checkpoint, then remove all but the newest ``keep_checkpoints``.

        Raises:
            TrainingDiverged: A weight is not a finite number; then nothing is written.
            StorageError: It cannot be written.
        """
        for name, array in (*model.items(), *trainer.items()):
            if not np.isfinite(array).all():
                raise TrainingDiverged(
                    f'{name} of {net} became infinite or not a number in epoch '
                    f'{position.epoch + (position.step > 0)}: train again with a smaller '
                    'learning rate'
                )
        config = self.config
        meta = {
            'net': net,
            'position': asdict(position),
            'arch': config.arch,
            'classes': config.classes,
            'image_size': config.image_size,
        }
        name = f'{net}-{position.epoch:05d}-{position.step:07d}.safetensors'
        checkpoint = Checkpoint(dict(model), dict(trainer), meta)
        save_checkpoint(self.path / 'checkpoints' / name, checkpoint)
        for old in self.checkpoints(net)[: -config.settings.system.keep_checkpoints]:
            old.unlink(missing_ok=True)

    def load(self, net: str) -> tuple[Checkpoint, Position] | None:
        """Return the newest good checkpoint of a net, or None if there is none.

        Damaged ones are reported on the error stream.

        Raises:
            CheckpointError: There are checkpoints, and all are damaged.
        """
        paths = self.checkpoints(net)
        for path in reversed(paths):
            try:
                checkpoint = load_checkpoint(path)
                position = from_json(Position, checkpoint.meta.get('position'))
                check_position(position)
                if problem := find_problem(checkpoint.model) or find_problem(checkpoint.trainer):
                    raise ValueError(problem)
                return checkpoint, position
            except CheckpointError as error:
                last = str(error)
            except ValueError as error:
                last = f'{path} is damaged ({error})'
            warn(f'{last}: looking for the checkpoint before it')
        if paths:
            raise CheckpointError(f'every checkpoint of {net} in {self.path} is damaged: {last}')
        return None

    def best_net(self) -> str:
        """Return the net to evaluate: the fine-tuned one, otherwise the baseline.

        Raises:
            CheckpointError: There is no checkpoint yet.
        """
        for net in NETS:
            if self.checkpoints(net):
                return net
        raise CheckpointError(f'{self.path} has no checkpoint: go on with its run: `resume=True`')


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return path -> name of each run: as much of the end of its path as makes it unique.

    A run that is given twice counts once.
    """
    full: dict[Path, Path] = {}
    for path in paths:
        full.setdefault(path.resolve(), path)
    names, depth = {place: place.name for place in full}, 1
    while clashing := [place for place in names if list(names.values()).count(names[place]) > 1]:
        depth += 1
        for place in clashing:
            names[place] = '/'.join(place.parts[-depth:])
    return {full[place]: name for place, name in names.items()}


def check_position(position: Position) -> None:
    """Check the position in a checkpoint.

    Raises:
        ValueError: A number is out of its bounds.
    """
    for name, value in vars(position).items():
        if not 0 <= value <= MOST:  # also not-a-number
            raise ValueError(f"'{name}' of the position is out of its bounds")
