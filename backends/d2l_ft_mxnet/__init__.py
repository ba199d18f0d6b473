"""The MXNet backend of d2l_ft: the functions of ``backend.protocol.Backend``, on Gluon's nets.

A name is imported when it is first used, so that ``today`` can be imported before MXNet.
"""

import importlib
from typing import Any

import d2l_ft  # noqa: F401  # it sets MXNet's threads, which MXNet reads at its import
import d2l_ft_mxnet.today  # noqa: F401  # without it MXNet does not start on today's Python

NAME = 'mxnet'
FRAMEWORK = 'mxnet'

_MODULES = {
    'data': ('loader', 'to_batch'),
    'placement': ('Placed', 'devices', 'is_gpu', 'place', 'seed', 'threads'),
    'model': ('build_net', 'freeze', 'head'),
    'state': ('get_state', 'get_trainer_state', 'set_state', 'set_trainer_state'),
    'training': (
        *('build_trainer', 'evaluate', 'features', 'logits', 'predict', 'set_rate', 'train_step'),
    ),
}
_NAMES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = ['FRAMEWORK', 'NAME', *_NAMES]


def __getattr__(name: str) -> Any:
    """Import a function of the backend when it is first used."""
    if name not in _NAMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.{_NAMES[name]}'), name)
    globals()[name] = value
    return value
