"""How far two arrays are apart."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def relative(a: NDArray[Any], b: NDArray[Any], floor: float = 0.0) -> float:
    """Return max |a - b| / max |b|, in float64; infinity for other shapes or not-a-number.

    Args:
        a: Any shape.
        b: The reference.
        floor: The denominator is at least this.
    """
    if np.shape(a) != np.shape(b):
        return math.inf
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    apart = float(np.abs(a - b).max(initial=0))
    size = float(np.abs(b).max(initial=floor))
    if apart == 0:
        return 0.0
    return apart / size if size else math.inf
