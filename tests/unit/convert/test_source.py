"""The source of a module, read as a tree: whatever the names in a symbol file are, it is ours."""

import ast
import keyword

import numpy as np
import pytest
import symbols
from conftest import says
from hypothesis import example, given, settings
from hypothesis import strategies as st

from d2l_ft.convert.graph import Node, Value, read_graph
from d2l_ft.convert.source import TAKEN, problems, translate
from d2l_ft.errors import ModelError

HOSTILE = (
    'class', 'None', 'lambda', 'forward', 'training', 'state_dict', 'register_module', '__init__',
    '_parameters', 'T_destination', "quote'", 'double"', '"""', "'''", '\\', 'line\nimport os',
    '\r', '\x0c', '\u2028x', '\u202e', 'é', 'ß' * 9, '中文', '\ud800', '1st', '0', '', ' ', '_',
    '#', '{x}', '%s', '\0', '$(id)', 'a.b', 'a/b', 'x', 'self', 'nn', 'F', 'torch', 'Model',
    'fc_2', 'fc', 'conv_fwd',
)  # fmt: skip


def layers(source):
    """Return name -> source of each line of ``__init__``."""
    tree = symbols.check_source(source)
    (model,) = (each for each in tree.body if getattr(each, 'name', '') == 'Model')
    return {
        ast.unparse(each.targets[0]).removeprefix('self.'): ast.unparse(each.value)
        for each in model.body[1].body
        if isinstance(each, ast.Assign)
    }


def forward(source):
    """Return the lines of ``forward``, without comments."""
    tree = symbols.check_source(source)
    (model,) = (each for each in tree.body if getattr(each, 'name', '') == 'Model')
    (found,) = (each for each in model.body if getattr(each, 'name', '') == 'forward')
    return [f'forward({ast.unparse(found.args)})', *map(ast.unparse, found.body)]


def named(*names):
    """Return a symbol of two layers, an input and a bare parameter with these names."""
    data, first, second, bare = (f'{at} {name}' for at, name in enumerate(names))
    text = symbols.symbol(
        data, 'w', 'b', bare,
        ('FullyConnected', first, [data, 'w', 'b'], {}),
        ('Dropout', second, [first], {}),
        ('broadcast_add', 'out', [second, bare], {}),
    )  # fmt: skip
    plain = read_graph(text)
    for node in plain.nodes:
        if node.name[:2] in ('0 ', '1 ', '2 ', '3 '):
            node.name = node.name[2:]
    return plain, {**symbols.arrays(w=(2, 3), b=(2,)), names[3]: np.ones(2, np.float32)}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), min_size=4, max_size=4, unique=True)
)
@example(['"""', '"""\nimport os', '\\', "'"])
@example(['data', 'fc', 'fc_', 'fc_2'])
def test_whatever_the_names_are_the_source_is_ours(names):
    graph, stored = named(*names)
    if names[0] in ('w', 'b') or names[3] in ('w', 'b'):
        return
    source = translate(graph, stored)
    made = [each.partition('.')[0] for each in layers(source)]
    assert len(made) == len(set(made)) == 3
    for each in made:
        assert each.isidentifier()
        assert each.isascii()
        assert not keyword.iskeyword(each)
        assert each not in TAKEN
    assert all(line.isprintable() for line in source.text.splitlines())
    assert set(source.names.values()) == {'w', 'b', names[3]}
    assert source.inputs == [names[0]]


@pytest.mark.needs('pytorch')
def test_no_layer_takes_a_name_of_a_module():
    from torch import nn

    names = {each for each in dir(nn.Module()) if not each.startswith('_')}
    assert names - TAKEN == set()


def test_many_nodes_of_one_name_get_names_of_their_own():
    nodes = [('Dropout', 'd', ['data'], {})]
    data = symbols.symbol('data', *nodes)
    graph = read_graph(data)
    for number in range(2000):
        graph.nodes.append(Node('Dropout', 'd', {}, [Value(number + 1)], 'Dropout'))
    graph.heads = [Value(2001)]
    assert len(layers(translate(graph, {}))) == 2001


def test_one_layer_that_is_used_twice_is_one():
    text = symbols.symbol(
        'data', 'w', 'b', ('FullyConnected', 'one', ['data', 'w', 'b'], {}),
        ('relu', 'r', ['one'], {}), ('FullyConnected', 'two', ['r', 'w', 'b'], {}),
    )  # fmt: skip
    source = symbols.translated(text, symbols.arrays(w=(3, 3), b=(3,)))
    assert layers(source) == {'one': 'nn.Linear(3, 3)'}
    assert source.names == {'one.weight': 'w', 'one.bias': 'b'}
    assert source.head == '', 'a new head would change the first layer, too'
    assert forward(source)[1:] == [
        'x = self.one(x.flatten(1))', 'x = F.relu(x)', 'x = self.one(x)', 'return x',
    ]  # fmt: skip


