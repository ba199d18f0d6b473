"""Write files and folders atomically: whole or not at all."""

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from d2l_ft.errors import StorageError

LEFTOVER = re.compile(r'\..+\.(jsonl?|png|html|safetensors)\.[a-z0-9_]{8}')
"""Names of temporary files: a dot, the name of the file to write, and mkstemp's eight letters."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # the callers check for None


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that after any interruption it has the old content or the new, never a mix.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    temporary = ''
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        with os.fdopen(handle, 'wb') as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # before the rename, or a power cut leaves an empty file
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp lets only the owner read
        os.replace(temporary, path)
        temporary = ''
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(describe(error, path)) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def read_file(path: Path, most: int) -> str:
    """Return the text of a regular file.

    Args:
        path: The file. A pipe or a device is an error, it is not waited for.
        most: Most bytes that it may have.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a pipe or device, is larger, or is no UTF-8.
    """
    # without O_NONBLOCK, opening a pipe waits for a writer
    handle = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
    with open(handle, 'rb') as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError('it is no regular file')
        if status.st_size > most:
            raise ValueError(f'it has {status.st_size} bytes')
        return stream.read(status.st_size).decode()  # no more, if the file grows meanwhile


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system supports it."""
    if hasattr(os, 'O_DIRECTORY'):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: Path, pattern: str = '.*') -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: A folder in which no other process is writing a file that matches the pattern.
        pattern: Glob pattern of the names.
    """
    for path in folder.glob(pattern):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Tell whether a file has the name of a temporary file of ``write_atomic``."""
    return LEFTOVER.fullmatch(path.name) is not None


def check_writable(folder: Path) -> None:
    """Create a folder and check that files can be written there.

    Raises:
        StorageError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(describe(error, folder)) from error


def describe(error: OSError, path: Path) -> str:
    """Return one line about an error of the operating system, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f'no space left to write {path}: free some, then run the command again'
    if isinstance(error, FileExistsError | NotADirectoryError):  # name the part that is a file
        for each in (path, *path.parents):
            if each.exists() and not each.is_dir():
                return f'cannot write {path}: {each} is not a folder'
    return f'cannot write {path}: {error.strerror or error}'


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling that becomes ``path`` if the block succeeds.

    An existing ``path`` must be empty. On an error or Ctrl-C nothing is left behind; the leftover
    of a process that was killed is removed by the next one.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    handle = -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead(path)
        while handle < 0:  # again if another process removed it before it was locked
            temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
            handle = lock_temporary(temporary)
        assert temporary is not None
        os.chmod(temporary, 0o777 & ~_umask())
        yield temporary
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(describe(error, path)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if handle > 0:
            os.close(handle)


def lock_temporary(folder: Path) -> int:
    """Lock a new temporary folder, until the handle is closed or this process ends.

    Returns:
        A handle to close; 0 where the system has no such locks; -1 if ``remove_dead`` of another
        process removed the folder before it was locked.
    """
    if fcntl is None:
        return 0
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return -1
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)
    if folder.exists():
        return handle
    os.close(handle)
    return -1


def remove_dead(path: Path) -> None:
    """Remove the temporary folders of ``path`` whose processes have died: those without a lock."""
    if fcntl is None:
        return
    pattern = re.compile(rf'\.{re.escape(path.name)}\.[a-z0-9_]{{8}}')
    for each in path.parent.iterdir():
        if not pattern.fullmatch(each.name) or each.is_symlink() or not each.is_dir():
            continue
        with suppress(OSError):  # it is locked, or gone, or belongs to another user
            handle = os.open(each, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(each, ignore_errors=True)
            finally:
                os.close(handle)
