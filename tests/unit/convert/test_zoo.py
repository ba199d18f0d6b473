"""Parameters belong to a net of a zoo if each layer but the last has its filters and kernel."""

import numpy as np
import pytest

from d2l_ft.convert.zoo import rename, zoo_graph

NAME = 'gluon/resnet18_v2'


def arrays():
    """Return parameters of the net, with one input channel each, which nothing asks for."""
    graph = zoo_graph(NAME)
    found = {name: np.zeros(1) for name in graph.variables() if name != 'data'}
    for _, node in graph.walk():
        if node.op == 'Convolution':
            kernel = [int(each) for each in node.attrs['kernel'].strip('()').split(',')]
            weight = graph.nodes[node.inputs[1].node].name
            found[weight] = np.zeros((int(node.attrs['num_filter']), 1, *kernel))
    return {**found, 'output.weight': np.zeros((7, 512))}


@pytest.mark.parametrize(
    ('shape', 'fits'),
    [((64, 1, 7, 7), True), ((64, 1, 5, 5), False), ((65, 1, 7, 7), False), ((64, 1, 7), False)],
)
def test_another_kernel_or_number_of_filters_is_another_net(shape, fits):
    changed = {**arrays(), 'features.1.weight': np.zeros(shape)}
    assert (rename(changed, NAME) is not None) == fits


def test_a_convolution_at_the_end_has_the_classes_of_the_parameters():
    graph = zoo_graph('gluon/squeezenet1.1')
    names = [name for name in graph.variables() if name != 'data']
    given = dict.fromkeys(names, np.zeros((5, 1, 1, 1)))
    given['output.0.weight'] = np.zeros((7, 512, 1, 1))
    convs = [node for _, node in zoo_graph('gluon/squeezenet1.1', given).walk()
             if node.op == 'Convolution']  # fmt: skip
    assert [node.attrs['num_filter'] for node in convs] == ['5'] * (len(convs) - 1) + ['7']
    assert len(convs) > 1
