"""The MXNet backend's step and evaluation."""

import d2l_ft_mxnet as backend
import d2l_ft_mxnet.data
import numpy as np
import pytest
from d2l_ft_mxnet.placement import parameters
from mxnet import autograd, gluon
from mxnet.gluon import nn

from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import ModelError, OptionError
from d2l_ft.models.architectures import is_head
from d2l_ft.optim.recipe import Recipe

from .nets import TWO, random_batch, shaken, tiny

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.usefixtures('arrays')]


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
