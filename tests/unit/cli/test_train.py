"""``train`` refuses in one line what is no number, and what the system does not grant."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from d2l_ft.cli.main import main


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


def test_what_is_infinite_is_refused():
    for option in ('--lr', '--head-lr-mult', '--weight-decay', '--momentum'):
        for value in ('inf', '-inf', 'nan', '1e300'):
            done = CliRunner().invoke(main, ['train', option, value])
            assert done.exit_code == 2
            assert done.stderr.count('\n') == 1
            assert 'must be' in done.stderr
