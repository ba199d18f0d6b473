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

from d2l_ft.backend.graph_net import graph_nets
from d2l_ft.backend.registry import get_backend
from d2l_ft.convert.faults import FAULTS
from d2l_ft.convert.formats import read_model
from d2l_ft.convert.graph import read_graph
from d2l_ft.convert.observe import Plan, observe
from d2l_ft.convert.package import read_package, write_package
from d2l_ft.convert.source import translate
from d2l_ft.convert.verify import compare, responses
from d2l_ft.convert.verify_command import VerifyOptions, verify
from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import read_params, write_params

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.slow]

NAMES = ('classifier', 'attributes', 'small')


@pytest.fixture(scope='session')
def proofs(trained, folders, tmp_path_factory):
    """Return name -> (exit code, numbers, page, lines) of the proof with every fault planted."""
    root, found = tmp_path_factory.mktemp('proofs'), {}
    for name, prefix in trained.items():
        page, numbers, lines = root / f'{name}.html', root / f'{name}.json', []
        options = VerifyOptions(report=page, json_file=numbers)
        code = verify(folders[name], [prefix], options, lines.append)
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


def test_the_defect_of_mxnet_is_reproduced_on_purpose(trained, folders, tmp_path):
    numbers, lines = tmp_path / 'numbers.json', []
    options = VerifyOptions(as_mxnet=True, json_file=numbers)
    assert verify(folders['classifier'], [trained['classifier']], options, lines.append) == 0
    note = 'the gradient of relu1_gamma was multiplied by its value, as MXNet does'
    assert f'note      {note}' in lines
    found = json.loads(numbers.read_text())
    rows = {row['stage']: row for row in found['rows']}
    assert rows['gradient']['count'] == len(read_model([trained['classifier']]).arrays) - 6 + 1
    assert [each['name'] for each in found['defects']] == ['relu1_gamma']
    assert all(stages for stages in found['faults'].values() if stages is not None)


def test_a_model_that_was_edited_is_compared_by_its_outputs(trained, folders, tmp_path):
    folder = tmp_path / 'edited'
    shutil.copytree(folders['classifier'], folder)
    text = (folder / 'model.py').read_text()
    edited = text.replace('        return x\n', '        y = x\n        return y\n')
    assert edited != text
    (folder / 'model.py').write_text(edited)
    lines = []
    quick = VerifyOptions(steps=1, faults=False)
    assert verify(folder, [trained['classifier']], quick, lines.append) == 0
    assert (
        'note      model.py was edited: only its outputs were compared, not the values inside'
        in (lines)
    )
    assert lines[0].endswith(', 1 array')


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
    quick = VerifyOptions(faults=False, steps=0)
    symbol = Path(f'{prefix}-symbol.json')
    assert verify(folders['classifier'], [symbol, other], quick, lines.append) == 1
    assert lines[0].startswith('part      value of each node')
    assert lines[0].endswith('at conv1')
    assert any('from other files' in line for line in lines)
    folder = tmp_path / 'edited'
    shutil.copytree(folders['classifier'], folder)
    text = (folder / 'model.py').read_text()
    (folder / 'model.py').write_text(text.replace('F.relu(', 'F.gelu('))
    lines.clear()
    assert verify(folder, [prefix], quick, lines.append) == 1
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


def test_nodes_of_one_name_are_told_apart(tmp_path):
    """As of GluonCV's dla34, which has two poolings of one name."""
    import mxnet as mx

    x = mx.sym.var('data') * 2
    first = mx.sym.Pooling(x, kernel=(2, 2), name='pool')
    symbol = first + mx.sym.Pooling(x + 1, kernel=(2, 2), pool_type='avg', name='pool')
    symbol = mx.sym.FullyConnected(symbol, num_hidden=3, name='fc')
    symbol.save(str(tmp_path / 'net-symbol.json'))
    draws = np.random.default_rng(0)
    arrays = {'fc_weight': draws.standard_normal((3, 147)), 'fc_bias': draws.standard_normal(3)}
    write_params(tmp_path / 'net-0000.params', arrays)
    model = read_model([tmp_path / 'net'])
    assert model.notes == ['2 nodes are named pool: the second is called pool_2 here']
    write_package(model, tmp_path / 'net', shape=(3, 8, 8))
    quick = VerifyOptions(faults=False, steps=2)
    assert (
        verify(
            tmp_path / 'net',
            [tmp_path / 'net-symbol.json', tmp_path / 'net-0000.params'],
            quick,
            print,
        )
        == 0
    )


