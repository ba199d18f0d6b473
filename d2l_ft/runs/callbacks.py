"""Callbacks that write a run directory during training."""

from collections.abc import Callable

from d2l_ft.backend.protocol import Placed
from d2l_ft.errors import WorkerDied
from d2l_ft.runs.directory import Run
from d2l_ft.training.callbacks import Callback
from d2l_ft.training.metrics import EpochMetrics, Position
from d2l_ft.training.trainer import Trainer


class MetricsFile(Callback):
    """Adds a line to metrics.jsonl after each epoch."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_epoch_end(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Add the line."""
        self.run.add_metrics(metrics)


class Checkpoints(Callback):
    """Writes checkpoints: after each epoch, within it if asked for, and after an interruption.

    Args:
        run: The run directory.
        placed: The whole net, also if only its head is trained.
        every: Steps between two checkpoints of an epoch; 0 writes them only after each epoch.
    """

    def __init__(self, run: Run, placed: Placed, every: int = 0) -> None:
        self.run, self.placed, self.every = run, placed, every

    def on_step_end(self, trainer: Trainer) -> None:
        """Write one if it is due, unless the end of the epoch or of training writes it anyway."""
        step = trainer.position.step
        due = self.every and step % self.every == 0 and step != trainer.steps
        if due and not trainer.interrupted:
            self.save(trainer, trainer.current_position())

    def on_epoch_end(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Write one."""
        self.save(trainer, trainer.position)

    def on_train_end(self, trainer: Trainer) -> None:
        """Write one if training ended between two steps of an epoch."""
        stopped = trainer.interrupted or isinstance(trainer.error, WorkerDied)
        if stopped and trainer.position.step:
            self.save(trainer, trainer.position)

    def save(self, trainer: Trainer, position: Position) -> None:
        """Write a checkpoint."""
        backend = trainer.backend
        self.run.save(
            trainer.name,
            backend.get_state(self.placed),
            backend.get_trainer_state(self.placed, trainer.optimizer),
            position,
        )


class EpochLines(Callback):
    """Prints a line after each epoch."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def on_epoch_end(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Print the line."""
        self.say(
            f'{metrics.net} epoch {metrics.epoch}/{trainer.num_epochs}: '
            f'loss {metrics.train_loss:.3f}, train acc {metrics.train_acc:.3f}, '
            f'test acc {metrics.test_acc:.3f}, {metrics.examples_per_sec:.1f} examples/sec '
            f'(step only: {metrics.step_examples_per_sec:.1f})'
        )


class Report(Callback):
    """Writes figures and report when training of a net is complete.

    Args:
        write: Writes them; takes the net's name.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def on_train_end(self, trainer: Trainer) -> None:
        """Write them, unless training was interrupted."""
        if not trainer.interrupted and trainer.error is None:
            self.write(trainer.name)
