"""The MXNet backend: nets, heads, freezing, SGD, replicas, loaders, states and errors."""

import gc
import inspect
import os
import random
import signal
import subprocess
import sys
import weakref

import d2l_ft_mxnet as backend
import d2l_ft_mxnet.data
import d2l_ft_pytorch
import mxnet as mx
import numpy as np
import pytest
import torch
import torchvision
from d2l_ft_mxnet.placement import contexts, parameters
from d2l_ft_pytorch.model import ResNet18V2
from mxnet import autograd, gluon
from mxnet.gluon import nn
from PIL import Image

from d2l_ft.backend.protocol import Backend
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.sampling import epoch_order
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import D2LFTError, DataError, DeviceError, ModelError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES, is_head
from d2l_ft.optim.recipe import Recipe
from d2l_ft.system.hardware import has_bfloat16, usable_cores

TWO = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture(autouse=True, params=['legacy', 'set_np'])
def arrays(request):
    """Run each test in both semantics; return the module that makes arrays in it."""
    mx.npx.set_np(request.param == 'set_np', request.param == 'set_np')
    yield mx.np if request.param == 'set_np' else mx.nd
    mx.npx.reset_np()
    if 'arch' in request.fixturenames:
        gc.collect()  # the nets of the zoo are large, and refer to themselves


