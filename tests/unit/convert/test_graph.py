"""Symbol files of every age, attributes as text, and whatever else is JSON."""

import json

import numpy as np
import pytest
import symbols
from conftest import says
from hypothesis import given, settings
from hypothesis import strategies as st

from d2l_ft.convert.graph import (
    ALIASES,
    LARGEST_FLOAT,
    MOST_NODES,
    OTHER_NAMES,
    Attributes,
    Node,
    Value,
    read_graph,
    tell_apart,
)
from d2l_ft.convert.rules import RULES
from d2l_ft.errors import ModelError


def attribute(text):
    """Return attributes with one, ``a``."""
    return Attributes(Node('op', 'n', {'a': text}, [], 'op'))


REFUSED = object()


@pytest.mark.parametrize(
    ('text', 'wanted'),
    [('(3, 3)', (3, 3)), ('(3L, 3L)', (3, 3)), ('[3,3]', (3, 3)), ('(3l,)', (3,)), ('3', (3,)),
     ('()', ()), ('[]', ()), ('None', (7,)), (' (1,\n2)', (1, 2)), ('(-1, 0)', (-1, 0)),
     ('True', (1,)), ('(1.5, 2)', REFUSED), ('(None, 1)', REFUSED), ('(3, 3', REFUSED),
     ('', REFUSED), ('__import__("os")', REFUSED), ('(1e9999,)', REFUSED),
     (f'({2**31 + 1},)', REFUSED), ('(' * 5000, REFUSED), ('9' * 5000, REFUSED),
     ('"3"', REFUSED), ('{3}', REFUSED), ('3Lx', REFUSED)],
)  # fmt: skip
def test_integers_are_read_as_mxnet_and_python_2_wrote_them(text, wanted):
    if wanted is REFUSED:
        assert says(ModelError, attribute(text).integers, 'a').startswith("op 'n' has a=")
    else:
        assert attribute(text).integers('a', (7,)) == wanted


@pytest.mark.parametrize(
    ('text', 'wanted'),
    [('True', True), ('true', True), ('1', True), ('2.0', True), ('False', False),
     ('false', False), ('0', False), ('None', True), ('yes', REFUSED), ('(1,)', REFUSED)],
)  # fmt: skip
def test_truths(text, wanted):
    if wanted is REFUSED:
        assert f'has a={text}' in says(ModelError, attribute(text).truth, 'a', default=True)
    else:
        assert attribute(text).truth('a', default=True) is wanted


@pytest.mark.parametrize(
    ('text', 'wanted'),
    [('2', 2), ('2.0', 2), ('2L', 2), ('True', 1), ('-1', -1), ('None', 5), ('1.5', REFUSED),
     ('1e400', REFUSED), ('1j', REFUSED), ('nan', REFUSED), (str(2**40), REFUSED)],
)  # fmt: skip
def test_an_integer(text, wanted):
    if wanted is REFUSED:
        assert says(ModelError, attribute(text).integer, 'a', 5).startswith("op 'n' has a=")
    else:
        assert attribute(text).integer('a', 5) == wanted


@pytest.mark.parametrize(
    ('text', 'wanted'),
    [('1e-05', 1e-5), ('2', 2.0), ('0.9', 0.9), ('None', 0.5), (repr(LARGEST_FLOAT), LARGEST_FLOAT),
     ('1e39', REFUSED), ('-1e400', REFUSED), ('inf', REFUSED), ('1' + '0' * 400, REFUSED),
     ('(1,)', REFUSED), ('1j', REFUSED)],
)  # fmt: skip
def test_a_number_is_one_that_float32_has(text, wanted):
    if wanted is REFUSED:
        assert says(ModelError, attribute(text).number, 'a', 0.5).startswith("op 'n' has a=")
    else:
        assert attribute(text).number('a', 0.5) == wanted


def test_an_axis_and_tuples_with_none():
    assert attribute('-1').axis('a', 1) == -1
    for text in ('64', '-33'):
        assert says(ModelError, attribute(text).axis, 'a', 1) == (
            f"op 'n' has a={text}, which is not understood: save the net again"
        )
    assert attribute('(None, 2)').optional_integers('a') == (None, 2)
    assert attribute('None').optional_integers('a') is None


def test_attributes_that_nobody_asked_for_are_left_over():
    names = ('asked', 'new', '_new', 'workspace', '__shape__')
    attrs = Attributes(Node('op', 'n', dict.fromkeys(names, '1'), [], 'op'))
    attrs.text('asked', '')
    assert attrs.rest() == ['new', '_new']


@pytest.mark.parametrize('key', ['param', 'attr', 'attrs'])
@pytest.mark.parametrize('length', [2, 3])
def test_ages_of_the_format(key, length):
    data = json.loads(symbols.DENSE)
    for node in data['nodes']:
        node[key] = node.pop('attrs')
        node['inputs'] = [pair[:length] for pair in node['inputs']]
        node['backward_source_id'] = -1
    data['heads'] = [pair[:length] for pair in data['heads']]
    found, wanted = read_graph(json.dumps(data)), read_graph(symbols.DENSE)
    assert (found.nodes, found.heads) == (wanted.nodes, wanted.heads)


