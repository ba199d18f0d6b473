"""The training loop, written once for every framework."""

import math
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any

from tqdm import tqdm

from d2l_ft.errors import TrainingDiverged, WorkerDied
from d2l_ft.interface import Backend, Sums
from d2l_ft.signals import Stopped, handled

READ_SECONDS = 0.5
READ_STEPS = 8
"""The sums are read from the device after so many seconds or steps: often enough for the
progress bar and to bound what an asynchronous framework queues, seldom enough not to stall it."""


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch of one net came to; a line of ``metrics.jsonl``.

    Attributes:
        net: 'fine-tuned', 'scratch', or the caller's name.
        epoch: 1 for the first.
        train_loss: Mean of the loss over the examples of the epoch, each before its step.
        train_acc: Share of hits, likewise.
        test_acc: Share of hits on the test part after the epoch.
        examples_per_sec: Training examples / seconds, data loading included.
        step_examples_per_sec: Training examples / seconds in which the loop did not wait for
            data; the figure that the book prints.
        seconds: Duration of the epoch's training, without its test.
    """

    net: str
    epoch: int
    train_loss: float
    train_acc: float
    test_acc: float
    examples_per_sec: float
    step_examples_per_sec: float
    seconds: float


@dataclass
class Position:
    """Where a training stands; with the states of net and trainer, all that resume needs.

    Attributes:
        epoch: Epochs done.
        step: Batches done of the epoch under way.
        loss, correct, examples: Sums over these batches.
        seconds: Spent on these batches.
        waited: The part of it in which the loop waited for data.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    examples: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, sums: Sums) -> None:
        """Read sums from the device and add them.

        Raises:
            TrainingDiverged: The loss is not finite.
        """
        self.loss += float(sums.loss)
        self.correct += float(sums.correct)
        self.examples += sums.examples
        if not math.isfinite(self.loss):
            raise TrainingDiverged(
                f'the loss became {self.loss} in epoch {self.epoch + 1}: '
                'train again with a smaller learning rate'
            )

    def metrics(self, net: str, test_acc: float) -> EpochMetrics:
        """Return the metrics of the epoch that has just ended."""
        seconds = max(self.seconds, 1e-9)
        return EpochMetrics(
            net=net,
            epoch=self.epoch + 1,
            train_loss=self.loss / max(self.examples, 1),
            train_acc=self.correct / max(self.examples, 1),
            test_acc=test_acc,
            examples_per_sec=self.examples / seconds,
            step_examples_per_sec=self.examples / max(seconds - self.waited, 1e-9),
            seconds=self.seconds,
        )


class Interrupt:
    """Turn the first signal that asks to end, such as Ctrl-C, into a flag between two steps.

    A second one interrupts at once. Outside the main thread the signals stay as they are.

    Attributes:
        asked: Number of the signal; 0 as long as there was none.
    """

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> 'Interrupt':
        self._handled = handled(self._on_signal)
        self._handled.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handled.__exit__(None, None, None)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise Stopped(number)
        self.asked = number
        with suppress(OSError, RuntimeError):  # also: it came while another line was written
            print('\nstopping after this step; Ctrl-C again stops at once', file=sys.stderr)

    def until(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches until a signal asks to end, which raises ``Stopped``."""
        for batch in batches:
            if self.asked:
                raise Stopped(self.asked)
            yield batch


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return the seed of the framework's generators for one step, so that dropout resumes."""
    return zlib.crc32(f'{seed} {epoch} {step}'.encode())


class Fit:
    """One net's training: the loop with its progress bar, and where it stands.

    Args:
        backend: The framework.
        net: A placed net.
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
        net: Any,
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
        self.backend, self.net, self.trainer = backend, net, trainer
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
                    self.net, self.trainer, batch, self.loss, self.reduction
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
        sums = self.backend.evaluate(self.net, interrupt.until(self.test_iter))
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


def accuracy(sums: Sums, epoch: int = 0) -> float:
    """Return the share of hits.

    Args:
        sums: Of a test.
        epoch: That it followed, 1 for the first; 0 if there was none.

    Raises:
        TrainingDiverged: The loss is not finite: what is not a number would count as a class.
    """
    if not math.isfinite(loss := float(sums.loss)):
        when = f' after epoch {epoch}' if epoch else ''
        raise TrainingDiverged(
            f'the test loss became {loss}{when}: train again with a smaller learning rate'
        )
    return float(sums.correct) / max(sums.examples, 1)


def summary(metrics: EpochMetrics, devices: Sequence[Any], step: str) -> str:
    """Return the book's two lines, with the step-only speed beside the end-to-end one.

    Args:
        metrics: Of the last epoch.
        devices: On which the net was trained.
        step: Of what each step took the gradient.
    """
    return (
        f'loss {metrics.train_loss:.3f}, train acc {metrics.train_acc:.3f}, '
        f'test acc {metrics.test_acc:.3f}\n'
        f'{metrics.examples_per_sec:.1f} examples/sec on {[str(device) for device in devices]} '
        f'(step only: {metrics.step_examples_per_sec:.1f}); gradient of the {step}'
    )


__all__ = [
    'EpochMetrics',
    'Fit',
    'Position',
    'accuracy',
    'asdict',
    'summary',
]
