"""The MXNet side of d2l_ft: the functions of ``d2l_ft.interface.Backend`` on Gluon's objects."""

import d2l_ft  # noqa: F401  # first: it sets MXNet's threads, which MXNet reads at its import

# isort: split
from d2l_ft_mxnet.data import loader, to_batch
from d2l_ft_mxnet.devices import devices, place, seed, threads
from d2l_ft_mxnet.model import build_net, freeze, head
from d2l_ft_mxnet.state import (
    get_state,
    get_trainer_state,
    set_state,
    set_trainer_state,
)
from d2l_ft_mxnet.training import (
    build_trainer,
    evaluate,
    features,
    logits,
    set_rate,
    train_step,
)

NAME = 'mxnet'
FRAMEWORK = 'mxnet'

__all__ = [
    'FRAMEWORK',
    'NAME',
    'build_net',
    'build_trainer',
    'devices',
    'evaluate',
    'features',
    'freeze',
    'get_state',
    'get_trainer_state',
    'head',
    'loader',
    'logits',
    'place',
    'seed',
    'set_rate',
    'set_state',
    'set_trainer_state',
    'threads',
    'to_batch',
    'train_step',
]
