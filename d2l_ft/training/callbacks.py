"""Callbacks of the training loop: the progress bar and lines in a log.

A callback overrides the methods of the events that it needs. It may read everything of the
``Trainer``; an exception that it raises ends the training.
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
"""Without a terminal a line is printed at least this often: batch systems end silent jobs."""


class Callback:
    """Does nothing at any event."""

    def on_train_begin(self, trainer: 'Trainer') -> None:
        """Before the first step."""

    def on_epoch_begin(self, trainer: 'Trainer') -> None:
        """Before the first step of an epoch, or the first one after a resume."""

    def on_step_end(self, trainer: 'Trainer') -> None:
        """After each step; its sums may still be on the device."""

    def on_epoch_end(self, trainer: 'Trainer', metrics: EpochMetrics) -> None:
        """After the test that follows an epoch; the position is that of the next epoch."""

    def on_train_end(self, trainer: 'Trainer') -> None:
        """At the end, also after a signal (``trainer.interrupted``) or an exception (``error``)."""


def running_metrics(trainer: 'Trainer') -> dict[str, Any]:
    """Return the epoch, and its loss and accuracy so far, as text; {} before sums were read."""
    here = trainer.position
    if not here.examples:
        return {}
    return {
        'epoch': here.epoch + 1,
        'loss': f'{here.loss / here.examples:.3f}',
        'acc': f'{here.correct / here.examples:.3f}',
    }


class ProgressBar(Callback):
    """A progress bar over all steps of all epochs; it shows nothing without a terminal."""

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
        """Advance the bar."""
        if trainer.position.examples != self.examples:  # sums have been read
            self.examples = trainer.position.examples
            self.bar.set_postfix(running_metrics(trainer), refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: 'Trainer') -> None:
        """Close the bar; it stays visible."""
        if self.bar is not None:
            self.bar.close()


class LogLines(Callback):
    """Lines on the progress, where there is no terminal for a bar.

    Args:
        say: Prints a line.
        seconds: At least this often; the end of an epoch has a line of its own.
    """

    def __init__(self, say: Callable[[str], None], seconds: float = LOG_SECONDS) -> None:
        self.say, self.seconds = say, seconds
        self.last = time.monotonic()

    def on_step_end(self, trainer: 'Trainer') -> None:
        """Print a line if the last one is long enough ago."""
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
        """Restart the clock: the end of an epoch has a line of its own."""
        self.last = time.monotonic()
