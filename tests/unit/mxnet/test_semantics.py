"""Legacy and NumPy semantics: every function under both and across both, with the same bits."""

import contextlib
import gc
import itertools
import subprocess
import sys
import threading

import d2l_ft_mxnet as backend
import mxnet as mx
import numpy as np
import pytest
from d2l_ft_mxnet import probe
from d2l_ft_mxnet.semantics import (
    convert,
    legacy_parameters,
    made_in_numpy,
    make_neutral,
    numpy_semantics,
    semantics,
)
from mxnet import autograd, gluon
from mxnet.gluon import nn

from d2l_ft.data.folder_layout import load_folders
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import D2LFTError
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.optim.recipe import Recipe

pytestmark = pytest.mark.needs('mxnet')

SIZE = 64
MIXED = [each for each in itertools.product([False, True], repeat=3) if any(each)]
"""Semantics in which a net is made, its trainer is made, and a step is taken."""


@pytest.fixture(autouse=True)
def reset():
    """Leave the semantics as it was, and no net: Gluon's refer to themselves."""
    yield
    mx.npx.reset_np()
    gc.collect()


def arrays(seed=0, size=SIZE):
    draws = np.random.default_rng(seed)
    return draws.normal(size=(5, 3, size, size)).astype('float32'), np.array(
        [0, 1, 0, 1, 1], 'int32'
    )


def experiment(arch, made=False, trained=False, stepped=False, places='cpu', freeze=False):
    """Return all numbers of a short training, whose parts are done in given semantics."""
    numbers, size = [], max(SIZE, ARCHITECTURES[arch].smallest)
    with semantics(numpy=made):
        net = backend.build_net(arch, 2, seed=1)
        if freeze:
            backend.freeze(net)
        placed = backend.place(net, backend.devices(places))
    with semantics(numpy=trained):
        trainer = backend.build_trainer(placed, Recipe(0.01, momentum=0.9))
        batch = backend.to_batch(*arrays(size=size))
    for step in range(3):
        with semantics(numpy=stepped if step == 1 else trained):
            backend.seed(step)
            sums = backend.train_step(placed, trainer, batch)
            numbers += [float(sums.loss), float(sums.correct)]
            velocities = backend.get_trainer_state(placed, trainer)
            backend.set_trainer_state(placed, trainer, velocities)
            backend.set_state(placed, backend.get_state(placed))
            numbers += [
                backend.logits(placed, batch),
                float(backend.evaluate(placed, [batch]).loss),
            ]
            backend.set_rate(trainer, 0.005)
    try:
        numbers.append(backend.features(placed, [batch]))
    except D2LFTError as error:  # a net whose head sees no vectors, or with dropout
        numbers.append(str(error))
    return [*numbers, backend.get_state(placed), velocities]


