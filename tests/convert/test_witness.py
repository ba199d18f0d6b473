"""What MXNet computes, written down in one place and compared in another."""

import ast
import json
import subprocess
import sys
import zipfile

import nets
import numpy as np
import pytest
from conftest import says

from d2l_ft.convert import command
from d2l_ft.convert.faults import FAULTS, Translation
from d2l_ft.convert.formats import read_model
from d2l_ft.convert.observe import Plan, observe, places
from d2l_ft.convert.package import read_package, write_package
from d2l_ft.convert.verify import Live, compare, prove
from d2l_ft.convert.verify_command import VerifyOptions, translation_maker, verify
from d2l_ft.convert.witness import is_witness, mxnet_maker, pack, read_witness, write_program
from d2l_ft.errors import ModelError, OptionError

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.slow]

NAMES = ('classifier', 'attributes', 'small')
SHAPE = (3, nets.SIDE, nets.SIDE)
QUICK = VerifyOptions(faults=False)


@pytest.fixture(scope='session')
def translated(tmp_path_factory):
    """Return name -> (prefix of a trained net, folder of its translation, witness)."""
    root = tmp_path_factory.mktemp('witness')
    (root / 'nets').mkdir()
    found = {}
    for name, prefix in nets.made(root / 'nets').items():
        write_package(read_model([prefix]), root / name, shape=SHAPE)
        command.witness([prefix], root / f'{name}.npz', input_shape=SHAPE)
        found[name] = (prefix, root / name, root / f'{name}.npz')
    return found


def changed(witness, key, change, target):
    """Write a witness with another array of one key."""
    with np.load(witness) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays[key] = change(arrays[key])
    target.write_bytes(pack(arrays))
    return target


@pytest.mark.parametrize('name', NAMES)
def test_a_witness_proves_what_the_net_itself_proves(translated, tmp_path, name):
    prefix, folder, witness = translated[name]
    found = {}
    for against in (prefix, witness):
        numbers = tmp_path / f'{against.name}.json'
        options = VerifyOptions(json_file=numbers)
        assert verify(folder, [against], options, print) == 0
        found[against] = json.loads(numbers.read_text())
    both = [each['rows'] for each in found.values()]
    assert [row['stage'] for row in both[0]] == [row['stage'] for row in both[1]]
    assert all(row['state'] == 'equal' for row in both[1])
    seen = [each['faults'] for each in found.values()]
    # what only the file tells is the scale that fix_gamma makes void
    lost = 'fix_gamma is ignored'
    assert {words: bool(seen[0][words]) for words in FAULTS if words != lost} == {
        words: bool(seen[1][words]) for words in FAULTS if words != lost
    }
    assert [each['name'] for each in found[prefix]['defects']] == [
        each['name'] for each in found[witness]['defects']
    ]
    assert found[witness]['facts']['witness']['mxnet'] == '1.9.1'
    assert found[witness]['facts']['files'] == found[prefix]['facts']['files']


@pytest.mark.parametrize('name', NAMES)
def test_the_program_for_old_machines_writes_a_witness(translated, tmp_path, name):
    """It runs without d2l_ft; today's MXNet needs names given back before it starts."""
    prefix, folder, _ = translated[name]
    program, out = tmp_path / 'witness.py', tmp_path / 'witness.npz'
    command.witness([prefix], program, input_shape=SHAPE)
    (params,) = prefix.parent.glob(f'{name}-*.params')
    # the module of the program is made in a process where d2l_ft is not to be found
    start = (
        'import runpy, sys, d2l_ft_mxnet.today, mxnet\n'
        'sys.modules.update({name: None for name in sys.modules if name.startswith("d2l_ft")})\n'
        'sys.argv = sys.argv[1:]\n'
        'runpy.run_path(sys.argv[0], run_name="__main__")\n'
    )
    subprocess.run(
        [sys.executable, '-c', start, program, f'{prefix}-symbol.json', params, '--out', out],
        check=True,
    )
    assert verify(folder, [out], QUICK, print) == 0
    inputs = read_witness(out).plan.inputs['data']
    np.save(tmp_path / 'mine.npy', inputs[:2] / 2)
    subprocess.run(
        [
            *(sys.executable, '-c', start, program, f'{prefix}-symbol.json', params),
            *('--out', out, '--inputs', tmp_path / 'mine.npy', '--steps', '2'),
        ],
        check=True,
    )
    written = read_witness(out)
    assert np.array_equal(written.plan.inputs['data'], inputs[:2] / 2)
    assert written.plan.steps == 2
    assert verify(folder, [out], QUICK, print) == 0


