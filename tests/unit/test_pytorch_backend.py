"""The PyTorch backend: nets, heads, freezing, SGD, replicas, loaders, states and errors."""

import gc
import inspect
import os
import signal
import sys
import weakref
from dataclasses import dataclass

import d2l_ft_pytorch as backend
import numpy as np
import pytest
import torch
from d2l_ft_pytorch.placement import replicas, restore_threads
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

from d2l_ft.backend.protocol import Backend
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import epoch_order
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import DataError, DeviceError, ModelError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES, is_head
from d2l_ft.optim.recipe import Recipe
from d2l_ft.system.hardware import usable_cores

TWO = [torch.device('cpu')] * 2


class Tiny(nn.Module):
    """A user's own net, with or without BatchNorm."""

    def __init__(self, norm: bool = False, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.fc = nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def tiny(norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return Tiny(norm).double()


def random_batch(count: int = 4, size: int = 32, classes: int = 2, dtype: str = 'float64'):
    draws = np.random.default_rng(1)
    images = draws.normal(size=(count, 3, size, size)).astype(dtype)
    return backend.to_batch(images, draws.integers(0, classes, count))


def gradients(net: nn.Module) -> list[np.ndarray]:
    return [p.grad.numpy().copy() for p in net.parameters() if p.grad is not None]


def shaken(net: nn.Module) -> nn.Module:
    """Give the running statistics values that no fresh net has."""
    draws = np.random.default_rng(2)
    placed = backend.place(net)
    state = backend.get_state(placed)
    for name, array in state.items():
        if 'running' in name:
            array += draws.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    backend.set_state(placed, state)
    return net


@pytest.fixture
def samples(tmp_path):
    draws = np.random.default_rng(0)
    found = []
    for i in range(7):
        path = tmp_path / f'{i}.png'
        Image.fromarray(draws.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(path)
        found.append(Sample(str(path), i % 2))
    return found


# The seam


def test_signatures_are_those_of_the_protocol():
    for name, function in inspect.getmembers(Backend, inspect.isfunction):
        if name.startswith('_'):
            continue
        wanted = list(inspect.signature(function).parameters.values())[1:]
        found = inspect.signature(getattr(backend, name)).parameters.values()
        assert [(p.name, p.default, p.kind) for p in found] == [
            (p.name, p.default, p.kind) for p in wanted
        ], name
    assert (backend.NAME, backend.FRAMEWORK) == ('pytorch', 'torch')


# Nets


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_new_head_on_the_source_body(arch):
    spec = ARCHITECTURES[arch]
    big = backend.build_net(arch, 10, seed=1)
    source = backend.get_state(backend.place(big))
    net = backend.build_net(arch, 2, source, seed=0)
    placed = backend.place(net)
    state = backend.get_state(placed)
    kind = nn.Conv2d if arch.startswith('squeezenet') else nn.Linear
    for each, classes in ((big, 10), (net, 2)):
        assert type(backend.head(each)) is kind
        assert backend.head(each).weight.shape[:2] == (classes, spec.features)
        assert backend.head(each) is each.get_submodule(spec.head)
    for name, array in state.items():
        if is_head(name, spec.head):
            assert array.shape != source[name].shape
        else:
            np.testing.assert_array_equal(array, source[name], err_msg=name)
    weight = state[f'{spec.head}.weight']
    assert np.abs(weight).max() > 0
    assert not np.array_equal(weight, source[f'{spec.head}.weight'][:2])
    out = backend.logits(placed, random_batch(1, spec.smallest, dtype='float32'))
    assert out.shape == (1, 2)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


def test_build_is_a_function_of_the_seed_and_leaves_the_generators_alone():
    before = torch.random.get_rng_state()
    first, again, other = (
        backend.get_state(backend.place(backend.build_net('resnet18', 2, seed=seed)))
        for seed in (3, 3, 4)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first['conv1.weight'], other['conv1.weight'])
    assert not any('num_batches' in name for name in first)
    counts = [b for b in backend.build_net('resnet18', 2).buffers() if not b.is_floating_point()]
    assert counts
    assert all(int(each) == 0 for each in counts)


def test_source_is_copied_not_shared():
    source = backend.get_state(backend.place(backend.build_net('squeezenet1_1', 2)))
    kept = {name: array.copy() for name, array in source.items()}
    for array in source.values():
        array.flags.writeable = False
    net = backend.build_net('squeezenet1_1', 2, source)
    placed = backend.place(net)
    backend.train_step(placed, backend.build_trainer(placed, Recipe(0.1)), random_batch())
    assert not np.array_equal(
        backend.get_state(placed)['features.0.weight'], kept['features.0.weight']
    )
    assert all(np.array_equal(source[name], kept[name]) for name in kept)


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', 1e-5), ('float64', 1e-12)])
def test_resnet18_v2_is_gluons(dtype, tolerance):
    import mxnet as mx

    net = shaken(backend.build_net('resnet18_v2', 5, seed=2)).to(getattr(torch, dtype))
    placed = backend.place(net)
    state = backend.get_state(placed)
    gluon = mx.gluon.model_zoo.vision.resnet18_v2(classes=5)
    gluon.initialize()
    gluon.cast(dtype)
    images, labels = random_batch(2, 64, dtype=dtype)
    gluon(mx.nd.array(images.numpy(), dtype=dtype))
    names = set()
    for name, parameter in gluon._collect_params_with_prefix().items():
        if name in ('features.0.gamma', 'features.0.beta'):
            continue  # constant 1 and 0
        name = name.replace('gamma', 'weight').replace('beta', 'bias')
        parameter.set_data(mx.nd.array(state[name], dtype=dtype))
        names.add(name)
    assert names == set(state)
    wanted = gluon(mx.nd.array(images.numpy(), dtype=dtype)).asnumpy()
    found = backend.logits(placed, (images, labels))
    assert found.dtype == wanted.dtype == dtype
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def test_head_in_known_places():
    net = Tiny()
    assert backend.head(net) is net.fc
    net.heads, net.fc = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3), nn.ReLU()), None
    assert backend.head(net) is net.heads[1]


# Freezing


@pytest.mark.parametrize('arch', ['resnet18_v2', 'mobilenet_v2'])
def test_frozen_body_keeps_its_bits(arch):
    net = shaken(backend.build_net(arch, 2))
    backend.freeze(net)
    placed = backend.place(net, TWO)
    before = backend.get_state(placed)
    trainer = backend.build_trainer(placed, Recipe(0.1, momentum=0.9))
    assert len(trainer.param_groups) == 1
    assert trainer.param_groups[0]['lr'] == 0.1 * 10
    for _ in range(2):
        backend.train_step(placed, trainer, random_batch(4))
    after = backend.get_state(placed)
    head = ARCHITECTURES[arch].head
    for name in before:
        assert np.array_equal(before[name], after[name]) != is_head(name, head), name
    assert net.training


def test_unfrozen_statistics_move():
    net = backend.build_net('resnet18_v2', 2)
    placed = backend.place(net)
    before = backend.get_state(placed)
    backend.train_step(placed, backend.build_trainer(placed, Recipe(0.1)), random_batch(4))
    after = backend.get_state(placed)
    assert not np.array_equal(before['features.0.running_mean'], after['features.0.running_mean'])


# SGD


def test_head_steps_ten_times_as_far_for_equal_gradients():
    net = tiny()
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.01, weight_decay=0))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.step()
    for name, parameter in net.named_parameters():
        step = before[name] - parameter.detach()
        expected = 0.1 if name.startswith('fc.') else 0.01
        torch.testing.assert_close(step, torch.full_like(step, expected), rtol=1e-12, atol=1e-14)


