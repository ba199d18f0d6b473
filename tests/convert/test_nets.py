"""Trained nets of Module and Gluon, from their files to a folder that is proved."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import nets
import numpy as np
import pytest

from d2l_ft.convert import command
from d2l_ft.convert.faults import FAULTS
from d2l_ft.convert.formats import read_model
from d2l_ft.convert.package import read_package, write_package
from d2l_ft.convert.source import translate
from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import read_params, write_params

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.slow]

NAMES = ('classifier', 'attributes', 'small')


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """Return name -> prefix of the files of small trained nets."""
    return nets.made(tmp_path_factory.mktemp('nets'))


@pytest.fixture(scope='session')
def folders(trained, tmp_path_factory):
    """Return name -> the folder that a net was translated to."""
    root = tmp_path_factory.mktemp('translated')
    for name, prefix in trained.items():
        write_package(read_model([prefix]), root / name, shape=(3, nets.SIDE, nets.SIDE))
    return {name: root / name for name in trained}


@pytest.fixture(scope='session')
def proofs(trained, folders, tmp_path_factory):
    """Return name -> (exit code, numbers, page, lines) of the proof with every fault planted."""
    root, found = tmp_path_factory.mktemp('proofs'), {}
    for name, prefix in trained.items():
        page, numbers, lines = root / f'{name}.html', root / f'{name}.json', []
        options = command.VerifyOptions(report=page, json_file=numbers)
        code = command.verify(folders[name], [prefix], options, lines.append)
        found[name] = (code, json.loads(numbers.read_text()), page.read_text(), lines)
    return found


@pytest.mark.parametrize('name', NAMES)
def test_a_translation_is_proved_equal(proofs, name):
    code, numbers, page, lines = proofs[name]
    assert (code, numbers['verdict'], lines[-3][:6]) == (0, 'equal', 'Equal:')
    stages = {row['stage']: row for row in numbers['rows']}
    assert list(stages) == ['eval', 'train', 'gradient', 'statistic', 'steps', 'float32']
    assert all(row['state'] == 'equal' for row in stages.values())
    assert stages['eval']['error'] < 1e-12
    assert 'Equal: the translation computes' in page
    assert numbers['facts']['arrays']['unused'] == {}


@pytest.mark.parametrize('name', NAMES)
def test_every_fault_that_a_net_can_have_is_seen(proofs, name):
    seen = proofs[name][1]['faults']
    assert list(seen) == list(FAULTS)
    assert {words: stages for words, stages in seen.items() if stages == []} == {}


def test_every_fault_is_planted_in_one_of_the_nets(proofs):
    planted = {words for _, numbers, _, _ in proofs.values()
               for words, stages in numbers['faults'].items() if stages}  # fmt: skip
    assert planted == set(FAULTS)


def test_the_gradient_of_a_prelu_is_wrong_in_mxnet_and_finite_differences_say_so(proofs):
    """A symbol's PReLU after a layer overwrites the input that the gradient needs."""
    for name in ('classifier', 'small'):
        (defect,) = proofs[name][1]['defects']
        assert defect['right'] == 'PyTorch'
        assert abs(defect['measured'] - defect['ours']) < 0.01 * abs(defect['ours'])
        assert abs(defect['measured'] - defect['theirs']) > 0.1 * abs(defect['ours'])
    assert proofs['attributes'][1]['defects'] == []


def test_files_of_every_age_give_one_translation(trained, tmp_path):
    for name in NAMES:
        prefix = trained[name]
        (params,) = prefix.parent.glob(f'{name}-*.params')
        model = read_model([prefix])
        wanted = translate(model.graph, model.arrays)
        # Gluon's statistics have names that MXNet would not give them: it wrote none so
        for age in ('attr', 'param') if name == 'small' else ('attr', 'param', 'states'):
            symbol = tmp_path / f'{name}-{age}.json'
            symbol.write_text(nets.older(Path(f'{prefix}-symbol.json').read_text(), age))
            model = read_model([params, symbol])
            found = translate(model.graph, model.arrays)
            assert found.text == wanted.text
            assert all(
                np.array_equal(found.state[each], wanted.state[each]) for each in wanted.state
            )