def test_weights_that_two_kinds_of_layers_share_are_tied():
    text = symbols.symbol(
        'data', 'w', *symbols.dense('a', 'data', 3, 'w'), *symbols.dense('b', 'a', 3, 'w'),
        ('broadcast_mul', 'c', ['b', 'w'], {}),
    )  # fmt: skip
    source = symbols.translated(text, symbols.arrays(w=(3, 3), a_bias=(3,), b_bias=(3,)))
    assert layers(source) == {
        'a': 'nn.Linear(3, 3)', 'b': 'nn.Linear(3, 3)', 'b.weight': 'self.a.weight',
    }  # fmt: skip
    assert forward(source)[-2:] == ['x = x * self.a.weight', 'return x']
    assert source.names['b.weight'] == source.names['a.weight'] == 'w'
    assert np.array_equal(source.state['b.weight'], source.state['a.weight'])


def test_several_inputs_and_several_heads():
    text = symbols.symbol(
        'left', 'right', ('elemwise_add', 'sum', ['left', 'right'], {}),
        ('tanh', 'first', ['sum'], {}), ('exp', 'second', ['left'], {}), heads=['first', 'second'],
    )  # fmt: skip
    source = symbols.translated(text, {})
    assert source.inputs == ['left', 'right']
    assert source.outputs == source.ends == ['first', 'second']
    lines = forward(source)
    assert lines[0] == 'forward(self, x, y)'
    assert lines[-1].count(',') == 1
    assert source.head == ''


def test_two_outputs_of_one_node_are_told_apart():
    text = symbols.symbol(
        'data', ('SliceChannel', 's', ['data'], {'num_outputs': '2'}), heads=[('s', 1), ('s', 0)]
    )
    source = symbols.translated(text, {})
    assert source.ends == ['s_output1', 's_output0']
    assert forward(source)[1:] == ['x = x.chunk(2, 1)', 'return (x[1], x[0])']


def test_a_softmax_at_the_end_is_cut_off_unless_it_is_kept():
    text, stored = symbols.images()
    source = symbols.translated(text, stored)
    assert (source.outputs, source.ends, source.head) == (['softmax'], ['fc'], 'fc')
    assert source.inputs == ['data'], 'a label is no input'
    assert 'def replace_head' in source.text
    kept = symbols.translated(text, stored, keep_softmax=True)
    assert (kept.ends, kept.head) == (['softmax'], '')
    assert forward(kept)[-2] == 'x = F.softmax(x, dim=1)'
    assert 'def replace_head' not in kept.text


@pytest.mark.parametrize(
    ('after', 'head'),
    [([], 'fc'), ([('relu', 'r', ['fc'], {})], ''), ([('_copy', 'c', ['fc'], {})], 'fc'),
     ([('_mul_scalar', 's', ['fc'], {'scalar': '2'})], ''),
     ([('softmax', 's', ['fc'], {})], 'fc'), ([('log_softmax', 's', ['fc'], {})], 'fc')],
)  # fmt: skip
def test_the_head_is_a_dense_layer_that_comes_last(after, head):
    text = symbols.symbol('data', *symbols.dense('fc', 'data'), *after)
    assert symbols.translated(text).head == head


PIXEL = (
    'data', 'w', 'b',
    ('Convolution', 'c', ['data', 'w', 'b'], {'kernel': '(1, 1)', 'num_filter': '2'}),
)  # fmt: skip


@pytest.mark.parametrize(
    ('after', 'head'),
    [
        ([], 'c'),
        ([('Flatten', 'f', ['c'], {})], 'c'),
        (
            [
                ('relu', 'r', ['c'], {}),
                (
                    'Pooling',
                    'p',
                    ['r'],
                    {'global_pool': 'True', 'kernel': '(1, 1)', 'pool_type': 'avg'},
                ),
                ('Flatten', 'f', ['p'], {}),
                ('softmax', 's', ['f'], {}),
            ],
            'c',
        ),
        ([('_mul_scalar', 'm', ['c'], {'scalar': '2'})], ''),
        ([('SwapAxis', 's', ['c'], {'dim1': '1', 'dim2': '2'})], ''),
        ([('relu', 'r', ['c'], {}), ('elemwise_add', 'a', ['c', 'r'], {})], ''),
    ],
)  # fmt: skip
def test_the_head_may_be_a_convolution_of_one_pixel(after, head):
    stored = symbols.arrays(w=(2, 3, 1, 1), b=(2,))
    source = symbols.translated(symbols.symbol(*PIXEL, *after), stored)
    assert source.head == head
    assert ('nn.Conv2d(self.c.in_channels, classes, 1)' in source.text) == bool(head)


