"""Canonical names against those of torchvision, and back."""

import d2l_ft_mxnet as backend
import pytest
import torch
import torchvision
from d2l_ft_mxnet.placement import parameters

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.models.gluon_names import LAYERS, canonical_name, canonical_names, gluon_names

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


@pytest.mark.parametrize('arch', sorted(set(ARCHITECTURES) - {'vgg11', 'resnet18_v2'}))
def test_names_are_torchvisions_and_go_back(arch):
    with torch.device('meta'):
        theirs = getattr(torchvision.models, arch)(num_classes=2).state_dict()
    wanted = {name for name in theirs if not name.endswith('num_batches_tracked')}
    structural = list(parameters(backend.build_net(arch, 2)))
    found = canonical_names(structural, arch)
    assert set(found) == wanted
    assert list(found.values()) == structural
    assert gluon_names(found, arch) == {theirs: ours for ours, theirs in found.items()}


def test_vgg_names_are_torchvisions():
    with torch.device('meta'):
        wanted = set(torchvision.models.vgg11().state_dict())
    assert set(gluon_names(wanted, 'vgg11').values()) == wanted
    assert {canonical_name(name, 'vgg11') for name in gluon_names(wanted, 'vgg11')} == wanted
    assert canonical_name('features.23.bias', 'vgg11') == 'classifier.3.bias'


def test_resnet_v2_has_gluons_names_without_the_fixed_affine():
    structural = list(parameters(backend.build_net('resnet18_v2', 2)))
    found = canonical_names(structural, 'resnet18_v2')
    assert set(structural) - set(found.values()) == {'features.0.gamma', 'features.0.beta'}
    assert found['features.2.weight'] == 'features.2.gamma'
    assert found['output.weight'] == 'output.weight'
    assert gluon_names(found, 'resnet18_v2') == {theirs: ours for ours, theirs in found.items()}


@pytest.mark.parametrize('arch', LAYERS)
def test_tables_are_one_to_one(arch):
    table = LAYERS[arch]
    assert len(set(table.values())) == len(table)


def test_examples():
    assert canonical_name('features.4.out.7.gamma', 'mobilenet_v2') == 'features.2.conv.3.weight'
    assert canonical_name('features.3.out.4.beta', 'mobilenet_v2') == 'features.1.conv.2.bias'
    assert canonical_name('features.9.0.gamma', 'densenet121') == 'features.transition3.norm.weight'
    assert canonical_name('features.3.1.1.0.bias', 'squeezenet1_1') == 'features.3.expand3x3.bias'
    assert canonical_name('features.3.1.1.0.bias') == 'features.3.1.1.0.bias'
    assert canonical_name('gamma') == 'weight'


def test_two_parameters_of_one_name_are_refused():
    with pytest.raises(ModelError, match=r"'a\.gamma' and 'a\.weight' are both 'a\.weight'"):
        canonical_names(['a.gamma', 'a.weight'])
