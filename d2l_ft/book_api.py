"""The names of the book's training loop, as thin functions over the backends.

They have the book's arguments in the book's order, so that its code runs with another import line;
additional arguments are keywords and come after them.
"""

import time
from typing import Any

import numpy as np

from d2l_ft.backend.devices import Devices, resolve_devices
from d2l_ft.backend.protocol import Backend, Placed
from d2l_ft.backend.registry import backend_of, get_backend, module_of
from d2l_ft.errors import DeviceError, ModelError
from d2l_ft.system.signals import Stopped
from d2l_ft.training.callbacks import ProgressBar
from d2l_ft.training.metrics import EpochMetrics, accuracy, summary
from d2l_ft.training.trainer import Trainer

MEAN, SUM = 'mean over the batch', 'sum over the batch'


class Timer:
    """A stop watch that keeps its times, in seconds; it starts when it is created.

    Example:
        >>> timer = d2l.Timer()
        >>> seconds = timer.stop()
        >>> timer.sum() == seconds
        True
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.start()

    def start(self) -> None:
        """Start the watch again."""
        self.tik = time.perf_counter()

    def stop(self) -> float:
        """Keep the time since the last start and return it."""
        self.times.append(time.perf_counter() - self.tik)
        return self.times[-1]

    def avg(self) -> float:
        """Return the mean of the times; 0 if there are none."""
        return self.sum() / max(len(self.times), 1)

    def sum(self) -> float:
        """Return the sum of the times."""
        return sum(self.times)

    def cumsum(self) -> list[float]:
        """Return the sums of the first time, the first two times, and so on."""
        found: list[float] = np.cumsum(self.times).tolist()
        return found


class Accumulator:
    """``n`` sums, of numbers that may be scalars of a framework.

    Example:
        >>> sums = d2l.Accumulator(2)
        >>> sums.add(0.5, 3)
        >>> sums.add(0.25, 4)
        >>> sums[0], sums[1]
        (0.75, 7.0)
    """

    def __init__(self, n: int) -> None:
        self.data = [0.0] * n

    def add(self, *args: Any) -> None:
        """Add a number to each sum.

        Raises:
            ValueError: There are more or fewer numbers than sums.
        """
        self.data = [a + float(b) for a, b in zip(self.data, args, strict=True)]

    def reset(self) -> None:
        """Set each sum to 0."""
        self.data = [0.0] * len(self.data)

    def __getitem__(self, idx: int) -> float:
        """Return a sum."""
        return self.data[idx]


def try_gpu(i: int = 0, *, backend: Backend | str | None = None) -> Any:
    """Return GPU ``i`` if there is one, otherwise the CPU.

    Args:
        i: Its number.
        backend: As ``get_backend`` takes it.

    Example:
        >>> net = d2l.resnet18(10).to(d2l.try_gpu())
    """
    chosen = get_backend(backend)
    try:
        return chosen.devices(f'gpu:{i}')[0]
    except DeviceError:
        return chosen.devices('cpu')[0]


def try_all_gpus(*, backend: Backend | str | None = None) -> list[Any]:
    """Return every GPU that a framework sees, or its CPU.

    Args:
        backend: As ``get_backend`` takes it.

    Example:
        >>> len(d2l.try_all_gpus()) >= 1
        True
    """
    return get_backend(backend).devices('auto')


def resnet18(
    num_classes: int, in_channels: int | None = None, *, backend: Backend | str | None = None
) -> Any:
    """Return the book's ResNet-18 for small images, with random weights.

    Its first convolution is 3 x 3 with stride 1, and no pooling follows. Gluon's net is not
    initialized, as in the book.

    Args:
        num_classes: Outputs.
        in_channels: Channels of the images; None is 1 with PyTorch, and those of the first batch
            with Gluon.
        backend: As ``get_backend`` takes it.

    Raises:
        ModelError: The backend's package has no such net.

    Example:
        >>> import torch
        >>> net = d2l.resnet18(10, 3)
        >>> net(torch.zeros(4, 3, 32, 32)).shape
        torch.Size([4, 10])
    """
    chosen = get_backend(backend)
    book = module_of(chosen, 'book')
    if book is None:
        raise ModelError(f"the backend {chosen.NAME} has no module book with the book's nets")
    return book.resnet18(num_classes, in_channels)


def reduction_of(trainer: Any, reduction: str | None) -> str:
    """Return how a step reduces the loss over the batch: 'mean', 'sum' or 'book'.

    Args:
        trainer: One of ``build_trainer`` has the reduction of its recipe.
        reduction: 'mean', 'sum' or 'book'; None takes the trainer's. For a trainer that the reader
            made this is 'book', the step of the book's tab.
    """
    return reduction or str(getattr(trainer, 'd2l_reduction', 'book'))


def describe_step(backend: Backend, loss: Any, reduction: str) -> str:
    """Return the reduction of a step in words, for the summary."""
    if reduction != 'book':
        return MEAN if reduction == 'mean' else SUM
    if backend.NAME != 'pytorch':
        return f"{MEAN}, as in the book's tab"  # Gluon's trainer divides by the batch size
    # torch's own losses reduce by themselves; the tab sums whatever they return
    given = MEAN if getattr(loss, 'reduction', 'none') == 'mean' else SUM
    return f"{given}, as in the book's PyTorch tab; reduction='mean' takes the mean"


def train_batch_ch13(
    net: Any,
    X: Any,
    y: Any,
    loss: Any,
    trainer: Any,
    devices: Devices,
    *,
    reduction: str | None = None,
) -> tuple[Any, Any]:
    """Take one step on several devices.

    Args:
        net: Net of MXNet Gluon or PyTorch; it is put on the devices.
        X: (batch, 3, height, width) images.
        y: (batch,) integer labels.
        loss: Loss object with one value per example, or None for softmax cross-entropy.
        trainer: See ``train_ch13``.
        devices: See ``train_ch13``.
        reduction: See ``train_ch13``.

    Returns:
        (sum of the losses, number of correct predictions) before the step: scalars of the
        framework, which ``float`` reads.

    Example:
        >>> import torch
        >>> net = d2l.resnet18(2, 3)
        >>> X, y = torch.rand(8, 3, 32, 32), torch.arange(8) % 2
        >>> loss = torch.nn.CrossEntropyLoss(reduction='none')
        >>> trainer = torch.optim.SGD(net.parameters(), lr=0.01)
        >>> total, hits = d2l.train_batch_ch13(net, X, y, loss, trainer, 'cpu')
        >>> 0 <= int(hits) <= 8
        True
    """
    backend = backend_of(net)
    placed = backend.place(net, resolve_devices(backend, devices))
    sums = backend.train_step(placed, trainer, (X, y), loss, reduction_of(trainer, reduction))
    join_replicas(backend, placed)
    return sums.loss, sums.correct


def join_replicas(backend: Backend, placed: Placed) -> None:
    """Give the net the mean of its replicas' running statistics, as the reader keeps using it."""
    backend.evaluate(placed, [])  # it averages them before its first batch


