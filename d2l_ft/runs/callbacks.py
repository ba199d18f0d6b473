"""What a training leaves in its run directory, event by event."""

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
    """Writes checkpoints: after each epoch, within it if asked for, and when it is cut short.

    Args:
        run: Where to.
        placed: The whole net; what is trained may be its head.
        every: Steps of an epoch between two; 0 writes them after each epoch only.
    """

    def __init__(self, run: Run, placed: Placed, every: int = 0) -> None:
        self.run, self.placed, self.every = run, placed, every

    def on_step_end(self, trainer: Trainer) -> None:
        """Write one if it is due; the end of the epoch, and of the training, has its own."""
        step = trainer.position.step
        due = self.every and step % self.every == 0 and step != trainer.steps
        if due and not trainer.interrupted:
            self.save(trainer, trainer.current_position())

    def on_epoch_end(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Write one."""
        self.save(trainer, trainer.position)

    def on_train_end(self, trainer: Trainer) -> None:
        """Write one if the training ended between two steps of an epoch."""
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
    """Says a line after each epoch."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def on_epoch_end(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Say the line."""
        self.say(
            f'{metrics.net} epoch {metrics.epoch}/{trainer.num_epochs}: '
            f'loss {metrics.train_loss:.3f}, train acc {metrics.train_acc:.3f}, '
            f'test acc {metrics.test_acc:.3f}, {metrics.examples_per_sec:.1f} examples/sec '
            f'(step only: {metrics.step_examples_per_sec:.1f})'
        )


class Report(Callback):
    """Writes figures and page when a net is trained to its end.

    Args:
        write: Writes them; takes the net's name.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def on_train_end(self, trainer: Trainer) -> None:
        """Write them, unless the training was cut short."""
        if not trainer.interrupted and trainer.error is None:
            self.write(trainer.name)