def test_a_users_own_attributes_give_way_to_the_operators():
    data = json.loads(symbols.DENSE)
    data['nodes'][-1] |= {'attr': {'num_hidden': '9', 'lr_mult': '2'}}
    data['nodes'][-1]['attrs']['num_hidden'] = '2'
    assert read_graph(json.dumps(data)).nodes[-1].attrs == {'num_hidden': '2', 'lr_mult': '2'}


def test_attributes_that_are_no_text_and_heads_that_are_missing():
    data = json.loads(symbols.DENSE)
    data['nodes'][-1]['attrs'] = {'num_hidden': 2, 'flatten': True, 'no_bias': None, 'k': [3, 3]}
    del data['heads']
    graph = read_graph(json.dumps(data))
    assert graph.heads == [Value(len(graph.nodes) - 1)]
    attrs = Attributes(graph.nodes[-1])
    assert attrs.integer('num_hidden', 0) == 2
    assert attrs.truth('flatten', default=False) is True
    assert attrs.truth('no_bias', default=False) is False
    assert attrs.integers('k') == (3, 3)


def test_each_other_name_of_an_operator_leads_to_a_rule():
    assert set(ALIASES.values()) == set(OTHER_NAMES)
    assert set(OTHER_NAMES) - set(RULES) == set()
    assert set(ALIASES) & set(RULES) == set(), 'a name that is an operator of its own'
    graph = read_graph(symbols.symbol('a', ('_Plus', 'sum', ['a', 'a'], {})))
    assert (graph.nodes[-1].op, graph.nodes[-1].stored_op) == ('elemwise_add', '_Plus')


def test_a_batch_norm_without_its_states_gets_them():
    norm = ('BatchNorm', 'bn', ['data', 'bn_gamma', 'bn_beta'], {})
    old = symbols.symbol('data', 'bn_gamma', 'bn_beta', norm, ('Flatten', 'flat', ['bn'], {}))
    graph = read_graph(old)
    assert graph.variables() == [
        'data', 'bn_gamma', 'bn_beta', 'bn_moving_mean', 'bn_moving_var',
    ]  # fmt: skip
    flat, bn = graph.nodes[-1], graph.nodes[graph.nodes[-1].inputs[0].node]
    assert (flat.name, bn.name, len(bn.inputs)) == ('flat', 'bn', 5)
    assert graph.nodes[graph.heads[0].node] is flat
    bare = symbols.symbol('data', ('BatchNorm', 'bn', ['data'], {}))
    assert set(read_graph(bare).variables()) == set(graph.variables())


def test_a_graph_is_written_with_the_names_that_its_file_has():
    text = symbols.symbol(
        'data', ('_npi_add_scalar', 'more', ['data'], {'scalar': '1'}),
        ('SliceChannel', 'parts', ['more'], {'num_outputs': '2'}),
        ('ElementWiseSum', 'sum', [('parts', 1), 'data'], {}), heads=['sum', ('parts', 1)],
    )  # fmt: skip
    written = json.loads(read_graph(text).text())
    wanted = json.loads(text)
    for node in wanted['nodes']:
        if not node['attrs']:
            del node['attrs']
    assert {**wanted, 'attrs': {'mxnet_version': ['int', 10901]}} == written


def test_only_what_the_heads_need_is_walked():
    text = symbols.symbol(
        'data', ('relu', 'a', ['data'], {}), 'other', ('relu', 'b', ['other'], {}), heads=['a']
    )
    assert [node.name for _, node in read_graph(text).walk()] == ['data', 'a']


def test_a_graph_ends_in_a_node_by_its_name_or_that_of_its_output():
    text, _ = symbols.images()
    for name in ('pool', 'pool_output'):
        cut = read_graph(text).until(name)
        assert [node.name for _, node in cut.walk()] == ['data', 'conv_weight', 'conv', 'pool']
    for name in ('data', 'nothing'):
        with pytest.raises(ModelError, match=f'no node {name!r}'):
            read_graph(text).until(name)


@pytest.mark.parametrize(('place', 'output'), [(3, 0), (4, 0), (999, 0), (-1, 0), (0, 1000)])
def test_an_input_that_is_not_before_its_node_is_refused(place, output):
    data = json.loads(symbols.DENSE)
    data['nodes'][3]['inputs'][0] = [place, output, 0]
    assert says(ModelError, read_graph, json.dumps(data)) == (
        f'an input or a head names node {place}, which is not before it'
    )


