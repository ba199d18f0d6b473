"""The PyTorch backend of d2l_ft: the functions of ``backend.protocol.Backend``, on torch's nets."""

from d2l_ft_pytorch.data import loader, to_batch
from d2l_ft_pytorch.model import build_net, freeze, head, write_onnx
from d2l_ft_pytorch.placement import Placed, devices, is_gpu, place, restore_threads, seed, threads
from d2l_ft_pytorch.state import (
    get_state,
    get_trainer_state,
    read_weights,
    set_state,
    set_trainer_state,
    write_weights,
)
from d2l_ft_pytorch.training import (
    build_trainer,
    evaluate,
    features,
    logits,
    predict,
    set_rate,
    train_step,
)

NAME = 'pytorch'
FRAMEWORK = 'torch'

restore_threads()

__all__ = [
    'FRAMEWORK',
    'NAME',
    'Placed',
    'build_net',
    'build_trainer',
    'devices',
    'evaluate',
    'features',
    'freeze',
    'get_state',
    'get_trainer_state',
    'head',
    'is_gpu',
    'loader',
    'logits',
    'place',
    'predict',
    'read_weights',
    'seed',
    'set_rate',
    'set_state',
    'set_trainer_state',
    'threads',
    'to_batch',
    'train_step',
    'write_onnx',
    'write_weights',
]
