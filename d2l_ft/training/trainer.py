"""The training loop, written once for every framework."""

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from d2l_ft.backend.protocol import Backend, Placed, Sums
from d2l_ft.errors import WorkerDied
from d2l_ft.system.signals import Stopped
from d2l_ft.training.callbacks import Callback
from d2l_ft.training.interrupt import Interrupt
from d2l_ft.training.metrics import EpochMetrics, Position, accuracy

READ_SECONDS = 0.5

READ_STEPS = 8
"""The sums are read from the device after this many seconds or steps. Reading waits for the device,
so it must be rare; the progress bar needs it, and it bounds what an asynchronous framework
queues."""


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return the seed of the framework's generators for one step, so that dropout resumes."""
    return zlib.crc32(f'{seed} {epoch} {step}'.encode())


class Trainer:
    """Trains one net: the loop over epochs and steps, and how far it has come.

    Args:
        backend: The framework.
        net: A placed net.
        optimizer: Its trainer: of ``build_trainer``, or the framework's own.
        train_iter: Batches to train on. Its ``set_epoch``, if any, is called before each epoch.
        test_iter: Batches to test on after each epoch; None leaves the test out.
        num_epochs: Epochs in all, those done before a resume included.
        name: The net's name in metrics and on the bar.
        loss: The framework's loss object; None is softmax cross-entropy.
        reduction: 'mean', 'sum' or 'book', as ``Backend.train_step`` takes it.
        position: Where to continue.
        seed: Seed of the framework's generators, set before each step; None leaves them alone.
        rate: (epoch, step), both counted from 0 -> the body's learning rate of that step; None
            leaves the optimizer's. It needs one of ``build_trainer``.
        callbacks: Called at each event, in this order.

    Attributes:
        position: The place after the last step whose sums were read. After an epoch it is the
            beginning of the next one.
        history: The metrics of the epochs that this object has trained.
        interrupted: Number of the signal that ended the training early, or 0.
        error: What ended it, if that was an exception.
    """

    def __init__(  # noqa: PLR0913 -- all that training depends on
        self,
        backend: Backend,
        net: Placed,
        optimizer: Any,
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
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.backend, self.net, self.optimizer = backend, net, optimizer
        self.train_iter, self.test_iter, self.num_epochs = train_iter, test_iter, num_epochs
        self.name, self.loss, self.reduction = name, loss, reduction
        self.position = position or Position()
        self.seed, self.rate, self.callbacks = seed, rate, callbacks
        self.history: list[EpochMetrics] = []
        self.interrupted = 0
        self.error: BaseException | None = None
        self._unread: list[Sums] = []
        self._clock = Clock(())

    @property
    def steps(self) -> int | None:
        """Batches of an epoch, if ``train_iter`` tells how many it has."""
        return len(self.train_iter) if hasattr(self.train_iter, '__len__') else None

    def fit(self) -> list[EpochMetrics]:
        """Train to the last epoch, or until a signal; return the metrics of each epoch.

        After a signal, and after ``WorkerDied``, ``position`` is that of the last whole step.

        Raises:
            TrainingDiverged: The loss is not finite.
            WorkerDied: A worker process of a loader was killed.
        """
        try:
            with Interrupt() as interrupt:
                self._tell('on_train_begin')
                while self.position.epoch < self.num_epochs and not self.interrupted:
                    self._epoch(interrupt)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._tell('on_train_end')
        return self.history

    def current_position(self) -> Position:
        """Return the position within an epoch, once the device has computed the last step."""
        self._read()
        seconds = self.position.seconds + self._clock.seconds()
        return replace(
            self.position, seconds=seconds, waited=self.position.waited + self._clock.waited
        )

    def test(self, interrupt: Interrupt) -> float:
        """Return the accuracy on the test batches, or not-a-number without any.

        Raises:
            Stopped: A signal came; the test can be repeated.
        """
        if self.test_iter is None:
            return math.nan
        sums = self.backend.evaluate(self.net, interrupt.until(self.test_iter))
        return accuracy(sums, self.position.epoch + 1)

    def _epoch(self, interrupt: Interrupt) -> None:
        """Train on the rest of an epoch, then test; a signal stops either."""
        self._tell('on_epoch_begin')
        self._train(interrupt)
        if self.interrupted:
            return
        try:
            test_acc = self.test(interrupt)
        except (Stopped, WorkerDied):
            if not interrupt.asked:
                raise
            self.interrupted = interrupt.asked
            return
        metrics = self.position.metrics(self.name, test_acc)
        self.position = Position(epoch=self.position.epoch + 1)
        self.history.append(metrics)
        self._tell('on_epoch_end', metrics)
        if self.position.epoch < self.num_epochs:
            self.interrupted = interrupt.asked

    def _train(self, interrupt: Interrupt) -> None:
        """Take the remaining steps of the epoch; a signal stops after a step."""
        here = self.position
        if hasattr(self.train_iter, 'set_epoch'):
            self.train_iter.set_epoch(here.epoch, here.step)
        # each step: set seed and rate, train, sometimes read the sums, call the callbacks
        self._clock = clock = Clock(self.train_iter)
        read_step, read_time = here.step, time.perf_counter()
        died = None
        try:
            for batch in clock:
                if self.seed is not None:
                    self.backend.seed(step_seed(self.seed, here.epoch, here.step))
                if self.rate is not None:
                    self.backend.set_rate(self.optimizer, self.rate(here.epoch, here.step))
                self._unread.append(
                    self.backend.train_step(
                        self.net, self.optimizer, batch, self.loss, self.reduction
                    )
                )
                here.step += 1
                late = time.perf_counter() - read_time > READ_SECONDS
                if late or here.step - read_step >= READ_STEPS:
                    self._read()
                    read_step, read_time = here.step, time.perf_counter()
                self.interrupted = interrupt.asked
                self._tell('on_step_end')
                if self.interrupted:
                    break
        except WorkerDied as error:  # between two steps
            died = error
        # read what is still on the device; then an error, or a signal, ends the epoch
        self.position = self.current_position()
        # a signal to the process group, such as Ctrl-C, ends the workers too: that is no error
        if died and not interrupt.asked:
            raise died
        self.interrupted = interrupt.asked

    def _read(self) -> None:
        """Read sums from the device.

        They are added one by one in float64, so the totals do not depend on when they are read.
        """
        unread, self._unread = self._unread, []
        for sums in unread:
            self.position.add(sums)

    def _tell(self, event: str, *details: EpochMetrics) -> None:
        """Tell the callbacks of an event."""
        for callback in self.callbacks:
            getattr(callback, event)(self, *details)


class Clock:
    """Iterates over batches and adds up the time that it waits for them."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches, self.waited = batches, 0.0
        self.start_time = time.perf_counter()

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
        return time.perf_counter() - self.start_time
