"""A source that no net can use is refused."""

import numpy as np
import pytest

from d2l_ft.errors import ModelError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.models.state import find_problem
from d2l_ft.sources.load import load_source

BAD = {
    'nan': (np.nan, 'weight'), 'inf': (np.inf, 'weight'), 'minus inf': (-np.inf, 'bias'),
    'inf in a variance': (np.inf, 'running_var'), 'nan in a variance': (np.nan, 'running_var'),
    'negative variance': (-1.0, 'running_var'), 'nan in a mean': (np.nan, 'running_mean'),
}  # fmt: skip


@pytest.mark.parametrize('kind', BAD)
def test_a_state_that_no_net_can_use_is_named(framework, kind, tmp_path):
    value, end = BAD[kind]
    state = framework.get_state(framework.place(framework.build_net('resnet18', 2)))
    assert find_problem(state) == ''
    name = [each for each in state if each.endswith(end)][3 if end != 'bias' else 0]
    state[name] = state[name].copy()
    state[name].flat[0] = value
    path = tmp_path / 'x.safetensors'
    save_checkpoint(path, Checkpoint(state))
    with pytest.raises(ModelError, match=name):
        load_source(str(path), 'resnet18', framework)
