"""Read the structure of a JPEG or PNG file from its bytes, without decoding it.

Whether a file decodes, only the decoder can tell (``transforms.pixels``).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

PNG = b'\x89PNG\r\n\x1a\n'

JPEG = b'\xff\xd8\xff'
"""The first bytes of the files, by which OpenCV tells them apart."""

ANIMATION = (b'acTL', b'fcTL', b'fdAT')
"""Chunks that an animated PNG has in addition to its still image (PNG, third edition, 11.3.2)."""

MARKER = re.compile(rb'\xff[\x02-\xcf\xd8-\xfe]')
"""A JPEG marker other than byte stuffing and RSTn, which occur within the data of a scan."""

SOF = {0xC0 + number for number in range(16)} - {0xC4, 0xC8, 0xCC}
"""Markers of frame headers, which have the size; the three others in the range are tables."""

SOI, EOI, SOS, APP1 = 0xD8, 0xD9, 0xDA, 0xE1
"""Start and end of an image, start of a scan, the segment with EXIF."""

APP = range(0xE0, 0xF0)
"""Markers of application segments."""


@dataclass
class Structure:
    """What the bytes of a file tell.

    Attributes:
        format: 'JPEG' or 'PNG'.
        height, width: In pixels; 0 if the file does not tell.
        cut: Whether it ends before its end marker.
        odd: Kinds of ``validation.ODD`` that the structure shows; 'EXIF' if EXIF may rotate the
            image.
        metadata: The APPn segments of a JPEG before its scans; [] if there are more after them.
    """

    format: str
    height: int = 0
    width: int = 0
    cut: bool = True
    odd: set[str] = field(default_factory=set)
    metadata: list[bytes] = field(default_factory=list)


def structure(data: bytes) -> Structure | None:
    """Return the structure of a file, or None if it is neither JPEG nor PNG."""
    if data.startswith(PNG):
        return _png(data)
    return _jpeg(data) if data.startswith(JPEG) else None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of each chunk of a PNG, up to IEND or the first truncated one."""
    start = len(PNG)
    while start + 12 <= len(data):  # length, name, bytes, checksum
        end = start + 12 + int.from_bytes(data[start : start + 4], 'big')
        if end > len(data):
            return
        name = data[start + 4 : start + 8]
        yield name, start, end
        if name == b'IEND':
            return
        start = end


def _png(data: bytes) -> Structure:
    """Read the chunks of a PNG."""
    found = Structure('PNG')
    for name, start, end in png_chunks(data):
        content = data[start + 8 : min(end - 4, start + 40)]  # 32 bytes are enough for a header
        if name == b'IHDR' and len(content) >= 10:
            found.width = int.from_bytes(content[:4], 'big')
            found.height = int.from_bytes(content[4:8], 'big')
            depth, colour = content[8], content[9]
            kinds = {'16 bits': depth == 16, 'palette': colour == 3, 'alpha': colour in (4, 6)}
            found.odd |= {kind for kind, odd in kinds.items() if odd}
        elif name == b'tRNS':
            found.odd.add('alpha')
        elif name == b'acTL' and int.from_bytes(content[:4], 'big') > 1:
            found.odd.add('animated')
        elif name == b'eXIf':
            found.odd.add('EXIF')
        found.cut = name != b'IEND'
    return found


def _jpeg(data: bytes) -> Structure:
    """Read the segments of a JPEG; the data of its scans, between them, are skipped."""
    found, place, scans = Structure('JPEG'), 2, False
    while marker := MARKER.search(data, place):
        kind, place = data[marker.end() - 1], marker.end()
        if kind == SOI:
            continue
        if kind == EOI:
            found.cut = False
            if data.find(JPEG, place) >= 0:  # a second image, as in the MPO files of cameras
                found.odd.add('animated')
            break
        end = place + int.from_bytes(data[place : place + 2], 'big')
        segment = data[place:end]
        if kind in SOF and not scans and len(segment) >= 8:
            found.height = int.from_bytes(segment[3:5], 'big')
            found.width = int.from_bytes(segment[5:7], 'big')
            if segment[7] == 4:  # number of components
                found.odd.add('CMYK')
        elif kind == SOS:
            scans = True
        elif kind in APP:
            if scans:
                found.metadata.clear()
            else:
                found.metadata.append(data[marker.start() : end])
            if kind == APP1:
                found.odd.add('EXIF')
        place = end
    return found
