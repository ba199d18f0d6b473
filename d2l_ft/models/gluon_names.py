"""Canonical parameter names and those of Gluon's zoos, as tables.

Canonical names are torchvision's. Gluon numbers some layers differently, and calls the scale and
shift of a BatchNorm gamma and beta. The tables list layers: a layer that is not in the table of its
architecture has the same name in both.
"""

from collections.abc import Iterable, Mapping

from d2l_ft.errors import ModelError

SUFFIXES = {'gamma': 'weight', 'beta': 'bias'}
"""Gluon's name of a BatchNorm's parameter -> canonical."""

NOT_STATE = {'resnet18_v2': frozenset({'features.0.gamma', 'features.0.beta'})}
"""Gluon's names of constants: the scale 1 and shift 0 of a BatchNorm that does not learn them."""


def mobilenet_layers() -> dict[str, str]:
    """Return MobileNet v2's layers: GluonCV lists convolution, BatchNorm and ReLU6 one by one."""
    table = {'features.0': 'features.0.0', 'features.1': 'features.0.1'}
    expansion = {'0': '0.0', '1': '0.1', '3': '1.0', '4': '1.1', '6': '2', '7': '3'}
    no_expansion = {'0': '0.0', '1': '0.1', '3': '1', '4': '2'}  # the first block has no expansion
    for block in range(1, 18):
        parts = no_expansion if block == 1 else expansion
        for theirs, ours in parts.items():
            table[f'features.{block + 2}.out.{theirs}'] = f'features.{block}.conv.{ours}'
    last = {'features.20': 'features.18.0', 'features.21': 'features.18.1'}
    return table | last | {'output.1': 'classifier.1'}


def vgg_layers() -> dict[str, str]:
    """Return VGG-11's dense layers; Gluon counts the hidden ones among the features."""
    return {
        'features.21': 'classifier.0',
        'features.23': 'classifier.3',
        'output': 'classifier.6',
    }


def densenet_layers() -> dict[str, str]:
    """Return DenseNet-121's layers, which torchvision names and Gluon numbers."""
    table = {'features.0': 'features.conv0', 'features.1': 'features.norm0'}
    parts = {'0': 'norm1', '2': 'conv1', '3': 'norm2', '5': 'conv2'}
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        place = 2 * block + 2  # Gluon's list has a transition after each dense block
        for layer in range(layers):
            for theirs, ours in parts.items():
                table[f'features.{place}.{layer}.1.{theirs}'] = (
                    f'features.denseblock{block}.denselayer{layer + 1}.{ours}'
                )
        if block < 4:
            table[f'features.{place + 1}.0'] = f'features.transition{block}.norm'
            table[f'features.{place + 1}.2'] = f'features.transition{block}.conv'
    return table | {'features.11': 'features.norm5', 'output': 'classifier'}


def squeezenet_layers() -> dict[str, str]:
    """Return SqueezeNet 1.1's fire modules and its output layer."""
    parts = {'0.0': 'squeeze', '1.0.0': 'expand1x1', '1.1.0': 'expand3x3'}
    table = {
        f'features.{fire}.{theirs}': f'features.{fire}.{ours}'
        for fire in (3, 4, 6, 7, 9, 10, 11, 12)
        for theirs, ours in parts.items()
    }
    return table | {'output.0': 'classifier.1'}


LAYERS: Mapping[str, Mapping[str, str]] = {
    'mobilenet_v2': mobilenet_layers(),
    'vgg11': vgg_layers(),
    'densenet121': densenet_layers(),
    'squeezenet1_1': squeezenet_layers(),
}
"""Architecture -> Gluon's name of a layer -> canonical name; the ResNets need none."""


def canonical_name(name: str, arch: str | None = None) -> str:
    """Return the canonical name of a Gluon structural name.

    Args:
        name: Such as 'features.1.gamma'.
        arch: Name of the architecture; None for a net that has no table.
    """
    layer, _, suffix = name.rpartition('.')
    layer = LAYERS.get(arch or '', {}).get(layer, layer)
    suffix = SUFFIXES.get(suffix, suffix)
    return f'{layer}.{suffix}' if layer else suffix


def canonical_names(names: Iterable[str], arch: str | None = None) -> dict[str, str]:
    """Return canonical name -> Gluon structural name for a net's parameters, in their order.

    Args:
        names: The structural names; those of constants are left out.
        arch: Name of the architecture; None for a net that has no table.

    Raises:
        ModelError: Two parameters would have one canonical name.
    """
    found: dict[str, str] = {}
    for name in names:
        if name in NOT_STATE.get(arch or '', ()):
            continue
        canonical = canonical_name(name, arch)
        if canonical in found:
            raise ModelError(
                f'{found[canonical]!r} and {name!r} are both {canonical!r}: rename one of them'
            )
        found[canonical] = name
    return found


def gluon_names(names: Iterable[str], arch: str | None = None) -> dict[str, str]:
    """Return Gluon structural name -> canonical name for a whole state's canonical names.

    A layer with running statistics is a BatchNorm, whose weight and bias are gamma and beta.
    """
    wanted = list(names)
    layers = {ours: theirs for theirs, ours in LAYERS.get(arch or '', {}).items()}
    suffixes = {ours: theirs for theirs, ours in SUFFIXES.items()}
    norms = {name.rpartition('.')[0] for name in wanted if name.endswith('running_mean')}
    found = {}
    for name in wanted:
        layer, _, suffix = name.rpartition('.')
        suffix = suffixes.get(suffix, suffix) if layer in norms else suffix
        layer = layers.get(layer, layer)
        found[f'{layer}.{suffix}' if layer else suffix] = name
    return found
