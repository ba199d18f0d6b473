"""Fixtures for all tests: which backends run, a private cache, small image folders."""

import gc
import importlib
import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from d2l_ft.backend.registry import BACKENDS, get_backend
from d2l_ft.data.opencv import cv2

LEG = os.environ.get('D2L_FT_LEG', '')
"""Comma-separated backends that must run; empty: all. A backend that was asked for and does not
load fails its tests, it never skips them. 'core' asks for none."""


# A shell that starts the tests in the background makes them, and all that they start, deaf to
# Ctrl-C, and nohup to SIGHUP; the tests of these need ears.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def asked_backends() -> list[str]:
    """Return the framework backends of this leg."""
    return [name for name in BACKENDS if not LEG or name in LEG.split(',')]


NEEDS = {
    'test_naming.py': {'mxnet', 'pytorch'},
    'test_mxnet_backend.py': {'mxnet', 'pytorch'},  # each is compared with the other's zoo
    'test_pytorch_backend.py': {'mxnet', 'pytorch'},
    'test_zoo_weights.py': {'mxnet', 'pytorch'},
    'test_mxnet_semantics.py': {'mxnet'},
    'test_mxnet_today.py': {'mxnet'},
    'test_book.py': {'mxnet', 'pytorch'},  # minutes, and nothing of it depends on the other
    'test_notebooks.py': {'mxnet', 'pytorch'},  # in a kernel that has both
    'test_across.py': {'mxnet', 'pytorch'},
    'test_documented_commands.py': {'mxnet', 'pytorch'},
    'test_ladder.py': {'mxnet', 'pytorch'},
    'test_pixels.py': {'mxnet', 'pytorch'},
    'test_resume.py': {'mxnet', 'pytorch'},  # on the other framework, too
}
"""Test file -> the frameworks without which it has nothing to test."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the files that need a framework which is not of this leg."""
    needs = NEEDS.get(collection_path.name, set())
    # what one framework lacks has no part in reliability, which takes minutes; without any, its
    # tests of the core run
    if collection_path.parent.name == 'reliability' and asked_backends():
        needs = set(BACKENDS)
    return True if needs - set(asked_backends()) else None


NUMPY_SEMANTICS = 'mxnet-set_np'
"""The backend of MXNet after ``npx.set_np()``, with which the book's MXNet tab begins."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what takes a ``backend`` once over the reference and those of the leg.

    The contract holds in both of MXNet's semantics; a leg, which is about what lacks, takes one.
    """
    names = list(asked_backends())
    if 'mxnet' in names and not LEG and 'contract' in metafunc.module.__file__:
        names.append(NUMPY_SEMANTICS)
    if 'backend' in metafunc.fixturenames:
        metafunc.parametrize('backend', ['reference', *names], indirect=True)
    if 'framework' in metafunc.fixturenames:
        metafunc.parametrize('framework', names, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for line in (
        'needs(framework): the test is about this framework',
        'framework: the test computes with a framework; every test that asks for one gets it',
        'slow: the test, or its file, takes seconds: it trains, or starts other processes',
    ):
        config.addinivalue_line('markers', line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what computes with a framework, and leave out what needs one that the leg has not."""
    asked = asked_backends()
    for item in items:
        parameter = getattr(getattr(item, 'callspec', None), 'params', {}).get('backend')
        fixtures = getattr(item, 'fixturenames', ())
        needs = NEEDS.get(item.path.name) or list(item.iter_markers('needs'))
        if needs or 'framework' in fixtures or parameter not in (None, 'reference'):
            item.add_marker('framework')
    out = [
        item
        for item in items
        if any(mark.args[0] not in asked for mark in item.iter_markers('needs'))
        or (not asked and 'framework' in getattr(item, 'fixturenames', ()))
    ]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)


THOROUGH = bool(os.environ.get('D2L_FT_THOROUGH'))
"""Whether the tests of reliability take their full numbers, as benchmarks/reliability.py asks."""


@pytest.fixture
def figure(record_property):
    """Return what notes a measured figure, for docs/reliability.md."""
    return lambda text: record_property('figure', text)


@pytest.fixture
def backend(request):
    """Return a backend, the reference included."""
    if request.param == 'reference':
        return importlib.import_module('reference_backend')
    return chosen(request)


@pytest.fixture
def framework(request):
    """Return a framework's backend."""
    return chosen(request)


def chosen(request):
    """Return the backend of a parameter, for MXNet in the semantics that it names."""
    name = request.param
    backend = get_backend('mxnet' if name == NUMPY_SEMANTICS else name)
    if name == NUMPY_SEMANTICS:
        import mxnet as mx

        mx.npx.set_np()
        request.addfinalizer(mx.npx.reset_np)
    return backend


@pytest.fixture(autouse=True, scope='module')
def drop_nets():
    """Free the nets of a file: Gluon's refer to themselves, so they wait for the collector."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Keep the user's cache and environment out of the tests."""
    monkeypatch.setenv('D2L_FT_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('D2L_FT_BACKEND', raising=False)


@pytest.fixture
def folder(tmp_path):
    """Return an image folder: train/ and test/ with a dark and a bright class."""
    return make_folder(tmp_path / 'photos')


def make_folder(root: Path, train: int = 10, test: int = 4) -> Path:
    """Write small JPEG files, dark or bright, of various sizes."""
    rng = np.random.default_rng(0)
    for part, count in (('train', train), ('test', test)):
        for level, name in ((60, 'dark'), (190, 'light')):
            place = root / part / name
            place.mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(40, 70, 2)
                image = np.clip(rng.normal(level, 30, (height, width, 3)), 0, 255)
                cv2.imwrite(str(place / f'{number:02d}.jpg'), image.astype(np.uint8))
    return root


def run_config(**changes):
    """Return the config of a run that never was."""
    from d2l_ft.runs.directory import RunConfig
    from d2l_ft.runs.settings import Settings

    known = {
        'backend': 'x', 'arch': 'resnet18', 'classes': ['a', 'b'], 'image_size': 32, 'data': 'x',
        'train_examples': 1, 'test_examples': 1, 'settings': Settings(),
    }  # fmt: skip
    return RunConfig(**(known | changes))
