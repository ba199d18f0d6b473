"""Bad and odd images: all are named, none surprises, and both frameworks keep the same ones."""

import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import asked_backends, make_folder
from PIL import Image, ImageFile
from test_command import OPTIONS, command

from d2l_ft import datasets
from d2l_ft.augment import decode
from d2l_ft.errors import DataError
from d2l_ft.folder import (
    ODD,
    bad_images,
    inspect_image,
    inspect_images,
    load_folders,
    without_bad,
)
from d2l_ft.interface import Sample
from d2l_ft.run import LEFT_OUT, Run

GREY = np.add.outer(np.arange(0, 100, 5), np.arange(0, 150, 5)).astype(np.uint8)
RGB = np.dstack([GREY, 255 - GREY, GREY // 2])


def bomb(width, height):
    """Return a small PNG that claims to be of any size."""

    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', data) + chunk(b'IEND', b'')
    )


def write(path, image, **options):
    image.save(path, **options)
    return path


NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def truncated(path):
    """Write the first two thirds of a file, whose header is whole."""
    write(path, Image.fromarray(NOISE), format='PNG' if path.suffix == '.png' else 'JPEG')
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3])


BAD = {
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


@pytest.mark.parametrize('tolerant', [False, True])
def test_every_bad_image_is_found(zoo, monkeypatch, tolerant, figure):
    """Also where another library has told PIL to take truncated files, or files of any size."""
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', tolerant)  # GluonCV sets it
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None if tolerant else Image.MAX_IMAGE_PIXELS)
    train, _ = load_folders(zoo)
    lines = bad_images(train.samples, bar=False)
    found = {Path(line.split()[0]).name for line in lines}
    assert found == set(BAD)
    (line,) = [each for each in lines if 'bomb.png' in each]
    assert 'pixels' in line, 'its header is enough'
    assert ImageFile.LOAD_TRUNCATED_IMAGES is tolerant
    figure(f'{len(found)} of {len(BAD)} found, {len(GOOD)} odd ones accepted')


@pytest.mark.parametrize('name', GOOD)
def test_odd_images_have_one_behaviour(zoo, name):
    path, kind = zoo / 'train/light' / name, GOOD[name][1]
    assert inspect_image(str(path)) == ('', [kind] if kind else [])
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
        'is no JPEG or PNG image', 'truncated', ODD['CMYK'], ODD['EXIF'],
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
    assert config['train_examples'] == 20 + len(GOOD)
    (zoo / 'train/dark/empty.jpg').write_bytes((zoo / 'train/dark/00.jpg').read_bytes())
    _, err = command('train', '--out', out, '--resume', '--epochs', 2, code=2)
    assert 'has changed' in err


def test_the_set_that_is_kept_is_the_same_in_both(zoo, figure):
    """The core chooses; the loaders of both frameworks then decode each of them."""
    from d2l_ft.augment import Pipeline
    from d2l_ft.registry import get_backend

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
        without_bad(test, bar=False)


@pytest.mark.parametrize('side', [60_000, 30_000, 13_000])
def test_a_bomb_does_not_exhaust_memory(side, tmp_path, figure):
    """The small ones of a large class too, in a process that may grow by 1.5 GiB."""
    for number in range(8):
        (tmp_path / f'{number}.png').write_bytes(bomb(side, side))
    code = (
        'import resource, sys\n'
        'from d2l_ft.augment import decode\n'
        'from d2l_ft.errors import DataError\n'
        'from d2l_ft.folder import bad_images\n'
        'from d2l_ft.interface import Sample\n'
        'import d2l_ft.folder as folder\n'
        'folder.usable_cores = lambda: 8\n'
        'pages = int(open("/proc/self/statm").read().split()[0])\n'
        'limit = pages * resource.getpagesize() + (3 << 29)\n'
        'resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n'
        'paths = [f"{sys.argv[1]}/{number}.png" for number in range(8)]\n'
        'bad = bad_images([Sample(path, 0) for path in paths], bar=False)\n'
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
    from d2l_ft import folder

    inside, most = [0], [0]

    class Counted:
        def __enter__(self):
            lock.acquire()
            inside[0] += 1
            most[0] = max(most[0], inside[0])

        def __exit__(self, *_):
            inside[0] -= 1
            lock.release()

    lock = folder.BIG_LOCK
    monkeypatch.setattr(folder, 'BIG', 100)
    monkeypatch.setattr(folder, 'BIG_LOCK', Counted())
    paths = [write(tmp_path / f'{number}.png', Image.fromarray(RGB)) for number in range(20)]
    assert not any(inspect_images([Sample(str(path), 0) for path in paths], bar=False).problems)
    assert most == [1]
