"""Float32 layers in train mode are judged by their distance from float64, whatever the picture."""

import numpy as np
import pytest

from d2l_ft.parity.plan import Trace
from d2l_ft.parity.rungs.forward import ROUNDED, check_rounding

CASE = 'resnet18-2'


def traced(folder, apart):
    """Return a trace whose float32 layers are so far from float64, of the largest value."""
    exact = np.array([1.0, -0.5])
    for dtype, values in (('float64', exact), ('float32', exact + [0, apart])):
        place = folder / f'forward/{CASE}/{dtype}'
        place.mkdir(parents=True)
        np.savez(place / 'train.npz', bn1=values)
    return Trace(folder)


@pytest.mark.parametrize(
    ('one', 'other', 'ok'),
    [
        (0, 0, True),
        (2 * ROUNDED, ROUNDED / 9, True),  # below what tells them apart
        (0.03, 0.01, True),  # a black picture: both are far
        (0.03, 0.001, False),
        (0.001, 0.03, False),
        (np.nan, 0.01, False),
    ],
)
def test_a_framework_that_rounds_much_more_is_told(tmp_path, one, other, ok):
    a, b = traced(tmp_path / 'mxnet', one), traced(tmp_path / 'pytorch', other)
    check = check_rounding(a, b, CASE)
    assert check.ok is ok
    if not ok:
        assert check.where.startswith('mxnet' if one != 0.001 else 'pytorch')
