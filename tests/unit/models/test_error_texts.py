"""What the errors of states, checkpoints and weights files say."""

import os
import struct
import zipfile

import numpy as np
import pytest
from conftest import says

from d2l_ft.errors import CheckpointError, ModelError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.models.gluon_names import canonical_names
from d2l_ft.models.gluon_params import (
    CSR,
    DENSE,
    LIST_MAGIC,
    ROW_SPARSE,
    V2,
    gluon_state,
    read_params,
    write_params,
)  # fmt: skip
from d2l_ft.models.initialization import initial_state
from d2l_ft.models.state import check_state, merge_source


def test_an_architecture_that_is_unknown():
    text = (
        f'unknown architecture {"resnet19"!r}: choose one of {", ".join(ARCHITECTURES)}, or a '
        'folder that  d2l-ft convert  wrote'
    )
    assert says(OptionError, initial_state, 'resnet19', {}) == text
    assert says(OptionError, gluon_state, {}, 'resnet19', 'a.params') == text


def test_a_checkpoint_that_is_not_there(tmp_path):
    path = tmp_path / 'a.safetensors'
    assert says(CheckpointError, load_checkpoint, path) == f'there is no checkpoint {path}'


def test_a_checkpoint_of_a_later_version(tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    with monkeypatch.context() as later:
        later.setattr('d2l_ft.models.checkpoint.FORMAT', 2)
        save_checkpoint(path, Checkpoint({'a': np.ones(3, np.float32)}))
    assert says(CheckpointError, load_checkpoint, path) == (
        f'{path} was written by a newer d2l_ft: update yours'
    )


def test_a_checkpoint_that_is_damaged(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_checkpoint(path, Checkpoint({'a': np.ones(3, np.float32)}))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    text = says(CheckpointError, load_checkpoint, path)
    assert text == f'{path} is damaged (its bytes are not those that were written)'
    path.write_bytes(raw[:20])
    text = says(CheckpointError, load_checkpoint, path)
    assert text.startswith(f'{path} is damaged or no safetensors file (')


def test_a_params_file_that_is_none(tmp_path):
    path = tmp_path / 'a.params'
    assert says(ModelError, read_params, path) == (f'cannot read {path}: No such file or directory')
    path.write_bytes(b'0' * 100)
    assert says(ModelError, read_params, path) == (
        f'{path} is damaged or no .params file (it does not begin like one)'
    )


def numbers(code, *values):
    """Return numbers as a file has them."""
    return struct.pack(f'<{code}', *values)


def params(*arrays, names=()):
    """Return a .params file of arrays in bytes and names."""
    head, most = numbers('QQQ', LIST_MAGIC, 0, len(arrays)), numbers('Q', len(names))
    return head + b''.join(arrays) + most + b''.join(numbers('Q', len(e)) + e for e in names)


ONE = numbers('Iiiqiii', V2, DENSE, 1, 1, 1, 0, 0) + bytes(4)
"""An array of one float32."""

SPARSE = numbers('Iiiqq', V2, ROW_SPARSE, 2, 1, 1)
"""The beginning of a sparse array, of one row that is stored."""

CSR_ARRAY = numbers('Iiiqiqqiiiiiqiq', V2, CSR, 1, 1, 2, 3, 1, 1, 0, 0, 6, 1, 2, 6, 1)[:-4]

DAMAGED = {
    b'': 'it is empty',
    b'0' * 100: 'it does not begin like one',
    params(ONE)[:-12]: 'it ends too early',
    numbers('QQQ', LIST_MAGIC, 0, 2**60): f'it claims {2**60} entries',
    params(ONE, names=[b'a', b'b']): 'it has 1 arrays and 2 names',
    params(ONE, ONE, names=[b'a', b'a']): 'it has 2 arrays and 2 names',
    params(ONE, names=[b'\xff']):
        "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
    params(numbers('Ii', V2, 9)): 'it has an array of an unknown storage (9)',
    params(numbers('Iiiqiii', V2, DENSE, 1, 1, 1, 0, 99)):
        'it has an array of an unknown type (99)',
    params(numbers('Iii', V2, DENSE, 33)): 'it has an array without a shape',
    params(numbers('Iiiq', V2, DENSE, 1, -1)): 'it has an array with a side below 0',
    params(numbers('Iiiqqiii', V2, DENSE, 2, 0, 2**40, 1, 0, 0)):
        f'it has an array of the shape (0, {2**40})',
    params(SPARSE + numbers('iqqiiiiiq', 2, 2**40, 1, 1, 0, 0, 6, 1, 1) + bytes(12)):
        f'it has a sparse array of the shape ({2**40}, 1)',
    params(SPARSE + numbers('iqqiiiiiq', 2, 3, 1, 1, 0, 0, 6, 1, 1) + bytes(4) + numbers('q', -1)):
        'a sparse array has places below 0',
    params(SPARSE + numbers('iqqiiiiiq', 2, 3, 1, 1, 0, 0, 6, 1, 1) + bytes(4) + numbers('q', 5)):
        'a sparse array has places that do not fit (index 5 is out of bounds for axis 0 with size '
        '3)',
    params(CSR_ARRAY + bytes(30)):
        'a sparse array has rows that do not fit',
}  # fmt: skip
"""A file -> what is wrong with it."""


@pytest.mark.parametrize('data', DAMAGED)
def test_a_params_file_that_is_damaged(data, tmp_path):
    path = tmp_path / 'a.params'
    path.write_bytes(data)
    assert says(ModelError, read_params, path) == (
        f'{path} is damaged or no .params file ({DAMAGED[data]})'
    )


def test_a_params_file_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / 'a')
    assert says(ModelError, read_params, tmp_path / 'a') == (
        f'{tmp_path / "a"} is damaged or no .params file (it is no regular file)'
    )


def test_a_params_file_that_is_a_zip(tmp_path):
    path = tmp_path / 'a.npz'
    for array, cause in (
        (np.array(['words']), "'a' is no array of numbers, or is there twice"),
        (np.array([{}], object), 'Object arrays cannot be loaded when allow_pickle=False'),
    ):
        np.savez(path, a=array)
        assert says(ModelError, read_params, path) == (
            f'{path} is damaged or no .params file ({cause})'
        )
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.npy', bytes(10**8))
    text = says(ModelError, read_params, path)
    assert text == f'{path} is damaged or no .params file (a.npy claims {10**8} bytes)'


def test_an_array_of_a_type_that_parameters_cannot_have(tmp_path):
    assert says(ModelError, write_params, tmp_path / 'x', {'a': np.ones(1, complex)}) == (
        "'a' is complex128, which a .params file cannot have: convert it to float32"
    )


def test_a_state_that_does_not_fit():
    one = np.zeros(1, np.float32)
    assert says(ModelError, check_state, {}, {'a': (1,)}) == (
        "the state has no 'a', which the net needs"
    )
    assert says(ModelError, check_state, {'a': one}, {'a': (2,)}) == (
        "'a' is (1,) in the state, (2,) in the net"
    )
    assert says(ModelError, check_state, {'a': one}, {}) == (
        "the state has 'a', which the net does not have"
    )
    assert says(ModelError, merge_source, 'resnet18', {'conv1.weight': one}, {}) == (
        "the source is no resnet18: the state has no 'conv1.weight', which the net needs"
    )


def test_a_net_without_an_output_layer():
    assert says(ModelError, initial_state, 'resnet18', {'conv1.weight': (1,)}) == (
        "resnet18 has no output layer named 'fc'"
    )


def test_a_checkpoint_that_may_not_be_read(closed):
    folder, as_another = closed
    path = folder / 'a.safetensors'
    save_checkpoint(path, Checkpoint({'a': np.ones(3, np.float32)}))
    path.chmod(0)
    with as_another():
        text = says(CheckpointError, load_checkpoint, path)
    assert text == f'cannot read {path}: Permission denied'


def test_names_of_gluon_that_no_state_can_have(tmp_path):
    assert says(ModelError, canonical_names, ['1.gamma', '1.weight']) == (
        "'1.gamma' and '1.weight' are both '1.weight': rename one of them"
    )
    path = tmp_path / 'a.params'
    path.write_bytes(struct.pack('<4Q', LIST_MAGIC, 0, 0, 0))
    assert says(ModelError, gluon_state, read_params(path), 'resnet18', path) == (
        f'{path} has no structural names: write it with net.save_parameters(), or convert it with  '
        f'd2l-ft convert {path} --to FOLDER  and give `source=FOLDER`'
    )
