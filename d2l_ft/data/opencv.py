"""Import OpenCV, which does all image arithmetic, with one thread per process.

The loaders work in parallel by processes; a thread pool in each of these would compete for the
cores, and does not survive a fork.
"""

import os

LARGEST = 178_956_970
"""Pixels of the largest image that is decoded: the size above which PIL refuses an image, which is
twice the size at which it warns."""

# OpenCV's own limit is six times as large; it reads this variable when it is loaded, and so does
# the OpenCV in MXNet
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
