"""Compare what OpenCV's releases make of the same files, bit by bit.

python benchmarks/opencv_versions.py                 # two environments below build/opencv
python benchmarks/opencv_versions.py 4.11.0.86 5.0.0.93

Each release reads the same files with the calls that ``augment.py`` uses and resizes, crops and
flips the same arrays; the digests are compared. What differs is listed; exit code 1 if anything
does.
"""

import argparse
import hashlib
import io
import json
import struct
import subprocess
import sys
import tempfile
import venv
import zlib
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[1] / 'build/opencv'
RELEASES = ('4.11.0.86', '5.0.0.93')
RESIZES = 2000


def interpreter(release: str) -> Path:
    """Return the Python of an environment with a release, which is made at first use."""
    folder = ENVIRONMENTS / release
    python = folder / 'bin/python'
    if not (folder / 'installed').is_file():
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
        subprocess.run(
            [python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', 'numpy',
             'pillow', f'opencv-python-headless=={release}'],
            check=True,
        )  # fmt: skip
        (folder / 'installed').touch()
    return python


def picture(height: int, width: int, seed: int = 0):
    """Return an image with smooth parts, edges and noise: (height, width, 3) of uint8."""
    import numpy as np

    draws = np.random.Generator(np.random.Philox(seed))
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (7 + 5 * c) + y / (11 - 2 * c)) for c in range(3)]
    image = np.stack(waves, 2) + draws.normal(0, 12, (height, width, 3))
    image[height // 4 : height // 2, width // 3 : width // 2] = (250, 20, 90)
    return np.clip(image, 0, 255).astype(np.uint8)


def png(image, depth: int, kind: int, extra: bytes = b'') -> bytes:
    """Return a PNG of any depth, which PIL does not write: rows of samples -> file."""
    height, width = image.shape[:2]
    rows = b''
    for row in image.reshape(height, -1):
        bits = ''.join(format(int(value), f'0{depth}b') for value in row)
        bits += '0' * (-len(bits) % 8)
        rows += b'\0' + int(bits, 2).to_bytes(len(bits) // 8, 'big')

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        )

    head = struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', head)
        + extra
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


def palette(entries: int, transparent: bool) -> bytes:
    """Return the chunks of a palette, with the alpha of its entries if asked."""
    colours = bytes((37 * i * (c + 1)) % 256 for i in range(entries) for c in range(3))
    chunks = [(b'PLTE', colours)]
    if transparent:
        chunks.append((b'tRNS', bytes((91 * i) % 256 for i in range(entries))))
    return b''.join(
        struct.pack('>I', len(d)) + n + d + struct.pack('>I', zlib.crc32(n + d)) for n, d in chunks
    )


def jpegs() -> dict[str, bytes]:  # noqa: C901 -- a list of kinds
    """Return JPEG files of all kinds: name -> bytes."""
    from PIL import Image

    files = {}

    def keep(name, image, **options):
        stream = io.BytesIO()
        try:
            image.save(stream, 'JPEG', **options)
        except OSError:
            return  # PIL has too little room for some files of a pixel
        files[name] = stream.getvalue()

    sizes = [(61, 83), (120, 160), (1, 1), (8, 17), (375, 500)]
    for height, width in sizes:
        image = Image.fromarray(picture(height, width))
        for quality in (1, 5, 10, 25, 40, 50, 60, 75, 85, 92, 95, 100):
            for sampling in ('4:4:4', '4:2:2', '4:2:0'):
                for progressive in (False, True):
                    name = f'{height}x{width} q{quality} {sampling} {"progressive" * progressive}'
                    keep(
                        name, image, quality=quality, subsampling=sampling, progressive=progressive
                    )
        keep(f'{height}x{width} grey', image.convert('L'), quality=90)
        keep(f'{height}x{width} grey progressive', image.convert('L'), progressive=True)
        keep(f'{height}x{width} CMYK', image.convert('CMYK'), quality=90)
        keep(f'{height}x{width} CMYK progressive', image.convert('CMYK'), progressive=True)
    small = Image.fromarray(picture(61, 83))
    for orientation in (*range(10), 255, 65535):
        exif = Image.Exif()
        exif[0x112] = orientation
        for order in ('<', '>'):
            exif.endian = order
            keep(f'orientation {orientation} {order}', small, exif=exif.tobytes(), quality=90)
    text = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
    text += 'rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    text += 'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    keep('orientation in XMP', small, xmp=text.encode())
    exif = Image.Exif()
    exif[0x112] = 6
    good = exif.tobytes()
    for cut in (7, 10, 14, 16, 20, len(good) - 2):
        keep(f'EXIF cut at {cut}', small, exif=good[:cut])
    for at in range(6, len(good)):
        broken = bytearray(good)
        broken[at] ^= 0xFF
        keep(f'EXIF broken at {at}', small, exif=bytes(broken))
    # what PIL cannot write: other sampling factors, in the frame header of a file that has them
    for name, factors in (('4:4:0', 0x12), ('4:1:1', 0x41), ('4:1:0', 0x42)):
        files[f'header says {name}'] = set_factors(files['120x160 q75 4:4:4 '], factors)
    # Adobe's transform says YCCK (2), CMYK or RGB (0), YCbCr (1)
    for base in ('61x83 CMYK', '61x83 q75 4:4:4 '):
        for transform in (0, 1, 2):
            files[f'{base} transform {transform}'] = set_adobe_transform(files[base], transform)
    return files


def set_factors(data: bytes, factors: int) -> bytes:
    """Return a JPEG whose luma has other sampling factors: the blocks are read in another order."""
    at = data.index(b'\xff\xc0') + 11
    return data[:at] + bytes([factors]) + data[at + 1 :]


def set_adobe_transform(data: bytes, transform: int) -> bytes:
    """Return a JPEG with Adobe's marker and this transform."""
    marker = b'\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00' + bytes([transform])
    at = data.find(b'\xff\xeeAdobe'[:2])
    if at >= 0 and data[at + 4 : at + 9] == b'Adobe':
        return data[:at] + marker + data[at + 16 :]
    return data[:2] + marker + data[2:]


def pngs() -> dict[str, bytes]:
    """Return PNG files of all kinds."""
    import numpy as np
    from PIL import Image

    files = {}
    image = picture(45, 67)
    for depth in (1, 2, 4, 8):
        grey = image[..., 0] >> (8 - depth)
        files[f'grey {depth} bit'] = png(grey, depth, 0)
        for transparent in (False, True):
            name = f'palette {depth} bit{" tRNS" * transparent}'
            files[name] = png(grey, depth, 3, palette(2**depth, transparent))
    wide = image.astype(np.uint16) * 257 - (image[..., ::-1].astype(np.uint16) >> 1)
    alpha = np.dstack([image, image[..., :1]])
    files['RGB 8 bit'] = png(image, 8, 2)
    files['RGB 16 bit'] = png(wide, 16, 2)
    files['RGBA 8 bit'] = png(alpha, 8, 6)
    files['RGBA 16 bit'] = png(np.dstack([wide, wide[..., :1]]), 16, 6)
    files['grey 16 bit'] = png(wide[..., 0], 16, 0)
    files['grey alpha 8 bit'] = png(alpha[..., 2:], 8, 4)
    files['grey alpha 16 bit'] = png(np.dstack([wide[..., 0], wide[..., 1]]), 16, 4)
    files['RGB tRNS'] = png(image, 8, 2, trns(struct.pack('>HHH', *map(int, image[0, 0]))))
    files['grey tRNS'] = png(image[..., 0], 8, 0, trns(struct.pack('>H', int(image[0, 0, 0]))))
    frames = [Image.fromarray(picture(45, 67, seed)) for seed in range(3)]
    for mode in ('RGB', 'RGBA', 'L'):
        stream = io.BytesIO()
        few = [frame.convert(mode) for frame in frames]
        few[0].save(stream, 'PNG', save_all=True, append_images=few[1:], duration=50)
        files[f'APNG {mode}'] = stream.getvalue()
        stream = io.BytesIO()
        few[0].save(stream, 'PNG', save_all=True, append_images=few[1:], default_image=True)
        files[f'APNG {mode} with an image of its own'] = stream.getvalue()
    for mode in ('RGB', 'RGBA'):
        exif = Image.Exif()
        exif[0x112] = 6
        stream = io.BytesIO()
        frames[0].convert(mode).save(stream, 'PNG', exif=exif, dpi=(10, 10))
        files[f'{mode} with EXIF'] = stream.getvalue()
    return files


def trns(data: bytes) -> bytes:
    """Return the chunk of a transparent colour."""
    return (
        struct.pack('>I', len(data))
        + b'tRNS'
        + data
        + struct.pack('>I', zlib.crc32(b'tRNS' + data))
    )


def others() -> dict[str, bytes]:
    """Return files of the other formats."""
    from PIL import Image

    files = {}
    image = Image.fromarray(picture(45, 67))
    for name, kind, options in (
        ('BMP', 'BMP', {}),
        ('PPM', 'PPM', {}),
        ('TIFF', 'TIFF', {}),
        ('GIF', 'GIF', {}),
        ('TIFF deflate', 'TIFF', {'compression': 'tiff_deflate'}),
        ('TIFF LZW', 'TIFF', {'compression': 'tiff_lzw'}),
        ('TIFF JPEG', 'TIFF', {'compression': 'jpeg'}),
        ('WebP', 'WEBP', {'quality': 80}),
        ('WebP lossless', 'WEBP', {'lossless': True}),
        ('JPEG 2000', 'JPEG2000', {}),
        ('JPEG 2000 lossy', 'JPEG2000', {'quality_layers': [40]}),
        ('AVIF', 'AVIF', {}),
    ):
        for mode in ('RGB', 'L', 'RGBA', 'P', '1'):
            stream = io.BytesIO()
            try:
                image.convert(mode).save(stream, kind, **options)
            except (OSError, KeyError, ValueError):
                continue  # the format has no such images, or PIL was built without it
            files[f'{name} {mode}'] = stream.getvalue()
    return files


def damage(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files cut short and files with a byte changed."""
    import numpy as np

    draws = np.random.Generator(np.random.Philox(9))
    found = {}
    names = [name for name in files if not name.startswith(('375', 'EXIF'))][::7]
    for name in names:
        data = files[name]
        for part in (0.1, 0.5, 0.9, 0.99):
            found[f'{name} cut {part}'] = data[: int(len(data) * part)]
        for number in range(4):
            at = int(draws.integers(2, len(data)))
            broken = bytearray(data)
            broken[at] ^= int(draws.integers(1, 256))
            found[f'{name} broken {number}'] = bytes(broken)
    return found


def make(folder: Path) -> None:
    """Write the files that all releases read."""
    kinds = {'JPEG': jpegs(), 'PNG': pngs(), 'other': others()}
    whole = {
        f'{kind}: {name}': data for kind, files in kinds.items() for name, data in files.items()
    }
    kinds['damaged'] = damage(whole)
    index = []
    for kind, files in kinds.items():
        for name, data in files.items():
            (folder / str(len(index))).write_bytes(data)
            index.append((kind, name))
    (folder / 'index.json').write_text(json.dumps(index))


def digest(array) -> str:
    """Return shape, type and SHA-256 of an array."""
    if array is None:
        return 'refused'
    return f'{array.shape} {array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}'


def read(folder: Path) -> dict[str, str]:
    """Return what the installed OpenCV makes of the files, and of random arrays."""
    import cv2
    import numpy as np

    cv2.setNumThreads(0)
    found = {}
    for number, (kind, name) in enumerate(json.loads((folder / 'index.json').read_text())):
        data = np.fromfile(folder / str(number), np.uint8)
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
            found[f'{kind}: {name}'] = digest(
                image if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            )
        except cv2.error:
            found[f'{kind}: {name}'] = 'refused'
    draws = np.random.Generator(np.random.Philox(3))
    sides = [1, 2, 3, 5, 31, 32, 33, 64, 224, 256, 299]
    for number in range(RESIZES):
        image = picture(*(int(x) for x in draws.integers(1, 200, 2)), number)
        if number % 8 == 0:
            image = image[:1] if number % 16 else image[:, :1]
        top, left = (int(draws.integers(0, (n + 1) // 2)) for n in image.shape[:2])
        width, height = (int(x) for x in draws.choice(sides, 2))
        square = cv2.resize(image[top:, left:], (width, height), interpolation=cv2.INTER_LINEAR)
        found[f'resize: {number}'] = digest(square)
        found[f'flip: {number}'] = digest(cv2.flip(square, 1))
        if number % 20 == 0:
            table = draws.random(256, np.float32)
            found[f'table: {number}'] = digest(cv2.LUT(cv2.split(square)[0], table))
            for name, how in (('cubic', cv2.INTER_CUBIC), ('area', cv2.INTER_AREA)):
                wide = cv2.resize(image.astype(np.float32), (width, height), interpolation=how)
                found[f'{name} in float32: {number}'] = digest(wide)
            blurred = cv2.GaussianBlur(square.astype(np.float32) / 255, (0, 0), 1.3)
            found[f'blur: {number}'] = digest(blurred)
            for kind, options in (
                ('.jpg', [cv2.IMWRITE_JPEG_QUALITY, int(draws.integers(70, 96))]),
                ('.png', []),
            ):
                found[f'encode {kind}: {number}'] = digest(cv2.imencode(kind, square, options)[1])
            shape = np.zeros((64, 64, 3), np.float32)
            points = (draws.random((5, 2)) * 1024).astype(np.int32)
            cv2.fillPoly(shape, [points], (1.0, 0.5, 0.2), cv2.LINE_AA, 4)
            cv2.circle(shape, (30, 33), 9, (0.5, 0.5, 0.5), 2, cv2.LINE_AA)
            found[f'draw: {number}'] = digest(shape)
    return found


def report(found: dict[str, dict[str, str]]) -> int:
    """Print what differs between the first release and each of the others; return how much."""
    first, *rest = found
    differences = 0
    for other in rest:
        groups: dict[str, list[str]] = {}
        for name, value in found[first].items():
            kind = name.partition(':')[0]
            groups.setdefault(kind, [])
            if value != found[other][name]:
                groups[kind].append(f'{name}: {value} / {found[other][name]}')
        print(f'{first} and {other}:')
        for kind, lines in groups.items():
            count = sum(name.partition(':')[0] == kind for name in found[first])
            print(f'  {kind}: {len(lines)} of {count} differ')
            for line in lines[:40]:
                print(f'    {line}')
            differences += len(lines)
    return differences


def main() -> None:
    """Make the files, read them with each release, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('releases', nargs='*', default=RELEASES)
    parser.add_argument('--make', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--read', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make)
    elif options.read:
        print(json.dumps(read(options.read)))
    else:
        pythons = {release: interpreter(release) for release in options.releases}
        with tempfile.TemporaryDirectory() as folder:
            script = str(Path(__file__).resolve())
            first = next(iter(pythons.values()))
            subprocess.run([first, script, '--make', folder], check=True)
            found = {
                release: json.loads(
                    subprocess.run(
                        [python, script, '--read', folder], check=True, stdout=subprocess.PIPE
                    ).stdout
                )
                for release, python in pythons.items()
            }
        sys.exit(1 if report(found) else 0)


if __name__ == '__main__':
    main()
