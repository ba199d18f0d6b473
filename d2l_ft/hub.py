"""Named data sets: download, verify, extract, cache. Nothing is used before its hash fits."""

import hashlib
import io
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from d2l_ft.errors import DataError
from d2l_ft.files import cache_dir, new_directory, write_atomic

DATA_URL = 'http://d2l-data.s3-accelerate.amazonaws.com/'
"""The bucket of Dive into Deep Learning."""

DATA_HUB: dict[str, tuple[str, str]] = {}
"""Name -> (URL of a zip archive, its SHA-1 in hexadecimal). The chapters' are in ``saved.py``; add
your own."""

TIMEOUT = 20
"""Seconds to wait for a server before the download is given up."""

LARGEST_UNPACKED = 20 * 2**30
"""Bytes an archive may unpack to; a small file that claims more is a bomb."""


def hub_entry(name: str) -> tuple[str, str]:
    """Return the URL and the hash of a named data set.

    Raises:
        DataError: There is no such name.
    """
    try:
        return DATA_HUB[name]
    except KeyError:
        raise DataError(
            f'no data set is named {name!r}: DATA_HUB has {", ".join(sorted(DATA_HUB))}'
        ) from None


def digest_fits(data: bytes, expected: str) -> bool:
    """Compare data with a hash: SHA-1 (40 hexadecimal digits), or SHA-256 or its first digits.

    torchvision puts the first eight digits of a file's SHA-256 into its name.
    """
    algorithm = 'sha1' if len(expected) == 40 else 'sha256'
    return hashlib.new(algorithm, data).hexdigest().startswith(expected.lower())


def fetch(url: str, expected: str, target: Path, instead: str, member: bool = False) -> Path:
    """Download a file unless a copy with the right hash is there.

    Args:
        url: Where the file is.
        expected: Its hash, as ``digest_fits`` takes it.
        target: Where to keep it.
        instead: What the user can do without a network; the end of the error's line.
        member: The file is wanted that lies alone in the zip archive at the URL; the hash is its.

    Raises:
        DataError: No network, no such file, or another hash; then nothing is kept.
    """
    if target.is_file() and digest_fits(target.read_bytes(), expected):
        return target
    data = _read_url(url, instead)
    if member:
        data = _only_member(url, data)
    if not digest_fits(data, expected):
        raise DataError(f'{url} is not the file that was expected (its hash differs): {instead}')
    write_atomic(target, data)
    return target


def _only_member(url: str, data: bytes) -> bytes:
    """Return the only file of a zip archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (entry,) = archive.infolist()
            if entry.file_size > LARGEST_UNPACKED:
                raise ValueError('too large')
            return archive.read(entry)
    except (zipfile.BadZipFile, ValueError, RuntimeError) as error:
        raise DataError(f'{url} is no archive of one file ({error})') from error


def _read_url(url: str, instead: str) -> bytes:
    """Read a URL with a progress bar."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            total = int(answer.headers.get('Content-Length') or 0)
            name = url.rsplit('/', 1)[-1]
            chunks = []
            with tqdm(
                total=total or None, desc=name, unit='B', unit_scale=True, disable=None
            ) as bar:
                while chunk := answer.read(1 << 16):
                    chunks.append(chunk)
                    bar.update(len(chunk))
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, 'reason', None) or error
        raise DataError(f'cannot download {url} ({reason}): {instead}') from error
    return b''.join(chunks)


def extract(archive: Path, target: Path) -> Path:
    """Unpack a zip archive into a new folder, all or nothing.

    Raises:
        DataError: The archive is damaged, too large, or has an entry that points outside.
    """
    try:
        with zipfile.ZipFile(archive) as opened, new_directory(target) as temporary:
            entries = opened.infolist()
            _check_entries(archive, entries)
            for entry in tqdm(entries, desc=f'unpack {archive.name}', unit='file', disable=None):
                opened.extract(entry, temporary)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f'cannot unpack {archive}: {error}') from error
    return target


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse links, absolute paths, steps upwards and bombs."""
    if sum(entry.file_size for entry in entries) > LARGEST_UNPACKED:
        raise DataError(f'{archive} would unpack to more than {LARGEST_UNPACKED >> 30} GiB')
    for entry in entries:
        path = PurePosixPath(entry.filename.replace('\\', '/'))
        link = stat.S_ISLNK(entry.external_attr >> 16)
        if link or path.is_absolute() or '..' in path.parts or ':' in entry.filename:
            raise DataError(f'{archive} has an entry that points outside: {entry.filename!r}')


def download(name: str, cache: Path | None = None) -> Path:
    """Return the verified archive of a named data set, downloaded if need be.

    Raises:
        DataError: Unknown name, no network, or another hash.
    """
    url, expected = hub_entry(name)
    folder = cache or cache_dir() / 'data'
    return fetch(url, expected, folder / url.rsplit('/', 1)[-1], 'use the built-in  --data sample')


def download_extract(name: str, folder: str | None = None) -> str:
    """Return the folder of a named data set, downloaded, verified and unpacked if need be.

    Args:
        name: A key of DATA_HUB, such as 'hotdog'.
        folder: Its folder inside the archive, if that is not named like the archive.

    Raises:
        DataError: Unknown name, no network, another hash, or no such folder in the archive.
    """
    hub_entry(name)
    root = cache_dir() / 'data'
    unpacked = root / f'{name}-{hub_entry(name)[1][:12]}'  # another hash is another data set
    if not unpacked.is_dir():
        extract(download(name), unpacked)
    inner = unpacked / (folder or Path(hub_entry(name)[0]).stem)
    if folder and not inner.is_dir():
        raise DataError(f'the archive of {name!r} has no folder {folder!r}')
    return str(inner if inner.is_dir() else unpacked)


def copy_folder(path: Path, target: Path) -> Path:
    """Copy a folder to a place that the user named, all or nothing.

    Raises:
        DataError: The place is taken.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f'{target} exists already: name another folder')
    with new_directory(target) as temporary:
        shutil.copytree(path, temporary, dirs_exist_ok=True)
    return target


from d2l_ft import saved  # noqa: E402, F401  (last, as it adds the chapters' entries to DATA_HUB)
