"""What an error advises is true where it is given: causes that look alike are told apart."""

import pytest

from d2l_ft.backend.registry import hint
from d2l_ft.errors import CheckpointError, ModelError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.runs.directory import claimed
from d2l_ft.sources.weights import read_weights


@pytest.mark.parametrize(
    ('name', 'cause', 'advice'),
    [
        ('pytorch', 'RuntimeError: operator torchvision::nms does not exist', 'matched pair'),
        ('pytorch', 'ImportError: _C.so: undefined symbol: _ZN3c106detail', 'matched pair'),
        ('pytorch', 'ImportError: cannot allocate memory in static TLS block', 'python -c'),
        ('pytorch', 'MemoryError: ', 'python -c'),
        ('mxnet', 'MemoryError: out of memory', 'python -c'),
        ('mxnet', "AttributeError: module 'numpy' has no attribute 'bool'", 'mxnet-today'),
    ],
)
def test_a_framework_that_cannot_be_imported(name, cause, advice):
    assert advice in hint(name, cause)


@pytest.mark.parametrize('is_run', [True, False])
def test_resume_is_advised_for_a_run_alone(tmp_path, is_run):
    (tmp_path / ('config.json' if is_run else 'thesis.txt')).touch()
    with pytest.raises(CheckpointError, match='is not empty') as caught, claimed(tmp_path, False):
        pass
    assert ('--resume' in str(caught.value)) == is_run
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        'config.json' if is_run else 'thesis.txt'
    ]


@pytest.mark.parametrize('name', ['weights.bin', 'weights', 'weights.onnx', 'weights.h5'])
def test_a_suffix_that_is_not_read_is_no_damage(tmp_path, name):
    save_checkpoint(tmp_path / name, Checkpoint({}))
    with pytest.raises(ModelError, match=r'by its name: \.safetensors') as caught:
        read_weights(tmp_path / name, 'resnet18')
    assert 'damaged' not in str(caught.value)


def test_damage_is_said_of_what_is_damaged(tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(b'\x08\0\0\0\0\0\0\0{"a": 1}')
    with pytest.raises(CheckpointError, match='damaged'):
        read_weights(path, 'resnet18')
