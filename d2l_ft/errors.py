"""The errors of d2l_ft: each message is one line with the cause and the next command.

    D2LFTError                   whatever a user can fix
    |-- UnknownBackend           the backend that was asked for:
    |-- BackendNotInstalled
    |-- BackendBroken
    |-- DeviceError
    |-- OptionError              an argument
    |-- DataError                images, data sets, downloads
    |   `-- WorkerDied
    |-- ModelError               nets, sources, weights
    |-- CheckpointError          run directories
    |-- StorageError             the disk
    |-- TrainingDiverged         the numbers
    |-- ParityError              the proof
    `-- ChapterError             the chapters

A message names an argument in single backticks, by itself or with a value: `batch_size`,
`views=4`, `augment=False`. The command line, and it alone, shows these as --batch-size, --views 4
and --no-augment (``d2l_ft.cli.options.as_flags``).
"""


class D2LFTError(Exception):
    """Base of every error that a user can fix; the command line exits with code 2 on it.

    Example:
        >>> try:
        ...     d2l.load_data('no-such-folder')
        ... except d2l.D2LFTError as error:
        ...     print(error)
        there is no folder no-such-folder: give sample, hotdog or a folder with ...
    """


class UnknownBackend(D2LFTError):
    """No backend has that name."""


class BackendNotInstalled(D2LFTError):
    """The framework of the backend that was asked for is not installed."""


class BackendBroken(D2LFTError):
    """The framework is installed but fails at import; ``__cause__`` is its error."""


class OptionError(D2LFTError):
    """An argument is out of its bounds, none of its choices, or contradicts another."""


class DataError(D2LFTError):
    """A data set, an image or a download is missing, damaged or not what it claims to be."""


class WorkerDied(DataError):
    """A worker process of a loader was killed, most often as memory ran out, or it hangs.

    Args:
        seconds: How long no batch came; 0 if a worker died.
        code: The exit code of that worker, -9 if it was killed; 0 if it is not known.
    """

    def __init__(self, seconds: float = 0, code: int = 0) -> None:
        how = f' with exit code {code}' if code else ''
        cause = ' (out of memory?)' if code in (0, -9) else ''
        super().__init__(
            f'no batch came from the worker processes of the loader for {seconds:g} s: '
            'use fewer `workers`'
            if seconds
            else f'a worker process of the loader died{how}{cause}: use fewer `workers`'
        )


class ModelError(D2LFTError):
    """A source, a head or a state does not fit the net, or the net is not what is needed."""


class CheckpointError(D2LFTError):
    """A run directory or a checkpoint is missing, damaged or belongs to something else."""


class DeviceError(D2LFTError):
    """A device that was asked for does not exist, or the request cannot be read."""


class StorageError(D2LFTError):
    """A file or folder cannot be written: the disk is full, or the user lacks the permission."""


class TrainingDiverged(D2LFTError):
    """The loss or a weight became infinite or not a number.

    Example:
        >>> net = d2l.get_backend().build_net('resnet18', 2)
        >>> try:
        ...     d2l.train_fine_tuning(net, 1e9, data='photos', image_size=48, quiet=True)
        ... except d2l.TrainingDiverged as error:
        ...     print(error)
        the ... became ...: train again with a smaller learning rate
    """


class ParityError(D2LFTError):
    """The two frameworks could not be compared."""


class ChapterError(D2LFTError):
    """A chapter has unsupported markup, a cell fails, or its outputs contradict its claims."""
