"""Where the MXNet backend's nets compute: devices, replicas, bfloat16, threads."""

import gc
import os
import subprocess
import sys
import weakref

import d2l_ft_mxnet as backend
import d2l_ft_mxnet.data
import mxnet as mx
import numpy as np
import pytest
from d2l_ft_mxnet.placement import contexts
from mxnet import autograd
from mxnet.gluon import nn

from d2l_ft.errors import D2LFTError, DeviceError, ModelError
from d2l_ft.models.architectures import ARCHITECTURES, is_head
from d2l_ft.optim.recipe import Recipe
from d2l_ft.system.hardware import has_bfloat16, usable_cores

from .nets import TWO, equal_states, random_batch, shaken, tiny

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.usefixtures('arrays')]


def test_devices():
    assert backend.devices() == [mx.cpu(0)]
    assert backend.devices('cpu:2') == TWO
    for request in ('gpu', 'gpu:0,1', 'tpu'):
        with pytest.raises(DeviceError) as caught:
            backend.devices(request)
        assert '\n' not in str(caught.value)
    with pytest.raises(DeviceError, match=r'no GPU 1 here .* for CPUs only'):
        backend.devices('gpu:1')


def test_place():
    net = tiny()
    placed = backend.place(net, TWO, 'auto')
    assert (placed.net, placed.devices, placed.precision) == (net, TWO, 'float32')
    assert contexts(net) == backend.place(net).devices == TWO
    for places, precision in (([], 'auto'), (TWO, 'int8'), (TWO[:1] * 2, 'auto')):
        with pytest.raises(DeviceError):
            backend.place(net, places, precision)
    before = backend.get_state(placed)
    again = backend.place(net, TWO[:1])
    assert contexts(net) == TWO[:1]
    with pytest.raises(ModelError, match='place it again'):
        backend.logits(placed, random_batch())
    placed = again
    assert equal_states(before, backend.get_state(placed))


BFLOAT16 = pytest.mark.skipif(
    not has_bfloat16(), reason='this processor has no instructions for bfloat16'
)


@BFLOAT16
@pytest.mark.parametrize('arch', list(ARCHITECTURES))
def test_bfloat16_is_near_float32_and_float32_again_is_exact(arch):
    net = backend.build_net(arch, 10)
    placed = backend.place(net)
    backend.set_state(placed, shaken(backend.get_state(placed)))
    batch = random_batch(2, ARCHITECTURES[arch].smallest, dtype='float32')
    strict = backend.logits(placed, batch)
    placed = backend.place(net, TWO[:1], 'bfloat16')
    assert placed.precision == 'bfloat16'
    rough = backend.logits(placed, batch)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - strict).max() < 0.05 * np.abs(strict).max()
    assert backend.evaluate(placed, [batch]).examples == 2
    placed = backend.place(net, TWO[:1])
    np.testing.assert_array_equal(backend.logits(placed, batch), strict)


@BFLOAT16
@pytest.mark.parametrize('places', [TWO[:1], TWO], ids=['one', 'two'])
def test_a_step_in_bfloat16_moves_the_nets_own_parameters(places):
    batch, states, losses = random_batch(4, 64, dtype='float32'), [], []
    for precision in ('float32', 'bfloat16'):
        net = backend.build_net('resnet18', 2)
        placed = backend.place(net, places, precision)
        trainer = backend.build_trainer(placed, Recipe(0.001, 10, 0.001))
        before = backend.get_state(placed)
        losses.append(float(backend.train_step(placed, trainer, batch).loss))
        states.append(backend.get_state(placed))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]
    for name, array in states[0].items():
        assert array.dtype == states[1][name].dtype == np.float32
        assert not np.array_equal(states[1][name], before[name]), name
        moved, wanted = (states[1][name] - before[name]).ravel(), (array - before[name]).ravel()
        # four small images: roundings of the statistics turn the gradients, but not round
        assert moved @ wanted > 0.8 * np.linalg.norm(moved) * np.linalg.norm(wanted), name


@BFLOAT16
def test_a_frozen_body_in_bfloat16_stays():
    net, batch = backend.build_net('resnet18', 2), random_batch(4, 64, dtype='float32')
    placed = backend.place(net, TWO[:1], 'bfloat16')
    backend.freeze(net)
    with pytest.raises(ModelError, match='place it again'):
        backend.build_trainer(placed, Recipe(0.1))
    placed = backend.place(net, TWO[:1], 'bfloat16')
    trainer, before = backend.build_trainer(placed, Recipe(0.1)), backend.get_state(placed)
    tested = float(backend.evaluate(placed, [batch]).loss)
    # with the statistics of the batch it would be another
    assert float(backend.train_step(placed, trainer, batch).loss) == pytest.approx(tested, rel=1e-3)
    for name, array in backend.get_state(placed).items():
        assert np.array_equal(array, before[name]) != is_head(name, 'fc'), name
    seen = backend.features(placed, [batch])
    head = backend.place(backend.head(net), TWO[:1], 'bfloat16')
    again = backend.logits(head, backend.to_batch(seen, np.zeros(4, np.int32)))
    np.testing.assert_allclose(again, backend.logits(placed, batch), atol=1e-6)