def same(one, other):
    """Tell whether two results of ``experiment`` are equal to the bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(one, other)


def test_same_can_fail():
    one = [1.0, {'w': np.zeros(2)}]
    assert same(one, [1.0, {'w': np.zeros(2)}])
    assert not same(one, [1.0, {'w': np.full(2, 1e-45)}])
    assert not same(one, [2.0, {'w': np.zeros(2)}])
    assert not same(one, [1.0, {'v': np.zeros(2)}])


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_numbers_are_the_same_bits_in_both(arch):
    assert same(experiment(arch, True, True, True), experiment(arch))


@pytest.mark.parametrize(
    'options', [{}, {'places': 'cpu:2'}, {'freeze': True}], ids=['one', 'two', 'frozen']
)
def test_what_is_made_in_one_is_used_in_the_other(options):
    wanted = experiment('resnet18_v2', **options)
    for made, trained, stepped in MIXED:
        assert same(experiment('resnet18_v2', made, trained, stepped, **options), wanted)


@pytest.mark.parametrize('made', [False, True])
def test_another_thread_has_its_own_semantics(made):
    wanted, found = experiment('squeezenet1_1'), []
    mx.npx.set_np(made, made)

    def work():
        assert not numpy_semantics()  # MXNet's switch belongs to a thread
        with semantics(numpy=not made):
            found.append(experiment('squeezenet1_1', made, not made, made))
            assert numpy_semantics() is not made

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert numpy_semantics() is made
    assert same(found[0], wanted)


@pytest.mark.parametrize('arch', ['resnet18', 'resnet18_v2'])
def test_what_comes_out_has_the_callers_class(arch, folder):
    train, _ = load_folders(folder)
    transforms = gluon.data.vision.transforms
    theirs = transforms.Compose([transforms.Resize(32), transforms.ToTensor()])
    loaders = [
        backend.loader(train.samples, pipeline, 4, workers=workers, device=device)
        for pipeline in (Pipeline(32), theirs)
        for workers, device in ((0, None), (1, None), (0, mx.cpu()))
    ]
    seen = {}
    for numpy in (False, True, False):
        mx.npx.set_np(numpy, numpy)
        kind = mx.np.ndarray if numpy else mx.nd.NDArray
        net, batch = backend.build_net(arch, 2), backend.to_batch(*arrays())
        placed = backend.place(net, backend.devices('cpu:2'))
        backend.train_step(placed, backend.build_trainer(placed, Recipe(0.01)), batch)
        assert all(type(each) is kind for each in batch)
        for parameter in net.collect_params().values():
            assert {type(each) for each in parameter.list_data()} == {kind}
        assert type(net(batch[0])) is kind
        assert type(backend.head(net).weight.data(mx.cpu(0))) is kind
        for number, loader in enumerate(loaders):
            images, labels = next(iter(loader))
            assert (type(images), type(labels)) == (kind, kind)
            first = seen.setdefault(number, images.asnumpy())
            assert np.array_equal(first, images.asnumpy())


@pytest.mark.parametrize('arch', ARCHITECTURES)
@pytest.mark.parametrize('made', [False, True])
def test_a_net_of_ours_runs_in_both_hybridized_or_not(arch, made):
    """Half of the zoo's nets do not run in NumPy semantics by themselves."""
    images, labels = arrays(size=max(SIZE, ARCHITECTURES[arch].smallest))
    with semantics(numpy=made):
        net = backend.build_net(arch, 2, seed=1)
    found = []
    for hybridized, numpy in itertools.product([True, False], repeat=2):
        net.hybridize(hybridized)
        mx.npx.set_np(numpy, numpy)
        batch = backend.to_batch(images, labels)
        mx.random.seed(0)
        with autograd.record():
            outputs = net(batch[0])
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(outputs, batch[1])
        loss.backward()
        slope = backend.head(net).weight.grad().asnumpy().copy()
        assert isinstance(outputs, mx.np.ndarray) is numpy
        assert np.abs(slope).max() > 0
        found.append((outputs.asnumpy(), loss.asnumpy(), slope))
        assert made_in_numpy(net) is made
        if made == numpy and not hybridized and arch.startswith('resnet'):
            part = net.features if hasattr(net, 'features') else net.layer1
            width = 3 if hasattr(net, 'features') else 64
            ones = (mx.np if numpy else mx.nd).ones((1, width, 32, 32))
            assert isinstance(part(ones), mx.np.ndarray) is numpy
    for outputs, _, _ in found[1:]:
        # compiled and step by step the roundings differ, the semantics do not
        np.testing.assert_allclose(outputs, found[0][0], rtol=1e-3, atol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(found[2], found[3], strict=True))


class Book(nn.Block):
    """A net as the book writes them, for NumPy semantics alone."""

    def __init__(self, classes=2):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add(nn.Conv2D(4, 3, 2), nn.BatchNorm())
        self.output = nn.Dense(classes)

    def forward(self, X):
        return self.output(mx.npx.relu(self.features(X)).mean(axis=(2, 3)))


class Old(Book):
    """The same as it was written before, for legacy semantics alone."""

    def forward(self, X):
        return self.output(mx.nd.relu(self.features(X)).mean(axis=(2, 3)))


def users_net(numpy):
    with semantics(numpy=numpy):
        net = (Book if numpy else Old)()
        net.initialize(mx.init.Xavier())
        net((mx.np if numpy else mx.nd).zeros((1, 3, 8, 8)))
    placed = backend.place(net)
    backend.set_state(
        placed,
        {
            name: np.linspace(0.1, 1, array.size, dtype=np.float32).reshape(array.shape)
            for name, array in backend.get_state(placed).items()
        },
    )
    return net


