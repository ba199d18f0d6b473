"""Check image files: a good one is complete, not too large, and the loader decodes it."""

import errno
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from d2l_ft.data.image_folder import ImageFolder, Sample
from d2l_ft.data.image_formats import Structure, structure
from d2l_ft.data.opencv import LARGEST, cv2
from d2l_ft.data.transforms import pixels
from d2l_ft.data.validation_cache import CheckedImages
from d2l_ft.errors import DataError
from d2l_ft.system.console import SHOWN
from d2l_ft.system.hardware import usable_cores

LARGEST_FILE = 1 << 29
"""Bytes of the largest file that is read: three for each pixel of the largest image."""

BIG = 1 << 24
"""Pixels, or bytes, from which files are read and decoded one at a time, to save memory."""

BIG_LOCK = threading.Lock()

BATCH = 1000
"""Images that are queued for the threads at a time: each takes 2 KiB, and the path."""

ODD = {
    'other format': 'another format than the name says: the content counts',
    'CMYK': 'CMYK: converted to RGB',
    '16 bits': '16 bits: the upper 8 are kept',
    'palette': 'palette: looked up',
    'alpha': 'alpha: dropped',
    'animated': 'several images in a file: the first counts',
    'EXIF': 'rotated as EXIF says',
}
"""Kinds of good images that ``data check`` reports, and how they are read."""


class Verdict(NamedTuple):
    """The result of the check of an image file.

    Attributes:
        problem: What is wrong with it, or ''.
        odd: The kinds of ODD that it is.
        content: SHA-256 of a good file.
    """

    problem: str
    odd: Sequence[str] = ()
    content: str = ''


def inspect_image(path: str) -> Verdict:
    """Read and decode an image file.

    An image is good if the loader's decoder decodes it and it is also complete and not too large.
    OpenCV 4.11 and 5 refuse a truncated JPEG, but the check does not rely on that. The size is read
    first, and large images are decoded one at a time. If you change what is good, change the number
    in ``validation_cache.RULES``.
    """
    try:
        # The file
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or device would block the reader for ever
            return Verdict('is not a regular file')
        if status.st_size == 0:
            return Verdict('is empty')
        if status.st_size > LARGEST_FILE:
            return Verdict(f'has {status.st_size >> 20} MiB, which is too large')

        # Its structure and its pixels
        with BIG_LOCK if status.st_size > BIG else nullcontext():
            data = np.fromfile(path, dtype=np.uint8)
            found = structure(data.tobytes())
            if found is None:
                return Verdict('is no JPEG or PNG image')
            size = found.width * found.height
            if size > LARGEST:
                return Verdict(f'has {found.width} x {found.height} pixels, which is too large')
            if found.cut:
                return Verdict('is truncated')
            with BIG_LOCK if size > BIG >= status.st_size else nullcontext():
                if pixels(data) is None:
                    return Verdict('does not decode: it is damaged, or of a kind that OpenCV lacks')
                content = hashlib.sha256(data.data).hexdigest()
                if 'EXIF' in found.odd and not is_reoriented(data, found):
                    found.odd.remove('EXIF')
    except FileNotFoundError:
        return Verdict('does not exist')
    except (OSError, MemoryError) as error:
        if getattr(error, 'errno', None) in (errno.EMFILE, errno.ENFILE):
            raise  # the process has too many open files: the image may be good
        return Verdict(
            f'cannot be read ({getattr(error, "strerror", None) or "too little memory"})'
        )

    # A good image
    if found.format != ('PNG' if path.lower().endswith('.png') else 'JPEG'):
        found.odd.add('other format')
    return Verdict('', [kind for kind in ODD if kind in found.odd], content)


