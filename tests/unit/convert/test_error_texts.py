"""What the errors of the commands inspect, convert and verify say."""

import copy
import json
import re
import shutil

import numpy as np
import pytest
import symbols
from click.testing import CliRunner
from conftest import make_folder, says

from d2l_ft.cli.convert import read_shape
from d2l_ft.cli.main import main
from d2l_ft.convert import zoo
from d2l_ft.convert.formats import read_files, read_model
from d2l_ft.convert.graph import Attributes, Node, read_graph
from d2l_ft.convert.package import (
    first_width,
    input_shape,
    make_net,
    read_package,
    write_package,
)
from d2l_ft.convert.verify_command import VerifyOptions, verify
from d2l_ft.convert.witness import pack, read_witness
from d2l_ft.convert.zoo import find, stored
from d2l_ft.errors import D2LFTError, ModelError, OptionError
from d2l_ft.models.file_kinds import file_kind
from d2l_ft.models.gluon_params import write_params


def test_a_shape_that_is_none():
    for text in ('x', '3,,4', '0,3', '', '3.5'):
        assert says(OptionError, read_shape, text) == (
            f'`input_shape` {text!r} is no shape: give one such as 3,224,224'
        )


def test_a_file_that_cannot_be_read(tmp_path, closed):
    files = symbols.write(tmp_path / 'net')
    missing = tmp_path / 'none'
    wanted = f'cannot read {missing}: No such file or directory'
    assert says(ModelError, file_kind, missing) == wanted
    assert says(ModelError, read_model, [missing, files[0]]) == wanted
    folder, as_another = closed
    for path in symbols.write(folder / 'net'):
        path.chmod(0)
        with as_another():
            text = says(ModelError, read_model, [folder / 'net'])
        assert text == f'cannot read {path}: Permission denied'
        path.unlink()


def test_a_path_that_is_no_regular_file(tmp_path):
    files = symbols.write(tmp_path / 'net')
    assert says(ModelError, read_model, [tmp_path, files[0]]) == (
        f'{tmp_path} is a folder: give the file itself'
    )


def test_files_that_are_no_net_or_too_many(tmp_path):
    files = symbols.write(tmp_path / 'net', epoch=1)
    (tmp_path / 'page').write_text('<html>')
    assert says(ModelError, read_model, [files[0], tmp_path / 'page']) == (
        f'{tmp_path / "page"} is a page of HTML, as a download that failed leaves; give a symbol '
        'file and parameters of MXNet'
    )
    assert says(ModelError, read_model, [*files, files[1].rename(tmp_path / 'x'), files[0]]) == (
        f'cannot read {files[1]}: No such file or directory'
    )
    others = symbols.write(tmp_path / 'other')
    assert says(ModelError, read_model, [files[0], others[0], others[1]]) == (
        '2 symbol files and 1 files of parameters: name one of each'
    )


def test_a_prefix_without_files(tmp_path):
    prefix = tmp_path / 'net'
    assert says(ModelError, read_model, [prefix]) == (
        f'there is no {prefix}, and no net-symbol.json beside it: give the files of a net, a '
        'folder, an archive or the prefix of its files'
    )


def test_a_folder_without_a_net_or_with_several(tmp_path):
    assert says(ModelError, read_model, [tmp_path]) == (
        f'{tmp_path} has no -symbol.json and 0 files of parameters: give a folder with one net'
    )
    files = symbols.write(tmp_path / 'a', epoch=1)
    first, second = files[1].rename(tmp_path / 'x.params'), tmp_path / 'y.params'
    shutil.copy(first, second)
    assert says(ModelError, read_model, [tmp_path]) == (
        f'{tmp_path} has 2 files of parameters, none of them a-0000.params or of another epoch: '
        'name one beside the -symbol.json'
    )
    symbols.write(tmp_path / 'b')
    assert says(ModelError, read_model, [tmp_path]) == (
        f'{tmp_path} has 2 nets: name one, such as a-symbol.json, b-symbol.json'
    )


