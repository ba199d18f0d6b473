"""What the structure of a JPEG or PNG file says, read from its bytes without decoding it.

Whether a file decodes is for the decoder alone to say (``augment.pixels``).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

PNG = b'\x89PNG\r\n\x1a\n'

JPEG = b'\xff\xd8\xff'
"""How the files begin, as OpenCV tells them apart."""

ANIMATION = (b'acTL', b'fcTL', b'fdAT')
"""Chunks of an animated PNG besides those of its still image (PNG, third edition, 11.3.2)."""

MARKER = re.compile(rb'\xff[\x02-\xcf\xd8-\xfe]')
"""A JPEG marker that is neither stuffing nor RSTn: these stand within a scan's data."""

SOF = {0xC0 + number for number in range(16)} - {0xC4, 0xC8, 0xCC}

SOI, EOI, SOS, APP1 = 0xD8, 0xD9, 0xDA, 0xE1

APP = range(0xE0, 0xF0)


@dataclass
class Structure:
    """What is known of a file.

    Attributes:
        format: 'JPEG' or 'PNG'.
        height, width: In pixels; 0 if not said.
        cut: Whether it ends before its end marker.
        odd: Kinds of ``folder.ODD`` that the structure shows; 'EXIF' if the picture may be turned.
        metadata: The APPn segments of a JPEG before its scans; none if there are others later.
    """

    format: str
    height: int = 0
    width: int = 0
    cut: bool = True
    odd: set[str] = field(default_factory=set)
    metadata: list[bytes] = field(default_factory=list)


def structure(data: bytes) -> Structure | None:
    """Return what the bytes of a file say, or None if they are neither JPEG nor PNG."""
    if data.startswith(PNG):
        return _png(data)
    return _jpeg(data) if data.startswith(JPEG) else None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of the chunks of a PNG up to IEND, or to what is not whole."""
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
        content = data[start + 8 : min(end - 4, start + 40)]
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
    """Read the segments of a JPEG and, between them, past the data of its scans."""
    found, place, scans = Structure('JPEG'), 2, False
    while marker := MARKER.search(data, place):
        kind, place = data[marker.end() - 1], marker.end()
        if kind == SOI:
            continue
        if kind == EOI:
            found.cut = False
            if data.find(JPEG, place) >= 0:
                found.odd.add('animated')
            break
        end = place + int.from_bytes(data[place : place + 2], 'big')
        segment = data[place:end]
        if kind in SOF and not scans and len(segment) >= 8:
            found.height = int.from_bytes(segment[3:5], 'big')
            found.width = int.from_bytes(segment[5:7], 'big')
            if segment[7] == 4:
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
