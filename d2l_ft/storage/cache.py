"""The cache folder: where downloads, source models and features lie, and that it is private."""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from shlex import quote

from d2l_ft.errors import StorageError

HOME_VARIABLE = 'D2L_FT_HOME'


def cache_dir() -> Path:
    """Return the folder of downloads and source models, made if need be, for the user alone.

    What lies there is used again, so nobody else may be able to put something there.

    Raises:
        StorageError: Other users could write into it.
    """
    cache = cache_path()
    with suppress(OSError):  # what is to be written there will tell
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private((cache, *_folders(cache)))
    return cache


def cache_path() -> Path:
    """Return where the cache is or would be: D2L_FT_HOME, or ~/.cache/d2l_ft."""
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
        with suppress(OSError):  # there is none
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
    """Return the bytes of each folder of the cache, by name; {} where there is none so far."""
    sizes: dict[str, int] = {}
    for folder in _folders(cache_path()):
        sizes[folder.name] = 0
        for place, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):  # a download that ends meanwhile renames it
                    sizes[folder.name] += os.lstat(os.path.join(place, name)).st_size
    return sizes