NOT_SYMBOLS = {
    '{': 'it is no JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char '
         '1))',
    '{"a": ' + '[' * 100_000: 'it is no JSON (maximum recursion depth exceeded',
    '{"nodes": 1}': 'it has no list of nodes, as a symbol file has',
    '{"nodes": []}': 'it has 0 nodes',
    '{"nodes": [1]}': 'node 0 is no object',
    '{"nodes": [{"op": "null"}]}': 'node 0 has no operator or no name',
    '{"nodes": [{"op": "null", "name": "a", "attrs": [1]}]}':
        "node 'a' has attributes that are no object",
    '{"nodes": [{"op": "null", "name": "a", "inputs": 1}]}': 'its inputs are no list',
    '{"nodes": [{"op": "relu", "name": "a", "inputs": [[0]]}]}':
        'an input or a head is not two or three numbers',
    '{"nodes": [{"op": "relu", "name": "a", "inputs": [[0, 0]]}]}':
        'an input or a head names node 0, which is not before it',
    '{"nodes": [{"op": "null", "name": "a"}, {"op": "null", "name": "b", "inputs": [[0, 0]]}]}':
        "the variable 'b' has inputs",
}  # fmt: skip


@pytest.mark.parametrize('text', NOT_SYMBOLS)
def test_a_symbol_file_that_is_damaged(text, tmp_path):
    path = tmp_path / 'x-symbol.json'
    path.write_text(text)
    found = says(ModelError, read_model, [path])
    assert found.startswith(f'{path} is no symbol file ({NOT_SYMBOLS[text]}')
    assert found.endswith('): give the -symbol.json of a net')


def test_parameters_that_are_damaged(tmp_path):
    path, one = tmp_path / 'x.params', np.ones(1, np.float32)
    write_params(path, {'arg:a': one, 'aux:a': one})
    assert says(ModelError, read_model, [path]) == (
        f'{path} has a name both as arg: and as aux:; save the net again'
    )
    path.write_bytes(path.read_bytes()[:30])
    assert says(ModelError, read_model, [path]) == (
        f'{path} is damaged or no .params file (it claims 2 entries)'
    )


def test_a_node_that_is_not_there():
    text, _ = symbols.images()
    assert says(ModelError, read_graph(text).until, 'pool9') == (
        "the graph has no node 'pool9': choose one, such as the last: 'conv', 'pool', 'flat', "
        "'fc', 'softmax'"
    )


def test_attributes_that_are_not_understood():
    attrs = Attributes(Node('op', 'n', {'bad': '(', 'half': '1.5', 'far': '99', 'text': '"x"',
                                        'none': '(None,)'}, [], 'op'))  # fmt: skip
    for call, name, value in (
        (attrs.integers, 'bad', '('), (attrs.axis, 'half', '1.5'), (attrs.axis, 'far', '99'),
        (attrs.number, 'text', 'x'), (attrs.integers, 'none', '(None,)'),
        (attrs.optional_integers, 'text', 'x'),
    ):  # fmt: skip
        default = () if 'integers' in call.__name__ else (1,)
        assert says(ModelError, call, name, *default) == (
            f"op 'n' has {name}={value}, which is not understood: save the net again"
        )


def test_a_graph_that_cannot_be_translated():
    advice = 'give a node before it as `until`'
    text = symbols.symbol('data', ('Custom', 'c', ['data'], {}))
    assert says(ModelError, symbols.translated, text) == (
        f"there is no rule for the operator Custom ('c'): {advice}"
    )
    text = symbols.symbol('data', ('Activation', 'a', ['data'], {'act_type': 'new'}))
    assert says(ModelError, symbols.translated, text) == (
        f"Activation 'a' cannot be translated (act_type=new): {advice}"
    )
    assert says(ModelError, symbols.translated, symbols.DENSE, {}) == (
        "FullyConnected 'fc' needs 'fc_weight', which the parameters lack: give those of this net"
    )
    text = symbols.symbol('data', ('relu', 'a', ['data'], {}), ('relu', 'b', [('a', 1)], {}))
    assert says(ModelError, symbols.translated, text) == (
        "relu 'a' cannot be translated (its output 1 is needed): give a node before that as `until`"
    )
    text = symbols.symbol('fc_bias', ('relu', 'a', ['fc_bias'], {}))
    assert says(ModelError, symbols.translated, text) == (
        'the graph has no input, every variable is a stored array: give the whole net'
    )


def test_two_inputs_of_one_name():
    text = symbols.symbol('a', 'b', ('elemwise_add', 'sum', ['a', 'b'], {}))
    assert says(ModelError, symbols.translated, text.replace('"b"', '"a"')) == (
        "two inputs have the name 'a': rename one of them"
    )


