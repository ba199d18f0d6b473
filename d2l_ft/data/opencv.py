"""Import OpenCV, which does all image arithmetic, with one thread per process.

The loaders' workers are the parallelism; a thread pool in each of them would fight over the
cores, and does not survive a fork.
"""

import os

LARGEST = 178_956_970
"""Pixels of the largest image that is decoded; twice the size at which PIL warns, where PIL itself
refuses a picture."""

# OpenCV's own limit is six times as much; it reads this when it is loaded, as MXNet's does
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(LARGEST))

try:
    import cv2
except ImportError as error:
    from d2l_ft.errors import DataError

    raise DataError(
        f'OpenCV cannot be imported ({error}): run  pip install --force-reinstall '
        "opencv-python-headless  (opencv-python needs a desktop's libraries)"
    ) from error

cv2.setNumThreads(0)

__all__ = ['LARGEST', 'cv2']