def test_one_group_when_the_multiplier_is_one():
    trainer = backend.build_trainer(backend.place(tiny()), Recipe(0.01, head_lr_mult=1))
    assert len(trainer.param_groups) == 1


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_weight_decay_is_added_after_the_mean(momentum):
    net = tiny()
    recipe = Recipe(0.01, head_lr_mult=3, weight_decay=0.25, momentum=momentum)
    placed = backend.place(net)
    before = backend.get_state(placed)
    backend.train_step(placed, backend.build_trainer(placed, recipe), random_batch(4))
    for name, parameter in net.named_parameters():
        rate = 0.01 * 3 if name.startswith('fc.') else 0.01
        wanted = before[name] - rate * (parameter.grad.numpy() + 0.25 * before[name])
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=1e-13, atol=1e-16)


def test_momentum_after_a_change_of_rate_is_gluons():
    net = tiny()
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.1, 1, weight_decay=0.01, momentum=0.9))
    weight, draws = net.fc.weight, np.random.default_rng(3)
    w, velocity = weight.detach().numpy().copy(), np.zeros(weight.shape)
    for rate in (0.1, 0.1, 0.01, 0.05):
        g = draws.normal(size=weight.shape)
        velocity = 0.9 * velocity + rate * (g + 0.01 * w)
        w = w - velocity
        trainer.param_groups[0]['lr'] = rate
        weight.grad = torch.from_numpy(g)
        trainer.step()
        np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-12)
        kept = backend.get_trainer_state(placed, trainer)
        np.testing.assert_allclose(kept['fc.weight'], velocity, rtol=1e-12)


