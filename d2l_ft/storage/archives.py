"""Unpack untrusted zip and tar archives: nothing is written outside the target folder.

Refused are: links, devices and other special entries; paths that are absolute, leave the target
with ``..``, have a drive letter or differ only in letter case; names that occur twice; a file where
another entry needs a folder; passwords; and decompression bombs. Nothing of a refused archive is
kept.
"""

import gzip
import io
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm import tqdm

from d2l_ft.errors import DataError
from d2l_ft.storage.atomic import new_directory
from d2l_ft.system.console import visible

LARGEST = 20 * 2**30
"""Most bytes that an archive may unpack to; as many as a download may have."""

GROWTH, GRACE = 100, 64 * 2**20
"""An archive may unpack to GROWTH times its size plus GRACE bytes. Images hardly compress, so one
that grows more is a decompression bomb (deflate reaches 1000 times)."""

MOST_ENTRIES = 2_000_000
"""ImageNet has 1.3 million files; each entry takes memory for ``Rules``, however small the file."""

CHUNK = 1 << 20
"""Bytes that are copied at a time."""

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The compression methods of ordinary zip files."""


class Refused(Exception):
    """The archive is not unpacked; the text says why."""


@dataclass(frozen=True)
class Entry:
    """A file in an archive: the parts of its path, its size in bytes, the library's own entry."""

    parts: tuple[str, ...]
    size: int
    info: Any


class Rules:
    """The entries of an archive so far; ``admit`` refuses one that conflicts with them."""

    def __init__(self, archive: Path) -> None:
        self.limit = min(LARGEST, archive.stat().st_size * GROWTH + GRACE)
        self.total = self.entries = 0
        self.files: set[tuple[str, ...]] = set()
        self.folders: dict[tuple[str, ...], tuple[str, ...]] = {}

    def admit(self, name: str, size: int, *, folder: bool) -> tuple[str, ...]:
        """Return the parts of an entry's path.

        Raises:
            Refused: The entry must not be unpacked.
        """
        # how much there is
        self.entries += 1
        self.total += size
        if size < 0 or self.total > self.limit or self.entries > MOST_ENTRIES:
            raise Refused(f'it would unpack to more than {self.limit >> 20} MiB')
        parts = _parts(name)
        if not (parts or folder):
            raise Refused('an entry has no name')

        # where it goes: macOS and Windows take names that differ in case or accents for one file
        key = tuple(unicodedata.normalize('NFC', part).casefold() for part in parts)
        for depth in range(1, len(parts) + folder):
            before = self.folders.setdefault(key[:depth], parts[:depth])
            if key[:depth] in self.files:
                raise Refused(f'{name!r} needs a folder where there is a file')
            if before != parts[:depth]:
                raise Refused(f'{name!r} and {"/".join(before)!r} differ only in letter case')
        if not folder:
            if key in self.files or key in self.folders:
                raise Refused(f'{name!r} occurs twice, or differs only in letter case')
            self.files.add(key)
        return parts


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a relative path.

    Raises:
        Refused: It could leave the folder into which it is unpacked.
    """
    path = PurePosixPath(name.replace('\\', '/'))  # Windows takes both as separators
    parts = path.parts
    if path.is_absolute() or '..' in parts or ':' in name:
        raise Refused(f'{name!r} points outside of the folder')
    if any(ord(letter) < 32 for letter in name):
        raise Refused(f'{name!r} is no name of a file')
    return parts


def extract(archive: Path, target: Path) -> Path:
    """Unpack a .zip, .tar or .tar.gz archive into a new folder, all or nothing.

    Raises:
        DataError: The archive is damaged, of another format, or refused.
        StorageError: The disk is full, or the folder cannot be written.
    """
    with (
        explain_errors(archive),
        open_archive(archive) as (entries, opener),
        new_directory(target) as folder,
    ):
        for entry in tqdm(
            entries, desc=visible(f'unpack {archive.name}'), unit='file', disable=None
        ):
            path = folder.joinpath(*entry.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with opener(entry) as source, path.open('xb') as stream:
                _copy(source, stream, entry.size)
    return target


def extract_only_member(archive: Path, target: Path) -> None:
    """Write the only file of an archive to a path that does not exist yet.

    Raises:
        DataError: It is damaged or refused, or does not have exactly one file.
    """
    with explain_errors(archive), open_archive(archive) as (files, opener):
        entries = list(files)
        if len(entries) != 1:
            raise Refused(f'it has {len(entries)} files instead of one')
        with opener(entries[0]) as source, target.open('xb') as stream:
            _copy(source, stream, entries[0].size)


@contextmanager
def explain_errors(archive: Path) -> Iterator[None]:
    """Turn the exceptions of the archive readers into one DataError that names the archive."""
    try:
        yield
    except Refused as error:
        raise DataError(f'{archive} is not unpacked: {error}') from None
    except DAMAGE as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise DataError(f'cannot unpack {archive}: {reason}') from error


DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    OverflowError,
)
"""What the standard library's readers raise on damaged archives and on passwords."""


