"""Where the PyTorch backend's nets compute: devices, replicas, bfloat16, threads."""

import gc
import sys
import weakref

import d2l_ft_pytorch as backend
import numpy as np
import pytest
import torch
from d2l_ft_pytorch.placement import replicas, restore_threads

from d2l_ft.errors import DeviceError
from d2l_ft.optim.recipe import Recipe
from d2l_ft.system.hardware import usable_cores

from .nets import TWO, Tiny, random_batch, tiny

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


def test_statistics_of_the_replicas_are_averaged():
    net, batch = tiny(norm=True), random_batch(5)
    parts = [batch[0][:3], batch[0][3:]]
    with torch.no_grad():
        maps = [net.conv(part) for part in parts]
    means = [0.1 * each.mean((0, 2, 3)) for each in maps]
    variances = [0.9 + 0.1 * each.var((0, 2, 3)) for each in maps]
    placed = backend.place(net, TWO)
    backend.train_step(placed, torch.optim.SGD(net.parameters(), lr=0.0), batch)
    one, other = (replica.norm.running_mean.clone() for replica in replicas(placed))
    assert not torch.equal(one, other)
    state = backend.get_state(placed)
    np.testing.assert_allclose(state['norm.running_mean'], sum(means) / 2, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(state['norm.running_var'], sum(variances) / 2, rtol=1e-12)
    fresh = backend.place(tiny(norm=True))
    backend.set_state(fresh, state)
    np.testing.assert_allclose(
        backend.logits(placed, batch), backend.logits(fresh, batch), rtol=1e-12, atol=1e-15
    )


def test_buffers_that_are_no_statistics_keep_their_bits():
    net = tiny()
    mask = torch.tensor([0.1, -torch.inf, 3.0], dtype=torch.float64)
    net.register_buffer('mask', mask.clone())
    placed = backend.place(net, TWO + TWO[:1])
    np.testing.assert_array_equal(backend.get_state(placed)['mask'], mask)


def test_placing_again_and_dropping():
    net = backend.build_net('squeezenet1_1', 2)
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.01, momentum=0.9))
    placed = backend.place(net, TWO, 'auto')
    assert placed.precision in ('float32', 'bfloat16')
    assert net.features[0].weight.is_contiguous(memory_format=torch.channels_last)
    backend.train_step(placed, trainer, random_batch())
    placed = backend.place(net, TWO[:1])
    assert placed.precision == 'float32'
    assert net.features[0].weight.is_contiguous()
    before = backend.get_state(placed)
    backend.train_step(placed, trainer, random_batch())
    assert not np.array_equal(
        before['classifier.1.weight'], backend.get_state(placed)['classifier.1.weight']
    )
    kept = weakref.ref(net)
    del net, placed, trainer
    gc.collect()
    assert kept() is None


def test_bfloat16_is_near_float32_and_float32_again_is_exact():
    net, batch = backend.build_net('resnet18', 2), random_batch(2, dtype='float32')
    placed = backend.place(net)
    strict = backend.logits(placed, batch)
    placed = backend.place(net, TWO[:1], 'bfloat16')
    assert placed.precision == 'bfloat16'
    rough = backend.logits(placed, batch)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - strict).max() < 0.05 * np.abs(strict).max()
    placed = backend.place(net, TWO[:1], 'float32', channels_last=True)
    assert placed.precision == 'float32'
    assert net.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(backend.logits(placed, batch), strict, atol=1e-5)
    placed = backend.place(net, TWO[:1], 'bfloat16', channels_last=False)
    assert placed.precision == 'bfloat16'
    assert net.conv1.weight.is_contiguous()
    placed = backend.place(net, TWO[:1], 'float32')
    np.testing.assert_array_equal(backend.logits(placed, batch), strict)


def test_devices():
    assert backend.devices('cpu') == TWO[:1]
    assert backend.devices('cpu:2') == TWO
    kinds = {device.type for device in backend.devices()}
    assert kinds == ({'cuda'} if torch.cuda.is_available() else {'cpu'})
    assert backend.threads() == torch.get_num_threads()


def test_threads_that_mxnet_took_come_back(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setitem(sys.modules, 'mxnet', None)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    try:
        torch.set_num_threads(1)
        restore_threads()
        assert backend.threads() == usable_cores()
        torch.set_num_threads(1)
        monkeypatch.setenv('OMP_NUM_THREADS', '1')
        restore_threads()
        assert backend.threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('request_', ['gpu:97', 'tpu', 'cpu:0'])
def test_missing_devices(request_):
    with pytest.raises(DeviceError) as caught:
        backend.devices(request_)
    assert '\n' not in str(caught.value)


def test_seed():
    draws = []
    for value in (1, 1, 2):
        backend.seed(value)
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(('devices', 'precision'), [([], 'float32'), (TWO, 'float8')])
def test_place_errors(devices, precision):
    with pytest.raises(DeviceError):
        backend.place(Tiny(), devices, precision)