def test_sum_is_the_mean_times_the_batch():
    net, batch = tiny(), random_batch(4, classes=3)
    trainer = torch.optim.SGD(net.parameters(), lr=0.0)
    placed = backend.place(net)
    mean = backend.train_step(placed, trainer, batch) and gradients(net)
    total = backend.train_step(placed, trainer, batch, reduction='sum') and gradients(net)
    for one, other in zip(mean, total, strict=True):
        np.testing.assert_allclose(other, 4 * one, rtol=1e-12)


# Replicas


@pytest.mark.parametrize('count', [5, 4, 1])
@pytest.mark.parametrize('arch', ['tiny', 'frozen resnet18'])
def test_two_replicas_equal_one_device(arch, count):
    found = []
    for devices in (TWO[:1], TWO):
        net = tiny() if arch == 'tiny' else shaken(backend.build_net('resnet18', 3)).double()
        if arch != 'tiny':
            backend.freeze(net)
        placed = backend.place(net, devices)
        trainer = backend.build_trainer(placed, Recipe(0.1, momentum=0.9))
        sums = [backend.train_step(placed, trainer, random_batch(count, classes=3)) for _ in '12']
        state = backend.get_state(placed)
        found.append((gradients(net), state, float(sums[1].loss), sums[1].examples))
    (grads, state, loss, examples), (other_grads, other_state, other_loss, other_examples) = found
    assert examples == other_examples == count
    assert loss == pytest.approx(other_loss, rel=1e-12)
    for one, other in zip(grads, other_grads, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-14)
    for name in state:
        np.testing.assert_allclose(other_state[name], state[name], rtol=1e-11, atol=1e-13)


def test_shares_are_split_and_loads():
    net, seen = tiny(), []
    placed = backend.place(net, TWO * 2)
    for replica in replicas(placed):
        replica.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    backend.logits(placed, random_batch(11))
    assert seen == [3, 3, 3, 2]


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


# A user's own parts


@pytest.mark.parametrize(
    'loss', [nn.CrossEntropyLoss(reduction=each) for each in ('none', 'mean', 'sum')]
)
def test_own_net_optimizer_and_loss(loss):
    net, batch = tiny(norm=True), random_batch(5, classes=3)
    wanted = F.cross_entropy(net(batch[0]), batch[1])
    expected = torch.autograd.grad(wanted, list(net.parameters()))
    wanted = float(wanted.detach())
    trainer = torch.optim.Adam(net.parameters(), lr=0.01)
    placed = backend.place(net)
    before = backend.get_state(placed)
    sums = backend.train_step(placed, trainer, batch, loss)
    assert float(sums.loss) == pytest.approx(5 * wanted, rel=1e-12)
    assert not sums.loss.requires_grad
    for one, other in zip(gradients(net), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-10, atol=1e-14)
    assert not np.array_equal(before['conv.weight'], backend.get_state(placed)['conv.weight'])


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


# State


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


# Evaluation


def test_evaluate_sums_over_the_loader_and_restores_modes():
    net = tiny(norm=True)
    placed = backend.place(net, TWO)
    net.train()
    net.norm.eval()
    images, labels = random_batch(5, classes=3)
    sums = backend.evaluate(placed, [(images[:3], labels[:3]), (images[3:], labels[3:])])
    logits = torch.from_numpy(backend.logits(placed, (images, labels)))
    assert sums.examples == 5
    assert float(sums.loss) == pytest.approx(float(F.cross_entropy(logits, labels) * 5), rel=1e-10)
    assert int(sums.correct) == int((logits.argmax(1) == labels).sum())
    assert (net.training, net.norm.training, net.conv.training) == (True, False, True)
    assert float(net.norm.running_mean.abs().max()) == 0


# Loaders