def _copy(source: IO[bytes], stream: IO[bytes], size: int) -> None:
    """Copy a file, which must have exactly this size."""
    left = size
    while chunk := source.read(min(CHUNK, left + 1)):  # one more byte shows that it is longer
        left -= len(chunk)
        if left < 0:
            raise Refused('a file is longer than the archive says')
        stream.write(chunk)
    if left:
        raise EOFError('a file is shorter than the archive says')


@contextmanager
def open_archive(archive: Path) -> Iterator[tuple[Iterator[Entry], Any]]:
    """Yield (entries, opener): the files of an archive, and a function that opens one of them.

    The entries of a zip archive are all checked first; those of a tar archive as they come.
    """
    with archive.open('rb') as stream:
        start = stream.read(4)  # its first bytes tell the format, whatever its name is
        stream.seek(0)
        if start[:2] == b'PK':
            with zipfile.ZipFile(stream) as zipped:
                entries = list(_zip_entries(archive, zipped))
                yield iter(entries), lambda entry: zipped.open(entry.info)
            return
        compressed = start[:2] == b'\x1f\x8b'
        with (
            gzip.GzipFile(fileobj=stream) if compressed else nullcontext(stream) as plain,
            tarfile.open(fileobj=Portions(plain), mode='r:') as tape,
        ):
            yield _tar_entries(archive, tape), lambda entry: tape.extractfile(entry.info)


def _zip_entries(archive: Path, zipped: zipfile.ZipFile) -> Iterator[Entry]:
    """Yield the files of a zip archive."""
    rules = Rules(archive)
    for info in zipped.infolist():
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise Refused(f'{info.filename!r} is a link or a device')
        if info.compress_type not in METHODS:
            raise Refused(f'{info.filename!r} is compressed in a way that is not supported')
        if info.flag_bits & 1:
            raise Refused(f'{info.filename!r} needs a password')
        folder = info.filename.endswith('/')  # is_dir fails on an empty name
        parts = rules.admit(info.filename, info.file_size, folder=folder)
        if not folder:
            yield Entry(parts, info.file_size, info)


def _tar_entries(archive: Path, tape: tarfile.TarFile) -> Iterator[Entry]:
    """Yield the files of a tar archive as they come: to list them first is to unpack it twice."""
    rules = Rules(archive)
    while (info := tape.next()) is not None:
        # else it keeps every header in memory; typeshed does not know the attribute
        tape.members.clear()  # type: ignore[attr-defined]
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise Refused(f'{info.name!r} is a link or a device')
        parts = rules.admit(info.name, info.size, folder=info.isdir())
        if info.isreg():
            yield Entry(parts, info.size, info)


class Portions(io.RawIOBase):
    """A stream that refuses large reads: tarfile reads a header's text at the size it claims."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        """Return bytes.

        Raises:
            Refused: The header of an entry asks for too many, or the gzip data are damaged.
        """
        if size < 0 or size > 2 * CHUNK:
            raise Refused('it has a header of excessive size')
        try:
            data: bytes = self.stream.read(size)
        except OSError as error:  # gzip's BadGzipFile is one too
            raise Refused(f'it is damaged ({error})') from error
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move in the stream."""
        return int(self.stream.seek(offset, whence))

    def tell(self) -> int:
        """Return the position."""
        return int(self.stream.tell())
