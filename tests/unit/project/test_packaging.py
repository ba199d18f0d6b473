"""The lock serves every Python that is promised, and ``make`` finds a Python that works."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip('tomllib', reason='it came with Python 3.11')

ROOT = Path(__file__).parents[3]
PYTHONS = ('3.10.13', '3.11.7', '3.12.1', '3.13.0')
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def entries(*names):
    """Return a line for each package of some locks, its hashes included."""
    texts = [(ROOT / f'requirements-{name}.lock').read_text() for name in names]
    return ''.join(texts).replace('\\\n', ' ').splitlines()


@pytest.mark.parametrize('name', ['today', 'dev', 'legacy'])
def test_every_file_of_a_lock_has_a_hash(name):
    for line in entries(name):
        hashes = re.findall(r'--hash=sha256:[0-9a-f]{64}(?= |$)', line)
        assert hashes, line
        assert len(hashes) == line.count('--hash'), line


def test_the_legacy_lock_has_the_numpy_of_its_name():
    """It is compiled outside of this folder, whose overrides in pyproject.toml lift the pins."""
    pins = [line.partition(' ')[0] for line in entries('legacy')]
    assert 'numpy==1.23.5' in pins
    assert len({pin.partition('==')[0] for pin in pins}) == len(pins)


def test_what_only_tests_need_is_not_in_the_lock_of_users():
    users = {Requirement(line.partition(' --hash')[0]).name for line in entries('today')}
    tools = {Requirement(text).name for text in PROJECT['optional-dependencies']['dev']}
    assert not users & (tools | {'d2l'})


def locked(python):
    """Return package -> version for a Python on Linux."""
    here = {'python_full_version': python, 'python_version': python.rpartition('.')[0]}
    environment = default_environment() | here | {'sys_platform': 'linux', 'os_name': 'posix'}
    pins = {}
    for line in entries('today', 'dev'):
        each = Requirement(line.partition(' --hash')[0])
        if each.marker is None or each.marker.evaluate(environment):
            (pin,) = each.specifier
            name = canonicalize_name(each.name)
            assert (pin.operator, each.url) == ('==', None), line
            assert pins.get(name, pin.version) == pin.version, f'the two locks part: {line}'
            pins[name] = pin.version
    return pins


@pytest.mark.parametrize('python', PYTHONS)
def test_the_lock_has_what_every_extra_asks_for(python):
    pins = locked(python)
    extras = PROJECT['optional-dependencies'].values()
    for text in (*PROJECT['dependencies'], *(each for extra in extras for each in extra)):
        asked = Requirement(text)
        assert asked.specifier.contains(pins[canonicalize_name(asked.name)], prereleases=True), text
    assert int(pins['numpy'].partition('.')[0]) >= 2
    assert 'opencv-python' not in pins


@pytest.mark.needs('mxnet')
def test_mxnet_needs_is_what_mxnet_and_gluoncv_ask_for():
    """Their NumPy is ours, and opencv-python-headless does for opencv-python."""
    texts = [*PROJECT['dependencies'], *PROJECT['optional-dependencies']['mxnet-needs']]
    ours = {canonicalize_name(Requirement(text).name) for text in texts}
    for package in ('mxnet', 'gluoncv'):
        asked = [Requirement(text) for text in importlib.metadata.requires(package)]
        theirs = {canonicalize_name(each.name) for each in asked if each.marker is None}
        assert theirs - ours <= {'opencv-python'}


@pytest.mark.skipif(os.name != 'posix', reason='make is run by a shell')
def test_a_python_that_does_not_work_is_passed_over(tmp_path):
    version = '{}.{}'.format(*sys.version_info)
    shims, installed = tmp_path / 'shims', tmp_path / 'pyenv' / 'versions' / f'{version}.99' / 'bin'
    shims.mkdir()
    installed.mkdir(parents=True)
    (shims / f'python{version}').write_text('#!/bin/sh\nexit 127\n')
    (shims / f'python{version}').chmod(0o755)
    (installed / 'python').symlink_to(Path(sys.executable).resolve())
    home = {
        'PATH': f'{shims}:/nowhere',
        'HOME': str(tmp_path),
        'PYENV_ROOT': str(tmp_path / 'pyenv'),
    }

    def find(*versions):
        script = ['/bin/sh', str(ROOT / '.ci' / 'find-python'), *versions]
        return subprocess.run(script, env=home, capture_output=True, text=True, check=False)

    found = find('3.99', version)
    assert (found.returncode, found.stdout) == (0, f'{installed}/python\n')
    assert find('3.99').returncode == 1