@pytest.mark.parametrize(('kernel', 'groups'), [(3, 1), (1, 2)])
def test_other_convolutions_are_no_heads(kernel, groups):
    attrs = {'kernel': str((kernel, kernel)), 'num_filter': '2', 'num_group': str(groups)}
    text = symbols.symbol('data', 'w', 'b', ('Convolution', 'c', ['data', 'w', 'b'], attrs))
    stored = symbols.arrays(w=(2, 4 // groups, kernel, kernel), b=(2,))
    assert symbols.translated(text, stored).head == ''


def test_a_head_without_a_bias_is_replaced_by_one_without():
    text = symbols.symbol('data', 'w', ('FullyConnected', 'fc', ['data', 'w'], {'no_bias': 'True'}))
    source = symbols.translated(text, symbols.arrays(w=(2, 3)))
    assert 'nn.Linear(self.fc.in_features, classes, bias=False)' in source.text


def test_arrays_that_are_not_used_are_named_with_a_reason():
    text = symbols.symbol(
        'data', *symbols.dense('fc', 'data'), *symbols.dense('other', 'data'), heads=['fc']
    )
    names = {'other_weight': (2, 3), 'other_bias': (2,), 'fc_state': (2,)}
    source = symbols.translated(text, {**symbols.DENSE_ARRAYS, **symbols.arrays(**names)})
    assert source.unused == {
        'other_weight': 'no output needs it', 'other_bias': 'no output needs it',
        'fc_state': 'the graph does not name it',
    }  # fmt: skip
    assert set(source.state) == {'fc.weight', 'fc.bias'}


def test_types_of_arrays():
    stored = {'fc_weight': np.ones((2, 3)), 'fc_bias': np.ones(2, np.float16)}
    state = symbols.translated(symbols.DENSE, stored).state
    assert (state['fc.weight'].dtype, state['fc.bias'].dtype) == (np.float64, np.float32)
    big = {name: each.astype('>f4') for name, each in symbols.DENSE_ARRAYS.items()}
    assert all(
        each.dtype.isnative for each in symbols.translated(symbols.DENSE, big).state.values()
    )


def test_helpers_and_imports_stand_in_the_file_only_if_a_line_needs_them():
    plain = symbols.translated(symbols.DENSE)
    assert 'import torch\n' not in plain.text
    assert 'functional' not in plain.text
    assert plain.text.count('class ') == 1
    norm = symbols.symbol(
        'data', ('BatchNorm', 'bn', ['data'], {'use_global_stats': 'True', 'fix_gamma': 'True'})
    )
    stored = symbols.arrays(bn_gamma=(3,), bn_beta=(3,), bn_moving_mean=(3,), bn_moving_var=(3,))
    source = symbols.translated(norm, stored)
    assert list(layers(source)) == ['bn']
    assert 'class StillBatchNorm' in source.text
    assert 'def fixed_scale' in source.text
    assert np.array_equal(source.state['bn.weight'], np.ones(3)), (
        'fix_gamma: what is stored is void'
    )


def test_what_has_no_rule_is_counted_by_operator():
    text = symbols.symbol(
        'data',
        ('Custom', 'a', ['data'], {}),
        ('Custom', 'b\n', ['a'], {}),
        ('RNN', 'c', ['b\n'], {}),
    )
    assert problems(read_graph(text), {}) == [
        'Custom: 2 nodes, the first is a', 'RNN: 1 node, the first is c',
    ]  # fmt: skip
    assert problems(read_graph(symbols.DENSE), symbols.DENSE_ARRAYS) == []
    (line,) = problems(read_graph(symbols.DENSE), {})
    assert "needs 'fc_weight'" in line


def test_an_attribute_or_an_input_that_no_rule_asks_for_is_refused():
    text = symbols.symbol('data', ('relu', 'r', ['data'], {'new\n': 'x'}))
    assert says(ModelError, symbols.translated, text, {}) == (
        "relu 'r' cannot be translated (the attribute new\\n=x has no meaning here): give a node "
        'before it as `until`'
    )
    text = symbols.symbol('data', 'more', ('relu', 'r', ['data', 'more'], {}))
    assert says(ModelError, symbols.translated, text, {}) == (
        "relu 'r' cannot be translated (inputs: 2): give a node before it as `until`"
    )