def net(tmp_path, text=symbols.DENSE, stored=symbols.DENSE_ARRAYS):
    """Return a net that was read from files."""
    return read_model(symbols.write(tmp_path / 'net', text, stored))


def test_a_shape_of_the_input_that_is_not_known(tmp_path):
    text = symbols.symbol('data', ('relu', 'r', ['data'], {}))
    model = net(tmp_path, text)
    assert says(ModelError, first_width, model.graph, model.arrays) == (
        'the net has no layer that tells the width of its input: give `input_shape`'
    )
    text = symbols.symbol('a', 'b', ('elemwise_add', 'sum', ['a', 'b'], {}))
    model = net(tmp_path, text)
    assert says(ModelError, input_shape, model, symbols.translated(text), None) == (
        "the net takes 2 inputs ('a', 'b'), of which no shape is known: put a model-shapes.json "
        'beside it'
    )


@pytest.mark.needs('pytorch')
def test_a_shape_of_the_input_that_does_not_fit(tmp_path):
    model = net(tmp_path)
    source = symbols.translated(symbols.DENSE)
    made = make_net(source)
    assert says(ModelError, input_shape, model, source, made, (4,)) == (
        'the net does not take `input_shape` (4,): mat1 and mat2 shapes cannot be multiplied (1x4 '
        'and 3x2)'
    )
    text = symbols.symbol(
        'data', 'conv_weight', 'fc_weight', 'fc_bias',
        ('Convolution', 'conv', ['data', 'conv_weight'],
         {'kernel': '(3, 3)', 'num_filter': '2', 'no_bias': 'True'}),
        ('FullyConnected', 'fc', ['conv', 'fc_weight', 'fc_bias'], {'num_hidden': '2'}),
    )  # fmt: skip
    stored = symbols.arrays(conv_weight=(2, 3, 3, 3), fc_weight=(2, 7), fc_bias=(2,))
    model, source = net(tmp_path, text, stored), symbols.translated(text, stored)
    text = says(ModelError, input_shape, model, source, make_net(source))
    assert text.startswith('no size of the input fits (tried (3, 224, 224): mat1 and mat2 ')
    assert text.endswith('): give `input_shape`, such as 3,224,224')
    wrong = {**symbols.DENSE_ARRAYS, 'fc_bias': np.ones(5, np.float32)}
    text = says(ModelError, make_net, symbols.translated(symbols.DENSE, wrong))
    assert text.startswith('the translation cannot take its weights: ')
    assert 'size mismatch for fc.bias' in text


def test_a_folder_that_cannot_be_written(tmp_path):
    model, target = net(tmp_path), tmp_path / 'out'
    for taken in (tmp_path, tmp_path / 'net-symbol.json'):
        assert says(ModelError, write_package, model, taken) == (
            f'{taken} is not an empty folder: give a new one'
        )
    alone = read_files([tmp_path / 'net-0000.params'])
    assert says(ModelError, write_package, alone, target) == (
        'there is no graph: give the -symbol.json beside the parameters'
    )
    alone = read_model([tmp_path / 'net-symbol.json'])
    assert says(ModelError, write_package, alone, target) == (
        'there are no parameters: give the .params file beside the graph'
    )
    assert not target.exists()


def damaged(folder, name, change):
    """Change a JSON file of a folder."""
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))


@pytest.mark.needs('pytorch')
def test_a_folder_that_is_none_of_convert(tmp_path):
    folder, copy = tmp_path / 'out', tmp_path / 'copy'
    write_package(net(tmp_path), folder)
    for path in (tmp_path / 'none', tmp_path / 'net-symbol.json', tmp_path):
        assert says(ModelError, read_package, path) == (
            f'{path} has no names.json: give a folder of d2l-ft convert'
        )
    for name, change, cause in (
        ('names.json', lambda data: data.update(format=2), 'names.json is of another format'),
        ('names.json', lambda data: data.pop('ends'),
         "names.json has no 'ends', or another kind of it"),
        ('names.json', lambda data: data.update(nodes={}),
         "names.json has no 'nodes', or another kind of it"),
        ('preprocess.json', lambda data: data.clear(), "preprocess.json has no 'in_the_graph'"),
    ):  # fmt: skip
        shutil.copytree(folder, copy)
        damaged(copy, name, change)
        assert says(ModelError, read_package, copy) == (
            f'{copy} is damaged ({cause}): convert the net again'
        )
        shutil.rmtree(copy)
    for name in ('names.json', 'model.safetensors', 'preprocess.json', 'model.py'):
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(b'\xff\xfe')
        text = says(ModelError, read_package, copy)
        assert text.startswith(f'{copy} is damaged (')
        assert text.endswith('): convert the net again')
        shutil.rmtree(copy)