def test_the_program_has_nothing_that_python_3_6_lacks():
    tree = ast.parse(write_program({'data': SHAPE}, ['fc1']), feature_version=(3, 6))
    newer = ('removesuffix', 'removeprefix', 'strict', 'default_rng', 'dataclass')
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            every = (*arguments.args, *arguments.kwonlyargs)
            assert not node.returns
            assert not any(each.annotation for each in every)
            assert not arguments.posonlyargs
        elif isinstance(node, ast.AnnAssign):
            assert ast.unparse(node.annotation) == 'object'
        elif isinstance(node, ast.BinOp | ast.AugAssign):
            assert not isinstance(node.op, ast.BitOr)  # of dictionaries
        elif isinstance(node, ast.Attribute | ast.Name | ast.keyword):
            name = getattr(node, 'attr', None) or getattr(node, 'id', None) or node.arg
            assert name not in newer
        assert not isinstance(node, ast.NamedExpr)
    modules = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
        for alias in node.names
    }  # fmt: skip
    assert modules == {
        'argparse', 'hashlib', 'json', 'os', 'platform', 'sys', 'zlib', 'mxnet', 'numpy'
    }  # fmt: skip


@pytest.mark.parametrize('stage', ['eval', 'train', 'statistic', 'steps'])
def test_a_changed_number_parts(translated, tmp_path, stage):
    _, folder, witness = translated['small']
    with np.load(witness) as stored:
        key = [name for name in stored.files if name.startswith(f'observed/{stage}/')][-1]
    wrong = changed(witness, key, lambda array: array * (1 + 1e-5), tmp_path / 'wrong.npz')
    numbers = tmp_path / 'numbers.json'
    options = VerifyOptions(faults=False, json_file=numbers)
    assert verify(folder, [wrong], options, print) == 1
    states = {row['stage']: row['state'] for row in json.loads(numbers.read_text())['rows']}
    assert next(each for each in states if states[each] == 'part') == stage


def test_a_changed_gradient_is_one_that_mxnet_computes_wrongly(translated, tmp_path):
    _, folder, witness = translated['attributes']
    key = 'observed/gradient/conv_1_weight'
    wrong = changed(witness, key, lambda array: array * 1.5, tmp_path / 'wrong.npz')
    lines = []
    assert verify(folder, [wrong], QUICK, lines.append) == 3
    assert any('gradients of conv_1_weight part' in line for line in lines)
    assert any('in the witness conv_1_weight learns' in line for line in lines)


def test_finite_differences_decide_from_some_of_the_values(translated):
    """MXNet's wrong gradient of a PReLU is found in a sample of it, too."""
    prefix, folder, _ = translated['classifier']
    package, model = read_package(folder), read_model([prefix])
    draws = np.random.default_rng(0)
    inputs = {'data': draws.standard_normal((4, *SHAPE))}
    ends = package.record['ends']
    make = mxnet_maker(model, inputs, ends)
    translation = Translation(package.source, package.state, package.record['names'], model.arrays)
    ours = translation_maker(translation, package)
    for kept in (None, 3):
        plan = Plan(inputs, ends, steps=3, kept=kept)
        proof = prove(ours, Live(make), plan)
        assert [(each.name, each.right) for each in proof.defects] == [('relu1_gamma', 'PyTorch')]
        assert proof.verdict == 'equal'
        assert kept is None or proof.clean['gradient/conv0_weight'].shape == (kept,)


def test_the_values_that_are_kept_depend_on_the_name_alone():
    first, again = places('eval/a', 1000, 50), places('eval/a', 1000, 50)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, places('eval/b', 1000, 50))
    # as NumPy 1.14 draws them, too: RandomState does not change
    assert places('eval/a', 1000, 5).tolist() == [545, 867, 418, 17, 221]


