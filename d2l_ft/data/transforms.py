"""The image pipeline, written once: decode, crop, resize, flip, standardise.

Both frameworks get the same bytes, as this code uses neither. Every random number comes from a
Philox generator keyed by (seed, epoch, index of the sample), so a crop does not depend on the
number of workers, on the order of the samples or on the framework.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.data.image_cache import ImageCache
from d2l_ft.data.image_formats import ANIMATION, PNG, png_chunks
from d2l_ft.data.opencv import cv2
from d2l_ft.data.sampling import STREAM_CROPS, generator
from d2l_ft.errors import DataError
from d2l_ft.models.architectures import MEAN, STD

AREA = (0.08, 1.0)

RATIO = (3 / 4, 4 / 3)
"""Share of the area and width / height of a random crop (Szegedy et al. 2015, section 6);
the defaults of both frameworks' RandomResizedCrop."""

TRIES = 10
"""Attempts to draw a box that fits before the centre is taken, as in both frameworks."""

RESIZE_RATIO = 256 / 224
"""A test image is resized to this many times the side of its central crop."""

Box = tuple[int, int, int, int]
"""(top, left, height, width) of a crop, in pixels."""


def decode(path: str) -> NDArray[np.uint8]:
    """Read an image file as (height, width, 3) RGB.

    EXIF orientation is applied, grey is repeated for the three channels, alpha is dropped, a
    palette is looked up, 16 bits keep their upper 8, CMYK becomes RGB. OpenCV may decode a damaged
    file without an error, so check files first (``d2l_ft.data.validation``).

    Raises:
        DataError: The file cannot be read or decoded.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror}') from error
    image = pixels(data)
    if image is None:
        raise DataError(f'cannot decode {path}: run  d2l-ft data check  on its folder')
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def pixels(data: NDArray[np.uint8], flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8] | None:
    """Return the pixels of an image file's bytes, or None if they do not decode.

    Training and the check of a folder both use this function, so they cannot disagree.

    Returns:
        (height, width, 3) BGR.
    """
    try:
        image = cv2.imdecode(still_image(data), flags) if data.size else None
    except (cv2.error, MemoryError):  # such as more pixels than OpenCV's limit
        return None
    return None if image is None else np.asarray(image, dtype=np.uint8)


def still_image(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes of an image file without the animation of a PNG.

    From 4.12 on OpenCV would return the first frame of the animation, which need not be the still
    image that all other decoders show. Bytes that are not a complete animated PNG are returned
    unchanged.
    """
    raw = data.tobytes() if data[: len(PNG)].tobytes() == PNG else b''
    if ANIMATION[0] not in raw:
        return data
    chunks = list(png_chunks(raw))
    if not chunks or chunks[-1][0] != b'IEND':
        return data
    kept = [raw[start:end] for name, start, end in chunks if name not in ANIMATION]
    return np.frombuffer(b''.join([PNG, *kept]), dtype=np.uint8)