def refusal(folder, paths, **options):
    """Return the line with which a proof is refused."""
    quick = VerifyOptions(faults=False, steps=0, **options)
    return says(D2LFTError, verify, folder, paths, quick, print)


@pytest.mark.needs('pytorch')
def test_a_proof_that_cannot_be_made(tmp_path):
    folder, files = tmp_path / 'out', symbols.write(tmp_path / 'net')
    write_package(read_model(files), folder)
    assert refusal(folder, files[:1]) == (
        'the net to compare with needs its parameters: give a symbol file and parameters of MXNet, '
        'a folder, an archive or the prefix of the files'
    )
    assert refusal(folder, files[1:]) == (
        'no net of Gluon or GluonCV has these names and shapes: give the -symbol.json beside the '
        'parameters'
    )
    assert refusal(folder, files, arch='resnet18_v2') == (
        '`arch` is for parameters without a symbol file, and here is one: leave it out'
    )
    assert refusal(folder, files, images=[str(folder)]) == (
        f"'{folder}' has no image (.jpg, .jpeg, .png): give images"
    )
    photos = make_folder(tmp_path / 'photos', train=1, test=1)
    assert refusal(folder, files, images=[str(photos)]) == (
        '`images` need a net with one input, of 1 or 3 channels: leave them out'
    )
    text, stored = symbols.DENSE.replace('fc_', 'x_'), symbols.arrays(x_weight=(2, 3), x_bias=(2,))
    other = symbols.write(tmp_path / 'other', text, stored)
    assert refusal(folder, other, images=()) == (
        f'{folder} was translated from another net, which has fc_weight: give the files of that one'
    )


def write_witness(path, outputs=('fc',), **changes):
    """Write a witness of the net of ``symbols`` by hand, with other facts."""
    arrays = {'fc_weight': np.ones((2, 3)), 'fc_bias': np.ones(2), 'data': np.ones((4, 3))}
    values = {f'{stage}/fc': np.ones((4, 2)) for stage in ('single', 'near')}
    plan = {
        'steps': 1, 'rate': 0.01, 'momentum': 0.9, 'decay': 0, 'seed': 0, 'kept': 10,
        'outputs': list(outputs), 'held': [],
    }  # fmt: skip
    facts = {
        'format': 1, 'files': {}, 'versions': {}, 'plan': plan, 'error': None,
        'parameters': ['fc_weight', 'fc_bias'], **changes,
    }  # fmt: skip
    found = {
        'facts': np.frombuffer(json.dumps(facts).encode(), np.uint8),
        'input/data': np.ones((4, 3)),
        'observed/eval/fc': np.ones((4, 2)),
        **values,
        **{f'observed/gradient/{name}': array for name, array in arrays.items()},
    }
    path.write_bytes(pack(found))
    return path


@pytest.mark.needs('pytorch')
def test_a_witness_that_cannot_be_used(tmp_path):
    folder, path = tmp_path / 'out', tmp_path / 'witness.npz'
    write_package(read_model(symbols.write(tmp_path / 'net')), folder)
    for changes, cause in (
        ({'format': 2}, 'its format is of another version of d2l-ft'),
        ({'versions': []}, "it has no 'versions', or another kind of it"),
        ({'outputs': []}, 'an output lacks'),
        ({'outputs': ['other']}, 'an output lacks'),
    ):
        assert refusal(folder, [write_witness(path, **changes)]) == (
            f'{path} is no witness that can be read ({cause}): write it again'
        )
    assert refusal(folder, [write_witness(path)], images=['x.jpg']) == (
        '`images`: a witness has inputs of its own, leave out images and size'
    )
    record = json.loads((folder / 'names.json').read_text())
    (folder / 'names.json').write_text(json.dumps({**record, 'ends': ['other']}))
    assert refusal(folder, [write_witness(path)]) == (
        f'{path} has other inputs or outputs than {folder}: write the witness again, for the net '
        'of this folder'
    )
    witness = read_witness(write_witness(path))
    plan = witness.plan._replace(held=frozenset({'fc_bias'}))
    assert says(ModelError, witness.observe, plan) == (
        'the steps were not compared: in the witness fc_bias learns, whose gradient is wrong in '
        'MXNet'
    )
    assert witness.observe(plan._replace(steps=0)) == witness.observed
    other = read_witness(write_witness(path, error='MXNet does not compute this'))
    assert says(ModelError, other.observe, plan) == 'MXNet does not compute this'


