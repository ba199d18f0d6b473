"""Pre-train the source model of the built-in sample, in a separate process."""

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from d2l_ft.backend.protocol import Backend
from d2l_ft.backend.registry import get_backend
from d2l_ft.data.datasets import SAMPLE_AREA, SAMPLE_SIZE, DataSet, sample_source_folder
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.synthetic import tasks as sample
from d2l_ft.errors import D2LFTError, ModelError
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.optim.recipe import SOURCE, SOURCE_BATCH_SIZE, SOURCE_EPOCHS
from d2l_ft.optim.schedules import scheduled_rate
from d2l_ft.storage.atomic import remove_leftovers
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.locks import hold_lock
from d2l_ft.system.console import safe_streams, say, tell, warn
from d2l_ft.system.signals import (
    TERMINATION_SIGNALS,
    Stopped,
    end_with_parent,
    exit_code,
    handle_signals,
    stop,
)
from d2l_ft.training.callbacks import LogLines, ProgressBar
from d2l_ft.training.metrics import accuracy
from d2l_ft.training.trainer import Trainer

FAILED = 'failed: '
"""Begins the line with which the pre-training process reports an error to its parent."""


def source_path(arch: str) -> Path:
    """Return the path of the sample's source model of an architecture in the cache.

    Both frameworks use the same file, whichever wrote it.
    """
    return cache_dir() / 'models' / f'sample-v{sample.VERSION}-{arch}-{SAMPLE_SIZE}px.safetensors'


def sample_source(
    arch: str, backend: Backend, devices: str = 'auto', *, bar: bool = True
) -> Checkpoint:
    """Return the model that is pre-trained on the sample's source task; train it at first use.

    Raises:
        ModelError: Pre-training failed; with the message of that error.
    """
    path = source_path(arch)
    if not path.is_file():
        with hold_lock(path, lambda: warn(f'another process pre-trains {arch}; waiting for it')):
            if not path.is_file():  # another process may have written it meanwhile
                remove_leftovers(path.parent, f'.{path.name}.*')
                pretrain_in_subprocess(arch, backend.NAME, devices, bar=bar)
    return load_checkpoint(path)


def pretrain_in_subprocess(arch: str, backend: str, devices: str, *, bar: bool) -> None:
    """Pre-train in a separate process and write the model into the cache.

    In this process it would change the state of the framework's random generators (MXNet's cannot
    be saved), and the caller's next draws would depend on whether the model was in the cache.

    Raises:
        ModelError: Pre-training failed; with the message of that error.
    """
    words = [arch, backend, devices, '' if bar else 'quiet']
    command = [sys.executable, '-m', 'd2l_ft.sources.pretrain', *words]
    # Run it; its input is a pipe, which ends when this process dies
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors='replace'
    ) as child:
        try:
            for line in child.stdout or ():
                if line.startswith(FAILED):
                    raise ModelError(line.removeprefix(FAILED).strip())
                tell(line.rstrip())
        except BaseException:
            child.terminate()  # a signal may have been sent to this process only
            raise

    # Report how it ended
    if child.returncode < 0:
        raise ModelError(
            f'the process that pre-trains {arch} was killed by signal {-child.returncode} '
            '(out of memory?): free some memory, then run the command again'
        )
    if child.returncode:
        raise ModelError(
            f'the process that pre-trains {arch} ended with code {child.returncode}: '
            'its output above tells why'
        )


def pretrain(arch: str, backend: Backend, devices: str = 'auto', *, bar: bool = True) -> Checkpoint:
    """Train an architecture from scratch on the sample's source task.

    The learning rate follows half a cosine, epoch by epoch.

    Raises:
        KeyboardInterrupt: After Ctrl-C; nothing is kept.
    """
    # Data, net and trainer
    tell(f'pre-training {arch} on the source task of the sample (once; it is cached)')
    train, test = load_folders(sample_source_folder(bar=bar))
    data = DataSet('sample-source', train, test, SAMPLE_SIZE, area=SAMPLE_AREA)
    train_iter, test_iter = data.loaders(backend, SOURCE_BATCH_SIZE)
    net = backend.build_net(arch, len(data.classes))
    placed = backend.place(net, backend.devices(devices))
    trainer = backend.build_trainer(placed, SOURCE)

    # Train
    training = Trainer(
        backend,
        placed,
        trainer,
        train_iter,
        None,
        SOURCE_EPOCHS,
        name=f'source {arch}',
        seed=0,
        rate=lambda epoch, _: scheduled_rate('cosine', SOURCE.learning_rate, epoch / SOURCE_EPOCHS),
        callbacks=[ProgressBar(), LogLines(tell)] if bar else [],
    )
    training.fit()
    if training.interrupted:
        raise Stopped(training.interrupted)

    # Test, and return the model
    test_accuracy = accuracy(backend.evaluate(placed, test_iter))
    tell(f'source model: accuracy {test_accuracy:.3f} on {len(data.classes)} classes')
    meta = {
        'arch': arch,
        'classes': data.classes,
        'image_size': SAMPLE_SIZE,
        'trained_with': backend.NAME,
        'test_acc': test_accuracy,
    }
    return Checkpoint(backend.get_state(placed), meta=meta)


def stop_once(number: int, frame: FrameType | None) -> None:
    """Stop on the first signal and ignore further ones, so that cleaning up is not interrupted.

    The parent's SIGTERM, the end of its pipe and Ctrl-C in a terminal may come together.
    """
    for each in TERMINATION_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    stop(number, frame)


def main() -> None:
    """Run as the process of ``pretrain_in_subprocess``."""
    arch, backend, devices, quiet = sys.argv[1:]
    end_with_parent()
    try:
        with handle_signals(stop_once), safe_streams():
            checkpoint = pretrain(arch, get_backend(backend), devices, bar=not quiet)
            save_checkpoint(source_path(arch), checkpoint)
    except D2LFTError as error:
        say(f'{FAILED}{error}')
    except KeyboardInterrupt as error:
        sys.exit(exit_code(error))


if __name__ == '__main__':
    main()