class Tiny(nn.HybridBlock):
    """A user's own net, with or without BatchNorm."""

    def __init__(self, norm: bool = False, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2D(4, 3, 2, in_channels=3)
        self.norm = nn.BatchNorm(in_channels=4) if norm else None
        self.fc = nn.Dense(classes, in_units=4)

    def hybrid_forward(self, F, x):
        x = self.conv(x)
        x = self.norm(x) if self.norm else x
        relu = F.npx.relu if mx.util.is_np_array() else F.relu
        return self.fc(relu(x).mean(axis=(2, 3)))


def tiny(norm: bool = False, places=None, dtype: str = 'float64'):
    net = Tiny(norm)
    net.initialize(ctx=mx.cpu(0))
    net.cast(dtype)
    draws = np.random.default_rng(3)
    placed = backend.place(net)
    state = backend.get_state(placed)
    for name, array in state.items():
        if 'running' not in name:
            array[...] = draws.normal(0, 0.5, array.shape)
    backend.set_state(placed, state)
    net.hybridize(static_alloc=True)
    backend.place(net, places or [mx.cpu(0)])
    return net


def numpy_batch(count: int = 4, size: int = 32, classes: int = 2, dtype: str = 'float64'):
    draws = np.random.default_rng(1)
    images = draws.normal(size=(count, 3, size, size)).astype(dtype)
    return images, draws.integers(0, classes, count).astype(np.int32)


def random_batch(*args, **kwargs):
    return backend.to_batch(*numpy_batch(*args, **kwargs))


def shaken(state):
    """Give statistics and biases values that no fresh net has."""
    draws = np.random.default_rng(2)
    for name, array in state.items():
        if 'running' in name or name.endswith('bias'):
            array += draws.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    return state


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


def equal_states(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


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
    assert (backend.NAME, backend.FRAMEWORK) == ('mxnet', 'mxnet')


# Nets


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
    assert equal_states(source, kept)


def test_a_users_zoo_net_has_the_canonical_state(arrays):
    zoo = gluon.model_zoo.vision.resnet18_v2(classes=2)
    zoo.initialize()
    with pytest.raises(ModelError, match='run a batch through the net first'):
        backend.get_state(backend.place(zoo))
    zoo(arrays.zeros((1, 3, 32, 32)))
    net = backend.build_net('resnet18_v2', 2)
    placed, theirs = backend.place(net), backend.place(zoo)
    backend.set_state(theirs, shaken(backend.get_state(placed)))
    backend.set_state(placed, backend.get_state(theirs))
    batch = random_batch(dtype='float32')
    np.testing.assert_allclose(
        backend.logits(theirs, batch), backend.logits(placed, batch), rtol=1e-5
    )
    assert backend.head(zoo) is zoo.output


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


# Devices


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


# Training


def gradients(net, batch):
    """Return canonical name -> gradient of the mean cross-entropy, computed by hand."""
    images, labels = batch
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels).mean()
    loss.backward()
    return {
        name.replace('gamma', 'weight').replace('beta', 'bias'): each.grad().asnumpy()
        for name, each in parameters(net).items()
        if each.grad_req != 'null'
    }


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_a_step_is_the_recipe(reduction):
    recipe = Recipe(0.125, head_lr_mult=10, weight_decay=0.5)
    net, batch = tiny(), random_batch(5, classes=3)
    placed = backend.place(net)
    before, slope = backend.get_state(placed), gradients(net, batch)
    wanted_loss = -np.log(softmax(backend.logits(placed, batch)))[
        range(5), batch[1].asnumpy()
    ].sum()
    hits = (backend.logits(placed, batch).argmax(1) == batch[1].asnumpy()).sum()
    sums = backend.train_step(placed, backend.build_trainer(placed, recipe), batch, None, reduction)
    after = backend.get_state(placed)
    factor = 5 if reduction == 'sum' else 1
    for name, weight in before.items():
        rate = 0.125 * (10 if is_head(name, 'fc') else 1)
        wanted = weight - rate * (factor * slope[name] + 0.5 * weight)
        np.testing.assert_allclose(after[name], wanted, rtol=1e-6, atol=1e-7, err_msg=name)
    assert float(sums.loss) == pytest.approx(float(wanted_loss), rel=1e-6)
    assert (int(float(sums.correct)), sums.examples) == (hits, 5)


def softmax(values):
    exponents = np.exp(values - values.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def test_the_heads_step_is_ten_times_that_of_equal_gradients():
    steps = {}
    for multiplier in (1, 10):
        net = tiny()
        placed = backend.place(net)
        before = backend.get_state(placed)
        recipe = Recipe(0.125, head_lr_mult=multiplier, weight_decay=0)
        backend.train_step(placed, backend.build_trainer(placed, recipe), random_batch(classes=3))
        after = backend.get_state(placed)
        steps[multiplier] = {name: after[name] - before[name] for name in before}
    for name, step in steps[1].items():
        factor = 10 if is_head(name, 'fc') else 1
        np.testing.assert_allclose(steps[10][name], factor * step, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize('sizes', [(4, 5, 1, 3), (1, 1), (1, 4, 1, 5)])
@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_two_contexts_take_the_steps_of_one(sizes, momentum):
    recipe = Recipe(0.1, momentum=momentum, weight_decay=0.01)
    ended = []
    for places in (TWO[:1], TWO):
        net = tiny(places=places)
        placed = backend.place(net)
        trainer = backend.build_trainer(placed, recipe)
        losses = [
            float(backend.train_step(placed, trainer, random_batch(size, classes=3)).loss)
            for size in sizes
        ]
        ended.append(
            (losses, backend.get_state(placed), backend.get_trainer_state(placed, trainer))
        )
        for parameter in parameters(net).values():
            first, *others = (each.asnumpy() for each in parameter.list_data())
            assert all(np.array_equal(first, other) for other in others)
    (one_loss, one, one_velocity), (two_loss, two, two_velocity) = ended
    np.testing.assert_allclose(two_loss, one_loss, rtol=1e-12)
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-11, atol=1e-13, err_msg=name)
    assert one_velocity.keys() == two_velocity.keys()
    assert bool(one_velocity) == bool(momentum)


def test_frozen_resnet_on_two_contexts_takes_the_step_of_one():
    ended = []
    for places in (TWO[:1], TWO):
        net = backend.build_net('resnet18_v2', 2, seed=1)
        net.cast('float64')
        placed = backend.place(net, places)
        backend.freeze(net)
        trainer = backend.build_trainer(placed, Recipe(0.1))
        backend.train_step(placed, trainer, random_batch(5))
        ended.append(backend.get_state(placed))
    for name, array in ended[0].items():
        np.testing.assert_allclose(ended[1][name], array, rtol=1e-10, atol=1e-12, err_msg=name)


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


def test_frozen_training_sees_the_running_statistics_and_the_heads_rate():
    net = tiny(norm=True)
    placed = backend.place(net)
    backend.set_state(placed, shaken(backend.get_state(placed)))
    batch = random_batch(classes=3)
    backend.logits(placed, batch)  # compiles a graph that freezing must drop
    backend.freeze(net)
    outputs, before = backend.logits(placed, batch), backend.get_state(placed)
    wanted = -np.log(softmax(outputs))[range(4), batch[1].asnumpy()].sum()
    recipe = Recipe(0.125, head_lr_mult=10, weight_decay=0)
    trainer = backend.build_trainer(placed, recipe)
    sums = backend.train_step(placed, trainer, batch)
    assert float(sums.loss) == pytest.approx(wanted, rel=1e-6)
    errors = softmax(outputs) - np.eye(3)[batch[1].asnumpy()]
    step = backend.get_state(placed)['fc.bias'] - before['fc.bias']
    np.testing.assert_allclose(step, -1.25 * errors.mean(0), rtol=1e-6)


def test_a_loss_of_the_users():
    net, batch = tiny(), random_batch(classes=3)
    placed = backend.place(net)
    before = backend.get_state(placed)
    trainer = backend.build_trainer(placed, Recipe(0.125, head_lr_mult=1, weight_decay=0))

    class Twice(gluon.loss.SoftmaxCrossEntropyLoss):
        def hybrid_forward(self, F, *args):
            return 2 * super().hybrid_forward(F, *args)

    slope = gradients(net, batch)
    sums = backend.train_step(placed, trainer, batch, Twice())
    after = backend.get_state(placed)
    np.testing.assert_allclose(after['fc.bias'], before['fc.bias'] - 0.25 * slope['fc.bias'])
    assert float(sums.loss) > 0
    with pytest.raises(ModelError, match='for 4 examples'):
        backend.train_step(placed, trainer, batch, lambda outputs, _: outputs)


@pytest.mark.parametrize('places', [TWO[:1], TWO])
def test_resume_is_exact(places):
    recipe = Recipe(0.1, momentum=0.9)
    batches = [random_batch(size, classes=3) for size in (4, 3, 1, 4)]
    net = tiny(norm=True, places=places)
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, recipe)
    assert backend.get_trainer_state(placed, trainer) == {}
    for batch in batches[:2]:
        backend.train_step(placed, trainer, batch)
    state, memory = backend.get_state(placed), backend.get_trainer_state(placed, trainer)
    assert set(memory) == {name for name in state if 'running' not in name}
    for batch in batches[2:]:
        backend.train_step(placed, trainer, batch)
    again = backend.place(tiny(norm=True, places=places))
    backend.set_state(again, state)
    second = backend.build_trainer(again, recipe)
    backend.set_trainer_state(again, second, memory)
    assert equal_states(backend.get_trainer_state(again, second), memory)
    for batch in batches[2:]:
        backend.train_step(again, second, batch)
    assert equal_states(backend.get_state(again), backend.get_state(placed))
    assert equal_states(
        backend.get_trainer_state(again, second), backend.get_trainer_state(placed, trainer)
    )


def test_velocity_is_what_the_step_took_and_can_be_forgotten():
    net, batch = tiny(), random_batch(classes=3)
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.1, momentum=0.9))
    before = backend.get_state(placed)
    backend.train_step(placed, trainer, batch)
    after, memory = backend.get_state(placed), backend.get_trainer_state(placed, trainer)
    for name, velocity in memory.items():
        np.testing.assert_allclose(before[name] - after[name], velocity, rtol=1e-9, atol=1e-12)
    backend.set_trainer_state(placed, trainer, {})
    assert backend.get_trainer_state(placed, trainer) == {}
    backend.set_state(placed, before)
    backend.train_step(placed, trainer, batch)
    assert equal_states(backend.get_state(placed), after)


