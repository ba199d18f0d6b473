"""The state of a net is found whatever is around it, and nothing else is taken for it."""

import random

import numpy as np
import pytest
from conftest import says
from weights import fresh, hollow, renamed, wrapped

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import ARCHITECTURES, architecture, is_head
from d2l_ft.models.layouts import layouts
from d2l_ft.models.state_dicts import as_state, find_state, flatten


def read(loaded, arch):
    """Return the state in what a file has."""
    return as_state(find_state(loaded, arch, 'x')[0], arch)


def same(one, other):
    """Tell whether two states are equal to the bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(array, other[name]) and array.dtype == other[name].dtype
        for name, array in one.items()
    )


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_any_wrapper_prefix_and_layout_gives_the_same_state(arch):
    state = fresh(arch, 3)
    draw = random.Random(arch)
    for _ in range(3 if arch == 'vgg11' else 30):
        table = draw.choice(layouts(arch))
        loaded = wrapped(renamed(state, table), draw)
        assert same(read(loaded, arch), state)


def test_the_weights_of_float16_and_float64():
    state = {name: array.astype(np.float16) for name, array in fresh('resnet18', 3).items()}
    wanted = {name: array.astype(np.float32) for name, array in state.items()}
    assert same(read(state, 'resnet18'), wanted)
    double = {name: array.astype(np.float64) for name, array in state.items()}
    assert same(read(double, 'resnet18'), double)


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_another_architecture_is_named(arch):
    for other in ARCHITECTURES:
        if other != arch:
            assert says(ModelError, read, {'net': hollow(other)}, arch) == (
                f'x has weights of {other}, not of {arch}: give `arch={other}`'
            )


def test_an_output_layer_of_another_form_is_left_out():
    state = fresh('resnet18', 3)
    body = {name: array for name, array in state.items() if not is_head(name, 'fc')}
    for head in (
        {},
        {'fc.0.weight': np.ones((9, 512), np.float32), 'fc.2.weight': np.ones((3, 9), np.float32)},
        {'fc.weight': np.ones((3, 9), np.float32)},
        {'fc.weight': np.float32(3)},
        {'fc.weight': np.ones((0, 512), np.float32)},
        {'fc.weight': np.ones((3, 512), np.float32), 'fc.bias': np.ones(4, np.float32)},
    ):
        assert same(read(body | head, 'resnet18'), body)
    found = read({**body, 'fc.weight': state['fc.weight']}, 'resnet18')
    assert same(found, state | {'fc.bias': np.zeros(3, np.float32)})


def test_what_is_beside_a_net_is_left_out():
    state = fresh('resnet18', 3)
    beside = {f'model.{name}': array for name, array in state.items()}
    beside |= {'loss.weight': np.ones(3, np.float32), 'model.projector.weight': np.ones(4)}
    beside |= {'model.bn1.num_batches_tracked': np.float32(3), 'model.total_ops': np.ones(1)}
    beside |= {'model.layer1.0.conv1.total_params': np.ones(1)}
    assert same(read({'state_dict': beside, 'epoch': 3}, 'resnet18'), state)


def test_a_moving_average_is_preferred_and_named():
    state, mean = fresh('resnet18', 3), fresh('resnet18', 3, seed=1)
    for loaded in (
        {'state_dict': state, 'state_dict_ema': mean},
        {'model': state, 'model_ema': {f'module.{name}': each for name, each in mean.items()}},
        {'ema': {'module': mean}, 'net': state},
    ):
        found, note = find_state(loaded, 'resnet18', 'x')
        assert same(as_state(found, 'resnet18'), mean)
        assert 'ema' in note.rpartition(': ')[2]
        assert note.startswith('x has 2 nets, whose names begin with ')
    found, note = find_state({'model_state': state, 'ema': 0.9}, 'resnet18', 'x')
    assert (same(as_state(found, 'resnet18'), state), note) == (True, '')


def test_of_several_nets_the_one_with_a_known_name_is_taken():
    state, other = fresh('resnet18', 3), fresh('resnet18', 3, seed=1)
    loaded = {'current_model_state': other, 'state_dict': {'model': state}}  # as Lightning averages
    assert same(read(loaded, 'resnet18'), state)
    assert says(ModelError, read, {'student': state, 'teacher': other}, 'resnet18') == (
        "x has 2 nets of resnet18, whose names begin with 'student.', 'teacher.': save the "
        'state_dict of one'
    )


def test_why_weights_are_of_another_net():
    state = fresh('resnet18', 3)
    what = 'x has weights of another net than resnet18 (of its'
    first = 'the first is conv1.weight (64, 3, 7, 7)'
    for changes, cause in (
        ({'conv1.weight': np.ones((64, 1, 7, 7), np.float32)},
         f'{what} 102 arrays the first is conv1.weight (64, 1, 7, 7); conv1.weight is '
         '(64, 1, 7, 7), not (64, 3, 7, 7)): give others'),
        ({'layer1.0.se.weight': np.ones(3, np.float32)},
         f'{what} 103 arrays {first}; it has layer1.0.se.weight as well): give others'),
        ({'bn1.running_mean': np.ones(64, int)},
         f'{what} 101 arrays {first}; it has no bn1.running_mean): give others'),
    ):  # fmt: skip
        assert says(ModelError, read, state | changes, 'resnet18') == cause
    alone = {'fc.weight': np.ones((10, 512), np.float32)}
    assert says(ModelError, read, alone, 'resnet18') == (
        f'{what} 1 arrays the first is fc.weight (10, 512); it has no conv1.weight): give others'
    )
    for nothing in ({}, [], None, 3, {'epoch': 3}, {'step': np.ones(3, int)}, {3: {'a': 'b'}}):
        text = says(ModelError, read, nothing, 'resnet18')
        assert text == 'x has no arrays of floats: save net.state_dict()'


def test_what_is_nested_without_end_ends():
    loop = {'a': np.ones(1)}
    loop['b'] = loop
    assert list(flatten([loop, loop])) == ['0.a']
    deep = [np.ones(1)]
    for _ in range(10**5):
        deep = [deep]
    assert flatten(deep) == {}
    assert list(flatten({'x' * 300: np.ones(1), 'a\nb': np.ones(1)})) == ['a\\nb']
    wide = {'a': np.ones(1), 'b': np.ones(1)}
    for _ in range(30):
        wide = [wide] * 10
    assert len(flatten(wide)) == 2


def test_no_head_of_another_width_is_taken():
    for arch in ARCHITECTURES:
        state, head = fresh(arch, 3), architecture(arch).head
        state[f'{head}.weight'] = state[f'{head}.weight'][:, :-1]
        assert not any(is_head(name, head) for name in read(state, arch))