def test_a_net_ends_where_it_is_told_to(trained, tmp_path):
    prefix = trained['classifier']
    model = read_model([prefix])
    write_package(model, tmp_path / 'body', shape=(3, nets.SIDE, nets.SIDE), until='pool1')
    package = read_package(tmp_path / 'body')
    assert package.record['ends'] == ['pool1']
    assert set(package.record['unused']) == {'fc1_weight', 'fc1_bias'}
    quick = VerifyOptions(faults=False, steps=2)
    assert verify(tmp_path / 'body', [prefix], quick, print) == 0
    with pytest.raises(ModelError, match=r"has no node 'pool9': choose one, .* 'fc1', 'softmax'"):
        model.graph.until('pool9')


@pytest.mark.parametrize('kind', ['gelu', 'selu', 'elu'])
def test_activations_that_mxnet_computes_in_float32_are_proved(tmp_path, kind):
    """Of SELU, MXNet's gradient is wrong, and with it those of all layers before."""
    import mxnet as mx

    x = mx.sym.var('data')
    for number in range(3):
        x = mx.sym.Convolution(x, kernel=(3, 3), num_filter=4, name=f'conv{number}')
        x = mx.sym.LeakyReLU(x, act_type=kind, name=f'act{number}')
    symbol = mx.sym.FullyConnected(x, num_hidden=3, name='fc')
    symbol.save(str(tmp_path / 'net-symbol.json'))
    draws = np.random.default_rng(0)
    shapes = zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 12, 12))[0], strict=True)
    arrays = {
        name: draws.standard_normal(shape).astype(np.float32) / np.prod(shape[1:]) ** 0.5
        for name, shape in shapes
        if name != 'data'
    }
    write_params(tmp_path / 'net-0000.params', arrays)
    write_package(read_model([tmp_path / 'net']), tmp_path / 'folder', shape=(3, 12, 12))
    options = VerifyOptions(steps=5, json_file=tmp_path / 'proof.json')
    assert verify(tmp_path / 'folder', [tmp_path / 'net'], options, print) == 0
    numbers = json.loads((tmp_path / 'proof.json').read_text())
    wrong = {'data', *(f'conv{at}_{kind}' for at in range(3) for kind in ('weight', 'bias'))}
    assert {each['name'] for each in numbers['defects']} == (wrong if kind == 'selu' else set())
    assert {each['right'] for each in numbers['defects']} <= {'PyTorch'}


@pytest.mark.parametrize('prelu', [True, False])
def test_a_rounding_inside_that_falls_otherwise_is_no_difference(prelu):
    """A PReLU rounds to float32 inside, which a difference in the last place may change."""
    symbol = nets.classifier(prelu=prelu)
    shape = (2, 3, nets.SIDE, nets.SIDE)
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    shapes, _, states = symbol.infer_shape(data=shape)
    draws = np.random.default_rng(0)
    arrays = {
        name: draws.uniform(0.5, 1, each)
        for name, each in zip(names, [*shapes, *states], strict=True)
        if name not in ('data', 'softmax_label')
    }
    source = translate(read_graph(symbol.tojson()), arrays, shapes={'data': shape})
    net = graph_nets(get_backend('pytorch')).GraphNet(
        source.text, source.state, source.names, source.nodes, source.inputs, source.ends, 'float64'
    )
    plan = Plan({'data': draws.standard_normal(shape)}, source.ends, steps=0)
    values = observe(net, plan)
    near = responses(net, plan)
    assert net.rounds == prelu
    assert len(near) == 1 + prelu

    def verdict(size):
        """Return what is said where MXNet's logits are off by this part of the largest."""
        off = values['eval/fc1'] + size * np.abs(values['eval/fc1']).max()
        return compare(values, {**values, 'eval/fc1': off}, near)[0].state

    states = [verdict(size) for size in (1e-13, 1e-9, 1e-6)]
    assert states == ['equal', 'equal' if prelu else 'part', 'part']
