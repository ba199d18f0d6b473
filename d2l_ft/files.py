"""Write files whole or not at all, and find the cache."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2l_ft.errors import D2LFTError

HOME_VARIABLE = 'D2L_FT_HOME'


def cache_dir() -> Path:
    """Return the folder of downloads and source models: D2L_FT_HOME, or ~/.cache/d2l_ft."""
    if home := os.environ.get(HOME_VARIABLE, '').strip():
        return Path(home).expanduser()
    base = os.environ.get('XDG_CACHE_HOME', '').strip() or '~/.cache'
    return Path(base).expanduser() / 'd2l_ft'


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a power cut, meets the old content or the new.

    Raises:
        D2LFTError: The disk is full, or the folder cannot be written.
    """
    handle, temporary = -1, ''
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
        raise D2LFTError(describe(error, path)) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system can."""
    if hasattr(os, 'O_DIRECTORY'):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def describe(error: OSError, path: Path) -> str:
    """Return one line for an operating system's error, with the next step."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f'no space left to write {path}: free some, then run the command again'
    return f'cannot write {path}: {error.strerror or error}'


def _umask() -> int:
    """Return the process's mask for new files, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling that becomes ``path`` if the block succeeds.

    An existing ``path`` must be empty. On an error or Ctrl-C nothing is left behind.

    Raises:
        D2LFTError: The disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
        os.chmod(temporary, 0o777 & ~_umask())
        yield temporary
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
    except OSError as error:
        raise D2LFTError(describe(error, path)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
