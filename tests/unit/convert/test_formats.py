"""What a file is, and which net a path means."""

import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pytest
import symbols
from conftest import says

from d2l_ft.convert.formats import read_files, read_model, style
from d2l_ft.errors import DataError, ModelError
from d2l_ft.models.gluon_params import write_params


def zipped(path, **entries):
    """Write a zip."""
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def packed(path, *entries):
    """Write a .tar.gz of (name, bytes, type of the entry, target of a link)."""
    with tarfile.open(path, 'w:gz') as archive:
        for name, data, *link in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if link:
                entry.type, entry.linkname = link
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_parameters_of_mxnet_2_are_read(tmp_path):
    np.savez(tmp_path / 'x.params', **symbols.DENSE_ARRAYS)
    os.rename(tmp_path / 'x.params.npz', tmp_path / 'x.params')
    found = read_files([tmp_path / 'x.params']).arrays
    assert found.keys() == symbols.DENSE_ARRAYS.keys()
    assert all(np.array_equal(found[name], each) for name, each in symbols.DENSE_ARRAYS.items())


def test_a_zip_of_what_is_no_numbers_is_refused(tmp_path):
    path = tmp_path / 'x.params'
    np.savez(path, a=np.array(['words']))
    text = says(ModelError, read_model, [tmp_path / 'x.params.npz'])
    assert "'a' is no array of numbers, or is there twice" in text
    np.savez(path, a=np.array([{}], object))
    text = says(ModelError, read_model, [tmp_path / 'x.params.npz'])
    assert 'Object arrays cannot be loaded' in text


@pytest.mark.parametrize('order', [1, -1])
def test_files_are_taken_in_any_order(order, tmp_path):
    files = symbols.write(tmp_path / 'net')
    model = read_model(files[::order])
    assert model.graph.nodes[-1].name == 'fc'
    assert set(model.arrays) == {'fc_weight', 'fc_bias'}
    assert set(model.files) == set(files)
    assert model.style == 'names of nodes with arg: and aux: (Module, or an export)'


@pytest.mark.parametrize('name', ['net', 'a[1]', 'a*b?', '[!x]', 'net.v1', 'a-0001', ' ', 'é'])
def test_the_prefix_of_the_files_means_both(name, tmp_path):
    files = symbols.write(tmp_path / name)
    symbols.write(tmp_path / f'{name}-other', epoch=9)  # whose names begin alike
    symbols.write(tmp_path / 'a1')
    assert set(read_model([tmp_path / name]).files) == set(files)


def test_of_several_epochs_the_last_is_taken(tmp_path):
    symbols.write(tmp_path / 'net', epoch=3)
    files = symbols.write(tmp_path / 'net', epoch=12000)
    for path in (tmp_path / 'net', tmp_path):
        model = read_model([path])
        assert set(model.files) == set(files)
        assert model.notes == [
            'parameters of 2 epochs are there: those of the last, 12000, are taken'
        ]


def test_a_part_of_a_net_is_read_alone(tmp_path):
    files = symbols.write(tmp_path / 'net')
    assert read_files(files[:1]).arrays == {}
    assert read_files(files[1:]).graph is None
    files[0].unlink()
    for path in (tmp_path, tmp_path / 'net'):
        model = read_files([path])
        assert model.graph is None
        assert len(model.arrays) == 2


def test_a_folder_with_one_net_is_read_wherever_it_stands_in_it(tmp_path):
    place = tmp_path / 'model' / 'deep'
    place.mkdir(parents=True)
    files = symbols.write(place / 'net')
    (tmp_path / 'hyperparameters.json').write_text('{}')
    (place / '._net-symbol.json').write_bytes(b'\0\5\26\7')  # as macOS packs beside each file
    assert set(read_model([tmp_path]).files) == set(files)
    named = files[1].rename(place / 'weights.params')  # the only one, whatever it is called
    assert set(read_model([tmp_path]).files) == {files[0], named}


