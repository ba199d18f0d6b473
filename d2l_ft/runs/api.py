"""Fine-tune a net and use it from Python, as the commands train, evaluate and predict do."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l_ft.backend.devices import Devices, as_request
from d2l_ft.backend.protocol import Backend
from d2l_ft.backend.registry import get_backend
from d2l_ft.data.image_files import find_images
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.validation import check_images
from d2l_ft.errors import CheckpointError, DataError
from d2l_ft.runs.directory import Run
from d2l_ft.runs.job import train
from d2l_ft.runs.results import classify, evaluate_run, load_net
from d2l_ft.runs.settings import Settings
from d2l_ft.system.console import list_names, say, warn
from d2l_ft.system.signals import Stopped
from d2l_ft.training.evaluation import Evaluation
from d2l_ft.training.metrics import EpochMetrics


@dataclass(frozen=True)
class Prediction:
    """The prediction of a net for one image.

    Attributes:
        path: The image file.
        probabilities: Class -> probability, the most probable first; they sum to 1.

    Example:
        >>> found = d2l.Prediction('lunch.jpg', {'hotdog': 0.9, 'not-hotdog': 0.1})
        >>> found.class_name
        'hotdog'
    """

    path: str
    probabilities: dict[str, float]

    @property
    def class_name(self) -> str:
        """The most probable class."""
        return next(iter(self.probabilities))


class FineTuned:
    """A run: its trained nets, their metrics, and their predictions.

    ``fine_tune`` and ``load_run`` return it.

    Args:
        run: The run directory.
        backend: The framework of its nets unless a method names another, as ``get_backend`` takes
            it.

    Example:
        >>> run = d2l.load_run('runs/mine')
        >>> run.classes
        ['dark', 'light']
        >>> run.history['fine-tuned'][-1].epoch
        1
        >>> for found in run.predict(['lunch.jpg', 'dinner.png']):
        ...     print(found.path, found.class_name)
        lunch.jpg ...
        dinner.png ...
    """

    def __init__(self, run: Run, backend: Backend | str | None = None) -> None:
        self._run, self._backend = run, backend

    def __repr__(self) -> str:
        config = self._run.config
        return (
            f'<run {self.path}: {config.arch}, {config.data}, classes {list_names(config.classes)}>'
        )

    @property
    def path(self) -> Path:
        """The run directory, with checkpoints, curves.png and report.html."""
        return self._run.path

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the net's outputs."""
        return self._run.config.classes

    @property
    def history(self) -> dict[str, list[EpochMetrics]]:
        """The metrics of each epoch: of 'fine-tuned', of 'scratch', or of both.

        Raises:
            CheckpointError: Their file is damaged.
        """
        return self._run.history()

    def net(self, backend: Backend | str | None = None, *, name: str | None = None) -> Any:
        """Return a trained net, the framework's own, on every GPU or on the CPU.

        Args:
            backend: The framework, whichever trained the net; None is that of the run.
            name: 'fine-tuned' or 'scratch'; None is the fine-tuned one if there is one.

        Raises:
            CheckpointError: There is no good checkpoint of it.
        """
        return load_net(self._run, self._get_backend(backend), name).net

    def evaluate(
        self,
        data: str | os.PathLike[str] | None = None,
        *,
        backend: Backend | str | None = None,
        bar: bool = True,
    ) -> Evaluation:
        """Test the net on the test part of its data, or on another data set.

        Args:
            data: A data set, of which the test part is used, or a folder of class folders, which
                is used whole. It need not have all classes of the run; they are matched by name.
            backend: As ``net`` takes it.
            bar: Whether to show progress; it needs a terminal too.

        Raises:
            DataError: The data set cannot be had, or an image in it is bad.
            CheckpointError: It has a class that the run has not, or there is no good checkpoint.
        """
        where = None if data is None else os.fspath(data)
        return evaluate_run(self._run, self._get_backend(backend), where, bar=bar)[0]

    def predict(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        backend: Backend | str | None = None,
        bar: bool = True,
    ) -> list[Prediction]:
        """Classify images.

        Args:
            paths: One or several: files; folders, whose .jpg, .jpeg and .png files are taken at
                any depth; patterns with * ? [ ].
            backend: As ``net`` takes it.
            bar: Whether to show progress; it needs a terminal too.

        Returns:
            A prediction for each image, in the order of the paths.

        Raises:
            DataError: An image is bad or missing.
            CheckpointError: There is no good checkpoint.
        """
        names = [paths] if isinstance(paths, str | os.PathLike) else paths
        found = find_images(os.path.expanduser(os.fspath(name)) for name in names)
        for path, problem in found:
            if problem:
                raise DataError(f'{path} {problem}')
        images = [path for path, _ in found]
        check_images([Sample(path, 0) for path in images], bar=bar)
        rows = classify(self._run, self._get_backend(backend), images, bar=bar)
        return [Prediction(path, row) for path, row in zip(images, rows, strict=True)]

    def _get_backend(self, backend: Backend | str | None) -> Backend:
        """Return the framework that a method names, or that of the run."""
        return get_backend(self._backend if backend is None else backend)


