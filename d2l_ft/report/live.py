"""Curves that are drawn during training, and the book's plots."""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

from d2l_ft.report.figures import draw_curves, encode, to_numpy
from d2l_ft.training.callbacks import Callback
from d2l_ft.training.metrics import EpochMetrics
from d2l_ft.training.trainer import Trainer


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Set the size of the figures that follow, in inches; a notebook shows them as SVG.

    Example:
        >>> d2l.set_figsize((4, 3))
    """
    from matplotlib import pyplot as plt

    if in_notebook():
        from matplotlib_inline import backend_inline

        backend_inline.set_matplotlib_formats('svg')  # type: ignore[no-untyped-call]  # its own
    plt.rcParams['figure.figsize'] = figsize


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel; others may have imported its packages."""
    ipython = sys.modules.get('IPython')
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, 'kernel', None) is not None


FORMATS = ('-', 'm--', 'g-.', 'r:')
"""Lines of the book's figures: solid, dashed magenta, dash-dotted green, dotted red."""


def curves(values: Any) -> list[Any]:
    """Return one or several rows of numbers as a list of rows."""
    if hasattr(values, 'ndim'):
        values = to_numpy(values)
        return [values] if values.ndim == 1 else list(values)
    rows = list(values)
    return rows if rows and hasattr(rows[0], '__len__') else [rows]


def plot(
    X: Any,
    Y: Any = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    legend: Sequence[str] | None = None,
    xlim: Sequence[float] | None = None,
    ylim: Sequence[float] | None = None,
    xscale: str = 'linear',
    yscale: str = 'linear',
    fmts: Sequence[str] = FORMATS,
    figsize: tuple[float, float] = (3.5, 2.5),
    axes: Any = None,
) -> None:
    """Plot curves.

    Args:
        X: Positions of one curve or of each, or the heights if there is no Y: lists, arrays or
            tensors.
        Y: Heights of one curve or of several.
        xlabel: Below the figure.
        ylabel: Beside the figure.
        legend: Names of the curves.
        xlim: Ends of the x axis.
        ylim: Ends of the y axis.
        xscale: 'linear' or 'log'.
        yscale: 'linear' or 'log'.
        fmts: Format of each curve, as in Matplotlib; repeated if there are more curves.
        figsize: Width and height, in inches.
        axes: Where to draw instead of the current axes.

    Raises:
        ValueError: There are neither as many rows of X as of Y, nor one.

    Example:
        >>> d2l.plot([1, 2, 3], [[1, 4, 9], [1, 8, 27]], 'x', 'y', legend=['square', 'cube'])
    """
    from matplotlib import pyplot as plt

    set_figsize(figsize)
    axes = axes if axes is not None else plt.gca()
    heights = curves(X if Y is None else Y)
    places = [None] * len(heights) if Y is None else curves(X)
    places = places * len(heights) if len(places) == 1 else places
    axes.cla()
    pairs = zip(places, heights, strict=True)
    for (place, height), fmt in zip(pairs, itertools.cycle(fmts), strict=False):
        line = (to_numpy(height),) if place is None else (to_numpy(place), to_numpy(height))
        axes.plot(*line, fmt)
    label_axes(axes, xlabel, ylabel, xlim, ylim, xscale, yscale, legend)


def label_axes(
    axes: Any,
    xlabel: str | None,
    ylabel: str | None,
    xlim: Sequence[float] | None,
    ylim: Sequence[float] | None,
    xscale: str,
    yscale: str,
    legend: Sequence[str] | None,
) -> None:
    """Put labels, ends, scales, a legend and a grid on axes."""
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    if xlim is not None:
        axes.set_xlim(xlim)
    if ylim is not None:
        axes.set_ylim(ylim)
    if legend:
        axes.legend(legend)
    axes.grid()


class Animator:
    """Curves that grow while something runs.

    A notebook shows them in one place; a window of Matplotlib is drawn again; without either they
    are in ``fig``, to be saved.

    Args:
        xlabel: As the other arguments, what ``plot`` takes.
        ylabel: See ``xlabel``.
        legend: Names of the curves.
        xlim: Ends of the x axis.
        ylim: Ends of the y axis.
        xscale: 'linear' or 'log'.
        yscale: 'linear' or 'log'.
        fmts: Format of each curve.
        nrows: Rows of axes; the curves are in the first axes.
        ncols: Columns of axes.
        figsize: Width and height, in inches.

    Example:
        >>> animator = d2l.Animator('epoch', 'accuracy', legend=['train', 'test'])
        >>> animator.add(1, (0.71, 0.68))
        >>> animator.add(2, (0.83, None))
        >>> animator.fig.savefig('accuracy.png')
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        legend: Sequence[str] | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = 'linear',
        yscale: str = 'linear',
        fmts: Sequence[str] = FORMATS,
        nrows: int = 1,
        ncols: int = 1,
        figsize: tuple[float, float] = (3.5, 2.5),
    ) -> None:
        from matplotlib import pyplot as plt

        set_figsize(figsize)
        self.fig, grid = plt.subplots(nrows, ncols, figsize=figsize, squeeze=False)
        self.axes = list(grid.ravel())
        self.labels = (xlabel, ylabel, xlim, ylim, xscale, yscale, legend)
        self.fmts = fmts
        self.X: list[list[float]] = []
        self.Y: list[list[float]] = []
        self.handle: Any = None

    def add(self, x: Any, y: Any) -> None:
        """Add a point to each curve and draw them.

        Args:
            x: Position of all points or of each.
            y: Height of the point of each curve; None leaves a curve as it is.
        """
        heights = list(y) if hasattr(y, '__len__') else [y]
        places = list(x) if hasattr(x, '__len__') else [x] * len(heights)
        while len(self.X) < len(heights):
            self.X.append([])
            self.Y.append([])
        for number, (place, height) in enumerate(zip(places, heights, strict=True)):
            if place is not None and height is not None:
                self.X[number].append(float(place))
                self.Y[number].append(float(height))
        self.draw()

    def draw(self) -> None:
        """Draw the curves and show them where there is a place for it."""
        from matplotlib import pyplot as plt

        axes = self.axes[0]
        axes.cla()
        for xs, ys, fmt in zip(self.X, self.Y, itertools.cycle(self.fmts), strict=False):
            axes.plot(xs, ys, fmt)
        label_axes(axes, *self.labels)
        if in_notebook():
            self.handle = show_again(self.fig, self.handle)
            plt.close(self.fig)  # otherwise the cell shows the figure again at its end
        elif plt.isinteractive():
            self.fig.canvas.draw_idle()
            self.fig.canvas.flush_events()


def show_again(value: Any, handle: Any) -> Any:
    """Show a value in a notebook, in the place of what was shown before; return the place."""
    from IPython.display import display

    if handle is None:
        return display(value, display_id=True)
    handle.update(value)
    return handle


class LiveCurves(Callback):
    """Redraw the curves after each epoch in a notebook; elsewhere do nothing."""

    def __init__(self) -> None:
        self.history: list[EpochMetrics] = []
        self.handle: Any = None

    def on_epoch_end(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Add an epoch."""
        self.history.append(metrics)
        if not in_notebook():
            return
        from IPython.display import Image

        picture = Image(encode(draw_curves({metrics.net: self.history})))
        self.handle = show_again(picture, self.handle)
