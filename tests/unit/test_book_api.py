"""The names of the book's loop: what they return, and of what a step takes the gradient."""

import numpy as np
import pytest

import d2l_ft as d2l
from d2l_ft.backend.registry import get_backend
from d2l_ft.book_api import MEAN, SUM, describe_step, reduction_of
from d2l_ft.errors import OptionError
from d2l_ft.optim.recipe import Recipe, as_printed

SIZE = 32


def batch_of(backend, count=6):
    draws = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = draws.normal(size=(count, 3, SIZE, SIZE)) + 2 * labels[:, None, None, None]
    return backend.to_batch(images.astype(np.float32), labels)


def users_trainer(backend, net, rate):
    """Return plain SGD, as a reader makes it with the framework alone."""
    if backend.NAME == 'mxnet':
        from mxnet import gluon

        return gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': rate})
    import torch

    return torch.optim.SGD(net.parameters(), rate)


def users_loss(backend, reduction='none'):
    if backend.NAME == 'mxnet':
        from mxnet import gluon

        return gluon.loss.SoftmaxCrossEntropyLoss()
    from torch import nn

    return nn.CrossEntropyLoss(reduction=reduction)


def moved(backend, trainer_of, loss=None, **options):
    """Return by how much one call of train_ch13 moves the head, and what it prints."""
    net = backend.build_net('resnet18', 2, seed=1)
    before = backend.get_state(backend.place(net))['fc.weight']
    d2l.train_ch13(net, [batch_of(backend)], None, loss, trainer_of(net), 1, **options)
    return backend.get_state(backend.place(net))['fc.weight'] - before


def test_a_readers_trainer_takes_the_books_step(framework, capsys):
    """The book's PyTorch tab sums: without it the printed rate trains a batch's size too slowly."""
    rate = 1.0  # one step: large beside the roundings of the weights

    def trainer_of(net):
        return users_trainer(framework, net, rate)

    steps = {
        reduction: moved(framework, trainer_of, users_loss(framework), reduction=reduction)
        for reduction in ('mean', 'sum', None)
    }
    np.testing.assert_allclose(steps['sum'], 6 * steps['mean'], rtol=1e-3, atol=1e-8)
    book = 'mean' if framework.NAME == 'mxnet' else 'sum'
    assert np.array_equal(steps[None], steps[book])
    lines = [line for line in capsys.readouterr().out.splitlines() if 'examples/sec' in line]
    for line, words in zip(lines, (MEAN, SUM, {'mean': MEAN, 'sum': SUM}[book]), strict=True):
        assert f'gradient of the {words}' in line
    assert "as in the book's" in lines[2]
    assert "as in the book's" not in lines[0] + lines[1]


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_the_books_step_sums_what_a_loss_of_pytorch_gives(reduction):
    import torch
    from torch.nn import functional as F

    backend = get_backend('pytorch')

    def trainer_of(net):
        return users_trainer(backend, net, 1.0)

    step = moved(backend, trainer_of, users_loss(backend, reduction))
    wanted = moved(backend, trainer_of, None, reduction='mean' if reduction == 'mean' else 'sum')
    np.testing.assert_allclose(step, wanted, rtol=1e-3, atol=1e-8)
    # a function that gives the mean has no attribute that says so
    plain = moved(backend, trainer_of, lambda X, y: F.cross_entropy(X, y, reduction=reduction))
    np.testing.assert_allclose(plain, wanted, rtol=1e-3, atol=1e-8)
    assert torch.is_grad_enabled()


def test_a_trainer_of_ours_carries_its_meaning(backend):
    net = backend.build_net('resnet18', 2)
    for recipe in (Recipe(0.01), Recipe(0.01, reduction='sum'), Recipe(0.01, head_lr_mult=1)):
        trainer = backend.build_trainer(backend.place(net), recipe)
        assert reduction_of(trainer, None) == recipe.reduction
        assert reduction_of(trainer, 'book') == 'book'
    assert reduction_of(object(), None) == 'book'


def test_the_printed_recipe_is_the_readers_trainer(framework):
    printed = as_printed(framework.NAME)
    recipe = Recipe(1.0, 1.0, 0.0, reduction=printed.reduction)
    ours = moved(framework, lambda net: framework.build_trainer(framework.place(net), recipe))
    theirs = moved(framework, lambda net: users_trainer(framework, net, 1.0))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-8)


def test_what_is_said_of_a_step(framework):
    book = describe_step(framework, users_loss(framework), 'book')
    assert book.startswith(MEAN if framework.NAME == 'mxnet' else SUM)
    assert describe_step(framework, None, 'mean') == MEAN
    assert describe_step(framework, None, 'sum') == SUM
    if framework.NAME == 'pytorch':
        assert describe_step(framework, users_loss(framework, 'mean'), 'book').startswith(MEAN)


def test_an_unknown_reduction_is_refused(framework):
    net = framework.build_net('squeezenet1_1', 2)
    trainer = framework.build_trainer(framework.place(net), Recipe(0.1))
    with pytest.raises(OptionError, match="'mean', 'sum' or 'book', not 'none'"):
        d2l.train_ch13(
            net, [batch_of(framework)], None, None, trainer, 1, reduction='none', quiet=True
        )


def test_one_batch_and_accuracy(framework):
    net, (X, y) = framework.build_net('resnet18', 2, seed=1), batch_of(framework)
    devices, losses = framework.devices('cpu:2'), []
    trainer = framework.build_trainer(framework.place(net, devices), Recipe(0.001))
    for _ in range(8):
        loss, hits = d2l.train_batch_ch13(net, X, y, users_loss(framework), trainer, devices)
        losses.append(float(loss))
        assert 0 <= float(hits) <= 6
    assert losses[-1] < losses[0]
    share = d2l.evaluate_accuracy_gpus(net, [(X, y), (X, y)])
    assert share == d2l.evaluate_accuracy_gpu(net, [(X, y)], framework.devices('cpu')[0])
    wanted = framework.logits(framework.place(net), (X, y)).argmax(1) == np.arange(6) % 2
    assert share == pytest.approx(wanted.mean())


def test_devices(framework):
    assert d2l.try_gpu(backend=framework) in framework.devices()
    assert d2l.try_gpu(97, backend=framework) == framework.devices('cpu')[0]
    assert d2l.try_all_gpus(backend=framework) == framework.devices()


def test_timer():
    timer = d2l.Timer()
    assert timer.avg() == timer.sum() == 0
    first = timer.stop()
    timer.start()
    second = timer.stop()
    assert timer.times == [first, second]
    assert timer.sum() == first + second
    assert timer.avg() == pytest.approx((first + second) / 2)
    assert timer.cumsum() == pytest.approx([first, first + second])


def test_accumulator(backend):
    metric = d2l.Accumulator(2)
    placed = backend.place(backend.build_net('squeezenet1_1', 2))
    trainer = backend.build_trainer(placed, Recipe(0.01))
    sums = backend.train_step(placed, trainer, batch_of(backend))
    metric.add(sums.loss, sums.examples)  # a scalar of the framework
    metric.add(1, 2.5)
    assert metric[0] == pytest.approx(float(sums.loss) + 1)
    assert metric[1] == sums.examples + 2.5
    with pytest.raises(ValueError):
        metric.add(1)
    metric.reset()
    assert metric.data == [0.0, 0.0]
