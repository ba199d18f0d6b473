"""The public names: typed, alike in their arguments, each with an example that works."""

import ast
import doctest
import hashlib
import importlib
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_folder
from safetensors.numpy import save_file

import d2l_ft as d2l
from d2l_ft.backend.devices import resolve_devices
from d2l_ft.backend.registry import get_backend
from d2l_ft.data.hub import DATA_HUB
from d2l_ft.data.synthetic import tasks
from d2l_ft.errors import CheckpointError, DataError, OptionError
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.runs.settings import Settings
from d2l_ft.sources.pretrain import source_path
from d2l_ft.storage.cache import cache_dir

ROOT = Path(__file__).parents[2]
NAMES = [name for name in d2l.__all__ if name != '__version__']
SMALL = {'source': 'none', 'num_epochs': 1, 'batch_size': 8, 'image_size': 48, 'devices': 'cpu'}

GOOD = """
from d2l_ft import {module} as d2l

data: d2l.DataSet = d2l.load_data('sample', seed=1)
run = d2l.fine_tune(data.name, num_epochs=1, devices='cpu:2', image_size=48)
accuracy: float = run.evaluate().accuracy
label: str = run.predict('lunch.jpg')[0].class_name
"""

BAD = """
import d2l_ft
from d2l_ft import {module} as d2l

d2l_ft.load_datta('sample')
d2l.load_datta('sample')
d2l.load_data('sample', sed=1)
d2l.fine_tune('photos', num_epochs='five')
"""


def typed_names():
    """Return name -> module of the imports that a type checker sees."""
    tree = ast.parse((ROOT / 'd2l_ft/__init__.py').read_text())
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
    )
    found = {}
    for node in block.body:
        (name,) = node.names
        assert name.asname == name.name, 'otherwise it is not handed on'
        found[name.name] = node.module.removeprefix('d2l_ft.')
    return found


def test_type_checkers_see_the_names_of_the_table():
    assert typed_names() == d2l._NAMES


@pytest.mark.slow
@pytest.mark.parametrize('module', ['mxnet', 'torch'])
def test_a_type_checker_knows_the_names_and_refuses_others(module, tmp_path):
    pytest.importorskip('mypy', reason='it is not of this leg')
    for name, text in (('good', GOOD), ('bad', BAD)):
        (tmp_path / f'{name}.py').write_text(text.format(module=module))
    done = subprocess.run(
        [sys.executable, '-m', 'mypy', '--no-error-summary', tmp_path / 'good.py',
         tmp_path / 'bad.py'],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ': error: ' in line]
    assert [line.partition(': error: ')[0].rpartition('/')[2] for line in errors] == [
        'bad.py:5', 'bad.py:6', 'bad.py:7', 'bad.py:8',
    ], done.stdout + done.stderr  # fmt: skip
    assert 'no attribute "load_datta"' in errors[0]
    assert 'no attribute "load_datta"' in errors[1]
    assert 'Unexpected keyword argument "sed" for "load_data"' in errors[2]
    assert '"num_epochs" to "fine_tune" has incompatible type "str"; expected "int"' in errors[3]


BOOK = {
    'download_extract', 'show_images', 'set_figsize', 'plot', 'Animator', 'Accumulator', 'try_gpu',
    'resnet18', 'train_batch_ch13', 'evaluate_accuracy_gpu', 'train_fine_tuning', 'train_ch13',
}  # fmt: skip
"""Names whose first arguments are the book's, in its order."""

FIRST = {
    'get_backend': {'name'}, 'load_data': {'name'}, 'fine_tune': {'data'}, 'as_printed': {'net'},
    'load_source': {'backend'}, 'pretrained_net': {'source', 'backend'},
}  # fmt: skip
"""Function of ours -> arguments with a default that may be given by position."""


def test_options_are_keywords_and_have_one_name_everywhere():
    for name in NAMES:
        value = getattr(d2l, name)
        if not inspect.isfunction(value):
            continue
        given = inspect.signature(value).parameters.values()
        by_position = {
            each.name
            for each in given
            if each.default is not each.empty and each.kind != each.KEYWORD_ONLY
        }
        assert name in BOOK or by_position == FIRST.get(name, set()), name
        names = {each.name for each in given}
        assert not names & {'lr', 'rate', 'epochs', 'batch', 'ctx', 'device_list', 'progress'}, name
        for each in given:
            if each.name == 'devices':
                assert 'str' in str(each.annotation), name
                assert 'Sequence' in str(each.annotation), name


