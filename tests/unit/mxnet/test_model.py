"""The MXNet backend's nets: heads, sources, freezing, against those of torchvision."""

import d2l_ft_mxnet as backend
import d2l_ft_mxnet.data
import d2l_ft_pytorch
import mxnet as mx
import numpy as np
import pytest
import torch
import torchvision
from d2l_ft_pytorch.model import ResNet18V2
from mxnet.gluon import nn

from d2l_ft.errors import ModelError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES, is_head
from d2l_ft.optim.recipe import Recipe

from .nets import TWO, equal_states, numpy_batch, random_batch, shaken

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.usefixtures('arrays')]


def torch_net(arch: str, classes: int, state) -> torch.nn.Module:
    """Return torchvision's own net with a state."""
    with torch.device('meta'):
        own = arch == 'resnet18_v2'
        net = ResNet18V2(classes) if own else getattr(torchvision.models, arch)(num_classes=classes)
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    missing, unexpected = net.load_state_dict(tensors, strict=False, assign=True)
    assert not unexpected
    assert all(name.endswith('num_batches_tracked') for name in missing)
    return net.eval()


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_same_function_as_torchvision_with_either_head(arch):
    spec = ARCHITECTURES[arch]
    large = backend.build_net(arch, 10, seed=1)
    source = shaken(backend.get_state(backend.place(large)))
    backend.set_state(backend.place(large), source)
    small = backend.build_net(arch, 2, source, seed=0)
    state = backend.get_state(backend.place(small))
    for name, array in state.items():
        if is_head(name, spec.head):
            assert array.shape[0] == 2
        else:
            np.testing.assert_array_equal(array, source[name], err_msg=name)
    weight = state[f'{spec.head}.weight']
    assert weight.shape[:2] == (2, spec.features)
    assert np.abs(weight).max() > 0
    assert isinstance(backend.head(small), nn.Conv2D if weight.ndim == 4 else nn.Dense)
    assert tuple(backend.head(small).weight.shape) == weight.shape
    for classes, net, values in ((2, small, state), (10, large, source)):
        theirs = torch_net(arch, classes, values)
        for size in (spec.smallest, 75):
            images, labels = numpy_batch(2, size, dtype='float32')
            placed = backend.place(net)
            ours = backend.logits(placed, backend.to_batch(images, labels))
            with torch.inference_mode():
                wanted = theirs(torch.from_numpy(images)).numpy()
            assert ours.dtype == np.float32
            assert np.abs(ours - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_same_function_in_float64():
    net = backend.build_net('resnet18', 3, seed=1)
    net.cast('float64')
    placed = backend.place(net)
    state = shaken(backend.get_state(placed))
    assert {array.dtype for array in state.values()} == {np.dtype('float64')}
    backend.set_state(placed, state)
    images, labels = numpy_batch(2, 64)
    ours = backend.logits(placed, backend.to_batch(images, labels))
    with torch.inference_mode():
        wanted = torch_net('resnet18', 3, state)(torch.from_numpy(images)).numpy()
    assert ours.dtype == np.float64
    assert np.abs(ours - wanted).max() <= 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize('arch', ['resnet18', 'resnet18_v2', 'squeezenet1_1'])
def test_both_frameworks_start_from_the_same_numbers(arch):
    ours = backend.get_state(backend.place(backend.build_net(arch, 2, seed=5)))
    theirs = d2l_ft_pytorch.get_state(
        d2l_ft_pytorch.place(d2l_ft_pytorch.build_net(arch, 2, seed=5))
    )
    assert equal_states(ours, theirs)
    other = backend.get_state(backend.place(backend.build_net(arch, 2, seed=6)))
    assert not equal_states(ours, other)


def test_the_head_does_not_depend_on_the_source_and_no_generator_moves():
    mx.random.seed(7)
    wanted = mx.nd.random.uniform(shape=(3,)).asnumpy()
    mx.random.seed(7)
    source = backend.get_state(backend.place(backend.build_net('resnet18_v2', 5, seed=9)))
    with_source = backend.get_state(
        backend.place(backend.build_net('resnet18_v2', 2, source, seed=1))
    )
    without = backend.get_state(backend.place(backend.build_net('resnet18_v2', 2, seed=1)))
    assert np.array_equal(with_source['output.weight'], without['output.weight'])
    assert not np.array_equal(with_source['features.1.weight'], without['features.1.weight'])
    np.testing.assert_array_equal(mx.nd.random.uniform(shape=(3,)).asnumpy(), wanted)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: backend.build_net('resnet19', 2), "unknown architecture 'resnet19'"),
        (lambda: backend.build_net('resnet18', 0), 'at least one class'),
        (lambda: backend.build_net('resnet18_v2', 2, {}), 'the source is no resnet18_v2'),
        (lambda: backend.head(nn.Dense(2)), 'Dense has no output layer that is known'),
        (lambda: backend.place(nn.Dense(2, in_units=3)), r'call net\.initialize\(\) first'),
        (lambda: backend.place(nn.Dense(2, in_units=3), TWO), r'call net\.initialize\(\) first'),
    ],
)
def test_model_errors(call, message):
    with pytest.raises((ModelError, OptionError), match=message) as caught:
        call()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('arch', ['resnet18', 'resnet18_v2', 'mobilenet_v2'])
@pytest.mark.parametrize('warm', [False, True])
def test_freeze_leaves_the_bits_of_the_body(arch, warm):
    net = backend.build_net(arch, 2, seed=1)
    batch = random_batch(dtype='float32')
    placed = backend.place(net)
    if warm:  # a graph that was compiled before must not survive
        backend.train_step(placed, backend.build_trainer(placed, Recipe(0.01)), batch)
    backend.freeze(net)
    before = backend.get_state(placed)
    trainer = backend.build_trainer(placed, Recipe(0.1, momentum=0.9))
    for _ in range(2):
        backend.train_step(placed, trainer, batch)
    after = backend.get_state(placed)
    head = ARCHITECTURES[arch].head
    for name, array in before.items():
        assert np.array_equal(after[name], array) != is_head(name, head), name
    trained = set(backend.get_trainer_state(placed, trainer))
    assert trained == {f'{head}.weight', f'{head}.bias'}
