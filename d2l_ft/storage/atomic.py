"""Write files whole or not at all, and find the cache."""

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
"""Names of temporary files: a hidden one for the file that it was to become."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # asked for below


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a power cut, meets the old content or the new.

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
            os.fsync(stream.fileno())
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
    """Return the text of a regular file of so many bytes at most, without waiting.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a pipe or device, is larger, or is no UTF-8.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))  # a pipe would wait
    with open(handle, 'rb') as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError('it is no regular file')
        if status.st_size > most:
            raise ValueError(f'it has {status.st_size} bytes')
        return stream.read(status.st_size).decode()  # a buffer of that size is made at once


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system can."""
    if hasattr(os, 'O_DIRECTORY'):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: Path, pattern: str = '.*') -> None:
    """Remove what writers that were killed have left in a folder of ``write_atomic``'s files.

    Args:
        folder: Nobody else writes there now, at least not what the pattern names.
        pattern: Of the names, as ``glob`` takes it.
    """
    for path in folder.glob(pattern):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Tell whether a file is what ``write_atomic`` would have renamed."""
    return LEFTOVER.fullmatch(path.name) is not None


def check_writable(folder: Path) -> None:
    """Make a folder, and find out now whether files can be written there.

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
    """Return one line for an operating system's error, with the next step."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f'no space left to write {path}: free some, then run the command again'
    if isinstance(error, FileExistsError | NotADirectoryError):  # which name a part of the path
        for each in (path, *path.parents):
            if each.exists() and not each.is_dir():
                return f'cannot write {path}: {each} is not a folder'
    return f'cannot write {path}: {error.strerror or error}'


def _umask() -> int:
    """Return the process's mask for new files, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling that becomes ``path`` if the block succeeds.

    An existing ``path`` must be empty. On an error or Ctrl-C nothing is left behind; what a
    process left that was killed is removed by the next one.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    handle = -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead(path)
        while handle < 0:
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
    """Lock a new temporary folder as long as this process lives.

    Returns:
        A handle to close; 0 where the system has no such locks; -1 if ``remove_dead`` of another
        process was faster and took the folder away.
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
    """Remove the temporary folders of a folder whose processes have died: nobody holds them."""
    if fcntl is None:
        return
    pattern = re.compile(rf'\.{re.escape(path.name)}\.[a-z0-9_]{{8}}')
    for each in path.parent.iterdir():
        if not pattern.fullmatch(each.name) or each.is_symlink() or not each.is_dir():
            continue
        with suppress(OSError):  # it is held, or gone, or somebody else's
            handle = os.open(each, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(each, ignore_errors=True)
            finally:
                os.close(handle)
