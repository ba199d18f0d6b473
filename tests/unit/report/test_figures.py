"""Figures: labels are drawn as they are, and the suffix decides on the format."""

import warnings

import pytest

from d2l_ft.report.figures import draw_curves, encode, escape_undrawable, save_curves
from d2l_ft.training.metrics import EpochMetrics

HISTORY = [EpochMetrics('scratch', 1, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0)]


def shown(figure):
    """Return the labels of a figure's legends as they are drawn, once each."""
    return [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes]


@pytest.mark.parametrize('name', [
    '$x', '$\\frac{', '$a$ b', '_hidden', '__', 'a_b^c', '\\alpha', '%d {x} &<>', 'ünï', 'кошка',
    '\U000f0000', '', ' ',
])  # fmt: skip
def test_labels_are_drawn_as_they_are(name, recwarn):
    figure = draw_curves({name: HISTORY, 'other': HISTORY})
    expected = name.replace('\U000f0000', '\\U000f0000')
    assert shown(figure) == [[expected, 'other']] * 2
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for kind in ('png', 'pdf', 'svg'):
            assert len(encode(figure, kind)) > 1000
    assert escape_undrawable('ab') == 'ab'


def test_a_script_that_no_font_has_is_escaped():
    """Whichever fonts there are: what is drawn has a glyph for each character."""
    for text in ('猫', 'แมว', 'बिल्ली', '\U0001f408', 'حيوان'):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            encode(draw_curves({text: HISTORY}))


@pytest.mark.parametrize(('suffix', 'begins'), [
    ('.png', b'\x89PNG'), ('.pdf', b'%PDF'), ('.svg', b'<?xml'), ('.SVG', b'<?xml'),
])  # fmt: skip
def test_the_suffix_decides_on_the_format(suffix, begins, tmp_path):
    path = tmp_path / f'x.y{suffix}'
    save_curves(path, {'a': HISTORY})
    assert path.read_bytes().startswith(begins)