def random_box(
    height: int,
    width: int,
    draws: np.random.Generator,
    area_range: tuple[float, float] = AREA,
) -> Box:
    """Draw a crop with random area and aspect ratio.

    Args:
        height: Height of the image, in pixels.
        width: Its width.
        draws: Generator; each attempt takes four uniform numbers.
        area_range: Least and greatest share of the area.

    Returns:
        (top, left, height, width) in pixels, inside the image.
    """
    for _ in range(TRIES):
        u = draws.random(4)
        area = height * width * (area_range[0] + (area_range[1] - area_range[0]) * u[0])
        low, high = math.log(RATIO[0]), math.log(RATIO[1])
        ratio = math.exp(low + (high - low) * u[1])
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(u[2] * (height - box_height + 1))
            left = int(u[3] * (width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, round(height * RATIO[1]))
    box_height = min(height, round(width / RATIO[0]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize bilinearly without antialiasing, in OpenCV's integer arithmetic, as Gluon does."""
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


@dataclass(frozen=True)
class Pipeline:
    """The transform from an image file to the net's input.

    For training, a random crop resized to a square, flipped left to right half of the time. For
    testing, and for training without augmentation, both sides resized to 256/224 of the square's
    side, then the central square.

    Attributes:
        image_size: Side of the square, in pixels.
        train: Whether crops and flips are drawn.
        seed: Seed of the draws.
        mean, std: Channel means and deviations for pixels in [0, 1], RGB.
        area: Least and greatest share of the image that a random crop covers.
        views: Number of epochs after which the crops repeat; 0 draws new ones in every epoch.
        bgr: Whether the net takes blue, green, red: so does each crop then.

    Example:
        >>> pipeline = d2l.Pipeline(48, train=True, seed=1)
        >>> pipeline.crop('lunch.jpg').shape
        (48, 48, 3)
    """

    image_size: int = 224
    train: bool = False
    seed: int = 0
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    area: tuple[float, float] = AREA
    views: int = 0
    bgr: bool = False

    def crop(
        self, path: str, epoch: int = 0, index: int = 0, cache: ImageCache | None = None
    ) -> NDArray[np.uint8]:
        """Return (image_size, image_size, 3), RGB but for ``bgr``, for an epoch and sample index.

        Args:
            path: An image file.
            epoch: Epoch, from 0.
            index: Index of the sample.
            cache: Keeps the decoded image for other crops, or the crop if all are the same. The
                result does not depend on it.
        """
        cache = ImageCache(0) if cache is None else cache
        if self.train:
            crop = self.cut(cache.get(path, lambda: decode(path)), epoch, index)
        else:
            crop = cache.get(f'{path}\0{self.image_size}', lambda: self.centre(decode(path)))
        return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)) if self.bgr else crop

    def cut(self, image: NDArray[np.uint8], epoch: int, index: int) -> NDArray[np.uint8]:
        """Return the random crop of a decoded image."""
        size = self.image_size
        if self.views:
            epoch %= self.views
        box, flip = self.draw(image.shape[0], image.shape[1], epoch, index)
        top, left, height, width = box
        square = resize(image[top : top + height, left : left + width], size, size)
        # NumPy takes eighty times as long to reverse pixels of three bytes
        return np.asarray(cv2.flip(square, 1), dtype=np.uint8) if flip else square

    def centre(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the central crop, for an image that is not augmented."""
        side = round(self.image_size * RESIZE_RATIO)
        edge = (side - self.image_size) // 2  # rounded down, like Gluon's CenterCrop
        inner = slice(edge, edge + self.image_size)
        return np.ascontiguousarray(resize(image, side, side)[inner, inner])

    def draw(self, height: int, width: int, epoch: int, index: int) -> tuple[Box, bool]:
        """Draw (crop, whether to flip it left to right) for an image of this size."""
        draws = generator(self.seed, STREAM_CROPS, epoch, index)
        flip = bool(draws.random() < 0.5)
        return random_box(height, width, draws, self.area), flip

    def tables(self) -> NDArray[np.float32]:
        """Return the standardised value of each byte in each channel of a crop, (3, 256).

        They are computed as both frameworks do (divide by 255, subtract the mean, divide by the
        deviation, in float32), so looking them up gives the same bits.
        """
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (np.array(each, np.float32).reshape(3, 1) for each in (self.mean, self.std))
        tables = np.asarray((values - mean) / std)
        return tables[::-1].copy() if self.bgr else tables

    def to_float(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale to [0, 1] and standardise: (batch, h, w, 3) uint8 -> (batch, 3, h, w) float32."""
        tables = self.tables()
        floats = np.empty((len(crops), 3, *crops.shape[1:3]), dtype=np.float32)
        for crop, planes in zip(crops, floats, strict=True):
            for channel, table, plane in zip(cv2.split(crop), tables, planes, strict=True):
                cv2.LUT(channel, table, dst=plane)  # ten times as fast as NumPy's take
        return floats

    def to_uint8(self, floats: NDArray[Any]) -> NDArray[np.uint8]:
        """Undo ``to_float``, to show what the net sees: (b, 3, h, w) -> (b, h, w, 3) RGB."""
        mean, std = (np.array(each).reshape(3, 1, 1) for each in (self.mean, self.std))
        rgb = np.asarray(floats)[:, ::-1] if self.bgr else np.asarray(floats)
        pixels = np.clip(np.rint((rgb * std + mean) * 255), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