def test_steps_that_a_wrong_gradient_spoils_are_not_judged(translated, tmp_path):
    """A witness holds the slopes of PReLUs; one that does not cannot be followed."""
    _, folder, witness = translated['classifier']

    def let_learn(facts):
        told = json.loads(facts.tobytes())
        told['plan']['held'] = []
        return np.frombuffer(json.dumps(told).encode(), np.uint8)

    other = changed(witness, 'facts', let_learn, tmp_path / 'other.npz')
    lines = []
    assert verify(folder, [other], QUICK, lines.append) == 3
    assert any('in the witness relu1_gamma learns' in line for line in lines)


def test_a_witness_of_another_net_and_options_it_cannot_follow(translated, tmp_path):
    _, folder, _ = translated['small']
    _, other, witness = translated['classifier']
    assert 'was translated from another net' in says(
        ModelError, verify, folder, [witness], QUICK, print
    )
    assert 'a witness' in says(
        OptionError,
        verify,
        other,
        [witness],
        VerifyOptions(size=20),
        print,
    )
    program = tmp_path / 'cut.npz'
    prefix = translated['classifier'][0]
    command.witness([prefix], program, input_shape=SHAPE, until='bn1')
    assert 'was translated from another net' in says(
        ModelError, verify, other, [program], QUICK, print
    )
    write_package(read_model([prefix]), tmp_path / 'cut', shape=SHAPE, until='bn1')
    assert 'has other inputs or outputs' in says(
        ModelError, verify, tmp_path / 'cut', [witness], QUICK, print
    )


def test_damaged_witnesses_are_refused_in_one_line(translated, tmp_path):
    _, folder, witness = translated['small']
    data, draws = witness.read_bytes(), np.random.default_rng(0)
    path = tmp_path / 'damaged.npz'
    refused = []
    for number in range(200):
        broken = bytearray(data)
        if number % 2:
            for at in draws.integers(len(data), size=8):
                broken[at] ^= 1 << draws.integers(8)
        else:
            del broken[draws.integers(len(data)) :]
        path.write_bytes(broken)
        try:
            read_witness(path)
        except ModelError as error:
            refused.append(str(error))
    assert not any('\n' in text for text in refused)
    assert len(refused) > 150  # flips in an archive's times and the like do no harm
    path.write_bytes(data[:100])
    assert not is_witness(path)
    assert not is_witness(folder)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('facts.npy', b'\x93NUMPY')
    assert is_witness(path)
    assert says(ModelError, verify, folder, [path], QUICK, print).startswith(
        f'{path} is no witness that can be read'
    )


def test_nothing_in_a_witness_is_unpickled(translated, tmp_path):
    witness = translated['small'][2]
    with np.load(witness) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays['input/data'] = np.array([print], dtype=object)
    (tmp_path / 'code.npz').write_bytes(pack(arrays))
    assert 'Object arrays cannot be loaded' in says(ModelError, read_witness, tmp_path / 'code.npz')


def test_the_sample_sees_two_channels_that_are_swapped():
    """4096 of a large array's values are enough: a channel of 512 has hundreds of them."""
    draws = np.random.default_rng(0)
    array = draws.standard_normal((4, 512, 7, 7))
    swapped = array.copy()
    swapped[:, [3, 400]] = swapped[:, [400, 3]]
    at = places('eval/conv', array.size, 4096)
    kept = {'eval/conv': array.ravel()[at]}
    other = {'eval/conv': swapped.ravel()[at]}
    assert compare(kept, other, [])[0].state == 'part'
    assert compare(kept, kept, [])[0].state == 'equal'


def test_what_is_observed_without_a_limit_is_whole(translated):
    prefix, folder, _ = translated['small']
    package, model = read_package(folder), read_model([prefix])
    inputs = {'data': np.random.default_rng(0).standard_normal((2, *SHAPE))}
    make = mxnet_maker(model, inputs, package.record['ends'])
    whole = observe(make('float64'), Plan(inputs, package.record['ends'], steps=1))
    some = observe(make('float64'), Plan(inputs, package.record['ends'], steps=1, kept=10))
    assert whole.keys() == some.keys()
    assert max(array.size for array in some.values()) == 10
    for key, array in whole.items():
        if array.size > 10:
            array = array.ravel()[places(key, array.size, 10)]
        assert np.array_equal(array, some[key], equal_nan=True)
