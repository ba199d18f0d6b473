"""The recipes of the book, in both conventions."""

import pytest

from d2l_ft.errors import OptionError
from d2l_ft.optim import recipe


def test_recipes():
    printed = recipe.as_printed('pytorch')
    assert printed.learning_rate == 5e-5
    mean = printed.in_mean_terms(128)
    assert mean.learning_rate == pytest.approx(0.0064)
    assert mean.weight_decay == pytest.approx(0.001 / 128)
    assert recipe.as_printed('mxnet', 'scratch').learning_rate == 0.1
    with pytest.raises(OptionError):
        recipe.as_printed('jax')
    for bad in ({'learning_rate': 0}, {'learning_rate': float('nan')}, {'momentum': 1}):
        with pytest.raises(OptionError):
            recipe.Recipe(**({'learning_rate': 0.1} | bad))
