"""Converted nets as architectures, in whichever framework is there."""

import dataclasses

import numpy as np
import pytest
import symbols

from d2l_ft.convert.graph import read_graph
from d2l_ft.convert.trainable import NetRecord, add_net
from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture
from d2l_ft.optim.recipe import Recipe
from d2l_ft.system.hardware import has_bfloat16

SIDE = 10

FINAL = [
    ('Pooling', 'pool', ['body'], {'kernel': '(1, 1)', 'global_pool': 'True', 'pool_type': 'avg'}),
    ('Flatten', 'flat', ['pool'], {}),
    *symbols.dense('fc', 'flat'),
]
"""Of nets whose last feature map is 'body', of four channels."""


def conv(name, x, weight=None, **attrs):
    """Return the nodes of a convolution to four channels without a bias."""
    stored = weight or f'{name}_weight'
    kinds = {'kernel': '(3, 3)', 'pad': '(1, 1)', 'num_filter': '4', 'no_bias': 'True'}
    node = ('Convolution', name, [x, stored], kinds | attrs)
    return [node] if weight else [stored, node]


def norm(name, x, **attrs):
    """Return the nodes of a BatchNorm."""
    names = [f'{name}_{each}' for each in ('gamma', 'beta', 'moving_mean', 'moving_var')]
    return [*names, ('BatchNorm', name, [x, *names], attrs)]


def norm_shapes(name, width=4):
    return {f'{name}_{each}': [width] for each in ('gamma', 'beta', 'moving_mean', 'moving_var')}


FC = {'fc_weight': [2, 4], 'fc_bias': [2]}

NETS = {
    'plain': (
        [*conv('body', 'data'), *FINAL],
        {'body_weight': [4, 3, 3, 3]} | FC,
    ),
    'a BatchNorm of the input, with a fixed scale': (
        [*norm('first', 'data', eps='2e-5'), *conv('body', 'first'), *FINAL],
        norm_shapes('first', 3) | {'body_weight': [4, 3, 3, 3]} | FC,
    ),
    'a BatchNorm whose scale learns': (
        [*conv('c', 'data'), *norm('body', 'c', fix_gamma='False'), *FINAL],
        norm_shapes('body') | {'c_weight': [4, 3, 3, 3]} | FC,
    ),
    'a BatchNorm that stands still': (
        [*conv('c', 'data'), *norm('body', 'c', use_global_stats='True'), *FINAL],
        norm_shapes('body') | {'c_weight': [4, 3, 3, 3]} | FC,
    ),
    'a PReLU': (
        [
            *conv('c', 'data'),
            'body_gamma',
            ('LeakyReLU', 'body', ['c', 'body_gamma'], {'act_type': 'prelu'}),
            *FINAL,
        ],
        {'c_weight': [4, 3, 3, 3], 'body_gamma': [4]} | FC,
    ),
    'two layers that share a weight': (
        [
            *conv('a', 'data'),
            *conv('b', 'a'),
            *conv('c', 'b', weight='b_weight'),
            ('elemwise_add', 'body', ['b', 'c'], {}),
            *FINAL,
        ],
        {'a_weight': [4, 3, 3, 3], 'b_weight': [4, 4, 3, 3]} | FC,
    ),
    'a scale of its own': (
        [
            *conv('c', 'data'),
            'scale',
            ('broadcast_mul', 'body', ['c', 'scale'], {}),
            *FINAL,
        ],
        {'c_weight': [4, 3, 3, 3], 'scale': [1, 4, 1, 1]} | FC,
    ),
    'an activation of vectors': (
        [
            *conv('body', 'data'),
            *FINAL[:2],
            *symbols.dense('hidden', 'flat', 4),
            ('Activation', 'act', ['hidden'], {'act_type': 'relu'}),
            *symbols.dense('fc', 'act'),
        ],
        {'body_weight': [4, 3, 3, 3], 'hidden_weight': [4, 4], 'hidden_bias': [4]} | FC,
    ),
    'pooling of a size that must fit': (
        [
            *conv('c', 'data'),
            ('Activation', 'act', ['c'], {'act_type': 'relu'}),
            ('Pooling', 'body', ['act'], {'kernel': '(3, 3)', 'stride': '(2, 2)',
                                          'pool_type': 'max', 'pooling_convention': 'full'}),
            *FINAL,
        ],
        {'c_weight': [4, 3, 3, 3]} | FC,
    ),
    'norms of other kinds': (
        [
            *conv('c', 'data'),
            *('in_gamma', 'in_beta', 'ln_gamma', 'ln_beta'),
            ('InstanceNorm', 'in', ['c', 'in_gamma', 'in_beta'], {}),
            ('LayerNorm', 'ln', ['in', 'ln_gamma', 'ln_beta'], {'axis': '-1'}),
            ('relu', 'body', ['ln'], {}),
            *FINAL,
        ],
        {'c_weight': [4, 3, 3, 3], 'in_gamma': [4], 'in_beta': [4], 'ln_gamma': [SIDE],
         'ln_beta': [SIDE]} | FC,
    ),
    'a deconvolution': (
        [
            *conv('c', 'data', stride='(2, 2)'),
            'body_weight',
            ('Deconvolution', 'body', ['c', 'body_weight'],
             {'kernel': '(2, 2)', 'stride': '(2, 2)', 'num_filter': '4'}),
            *FINAL,
        ],
        {'c_weight': [4, 3, 3, 3], 'body_weight': [4, 4, 2, 2]} | FC,
    ),
    'pooling without an activation': (
        [
            *conv('c', 'data'),
            ('Pooling', 'body', ['c'], {'kernel': '(3, 3)', 'stride': '(2, 2)',
                                        'pool_type': 'max'}),
            *FINAL,
        ],
        {'c_weight': [4, 3, 3, 3]} | FC,
    ),
    'a head that is a convolution': (
        [
            *conv('body', 'data'),
            *('fc_weight', 'fc_bias'),
            ('Convolution', 'fc', ['body', 'fc_weight', 'fc_bias'],
             {'kernel': '(1, 1)', 'num_filter': '2'}),
            ('Activation', 'act', ['fc'], {'act_type': 'relu'}),
            ('Pooling', 'pool', ['act'],
             {'kernel': '(1, 1)', 'global_pool': 'True', 'pool_type': 'avg'}),
            ('Flatten', 'flat', ['pool'], {}),
        ],
        {'body_weight': [4, 3, 3, 3], 'fc_weight': [2, 4, 1, 1], 'fc_bias': [2]},
    ),
    'a head without a bias, and names that our own blocks have': (
        [
            *conv('output', 'data'),
            ('Pooling', 'head', ['output'], {'kernel': '(1, 1)', 'global_pool': 'True'}),
            'fc_weight',
            ('FullyConnected', 'fc', ['head', 'fc_weight'], {'num_hidden': '2', 'no_bias': 'True'}),
        ],
        {'output_weight': [4, 3, 3, 3], 'fc_weight': [2, 4]},
    ),
}  # fmt: skip
"""Name -> (nodes after the input, MXNet's name -> shape)."""


