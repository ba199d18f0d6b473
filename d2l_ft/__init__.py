"""Fine-tuning from Dive into Deep Learning, on MXNet Gluon and on PyTorch, one experiment.

    import d2l_ft as d2l               # the framework of D2L_FT_BACKEND
    from d2l_ft import mxnet as d2l    # MXNet, whatever that says
    from d2l_ft import torch as d2l    # PyTorch

Importing this package loads no framework; a name is imported when it is first used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from d2l_ft.system.hardware import usable_cores

__version__ = '0.1.0'

# MXNet takes half of the cores and halves PyTorch's threads in the same process, unless it is
# told otherwise before it is imported.
if 'OMP_NUM_THREADS' not in os.environ:
    os.environ.setdefault('MXNET_OMP_MAX_THREADS', str(usable_cores()))

_NAMES = {
    'fine_tune': 'runs.api',
    'load_run': 'runs.api',
    'FineTuned': 'runs.api',
    'Prediction': 'runs.api',
    'Evaluation': 'training.evaluation',
    'EpochMetrics': 'training.metrics',
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
    'DataSet': 'data.datasets',
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

# A type checker sees the names where they are defined, and no other: it must not see __getattr__,
# which would give it any name. It cannot read __all__.
if TYPE_CHECKING:
    from d2l_ft.backend.protocol import Backend as Backend
    from d2l_ft.backend.protocol import Sums as Sums
    from d2l_ft.backend.registry import get_backend as get_backend
    from d2l_ft.book_api import Accumulator as Accumulator
    from d2l_ft.book_api import Timer as Timer
    from d2l_ft.book_api import evaluate_accuracy_gpu as evaluate_accuracy_gpu
    from d2l_ft.book_api import evaluate_accuracy_gpus as evaluate_accuracy_gpus
    from d2l_ft.book_api import resnet18 as resnet18
    from d2l_ft.book_api import train_batch_ch13 as train_batch_ch13
    from d2l_ft.book_api import train_ch13 as train_ch13
    from d2l_ft.book_api import train_fine_tuning as train_fine_tuning
    from d2l_ft.book_api import try_all_gpus as try_all_gpus
    from d2l_ft.book_api import try_gpu as try_gpu
    from d2l_ft.data.datasets import DataSet as DataSet
    from d2l_ft.data.datasets import load_data as load_data
    from d2l_ft.data.folder_layout import load_folders as load_folders
    from d2l_ft.data.hub import DATA_HUB as DATA_HUB
    from d2l_ft.data.hub import DATA_URL as DATA_URL
    from d2l_ft.data.hub import download as download
    from d2l_ft.data.hub import download_extract as download_extract
    from d2l_ft.data.image_folder import Sample as Sample
    from d2l_ft.data.synthetic.tasks import SOURCE_CLASSES as SOURCE_CLASSES
    from d2l_ft.data.transforms import Pipeline as Pipeline
    from d2l_ft.errors import D2LFTError as D2LFTError
    from d2l_ft.errors import TrainingDiverged as TrainingDiverged
    from d2l_ft.optim.recipe import Recipe as Recipe
    from d2l_ft.optim.recipe import as_printed as as_printed
    from d2l_ft.report.figures import show_images as show_images
    from d2l_ft.report.live import Animator as Animator
    from d2l_ft.report.live import plot as plot
    from d2l_ft.report.live import set_figsize as set_figsize
    from d2l_ft.runs.api import FineTuned as FineTuned
    from d2l_ft.runs.api import Prediction as Prediction
    from d2l_ft.runs.api import fine_tune as fine_tune
    from d2l_ft.runs.api import load_run as load_run
    from d2l_ft.sources.load import load_source as load_source
    from d2l_ft.sources.load import pretrained_net as pretrained_net
    from d2l_ft.training.evaluation import Evaluation as Evaluation
    from d2l_ft.training.metrics import EpochMetrics as EpochMetrics
else:
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


# Last, as it imports this package. It loads nothing of MXNet, but lets a later ``import mxnet``, in
# the user's own code, find the names that today's Python and NumPy no longer have.
import d2l_ft_mxnet.today  # noqa: E402, F401
