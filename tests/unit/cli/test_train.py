"""``train`` refuses in one line what is no number, and what the system does not grant."""

import json
import struct
import subprocess
import sys

import pytest
from click.testing import CliRunner

from d2l_ft.cli.main import LITTLE_MEMORY, main


@pytest.mark.parametrize('limit', [8, 16, 30])
def test_too_few_open_files_are_told(limit, framework, folder, tmp_path):
    words = ['train', '--backend', framework.NAME, '--data', folder, '--source', 'none',
             '--image-size', 32, '--epochs', 1, '--out', tmp_path / 'run']  # fmt: skip
    code = (
        'import resource, sys\nfrom d2l_ft.cli.main import main\n'
        f'resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\nmain(sys.argv[1:])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, words)], capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    assert 'Traceback' not in done.stderr
    if done.returncode:
        assert 'ulimit -n' in done.stderr.splitlines()[-1]


@pytest.mark.needs('pytorch')
@pytest.mark.skipif(sys.platform != 'linux', reason='the limit on the address space is of Linux')
def test_too_little_memory_is_told(folder, tmp_path):
    """For weights that claim 6 GB, in a sparse file, where 2 GB are left after the imports."""
    size, huge = 6 << 30, tmp_path / 'huge.safetensors'
    entry = {'dtype': 'F32', 'shape': [size // 4], 'data_offsets': [0, size]}
    head = json.dumps({'fc.weight': entry}).encode()
    with huge.open('wb') as file:
        file.write(struct.pack('<Q', len(head)) + head)
        file.truncate(8 + len(head) + size)
    code = (
        'import resource, sys\nfrom pathlib import Path\nimport torch, torchvision\n'
        'from d2l_ft.cli.main import main\n'
        'pages = int(Path("/proc/self/statm").read_text().split()[0])\n'
        'limit = pages * resource.getpagesize() + (2 << 30)\n'
        'resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\nmain(sys.argv[1:])'
    )
    words = ['train', '--backend', 'pytorch', '--data', folder, '--source', huge, '--epochs', 1,
             '--out', tmp_path / 'run']  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, words)], capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1] == f'd2l-ft: {LITTLE_MEMORY}'


def test_what_is_infinite_is_refused():
    for option in ('--lr', '--head-lr-mult', '--weight-decay', '--momentum'):
        for value in ('inf', '-inf', 'nan', '1e300'):
            done = CliRunner().invoke(main, ['train', option, value])
            assert done.exit_code == 2
            assert done.stderr.count('\n') == 1
            assert 'must be' in done.stderr
