"""Fine-tuning from Dive into Deep Learning, on MXNet Gluon and on PyTorch, one experiment.

    import d2l_ft as d2l               # the framework of D2L_FT_BACKEND
    from d2l_ft import mxnet as d2l    # MXNet, whatever that says
    from d2l_ft import torch as d2l    # PyTorch

Importing this package loads no framework; a name is imported when it is first used.
"""

import importlib
import os
from typing import Any

from d2l_ft.system.hardware import usable_cores

__version__ = '0.1.0'

# MXNet takes half of the cores and halves PyTorch's threads in the same process, unless it is
# told otherwise before it is imported.
if 'OMP_NUM_THREADS' not in os.environ:
    os.environ.setdefault('MXNET_OMP_MAX_THREADS', str(usable_cores()))

_NAMES = {
    'get_backend': 'backend.registry',
    'DATA_HUB': 'data.hub',
    'DATA_URL': 'data.hub',
    'download': 'data.hub',
    'download_extract': 'data.hub',
    'show_images': 'report.figures',
    'set_figsize': 'report.live',
    'plot': 'report.live',
    'Animator': 'report.live',
    'Timer': 'book_api',
    'Accumulator': 'book_api',
    'try_gpu': 'book_api',
    'try_all_gpus': 'book_api',
    'resnet18': 'book_api',
    'train_batch_ch13': 'book_api',
    'evaluate_accuracy_gpu': 'book_api',
    'evaluate_accuracy_gpus': 'book_api',
    'train_fine_tuning': 'book_api',
    'train_ch13': 'book_api',
    'Recipe': 'optim.recipe',
    'as_printed': 'optim.recipe',
    'Pipeline': 'data.transforms',
    'load_data': 'data.datasets',
    'SOURCE_CLASSES': 'data.synthetic.tasks',
    'load_source': 'sources.load',
    'pretrained_net': 'sources.load',
    'load_folders': 'data.folder_layout',
    'Backend': 'backend.protocol',
    'Sample': 'data.image_folder',
    'Sums': 'backend.protocol',
    'D2LFTError': 'errors',
    'TrainingDiverged': 'errors',
}
__all__ = ['__version__', *_NAMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _NAMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.{_NAMES[name]}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(set(globals()) | set(_NAMES))


# Last, as it imports this package. It loads nothing of MXNet: an import of MXNet that comes later,
# in the user's own code, finds what it misses in today's Python and NumPy.
import d2l_ft_mxnet.today  # noqa: E402, F401
