"""The ImageNet weights of the frameworks' own zoos: name and hash of each file."""

from pathlib import Path
from typing import Any

from d2l_ft.backend.registry import BACKENDS
from d2l_ft.errors import ModelError
from d2l_ft.storage.archives import extract_only_member
from d2l_ft.storage.cache import cache_dir
from d2l_ft.storage.downloads import fetch

IMAGENET: dict[str, dict[str, Any]] = {
    'pytorch': {
        'resnet18': 'f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec',
        'resnet34': 'b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f',
        'resnet50': '0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a',
        'mobilenet_v2': 'b0353104',
        'vgg11': '8a719046',
        'densenet121': 'a639ec97d7c33b07ae66f0b5fb7d0192f95a3b11b7576c66c0126c2a727c4395',
        'squeezenet1_1': 'b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b',
    },
    'mxnet': {
        'resnet18': ('resnet18_v1b', '2d9d980c990442f826f20781ed039851e78dabe3'),
        'resnet34': ('resnet34_v1b', '8e16b84814e84f64d897854003f049872991eaa6'),
        'resnet50': ('resnet50_v1b', '0ecdba34691be172036ddf244ff1b2eade75ffde'),
        'resnet18_v2': ('resnet18_v2', 'a81db45fd7b7a2d12ab97cd88ef0a5ac48b8f657'),
        'mobilenet_v2': ('mobilenetv2_1.0', 'f9952bcde7a7982947ac5240546e1c1c8f057370'),
        'vgg11': ('vgg11', 'dd221b160977f36a53f464cb54648d227c707a05'),
        'densenet121': ('densenet121', 'f27dbf2dbd5ce9a80b102d89c7483342cd33cb31'),
        'squeezenet1_1': ('squeezenet1.1', '33ba0f93753c83d86e1eb397f38a667eaf2e9376'),
    },
}
"""ImageNet weights as torchvision 0.27 and GluonCV 0.10 list them. torchvision's file names have
the first digits of the SHA-256; it is complete here if several projects have published it. Gluon's
hash is the SHA-1 of the .params file in the archive."""

INSTEAD = 'give your weights,  `source=FILE` , or train from scratch,  `source=none`'


def imagenet_file(arch: str, backend: str) -> Path:
    """Return the verified file of ImageNet weights, from the zoo of the backend's framework.

    Raises:
        ModelError: The zoo has none of this architecture.
        DataError: No network, or another hash.
    """
    entry = IMAGENET.get(backend, {}).get(arch)
    if entry is None:
        names = ', '.join(IMAGENET.get(backend, {})) or 'none'
        raise ModelError(f'{backend} has no ImageNet weights of {arch}; it has: {names}; {INSTEAD}')
    folder, address = cache_dir() / 'imagenet', BACKENDS[backend].zoo
    if isinstance(entry, str):
        name = f'{arch}-{entry[:8]}.pth'
        return fetch(address + name, entry, folder / name, INSTEAD)
    name = f'{entry[0]}-{entry[1][:8]}'
    target = folder / f'{name}.params'
    return fetch(f'{address}{name}.zip', entry[1], target, INSTEAD, extract_only_member)