@pytest.mark.parametrize('places', ['cpu', 'cpu:2'])
@pytest.mark.parametrize('numpy', [False, True])
@pytest.mark.parametrize('caller', [False, True])
def test_a_users_net_computes_in_the_semantics_that_it_was_made_in(numpy, caller, places):
    net = users_net(numpy)
    results = []
    with semantics(numpy=caller):
        placed = backend.place(net, backend.devices(places))
        trainer = backend.build_trainer(placed, Recipe(0.01, momentum=0.9))
        batch = backend.to_batch(*arrays())
        for loss in (None, gluon.loss.SoftmaxCrossEntropyLoss()):
            sums = backend.train_step(placed, trainer, batch, loss)
            results += [float(sums.loss), backend.logits(placed, batch)]
            results.append(float(backend.evaluate(placed, [batch]).loss))
        backend.freeze(net)
        results += [backend.get_state(placed), backend.get_trainer_state(placed, trainer)]
    assert made_in_numpy(net) is numpy
    wanted = CACHE.setdefault(places, results)
    for one, other in zip(flat(results), flat(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


CACHE = {}


def flat(results):
    for each in results:
        yield from each.values() if isinstance(each, dict) else [each]


@pytest.mark.parametrize('made', [False, True])
@pytest.mark.parametrize('numpy', [False, True])
def test_a_users_trainer_is_driven_in_both(made, numpy):
    """Gluon's trainer refuses arrays of the semantics in which it was not made."""
    with semantics(numpy=made):
        net = backend.build_net('squeezenet1_1', 2, seed=1)
    with semantics(numpy=numpy):
        trainer = gluon.Trainer(
            net.collect_params(), 'sgd', {'learning_rate': 0.01, 'momentum': 0.9}
        )
    placed = backend.place(net)
    before = backend.get_state(placed)
    for stepped in (made, not made):
        with semantics(numpy=stepped):
            backend.train_step(placed, trainer, backend.to_batch(*arrays()))
    after = backend.get_state(placed)
    assert any(not np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize('function', ['feature_maps', 'losses', 'gradients', 'split'])
def test_the_probe_sees_the_same(function):
    found = []
    for numpy in (False, True):
        mx.npx.set_np(numpy, numpy)
        net, batch = backend.build_net('resnet18', 2, seed=1), backend.to_batch(*arrays())
        placed = backend.place(net)
        trainer = backend.build_trainer(placed, Recipe(0.01))
        backend.train_step(placed, trainer, batch)
        last = trainer if function == 'gradients' else batch
        result = getattr(probe, function)(placed if function == 'split' else net, last)
        found.append(result if isinstance(result, dict) else list(result))
    assert same(*found)


def test_semantics_comes_back_after_an_error_and_nests():
    for outer, inner in itertools.product([False, True], repeat=2):
        mx.npx.set_np(outer, outer)
        with contextlib.suppress(ZeroDivisionError), semantics(numpy=inner):
            assert (mx.util.is_np_array(), mx.util.is_np_shape()) == (inner, inner)
            with semantics(numpy=outer):
                assert numpy_semantics() is outer
            assert numpy_semantics() is inner
            raise ZeroDivisionError
        assert (mx.util.is_np_array(), mx.util.is_np_shape()) == (outer, outer)
    mx.util.set_np(shape=True, array=False)  # shapes alone, as some old scripts have it
    with semantics(numpy=True):
        assert mx.np.ones(()).shape == ()
    assert (mx.util.is_np_array(), mx.util.is_np_shape()) == (False, True)


def test_a_conversion_shares_memory_and_leaves_the_rest():
    legacy = mx.nd.ones((2, 2))
    there = convert([legacy, 'x', None], numpy=True)
    there[0][0, 0] = 7
    assert legacy[0, 0].asscalar() == 7
    assert there[1:] == ['x', None]
    assert convert(legacy, numpy=False) is legacy
    assert convert(there[0], numpy=True) is there[0]
    assert type(convert(mx.sym.var('x'), numpy=True)) is mx.sym.np._Symbol


def test_parameters_are_given_back_after_an_error():
    with semantics(numpy=True):
        net = nn.HybridSequential()
        net.add(nn.Dense(2, in_units=3))
        net.initialize()
        make_neutral(net)
        with contextlib.suppress(ZeroDivisionError), legacy_parameters(net):
            assert made_in_numpy(net) is False
            raise ZeroDivisionError
    assert made_in_numpy(net) is True


def test_set_np_before_the_first_import_of_d2l_ft():
    code = (
        'import d2l_ft_mxnet.today\n'
        'from mxnet import np, npx\nnpx.set_np()\n'
        'from d2l_ft import mxnet as d2l\n'
        "net = d2l.get_backend().build_net('squeezenet1_1', 2)\n"
        'print(type(net(np.ones((1, 3, 64, 64)))).__module__)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == 'mxnet.numpy', done.stderr
