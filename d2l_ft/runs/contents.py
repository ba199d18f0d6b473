"""The contents of a run's images when it started, so that it resumes only with the same ones.

images.jsonl has a line for each image, in the order of the samples: its path within the data set,
its label, a hash of its bytes, and size, times and inode of the file (``validation_cache.mark``). A
file whose size, times and inode are unchanged is not read again.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from d2l_ft.data.datasets import DataSet
from d2l_ft.data.validation_cache import YOUNG, fingerprint
from d2l_ft.errors import CheckpointError, DataError
from d2l_ft.runs.directory import CONTENTS
from d2l_ft.storage.atomic import read_file, write_atomic
from d2l_ft.storage.typed_json import convert
from d2l_ft.system.hardware import usable_cores

LARGEST = 1 << 32
"""Bytes of the file; a larger one is damaged."""


@dataclass(frozen=True)
class ImageRecord:
    """A line of the file.

    Attributes:
        name: Path within the data set, with '/'.
        label: Index of the class.
        digest: SHA-256 of the file's bytes.
        seen: ``fingerprint`` of the file; '' if it could have changed afterwards without a new one.
    """

    name: str
    label: int
    digest: str
    seen: str


def images_by_name(data: DataSet) -> dict[str, tuple[str, int]]:
    """Return name within the data set -> (path, label), in the order of the samples."""
    root = os.path.join(os.path.commonpath([data.train.root, data.test.root]), '')
    return {
        each.path.removeprefix(root).replace(os.sep, '/'): (each.path, each.label)
        for part in (data.train, data.test)
        for each in part.samples
    }


def digest(path: str) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror or error}') from error


def read_mark(path: str) -> str:
    """Return the ``mark`` of a file; '' if its status cannot be read."""
    try:
        return fingerprint(os.stat(path))
    except OSError:
        return ''


def is_settled(seen: str, now: int) -> bool:
    """Tell whether the next change of a file would change its times.

    Args:
        seen: Its ``fingerprint``.
        now: When that was read, in nanoseconds.
    """
    times = [int(each) for each in seen.split()[1:3]]
    return bool(times) and max(times) < now - YOUNG


def map_in_threads(work: Callable[[str], str], paths: Iterable[str], *, bar: bool) -> list[str]:
    """Return the result of a function for each path; threads, as reading releases the GIL."""
    inputs = list(paths)
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = pool.map(work, inputs)
        return list(
            tqdm(
                found,
                total=len(inputs),
                desc='read images',
                unit='image',
                leave=False,
                disable=None if bar and len(inputs) > 1000 else True,
            )
        )


def save_contents(folder: Path, data: DataSet, *, bar: bool = True) -> None:
    """Write the contents of the images into a run directory.

    Images that were hashed by the check are not read again.

    Raises:
        DataError: An image cannot be read.
        StorageError: The file cannot be written.
    """
    images = images_by_name(data)
    paths = [path for path, _ in images.values()]
    now = time.time_ns()
    seen = [read_mark(path) for path in paths]
    unread = [path for path in paths if path not in data.hashes]
    digests = data.hashes | dict(zip(unread, map_in_threads(digest, unread, bar=bar), strict=True))
    lines = [
        json.dumps([name, label, digests[path], each if is_settled(each, now) else ''])
        for (name, (path, label)), each in zip(images.items(), seen, strict=True)
    ]
    write_atomic(folder / CONTENTS, ''.join(f'{line}\n' for line in lines).encode())


def load_contents(folder: Path) -> list[ImageRecord]:
    """Return the images of a run directory.

    Raises:
        CheckpointError: The file is missing, cannot be read, or is damaged.
    """
    path = folder / CONTENTS
    try:
        return [_record(json.loads(line)) for line in read_file(path, LARGEST).splitlines()]
    except FileNotFoundError:
        raise CheckpointError(f'{path} is missing: train again with another `out`') from None
    except OSError as error:
        raise CheckpointError(f'cannot read {path}: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f'{path} is damaged ({error}): train again with another `out`'
        ) from None


def _record(values: Any) -> ImageRecord:
    """Return a line of the file.

    Raises:
        ValueError: It is not one.
    """
    if not isinstance(values, list) or len(values) != 4:
        raise ValueError('no list of four')
    name, label, hashed, seen = values
    return ImageRecord(
        convert(name, str, 'name'),
        convert(label, int, 'label'),
        convert(hashed, str, 'digest'),
        convert(seen, str, 'seen'),
    )


def find_change(records: list[ImageRecord], data: DataSet, *, bar: bool = True) -> str:
    """Return the first image of a data set that has changed, and how; '' if none has.

    Args:
        records: The images when the run started.
        data: The data set now; its folder may have moved.
        bar: Whether to show progress; it needs a terminal too.

    Raises:
        DataError: An image cannot be read.
    """
    images = images_by_name(data)
    before = {each.name: each for each in records}
    for name, (path, label) in images.items():
        if name not in before:
            return f'{path} is new'
        if before[name].label != label:
            return f'{path} has another label'
    for name in before:
        if name not in images:
            return f'{name} is gone from {os.path.commonpath([data.train.root, data.test.root])}'
    if list(before) != list(images):
        name = next(now for then, now in zip(before, images, strict=True) if then != now)
        return f'{images[name][0]} has another place in the order'
    unsure = [
        each for each in records if not each.seen or read_mark(images[each.name][0]) != each.seen
    ]
    paths = [images[each.name][0] for each in unsure]
    for each, path, now_digest in zip(
        unsure, paths, map_in_threads(digest, paths, bar=bar), strict=True
    ):
        if now_digest != each.digest:
            return f'{path} has changed'
    return ''
