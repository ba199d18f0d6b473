"""The result that an antialiased bilinear resize must have, from its definition in integers.

Pillow (``src/libImaging/Resample.c``) and PyTorch (``aten/src/ATen/native/cpu/UpSampleKernel.cpp``)
resize one axis after the other. Each output is a weighted mean over all inputs that it covers:
a triangle of half-width max(1, scale) around its centre, normalised, then rounded to fixed-point
weights. Each pass adds half a unit, shifts, and so rounds to whole pixels. The two differ in the
bits of the weights only. It uses NumPy only, neither of the two libraries.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PIL_BITS = 32 - 8 - 2
"""Fractional bits of Pillow's weights."""

TORCH_MOST = 1 << 15
"""PyTorch's weights are 16-bit numbers: with its fractional bits, the largest is below this."""


def triangles(size: int, target: int) -> NDArray[np.float64]:
    """Return (wanted, size) weights of the inputs for each output; each row adds up to 1."""
    scale = size / target
    reach = max(1.0, scale)
    centres = (np.arange(target)[:, None] + 0.5) * scale
    places = np.arange(size)
    first = np.maximum(0, np.trunc(centres - reach + 0.5))
    last = np.minimum(size, np.trunc(centres + reach + 0.5))
    weights = np.maximum(0, 1 - np.abs((places - centres + 0.5) / reach))
    weights = np.where((places >= first) & (places < last), weights, 0)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def torch_bits(weights: NDArray[np.float64]) -> int:
    """Return the number of fractional bits that PyTorch uses for these weights."""
    largest = float(np.max(weights))
    candidates = (
        bits for bits in range(22) if int(0.5 + largest * 2.0 ** (bits + 1)) >= TORCH_MOST
    )
    return next(candidates, 22)


def resize_axis(image: NDArray[Any], axis: int, target: int, bits: int | None) -> NDArray[Any]:
    """Resize one axis of an image of whole numbers; ``bits`` None: as many as PyTorch uses."""
    size = image.shape[axis]
    if size == target:
        return image
    weights = triangles(size, target)
    bits = torch_bits(weights) if bits is None else bits
    fixed = np.trunc(weights * 2.0**bits + 0.5)
    # whole numbers below 2**53: a product in float64 is exact, and many times as fast
    sums = np.tensordot(fixed, image.astype(np.float64), (1, axis)) + 2.0 ** (bits - 1)
    return np.moveaxis(np.clip(np.floor(sums / 2.0**bits), 0, 255), 0, axis)


def resize_with_antialias(
    image: NDArray[np.uint8], height: int, width: int, bits: int | None, height_first: bool = False
) -> NDArray[np.uint8]:
    """Resize bilinearly with antialias.

    Args:
        image: (h, w, channels).
        height: Rows of the result.
        width: Columns of the result.
        bits: Fractional bits of the weights, None as PyTorch chooses them.
        height_first: Whether the height is resized before the width. Both libraries begin with the
            width; Pillow 13 begins with the height of some pictures that become lower.

    Returns:
        (height, width, channels).
    """
    passes = [(1, width), (0, height)]
    for axis, target in passes[::-1] if height_first else passes:
        image = resize_axis(image, axis, target, bits)
    return image.astype(np.uint8)


def resize_as_torch(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize as torchvision resizes a uint8 tensor with antialias."""
    return resize_with_antialias(image, height, width, None)


def resize_as_pil(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize as Pillow does, the width first."""
    return resize_with_antialias(image, height, width, PIL_BITS)


def resize_as_pil_height_first(
    image: NDArray[np.uint8], height: int, width: int
) -> NDArray[np.uint8]:
    """Resize as Pillow does, the height first."""
    return resize_with_antialias(image, height, width, PIL_BITS, height_first=True)