@pytest.mark.parametrize('name', sorted([*BOOK, *FIRST]))
def test_a_stated_exception_is_one(name):
    assert name in NAMES


def docstring(name):
    """Return the docstring of a public name; of a constant what stands behind it."""
    if not isinstance(value := getattr(d2l, name), str | dict | tuple):
        return inspect.getdoc(value)
    module = importlib.import_module(f'd2l_ft.{d2l._NAMES[name]}')
    body = ast.parse(inspect.getsource(module)).body
    places = [getattr(node, 'target', None) or getattr(node, 'targets', [None])[0] for node in body]
    at = next(i for i, place in enumerate(places) if getattr(place, 'id', '') == name)
    return inspect.cleandoc(body[at + 1].value.value)


@pytest.fixture(scope='module')
def workshop(tmp_path_factory):
    """Return a folder with all that the examples name: images, weights, a run, an archive."""
    root = tmp_path_factory.mktemp('examples')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('D2L_FT_HOME', str(root / 'cache'))
        patch.setenv('D2L_FT_BACKEND', 'pytorch')
        patch.chdir(root)
        tasks.write_target(cache_dir() / 'data' / f'sample-v{tasks.VERSION}', train=8, test=4)
        backend = get_backend()
        net = backend.place(backend.build_net('resnet18', len(tasks.SOURCE_CLASSES)))
        save_checkpoint(source_path('resnet18'), Checkpoint(backend.get_state(net)))
        save_file(backend.get_state(net), 'weights.safetensors')
        images = make_folder(root / 'photos', train=8, test=2)
        shutil.copy(images / 'test/light/00.jpg', 'lunch.jpg')
        shutil.copy(images / 'test/dark/00.jpg', 'dinner.png')
        shutil.copytree(images, root / 'zipped/hotdog')
        shutil.make_archive(str(cache_dir() / 'data/hotdog'), 'zip', root / 'zipped')
        options = SMALL | {'source': 'weights.safetensors'}
        d2l.fine_tune('photos', out='runs/mine', quiet=True, **options)
    return root


@pytest.fixture
def place(workshop, tmp_path, monkeypatch):
    """Return a copy of the workshop, which is the working directory."""
    folder = shutil.copytree(workshop, tmp_path / 'place')
    monkeypatch.setenv('D2L_FT_HOME', str(folder / 'cache'))
    monkeypatch.setenv('D2L_FT_BACKEND', 'pytorch')
    monkeypatch.chdir(folder)
    archive = folder / 'cache/data/hotdog.zip'
    known = dict(DATA_HUB)
    DATA_HUB['hotdog'] = (known['hotdog'][0], hashlib.sha1(archive.read_bytes()).hexdigest())
    yield folder
    DATA_HUB.clear()
    DATA_HUB.update(known)