def evaluate_accuracy_gpu(net: Any, data_iter: Any, device: Any = None) -> float:
    """Return the accuracy over batches, in eval mode.

    Args:
        net: Net of MXNet Gluon or PyTorch.
        data_iter: Iterable of (images, labels).
        device: The device to compute on; None is where the net is.

    Example:
        >>> net = d2l.load_run('runs/mine').net()
        >>> _, test_iter = d2l.load_data('photos').loaders(d2l.get_backend(), 8, image_size=48)
        >>> 0 <= d2l.evaluate_accuracy_gpu(net, test_iter) <= 1
        True
    """
    backend = backend_of(net)
    placed = backend.place(net, None if device is None else [device])
    return accuracy(backend.evaluate(placed, data_iter))


def evaluate_accuracy_gpus(net: Any, data_iter: Any) -> float:
    """Return the accuracy over batches, in eval mode, on the net's own devices.

    Example:
        >>> net = d2l.load_run('runs/mine').net()
        >>> _, test_iter = d2l.load_data('photos').loaders(d2l.get_backend(), 8, image_size=48)
        >>> 0 <= d2l.evaluate_accuracy_gpus(net, test_iter) <= 1
        True
    """
    return evaluate_accuracy_gpu(net, data_iter)


def train_ch13(
    net: Any,
    train_iter: Any,
    test_iter: Any,
    loss: Any,
    trainer: Any,
    num_epochs: int,
    devices: Devices | None = None,
    *,
    reduction: str | None = None,
    quiet: bool = False,
) -> list[EpochMetrics]:
    """Train a net on several devices and print the book's summary.

    Net, loaders, loss and trainer may come from d2l_ft or from the framework alone; the net's
    class tells the framework. In a notebook the curves are drawn as training goes.

    Args:
        net: Net of MXNet Gluon or PyTorch.
        train_iter: Iterable of (images, labels); with a length the progress bar shows the end.
        test_iter: The same for the test after each epoch, or None.
        loss: Loss object with one value per example, or None for softmax cross-entropy.
        trainer: ``gluon.Trainer``, ``torch.optim.Optimizer`` or that of ``build_trainer``.
        num_epochs: Passes over ``train_iter``.
        devices: Devices of the framework, or a text such as 'cpu:2' or 'gpu:0,1'; None and 'auto'
            take all GPUs, or the CPU.
        reduction: 'mean': the gradient is that of the mean loss over the batch, in both
            frameworks; 'sum': that of the sum. 'book': as in the book's tab, which is the mean
            with MXNet and the sum of what the loss returns with PyTorch. None is the recipe's
            for a trainer of ``build_trainer``, and 'book' for any other. The summary says which.
        quiet: Whether to leave out curves and summary.

    Returns:
        The metrics of each epoch.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the current step is done.
        TrainingDiverged: The loss is not finite.

    Example:
        >>> import torch
        >>> data = d2l.load_data('photos')
        >>> train_iter, test_iter = data.loaders(d2l.get_backend(), 8, image_size=48)
        >>> net = d2l.resnet18(2, 3)
        >>> loss = torch.nn.CrossEntropyLoss(reduction='none')
        >>> trainer = torch.optim.SGD(net.parameters(), lr=0.01)
        >>> history = d2l.train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs=1)
        loss ..., train acc ..., test acc ...
        >>> history[-1].epoch
        1
    """
    from d2l_ft.report.live import LiveCurves  # it loads matplotlib

    # Place the net
    backend = backend_of(net)
    chosen = resolve_devices(backend, 'auto' if devices is None else devices)
    placed = backend.place(net, chosen)
    reduction = reduction_of(trainer, reduction)

    # Train
    training = Trainer(
        backend,
        placed,
        trainer,
        train_iter,
        test_iter,
        num_epochs,
        loss=loss,
        reduction=reduction,
        callbacks=[ProgressBar(), *([] if quiet else [LiveCurves()])],
    )
    history = training.fit()
    join_replicas(backend, placed)

    # Report, after an interruption as an error
    if training.interrupted:
        raise Stopped(training.interrupted)
    if history and not quiet:
        print(summary(history[-1], chosen, describe_step(backend, loss, reduction)))
    return history


