"""What a graph says of the number of dimensions of its values."""

import pytest
import symbols

from d2l_ft.convert.graph import Value, read_graph
from d2l_ft.convert.ranks import known_ranks

RANKS = [
    # operator, attributes, dimensions of its input and of its value, None where not known
    ('relu', {}, 3, 3),
    ('relu', {}, None, None),
    ('_plus_scalar', {'scalar': '1'}, 3, 3),
    ('Convolution', {'kernel': '(3, 3)'}, None, 4),
    ('Pooling', {'kernel': '(3,)'}, None, 3),
    ('Pooling', {'global_pool': 'True'}, 5, 5),
    ('UpSampling', {'scale': '2'}, None, 4),
    ('FullyConnected', {}, 4, 2),
    ('FullyConnected', {'flatten': 'true'}, 3, 2),
    ('FullyConnected', {'flatten': '1'}, 3, 2),
    ('FullyConnected', {'flatten': 'False'}, 3, 3),
    ('Flatten', {}, 4, 2),
    ('expand_dims', {'axis': '0'}, 3, 4),
    ('SliceChannel', {'num_outputs': '2'}, 4, 4),
    ('SliceChannel', {'num_outputs': '2', 'squeeze_axis': '1'}, 4, 3),
    ('Reshape', {'shape': '(0, -1)'}, 4, 2),
    ('Reshape', {'shape': '(2, -2)'}, 4, None),
    ('Reshape', {'shape': '(0, -3)'}, 4, None),
    ('Reshape', {'shape': '(-4, 2, -1)'}, 4, None),
    ('sum', {'axis': '(2, 3)'}, 4, 2),
    ('mean', {'axis': '1', 'keepdims': 'True'}, 4, 4),
    ('max', {'axis': '1', 'exclude': 'True'}, 4, None),
    ('sum', {}, 4, None),
]


def ranks(text, **shapes):
    """Return the ranks of a symbol file's values."""
    return known_ranks(read_graph(text), {}, shapes)


@pytest.mark.parametrize(('op', 'attrs', 'before', 'after'), RANKS)
def test_an_operator(op, attrs, before, after):
    text = symbols.symbol('data', (op, 'n', ['data'], attrs))
    shapes = {'data': (2,) * before} if before else {}
    assert ranks(text, **shapes).get(Value(1)) == after


@pytest.mark.parametrize(
    ('op', 'attrs', 'second', 'after'),
    [('broadcast_add', {}, 4, 4), ('broadcast_add', {}, 0, None), ('reshape_like', {}, 4, 4),
     ('reshape_like', {'lhs_begin': '1'}, 4, None), ('elemwise_add', {}, 0, 3)],
)  # fmt: skip
def test_an_operator_on_two_values(op, attrs, second, after):
    text = symbols.symbol('a', 'b', (op, 'n', ['a', 'b'], attrs))
    shapes = {'a': (2,) * 3, 'b': (2,) * second}
    found = ranks(text, **{name: shape for name, shape in shapes.items() if shape})
    assert found.get(Value(2)) == after


def test_what_a_kernel_says_goes_back_to_the_input_and_on_to_every_output():
    text = symbols.symbol(
        'data',
        ('BatchNorm', 'bn', ['data'], {}),
        ('Convolution', 'conv', ['bn'], {'kernel': '(3, 3)'}),
        ('SliceChannel', 'parts', ['conv'], {'num_outputs': '2'}),
        ('elemwise_add', 'sum', [('parts', 0), ('parts', 1)], {}),
    )
    graph = read_graph(text)
    found = known_ranks(graph, {}, {})
    place = {node.name: number for number, node in enumerate(graph.nodes)}
    known = [Value(place['data']), Value(place['bn']), Value(place['parts'], 1), *graph.heads]
    assert [found.get(each) for each in known] == [4] * 4
