"""Pictures: images in a grid, learning curves in a notebook, in a file and as plain text."""

import io
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2l_ft.errors import StorageError
from d2l_ft.files import write_atomic
from d2l_ft.training import EpochMetrics

WIDTH = 30
"""Characters of a bar in the plain-text curves."""

MOST_DOTS = 40
"""Epochs up to which each has a dot on its curve."""

MOST_BARS = 20
"""Epochs of a net in the plain-text curves; of a longer training some are left out."""


def show_images(
    imgs: Sequence[Any],
    num_rows: int,
    num_cols: int,
    titles: Sequence[str] | None = None,
    scale: float = 1.5,
) -> Any:
    """Show images in a grid and return its axes, row by row.

    Args:
        imgs: Images, (height, width, 3) or (height, width): arrays, tensors or PIL images.
        num_rows: Rows of the grid.
        num_cols: Columns of the grid.
        titles: One above each image.
        scale: Inches per image.
    """
    from matplotlib import pyplot as plt

    _, grid = plt.subplots(
        num_rows, num_cols, figsize=(num_cols * scale, num_rows * scale), squeeze=False
    )
    axes = grid.ravel()
    for axis in axes:
        axis.axis('off')
    for number, (axis, image) in enumerate(zip(axes, imgs, strict=False)):
        axis.imshow(to_numpy(image))
        if titles:
            axis.set_title(titles[number])
    return axes


def to_numpy(values: Any) -> Any:
    """Return numbers of any framework as an array; MXNet's legacy arrays know only ``asnumpy``."""
    if hasattr(values, 'asnumpy'):
        return values.asnumpy()
    if hasattr(values, 'detach'):  # a tensor that has a gradient, or lies on a GPU
        values = values.detach().cpu()
    return np.asarray(values)


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Set the size of the figures that follow, in inches; a notebook shows them as SVG."""
    from matplotlib import pyplot as plt

    if in_notebook():
        from matplotlib_inline import backend_inline

        backend_inline.set_matplotlib_formats('svg')  # type: ignore[no-untyped-call]
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
        fmts: Format of each curve, as Matplotlib has it; after the last the first comes again.
        figsize: Width and height, in inches.
        axes: Where to draw instead of the current axes.

    Raises:
        ValueError: There are neither as many rows of X as of Y, nor one.
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
            plt.close(self.fig)  # otherwise the cell shows it once more at its end
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


def draw_curves(runs: Mapping[str, Sequence[EpochMetrics]]) -> Any:
    """Return a figure of training loss and accuracies over the epochs, a colour for each net."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [drawable(name) for name in runs]
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    for number, history in enumerate(runs.values()):
        epochs, colour = [each.epoch for each in history], f'C{number}'
        dots = 'o' if len(history) <= MOST_DOTS else ''
        left.plot(epochs, [each.train_loss for each in history], f'{dots}-', color=colour)
        right.plot(epochs, [each.test_acc for each in history], f'{dots}-', color=colour)
        right.plot(
            epochs, [each.train_acc for each in history], f'{dots}--', color=colour, alpha=0.5
        )
    left.set(xlabel='epoch', ylabel='training loss')
    right.set(xlabel='epoch', ylabel='accuracy (test solid, training dashed)', ylim=(0, 1.02))
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        lines = [line for line in axis.get_lines() if line.get_linestyle() == '-']
        if legend := axis.legend(lines, names) if lines else None:
            for text in legend.get_texts():
                text.set_parse_math(False)  # a name may have dollars
                text.set_fontfamily(fonts(text.get_text()))
    return figure


FALLBACK = 'DejaVu Sans'
"""The font that comes with Matplotlib."""


def fonts(text: str) -> list[str]:
    """Return the families of fonts that have the characters of a text, as far as any has."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager
    from matplotlib.ft2font import FT2Font

    missing = set(map(ord, text)) - set(
        FT2Font(findfont(FontProperties(family=FALLBACK))).get_charmap()
    )
    families = [FALLBACK]
    for entry in fontManager.ttflist if missing else ():
        if entry.name.startswith('Last Resort'):  # which has a box for whatever there is
            continue
        try:
            known = set(FT2Font(entry.fname).get_charmap())
        except (OSError, RuntimeError):  # a font that was removed, or of a kind that is not read
            continue
        if missing & known:
            families.append(entry.name)
            missing -= known
        if not missing:
            break
    return families


def drawable(text: str) -> str:
    r"""Return a text with an escape such as \u732b for each character that no font has."""
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    known: set[int] = set()
    for family in fonts(text):
        known |= set(FT2Font(findfont(FontProperties(family=family))).get_charmap())
    plain = (
        each if ord(each) in known else each.encode('unicode_escape', 'surrogatepass').decode()
        for each in text
    )
    return ''.join(plain)


FIGURES = ('png', 'pdf', 'svg')
"""Formats of a figure, by the suffix of its file."""


def figure_format(path: Path) -> str:
    """Return the format of a figure's file.

    Raises:
        StorageError: Its suffix is none of these.
    """
    if (kind := path.suffix.lower().removeprefix('.')) not in FIGURES:
        raise StorageError(f'cannot draw {path}: name a file that ends in .png, .pdf or .svg')
    return kind


def encoded(figure: Any, kind: str = 'png') -> bytes:
    """Return a figure as the bytes of one of ``FIGURES``."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=120)
    return stream.getvalue()


def save_curves(path: Path, runs: Mapping[str, Sequence[EpochMetrics]]) -> None:
    """Write the learning curves, in the format that the suffix says.

    Raises:
        StorageError: The suffix is none of ``FIGURES``, or the file cannot be written.
    """
    write_atomic(path, encoded(draw_curves(runs), figure_format(path)))


def text_curves(runs: Mapping[str, Sequence[EpochMetrics]]) -> list[str]:
    """Return the test accuracy of each net and epoch as bars of characters, some twenty a net."""
    width = max((len(name) for name in runs), default=0)
    return [
        f'{name:{width}}  epoch {each.epoch:2d}  test acc {each.test_acc:.3f}  '
        f'{_bar(each.test_acc):{WIDTH}}|  loss {each.train_loss:.3f}'
        for name, history in runs.items()
        for each in _thinned(history)
    ]


def _thinned(history: Sequence[EpochMetrics]) -> Sequence[EpochMetrics]:
    """Return the epochs to show: the last, and as many before it as fit, evenly spaced."""
    step = -(-len(history) // MOST_BARS)
    return list(reversed(history[::-1][:: max(1, step)]))


def _bar(share: float) -> str:
    """Return a bar for a share; none for what is not a number, as without a test part."""
    return '#' * round(WIDTH * min(share, 1)) if share > 0 else ''


class LiveCurves:
    """Redraw the curves after each epoch in a notebook; elsewhere do nothing."""

    def __init__(self) -> None:
        self.history: list[EpochMetrics] = []
        self.handle: Any = None

    def add(self, metrics: EpochMetrics) -> None:
        """Add an epoch."""
        self.history.append(metrics)
        if not in_notebook():
            return
        from IPython.display import Image

        picture = Image(encoded(draw_curves({metrics.net: self.history})))
        self.handle = show_again(picture, self.handle)
