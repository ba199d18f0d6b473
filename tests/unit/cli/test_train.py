"""``train`` refuses in one line what is no number, and what the system does not grant."""

import errno
import json
import struct
import subprocess
import sys

import pytest
from click.testing import CliRunner

from d2l_ft.cli.main import LITTLE_MEMORY, lack, main
from d2l_ft.convert.graph import Attributes, Node
from d2l_ft.errors import ModelError


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


def test_memory_that_runs_out_is_known_by_the_words_of_each_framework():
    """And what an attribute nested too deep for Python makes of it is none of it."""
    assert lack(MemoryError()) == LITTLE_MEMORY
    assert lack(OSError(errno.ENOMEM, 'Cannot allocate memory')) == LITTLE_MEMORY
    assert lack(OSError(errno.ENOSPC, 'No space left on device')) == ''
    assert lack(RuntimeError('other')) == ''
    with pytest.raises(ModelError) as caught:
        Attributes(Node('op', 'n', {'deep': '(' * 10_000})).integers('deep')
    assert lack(caught.value) == ''


@pytest.mark.needs('pytorch')
def test_memory_that_runs_out_in_pytorch():
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert lack(caught.value) == LITTLE_MEMORY


@pytest.mark.needs('mxnet')
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='the limit on the address space is of Linux')
def test_memory_that_runs_out_in_mxnet():
    code = (
        'import resource\nimport d2l_ft_mxnet.today, mxnet as mx\n'
        'from d2l_ft.cli.main import lack\n'
        'resource.setrlimit(resource.RLIMIT_AS, (7 << 30, 7 << 30))\n'
        'try:\n    mx.nd.zeros((1 << 10, (1 << 21) - 5)).wait_to_read()\n'
        'except mx.MXNetError as error:\n    print(lack(error))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == f'{LITTLE_MEMORY}\n'


def test_what_is_infinite_is_refused():
    for option in ('--lr', '--head-lr-mult', '--weight-decay', '--momentum'):
        for value in ('inf', '-inf', 'nan', '1e300'):
            done = CliRunner().invoke(main, ['train', option, value])
            assert done.exit_code == 2
            assert done.stderr.count('\n') == 1
            assert 'must be' in done.stderr
