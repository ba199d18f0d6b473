"""What is told of the events of a training: the progress bar, lines in a log, files.

A callback overrides the methods whose events it wants. It may read all of the ``Trainer``; an error
that it raises ends the training.
"""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from d2l_ft.training.metrics import EpochMetrics

if TYPE_CHECKING:
    from d2l_ft.training.trainer import Trainer

LOG_SECONDS = 30.0
"""A log that is no terminal gets a line at least this often."""


class Callback:
    """Does nothing at any event."""

    def on_train_begin(self, trainer: 'Trainer') -> None:
        """Before the first step."""

    def on_epoch_begin(self, trainer: 'Trainer') -> None:
        """Before the first step of an epoch, or the first one after a resume."""

    def on_step_end(self, trainer: 'Trainer') -> None:
        """After each step, whose sums may not have been read yet."""

    def on_epoch_end(self, trainer: 'Trainer', metrics: EpochMetrics) -> None:
        """After the test that follows an epoch; the position is that of the next epoch."""

    def on_train_end(self, trainer: 'Trainer') -> None:
        """At the end, whatever ended it: ``trainer.interrupted`` and ``trainer.error`` tell."""


def running_metrics(trainer: 'Trainer') -> dict[str, Any]:
    """Return epoch, loss and accuracy so far in it, as text; {} before the first sums are read."""
    here = trainer.position
    if not here.examples:
        return {}
    return {
        'epoch': here.epoch + 1,
        'loss': f'{here.loss / here.examples:.3f}',
        'acc': f'{here.correct / here.examples:.3f}',
    }


class ProgressBar(Callback):
    """A bar over all steps of all epochs, on a terminal; elsewhere it shows nothing."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.examples = 0

    def on_train_begin(self, trainer: 'Trainer') -> None:
        """Show the bar."""
        steps, here = trainer.steps, trainer.position
        self.bar = tqdm(
            total=steps and steps * trainer.num_epochs,
            initial=(steps or 0) * here.epoch + here.step,
            desc=trainer.name,
            unit='batch',
            disable=None,
        )

    def on_step_end(self, trainer: 'Trainer') -> None:
        """Move the bar on."""
        if trainer.position.examples != self.examples:  # sums have been read
            self.examples = trainer.position.examples
            self.bar.set_postfix(running_metrics(trainer), refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: 'Trainer') -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


class LogLines(Callback):
    """Lines on how far a training is, where there is no terminal for a bar.

    Args:
        say: Takes each line.
        seconds: A line comes at least this often; an epoch's end has a line of its own.
    """

    def __init__(self, say: Callable[[str], None], seconds: float = LOG_SECONDS) -> None:
        self.say, self.seconds = say, seconds
        self.last = time.monotonic()

    def on_step_end(self, trainer: 'Trainer') -> None:
        """Say a line if it is time."""
        now = time.monotonic()
        if now - self.last < self.seconds or sys.stderr.isatty():
            return
        self.last = now
        here, steps = trainer.position, trainer.steps
        parts = [f'epoch {here.epoch + 1}/{trainer.num_epochs}']
        parts.append(f'step {here.step}/{steps}' if steps else f'step {here.step}')
        parts += [
            f'{name} {text}' for name, text in running_metrics(trainer).items() if name != 'epoch'
        ]
        self.say(f'{trainer.name} {", ".join(parts)}')

    def on_epoch_end(self, trainer: 'Trainer', metrics: EpochMetrics) -> None:
        """Count from here: an epoch's end has a line."""
        self.last = time.monotonic()
