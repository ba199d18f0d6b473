"""Files made to exhaust memory or time: one line that refuses them, little memory, few seconds."""

import json
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import run_config
from test_archives import bomb, header_bomb, tar_bomb
from test_images import bomb as picture_bomb
from test_images import chunk, rgb_png

pytestmark = pytest.mark.slow

MEMORY = 512
"""MiB by which a process may grow: a picture of the size that is still read takes most of it."""

SECONDS = 60
"""Far more than any takes: what waits for ever is found, and no time is tested."""

READERS = {
    'image': 'from d2l_ft.data.image_folder import Sample\n'
    'from d2l_ft.data.validation import check_images\n'
    'read = lambda path: check_images([Sample(str(path), 0)], bar=False)\n',
    'run': 'from d2l_ft.runs.directory import Run\n'
    'read = lambda path: Run.open(path.parent).metrics()\n',
    'weights': 'from d2l_ft.sources.weights import read_weights\n'
    'if path.suffix == ".pth": import d2l_ft_pytorch\n'
    'read = lambda path: read_weights(path, "resnet18")\n',
    'archive': 'from d2l_ft.storage.archives import extract\n'
    'read = lambda path: extract(path, path.with_name("unpacked"))\n',
}
"""Kind of file -> code that imports what reads it, as the commands do."""

MEASURE = """
import json, resource, sys, time
from pathlib import Path
path = Path(sys.argv[1])
{reader}
from fuzz import peak
from d2l_ft.errors import D2LFTError
resource.setrlimit(resource.RLIMIT_DATA, (4 << 30,) * 2)  # spare the machine; not what is mapped
Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew
before, begun, line = peak(), time.perf_counter(), ''
try:
    read(path)
except D2LFTError as error:
    line = str(error)
print(json.dumps([line, peak() - before, time.perf_counter() - begun]))
"""


def claims(**options):
    """Return the config of a run, with some of it replaced; a value may be JSON."""
    text = json.dumps(asdict(run_config()) | {name: f'@{name}' for name in options})
    for name, value in options.items():
        text = text.replace(f'"@{name}"', value)
    return text.encode()


def sparse(path):
    """Write a file of 64 GiB that takes no room on the disk."""
    path.touch()
    os.truncate(path, 1 << 36)


def tensors(shape, size, end=8):
    """Return a safetensors file of one tensor that claims a shape and a size."""
    entry = {'dtype': 'F32', 'shape': shape, 'data_offsets': [0, size]}
    header = json.dumps({'fc.weight': entry}).encode()
    return struct.pack('<Q', len(header)) + header + bytes(end)


def params(count, *shape):
    """Return a .params file that claims a number of arrays, the first one of a shape."""
    head = struct.pack(f'<IiI{len(shape)}q', 0xF993FAC9, 0, len(shape), *shape)
    return struct.pack('<3Q', 0x112, 0, count) + head + struct.pack('<iii', 1, 0, 0) + bytes(64)


def strides(path):
    """Write a .pth file with a tensor of four bytes that claims 40 terabytes."""
    import torch

    torch.save({'fc.weight': torch.zeros(1).expand(10**6, 10**7)}, path)


def packed_text():
    """Return a PNG with a text that unpacks to 400 MiB."""
    packer = zlib.compressobj(9)
    packed = b''.join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    return rgb_png(chunk(b'zTXt', b'Comment\0\0' + packed) + chunk(b'iCCP', b'icc\0\0' + packed))


