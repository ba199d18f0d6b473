"""What a GPU must give: the CPU's numbers, on one device and on two replicas; and plain errors.

Two replicas on one GPU take the same way through the code as two GPUs do.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from d2l_ft.backend.registry import get_backend
from d2l_ft.cli.main import main
from d2l_ft.errors import DeviceError
from d2l_ft.optim.recipe import Recipe

torch = pytest.importorskip('torch', reason='PyTorch is not of this leg')
pytestmark = [
    pytest.mark.needs('pytorch'),
    pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU here'),
]

GPU, CPU = torch.device('cuda', 0), torch.device('cpu')


def trained(backend, devices, precision='float32', double=False, channels_last=None):
    """Return the state, the trainer's state and the losses of three steps on the same batch."""
    net = backend.build_net('resnet18', 3)
    if double:
        net.double()
    placed = backend.place(net, devices, precision, channels_last=channels_last)
    trainer = backend.build_trainer(placed, Recipe(1e-4, momentum=0.9, weight_decay=1e-3))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, 3, 64, 64))
    batch = backend.to_batch(images.astype('float32'), np.arange(6) % 3)
    if double:
        batch = torch.from_numpy(images), batch[1]
    losses = [float(backend.train_step(placed, trainer, batch).loss) for _ in range(3)]
    state = {name: np.asarray(value) for name, value in backend.get_state(placed).items()}
    return state, backend.get_trainer_state(placed, trainer), losses, backend.logits(placed, batch)


def distance(a, b):
    """Return the largest distance of two dicts of arrays, as a share of each array's largest."""
    assert a.keys() == b.keys()
    return max(np.abs(a[name] - b[name]).max() / (np.abs(b[name]).max() + 1e-30) for name in a)


def test_distance_can_be_large():
    one = {'w': np.ones(2)}
    assert distance(one, one) == 0
    assert distance(one, {'w': np.array([1.0, 2.0])}) == 0.5


@pytest.mark.parametrize('count', [1, 2])
def test_float64_is_the_cpus(count):
    """In float64 a GPU differs by the order of its sums alone."""
    backend = get_backend('pytorch')
    on_gpu = trained(backend, [GPU] * count, double=True)
    on_cpu = trained(backend, [CPU] * count, double=True)
    assert distance(on_gpu[0], on_cpu[0]) < 1e-6  # get_state gives float32
    np.testing.assert_allclose(on_gpu[2], on_cpu[2], rtol=1e-10)
    np.testing.assert_allclose(on_gpu[3], on_cpu[3], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('channels_last', [False, True])
def test_float32_is_strict(channels_last):
    """Float32 on a GPU is no TF32, whose ten bits are a thousand times coarser."""
    backend = get_backend('pytorch')
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    on_gpu = trained(backend, [GPU], channels_last=channels_last)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    on_cpu = trained(backend, [CPU], double=True)
    np.testing.assert_allclose(on_gpu[2][:1], on_cpu[2][:1], rtol=1e-5)  # before the first step
    np.testing.assert_allclose(on_gpu[2], on_cpu[2], rtol=1e-3)


def test_two_replicas_are_one_state():
    """After steps on two replicas there is one net, and its momentum can go on elsewhere."""
    backend = get_backend('pytorch')
    state, _, losses, _ = trained(backend, [GPU, GPU])
    assert all(np.isfinite(value).all() for value in state.values())
    on_cpu = trained(backend, [CPU, CPU], double=True)
    np.testing.assert_allclose(losses, on_cpu[2], rtol=1e-3)


def test_bfloat16_is_taken_and_close():
    backend = get_backend('pytorch')
    net = backend.build_net('resnet18', 3)
    assert backend.place(net, [GPU], 'auto').precision == 'bfloat16'
    half, whole = (trained(backend, [GPU], precision) for precision in ('bfloat16', 'float32'))
    np.testing.assert_allclose(half[2], whole[2], rtol=0.1)
    assert half[3].dtype == np.float32


def test_full_memory_is_one_line():
    backend = get_backend('pytorch')
    net = backend.build_net('resnet18', 3)
    placed = backend.place(net, [GPU])
    free = torch.cuda.mem_get_info()[0]
    taken = torch.empty(free - (200 << 20), dtype=torch.uint8, device=GPU)
    trainer = backend.build_trainer(placed, Recipe(0.01))
    batch = backend.to_batch(np.zeros((64, 3, 224, 224), np.float32), np.zeros(64, int))
    before = {name: np.array(value) for name, value in backend.get_state(placed).items()}
    with pytest.raises(DeviceError, match='smaller batch size') as caught:
        backend.train_step(placed, trainer, batch)
    with pytest.raises(DeviceError, match='smaller batch size'):
        backend.logits(placed, batch)
    del taken, caught
    torch.cuda.empty_cache()
    after = backend.get_state(placed)
    weights = [name for name in before if 'running' not in name]
    assert all(np.array_equal(before[name], after[name]) for name in weights)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_command_trains_resumes_and_evaluates_elsewhere(tmp_path, precision):
    """A run of a GPU goes on there, and the CPU gives its checkpoint the same accuracy."""
    out = str(tmp_path / 'run')
    options = ['--source', 'none', '--backend', 'pytorch', '--precision', precision, '--out', out]
    main(['train', *options, '--epochs', '1'], standalone_mode=False)
    main(['train', *options, '--epochs', '2', '--resume'], standalone_mode=False)
    rows = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    assert [row['epoch'] for row in rows] == [1, 2]
    command = 'from d2l_ft.cli.main import main; main()'
    seen = {}
    for name, variables in {'gpu': {}, 'cpu': {'CUDA_VISIBLE_DEVICES': ''}}.items():
        done = subprocess.run(
            [sys.executable, '-c', command, 'evaluate', out, '--json'],
            env=os.environ | variables, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        seen[name] = json.loads(done.stdout)['accuracy']
    assert abs(seen['gpu'] - seen['cpu']) <= 0.02