def is_reoriented(data: NDArray[np.uint8], found: Structure) -> bool:
    """Tell whether the loader's decoder rotates or mirrors an image because of its EXIF data.

    The decoder does not understand all EXIF data, so it is tried with and without: if possible on
    a tiny image with the metadata of the file, otherwise on the file itself.
    """
    files = [data]
    if found.metadata:
        # not square and without symmetry, so that every orientation shows
        pattern = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
        tiny = cv2.imencode('.jpg', pattern)[1].tobytes()
        files.insert(0, np.frombuffer(b''.join([tiny[:2], *found.metadata, tiny[2:]]), np.uint8))
    for each in files:
        plain = pixels(each, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        turned = pixels(each)
        if plain is not None and turned is not None:
            return not np.array_equal(plain, turned)
    return False


@dataclass
class Inspection:
    """The results of the check of many images.

    Attributes:
        problems: One text per sample, empty for a good one.
        odd: Kind of ODD -> paths.
    """

    problems: list[str]
    odd: dict[str, list[str]]


@contextmanager
def silence_decoders() -> Iterator[Any]:
    """Hide the messages of libpng and libjpeg, which do not name the file.

    They write to file descriptor 2, which leads to the null device meanwhile; yields a file that
    still writes to the terminal.
    """
    try:
        terminal = os.fdopen(os.dup(2), 'w')
    except OSError:  # there is no stderr
        yield sys.stderr
        return
    with terminal:
        try:
            to_terminal = sys.stderr.fileno() == 2
        except (AttributeError, OSError, ValueError):  # sys.stderr was replaced, as in a notebook
            to_terminal = False
        if to_terminal:
            sys.stderr.flush()
        with open(os.devnull, 'w') as null:
            os.dup2(null.fileno(), 2)
        try:
            yield terminal if to_terminal else sys.stderr
        finally:
            terminal.flush()
            os.dup2(terminal.fileno(), 2)


def inspect_images(
    samples: Iterable[Sample], *, bar: bool = True, checked: CheckedImages | None = None
) -> Inspection:
    """Check images in parallel threads.

    Args:
        samples: The images.
        bar: Whether to show progress; it needs a terminal too.
        checked: Images that are known to be good: they are not decoded, and their kinds of ODD are
            not reported. New good images are added.
    """
    paths = [sample.path for sample in samples]
    todo = paths if checked is None else checked.find_unchecked(paths)
    problems: dict[str, str] = {}
    odd: dict[str, list[str]] = {}
    # OpenCV releases Python's global lock while it decodes
    with silence_decoders() as terminal, ThreadPoolExecutor(usable_cores()) as pool:
        starts = range(0, len(todo), BATCH)
        found = tqdm(
            (each for i in starts for each in pool.map(inspect_image, todo[i : i + BATCH])),
            total=len(todo),
            desc='check images',
            unit='image',
            leave=False,
            file=terminal,
            disable=None if bar else True,
        )
        for path, (problem, kinds, content) in zip(todo, found, strict=True):
            if problem:
                problems[path] = problem
            elif checked is not None:
                checked.add(path, content)
            for kind in kinds:
                odd.setdefault(kind, []).append(path)
    return Inspection([problems.get(path, '') for path in paths], odd)


def find_bad_images(
    samples: Iterable[Sample], *, bar: bool = True, checked: CheckedImages | None = None
) -> list[str]:
    """Check every image and return one line for each bad one, in the samples' order."""
    listed = list(samples)
    problems = inspect_images(listed, bar=bar, checked=checked).problems
    return [f'{each.path} {text}' for each, text in zip(listed, problems, strict=True) if text]


def check_images(
    samples: Iterable[Sample],
    *,
    bar: bool = True,
    hint: str = '',
    checked: CheckedImages | None = None,
) -> None:
    """Check every image.

    Args:
        samples: The images.
        bar: Whether to show progress; it needs a terminal too.
        hint: What the user can do other than fix them; the end of the error's first part.
        checked: As for ``inspect_images``.

    Raises:
        DataError: An image is bad; the message names the first ones and counts the rest.
    """
    if bad := find_bad_images(samples, bar=bar, checked=checked):
        more = f' and {len(bad) - SHOWN} more' if len(bad) > SHOWN else ''
        raise DataError(
            f'{len(bad)} bad image(s), to be fixed or removed{hint}: {"; ".join(bad[:SHOWN])}{more}'
        )


def drop_bad_images(
    folder: ImageFolder, *, bar: bool = True, checked: CheckedImages | None = None
) -> tuple[ImageFolder, list[str]]:
    """Return a part without its bad images, and one line for each that was left out.

    Raises:
        DataError: No image of a class is good.
    """
    problems = inspect_images(folder.samples, bar=bar, checked=checked).problems
    pairs = list(zip(folder.samples, problems, strict=True))
    good = [sample for sample, text in pairs if not text]
    left = {sample.label for sample in good}
    for label, name in enumerate(folder.classes):
        if label not in left:
            raise DataError(f'no image of the class {name!r} in {folder.root} is good')
    left_out = [f'{sample.path} {text}' for sample, text in pairs if text]
    return replace(folder, samples=good), left_out
