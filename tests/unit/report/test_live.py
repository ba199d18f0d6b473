"""Curves as they grow, and the book's ``plot``."""

import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt

import d2l_ft as d2l
from d2l_ft.report.live import FORMATS, curves, in_notebook


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
