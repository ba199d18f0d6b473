"""What a folder says of the input: its shape, and what the graph does to images itself."""

import json

import numpy as np
import pytest
import symbols

from d2l_ft.convert.formats import Model
from d2l_ft.convert.graph import read_graph
from d2l_ft.convert.package import assumed, first_width, preprocessing, shape_of, write_package


def conv(x, **attrs):
    """Return the nodes of a convolution."""
    return [f'{x}_w', ('Convolution', f'{x}_conv', [x, f'{x}_w'], {'kernel': '(3, 3)', **attrs})]


def test_what_the_graph_does_to_images_ends_with_the_first_layer():
    graph = read_graph(symbols.symbol(
        'data',
        ('_copy', 'id', ['data'], {}),
        ('_mul_scalar', 'mul', ['id'], {'scalar': '0.5'}),
        ('BatchNorm', 'bn', ['mul'], {}),
        *conv('bn'),
        ('_plus_scalar', 'plus', ['bn_conv'], {'scalar': '1'}),
    ))  # fmt: skip
    found = preprocessing(graph, (3, 8, 8), symbols.arrays(data_w=(4, 3, 3, 3)))
    assert found['in_the_graph'] == ['mul 0.5', 'BatchNorm bn']
    assert found['assumed']['why'] == 'the net itself begins with mul'
    assert found['assumed']['std'] == [1 / 255] * 3


@pytest.mark.parametrize(
    ('shape', 'layout', 'channels', 'size', 'order'),
    [((3, 8, 9), 'NCHW', 3, [8, 9], True), ((1, 8, 9), 'NCHW', 1, [8, 9], False),
     ((5,), 'N x 5', None, None, False)],
)  # fmt: skip
def test_the_order_of_channels_is_a_question_of_three(shape, layout, channels, size, order):
    found = preprocessing(read_graph(symbols.DENSE), shape, symbols.DENSE_ARRAYS)
    assert (found['layout'], found['channels'], found['size']) == (layout, channels, size)
    assert (found['channel_order'] is not None) == ('assumed' in found) == order


@pytest.mark.parametrize(('mean', 'std'), [(120.0, 1 / 255), (0.2, 0.229), (9.0, 0.229)])
def test_the_statistics_of_a_first_batch_norm_tell_how_images_come(mean, std):
    names = ['gamma', 'beta', 'mean', 'var']
    text = symbols.symbol(
        'data', ('_copy', 'id', ['data'], {}), *names, ('BatchNorm', 'bn', ['id', *names], {})
    )
    stored = symbols.arrays(gamma=(3,), beta=(3,), var=(3,)) | {'mean': np.float32([0, -mean, 0])}
    assert assumed(read_graph(text), stored)['std'][0] == std


def test_the_first_layer_tells_the_channels_of_all_groups():
    graph = read_graph(symbols.symbol('data', *conv('data', num_group='2')))
    assert first_width(graph, symbols.arrays(data_w=(4, 3, 3, 3))) == (6, True)
    assert first_width(read_graph(symbols.DENSE), symbols.DENSE_ARRAYS) == (3, False)


def test_a_shape_of_an_example_becomes_one_of_a_batch():
    model = Model(symbols.DENSE_ARRAYS, read_graph(symbols.DENSE))
    assert shape_of(model.graph, model, (3,)) == {'data': (1, 3)}
    assert shape_of(model.graph, model, None) == {}


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize(
    ('stored', 'wanted'), [('(1, 3, 9, 7)', [3, 9, 7]), ('(0, 3, 0, 0)', [3, 224, 224])]
)
def test_the_shape_in_the_graph_is_taken_where_it_is_whole(stored, wanted, tmp_path):
    text, arrays = symbols.images()
    data = json.loads(text)
    data['nodes'][0]['attrs'] = {'__shape__': stored}
    model = Model(arrays, read_graph(json.dumps(data)))
    write_package(model, tmp_path / 'net', until='pool', keep_softmax=True)
    record = json.loads((tmp_path / 'net' / 'names.json').read_text())
    assert record['inputs'] == {'data': wanted}
    assert (record['until'], record['keep_softmax'], record['ends']) == ('pool', True, ['pool'])


@pytest.mark.needs('pytorch')
def test_a_shape_beside_the_net_is_taken_without_its_batch(tmp_path):
    model = Model(symbols.DENSE_ARRAYS, read_graph(symbols.DENSE), shapes={'data': (5, 3)})
    write_package(model, tmp_path / 'net')
    record = json.loads((tmp_path / 'net' / 'names.json').read_text())
    assert record['inputs'] == {'data': [3]}
