"""Images kept in memory from one epoch to the next, by all processes that load them."""

import mmap
import multiprocessing
import struct
from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import DataError

HEADER = struct.Struct('<QQ')
"""Entries so far, and bytes of the images; the index begins with it."""

ENTRY = struct.Struct('<16sQII')
"""Hash of the name, where the image begins, its height and width."""

LEAST = 1 << 10
"""Bytes that an image takes at least, so that the index has room for all."""


class ImageCache:
    """As many images as fit; the rest is made anew.

    The memory is shared with processes that are forked from this one, as a loader's workers are:
    what one of them keeps, all find. A process that is started otherwise does without. The system
    gives the memory as it fills.

    What comes first is kept, and nothing is put out for it: in the random order of an epoch any
    exchange would lose as much as it gains. A file that changes meanwhile is not read again.

    Args:
        room: Bytes for images.

    Raises:
        DataError: The system does not grant so many.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._entries: dict[bytes, Sequence[int]] = {}  # what was read of the index
        self._count = 0
        if room:
            self._lock = multiprocessing.Lock()
            try:
                self._index = mmap.mmap(-1, HEADER.size + ENTRY.size * (room // LEAST))
                self._images = mmap.mmap(-1, room)
            except (OSError, OverflowError) as error:
                raise DataError(
                    f'the system does not grant {room >> 20} MiB to keep images in: '
                    'ask for less (`image_cache`)'
                ) from error

    def __reduce__(self) -> tuple[type['ImageCache'], tuple[int]]:
        """Pickle as an empty cache without room: the memory can be inherited, not sent."""
        return ImageCache, (0,)

    def __len__(self) -> int:
        """Return the number of images."""
        return self._header()[0]

    @property
    def used_bytes(self) -> int:
        """Bytes that the images take."""
        return self._header()[1]

    def get(self, name: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return an image, made by the call unless it is kept; one that is kept is read-only.

        Args:
            name: Names the image.
            make: Gives (height, width, 3) RGB.
        """
        if not self.room:
            return make()
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
        """Read what came to the index, from any process."""
        with self._lock:
            count, _ = self._header()
            first, last = (HEADER.size + ENTRY.size * each for each in (self._count, count))
            entries = self._index[first:last]
        self._entries |= {key: place for key, *place in ENTRY.iter_unpack(entries)}
        self._count = count

    def _keep(self, key: bytes, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image, from the memory if it fits there.

        Other processes may keep theirs while this one copies, so it gets its place before and its
        entry after that.
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
