"""Parameters alone, of a net of Gluon's or GluonCV's zoo: which net, and the same numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from d2l_ft.convert import command
from d2l_ft.convert.formats import read_model
from d2l_ft.convert.verify_command import VerifyOptions, verify
from d2l_ft.convert.zoo import find, recount, stored, zoo_graph, zoo_names
from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import read_params, write_params

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.slow]

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

SOME = (
    'gluon/resnet18_v2', 'gluon/mobilenet0.25', 'gluon/squeezenet1.1', 'gluoncv/resnet18_v1b',
    'gluoncv/mobilenetv3_small', 'gluoncv/cifar_resnet20_v1', 'gluoncv/se_resnet18_v1',
)  # fmt: skip


@pytest.fixture(scope='module')
def zoo():
    """Return name -> net, without values."""
    import zoo_graphs

    return dict(zoo_graphs.nets())


def initialized(zoo, name):
    """Return a net of 7 classes with values."""
    import mxnet as mx
    from gluoncv.model_zoo import get_model
    from mxnet.gluon.model_zoo import vision

    library, _, short = name.partition('/')
    net = vision.get_model(short, classes=7) if library == 'gluon' else get_model(short, classes=7)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 32 if 'cifar' in name else 224, 32 if 'cifar' in name else 224)))
    return net


def test_the_stored_graphs_are_those_of_the_zoos(zoo):
    import zoo_graphs

    assert list(zoo) == zoo_names()
    for name, net in list(zoo.items())[::7]:
        assert without_names(stored()[name]) == without_names(zoo_graphs.entry(net)), name


def without_names(entry):
    """Return a stored graph without names in which MXNet counts what was made before."""
    return [each[:1] if len(each) == 2 else [each[0], *each[2:]] for each in entry['nodes']]


@pytest.mark.parametrize('name', SOME)
def test_a_net_is_known_by_names_of_every_age(zoo, name, tmp_path):
    net = initialized(zoo, name)
    paths = [tmp_path / f'{each}.params' for each in ('new', 'prefix', 'old', 'counted')]
    net.save_parameters(str(paths[0]))
    net.collect_params().save(str(paths[1]))
    net.collect_params().save(str(paths[2]), strip_prefix=net.prefix)
    later = {f'net7_{name_}': array for name_, array in read_params(paths[2]).items()}
    write_params(paths[3], later)
    wanted = read_params(paths[0])
    for path in paths:
        found, arrays = find(read_params(path))
        assert found == name
        assert set(arrays) == set(wanted)
        assert all(np.array_equal(arrays[each], wanted[each]) for each in wanted)


def test_counters_begin_anew_and_keep_their_order():
    names = ['a3_conv12_weight', 'a3_conv14_weight', 'a3_stage2_conv7_weight', 'a3_conv12_bias']
    assert list(recount(names).values()) == [
        '_conv0_weight', '_conv1_weight', '_stage0_conv0_weight', '_conv0_bias'
    ]  # fmt: skip


def test_a_file_of_parameters_becomes_a_folder_that_is_proved(zoo, tmp_path):
    net = initialized(zoo, 'gluoncv/cifar_resnet20_v1')
    path = tmp_path / 'net.params'
    net.save_parameters(str(path))
    lines = command.convert([path], tmp_path / 'net')
    assert lines[0] == (
        'by its names and shapes it is gluoncv/cifar_resnet20_v1, whose graph is taken'
    )
    quick = VerifyOptions(faults=False, steps=1, batch=2, size=32)
    assert verify(tmp_path / 'net', [path], quick, print) == 0


def test_what_is_of_no_net_or_of_several(zoo, tmp_path):
    net = initialized(zoo, 'gluon/resnet18_v2')
    path = tmp_path / 'net.params'
    net.save_parameters(str(path))
    with pytest.raises(ModelError, match=r'^neither zoo has .resnet19_v2.: .* of .*resnet18_v2'):
        read_model([path], 'resnet19_v2')
    with pytest.raises(ModelError, match=r'^resnet34_v2 has not these names and shapes: the par'):
        read_model([path], 'resnet34_v2')
    arrays = read_params(path)
    write_params(path, {name: each for name, each in arrays.items() if 'output' not in name})
    with pytest.raises(
        ModelError, match=r'^no net of Gluon or GluonCV has these names and shapes:'
    ):
        read_model([path])


def test_the_classes_of_the_graph_are_those_of_the_parameters(zoo):
    arrays = {
        name: np.zeros((5, 4)) for name in ('output.weight', 'output.bias')
    } | {each[0]: np.zeros((3, 1, 1, 1)) for each in stored()['gluon/resnet18_v2']['nodes']
         if len(each) == 2 and 'output' not in each[0]}  # fmt: skip
    last = zoo_graph('gluon/resnet18_v2', arrays).nodes[-1]
    assert (last.op, last.attrs['num_hidden']) == ('FullyConnected', '5')
