"""Fixtures for all tests: which backends run, a private cache, small image folders."""

import ast
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


def needs_of(path: Path) -> set[str]:
    """Return the frameworks that a file needs by its ``pytestmark``, without importing it."""
    return {
        argument.value
        for node in ast.parse(path.read_text(encoding='utf-8')).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'pytestmark'
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == 'pytest.mark.needs'
        for argument in call.args
    }


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the files that need a framework which is not of this leg: they may import it."""
    lacking = set(BACKENDS) - set(asked_backends())
    if not lacking or collection_path.suffix != '.py':
        return None
    # what one framework lacks has no part in reliability, which takes minutes; without any, its
    # tests of the core run
    reliability = collection_path.parent.name == 'reliability' and asked_backends()
    return True if reliability or needs_of(collection_path) & lacking else None


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
        'needs(*frameworks): the test, or its file, is about these frameworks',
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
        needs = any(item.iter_markers('needs'))
        if needs or 'framework' in fixtures or parameter not in (None, 'reference'):
            item.add_marker('framework')
    out = [
        item
        for item in items
        if any(set(mark.args) - set(asked) for mark in item.iter_markers('needs'))
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


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """Return name -> prefix of the files of small trained nets of MXNet."""
    import nets

    return nets.made(tmp_path_factory.mktemp('nets'))


@pytest.fixture(scope='session')
def folders(trained, tmp_path_factory):
    """Return name -> the folder that such a net was translated to."""
    import nets

    from d2l_ft.convert.formats import read_model
    from d2l_ft.convert.package import write_package

    root = tmp_path_factory.mktemp('translated')
    for name, prefix in trained.items():
        write_package(read_model([prefix]), root / name, shape=(3, nets.SIDE, nets.SIDE))
    return {name: root / name for name in trained}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave the modules and tests that are there by now out of each later collection."""
    gc.freeze()


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


def says(error, call, *arguments, **options):
    """Return the one line with which a call is refused."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert '\n' not in text
    return text
