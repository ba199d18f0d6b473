"""The cache folder for downloads, source models and features; it must be private."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from shlex import quote

from d2l_ft.errors import StorageError

HOME_VARIABLE = 'D2L_FT_HOME'


def cache_dir() -> Path:
    """Return the cache folder; it is created for the user alone if there is none.

    Most of its files are used again without a check, so no other user may be able to write there.

    Raises:
        StorageError: Other users could write into it.
    """
    cache = cache_path()
    with suppress(OSError):  # the first write there reports it
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private((cache, *_folders(cache)))
    return cache


def cache_path() -> Path:
    """Return the path of the cache, which need not exist: D2L_FT_HOME, or ~/.cache/d2l_ft."""
    if home := os.environ.get(HOME_VARIABLE, '').strip():
        return Path(home).expanduser()
    base = os.environ.get('XDG_CACHE_HOME', '').strip() or '~/.cache'
    return Path(base).expanduser() / 'd2l_ft'


def check_private(folders: Iterable[Path]) -> None:
    """Check that no other user but root could write into folders of the cache.

    Raises:
        StorageError: One could.
    """
    if not hasattr(os, 'getuid'):
        return
    writable = []
    for folder in folders:
        with suppress(OSError):  # the folder does not exist
            status = folder.stat()
            if status.st_uid not in (0, os.getuid()):
                raise StorageError(
                    f'the cache {folder} belongs to another user, who could replace what is in it: '
                    f'name a folder of your own in {HOME_VARIABLE}'
                )
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                writable.append(quote(str(folder)))
    if writable:
        raise StorageError(
            f'other users could write into the cache: if you trust what is there, run  '
            f'chmod go-w {" ".join(writable)}  or else name another folder in {HOME_VARIABLE}'
        )


def _folders(cache: Path) -> list[Path]:
    """Return the folders in the cache; none where it cannot be read."""
    try:
        return sorted(each for each in cache.iterdir() if each.is_dir())
    except OSError:
        return []


def cache_sizes() -> dict[str, int]:
    """Return the bytes of each folder of the cache, by name; {} if there is no cache yet."""
    sizes: dict[str, int] = {}
    for folder in _folders(cache_path()):
        sizes[folder.name] = 0
        for place, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):  # a download that has just finished is renamed
                    sizes[folder.name] += os.lstat(os.path.join(place, name)).st_size
    return sizes