def test_a_node_of_a_name_that_is_taken_gets_the_next_that_is_free():
    names = ['data', 'r', 'r', 'r_2', 'r_3', 'r']
    nodes = [{'op': 'relu' if at else 'null', 'name': name} for at, name in enumerate(names)]
    text, lines = tell_apart(json.dumps({'nodes': nodes}))
    told = [node['name'] for node in json.loads(text)['nodes']]
    assert told == ['data', 'r', 'r_4', 'r_2', 'r_3', 'r_5']
    assert lines == ['3 nodes are named r: the second is called r_4 here']
    again = json.dumps({'nodes': [{'op': 'relu', 'name': name} for name in told]})
    assert tell_apart(again) == (again, [])


def test_a_graph_of_many_nodes_is_walked_and_one_of_too_many_refused():
    chain = {'op': 'relu', 'name': 'r'}
    nodes = [{'op': 'null', 'name': 'data', 'inputs': []}]
    nodes += [{**chain, 'inputs': [[at, 0, 0]]} for at in range(20_000)]
    text = json.dumps({'nodes': nodes, 'heads': [[20_000, 0, 0]]})
    assert len(list(read_graph(text).walk())) == 20_001
    empty = '{"nodes": [' + '0,' * MOST_NODES + '0]}'
    assert says(ModelError, read_graph, empty) == f'it has {MOST_NODES + 1} nodes'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)

PAIRS = st.lists(st.integers(-1, 6) | JSON, max_size=4)

NODE = st.fixed_dictionaries(
    {'op': st.sampled_from(['null', *RULES]) | JSON, 'name': st.text(max_size=4) | JSON},
    optional={
        'attrs': st.dictionaries(
            st.sampled_from(['kernel', 'axis', 'shape', 'num_hidden', 'no_bias', 'a_min', 'mode']),
            st.text(max_size=6) | st.sampled_from(['(1, 1)', '1', 'True', '1e39']) | JSON,
        )
        | JSON,
        'param': JSON,
        'inputs': st.lists(PAIRS, max_size=3) | JSON,
    },
)

SYMBOL = st.fixed_dictionaries(
    {'nodes': st.lists(NODE | JSON, max_size=6) | JSON}, optional={'heads': st.lists(PAIRS) | JSON}
)


@settings(max_examples=400, deadline=None)
@given(SYMBOL | JSON)
def test_any_json_is_read_or_refused_in_one_line(data):
    graph, refused = symbols.tried(read_graph, json.dumps(data))
    assert '\n' not in refused
    if graph is not None:
        assert all(value.node < at for at, node in enumerate(graph.nodes) for value in node.inputs)
        assert all(0 <= head.node < len(graph.nodes) for head in graph.heads)


@st.composite
def graphs(draw):
    """Draw a symbol file whose inputs come before their nodes, of any operators and attributes."""
    nodes = [{'op': 'null', 'name': name} for name in ('data', 'w1', 'w2', 'w4', 'w0')]
    for _ in range(draw(st.integers(1, 4))):
        first = st.sampled_from([0, *range(5, len(nodes))])  # the data, or what came of it
        most = draw(st.sampled_from([0, 0, 1, 1, 2, 4]))
        others = st.lists(st.integers(0, len(nodes) - 1), min_size=most, max_size=most)
        output = st.sampled_from([0] * 11 + [1])
        numbers = st.sampled_from(
            ['(1, 1)', '(3,3)', '0', '1', '2', '-1', 'True', '(0, -1)', '(-4, 2, -1)', 'None',
             '1e39', '0.5', '(1,)', 'relu', 'avg', 'full', 'channel', 'prelu', 'elu', "a\n'"]
        )  # fmt: skip
        names = st.sampled_from(
            ['kernel', 'stride', 'pad', 'axis', 'axes', 'shape', 'act_type', 'pool_type', 'mode',
             'begin', 'end', 'num_group', 'num_outputs', 'squeeze_axis', 'global_pool', 'scalar',
             'dim', 'pad_width', 'scale', 'sample_type', 'dtype', 'no_bias', 'reps', 'other']
        )  # fmt: skip
        nodes.append(
            {
                'op': draw(st.sampled_from(sorted(RULES))),
                'name': draw(st.text(max_size=6)),
                'attrs': draw(st.dictionaries(names, numbers, max_size=3)),
                'inputs': [[each, draw(output)] for each in (draw(first), *draw(others))],
            }
        )
    heads = draw(st.lists(st.sampled_from([0, *range(5, len(nodes))]), max_size=2))
    return json.dumps({'nodes': nodes, 'heads': [[head, 0, 0] for head in heads]})


STORED = {'w1': np.ones(3, np.float32), 'w2': np.ones((2, 3), np.float32),
          'w4': np.ones((2, 3, 1, 1), np.float32), 'w0': np.ones((), np.float32)}  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(graphs())
def test_any_graph_is_translated_to_source_that_parses_or_refused_in_one_line(text):
    found, refused = symbols.tried(symbols.translated, text, STORED)
    assert '\n' not in refused
    if found is not None:
        symbols.check_source(found)
