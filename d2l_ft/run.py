"""A run directory: all that is needed to resume, evaluate and predict.

config.json       what was asked for, and what was used
metrics.jsonl     one object per epoch and net
checkpoints/      the last two of each net: <net>-<epoch>-<step>.safetensors
curves.png  report.html
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from d2l_ft.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.errors import CheckpointError
from d2l_ft.files import write_atomic
from d2l_ft.training import EpochMetrics, Position

KEPT = 2
NETS = ('fine-tuned', 'scratch')


class Run:
    """A run directory."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> 'Run':
        """Begin a run in a new or empty directory.

        Raises:
            CheckpointError: The directory is not empty.
            D2LFTError: It cannot be written.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise CheckpointError(
                f'{path} is not empty: name another with --out, or go on with its run: --resume'
            )
        run = cls(path, config)
        run.save_config()
        return run

    @classmethod
    def open(cls, path: Path) -> 'Run':
        """Open an existing run.

        Raises:
            CheckpointError: It is no run directory, or its config is damaged.
        """
        try:
            config = json.loads((path / 'config.json').read_text())
            if not isinstance(config, dict):
                raise ValueError('no JSON object')
        except OSError:
            raise CheckpointError(
                f'{path} is no run directory (it has no config.json): train with --out {path}'
            ) from None
        except ValueError as error:
            raise CheckpointError(f'{path}/config.json is damaged ({error})') from None
        return cls(path, config)

    def save_config(self) -> None:
        """Write the config."""
        text = json.dumps(self.config, indent=2) + '\n'
        write_atomic(self.path / 'config.json', text.encode())

    def add_metrics(self, metrics: EpochMetrics) -> None:
        """Add one line; an epoch that was done before, and again after a resume, stands once."""
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
            CheckpointError: The file is damaged.
        """
        path = self.path / 'metrics.jsonl'
        if not path.is_file():
            return []
        try:
            lines = path.read_text().splitlines()
            return [EpochMetrics(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
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
        """Write a checkpoint, then remove all but the last two."""
        meta = {'net': net, 'position': asdict(position)}
        meta |= {key: self.config[key] for key in ('arch', 'classes', 'image_size')}
        name = f'{net}-{position.epoch:05d}-{position.step:07d}.safetensors'
        checkpoint = Checkpoint(dict(model), dict(trainer), meta)
        save_checkpoint(self.path / 'checkpoints' / name, checkpoint)
        for old in self.checkpoints(net)[:-KEPT]:
            old.unlink(missing_ok=True)

    def load(self, net: str) -> tuple[Checkpoint, Position] | None:
        """Return the newest good checkpoint of a net, or None if there is none.

        Raises:
            CheckpointError: There are checkpoints, and all are damaged.
        """
        paths = self.checkpoints(net)
        for path in reversed(paths):
            try:
                checkpoint = load_checkpoint(path)
                return checkpoint, Position(**checkpoint.meta['position'])
            except (CheckpointError, KeyError, TypeError) as error:
                last: Exception = error
        if paths:
            raise CheckpointError(f'every checkpoint of {net} in {self.path} is damaged: {last}')
        return None

    def best_net(self) -> str:
        """Return the net to evaluate: the fine-tuned one, otherwise the twin.

        Raises:
            CheckpointError: There is no checkpoint yet.
        """
        for net in NETS:
            if self.checkpoints(net):
                return net
        raise CheckpointError(f'{self.path} has no checkpoint: go on with its run: --resume')