def read(loader, epoch=0, start=0):
    loader.set_epoch(epoch, start)
    return [(images.numpy(), labels.numpy()) for images, labels in loader]


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_are_the_pipelines_for_any_workers(samples, workers):
    pipeline = Pipeline(32, train=True, seed=5)
    loader = backend.loader(samples, pipeline, 3, shuffle=True, workers=workers, seed=9)
    assert len(loader) == 3
    before = torch.random.get_rng_state()
    for epoch in (1, 0):
        order = epoch_order(7, 9, epoch, shuffle=True)
        batches = read(loader, epoch)
        assert [len(labels) for _, labels in batches] == [3, 3, 1]
        for number, (images, labels) in enumerate(batches):
            chosen = order[number * 3 : number * 3 + 3]
            crops = [pipeline.crop(samples[i].path, epoch, i) for i in chosen]
            np.testing.assert_array_equal(images, pipeline.to_float(np.stack(crops)))
            assert images.dtype == np.float32
            assert images.flags.c_contiguous
            assert labels.dtype == np.int64
            assert labels.tolist() == [samples[i].label for i in chosen]
    next(iter(loader))  # an epoch that is left early must not leak into the next
    late = read(loader, 1, start=1)
    whole = read(loader, 1)
    assert len(late) == len(whole) - 1 == 2
    for one, other in zip(late, whole[1:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    assert torch.equal(before, torch.random.get_rng_state())


def test_torchvision_transform_sees_what_image_folder_gives(samples):
    transform = transforms.Compose(
        [transforms.RandomResizedCrop(32, antialias=True), transforms.ToTensor()]
    )
    found = [
        read(backend.loader(samples, transform, 3, workers=workers, seed=4, device=device))
        for workers, device in ((0, None), (2, None), (0, torch.device('cpu')))
    ]
    for one, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_array_equal(one[0], other[0])
    assert found[0][0][0].shape == (3, 3, 32, 32)
    (images, _), *_ = read(backend.loader(samples, transforms.ToTensor(), 1))
    with Image.open(samples[0].path) as image:
        expected = transforms.ToTensor()(image.convert('RGB'))
    np.testing.assert_array_equal(images[0], expected)


@pytest.mark.parametrize('pipeline', [Pipeline(32), transforms.ToTensor()])
@pytest.mark.parametrize('workers', [0, 1])
def test_damaged_image_is_one_line(samples, tmp_path, pipeline, workers):
    path = tmp_path / 'bad.png'
    path.write_text('no image')
    loader = backend.loader([*samples[:1], Sample(str(path), 0)], pipeline, 2, workers=workers)
    with pytest.raises(DataError, match=r'bad\.png') as caught:
        list(loader)
    assert '\n' not in str(caught.value)


@dataclass(frozen=True)
class Deadly(Pipeline):
    """A pipeline whose process is killed, as for want of memory."""

    def crop(self, path, epoch=0, index=0, cache=None):
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_a_data_error(samples, monkeypatch):
    # how long torch waits for a sign of life, 5 seconds otherwise
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.5)
    with pytest.raises(DataError, match='worker') as caught:
        list(backend.loader(samples, Deadly(32), 2, workers=1))
    assert '\n' not in str(caught.value)


# Devices and errors


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


def tied() -> nn.Module:
    net = Tiny()
    net.fc, net.fc2 = nn.Linear(4, 4), nn.Linear(4, 4)
    net.fc2.weight = net.fc.weight
    return net


def headless() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))


def all_frozen() -> nn.Module:
    return Tiny().requires_grad_(False)


def trainer_of(net: nn.Module, kind=torch.optim.SGD):
    return kind(net.parameters(), lr=0.1)


def resized() -> backend.Placed:
    placed = backend.place(Tiny(), TWO)
    placed.net.fc = nn.Linear(4, 9)
    return placed


def of(function, net: nn.Module, trainer, *args):
    """Call a function that takes a placed net and its trainer."""
    return function(backend.place(net), trainer, *args)


MODEL_ERRORS = {
    'architecture': lambda: backend.build_net('resnet19', 2),
    'no class': lambda: backend.build_net('resnet18', 0),
    'source': lambda: backend.build_net('squeezenet1_1', 2, {'x': np.zeros(1)}),
    'no head': lambda: backend.head(headless()),
    'no head to freeze': lambda: backend.freeze(headless()),
    'tied groups': lambda: backend.build_trainer(backend.place(tied()), Recipe(0.1)),
    'frozen head': lambda: backend.build_trainer(backend.place(all_frozen()), Recipe(0.1)),
    'frozen net': lambda: backend.build_trainer(backend.place(all_frozen()), Recipe(0.1, 1)),
    'reduction': lambda: of(backend.train_step, Tiny(), None, random_batch(), None, 'max'),
    'scalars': lambda: of(
        backend.train_step,
        net := Tiny(),
        trainer_of(net),
        random_batch(),
        lambda outputs, _: outputs,
    ),
    'changed net': lambda: backend.logits(resized(), random_batch()),
    'one value': lambda: of(
        backend.train_step,
        net := backend.build_net('resnet18', 2),
        trainer_of(net),
        random_batch(1),
    ),
    'Adam': lambda: of(backend.get_trainer_state, net := Tiny(), trainer_of(net, torch.optim.Adam)),
    'other net': lambda: of(backend.get_trainer_state, Tiny(), trainer_of(Tiny())),
    'trainer state': lambda: of(
        backend.set_trainer_state, net := Tiny(), trainer_of(net), {'fc.weight': np.zeros((3, 4))}
    ),
}


@pytest.mark.parametrize('case', MODEL_ERRORS)
def test_model_errors(case):
    with pytest.raises((ModelError, OptionError)) as caught:
        MODEL_ERRORS[case]()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('devices', 'precision'), [([], 'float32'), (TWO, 'float8')])
def test_place_errors(devices, precision):
    with pytest.raises(DeviceError):
        backend.place(Tiny(), devices, precision)