def record(name='plain', **changes):
    """Return the record of one of ``NETS``, as JSON."""
    nodes, shapes = NETS[name]
    text = symbols.symbol('data', *nodes)
    return dataclasses.replace(NetRecord('net', text, shapes, SIDE), **changes).to_json()


def batch(framework, count=5, seed=0):
    """Return random images of three classes."""
    draws = np.random.default_rng(seed)
    images = draws.standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)
    return framework.to_batch(images, np.arange(count) % 3)


@pytest.mark.parametrize('name', NETS)
def test_a_net_trains_and_its_state_comes_back(framework, name):
    net = add_net(record(name))
    placed = framework.place(framework.build_net(net.name, 3, seed=1))
    state = framework.get_state(placed)
    assert set(state) == set(net.definition.names) - net.definition.fixed | {
        f'{net.head}.weight', f'{net.head}.bias'
    }  # fmt: skip
    assert state[f'{net.head}.weight'].shape == (3, 4, *net.kernel)
    before = framework.logits(placed, batch(framework))
    assert before.shape == (5, 3)
    trainer = framework.build_trainer(placed, Recipe(0.05, momentum=0.5))
    losses = [float(framework.train_step(placed, trainer, batch(framework)).loss) for _ in range(8)]
    assert losses[-1] < losses[0]
    after = framework.get_state(placed)
    moved = {key for key in state if not np.array_equal(state[key], after[key])}
    still = {key for key in state if 'running' in key} if 'still' in name else set()
    assert moved == set(state) - still
    framework.set_state(placed, state)
    assert np.array_equal(framework.logits(placed, batch(framework)), before)


@pytest.mark.parametrize('name', NETS)
def test_a_frozen_net_trains_its_head_alone(framework, name):
    net = add_net(record(name))
    made = framework.build_net(net.name, 3, seed=1)
    framework.freeze(made)
    placed = framework.place(made)
    state = framework.get_state(placed)
    trainer = framework.build_trainer(placed, Recipe(0.05))
    framework.train_step(placed, trainer, batch(framework))
    after = framework.get_state(placed)
    moved = {key for key in state if not np.array_equal(state[key], after[key])}
    assert moved == {f'{net.head}.weight', f'{net.head}.bias'}


def test_a_source_gives_the_body_and_not_the_head(framework):
    net = add_net(record('a BatchNorm whose scale learns'))
    donor = framework.get_state(framework.place(framework.build_net(net.name, 2, seed=5)))
    placed = framework.place(framework.build_net(net.name, 3, donor, seed=1))
    found = framework.get_state(placed)
    for key, array in donor.items():
        if not key.startswith(net.head):
            assert np.array_equal(found[key], array)
    with pytest.raises(ModelError, match='the source is no net-'):
        framework.build_net(net.name, 3, {'other': np.ones(2, np.float32)})


