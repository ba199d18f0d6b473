"""Both frameworks in one process: same numbers, either opens what the other wrote."""

import json

import numpy as np
import pytest
from test_command import OPTIONS, command

import d2l_ft as d2l
from d2l_ft.errors import D2LFTError
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.needs('mxnet', 'pytorch')]

MXNET, PYTORCH = d2l.get_backend('mxnet'), d2l.get_backend('pytorch')


def distance(a, b):
    """Return the largest difference relative to the largest value."""
    return np.abs(a - b).max() / np.abs(b).max()


def test_distance_can_fail():
    assert distance(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0
    assert distance(np.array([1.0, 2.2]), np.array([1.0, 2.0])) > 0.09


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_same_name_is_the_same_function(arch):
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    scores, states = [], []
    for backend in (MXNET, PYTORCH):
        net = backend.build_net(arch, 3, seed=4)
        placed = backend.place(net, backend.devices('cpu'))
        states.append(backend.get_state(placed))
        scores.append(backend.logits(placed, backend.to_batch(images, np.zeros(2, np.int64))))
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert distance(*scores) < 1e-5  # float32 rounding; measured up to 1.2e-6


def test_loaders_give_the_same_bytes(folder):
    train, _ = d2l.load_folders(folder)
    batches = []
    for backend in (MXNET, PYTORCH):
        pipeline = d2l.Pipeline(48, train=True, seed=2)
        loader = backend.loader(train.samples, pipeline, 8, shuffle=True, seed=2)
        loader.set_epoch(1)
        batches.append([(np.asarray(to_numpy(x)), np.asarray(to_numpy(y))) for x, y in loader])
    for (x, y), (u, v) in zip(*batches, strict=True):
        assert np.array_equal(x, u)
        assert np.array_equal(y, v)


def to_numpy(tensor):
    return tensor.asnumpy() if hasattr(tensor, 'asnumpy') else tensor.numpy()


def test_one_step_agrees():
    images = np.random.default_rng(0).normal(size=(6, 3, 64, 64)).astype(np.float32)
    states = []
    for backend in (MXNET, PYTORCH):
        net = backend.build_net('resnet18', 2)
        placed = backend.place(net, backend.devices('cpu'))
        trainer = backend.build_trainer(placed, d2l.Recipe(0.01, momentum=0.9))
        backend.train_step(placed, trainer, backend.to_batch(images, np.arange(6) % 2))
        states.append(backend.get_state(placed))
    for name, array in states[0].items():
        if 'running_var' not in name:  # biased in MXNet, unbiased in PyTorch
            assert np.allclose(array, states[1][name], atol=2e-3), name
    first = 'bn1.running_var'
    count = 6 * 32 * 32  # values a channel; 0.1 of the new statistics differs by n / (n - 1)
    other = (states[1][first] - 0.9) * (count - 1) / count + 0.9
    assert distance(states[0][first], other) < 1e-5


@pytest.mark.parametrize(('writer', 'reader'), [('mxnet', 'pytorch'), ('pytorch', 'mxnet')])
def test_a_run_opens_in_the_other_framework(writer, reader, folder, tmp_path):
    out = tmp_path / 'run'
    command('train', '--backend', writer, '--data', folder, *OPTIONS,
            '--lr', 0.001, '--epochs', 2, '--out', out)  # fmt: skip
    images = sorted((folder / 'test').rglob('*.jpg'))
    answers = [
        json.loads(command('predict', out, *images, '--json', '--backend', name)[0])
        for name in (writer, reader)
    ]
    for a, b in zip(*answers, strict=True):
        assert a['class'] == b['class']
        assert a['probabilities']['dark'] == pytest.approx(b['probabilities']['dark'], abs=0.02)


def test_nets_of_the_frameworks_alone(folder, capsys):
    import torch
    from mxnet import gluon, init
    from torch import nn

    train, test = d2l.load_folders(folder)
    small = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    small(torch.zeros(1, 3, 32, 32))
    block = gluon.nn.HybridSequential()
    block.add(gluon.nn.Conv2D(4, 3, 2, activation='relu'), gluon.nn.Dense(2))
    block.initialize(init.Xavier())
    for backend, net, loss, trainer in (
        (PYTORCH, small, nn.CrossEntropyLoss(reduction='none'),
         torch.optim.Adam(small.parameters(), 1e-3)),
        (MXNET, block, gluon.loss.SoftmaxCrossEntropyLoss(),
         gluon.Trainer(block.collect_params(), 'adam', {'learning_rate': 1e-3})),
    ):  # fmt: skip
        loaders = [backend.loader(part.samples, d2l.Pipeline(32), 8) for part in (train, test)]
        history = d2l.train_ch13(net, *loaders, loss, trainer, 4)
        assert history[-1].train_loss < history[0].train_loss
        printed = capsys.readouterr().out
        assert 'train acc' in printed
        assert 'examples/sec on' in printed


def test_train_fine_tuning(folder, capsys):
    for backend in (MXNET, PYTORCH):
        net = backend.build_net('resnet18', 2)
        history = d2l.train_fine_tuning(net, 0.001, 8, 1, data=str(folder), image_size=64)
        assert len(history) == 1
        assert capsys.readouterr().out.startswith('loss ')
        d2l.train_fine_tuning(net, 0.001, 8, 1, data=str(folder), image_size=64, quiet=True)
        assert capsys.readouterr().out == ''


def test_a_pretrained_net_has_the_sources_head(tmp_path):
    state = PYTORCH.get_state(PYTORCH.place(PYTORCH.build_net('resnet18', 5, seed=3)))
    path = tmp_path / 'source.safetensors'
    save_checkpoint(path, Checkpoint(state, meta={'arch': 'resnet18'}))
    for backend in (MXNET, PYTORCH):
        found = backend.get_state(backend.place(d2l.pretrained_net('resnet18', str(path), backend)))
        assert found['fc.weight'].shape == (5, 512)
        assert all((found[name] == array).all() for name, array in state.items())
        with pytest.raises(D2LFTError, match="'none' is no model"):
            d2l.pretrained_net('resnet18', 'none', backend)


@pytest.mark.parametrize('count', [4, 3])
def test_as_printed_is_the_books_pytorch_step(count):
    """The printed tab, with torch alone: summed loss, two groups, also on a short batch."""
    import torch
    from torch import nn

    images = np.random.default_rng(0).normal(size=(count, 3, 64, 64)).astype(np.float32)
    batch = PYTORCH.to_batch(images, np.arange(count) % 2)
    recipe = d2l.as_printed('pytorch')
    ours = PYTORCH.place(PYTORCH.build_net('resnet18', 2))
    trainer = PYTORCH.build_trainer(ours, recipe)
    PYTORCH.train_step(ours, trainer, batch, None, recipe.reduction)

    net, lr = PYTORCH.build_net('resnet18', 2), 5e-5
    params = [each for name, each in net.named_parameters() if not name.startswith('fc.')]
    groups = [{'params': params}, {'params': net.fc.parameters(), 'lr': lr * 10}]
    printed = torch.optim.SGD(groups, lr=lr, weight_decay=0.001)
    net.train()
    nn.CrossEntropyLoss(reduction='none')(net(batch[0]), batch[1]).sum().backward()
    printed.step()
    states = PYTORCH.get_state(ours), PYTORCH.get_state(PYTORCH.place(net))
    for name, array in states[0].items():
        assert np.allclose(array, states[1][name], rtol=1e-5, atol=1e-7), name
    start = PYTORCH.get_state(PYTORCH.place(PYTORCH.build_net('resnet18', 2)))
    assert not np.array_equal(states[0]['fc.weight'], start['fc.weight'])


@pytest.mark.parametrize('count', [4, 3])
def test_as_printed_is_the_books_mxnet_step(count):
    """The printed tab, with Gluon alone: lr_mult on the output, step(batch size)."""
    from mxnet import autograd, gluon

    images = np.random.default_rng(0).normal(size=(count, 3, 64, 64)).astype(np.float32)
    batch = MXNET.to_batch(images, np.arange(count) % 2)
    recipe = d2l.as_printed('mxnet')
    ours, other = (MXNET.place(MXNET.build_net('resnet18_v2', 2)) for _ in range(2))
    net = other.net
    MXNET.train_step(ours, MXNET.build_trainer(ours, recipe), batch, None, recipe.reduction)

    for each in net.output.collect_params().values():
        each.lr_mult = 10
    printed = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.01, 'wd': 0.001})
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(batch[0]), batch[1])
    loss.backward()
    printed.step(count)
    states = MXNET.get_state(ours), MXNET.get_state(other)
    for name, array in states[0].items():
        assert np.allclose(array, states[1][name], rtol=1e-5, atol=1e-7), name