@pytest.mark.slow
@pytest.mark.needs('mxnet', 'pytorch')
@pytest.mark.parametrize('name', NAMES)
def test_the_example_of_a_public_name_works(name, place):
    from matplotlib import pyplot as plt

    _, found, text = docstring(name).partition('\nExample:\n')
    assert found, f'{name} has no example'
    example = doctest.DocTestParser().get_doctest(text, {'d2l': d2l}, name, None, 0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    told = []
    result = doctest.DocTestRunner(optionflags=flags).run(example, out=told.append)
    plt.close('all')
    assert result.attempted, f'the example of {name} has no code'
    assert not result.failed, ''.join(told)


@pytest.mark.slow
def test_a_run_is_trained_used_and_gone_on_with(framework, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = d2l.fine_tune(folder, backend=framework, seed=3, quiet=True, **SMALL)
    assert capsys.readouterr().out == ''
    assert run.path.parent == Path('runs')
    assert run.path.name.endswith(f'{framework.NAME}-photos')
    assert {path.name for path in run.path.iterdir()} >= {'config.json', 'report.html'}
    assert run.classes == ['dark', 'light']
    assert [each.epoch for each in run.history['scratch']] == [1]

    again = d2l.fine_tune(
        out=run.path, resume=True, num_epochs=2, batch_size=8, backend=framework, bar=False
    )
    assert 'epoch 2/2' in capsys.readouterr().out
    assert [each.epoch for each in again.history['scratch']] == [1, 2]
    assert again.history == d2l.load_run(str(run.path)).history
    with pytest.raises(CheckpointError, match='`batch_size=8`'):
        d2l.fine_tune(out=run.path, resume=True, batch_size=4)

    found = again.evaluate()
    assert (len(found.samples), found.accuracy) == (8, again.history['scratch'][-1].test_acc)
    assert len(again.evaluate(folder / 'train').samples) == 20
    images = sorted((folder / 'test/dark').iterdir())
    by_path = again.predict(images)
    assert [each.path for each in by_path] == [str(path) for path in images]
    assert again.predict(folder / 'test/dark') == by_path
    assert again.predict(str(folder / 'test/dark/*.jpg'), bar=False) == by_path
    for each in by_path:
        assert sum(each.probabilities.values()) == pytest.approx(1)
        assert each.probabilities[each.class_name] == max(each.probabilities.values())
    assert again.predict([]) == []

    kept = load_checkpoint(max((run.path / 'checkpoints').iterdir())).model
    state = framework.get_state(framework.place(again.net()))
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
    with pytest.raises(CheckpointError, match='fine-tuned'):
        again.net(name='fine-tuned')


@pytest.mark.needs('mxnet', 'pytorch')
@pytest.mark.slow
def test_either_framework_opens_a_run(place):
    """The import line chooses, and a method may ask for the other."""
    mxnet, torch = (importlib.import_module(f'd2l_ft.{name}') for name in ('mxnet', 'torch'))
    one, other = mxnet.load_run('runs/mine'), torch.load_run('runs/mine')
    assert hasattr(one.net(), 'collect_params')
    assert type(one.net('pytorch')) is type(other.net())
    assert hasattr(one.net('pytorch'), 'state_dict')
    (here,), (there,) = one.predict('lunch.jpg'), other.predict('lunch.jpg')
    assert here.probabilities == pytest.approx(there.probabilities, abs=1e-5)
    assert one.predict('lunch.jpg', backend='pytorch') == [there]


@pytest.mark.needs('pytorch')
def test_what_cannot_be_done_is_told_by_the_name_of_the_argument(place):
    with pytest.raises(OptionError, match="no option 'learning_rat'"):
        d2l.fine_tune('photos', learning_rat=1)
    with pytest.raises(OptionError, match='`batch_size` is 0'):
        d2l.fine_tune('photos', batch_size=0)
    with pytest.raises(CheckpointError, match='`out`'):
        d2l.fine_tune('photos', resume=True)
    with pytest.raises(CheckpointError, match='`resume=True`'):
        d2l.fine_tune('photos', out='runs/mine', quiet=True, **SMALL)
    with pytest.raises(DataError, match='no-such'):
        d2l.fine_tune('no-such', quiet=True)
    assert os.listdir('runs') == ['mine'], 'a new directory that stays empty is removed'
    run = d2l.load_run('runs/mine')
    Path('bad.jpg').write_bytes(b'x')
    for path in ('bad.jpg', 'missing.jpg', 'cache/models'):
        with pytest.raises(DataError, match=path):
            run.predict(['lunch.jpg', path])


@pytest.mark.slow
def test_devices_may_be_text_or_a_sequence_everywhere(framework, folder):
    two = framework.devices('cpu:2')
    assert resolve_devices(framework, 'cpu:2') == resolve_devices(framework, tuple(two)) == two
    options = {'num_epochs': 1, 'data': str(folder), 'image_size': 48, 'quiet': True}
    losses = []
    for devices in ('cpu:2', two):
        net = framework.build_net('resnet18', 2)
        history = d2l.train_fine_tuning(net, 0.002, 8, devices=devices, **options)
        losses.append(history[-1].train_loss)
        run = d2l.fine_tune(
            folder, backend=framework, quiet=True, out=folder.parent / f'run{len(losses)}',
            **(SMALL | {'devices': devices}),
        )  # fmt: skip
        losses.append(run.history['scratch'][-1].train_loss)
    assert losses[:2] == losses[2:]


def test_the_defaults_are_those_of_the_options():
    signature = inspect.signature(d2l.fine_tune)
    defaults = Settings().values()
    for name, each in signature.parameters.items():
        if name in defaults:
            assert each.default == defaults[name], name


def test_unknown_name():
    with pytest.raises(AttributeError, match='no attribute'):
        _ = d2l.no_such_name
