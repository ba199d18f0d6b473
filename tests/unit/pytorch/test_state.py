"""The PyTorch backend's states of nets and trainers."""

import d2l_ft_pytorch as backend
import numpy as np
import pytest
import torch
from d2l_ft_pytorch.placement import replicas

from d2l_ft.errors import ModelError
from d2l_ft.optim.recipe import Recipe

from .nets import TWO, random_batch, tiny

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


def test_plain_sgd_state_is_rate_times_buffer():
    net = tiny()
    trainer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    placed = backend.place(net)
    backend.train_step(placed, trainer, random_batch())
    buffer = trainer.state[net.fc.weight]['momentum_buffer'].clone()
    state = backend.get_trainer_state(placed, trainer)
    np.testing.assert_array_equal(state['fc.weight'], 0.1 * buffer.numpy())
    backend.set_trainer_state(placed, trainer, {})
    assert backend.get_trainer_state(placed, trainer) == {}
    backend.set_trainer_state(placed, trainer, state)
    torch.testing.assert_close(trainer.state[net.fc.weight]['momentum_buffer'], buffer)


@pytest.mark.parametrize('devices', [TWO[:1], TWO])
def test_resume_is_exact(devices):
    def steps(placed, trainer, count):
        for _ in range(count):
            backend.train_step(placed, trainer, random_batch(4, size=64, dtype='float32'))

    def begin(seed):
        net = backend.build_net('resnet18_v2', 2, seed=seed)
        placed = backend.place(net, devices)
        return placed, backend.build_trainer(placed, Recipe(0.003, momentum=0.9))

    placed, trainer = begin(0)
    assert backend.get_trainer_state(placed, trainer) == {}
    steps(placed, trainer, 2)
    state, memory = backend.get_state(placed), backend.get_trainer_state(placed, trainer)
    assert {array.dtype for array in memory.values()} == {np.dtype(np.float32)}
    other, other_trainer = begin(1)
    backend.set_state(other, state)
    backend.set_trainer_state(other, other_trainer, memory)
    steps(placed, trainer, 2)
    steps(other, other_trainer, 2)
    expected, found = backend.get_state(placed), backend.get_state(other)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_set_state_is_all_or_nothing_on_every_replica():
    net = tiny(norm=True)
    placed = backend.place(net, TWO)
    state = backend.get_state(placed)
    assert state['conv.weight'].dtype == np.float64
    assert set(state) == {
        *('conv.weight', 'conv.bias', 'fc.weight', 'fc.bias'),
        *(f'norm.{name}' for name in ('weight', 'bias', 'running_mean', 'running_var')),
    }
    bad = {name: array + 1 for name, array in state.items()}
    bad['fc.bias'] = np.zeros(7)
    with pytest.raises(ModelError, match=r'fc\.bias'):
        backend.set_state(placed, bad)
    assert all(np.array_equal(backend.get_state(placed)[name], state[name]) for name in state)
    backend.set_state(placed, {name: array + 1 for name, array in state.items()})
    for replica in replicas(placed):
        np.testing.assert_array_equal(replica.norm.running_var, state['norm.running_var'] + 1)
        np.testing.assert_array_equal(replica.fc.weight.detach(), state['fc.weight'] + 1)


def test_states_are_c_order_copies_of_any_layout():
    net = backend.build_net('squeezenet1_1', 2)
    placed = backend.place(net)
    expected = backend.get_state(placed)
    placed = backend.place(net, TWO[:1], 'auto')
    found = backend.get_state(placed)
    for name in expected:
        assert found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], expected[name])
    found['features.0.weight'][:] = 0
    assert backend.get_state(placed)['features.0.weight'].any()
