"""Locks between processes, each a file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from d2l_ft.errors import StorageError
from d2l_ft.storage.atomic import describe


def lock_file(path: Path) -> Path:
    """Return the lock file of a file: a hidden one beside it."""
    return path.with_name(f'.{path.name}.lock')


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of a file; other processes wait for it, and a killed one releases it.

    Args:
        path: The file to write; its lock is a hidden file beside it.
        on_wait: Called once before waiting for another process. None does not wait, but raises.

    Raises:
        StorageError: The folder cannot be written; or another process holds the lock and
            ``on_wait`` is None.
    """
    lock = FileLock(lock_file(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is None:
                raise StorageError(
                    f'another process is writing {path}: wait for it, or stop it'
                ) from None
            on_wait()
            lock.acquire()
    except OSError as error:
        raise StorageError(describe(error, path)) from error
    try:
        yield
    finally:
        lock.release()
