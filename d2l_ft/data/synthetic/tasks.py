"""The built-in data set: drawn hot dogs and other food, and a source task to pre-train on.

The target task has two classes: hot dogs, and other food, much of which looks similar: sausages
without bread, bread without sausage, filled rolls, iced buns. The source task is to distinguish
these other kinds, in other images. It has no hot dog, but needs the same features: rods, bread,
layers, wavy lines of sauce.
"""

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2l_ft.data.opencv import cv2
from d2l_ft.data.synthetic.canvas import Canvas
from d2l_ft.data.synthetic.food import DRAWINGS
from d2l_ft.errors import DataError
from d2l_ft.storage.atomic import new_directory

VERSION = 2
"""Part of the names of cached files; increase it whenever a drawing changes."""

TARGET_CLASSES = ('hotdog', 'not-hotdog')

SOURCE_CLASSES = (
    'apple', 'baguette', 'banana', 'bottle', 'burger', 'cake', 'carrot', 'cucumber', 'donut',
    'eclair', 'egg', 'fish', 'kebab', 'pizza', 'roll', 'sandwich', 'sausage', 'taco',
)  # fmt: skip
"""Classes of the source task, in the order of the labels.

Example:
    >>> d2l.SOURCE_CLASSES.index('sausage')
    16
"""

CLUTTER = ('leaf', 'egg', 'apple', 'cucumber', 'donut', 'carrot')
"""Kinds of the small things that are drawn behind the food, in every class."""

SIDES = (80, 180)
"""Range of an image's longer side, in pixels."""


def draw(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one image.

    Args:
        kind: A key of DRAWINGS, or 'not-hotdog' for one of SOURCE_CLASSES.
        rng: Source of every choice.

    Returns:
        (height, width, 3) RGB; sizes and aspect ratios vary.

    Raises:
        DataError: Unknown kind.
    """
    if kind == 'not-hotdog':
        kind = SOURCE_CLASSES[rng.integers(len(SOURCE_CLASSES))]
    if kind not in DRAWINGS:
        raise DataError(f'no drawing is named {kind!r}: choose one of {", ".join(DRAWINGS)}')
    side, ratio = rng.integers(SIDES[0], SIDES[1] + 1), rng.uniform(0.62, 1.0)
    height, width = (round(side * ratio), int(side))[:: rng.choice([-1, 1])]
    canvas = Canvas(height, width, rng)
    scale, angle, turn, centre = canvas.scale, 0.0, canvas.turn, canvas.centre
    for _ in range(rng.integers(0, 3)):
        angle = rng.uniform(0, 6.3)
        canvas.aim(rng.uniform(0.15, 0.35), angle, 0.55)
        DRAWINGS[CLUTTER[rng.integers(len(CLUTTER))]](canvas)
    canvas.scale, canvas.turn, canvas.centre = scale, turn, centre
    DRAWINGS[kind](canvas)
    return canvas.finish()


def write_target(
    directory: Path | str,
    seed: int = 0,
    train: int = 300,
    test: int = 150,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write the target task: ``train/`` and ``test/`` with a folder of JPEG files per class.

    Args:
        directory: A new or empty folder; it appears when all is written.
        seed: Seed of every image; image i does not depend on how many are written.
        train: Images per class in train.
        test: Images per class in test.
        progress: Called with 1 after each image.

    Raises:
        DataError: The folder is not empty.
        D2LFTError: The disk is full, or the folder cannot be written.
    """
    return _write(Path(directory), 'target', TARGET_CLASSES, seed, train, test, progress)


def write_source(
    directory: Path | str,
    seed: int = 0,
    train: int = 240,
    test: int = 25,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write the source task, as ``write_target`` does."""
    return _write(Path(directory), 'source', SOURCE_CLASSES, seed, train, test, progress)


def _write(
    directory: Path,
    task: str,
    classes: Iterable[str],
    seed: int,
    train: int,
    test: int,
    progress: Callable[[int], object] | None,
) -> Path:
    """Write both parts of a task."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DataError(f'{directory} exists already: name another folder, or remove it')
    with new_directory(directory) as temporary:
        for part, count in (('train', train), ('test', test)):
            for name in classes:
                folder = temporary / part / name
                folder.mkdir(parents=True)
                for index in range(count):
                    rng = picture_generator(seed, f'{task}/{part}/{name}', index)
                    (folder / f'{index + 1:04d}.jpg').write_bytes(encode(draw(name, rng), rng))
                    if progress:
                        progress(1)
    return directory


def picture_generator(seed: int, group: str, index: int) -> np.random.Generator:
    """Return the random generator of one image."""
    key = zlib.crc32(group.encode())
    return np.random.Generator(np.random.Philox(key=[seed, key], counter=[0, 0, 0, index]))


def encode(image: NDArray[np.uint8], rng: np.random.Generator) -> bytes:
    """Return an RGB image as a JPEG of a random quality."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))]
    good, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    assert good, 'OpenCV encodes every three-channel image'
    return data.tobytes()