def test_the_state_of_a_users_trainer_on_the_kvstore():
    net = tiny(places=TWO)
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.1, 'momentum': 0.5})
    placed = backend.place(net)
    backend.train_step(placed, trainer, random_batch(classes=3))
    memory = backend.get_trainer_state(placed, trainer)
    assert set(memory) == set(backend.get_state(placed))
    doubled = {name: 2 * array for name, array in memory.items()}
    backend.set_trainer_state(placed, trainer, doubled)
    assert equal_states(backend.get_trainer_state(placed, trainer), doubled)
    before = backend.get_state(placed)
    trainer.set_learning_rate(1e-30)
    backend.train_step(placed, trainer, random_batch(classes=3))
    np.testing.assert_allclose(
        before['fc.weight'] - backend.get_state(placed)['fc.weight'], memory['fc.weight'], rtol=1e-9
    )


def test_trainer_errors():
    net = tiny()
    placed = backend.place(net)
    trainer = backend.build_trainer(placed, Recipe(0.1))
    velocities = {name: np.zeros_like(array) for name, array in backend.get_state(placed).items()}
    with pytest.raises(ModelError, match='the trainer has no momentum'):
        backend.set_trainer_state(placed, trainer, velocities)
    moving = backend.build_trainer(placed, Recipe(0.1, momentum=0.9))
    with pytest.raises(ModelError, match=r"the state has no 'conv\.bias'"):
        backend.set_trainer_state(placed, moving, {'conv.weight': velocities['conv.weight']})
    adam = gluon.Trainer(net.collect_params(), 'adam')
    for call in (backend.get_trainer_state, lambda *a: backend.set_trainer_state(*a, {})):
        with pytest.raises(ModelError, match='the state of Adam'):
            call(placed, adam)
    with pytest.raises(ModelError, match='not of this net'):
        backend.get_trainer_state(backend.place(tiny()), trainer)
    with pytest.raises(OptionError, match="'mean', 'sum' or 'book'"):
        backend.train_step(placed, trainer, random_batch(classes=3), None, 'none')
    placed = backend.place(net, TWO)
    with pytest.raises(ModelError, match='build the trainer again'):
        backend.train_step(placed, trainer, random_batch(classes=3))