def wide_jpeg():
    """Return a JPEG whose header claims 65 500 x 65 500 pixels."""
    frame = struct.pack('>HBHHB', 17, 8, 65500, 65500, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    return b'\xff\xd8\xff\xc0' + frame + bytes(1 << 16) + b'\xff\xd9'


FILES = {
    'image: PNG of 60 000 x 60 000': ('x.png', lambda: picture_bomb(60_000, 60_000)),
    'image: PNG of 2 147 483 647 x 1': ('x.png', lambda: picture_bomb(2**31 - 1, 1)),
    'image: PNG of 13 000 x 13 000': ('x.png', lambda: picture_bomb(13_000, 13_000)),
    'image: JPEG of 65 500 x 65 500': ('x.jpg', wide_jpeg),
    'image: a pipe': ('x.png', os.mkfifo),
    'image: /dev/zero': ('x.png', lambda path: path.symlink_to('/dev/zero')),
    'image: 64 GiB of nothing': ('x.png', sparse),
    'run: config is a pipe': ('config.json', os.mkfifo),
    'run: config is /dev/zero': ('config.json', lambda path: path.symlink_to('/dev/zero')),
    'run: config of 64 GiB': ('config.json', sparse),
    'run: a number of 400 digits': ('config.json', lambda: claims(image_size='9' * 400)),
    'run: a number of a million digits': ('config.json', lambda: claims(image_size='9' * 10**6)),
    'run: 5 million classes': (
        'config.json',
        lambda: claims(classes=json.dumps([str(each) for each in range(5 * 10**6)])),
    ),
    'run: lists in lists, a million deep': ('config.json', lambda: b'[' * 10**6),
    'run: objects in objects, a million deep': ('config.json', lambda: b'{"a":' * 10**6),
    'weights: safetensors, cut off': ('x.safetensors', lambda: tensors([512, 512], 1 << 20)),
    'weights: safetensors, terabytes': (
        'x.safetensors', lambda: tensors([10**6, 10**7], 4 * 10**13),
    ),
    'weights: safetensors, header of 2^60 bytes': (
        'x.safetensors', lambda: struct.pack('<Q', 1 << 60) + b'{}',
    ),
    'weights: safetensors, 64 GiB of nothing': ('x.safetensors', sparse),
    'weights: .params, terabytes': ('x.params', lambda: params(1, 10**6, 10**7)),
    'weights: .params, 2^60 arrays': ('x.params', lambda: params(1 << 60, 2, 3)),
    'weights: .params, 64 GiB of nothing': ('x.params', sparse),
    'weights: .params is a pipe': ('x.params', os.mkfifo),
    'weights: .params is /dev/zero': ('x.params', lambda path: path.symlink_to('/dev/zero')),
    'weights: .pth, strides of terabytes': ('x.pth', strides),
    'archive: zip of 200 MB of nothing': ('x.zip', bomb),
    'archive: tar.gz of 200 MB of nothing': ('x.tar.gz', tar_bomb),
    'archive: tar, a name of a gigabyte': ('x.tar', header_bomb),
}  # fmt: skip
"""Kind and name -> the file's name, and what returns its bytes or writes it."""


def made(path, make):
    """Write a file of ``FILES``."""
    if make is os.mkfifo or make.__code__.co_argcount:
        make(path)
    else:
        path.write_bytes(make())


def measured(path, kind):
    """Return the line that refuses a file, the MiB and the seconds that it took."""
    done = subprocess.run(
        [sys.executable, '-c', MEASURE.format(reader=READERS[kind]), str(path)],
        capture_output=True, text=True, timeout=SECONDS + 60, check=False,
        env=os.environ | {'PYTHONPATH': os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize('name', [
    pytest.param(each, marks=[pytest.mark.needs('pytorch')] if '.pth' in each else [])
    for each in FILES
])  # fmt: skip
def test_a_hostile_file_takes_little_memory_and_time(name, tmp_path, figure):
    """Above those of a process that has imported what reads it."""
    file, make = FILES[name]
    made(tmp_path / file, make)
    line, grown, seconds = measured(tmp_path / file, name.partition(':')[0])
    assert line
    assert '\n' not in line
    assert len(line) < 1000
    assert grown < MEMORY
    assert seconds < SECONDS
    figure(f'{grown:.0f} MiB, {seconds:.1f} s')


def test_packed_metadata_of_an_image_are_not_unpacked(tmp_path, figure):
    """The picture is good, and no more of the file is looked at."""
    (tmp_path / 'x.png').write_bytes(packed_text())
    line, grown, seconds = measured(tmp_path / 'x.png', 'image')
    assert line == ''
    assert grown < 50
    assert seconds < SECONDS
    figure(f'PNG with 800 MiB of packed metadata: {grown:.0f} MiB, {seconds:.1f} s')


def test_the_measure_sees_what_is_taken(tmp_path, monkeypatch):
    """A reader that takes 300 MiB is found to."""
    greedy = 'read = lambda path: [bytearray(b"x" * (100 << 20)) for _ in range(3)]\n'
    monkeypatch.setitem(READERS, 'greedy', greedy)
    line, grown, seconds = measured(tmp_path, 'greedy')
    assert line == ''
    assert 300 <= grown < 500
    assert seconds > 0
