"""The training loop, written once for every framework."""

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

from tqdm import tqdm

from d2l_ft.backend.protocol import Backend, Placed, Sums
from d2l_ft.errors import WorkerDied
from d2l_ft.system.signals import Stopped
from d2l_ft.training.interrupt import Interrupt
from d2l_ft.training.metrics import EpochMetrics, Position, accuracy, summary

READ_SECONDS = 0.5

READ_STEPS = 8
"""The sums are read from the device after so many seconds or steps: often enough for the
progress bar and to bound what an asynchronous framework queues, seldom enough not to stall it."""


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return the seed of the framework's generators for one step, so that dropout resumes."""
    return zlib.crc32(f'{seed} {epoch} {step}'.encode())


class Fit:
    """One net's training: the loop with its progress bar, and where it stands.

    Args:
        backend: The framework.
        placed: The net, where it computes.
        trainer: Its trainer.
        train_iter: Batches to train on. One with ``set_epoch`` is told the epoch.
        test_iter: Batches to test on after each epoch; None leaves the test out.
        num_epochs: Epochs in all, those done before a resume included.
        name: The net's name in metrics and on the bar.
        loss: The framework's loss object; None is softmax cross-entropy.
        reduction: 'mean', 'sum' or 'book', as ``Backend.train_step`` takes it.
        position: Where to go on.
        seed: Seed of the framework's generators, set before each step; None leaves them alone.
        rate: (epoch, step), both counted from 0 -> the body's learning rate of that step; None
            leaves the trainer's. It needs a trainer of ``build_trainer``.
        save_every: After so many steps of an epoch ``run`` calls ``on_save``; 0 never.
        bar: Whether to show a progress bar; it needs a terminal too.
    """

    def __init__(
        self,
        backend: Backend,
        placed: Placed,
        trainer: Any,
        train_iter: Any,
        test_iter: Any,
        num_epochs: int,
        *,
        name: str = 'net',
        loss: Any = None,
        reduction: str = 'mean',
        position: Position | None = None,
        seed: int | None = None,
        rate: Callable[[int, int], float] | None = None,
        save_every: int = 0,
        bar: bool = True,
    ) -> None:
        self.backend, self.placed, self.trainer = backend, placed, trainer
        self.train_iter, self.test_iter, self.num_epochs = train_iter, test_iter, num_epochs
        self.name, self.loss, self.reduction = name, loss, reduction
        self.position = position or Position()
        self.seed, self.rate, self.save_every, self.bar = seed, rate, save_every, bar
        self.interrupted = 0

    def run(
        self,
        on_epoch: Callable[[EpochMetrics], None] | None = None,
        on_save: Callable[[Position], None] | None = None,
    ) -> list[EpochMetrics]:
        """Train to the last epoch, or until a signal, whose number is then ``interrupted``.

        After it, and after ``WorkerDied``, ``position`` is that of the last whole step.

        Args:
            on_epoch: Called after each epoch, when ``position`` is that of the next.
            on_save: Called with the position within an epoch, every ``save_every`` steps.

        Raises:
            TrainingDiverged: The loss is not finite.
            WorkerDied: A worker process of a loader was killed.
        """
        history = []
        steps = self.steps()
        done = steps and steps * self.position.epoch + self.position.step
        with (
            Interrupt() as interrupt,
            tqdm(
                total=steps and steps * self.num_epochs,
                initial=done or 0,
                desc=self.name,
                unit='batch',
                disable=None if self.bar else True,
            ) as bar,
        ):
            while self.position.epoch < self.num_epochs and not self.interrupted:
                self._train_epoch(interrupt, bar, on_save)
                if self.interrupted:
                    break
                try:
                    test_acc = self.test(interrupt)
                except (Stopped, WorkerDied):
                    if not interrupt.asked:
                        raise
                    self.interrupted = interrupt.asked
                    break
                metrics = self.position.metrics(self.name, test_acc)
                self.position = Position(epoch=self.position.epoch + 1)
                history.append(metrics)
                if on_epoch:
                    on_epoch(metrics)
                if self.position.epoch < self.num_epochs:
                    self.interrupted = interrupt.asked
        return history

    def steps(self) -> int | None:
        """Return the number of batches of an epoch, if the batches tell it."""
        return len(self.train_iter) if hasattr(self.train_iter, '__len__') else None

    def _train_epoch(
        self, interrupt: Interrupt, bar: Any, on_save: Callable[[Position], None] | None
    ) -> None:
        """Train on what is left of the epoch; a signal ends it after a step."""
        here = self.position
        if hasattr(self.train_iter, 'set_epoch'):
            self.train_iter.set_epoch(here.epoch, here.step)
        clock = Clock(self.train_iter)
        unread: list[Sums] = []
        read_step, read_time = here.step, time.perf_counter()
        died = None
        try:
            for batch in clock:
                if self.seed is not None:
                    self.backend.seed(step_seed(self.seed, here.epoch, here.step))
                if self.rate is not None:
                    self.backend.set_rate(self.trainer, self.rate(here.epoch, here.step))
                sums = self.backend.train_step(
                    self.placed, self.trainer, batch, self.loss, self.reduction
                )
                unread.append(sums)
                here.step += 1
                bar.update()
                late = time.perf_counter() - read_time > READ_SECONDS
                if late or here.step - read_step >= READ_STEPS:
                    self._read(unread, bar)
                    read_step, read_time = here.step, time.perf_counter()
                if interrupt.asked:
                    self.interrupted = interrupt.asked
                    break
                due = self.save_every and here.step % self.save_every == 0
                if on_save and due and here.step != self.steps():  # the epoch's end has its own
                    self._read(unread, bar)
                    seconds, waited = here.seconds + clock.seconds(), here.waited + clock.waited
                    on_save(replace(here, seconds=seconds, waited=waited))
        except WorkerDied as error:  # between two steps
            died = error
        self._read(unread, bar)
        here.seconds += clock.seconds()
        here.waited += clock.waited
        if died:
            if not interrupt.asked:  # a signal to the whole group ends the workers as well
                raise died
            self.interrupted = interrupt.asked

    def _read(self, unread: list[Sums], bar: Any) -> None:
        """Read sums from the device and put the running loss and accuracy beside the bar.

        They are added one by one in float64, so the totals do not depend on when they are read.
        """
        here = self.position
        for sums in unread:
            here.add(sums)
        unread.clear()
        if not here.examples:
            return
        bar.set_postfix(
            epoch=here.epoch + 1,
            loss=f'{here.loss / here.examples:.3f}',
            acc=f'{here.correct / here.examples:.3f}',
            refresh=False,
        )

    def test(self, interrupt: Interrupt) -> float:
        """Return the accuracy on the test batches, or not-a-number without any.

        Raises:
            Stopped: A signal came; the test can be made again.
        """
        if self.test_iter is None:
            return math.nan
        sums = self.backend.evaluate(self.placed, interrupt.until(self.test_iter))
        return accuracy(sums, self.position.epoch + 1)


class Clock:
    """Iterate over batches and add up the time in which they were waited for."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches, self.waited = batches, 0.0
        self.begun = time.perf_counter()

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.batches)
        while True:
            before = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - before
            yield batch

    def seconds(self) -> float:
        """Return the seconds since the clock was made."""
        return time.perf_counter() - self.begun


__all__ = [
    'EpochMetrics',
    'Fit',
    'Position',
    'accuracy',
    'asdict',
    'summary',
]
