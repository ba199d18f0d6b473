"""The numbers that a net starts from."""

import numpy as np
import pytest

from d2l_ft.errors import ModelError
from d2l_ft.models.initialization import initial_state
from d2l_ft.models.state import merge_source


def test_initial_state_does_not_depend_on_the_head():
    shapes = {'conv1.weight': (8, 3, 3, 3), 'bn1.running_var': (8,), 'fc.bias': (2,)}
    two = initial_state('resnet18', shapes | {'fc.weight': (2, 8)})
    ten = initial_state('resnet18', shapes | {'fc.weight': (10, 8)})
    assert np.array_equal(two['conv1.weight'], ten['conv1.weight'])
    bound = np.sqrt(6 / (11 * 9))
    assert 0.9 * bound < np.abs(two['conv1.weight']).max() <= bound
    assert (two['bn1.running_var'] == 1).all()
    assert not two['fc.bias'].any()
    other = initial_state('resnet18', shapes | {'fc.weight': (2, 8)}, seed=1)
    assert not np.array_equal(two['conv1.weight'], other['conv1.weight'])
    merged = merge_source('resnet18', two, other | {'fc.weight': np.zeros((5, 8))})
    assert np.array_equal(merged['conv1.weight'], other['conv1.weight'])
    assert np.array_equal(merged['fc.weight'], two['fc.weight'])
    with pytest.raises(ModelError):
        merge_source('resnet18', two, {})
