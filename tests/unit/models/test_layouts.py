"""The tables of parameters are those of the nets."""

import pytest

from d2l_ft.models.architectures import ARCHITECTURES, architecture, is_head
from d2l_ft.models.layouts import BODIES, layers, layouts


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_a_table_is_that_of_the_net(framework, arch):
    state = framework.get_state(framework.place(framework.build_net(arch, 3)))
    head = architecture(arch).head
    shapes = {name: array.shape for name, array in state.items() if not is_head(name, head)}
    assert BODIES[arch] == shapes


def test_every_architecture_has_a_table():
    assert BODIES.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_a_layout_renames_layers_that_exist_and_keeps_them_apart(arch):
    names, head = layers(arch), architecture(arch).head
    first, *others = layouts(arch)
    assert first == {}
    for table in others:
        assert table.keys() <= {*names, head}
        assert len({table.get(name, name) for name in names}) == len(names)


def test_names_of_timm():
    """As timm's mobilenetv2_100 and vgg11 have them."""
    _, mobilenet = layouts('mobilenet_v2')
    assert mobilenet.keys() == {*layers('mobilenet_v2'), 'classifier.1'}
    shapes = {theirs: BODIES['mobilenet_v2'].get(f'{ours}.weight')
              for ours, theirs in mobilenet.items()}  # fmt: skip
    assert shapes['conv_stem'] == (32, 3, 3, 3)
    assert shapes['blocks.0.0.conv_dw'] == (32, 1, 3, 3)
    assert shapes['blocks.0.0.conv_pw'] == (16, 32, 1, 1)
    assert shapes['blocks.1.0.conv_pw'] == (96, 16, 1, 1)
    assert shapes['blocks.1.1.conv_dw'] == (144, 1, 3, 3)
    assert shapes['blocks.5.2.bn2'] == (960,)
    assert shapes['blocks.6.0.conv_pwl'] == (320, 960, 1, 1)
    assert shapes['blocks.6.0.bn3'] == (320,)
    assert shapes['conv_head'] == (1280, 320, 1, 1)
    assert shapes['bn2'] == (1280,)
    assert set(layouts('vgg11')[1].values()) == {'pre_logits.fc1', 'pre_logits.fc2', 'head.fc'}


def test_names_of_a_resnets_children():
    _, children = layouts('resnet50')
    assert children['conv1'] == '0'
    assert children['bn1'] == '1'
    assert children['layer1.0.downsample.0'] == '4.0.downsample.0'
    assert children['layer4.2.conv3'] == '7.2.conv3'


def test_names_of_old_densenets():
    _, old = layouts('densenet121')
    layer = 'features.denseblock1.denselayer1'
    assert old[f'{layer}.norm1'] == f'{layer}.norm.1'
    assert old[f'{layer}.conv2'] == f'{layer}.conv.2'
    assert 'features.conv0' not in old
