"""Pictures: images in a grid, learning curves in a notebook, in a file and as plain text."""

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
        axis.imshow(image.asnumpy() if hasattr(image, 'asnumpy') else np.asarray(image))
        if titles:
            axis.set_title(titles[number])
    return axes


def draw_curves(runs: Mapping[str, Sequence[EpochMetrics]]) -> Any:
    """Return a figure of training loss and accuracies over the epochs, a colour for each net."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    for number, (name, history) in enumerate(runs.items()):
        epochs, colour = [each.epoch for each in history], f'C{number}'
        dots = 'o' if len(history) <= MOST_DOTS else ''
        left.plot(
            epochs, [each.train_loss for each in history], f'{dots}-', color=colour, label=name
        )
        right.plot(
            epochs, [each.train_acc for each in history], f'{dots}--', color=colour, alpha=0.5
        )
        right.plot(
            epochs, [each.test_acc for each in history], f'{dots}-', color=colour, label=name
        )
    left.set(xlabel='epoch', ylabel='training loss')
    right.set(xlabel='epoch', ylabel='accuracy (test solid, training dashed)', ylim=(0, 1.02))
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def to_png(figure: Any) -> bytes:
    """Return a figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=120)
    return stream.getvalue()


def save_curves(path: Path, runs: Mapping[str, Sequence[EpochMetrics]]) -> None:
    """Write the learning curves as PNG."""
    write_atomic(path, to_png(draw_curves(runs)))


def text_curves(runs: Mapping[str, Sequence[EpochMetrics]]) -> str:
    """Return the test accuracy of each net and epoch as bars of characters, some twenty a net."""
    width = max((len(name) for name in runs), default=0)
    return '\n'.join(
        f'{name:{width}}  epoch {each.epoch:2d}  test acc {each.test_acc:.3f}  '
        f'{_bar(each.test_acc):{WIDTH}}|  loss {each.train_loss:.3f}'
        for name, history in runs.items()
        for each in _thinned(history)
    )


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
        if 'ipykernel' not in sys.modules:
            return
        from IPython.display import Image, display

        picture = Image(to_png(draw_curves({metrics.net: self.history})))
        if self.handle is None:
            self.handle = display(picture, display_id=True)
        else:
            self.handle.update(picture)