def fine_tune(  # noqa: PLR0913 -- the options that most users set, by keyword
    data: str | os.PathLike[str] = 'sample',
    *,
    source: str | os.PathLike[str] | None = None,
    arch: str = 'resnet18',
    num_epochs: int = 5,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    freeze: bool = False,
    compare: bool = False,
    seed: int = 0,
    devices: Devices = 'auto',
    backend: Backend | str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    bar: bool = True,
    quiet: bool = False,
    **options: Any,
) -> FineTuned:
    """Fine-tune a net on images, as ``d2l-ft train`` does, and return the run.

    Every image is checked first. The run directory gets checkpoints, metrics, curves and a report.

    Args:
        data: 'sample', 'hotdog', or a folder with a folder of images per class.
        source: 'sample' (pre-trained at first use), 'imagenet', 'none', a weights file, or a
            folder of ``d2l-ft convert``, whose net is trained; None is 'sample' for the sample,
            otherwise 'imagenet'.
        arch: Architecture, or such a folder.
        num_epochs: Passes over the training part.
        batch_size: Examples a step; None is the data set's own.
        learning_rate: Of the body, for the mean loss; the output layer learns ten times faster.
            None is the data set's own.
        freeze: Whether to train the output layer alone.
        compare: Whether to train a net from scratch too.
        seed: Seed of heads, order, crops, flips and dropout.
        devices: As ``train_ch13`` takes them.
        backend: The framework, as ``get_backend`` takes it.
        out: The run directory; None makes one below runs/.
        resume: Whether to continue the run in ``out`` where it stopped. Options that are left at
            their defaults then keep the values of the run.
        bar: Whether to show progress: bars in a terminal, curves in a notebook.
        quiet: Whether to print nothing, and show no progress.
        options: Other options of ``d2l-ft train``, such as ``image_size=96``.

    Raises:
        OptionError: There is no such option, or its value is out of its bounds.
        D2LFTError: Anything else that the user can fix; all is checked before training starts.
        KeyboardInterrupt: After Ctrl-C, when the current step is done and a checkpoint written.

    Example:
        >>> run = d2l.fine_tune('photos', source='weights.safetensors', num_epochs=1, batch_size=8,
        ...                     image_size=48, quiet=True)
        >>> run.history['fine-tuned'][-1].test_acc
        0...
        >>> run.evaluate().accuracy
        0...
        >>> run.net().fc.out_features
        2
    """
    requested = options | {
        'data': os.fspath(data),
        'source': None if source is None else os.fspath(source),
        'arch': arch,
        'num_epochs': num_epochs,
        'batch_size': batch_size,
        'learning_rate': learning_rate,
        'freeze': freeze,
        'compare': compare,
        'seed': seed,
    }
    where = None if out is None else Path(out).expanduser()
    settings = Settings.of(**requested, devices='auto')
    if resume:
        if where is None:
            raise CheckpointError('`resume=True` needs the run directory: give `out`')
        config, defaults = Run.open(where).config, Settings().values()
        given = {name: value for name, value in requested.items() if value != defaults[name]}
        settings = config.settings.resume(given)
        backend = config.backend if backend is None else backend
    settings.check()  # before a framework is imported, which takes seconds
    chosen = get_backend(backend)
    if not resume or devices != 'auto':
        settings = settings.replace(devices=as_request(chosen, devices))
    lines = _silent if quiet else say
    run, stopped = train(chosen, settings, where, resume=resume, bar=bar and not quiet, say=lines)
    if stopped:
        warn(f'stopped; go on with  fine_tune(out={str(run.path)!r}, resume=True)')
        raise Stopped(stopped)
    return FineTuned(run, chosen)


def load_run(path: str | os.PathLike[str], *, backend: Backend | str | None = None) -> FineTuned:
    """Open a run that ``fine_tune`` or ``d2l-ft train`` made.

    Args:
        path: The run directory.
        backend: The framework of its nets, whichever trained them, as ``get_backend`` takes it.

    Raises:
        CheckpointError: It is no run directory, or its config is damaged.

    Example:
        >>> run = d2l.load_run('runs/mine')
        >>> len(run.evaluate('photos').samples)
        4
        >>> net = run.net('mxnet')
    """
    return FineTuned(Run.open(Path(path).expanduser()), backend)


def _silent(line: str) -> None:
    """Print nothing."""
