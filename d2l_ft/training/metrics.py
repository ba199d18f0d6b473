"""What is counted and measured in an epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from d2l_ft.backend.protocol import Sums
from d2l_ft.errors import TrainingDiverged


@dataclass(frozen=True)
class EpochMetrics:
    """The results of one epoch of one net; a line of ``metrics.jsonl``.

    Attributes:
        net: 'fine-tuned', 'scratch', or the caller's name.
        epoch: 1 for the first.
        train_loss: Mean of the loss over the examples of the epoch, each before its step.
        train_acc: Share of correct predictions, also before each step.
        test_acc: Share of correct predictions on the test part after the epoch.
        examples_per_sec: Training examples / seconds, data loading included.
        step_examples_per_sec: Training examples / seconds in which the loop did not wait for
            data; the figure that the book prints.
        seconds: Duration of the epoch's training, without its test.

    Example:
        >>> last = d2l.load_run('runs/mine').history['fine-tuned'][-1]
        >>> print(f'epoch {last.epoch}: test acc {last.test_acc:.3f}')
        epoch 1: test acc ...
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
    """How far training has come; with the states of net and trainer, all that resume needs.

    Attributes:
        epoch: Epochs done.
        step: Batches done of the current epoch.
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


def accuracy(sums: Sums, epoch: int = 0) -> float:
    """Return the share of correct predictions.

    Args:
        sums: The sums over a test.
        epoch: The epoch before the test, 1 for the first; 0 if there was none.

    Raises:
        TrainingDiverged: The loss is not finite; the class of logits that are NaN means nothing.
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
        step: What each step took the gradient of, such as 'mean'.
    """
    return (
        f'loss {metrics.train_loss:.3f}, train acc {metrics.train_acc:.3f}, '
        f'test acc {metrics.test_acc:.3f}\n'
        f'{metrics.examples_per_sec:.1f} examples/sec on {[str(device) for device in devices]} '
        f'(step only: {metrics.step_examples_per_sec:.1f}); gradient of the {step}'
    )
