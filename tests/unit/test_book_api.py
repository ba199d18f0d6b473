"""The names of the book's loop: what they return, and of what a step takes the gradient."""

import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt

import d2l_ft as d2l
from d2l_ft.backend.registry import get_backend
from d2l_ft.book_api import MEAN, SUM, describe_step, reduction_of
from d2l_ft.errors import OptionError
from d2l_ft.optim.recipe import Recipe, as_printed
from d2l_ft.report.live import FORMATS, curves, in_notebook

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


def test_a_process_that_imported_a_kernels_packages_is_no_notebook():
    import ipykernel
    import IPython

    assert {IPython.__name__, ipykernel.__name__} <= set(sys.modules)
    assert not in_notebook()


def test_animator_draws_without_a_notebook(tmp_path):
    animator = d2l.Animator(
        xlabel='epoch', xlim=[1, 3], ylim=[0, 1], legend=['train loss', 'train acc', 'test acc']
    )
    animator.add(0.5, (0.9, 0.5, None))
    animator.add(1, (None, None, 0.6))
    animator.add(1.5, (0.7, 0.6, None))
    lines = animator.axes[0].lines
    assert [line.get_xydata().tolist() for line in lines] == [
        [[0.5, 0.9], [1.5, 0.7]], [[0.5, 0.5], [1.5, 0.6]], [[1.0, 0.6]]
    ]  # fmt: skip
    assert [line.get_linestyle() for line in lines] == ['-', '--', '-.']
    assert animator.axes[0].get_xlabel() == 'epoch'
    assert animator.axes[0].get_xlim() == (1, 3)
    assert [text.get_text() for text in animator.axes[0].get_legend().get_texts()][2] == 'test acc'
    animator.fig.savefig(tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size > 1000
    one = d2l.Animator(nrows=2, ncols=2)
    one.add(1, 2)
    assert len(one.axes) == 4
    assert one.axes[0].lines[0].get_xydata().tolist() == [[1, 2]]
    plt.close('all')


@pytest.mark.parametrize('kind', ['list', 'numpy', 'mxnet', 'torch'])
def test_plot_takes_what_the_book_gives_it(kind):
    make = {'list': list, 'numpy': np.array}.get(kind)
    if kind == 'mxnet':
        make = pytest.importorskip('mxnet', reason='MXNet is not of this leg').nd.array
    if kind == 'torch':
        tensor = pytest.importorskip('torch', reason='PyTorch is not of this leg').tensor
        make = lambda values: tensor(values, requires_grad=True)  # noqa: E731
    x, y = make([1.0, 2.0, 3.0]), make([4.0, 5.0, 6.0])
    d2l.plot(x, [y, make([1.0, 1.0, 1.0])], 'x', 'f(x)', legend=['f', 'one'], figsize=(2, 1))
    axes = plt.gca()
    assert [line.get_ydata().tolist() for line in axes.lines] == [[4, 5, 6], [1, 1, 1]]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3]] * 2
    assert plt.rcParams['figure.figsize'] == [2, 1]
    d2l.plot(y, yscale='log', axes=axes)
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0, 1, 2]]
    assert axes.get_yscale() == 'log'
    with pytest.raises(ValueError):
        d2l.plot([x, x], [y, y, y])
    plt.close('all')
    d2l.set_figsize()
    assert plt.rcParams['figure.figsize'] == [3.5, 2.5]


def test_curves_and_formats():
    assert curves([1, 2]) == [[1, 2]]
    assert curves(([1, 2], [3])) == [[1, 2], [3]]
    assert [row.tolist() for row in curves(np.eye(2))] == [[1, 0], [0, 1]]
    assert curves([]) == [[]]
    assert len(FORMATS) == 4