@BFLOAT16
def test_a_net_that_changed_or_is_dropped_after_it_was_placed_in_bfloat16():
    net, batch = tiny(dtype='float32'), random_batch(dtype='float32')
    placed = backend.place(net, TWO[:1], 'bfloat16')
    net.fc = nn.Dense(3, in_units=4)
    net.fc.initialize()
    with pytest.raises(ModelError, match='place it again'):
        backend.logits(placed, batch)
    placed = backend.place(net, TWO[:1], 'bfloat16')
    assert backend.logits(placed, batch).shape == (4, 3)
    kept = weakref.ref(net)
    del net, placed
    gc.collect()
    assert kept() is None


def test_what_cannot_compute_in_bfloat16_is_told(monkeypatch):
    plain = nn.Sequential()
    plain.add(nn.Dense(2, in_units=3))
    plain.initialize()
    for has, net, places, words in (
        (False, tiny(dtype='float32'), TWO, 'no instructions'),
        (True, tiny(dtype='float32'), [mx.gpu(0)], 'only on CPUs'),
        (True, tiny(dtype='float64'), TWO, 'float32 parameters'),
        (True, plain, TWO, 'HybridBlock'),
    ):
        module = sys.modules['d2l_ft_mxnet.placement']  # the package has a function of that name
        monkeypatch.setattr(module, 'has_bfloat16', lambda has=has: has)
        before = contexts(net)
        with pytest.raises(D2LFTError, match=words) as caught:
            backend.place(net, places, 'bfloat16')
        assert '\n' not in str(caught.value)
        assert contexts(net) == before


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess:
    hidden = ('OMP_NUM_THREADS', 'MXNET_OMP_MAX_THREADS')
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    return subprocess.run(
        [sys.executable, '-W', 'ignore::DeprecationWarning', '-c', code],
        env=env | variables | {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_cores_for_both_frameworks():
    done = run_python(
        'import d2l_ft.backend.registry as r; b = r.get_backend("mxnet"); import torch\n'
        'print(b.threads(), torch.get_num_threads())'
    )
    assert done.stdout.split() == [str(usable_cores())] * 2, done.stderr
    assert 'RuntimeWarning' not in done.stderr


# On today's Python MXNet needs d2l_ft_mxnet.today, which is run alone: d2l_ft shall come too late
EARLY = f"""
import runpy
runpy.run_path({d2l_ft_mxnet.today.__file__!r})
import mxnet, d2l_ft_mxnet
print(d2l_ft_mxnet.threads())
"""


def test_a_too_early_import_of_mxnet_is_told():
    done = run_python(EARLY)
    halved = int(done.stdout) < usable_cores()
    assert ('MXNET_OMP_MAX_THREADS=' in done.stderr) == halved
    assert int(done.stdout) == max(1, usable_cores() // 2)


def test_threads_that_the_user_chose_are_left_without_a_warning():
    done = run_python(EARLY, MXNET_OMP_MAX_THREADS='1')
    assert (done.stdout.split(), done.stderr) == (['1'], '')


def test_gluoncv_imports_beside_torch_and_leaves_no_stub():
    backend.build_net('resnet18', 2)
    assert 'gluoncv' in sys.modules
    stub = sys.modules.get('gluoncv.check')
    assert stub is None or stub.__spec__ is not None


def test_seed_rules_dropout(arrays):
    drop = nn.Dropout(0.5)
    drawn = []
    for value in (1, 1, 2):
        backend.seed(value)
        with autograd.record():
            drawn.append(drop(arrays.ones((64,))).asnumpy())
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_statistics_are_the_mean_over_contexts_in_state_and_evaluation():
    net = tiny(norm=True, places=TWO)
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.1))
    for size in (4, 5):
        backend.train_step(placed, trainer, random_batch(size, classes=3))
    each = [data.asnumpy() for data in net.norm.running_mean.list_data()]
    assert not np.array_equal(*each)
    batch = random_batch(5, classes=3)
    outputs = backend.logits(placed, batch)
    state = backend.get_state(placed)
    np.testing.assert_allclose(state['norm.running_mean'], (each[0] + each[1]) / 2, rtol=1e-14)
    single = backend.place(tiny(norm=True))
    backend.set_state(single, state)
    np.testing.assert_allclose(backend.logits(single, batch), outputs, rtol=1e-12)
    one, two = (backend.evaluate(each, [batch, random_batch(1)]) for each in (single, placed))
    assert float(one.loss) == pytest.approx(float(two.loss), rel=1e-6)
    assert float(one.correct) == float(two.correct)
    assert one.examples == two.examples == 6
