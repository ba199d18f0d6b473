"""Compare arrays: how far apart, and where first.

Not-a-number, another shape and a missing name count as infinitely far.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.models.compare import relative

Arrays = Mapping[str, NDArray[Any]]

SUMS = ' (sums)'
"""Suffix of the name that the sums over a thinned array have in a trace."""


def relative_norm(arrays: Arrays, reference: Arrays) -> float:
    """Return |a - b| / |b| of all arrays taken as one vector (Euclidean norm), without sums."""
    if arrays.keys() != reference.keys() or not arrays:
        return math.inf
    apart = size = 0.0
    for name, array in arrays.items():
        other = reference[name]
        if name.endswith(SUMS):
            continue
        if array.shape != other.shape or not (np.isfinite(array) & np.isfinite(other)).all():
            return math.inf
        apart += float(np.square(array.astype(np.float64) - other).sum())
        size += float(np.square(other.astype(np.float64)).sum())
    return math.sqrt(apart / size) if size else math.inf


def relative_by_name(a: Arrays, b: Arrays, floor: float = 0.0) -> dict[str, float]:
    """Return ``relative`` by name, in the order of the first; a missing name is infinitely far.

    Args:
        a: Arrays.
        b: The reference.
        floor: As in ``relative``, as a share of the largest value of all arrays.
    """
    names = [*a, *(name for name in b if name not in a)]
    least = floor * max((float(np.abs(array).max(initial=0)) for array in b.values()), default=0.0)
    return {
        name: relative(a[name], b[name], least) if name in a and name in b else math.inf
        for name in names
    }


def first_beyond(values: Mapping[str, float], limit: float) -> str:
    """Return the first name whose value is beyond the limit, or nothing."""
    return next((name for name, value in values.items() if not value <= limit), '')


def largest(values: Iterable[float]) -> float:
    """Return the largest value; infinity if there is none or one is not a number."""
    found = list(values)
    if not found or any(math.isnan(value) for value in found):
        return math.inf
    return max(found)


def unequal(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Return how many entries differ in any bit; every entry for other shapes or dtypes."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return max(a.size, b.size, 1)
    bits = np.dtype(f'u{a.dtype.itemsize}')
    return int((np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)).sum())


def ulps(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the largest number of float32 steps between two arrays."""
    if a.shape != b.shape or a.dtype != np.float32 or b.dtype != np.float32:
        return math.inf
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf

    def to_ordinals(array: NDArray[np.float32]) -> NDArray[np.int64]:
        bits = np.ascontiguousarray(array).view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

    return float(np.abs(to_ordinals(a) - to_ordinals(b)).max(initial=0))


def first_unequal(a: Sequence[Any], b: Sequence[Any]) -> int | None:
    """Return the first index at which two sequences differ; a missing entry differs."""
    for index, pair in enumerate(zip(a, b, strict=False)):
        if pair[0] != pair[1]:
            return index
    return None if len(a) == len(b) else min(len(a), len(b))


def kolmogorov_smirnov(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return D sqrt(nm / (n + m)) of two samples: above 1.95 in one of 1000 equal pairs.

    D is the largest difference of the two empirical distributions; the scale and the critical
    value sqrt(-ln(0.001 / 2) / 2) are Smirnov's (1948) for large samples.
    """
    both = np.concatenate([a, b])
    shares = [np.searchsorted(np.sort(each), both, side='right') / len(each) for each in (a, b)]
    scale = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    return float(np.abs(shares[0] - shares[1]).max() * scale)
