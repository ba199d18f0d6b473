"""Remember which images of a folder were found good, so that only the others are decoded again.

Each folder has a file in the cache, for each version of the check's rules. Only good verdicts are
kept, with what the system tells of the file; whatever differs later, or cannot be read, is decoded
again. What rots on the disk differs in nothing: ``data check`` forgets, and decodes all.
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
"""What decides on an image: the number grows when ``folder.inspect_image`` does so differently."""

YOUNG = 2_000_000_000
"""Nanoseconds since its last change for which a file is not remembered: within a tick of the file
system's clock, two seconds at the most, it could change again and look the same."""


@dataclass(frozen=True)
class StoredChecks:
    """What the file in the cache holds.

    Attributes:
        folder: The folder's full path.
        rules: ``RULES`` by which its images are good.
        images: Path within the folder -> ``fingerprint``, and the hash of the content.
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
            except (OSError, ValueError):  # the check will tell
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
        """Remember an image of ``find_unchecked`` as good, as it was before it was decoded.

        Args:
            path: The image.
            content: SHA-256 of its file.
        """
        self.hashes[path] = content
        if path in self.fingerprints:
            self.good[path.removeprefix(self.prefix)] = f'{self.fingerprints.pop(path)} {content}'

    def save(self, *, whole: bool = True) -> None:
        """Write what is new, if the cache can be written.

        Args:
            whole: Whether all images were checked, so that the others are gone.
        """
        images = self.good if whole else self.before | self.good
        if images != self.stored:
            data = json.dumps(vars(StoredChecks(self.folder, RULES, images))).encode()
            with suppress(OSError, StorageError, RuntimeError):  # the last: there is no home
                write_atomic(cache_file(self.folder), data)

    def _load(self) -> dict[str, str]:
        """Return what is stored for the folder, or nothing."""
        try:
            stored = from_json(StoredChecks, json.loads(cache_file(self.folder).read_bytes()))
        except (OSError, ValueError, RuntimeError):  # also too deeply nested, or there is no home
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
    """Return what changes with a file: also if its time is set back, or another takes its name."""
    return f'{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}'


def cache_file(folder: str) -> Path:
    """Return the file in the cache for a folder, by its full path, and the rules."""
    key = hashlib.sha256(f'{folder}\n{RULES}'.encode(errors='surrogateescape')).hexdigest()
    return cache_dir() / 'checked' / f'{key}.json'