def train_fine_tuning(
    net: Any,
    learning_rate: float,
    batch_size: int = 128,
    num_epochs: int = 5,
    param_group: bool = True,
    *,
    data: str | None = None,
    image_size: int | None = None,
    devices: Devices = 'auto',
    seed: int = 0,
    quiet: bool = False,
) -> list[EpochMetrics]:
    """Fine-tune a net on an image folder, as the chapter does.

    Args:
        net: Net of either framework; its class tells which.
        learning_rate: Rate of the body, for the mean loss.
        batch_size: Examples a step.
        num_epochs: Passes over the training part.
        param_group: Whether the output layer learns with ten times the rate.
        data: 'sample', 'hotdog' or an image folder, as ``load_data`` takes it.
        image_size: Side of the net's input, in pixels; None is the data set's own.
        devices: See ``train_ch13``.
        seed: Seed of order, crops and flips.
        quiet: Whether to leave out curves and summary.

    Returns:
        The metrics of each epoch.

    Raises:
        DataError: The data set cannot be used.

    Example:
        >>> source = d2l.load_source('sample', 'resnet18')
        >>> net = d2l.get_backend().build_net('resnet18', 2, source)
        >>> history = d2l.train_fine_tuning(net, 0.002, batch_size=64, num_epochs=1, quiet=True)
        >>> history[-1].epoch
        1
    """
    from d2l_ft.data.datasets import load_data
    from d2l_ft.optim.recipe import FINE_TUNED, Recipe

    backend = backend_of(net)
    dataset = load_data(data)
    train_iter, test_iter = dataset.loaders(backend, batch_size, image_size=image_size, seed=seed)
    multiplier = FINE_TUNED.head_lr_mult if param_group else 1.0
    chosen = resolve_devices(backend, devices)
    placed = backend.place(net, chosen)
    trainer = backend.build_trainer(placed, Recipe(learning_rate, head_lr_mult=multiplier))
    return train_ch13(net, train_iter, test_iter, None, trainer, num_epochs, chosen, quiet=quiet)
