"""What the errors of recipes and schedules say."""

import math

import pytest
from conftest import says

from d2l_ft.errors import OptionError
from d2l_ft.optim.recipe import Recipe, as_printed, check_reduction
from d2l_ft.optim.schedules import scheduled_rate


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'learning_rate': 0.0}, '`learning_rate` must be above 0 and at most 3.4e+38: Recipe('),
        ({'learning_rate': math.nan}, '`learning_rate` must be above 0 and at most 3.4e+38: '),
        ({'head_lr_mult': math.inf}, '`head_lr_mult` must be above 0 and at most 3.4e+38: '),
        ({'learning_rate': 3e38}, 'the rate of the head must be at most 3.4e+38: '),
        ({'weight_decay': -1.0}, '`weight_decay` must be 0 or above and at most 3.4e+38: '),
        ({'momentum': 1.0}, '`momentum` must be in [0, 1): Recipe('),
        ({'reduction': 'max'}, "`reduction` must be 'mean' or 'sum': Recipe("),
    ],
)
def test_a_recipe_with_a_number_that_no_step_can_take(options, text):
    assert says(OptionError, Recipe, **{'learning_rate': 0.1} | options).startswith(text)


def test_a_recipe_that_the_book_does_not_print():
    assert says(OptionError, as_printed, 'jax') == (
        "the book prints no recipe for 'jax', 'fine-tuned': tabs are mxnet, pytorch; nets are "
        'fine-tuned, scratch'
    )


def test_a_reduction_and_a_schedule_that_are_unknown():
    assert says(OptionError, check_reduction, 'max') == (
        "`reduction` must be 'mean', 'sum' or 'book', not 'max'"
    )
    assert says(OptionError, scheduled_rate, 'linear', 0.1, 0.5) == (
        "unknown schedule 'linear': choose one of constant, cosine"
    )