@pytest.mark.parametrize('name', ['an activation of vectors', 'plain'])
def test_values_that_overflow_inside_are_not_finite_outside(framework, name):
    """MXNet's ReLU makes 0 of not-a-number."""
    net = add_net(record(name))
    placed = framework.place(framework.build_net(net.name, 3))
    state = framework.get_state(placed)
    state['body.weight'] = np.full_like(state['body.weight'], 3e38)
    framework.set_state(placed, state)
    assert not np.isfinite(framework.logits(placed, batch(framework))).any()


def test_one_value_that_is_no_number_is_not_lost_in_pooling(framework):
    """MXNet's largest of not-a-number and others is one of the others."""
    net = add_net(record('pooling without an activation'))
    placed = framework.place(framework.build_net(net.name, 3))
    images = np.ones((2, 3, SIDE, SIDE), np.float32)
    images[0, 0, 4, 4] = np.nan
    values = framework.logits(placed, framework.to_batch(images, np.zeros(2, np.int64)))
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[1]).all()


def test_features_are_those_of_the_head(framework):
    net = add_net(record('a BatchNorm whose scale learns'))
    placed = framework.place(framework.build_net(net.name, 3, seed=1))
    state = framework.get_state(placed)
    found = framework.features(placed, [batch(framework)])
    wanted = found @ state[f'{net.head}.weight'].T + state[f'{net.head}.bias']
    assert framework.logits(placed, batch(framework)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.skipif(not has_bfloat16(), reason='this processor has no instructions for bfloat16')
@pytest.mark.parametrize('name', NETS)
def test_a_net_computes_in_bfloat16(framework, name):
    net = add_net(record(name))
    exact = framework.place(framework.build_net(net.name, 3, seed=1))
    placed = framework.place(
        framework.build_net(net.name, 3, seed=1), framework.devices('cpu'), 'bfloat16'
    )
    wanted = framework.logits(exact, batch(framework))
    found = framework.logits(placed, batch(framework))
    assert found == pytest.approx(wanted, abs=0.05 * float(np.abs(wanted).max()))
    assert not np.array_equal(found, wanted)
    trainer = framework.build_trainer(placed, Recipe(0.05))
    assert np.isfinite(float(framework.train_step(placed, trainer, batch(framework)).loss))


def test_several_devices_take_the_step_of_one(framework):
    net = add_net(record())
    states = []
    for devices in ('cpu', 'cpu:2'):
        made = framework.build_net(net.name, 3, seed=1)
        placed = framework.place(made, framework.devices(devices))
        trainer = framework.build_trainer(placed, Recipe(0.1))
        framework.train_step(placed, trainer, batch(framework))
        states.append(framework.get_state(placed))
    for key, array in states[0].items():
        assert states[1][key] == pytest.approx(array, abs=1e-5)


def test_statistics_of_several_devices_are_averaged(framework):
    net = add_net(record('a BatchNorm of the input, with a fixed scale'))
    placed = framework.place(framework.build_net(net.name, 3), framework.devices('cpu:2'))
    trainer = framework.build_trainer(placed, Recipe(0.1))
    framework.train_step(placed, trainer, batch(framework, 6))
    images = np.asarray(batch(framework, 6)[0].asnumpy() if framework.NAME == 'mxnet'
                        else batch(framework, 6)[0])  # fmt: skip
    mean = images.mean((0, 2, 3))
    found = framework.get_state(placed)
    (key,) = [each for each in found if each.endswith('running_mean')]
    assert found[key] == pytest.approx(0.1 * mean, rel=1e-3, abs=1e-5)


def test_a_name_goes_with_the_graph_alone():
    names = {add_net(record(name)).name for name in NETS}
    assert len(names) == len(NETS)
    assert add_net(record()).name == add_net(record()).name
    assert add_net(record(bgr=True)).name != add_net(record()).name
    assert architecture(add_net(record()).name).image_size == SIDE


def test_a_graph_that_ends_in_values_has_no_other_nodes():
    text = symbols.symbol(
        'data', ('SliceChannel', 's', ['data'], {'num_outputs': '2'}),
        ('relu', 'r', [('s', 1)], {}), ('tanh', 't', ['data'], {}),
    )  # fmt: skip
    graph = read_graph(text)
    assert [node.name for node in graph.ending(['r']).nodes] == ['data', 's', 'r']
    several = graph.ending(['s_output1', 't'])
    assert [node.name for node in several.nodes] == ['data', 's', 't']
    assert [(each.node, each.output) for each in several.heads] == [(1, 1), (2, 0)]
    assert read_graph(several.text()).heads == several.heads


def test_hints_of_old_files_are_not_written():
    nodes = [('relu', 'r', ['data'], {'lr_mult': '2', 'ctx_group': 'a', 'weight_lr_mult': '1'})]
    assert '_mult' not in read_graph(symbols.symbol('data', *nodes)).text()
