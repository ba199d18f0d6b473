"""The PyTorch backend's nets: heads, sources, freezing, errors."""

import d2l_ft_pytorch as backend
import numpy as np
import pytest
import torch
from torch import nn

from d2l_ft.errors import ModelError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES, is_head
from d2l_ft.optim.recipe import Recipe

from .nets import TWO, Tiny, random_batch, shaken

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


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
