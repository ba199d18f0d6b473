"""The architectures' parameters as data: names, shapes, and the names that other libraries use.

With these the state of a net is found in a file, whatever is wrapped around it, without building a
net. Only the bodies are listed: an output layer has as many classes as it has.
"""

import functools
from collections.abc import Mapping

Shapes = dict[str, tuple[int, ...]]
"""Canonical name -> shape."""

STATISTICS = ('running_mean', 'running_var')


def conv(name: str, outputs: int, inputs: int, kernel: int, *, bias: bool = False) -> Shapes:
    """Return the parameters of a convolution; ``inputs`` are those of a group."""
    weight = {f'{name}.weight': (outputs, inputs, kernel, kernel)}
    return weight | ({f'{name}.bias': (outputs,)} if bias else {})


def norm(name: str, channels: int) -> Shapes:
    """Return the parameters and statistics of a BatchNorm."""
    return {f'{name}.{each}': (channels,) for each in ('weight', 'bias', *STATISTICS)}


def resnet(*depths: int, bottleneck: bool = False) -> Shapes:
    """Return a ResNet of He et al. 2015, with ``depths`` blocks in its stages."""
    found = conv('conv1', 64, 3, 7) | norm('bn1', 64)
    inputs, expansion = 64, 4 if bottleneck else 1
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for block in range(depth):
            place = f'layer{stage + 1}.{block}'
            kernels = (
                ((1, inputs, width), (3, width, width), (1, width, 4 * width))
                if bottleneck
                else ((3, inputs, width), (3, width, width))
            )
            for number, (kernel, before, after) in enumerate(kernels, start=1):
                found |= conv(f'{place}.conv{number}', after, before, kernel)
                found |= norm(f'{place}.bn{number}', after)
            if inputs != expansion * width:
                found |= conv(f'{place}.downsample.0', expansion * width, inputs, 1)
                found |= norm(f'{place}.downsample.1', expansion * width)
            inputs = expansion * width
    return found


def resnet18_v2() -> Shapes:
    """Return Gluon's pre-activation ResNet-18; its first BatchNorm learns nothing."""
    found: Shapes = {f'features.0.{each}': (3,) for each in STATISTICS}
    found |= conv('features.1', 64, 3, 7) | norm('features.2', 64)
    inputs = 64
    for stage in range(4):
        width = 64 << stage
        for block in range(2):
            place = f'features.{stage + 5}.{block}'
            found |= norm(f'{place}.bn1', inputs) | conv(f'{place}.conv1', width, inputs, 3)
            found |= norm(f'{place}.bn2', width) | conv(f'{place}.conv2', width, width, 3)
            if inputs != width:
                found |= conv(f'{place}.downsample', width, inputs, 1)
            inputs = width
    return found | norm('features.9', 512)


MOBILENET = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
"""Expansion, channels and blocks of each stage of MobileNet v2."""


def mobilenet_v2() -> Shapes:
    """Return MobileNet v2 of Sandler et al. 2018, of width 1."""
    found = conv('features.0.0', 32, 3, 3) | norm('features.0.1', 32)
    inputs, number = 32, 0
    for expansion, channels, blocks in MOBILENET:
        for _ in range(blocks):
            number += 1
            place, hidden = f'features.{number}.conv', expansion * inputs
            if expansion > 1:
                found |= conv(f'{place}.0.0', hidden, inputs, 1) | norm(f'{place}.0.1', hidden)
            first = int(expansion > 1)
            found |= conv(f'{place}.{first}.0', hidden, 1, 3) | norm(f'{place}.{first}.1', hidden)
            found |= conv(f'{place}.{first + 1}', channels, hidden, 1)
            found |= norm(f'{place}.{first + 2}', channels)
            inputs = channels
    return found | conv('features.18.0', 1280, 320, 1) | norm('features.18.1', 1280)


def vgg11() -> Shapes:
    """Return VGG-11 of Simonyan and Zisserman 2014."""
    found: Shapes = {}
    inputs = 3
    widths = {0: 64, 3: 128, 6: 256, 8: 256, 11: 512, 13: 512, 16: 512, 18: 512}
    for place, width in widths.items():
        found |= conv(f'features.{place}', width, inputs, 3, bias=True)
        inputs = width
    for place, size in ((0, 512 * 49), (3, 4096)):
        found |= {f'classifier.{place}.weight': (4096, size), f'classifier.{place}.bias': (4096,)}
    return found


