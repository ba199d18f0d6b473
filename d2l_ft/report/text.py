"""Learning curves as plain text."""

from collections.abc import Mapping, Sequence

from d2l_ft.training.metrics import EpochMetrics

WIDTH = 30
"""Characters of a bar in the plain-text curves."""

MOST_BARS = 20
"""Epochs of a net in the plain-text curves; of more epochs some are left out."""


def text_curves(runs: Mapping[str, Sequence[EpochMetrics]]) -> list[str]:
    """Return the test accuracy of each net as bars of characters, at most ``MOST_BARS`` epochs."""
    width = max((len(name) for name in runs), default=0)
    return [
        f'{name:{width}}  epoch {each.epoch:2d}  test acc {each.test_acc:.3f}  '
        f'{_bar(each.test_acc):{WIDTH}}|  loss {each.train_loss:.3f}'
        for name, history in runs.items()
        for each in _select_epochs(history)
    ]


def _select_epochs(history: Sequence[EpochMetrics]) -> Sequence[EpochMetrics]:
    """Return the epochs to show: the last, and as many before it as fit, evenly spaced."""
    step = -(-len(history) // MOST_BARS)
    return list(reversed(history[::-1][:: max(1, step)]))


def _bar(share: float) -> str:
    """Return a bar for a share; none for NaN, which stands for a missing test part."""
    return '#' * round(WIDTH * min(share, 1)) if share > 0 else ''
