"""Bad and odd images: all are named, none surprises, and both frameworks keep the same ones."""

import io
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import THOROUGH, asked_backends, make_folder
from fuzz import mutated
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_command import OPTIONS, command

from d2l_ft.data import datasets, validation
from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.opencv import cv2
from d2l_ft.data.transforms import decode, pixels
from d2l_ft.data.validation import (
    ODD,
    drop_bad_images,
    find_bad_images,
    inspect_image,
    inspect_images,
)
from d2l_ft.errors import DataError
from d2l_ft.runs.directory import LEFT_OUT, Run

pytestmark = pytest.mark.slow

GREY = np.add.outer(np.arange(0, 100, 5), np.arange(0, 150, 5)).astype(np.uint8)
RGB = np.dstack([GREY, 255 - GREY, GREY // 2])


def chunk(kind, data=b''):
    """Return a chunk of a PNG."""
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(width, height, rows, depth=8, colour=2, before=b'', after=b'', interlace=0):
    """Return a PNG whose rows, filter bytes included, are as given."""
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, interlace)
    return b''.join([b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', header), before,
                     chunk(b'IDAT', zlib.compress(rows)), after, chunk(b'IEND')])  # fmt: skip


def bomb(width, height):
    """Return a small PNG that claims to be of any size."""
    return png(width, height, bytes(1 << 20))


def rgb_png(before=b'', after=b''):
    """Return a PNG of RGB with more chunks before and after the pixels."""
    rows = b''.join(b'\0' + row.tobytes() for row in RGB)
    return png(RGB.shape[1], RGB.shape[0], rows, before=before, after=after)


def encoded(image, **options):
    """Return an image file's bytes."""
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def write(path, image, **options):
    image.save(path, **options)
    return path


NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def truncated(path):
    """Write the first two thirds of a file, whose header is whole."""
    write(path, Image.fromarray(NOISE), format='PNG' if path.suffix == '.png' else 'JPEG')
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3])


def huge(path):
    """Write a file of 600 MiB that takes no room on the disk."""
    with path.open('wb') as file:
        file.write(b'\xff\xd8\xff')
        file.truncate(600 << 20)


BAD = {
    'huge.jpg': huge,
    'truncated.jpg': truncated,
    'truncated.png': truncated,
    'empty.jpg': lambda path: path.write_bytes(b''),
    'page.jpg': lambda path: path.write_bytes(b'<html>'),
    'gif.jpg': lambda path: write(path, Image.fromarray(GREY), format='GIF'),
    'tiff.png': lambda path: write(path, Image.fromarray(GREY), format='TIFF'),
    'webp.jpg': lambda path: write(path, Image.fromarray(RGB), format='WEBP'),
    'bomb.png': lambda path: path.write_bytes(bomb(60_000, 60_000)),
    'zero.png': lambda path: path.write_bytes(bomb(0, 5)),
    'pipe.jpg': os.mkfifo,
    'dangling.jpg': lambda path: path.symlink_to('nowhere'),
}
"""Name -> what writes a file that is refused."""


def turned(path):
    tags = Image.Exif()
    tags[0x0112] = 6  # a quarter turn
    write(path, Image.fromarray(RGB), format='JPEG', exif=tags, quality=100)


