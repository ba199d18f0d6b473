"""Pictures: images in a grid, learning curves in a notebook, in a file and as plain text."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d2l_ft.errors import StorageError
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.training.metrics import EpochMetrics

MOST_DOTS = 40
"""With more epochs than this a curve has no dots, which would cover it."""


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

    Example:
        >>> train, _ = d2l.load_folders('photos')
        >>> crops = [d2l.Pipeline(48).crop(each.path) for each in train.samples[:4]]
        >>> axes = d2l.show_images(crops, 2, 2, titles=['a', 'b', 'c', 'd'])
        >>> len(axes)
        4
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


def draw_curves(runs: Mapping[str, Sequence[EpochMetrics]]) -> Any:
    """Return a figure of training loss and accuracies over the epochs, a colour for each net."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [escape_undrawable(name) for name in runs]
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
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
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
        if entry.name.startswith('Last Resort'):  # its glyph for every character is a box
            continue
        try:
            characters = set(FT2Font(entry.fname).get_charmap())
        except (OSError, RuntimeError):  # the font was removed, or FreeType cannot read it
            continue
        if missing & characters:
            families.append(entry.name)
            missing -= characters
        if not missing:
            break
    return families


def escape_undrawable(text: str) -> str:
    r"""Return a text with an escape such as \u732b for each character that no font has."""
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    characters: set[int] = set()
    for family in fonts(text):
        characters |= set(FT2Font(findfont(FontProperties(family=family))).get_charmap())
    plain = (
        each if ord(each) in characters else each.encode('unicode_escape', 'surrogatepass').decode()
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


def encode(figure: Any, kind: str = 'png') -> bytes:
    """Return a figure as the bytes of one of ``FIGURES``."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=120)
    return stream.getvalue()


def save_curves(path: Path, runs: Mapping[str, Sequence[EpochMetrics]]) -> None:
    """Write the learning curves, in the format that the suffix says.

    Raises:
        StorageError: The suffix is none of ``FIGURES``, or the file cannot be written.
    """
    write_atomic(path, encode(draw_curves(runs), figure_format(path)))