def test_the_parameters_beside_a_symbol_are_its_own(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
    files = symbols.write(tmp_path / 'a' / 'net', epoch=1)
    other = symbols.write(tmp_path / 'b' / 'net', epoch=7)
    other[0].unlink()
    assert set(read_model([tmp_path]).files) == set(files)


def test_an_archive_is_read_as_a_folder(tmp_path):
    files = symbols.write(tmp_path / 'net')
    paths = [tmp_path / 'x.tar.gz', tmp_path / 'x.zip']
    packed(paths[0], *((f'model/{path.name}', path.read_bytes()) for path in files))
    zipped(paths[1], **{path.name: path.read_bytes() for path in files})
    for path in paths:
        model = read_model([path])
        assert set(model.arrays) == {'fc_weight', 'fc_bias'}
        assert list(model.files) == [path]


@pytest.mark.parametrize(
    'entry',
    [('link-symbol.json', b'', tarfile.SYMTYPE, '/etc/passwd'),
     ('hard.params', b'', tarfile.LNKTYPE, '../x'),
     ('../x-symbol.json', b'{}'), ('/x-symbol.json', b'{}'),
     ('pipe.params', b'', tarfile.FIFOTYPE, '')],
)  # fmt: skip
def test_an_archive_with_links_or_climbing_paths_is_refused(entry, tmp_path):
    path = packed(tmp_path / 'x.tar.gz', ('x-0000.params', b'x'), entry)
    text = says(DataError, read_model, [path])
    assert str(path) in text
    assert [each.name for each in tmp_path.iterdir()] == ['x.tar.gz']


def test_what_is_wrong_in_an_archive_is_said_of_the_archive(tmp_path):
    path = packed(tmp_path / 'x.tar.gz', ('a/net-symbol.json', b'{}'))
    assert says(ModelError, read_model, [path]) == (
        f'{path}/a/net-symbol.json is no symbol file (it has no list of nodes, as a symbol file '
        'has): give the -symbol.json of a net'
    )


SHAPES = [{'name': 'data', 'shape': [1, 3]}]


def test_a_file_of_shapes_is_taken_as_a_hint(tmp_path):
    symbols.write(tmp_path / 'net')
    (tmp_path / 'model-shapes.json').write_text(json.dumps(SHAPES))
    assert read_model([tmp_path]).shapes == {'data': (1, 3)}


@pytest.mark.parametrize(
    'text',
    ['', 'no json', '[' * 100_000, '{}', '[1]', '[{"name": "data"}]', '{"name": "data"}',
     '[{"name": "data", "shape": []}]', '[{"name": "data", "shape": [1]}]',
     '[{"name": "data", "shape": [1, -3]}]', '[{"name": "data", "shape": [1, Infinity]}]',
     '[{"name": "data", "shape": [1, 1e400]}]', '[{"name": "data", "shape": [1, "3"]}]',
     '[{"name": "data", "shape": [1, 99999999999999]}]', '[{"name": "data", "shape": 3}]',
     '[{"name": "other", "shape": [1, 3]}]', '[{"name": ["data"], "shape": [1, 3]}]',
     '\ud800'],
)  # fmt: skip
def test_a_damaged_file_of_shapes_is_no_more_than_a_hint(text, tmp_path):
    symbols.write(tmp_path / 'net')
    (tmp_path / 'model-shapes.json').write_bytes(text.encode(errors='surrogatepass'))
    model = read_model([tmp_path])
    assert model.shapes == {}
    assert len(model.arrays) == 2


def test_marks_of_names_are_left_out_and_nothing_else(tmp_path):
    path, one = tmp_path / 'x.params', np.ones(1, np.float32)
    names = {'arg:a': 'a', 'aux:b': 'b', 'x:0': 'x:0', 'arg:c:d': 'c:d', 'argc': 'argc'}
    write_params(path, dict.fromkeys(names, one))
    assert list(read_files([path]).arrays) == list(names.values())


@pytest.mark.parametrize(
    ('names', 'wanted'),
    [(['0', '1'], 'a list without names'),
     (['arg:fc_weight', 'aux:bn_mean'], 'names of nodes with arg: and aux: (Module, or an export)'),
     (['features.0.weight', 'output.bias'], "structural names (Gluon's save_parameters)"),
     (['net0_conv0_weight', 'x.y'], "names of nodes (Gluon's save_params)")],
)  # fmt: skip
def test_the_style_of_names_is_told(names, wanted):
    assert style(names) == wanted


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'x-symbol.json').write_text(symbols.DENSE)
    wanted = f'{tmp_path / "pipe"} is no regular file: give the file itself'
    assert says(ModelError, read_model, [tmp_path / 'pipe']) == wanted
    assert says(ModelError, read_model, [tmp_path / 'x-symbol.json', tmp_path / 'pipe']) == wanted
