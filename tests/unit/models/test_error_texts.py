"""What the errors of states, checkpoints and weights files say."""

import struct

import numpy as np
from conftest import says

from d2l_ft.errors import CheckpointError, ModelError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.models.gluon_names import canonical_names
from d2l_ft.models.gluon_params import LIST_MAGIC, gluon_state
from d2l_ft.models.initialization import initial_state
from d2l_ft.models.state import check_state, merge_source


def test_an_architecture_that_is_unknown(tmp_path):
    text = f'unknown architecture {"resnet19"!r}: choose one of {", ".join(ARCHITECTURES)}'
    assert says(OptionError, initial_state, 'resnet19', {}) == text
    assert says(OptionError, gluon_state, tmp_path / 'a.params', 'resnet19') == text


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
    assert says(ModelError, gluon_state, path, 'resnet18') == (
        f'cannot read {path}: No such file or directory'
    )
    path.write_bytes(b'0' * 100)
    assert says(ModelError, gluon_state, path, 'resnet18') == (
        f'{path} is damaged or no .params file (it does not begin like one)'
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
    assert says(ModelError, gluon_state, path, 'resnet18') == (
        f'{path} has no structural names: write it with net.save_parameters()'
    )
