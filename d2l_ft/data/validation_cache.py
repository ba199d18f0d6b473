"""Remember which images of a folder are good, so that only new and changed ones are decoded again.

The cache has a file for each folder and each version of the rules. It keeps only good verdicts,
with the size, times and inode of the image file; an image for which one of these differs later is
decoded again. Bytes that rot on the disk change none of them, so ``data check`` forgets what was
found and decodes all images.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from d2l_ft.data.opencv import LARGEST, cv2
from d2l_ft.errors import StorageError
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.typed_json import from_json

RULES = f'2, OpenCV {cv2.__version__}, {LARGEST} pixels'
"""The rules of the check. Increase the number when ``validation.inspect_image`` changes them."""

YOUNG = 2_000_000_000
"""Nanoseconds after its last change during which a file is not remembered: within a tick of the
file system's clock (at most two seconds, on FAT) it could change again with the same time."""


@dataclass(frozen=True)
class StoredChecks:
    """The content of a file in the cache.

    Attributes:
        folder: The folder's full path.
        rules: The ``RULES`` by which its images are good.
        images: Path within the folder -> ``fingerprint`` and SHA-256 of the file.
    """

    folder: str
    rules: str
    images: dict[str, str] = field(default_factory=dict)


class CheckedImages:
    """The images of a folder that were found good.

    Args:
        root: The folder.
        forget: Whether to forget what was found before.

    Attributes:
        hashes: Path of a good image -> SHA-256 of its file.
    """

    def __init__(self, root: str | os.PathLike[str], *, forget: bool = False) -> None:
        self.prefix = os.path.join(Path(root), '')  # as the paths of ``scan`` begin
        self.folder = os.path.realpath(root)
        self.stored = self._load()
        self.before = {} if forget else self.stored
        self.good: dict[str, str] = {}
        self.fingerprints: dict[str, str] = {}
        self.hashes: dict[str, str] = {}

    def find_unchecked(self, paths: Iterable[str]) -> list[str]:
        """Return the images that must be decoded; the others are good."""
        now = time.time_ns()
        unchecked = []
        for path in paths:
            try:
                status = os.stat(path)
            except (OSError, ValueError):  # the check reports it
                unchecked.append(path)
                continue
            name, current = path.removeprefix(self.prefix), fingerprint(status)
            known, _, content = self.before.get(name, '').rpartition(' ')
            if known == current:
                self.good[name] = self.before[name]
                self.hashes[path] = content
                continue
            unchecked.append(path)
            if max(status.st_mtime_ns, status.st_ctime_ns) < now - YOUNG:
                self.fingerprints[path] = current
        return unchecked

    def add(self, path: str, content: str) -> None:
        """Remember an image of ``find_unchecked`` as good, with its fingerprint from then.

        If the file has changed since, it has another fingerprint and is checked the next time.

        Args:
            path: The image.
            content: SHA-256 of its file.
        """
        self.hashes[path] = content
        if path in self.fingerprints:
            self.good[path.removeprefix(self.prefix)] = f'{self.fingerprints.pop(path)} {content}'

    def save(self, *, whole: bool = True) -> None:
        """Write the good images, if they have changed and the cache can be written.

        Args:
            whole: Whether all images were checked; if not, earlier ones are kept too.
        """
        images = self.good if whole else self.before | self.good
        if images != self.stored:
            data = json.dumps(vars(StoredChecks(self.folder, RULES, images))).encode()
            with suppress(OSError, StorageError, RuntimeError):  # the last: no home directory
                write_atomic(cache_file(self.folder), data)

    def _load(self) -> dict[str, str]:
        """Return the stored images of the folder, or {}."""
        try:
            stored = from_json(StoredChecks, json.loads(cache_file(self.folder).read_bytes()))
        except (OSError, ValueError, RuntimeError):  # the last: nested too deeply, or no home
            return {}
        fits = (stored.folder, stored.rules) == (self.folder, RULES)
        return stored.images if fits else {}


@contextmanager
def open_checked(root: str | os.PathLike[str], *, forget: bool = False) -> Iterator[CheckedImages]:
    """Yield the checked images of a folder, all of which the block checks; then write them.

    Args:
        root: The folder.
        forget: Whether to forget what was found before.
    """
    checked = CheckedImages(root, forget=forget)
    whole = False
    try:
        yield checked
        whole = True
    finally:  # after Ctrl-C too: what was decoded until then need not be again
        checked.save(whole=whole)


def fingerprint(status: os.stat_result) -> str:
    """Return a text that changes with a file: ctime if its mtime is set back, inode if replaced."""
    return f'{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}'


def cache_file(folder: str) -> Path:
    """Return the file in the cache for a folder, given by its full path, and these rules."""
    key = hashlib.sha256(f'{folder}\n{RULES}'.encode(errors='surrogateescape')).hexdigest()
    return cache_dir() / 'checked' / f'{key}.json'