def animated(path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(path, format='PNG', save_all=True, append_images=frames[1:])


def two_in_one(path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(path, format='MPO', save_all=True, append_images=frames[1:], quality=100)


GOOD = {
    'cmyk.jpg': (lambda path: write(path, Image.fromarray(RGB).convert('CMYK')), 'CMYK'),
    'deep.png': (lambda path: write(path, Image.fromarray(np.uint16(GREY) * 256)), '16 bits'),
    'palette.png': (lambda path: write(path, Image.fromarray(RGB).quantize(8)), 'palette'),
    'alpha.png': (
        lambda path: write(path, Image.fromarray(np.dstack([RGB, GREY]))), 'alpha'
    ),
    'animated.png': (animated, 'animated'),
    'two.jpg': (two_in_one, 'animated'),
    'turned.jpg': (turned, 'EXIF'),
    'really-png.jpg': (
        lambda path: write(path, Image.fromarray(RGB), format='PNG'), 'other format'
    ),
    'grey.png': (lambda path: write(path, Image.fromarray(GREY)), None),
    'plain.png': (lambda path: write(path, Image.fromarray(RGB)), None),
}  # fmt: skip
"""Name -> (what writes a file that is accepted, the kind of ODD that it is)."""


@pytest.fixture
def zoo(tmp_path):
    """Return a data set with every bad and every odd image among its training part."""
    root = make_folder(tmp_path / 'photos')
    for name, make in BAD.items():
        make(root / 'train' / 'dark' / name)
    for name, (make, _) in GOOD.items():
        make(root / 'train' / 'light' / name)
    return root


def test_every_bad_image_is_found(zoo, figure):
    train, _ = load_folders(zoo)
    lines = find_bad_images(train.samples, bar=False)
    found = {Path(line.split()[0]).name for line in lines}
    assert found == set(BAD)
    (line,) = [each for each in lines if 'bomb.png' in each]
    assert 'pixels' in line, 'its header is enough'
    figure(f'{len(found)} of {len(BAD)} found, {len(GOOD)} odd ones accepted')


@pytest.mark.parametrize('name', GOOD)
def test_odd_images_have_one_behaviour(zoo, name):
    path, kind = zoo / 'train/light' / name, GOOD[name][1]
    assert inspect_image(str(path))[:2] == ('', [kind] if kind else [])
    assert kind is None or kind in ODD
    seen = decode(str(path)).astype(int)
    expected = RGB.astype(int)
    if name in ('deep.png', 'grey.png'):
        expected = np.dstack([GREY] * 3)
    elif name == 'turned.jpg':
        expected = np.rot90(expected, -1)
    assert seen.shape == expected.shape
    if name == 'palette.png':
        expected = np.asarray(Image.open(path).convert('RGB'))
    if name in ('cmyk.jpg', 'turned.jpg', 'two.jpg'):  # JPEG loses a little
        assert np.abs(seen - expected).mean() < 6
    else:
        assert np.array_equal(seen, expected)


def test_check_names_all(zoo):
    out, err = command('data', 'check', zoo, code=2)
    for name in BAD:
        assert f'/{name} ' in out
    for name, (_, kind) in GOOD.items():
        assert (name in out) == (kind is not None)
    for cause in (
        'is empty', 'is not a regular file', 'does not exist', '60000 x 60000 pixels|too many',
        'is no JPEG or PNG image', 'truncated', 'has 600 MiB', ODD['CMYK'], ODD['EXIF'],
    ):  # fmt: skip
        assert any(each in out for each in cause.split('|')), cause
    assert f'{len(BAD)} bad image(s)' in err
    assert '--skip-bad' in err
    assert err.count('\n') == 1
    many = zoo / 'test' / 'dark'
    for number in range(9):
        turned(many / f'turned{number}.jpg')
    out, _ = command('data', 'check', zoo, code=2)
    assert '5 more (--all)' in out
    out, _ = command('data', 'check', zoo, '--all', code=2)
    assert all(f'turned{number}.jpg' in out for number in range(9))


def test_a_file_without_permission_is_named():
    """Root reads everything, so this process gives up its rights for a moment."""
    with tempfile.TemporaryDirectory(dir='/tmp') as name:
        folder = Path(name)
        os.chmod(folder, 0o755)
        write(folder / 'a.png', Image.fromarray(RGB))
        (folder / 'closed').mkdir()
        write(folder / 'closed' / 'b.png', Image.fromarray(RGB))
        os.chmod(folder / 'a.png', 0)
        os.chmod(folder / 'closed', 0)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            found = [inspect_image(str(folder / each))[0] for each in ('a.png', 'closed/b.png')]
            with pytest.raises(DataError, match=r'cannot list.*Permission'):
                load_folders(folder / 'closed')
        finally:
            if root:
                os.seteuid(0)
            os.chmod(folder / 'closed', 0o755)
    assert found == ['cannot be read (Permission denied)'] * 2


def test_train_stops_before_the_first_epoch(framework, zoo, tmp_path):
    out = tmp_path / 'run'
    _, err = command('train', '--backend', framework.NAME, '--data', zoo, *OPTIONS, '--epochs', 1,
                     '--out', out, code=2)  # fmt: skip
    assert f'{len(BAD)} bad image(s)' in err
    assert '--skip-bad' in err
    assert err.count('\n') == 1
    assert not out.exists()


def test_skip_bad_lists_what_it_left_out(framework, zoo, tmp_path):
    out = tmp_path / 'run'
    text, _ = command('train', '--backend', framework.NAME, '--data', zoo, *OPTIONS, '--lr', 0.001,
                      '--epochs', 1, '--skip-bad', '--out', out)  # fmt: skip
    assert f'left out {len(BAD)} bad image(s)' in text
    lines = (out / LEFT_OUT).read_text().splitlines()
    assert [Path(line.split()[0]).name for line in lines] == sorted(BAD)
    assert all(len(line.split()) > 1 for line in lines), 'each has its reason'
    config = Run.open(out).config
    assert config.train_examples == 20 + len(GOOD)
    (zoo / 'train/dark/empty.jpg').write_bytes((zoo / 'train/dark/00.jpg').read_bytes())
    _, err = command('train', '--out', out, '--resume', '--epochs', 2, code=2)
    assert 'empty.jpg is new since' in err


def test_the_set_that_is_kept_is_the_same_in_both(zoo, figure):
    """The core chooses; the loaders of both frameworks then decode each of them."""
    from d2l_ft.backend.registry import get_backend
    from d2l_ft.data.transforms import Pipeline

    data = datasets.load_data(str(zoo), bar=False, skip_bad=True)
    names = [Path(each.path).name for each in data.train.samples]
    assert not set(names) & set(BAD)
    assert set(GOOD) < set(names)
    batches = {}
    for name in asked_backends():
        loader = get_backend(name).loader(data.train.samples, Pipeline(32, train=True), 64)
        ((images, labels),) = loader
        batches[name] = [
            each.asnumpy() if hasattr(each, 'asnumpy') else each.numpy()
            for each in (images, labels)
        ]
        assert len(batches[name][1]) == len(names)
    for images, labels in batches.values():
        assert np.array_equal(images, batches[asked_backends()[0]][0])
        assert np.array_equal(labels, batches[asked_backends()[0]][1])
    figure(f'{len(names)} images, equal bytes')


def test_a_class_without_a_good_image_is_refused(tmp_path):
    root = make_folder(tmp_path / 'photos', train=2, test=2)
    for path in (root / 'test' / 'dark').iterdir():
        path.write_bytes(b'')
    _, test = load_folders(root)
    with pytest.raises(DataError, match="class 'dark'"):
        drop_bad_images(test, bar=False)


@pytest.mark.parametrize('side', [60_000, 30_000, 13_000])
def test_a_bomb_does_not_exhaust_memory(side, tmp_path, figure):
    """The small ones of a large class too, in a process that may grow by 1.5 GiB."""
    for number in range(8):
        (tmp_path / f'{number}.png').write_bytes(bomb(side, side))
    code = (
        'import resource, sys\n'
        'from d2l_ft.data.transforms import decode\n'
        'from d2l_ft.errors import DataError\n'
        'from d2l_ft.data.validation import find_bad_images\n'
        'from d2l_ft.data.image_folder import Sample\n'
        'from d2l_ft.data import validation\n'
        'validation.usable_cores = lambda: 8\n'
        'pages = int(open("/proc/self/statm").read().split()[0])\n'
        'limit = pages * resource.getpagesize() + (3 << 29)\n'
        'resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n'
        'paths = [f"{sys.argv[1]}/{number}.png" for number in range(8)]\n'
        'bad = find_bad_images([Sample(path, 0) for path in paths], bar=False)\n'
        'assert len(bad) == 8 and not any("Memory" in line for line in bad), bad\n'
        'try:\n'
        '    decode(paths[0])\n'
        'except DataError:\n'
        '    pass\n'
        'from fuzz import peak\n'
        'print(round(peak()))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, check=False,
        # the limit is one of addresses, and glibc keeps those of freed blocks for each thread
        env=os.environ
        | {'PYTHONPATH': str(Path(__file__).parent), 'MALLOC_MMAP_THRESHOLD_': '1048576'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figure(f'{side} x {side}: 8 images at once, {done.stdout.strip()} MiB at the most')


def test_large_images_wait_for_each_other(tmp_path, monkeypatch):
    """Without the lock as many would be in memory as there are cores."""
    inside, most = [0], [0]

    class Counted:
        def __enter__(self):
            lock.acquire()
            inside[0] += 1
            most[0] = max(most[0], inside[0])

        def __exit__(self, *_):
            inside[0] -= 1
            lock.release()

    lock = validation.BIG_LOCK
    monkeypatch.setattr(validation, 'BIG', 100)
    monkeypatch.setattr(validation, 'BIG_LOCK', Counted())
    paths = [write(tmp_path / f'{number}.png', Image.fromarray(RGB)) for number in range(20)]
    assert not any(inspect_images([Sample(str(path), 0) for path in paths], bar=False).problems)
    assert most == [1]


def exif(orientation, order='<', kind=3):
    """Return EXIF that holds an orientation only."""
    head = b'II*\0' if order == '<' else b'MM\0*'
    return head + struct.pack(f'{order}IHHHIHHI', 8, 1, 0x0112, kind, 1, orientation, 0, 0)


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack('>H', len(data) + 2) + data


def with_segments(jpeg, *segments):
    return jpeg[:2] + b''.join(segments) + jpeg[2:]


XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="6"/>'


def oriented(orientation):
    """Return files whose metadata speak of an orientation: name -> bytes."""
    tags = exif(orientation)
    app1 = [segment(0xE1, b'Exif\0\0' + exif(orientation, order)) for order in '<>']
    xmp, profile = segment(0xE1, XMP), segment(0xE2, b'ICC_PROFILE\0' + bytes(9))
    plain = encoded(Image.fromarray(RGB), format='JPEG', quality=100)
    progressive = encoded(Image.fromarray(RGB), format='JPEG', progressive=True)
    scan = progressive.index(b'\xff\xda', progressive.index(b'\xff\xda') + 2)
    jpegs = {
        'little': with_segments(plain, app1[0]),
        'big': with_segments(plain, app1[1]),
        'before-xmp': with_segments(plain, app1[0], xmp),
        'after-xmp': with_segments(plain, xmp, app1[0]),
        'in-xmp': with_segments(plain, xmp),
        'exif-within-xmp': with_segments(plain, segment(0xE1, XMP + b'Exif\0\0' + tags)),
        'no-name': with_segments(plain, segment(0xE1, b'abcdef' + exif(orientation))),
        'long': with_segments(plain, segment(0xE1, b'Exif\0\0' + exif(orientation, kind=4))),
        'after-icc': with_segments(plain, segment(0xFE, b'a comment'), profile, app1[1]),
        'rubbish': with_segments(plain, segment(0xE1, b'Exif\0\0' + bytes(range(60)))),
        'rubbish-first': with_segments(plain, segment(0xE1, b'Exif\0\0II*'), app1[0]),
        'between-scans': progressive[:scan] + app1[0] + progressive[scan:],
        'behind': plain + app1[0],
    }  # fmt: skip
    pngs = {
        'before': rgb_png(before=chunk(b'eXIf', exif(orientation))),
        'after': rgb_png(after=chunk(b'eXIf', exif(orientation, '>'))),
        'named': rgb_png(before=chunk(b'eXIf', b'Exif\0\0' + exif(orientation))),
        'rubbish': rgb_png(before=chunk(b'eXIf', bytes(range(60)))),
        'xmp': rgb_png(before=chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP)),
    }  # fmt: skip
    return {f'{name}.jpg': data for name, data in jpegs.items()} | {
        f'{name}.png': data for name, data in pngs.items()
    }


def test_turned_is_said_of_what_the_loader_turns(tmp_path, figure):
    """The eight ways are told from the pixels that training gets."""
    ways = [
        RGB, RGB[:, ::-1], RGB[::-1, ::-1], RGB[::-1], RGB.transpose(1, 0, 2), np.rot90(RGB, -1),
        np.rot90(RGB[::-1], -1)[::-1, ::-1], np.rot90(RGB),
    ]  # fmt: skip
    said = count = 0
    for orientation in range(10):
        for name, data in oriented(orientation).items():
            path = tmp_path / f'{orientation}-{name}'
            path.write_bytes(data)
            problem, kinds, _ = inspect_image(str(path))
            assert problem == '', path.name
            seen = decode(str(path)).astype(int)
            fits = [
                way.shape == seen.shape and np.abs(way.astype(int) - seen).mean() < 6
                for way in ways
            ]
            assert any(fits), path.name
            assert ('EXIF' in kinds) == (not fits[0]), path.name
            if name in ('little.jpg', 'big.jpg'):
                assert ('EXIF' in kinds) == (2 <= orientation <= 8), path.name
            said, count = said + ('EXIF' in kinds), count + 1
    figure(f'{count} files, {said} of them turned: said of these and of no other')


def test_depth_and_alpha_are_named_and_end_as_said(tmp_path):
    """16 bits a channel in all colour types keep their upper 8; alpha is dropped."""
    deep = np.random.default_rng(1).integers(0, 1 << 16, (20, 30, 4), dtype=np.uint16)
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        values = deep[:, :, :channels]
        rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
        path = tmp_path / f'{colour}.png'
        path.write_bytes(png(30, 20, rows, depth=16, colour=colour))
        kinds = ['16 bits', 'alpha'] if colour in (4, 6) else ['16 bits']
        assert inspect_image(str(path))[:2] == ('', kinds)
        expected = (values >> 8).astype(np.uint8)[:, :, : 3 if channels > 2 else 1]
        assert np.array_equal(decode(str(path)), np.broadcast_to(expected, (20, 30, 3))), colour
    colours = bytes([9, 8, 7, 200, 100, 50])
    indices = np.indices((20, 30)).sum(axis=0) % 2
    rows = b''.join(b'\0' + row.astype(np.uint8).tobytes() for row in indices)
    path.write_bytes(
        png(30, 20, rows, colour=3, before=chunk(b'PLTE', colours) + chunk(b'tRNS', b'\0\x80'))
    )
    assert inspect_image(str(path))[:2] == ('', ['palette', 'alpha'])
    expected = np.frombuffer(colours, np.uint8).reshape(2, 3)[indices]
    assert np.array_equal(decode(str(path)), expected)


def broken(name):
    """Return a chunk with a wrong checksum."""
    return chunk(name, b'Title\0hello')[:-1] + b'x'


HARMLESS = {
    'large text': rgb_png(chunk(b'tEXt', b'Comment\0' + b'x' * (2 << 20))),
    'large packed text': rgb_png(chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(80 << 20)))),
    'text checksum': rgb_png(broken(b'tEXt')),
    'rubbish exif': rgb_png(chunk(b'eXIf', b'rubbish')),
    'rubbish profile': rgb_png(chunk(b'iCCP', b'name\0\0rubbish')),
    'late text': rgb_png(after=chunk(b'tEXt', b'a\0b')),
    'bytes behind': rgb_png() + b'and more of another kind',
}
"""PNG files whose pixels are all there."""

BROKEN = {
    'checksum': rgb_png()[:-20] + b'xxxx' + rgb_png()[-16:],
    'unknown critical chunk': rgb_png(chunk(b'ABCD', b'x')),
    'no palette': png(8, 8, bytes(9 * 8), colour=3),
    'short data': png(8, 8, bytes(25 * 7)),
}


def test_damaged_metadata_do_not_make_pixels_bad(tmp_path):
    for name, data in HARMLESS.items():
        path = tmp_path / f'{name}.png'
        path.write_bytes(data)
        assert inspect_image(str(path))[0] == '', name
        assert np.array_equal(decode(str(path)), RGB), name


def test_what_the_loader_cannot_decode_is_bad(tmp_path):
    for name, data in BROKEN.items():
        path = tmp_path / f'{name}.png'
        path.write_bytes(data)
        assert 'does not decode' in inspect_image(str(path))[0], name
        with pytest.raises(DataError, match='cannot decode'):
            decode(str(path))


def seeds():
    """Return small files of many kinds, by suffix."""
    small = Image.fromarray(NOISE[:20, :25])
    text = PngInfo()
    text.add_text('Title', 'a text')
    turned = oriented(6)
    return {
        '.png': [
            rgb_png(), encoded(small, format='PNG', pnginfo=text, icc_profile=bytes(40)),
            encoded(small.quantize(16), format='PNG', transparency=0),
            encoded(small.convert('L'), format='PNG'), encoded(small.convert('1'), format='PNG'),
            encoded(small.convert('RGBA'), format='PNG'), turned['before.png'],
            encoded(Image.fromarray(np.uint16(GREY) * 99), format='PNG'),
            encoded(small, format='PNG', save_all=True, append_images=[small.rotate(90)]),
        ],
        '.jpg': [
            encoded(small, format='JPEG'), encoded(small, format='JPEG', progressive=True),
            encoded(small.convert('L'), format='JPEG'),
            encoded(small.convert('CMYK'), format='JPEG'), turned['little.jpg'],
            encoded(small, format='JPEG', restart_marker_blocks=1, quality=30),
            encoded(small, format='MPO', save_all=True, append_images=[small.rotate(90)]),
        ],
    }  # fmt: skip


def damaged(count, draw):
    """Yield (suffix, bytes): every file cut at its end, one bit flipped, spliced and so on."""
    for suffix, files in seeds().items():
        for data in files:
            for cut in (1, 2, 3, 8, 11, 12, 13, 20, len(data) // 2):
                yield suffix, data[:-cut]
    every = seeds()
    for number in range(count):
        suffix = draw.choice(('.png', '.jpg'))
        data = draw.choice(every[suffix])
        if number % 3 == 0:
            flipped = bytearray(data)
            flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            yield suffix, bytes(flipped)
        else:
            yield suffix, mutated(data, every['.png'] + every['.jpg'], draw)


PLAIN = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def test_good_is_what_the_loaders_decode(tmp_path, figure, capfd):
    """Whatever the damage: a file is good just when it decodes, is whole and is not too large.

    The loaders of both frameworks then read all that are good.
    """
    from d2l_ft.backend.registry import get_backend
    from d2l_ft.data.transforms import Pipeline

    samples = []
    for number, (suffix, data) in enumerate(damaged(9000 if THOROUGH else 400, random.Random(0))):
        path = tmp_path / f'{number}{suffix}'
        path.write_bytes(data)
        samples.append(Sample(str(path), 0))
    capfd.readouterr()
    found = inspect_images(samples, bar=False)
    assert capfd.readouterr().err == '', 'the decoders are kept silent'
    good = []
    for sample, problem in zip(samples, found.problems, strict=True):
        try:
            decode(sample.path)
            decodes = True
        except DataError:
            decodes = False
        if not problem:
            assert decodes, sample.path
            good.append(sample)
            data = np.fromfile(sample.path, np.uint8)
            turned, plain = pixels(data), pixels(data, PLAIN)
            assert (sample.path in found.odd.get('EXIF', ())) == (not np.array_equal(turned, plain))
        elif decodes:  # then only the stricter tests refuse it
            assert 'truncated' in problem, (sample.path, problem)
    for name in asked_backends():
        loader = get_backend(name).loader(good, Pipeline(32, train=True), 64)
        assert sum(len(labels) for _, labels in loader) == len(good)
    assert 0.2 < len(good) / len(samples) < 0.8
    figure(f'{len(samples)} damaged files, {len(good)} of them good')


def test_every_jpeg_that_is_cut_is_bad(tmp_path):
    for data in seeds()['.jpg'][:-1]:
        path = tmp_path / 'cut.jpg'
        for end in range(2, len(data), 1 if THOROUGH else 29):
            path.write_bytes(data[:end])
            assert inspect_image(str(path))[0], end
