"""Weights files: which are read, and what is said of the others."""

import numpy as np
import pytest

from d2l_ft.errors import CheckpointError, ModelError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.sources.weights import read_weights


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


@pytest.mark.needs('pytorch')
def test_a_tensor_that_claims_terabytes(tmp_path):
    import torch

    path = tmp_path / 'x.pth'
    torch.save({'fc.weight': torch.zeros(1).expand(10**6, 10**7)}, path)
    with pytest.raises(ModelError, match=r'fc\.weight claims more'):
        read_weights(path, 'resnet18')
    torch.save({'fc.weight': torch.arange(6.0).reshape(2, 3).t()}, path)
    assert np.array_equal(read_weights(path, 'resnet18')['fc.weight'], [[0, 3], [1, 4], [2, 5]])