def test_groups_that_are_empty_or_overlap_are_refused():
    class Shared(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Dense(3, in_units=3)
            self.output = nn.Dense(3, in_units=3, params=self.hidden.params)

    class Bare(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Dense(3, in_units=3)

    shared, bare, net = Shared(), Bare(), tiny()
    shared.initialize()
    bare.initialize()
    net.fc.collect_params().setattr('grad_req', 'null')
    for each, message in (
        (shared, 'in the body and in the head'),
        (bare, 'the body'),
        (net, 'the head'),
    ):
        with pytest.raises(ModelError, match=message):
            backend.build_trainer(backend.place(each), Recipe(0.1))
        assert backend.build_trainer(backend.place(each), Recipe(0.1, head_lr_mult=1))
    backend.freeze(net)
    with pytest.raises(ModelError, match='no trainable parameter'):
        backend.build_trainer(backend.place(net), Recipe(0.1, head_lr_mult=1))


def test_set_state_is_all_or_nothing():
    net = tiny(norm=True, places=TWO)
    placed = backend.place(net)
    before = backend.get_state(placed)
    for change in ({'fc.bias': np.zeros(4)}, {'extra': np.zeros(1)}):
        with pytest.raises(ModelError):
            backend.set_state(placed, {name: array + 1 for name, array in before.items()} | change)
    assert equal_states(backend.get_state(placed), before)
    moved = {name: array + 1 for name, array in before.items()}
    backend.set_state(placed, moved)
    for parameter, name in ((net.fc.bias, 'fc.bias'), (net.norm.gamma, 'norm.weight')):
        assert all(np.array_equal(data.asnumpy(), moved[name]) for data in parameter.list_data())
    backend.get_state(placed)['fc.bias'][:] = 7
    assert equal_states(backend.get_state(placed), moved)


# Batches


def collect(loader, epochs=(0,)):
    found = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        found += [(images.asnumpy(), labels.asnumpy()) for images, labels in loader]
    return found


def test_to_batch_copies_and_keeps_dtypes():
    for floats, integers in (('float32', 'int32'), ('float64', 'int64')):
        images, labels = np.ones((2, 3, 4, 4), floats), np.array([0, 1], integers)
        ours = backend.to_batch(images, labels)
        images[:] = 0
        assert ours[0].asnumpy().min() == 1
        assert (ours[0].dtype, ours[1].dtype) == (np.dtype(floats), np.dtype(integers))


@pytest.mark.parametrize('workers', [0, 2])
def test_batches_are_the_pipelines_whatever_the_workers(samples, workers):
    pipeline = Pipeline(16, train=True, seed=4)
    loader = backend.loader(samples, pipeline, 3, shuffle=True, workers=workers, seed=5)
    assert len(loader) == 3
    for epoch in (0, 3):
        order = epoch_order(7, 5, epoch, shuffle=True)
        batches = collect(loader, [epoch])
        assert [len(labels) for _, labels in batches] == [3, 3, 1]
        crops = np.stack([pipeline.crop(samples[i].path, epoch, i) for i in order])
        np.testing.assert_array_equal(
            np.concatenate([images for images, _ in batches]), pipeline.to_float(crops)
        )
        labels = np.concatenate([labels for _, labels in batches])
        assert labels.tolist() == [samples[i].label for i in order]
        assert (batches[0][0].dtype, labels.dtype) == (np.float32, np.int32)
    loader.set_epoch(3, start=2)
    (last,) = list(loader)
    np.testing.assert_array_equal(last[0].asnumpy(), batches[2][0])
    del loader


def test_a_gluon_transform_gets_the_decoded_image_and_draws_by_key(samples):
    t = gluon.data.vision.transforms
    draws = [t.RandomResizedCrop(16), t.RandomFlipLeftRight(), t.RandomBrightness(0.4)]
    compose = t.Compose([*draws, t.ToTensor()])
    python = random.getstate()
    alone, forked, there = (
        collect(backend.loader(samples, compose, 3, workers=workers, seed=2, device=device), (0, 1))
        for workers, device in ((0, None), (2, None), (0, mx.cpu()))
    )
    assert random.getstate() == python
    for (images, labels), *others in zip(alone, forked, there, strict=True):
        for other, their_labels in others:
            np.testing.assert_array_equal(images, other)
            np.testing.assert_array_equal(labels, their_labels)
    assert alone[0][0].shape == (3, 3, 16, 16)
    assert not np.array_equal(alone[0][0], alone[3][0])
    plain = t.Compose([t.Resize((20, 16)), t.ToTensor()])
    ((first, _), *_) = collect(backend.loader(samples, plain, 1))
    image = mx.image.imread(samples[0].path)
    np.testing.assert_array_equal(first[0], plain(image).asnumpy())


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('own', [True, False])
def test_an_unreadable_image_is_named_and_the_loader_lives_on(samples, tmp_path, workers, own):
    t = gluon.data.vision.transforms
    pipeline = Pipeline(16) if own else t.Compose([t.Resize(16), t.ToTensor()])
    good = tmp_path / '4.png'
    bytes_before = good.read_bytes()
    good.write_bytes(b'no image')
    loader = backend.loader(samples, pipeline, 2, workers=workers)
    with pytest.raises(DataError, match=r'4\.png') as caught:
        list(loader)
    assert '\n' not in str(caught.value)
    good.write_bytes(bytes_before)
    assert len(list(loader)) == 4


def test_a_killed_worker_is_an_error(samples):
    class Suicide:
        def __call__(self, _):
            os.kill(os.getpid(), signal.SIGKILL)

    loader = backend.loader(samples, Suicide(), 7, workers=1)
    with pytest.raises(DataError, match='use fewer `workers`') as caught:
        list(loader)
    assert '\n' not in str(caught.value)


def test_evaluate_waits_and_sums(samples):
    net = backend.build_net('squeezenet1_1', 2, seed=2)
    loader = backend.loader(samples, Pipeline(32), 3)
    placed = backend.place(net)
    sums = backend.evaluate(placed, loader)
    outputs = np.concatenate([backend.logits(placed, batch) for batch in loader])
    labels = np.array([sample.label for sample in samples])
    wanted = -np.log(softmax(outputs))[range(7), labels].sum()
    assert float(sums.loss) == pytest.approx(wanted, rel=1e-5)
    assert (float(sums.correct), sums.examples) == ((outputs.argmax(1) == labels).sum(), 7)
