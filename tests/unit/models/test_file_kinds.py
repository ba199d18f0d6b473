"""What a file is, by its bytes."""

import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from conftest import says

from d2l_ft.convert.formats import read_model
from d2l_ft.errors import ModelError
from d2l_ft.models.file_kinds import KINDS, file_kind, kind_of, kind_of_zip
from d2l_ft.models.gluon_params import write_params

OTHERS = {
    b'': 'empty',
    b'\x89HDF\r\n\x1a\n' + bytes(40): 'hdf5',
    b'<!DOCTYPE html><html>': 'html',
    b'\n <html>': 'html',
    b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n': 'lfs',
    b'\x08\x07\x12\x07pytorch\x1a\x051.0.0': 'onnx',
    b'\x08\x03:\x10onnx': 'onnx',
    b'PK\x03\x04 and no more': 'zip',
    b'\x80\x04\x95': 'pickle',
    b'just words': '',
    b'\x00' * 600: '',
}  # fmt: skip
"""The first bytes of files that no library here writes -> what they are."""


@pytest.mark.parametrize('data', OTHERS)
def test_a_file_that_is_no_net_of_mxnet_is_called_what_it_is(data, tmp_path):
    path = tmp_path / 'x.params'
    path.write_bytes(data)
    assert file_kind(path) == OTHERS[data]
    assert says(ModelError, read_model, [path]) == (
        f'{path} is {KINDS[OTHERS[data]]}; give a symbol file and parameters of MXNet'
    )


ARRAYS = {'a.weight': np.ones((2, 3), np.float32), 'a.bias': np.zeros(2, np.float32)}


def test_files_of_libraries_are_called_what_they_are(tmp_path):
    from safetensors.numpy import save_file

    save_file(ARRAYS, tmp_path / 'safetensors')
    write_params(tmp_path / 'params', ARRAYS)
    np.savez(tmp_path / 'arrays.npz', **ARRAYS)
    np.savez_compressed(tmp_path / 'small.npz', **ARRAYS)
    with zipfile.ZipFile(tmp_path / 'zip', 'w') as archive:
        archive.writestr('x-symbol.json', '{}')
    for name, mode in (('tar.gz', 'w:gz'), ('tar', 'w')):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.addfile(tarfile.TarInfo('x'), io.BytesIO())
    (tmp_path / 'json').write_text('\n {"nodes": []}')
    kinds = {path.name: file_kind(path) for path in tmp_path.iterdir() if path.is_file()}
    assert kinds == {
        'safetensors': 'safetensors', 'params': 'params', 'arrays.npz': 'npz', 'small.npz': 'npz',
        'zip': 'archive', 'tar.gz': 'archive', 'tar': 'archive', 'json': 'symbol',
    }  # fmt: skip


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('modern', [True, False])
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_a_file_of_torch_save_is_known(modern, protocol, tmp_path):
    import torch

    path, options = tmp_path / 'x', {'_use_new_zipfile_serialization': modern}
    torch.save({'a': torch.ones(3)}, path, pickle_protocol=protocol, **options)
    assert file_kind(path) == 'pytorch'


@pytest.mark.needs('pytorch')
@pytest.mark.filterwarnings('ignore')
def test_programs_of_pytorch_are_known(tmp_path):
    import torch

    net = torch.nn.Linear(3, 2)
    torch.jit.save(torch.jit.script(net), tmp_path / 'script')
    assert file_kind(tmp_path / 'script') == 'torchscript'
    torch.export.save(torch.export.export(net, (torch.ones(1, 3),)), tmp_path / 'program.pt2')
    assert file_kind(tmp_path / 'program.pt2') == 'exported'


def test_the_entries_of_a_zip_tell_its_kind():
    assert kind_of_zip(['archive/data.pkl', 'archive/data/0', 'archive/version']) == 'pytorch'
    assert kind_of_zip(['x/data.pkl', 'x/code/a.py', 'x/constants.pkl']) == 'torchscript'
    assert kind_of_zip(['serialized_exported_program.json', 'version']) == 'exported'
    assert kind_of_zip(['a.npy', 'b.npy']) == 'npz'
    assert kind_of_zip(['a.npy', 'b.txt']) == 'archive'
    assert kind_of_zip([]) == 'archive'


def test_the_bytes_of_a_long_file_are_judged_by_the_first():
    head = struct.pack('<Q', 100) + b'{"a":'
    assert kind_of(head, 5000) == 'safetensors'
    assert kind_of(head, 50) == '', 'the header is longer than the file'


def test_a_folder_and_a_pipe_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for path, what in ((tmp_path, 'a folder'), (tmp_path / 'pipe', 'no regular file')):
        assert says(ModelError, file_kind, path) == f'{path} is {what}: give the file itself'