@pytest.mark.needs('mxnet', 'pytorch')
def test_a_folder_that_cannot_be_computed_with(tmp_path):
    folder, files = tmp_path / 'out', symbols.write(tmp_path / 'net')
    write_package(read_model(files), folder)
    text = (folder / 'model.py').read_text()
    (folder / 'model.py').write_text(text.replace('return x', 'return missing'))
    assert refusal(folder, files) == (
        "the translation does not compute with data (4, 3): name 'missing' is not defined"
    )
    (folder / 'model.py').write_text(text + '\n  x')
    found = refusal(folder, files)
    assert found.startswith(f'{folder} cannot be computed with (')
    assert 'unindent does not match any outer indentation level' in found
    assert found.endswith('): convert the net again')


def test_the_command_line_shows_flags(tmp_path):
    files = symbols.write(tmp_path / 'net')
    done = CliRunner().invoke(main, ['convert', str(files[0]), '--to', 'x', '--input-shape', 'y'])
    assert (done.exit_code, done.output) == (
        2, "d2l-ft: --input-shape 'y' is no shape: give one such as 3,224,224\n",
    )  # fmt: skip


@pytest.mark.needs('mxnet', 'pytorch')
def test_a_size_that_mxnet_does_not_compute(tmp_path):
    """A pooling that is larger than the image."""
    import mxnet as mx

    x = mx.sym.Pooling(mx.sym.var('data'), kernel=(5, 5), pool_type='avg', name='pool')
    x = mx.sym.FullyConnected(x, num_hidden=2, name='fc')
    files = symbols.write(
        tmp_path / 'net', x.tojson(), symbols.arrays(fc_weight=(2, 3), fc_bias=(2,))
    )
    write_package(read_model(files), tmp_path / 'out', shape=(3, 5, 5))
    assert refusal(tmp_path / 'out', files, size=4).startswith(
        'the translation does not compute with data (4, 3, 4, 4): Given input size: (3x4x4).'
    )


def test_parameters_that_are_of_no_net_or_of_several(monkeypatch):
    arrays = symbols.arrays(fc_weight=(2, 3))
    assert says(ModelError, find, arrays, 'resnet19_v2') == (
        "neither zoo has 'resnet19_v2': give the -symbol.json, or one of resnet18_v2, "
        'resnet152_v2, resnet101_v2, resnet50_v2, resnet34_v2, resnet18_v1'
    )
    assert says(ModelError, find, arrays, 'resnet18_v2') == (
        'resnet18_v2 has not these names and shapes: the parameters are of another net, for which '
        'the -symbol.json is needed'
    )
    assert says(ModelError, find, arrays) == (
        'no net of Gluon or GluonCV has these names and shapes: give the -symbol.json beside the '
        'parameters'
    )
    entry = stored()['gluon/alexnet']
    other = copy.deepcopy(entry)
    other['nodes'][3][2]['stride'] = '(2, 2)'
    monkeypatch.setattr(zoo, 'stored', lambda: {'a/one': entry, 'b/one': entry, 'a/two': other})
    sizes = [each[2] for each in entry['nodes'] if each[0] in ('Convolution', 'FullyConnected')]
    layers = [each[0] for each in entry['nodes'] if each[0].endswith('.weight')]
    arrays = {each[0]: np.zeros(1) for each in entry['nodes'][1:] if len(each) == 2}
    for name, attrs in zip(layers, sizes, strict=True):
        kernel = [int(each) for each in re.findall(r'\d+', attrs.get('kernel', ''))]
        count = int(attrs.get('num_filter', attrs.get('num_hidden')))
        arrays[name] = np.zeros((count, 1, *kernel))
    assert find(arrays, 'two')[0] == 'a/two'
    assert says(ModelError, find, arrays) == (
        'the parameters fit 2 nets that compute otherwise: name one with `arch`, of a/one, a/two'
    )