def densenet121() -> Shapes:
    """Return DenseNet-121 of Huang et al. 2016."""
    found = conv('features.conv0', 64, 3, 7) | norm('features.norm0', 64)
    channels = 64
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            place = f'features.denseblock{block}.denselayer{layer}'
            found |= norm(f'{place}.norm1', channels) | conv(f'{place}.conv1', 128, channels, 1)
            found |= norm(f'{place}.norm2', 128) | conv(f'{place}.conv2', 32, 128, 3)
            channels += 32
        if block < 4:
            place = f'features.transition{block}'
            found |= norm(f'{place}.norm', channels)
            found |= conv(f'{place}.conv', channels // 2, channels, 1)
            channels //= 2
    return found | norm('features.norm5', channels)


def squeezenet1_1() -> Shapes:
    """Return SqueezeNet 1.1 of Iandola et al. 2016."""
    found, inputs = conv('features.0', 64, 3, 3, bias=True), 64
    widths = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}
    for place, width in widths.items():
        fire, outputs = f'features.{place}', 4 * width
        found |= conv(f'{fire}.squeeze', width, inputs, 1, bias=True)
        found |= conv(f'{fire}.expand1x1', outputs, width, 1, bias=True)
        found |= conv(f'{fire}.expand3x3', outputs, width, 3, bias=True)
        inputs = 2 * outputs
    return found


BODIES: Mapping[str, Shapes] = {
    'resnet18': resnet(2, 2, 2, 2),
    'resnet34': resnet(3, 4, 6, 3),
    'resnet50': resnet(3, 4, 6, 3, bottleneck=True),
    'resnet18_v2': resnet18_v2(),
    'mobilenet_v2': mobilenet_v2(),
    'vgg11': vgg11(),
    'densenet121': densenet121(),
    'squeezenet1_1': squeezenet1_1(),
}
"""Architecture -> the parameters and statistics of its body."""


def timm_mobilenet() -> dict[str, str]:
    """Return the layers of timm's mobilenetv2_100."""
    table = {'features.0.0': 'conv_stem', 'features.0.1': 'bn1'}
    table |= {'features.18.0': 'conv_head', 'features.18.1': 'bn2', 'classifier.1': 'classifier'}
    number = 0
    for stage, (expansion, _, blocks) in enumerate(MOBILENET):
        for block in range(blocks):
            number += 1
            ours: tuple[str, ...] = ('0.0', '0.1', '1.0', '1.1', '2', '3')
            theirs: tuple[str, ...] = ('conv_pw', 'bn1', 'conv_dw', 'bn2', 'conv_pwl', 'bn3')
            if expansion == 1:
                ours, theirs = ('0.0', '0.1', '1', '2'), ('conv_dw', 'bn1', 'conv_pw', 'bn2')
            for mine, other in zip(ours, theirs, strict=True):
                table[f'features.{number}.conv.{mine}'] = f'blocks.{stage}.{block}.{other}'
    return table


RESNET_LAYERS = ('conv1', 'bn1', '', '', 'layer1', 'layer2', 'layer3', 'layer4')
"""The children of torchvision's ResNet; the two without parameters have no name here."""


@functools.cache
def layouts(arch: str) -> tuple[dict[str, str], ...]:
    """Return the ways in which libraries name the layers of an architecture.

    Each is a table from canonical layers to theirs, of the layers whose names differ. The first is
    canonical: torchvision's, and timm's of resnet18, resnet34, resnet50 and densenet121. The others
    are timm's mobilenetv2_100 and vgg11, old torchvision's densenet121, and the common
    ``nn.Sequential(*list(resnet.children())[:-1])``.
    """
    names = layers(arch)
    if arch in ('resnet18', 'resnet34', 'resnet50'):
        places = {each: str(place) for place, each in enumerate(RESNET_LAYERS)}
        parts = [(each, *each.partition('.')) for each in names]
        return {}, {each: places[top] + dot + rest for each, top, dot, rest in parts}
    if arch == 'mobilenet_v2':
        return {}, timm_mobilenet()
    if arch == 'vgg11':
        return {}, {
            'classifier.0': 'pre_logits.fc1',
            'classifier.3': 'pre_logits.fc2',
            'classifier.6': 'head.fc',
        }
    if arch == 'densenet121':
        dense = [each for each in names if 'denselayer' in each]
        return {}, {each: f'{each[:-1]}.{each[-1]}' for each in dense}
    return ({},)


def layers(arch: str) -> list[str]:
    """Return the canonical names of a body's layers, each once."""
    return list(dict.fromkeys(name.rpartition('.')[0] for name in BODIES[arch]))
