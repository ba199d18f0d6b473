"""What is written into a .params file is read from it; tests/reliability compares with MXNet."""

import struct
import zipfile

import numpy as np
import pytest
from conftest import says

from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import (
    CSR,
    LIST_MAGIC,
    V2,
    gluon_state,
    parse_params,
    read_params,
    write_params,
)

KINDS = (
    'float16', 'float32', 'float64', 'bool', 'int8', 'int16', 'int32', 'int64',
    'uint8', 'uint16', 'uint32', 'uint64',
)  # fmt: skip


@pytest.mark.parametrize('order', ['<', '>'])
def test_arrays_of_every_type_and_shape_come_back(order, tmp_path):
    arrays = {f'é.{each}': np.arange(6).reshape(3, 2).astype(each) for each in KINDS}
    arrays |= {'scalar': np.float32(3).reshape(()), 'empty': np.zeros((0, 3))}
    arrays['by columns'] = np.asfortranarray(arrays['é.float32'])
    write_params(
        tmp_path / 'x',
        {name: each.astype(each.dtype.newbyteorder(order)) for name, each in arrays.items()},
    )
    found = read_params(tmp_path / 'x')
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array)


def test_a_zip_with_two_arrays_of_one_name_is_refused(tmp_path):
    np.savez(tmp_path / 'x.npz', a=np.ones(2))
    with zipfile.ZipFile(tmp_path / 'x.npz', 'a') as archive:
        archive.writestr('a', archive.read('a.npy'))
    assert "'a' is no array of numbers, or is there twice" in says(
        ModelError, read_params, tmp_path / 'x.npz'
    )


def test_a_sparse_array_that_was_never_filled_is_zeros():
    array = struct.pack('<Iiiqiqqiiiiiqiiq', V2, CSR, 1, 0, 2, 3, 2, 1, 0, 0, 6, 1, 0, 6, 1, 0)
    data = struct.pack('<QQQ', LIST_MAGIC, 0, 1) + array + struct.pack('<Q', 0)
    assert np.array_equal(parse_params(data)['0'], np.zeros((3, 2)))


@pytest.mark.parametrize(('bias', 'kept'), [(3, True), (None, True), (2, False)])
def test_an_output_layer_with_a_bias_of_another_size_is_left_out(bias, kept, tmp_path):
    arrays = {'conv1.weight': np.ones((64, 3, 7, 7)), 'fc.weight': np.ones((3, 512))}
    if bias is not None:
        arrays['fc.bias'] = np.ones(bias)
    write_params(tmp_path / 'x', arrays)
    state = gluon_state(read_params(tmp_path / 'x'), 'resnet18', 'x')
    assert set(state) == {'conv1.weight', *(['fc.weight', 'fc.bias'] if kept else [])}