def test_a_folder_an_archive_and_parameters_of_other_types_give_the_same(trained, tmp_path):
    prefix = trained['classifier']
    wanted = translate(*parts(read_model([prefix])))
    folder = tmp_path / 'model'
    folder.mkdir()
    shutil.copy(f'{prefix}-symbol.json', folder / 'image-classification-symbol.json')
    shutil.copy(f'{prefix}-0006.params', folder / 'image-classification-0003.params')
    shapes = [{'shape': [1, 3, nets.SIDE, nets.SIDE], 'name': 'data'}]
    (folder / 'model-shapes.json').write_text(json.dumps(shapes))
    with tarfile.open(tmp_path / 'model.tar.gz', 'w:gz') as archive:
        archive.add(folder, 'model')
    for path in (folder, tmp_path / 'model.tar.gz'):
        model = read_model([path])
        assert model.shapes == {'data': (1, 3, nets.SIDE, nets.SIDE)}
        assert translate(*parts(model)).text == wanted.text
    arrays = read_params(f'{prefix}-0006.params')
    write_params(folder / 'image-classification-0004.params', {
        name: array.astype(np.float16) for name, array in arrays.items()
    })  # fmt: skip
    model = read_model([folder])
    assert model.notes == ['parameters of 2 epochs are there: those of the last, 4, are taken']
    half = translate(*parts(model))
    assert half.text == wanted.text
    assert all(array.dtype == np.float32 for array in half.state.values())


def parts(model):
    """Return what ``translate`` takes of a model."""
    return model.graph, model.arrays


@pytest.mark.parametrize('name', NAMES)
def test_a_folder_needs_torch_alone_checks_itself_and_learns(folders, name, tmp_path):
    """In a process that cannot import d2l_ft or MXNet: at another batch and with a new head."""
    folder = tmp_path / 'copy'
    shutil.copytree(folders[name], folder)
    script = f"""
import sys
for each in ('d2l_ft', 'mxnet', 'gluoncv'):
    sys.modules[each] = None
sys.path.insert(0, {str(folder)!r})
import torch, check
from model import Model
net = Model().eval()
head = net.replace_head(7) if hasattr(net, 'replace_head') else None
x = torch.randn(5, 3, {nets.SIDE}, {nets.SIDE})
out = net(x)
out = out if isinstance(out, tuple) else (out,)
if head is not None:
    assert out[0].shape == (5, 7), out[0].shape
optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
before = sum(each.square().mean() for each in out)
before.backward()
optimizer.step()
after = net(x)
after = after if isinstance(after, tuple) else (after,)
assert sum(each.square().mean() for each in after) < before
"""
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(
        [sys.executable, '-c', script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'output 0: ' in done.stdout


def test_check_refuses_other_weights(folders, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / 'copy'
    shutil.copytree(folders['classifier'], folder)
    state = load_file(folder / 'model.safetensors')
    state['conv1.weight'] *= np.float32(1.0001)
    save_file(state, folder / 'model.safetensors')
    done = subprocess.run([sys.executable, 'check.py'], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'this is not what the net computed' in done.stderr


def test_another_net_is_not_proved_equal(trained, folders, tmp_path):
    """The parameters of another epoch, and a layer that was edited in model.py."""
    prefix = trained['classifier']
    arrays = read_params(f'{prefix}-0006.params')
    arrays['arg:conv1_weight'] = arrays['arg:conv1_weight'] * np.float32(1.001)
    other = tmp_path / 'other.params'
    write_params(other, arrays)
    lines = []
    quick = command.VerifyOptions(faults=False, steps=0)
    symbol = Path(f'{prefix}-symbol.json')
    assert command.verify(folders['classifier'], [symbol, other], quick, lines.append) == 1
    assert lines[0].startswith('part      value of each node')
    assert lines[0].endswith('at conv1')
    assert any('from other files' in line for line in lines)
    folder = tmp_path / 'edited'
    shutil.copytree(folders['classifier'], folder)
    text = (folder / 'model.py').read_text()
    (folder / 'model.py').write_text(text.replace('F.relu(', 'F.gelu('))
    lines.clear()
    assert command.verify(folder, [prefix], quick, lines.append) == 1
    assert lines[0].endswith('at relu0')


def test_logits_come_out_unless_the_softmax_is_kept(trained):
    model = read_model([trained['classifier']])
    assert 'softmax' not in translate(model.graph, model.arrays).text.split('def forward')[1]
    kept = translate(model.graph, model.arrays, keep_softmax=True)
    assert kept.text.splitlines()[-2].strip() == 'x = F.softmax(x, dim=1)  # softmax'
    assert kept.head == ''
    two = translate(*parts(read_model([trained['attributes']])), keep_softmax=True)
    assert 'F.softmax(' in two.text
    assert 'torch.sigmoid(' in two.text


def test_a_net_ends_where_it_is_told_to(trained, tmp_path):
    prefix = trained['classifier']
    model = read_model([prefix])
    write_package(model, tmp_path / 'body', shape=(3, nets.SIDE, nets.SIDE), until='pool1')
    package = read_package(tmp_path / 'body')
    assert package.record['ends'] == ['pool1']
    assert set(package.record['unused']) == {'fc1_weight', 'fc1_bias'}
    quick = command.VerifyOptions(faults=False, steps=2)
    assert command.verify(tmp_path / 'body', [prefix], quick, print) == 0
    with pytest.raises(ModelError, match=r"has no node 'pool9': its last ones are .*fc1, softmax"):
        model.graph.until('pool9')
