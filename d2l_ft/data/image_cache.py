"""An image cache in memory, which all loader processes share, from one epoch to the next."""

import mmap
import multiprocessing
import struct
from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import DataError

HEADER = struct.Struct('<QQ')
"""Start of the index: number of entries and bytes of the images so far."""

ENTRY = struct.Struct('<16sQII')
"""An entry of the index: hash of the name, offset of the image, its height and width."""

LEAST = 1 << 10
"""Bytes that each image takes at least; so the number of entries, and the index, are bounded."""


class ImageCache:
    """Keeps as many images as fit; the others are made again each time.

    The memory is shared with processes that are forked from this one, as a loader's workers are:
    an image that one of them adds, all find. Processes that are started in another way have no
    cache. The system provides the memory as it fills.

    The first images stay and nothing is evicted: in the random order of an epoch an eviction loses
    as much as it gains. A file that changes in the meantime is not read again.

    Args:
        room: Bytes for images.

    Raises:
        DataError: The system refuses that much memory.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._entries: dict[bytes, Sequence[int]] = {}  # the part of the index that was read
        self._count = 0
        if room:
            self._lock = multiprocessing.Lock()
            try:
                self._index = mmap.mmap(-1, HEADER.size + ENTRY.size * (room // LEAST))
                self._images = mmap.mmap(-1, room)
            except (OSError, OverflowError) as error:
                raise DataError(
                    f'the system refuses {room >> 20} MiB for the image cache: '
                    'ask for less (`image_cache`)'
                ) from error

    def __reduce__(self) -> tuple[type['ImageCache'], tuple[int]]:
        """Pickle as a cache without room: the memory can be inherited by a fork, but not sent."""
        return ImageCache, (0,)

    def __len__(self) -> int:
        """Return the number of images."""
        return self._header()[0]

    @property
    def used_bytes(self) -> int:
        """Bytes that the images take."""
        return self._header()[1]

    def get(self, name: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return an image from the cache, which is read-only, or else make it and keep it.

        Args:
            name: Identifies the image.
            make: Returns (height, width, 3) RGB.
        """
        if not self.room:
            return make()
        # a hash, as names vary in length; surrogateescape, as a path need not be UTF-8
        key = blake2b(name.encode(errors='surrogateescape'), digest_size=16).digest()
        if key not in self._entries:
            self._read_index()
        if key not in self._entries:
            return self._keep(key, make())
        return self._view(self._entries[key])

    def _header(self) -> tuple[int, int]:
        """Return the number of entries and the bytes of the images."""
        count, used = HEADER.unpack_from(self._index) if self.room else (0, 0)
        return count, used

    def _read_index(self) -> None:
        """Read the new entries of the index, of all processes."""
        with self._lock:
            count, _ = self._header()
            first, last = (HEADER.size + ENTRY.size * each for each in (self._count, count))
            entries = self._index[first:last]
        self._entries |= {key: place for key, *place in ENTRY.iter_unpack(entries)}
        self._count = count

    def _keep(self, key: bytes, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Copy an image into the cache if it fits; return it from there.

        The lock is not held during the copy, so that other processes can add theirs: the space is
        reserved before it, and the entry is written after it.
        """
        size = max(image.nbytes, LEAST)
        with self._lock:
            count, start = self._header()
            if start + size > self.room:
                return image
            HEADER.pack_into(self._index, 0, count, start + size)
        place = start, image.shape[0], image.shape[1]
        self._view(place, writeable=True)[:] = image
        with self._lock:
            count, used = self._header()
            ENTRY.pack_into(self._index, HEADER.size + ENTRY.size * count, key, *place)
            HEADER.pack_into(self._index, 0, count + 1, used)
        return self._view(place)

    def _view(self, place: Sequence[int], *, writeable: bool = False) -> NDArray[np.uint8]:
        """Return the image of an entry."""
        start, height, width = place
        image = np.frombuffer(self._images, np.uint8, height * width * 3, start)
        image.flags.writeable = writeable
        return image.reshape(height, width, 3)
