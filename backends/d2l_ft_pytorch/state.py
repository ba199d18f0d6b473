"""Parameters, running statistics and momentum as NumPy arrays under canonical names."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture
from d2l_ft.models.state import State, check_state
from d2l_ft.storage.atomic import write_atomic
from d2l_ft_pytorch.placement import Placed, average_statistics, replicas

SAFE_VERSION = (2, 10)
"""The first PyTorch without a known way to run code from a file of ``weights_only``: 2.5 and older
have CVE-2025-32434, 2.9 and older CVE-2026-24747 (the GitHub Advisory Database)."""


def float_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return the floating-point tensors of a net's ``state_dict``, not copied.

    ``num_batches_tracked`` is an integer, so it is left out: nothing computes with it.
    """
    return {name: each for name, each in net.state_dict().items() if each.is_floating_point()}


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Return a C-order copy of a tensor, float64 if it is float64, float32 otherwise."""
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return np.array(tensor.detach().to('cpu', dtype).numpy(), order='C')


def to_tensors(
    state: Mapping[str, NDArray[Any]], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a copy of a state as CPU tensors.

    Raises:
        ModelError: A name or shape is missing, unknown or different.
    """
    check_state(state, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    return {name: torch.from_numpy(np.array(state[name], order='C')) for name in wanted}


def get_state(placed: Placed) -> State:
    """Return a copy of every parameter and running statistic.

    All replicas get the mean of their running statistics first, so that a run that goes on and one
    that resumes from this state take the same steps.

    Returns:
        Canonical name -> C-order array, float32 (float64 for a float64 net).
    """
    average_statistics(placed)
    return {name: to_array(tensor) for name, tensor in float_tensors(placed.net).items()}


def read_weights(path: str, arch: str, *, verified: bool = False) -> State:
    """Return the state in a .pth file: a ``state_dict``, or a dict that has one under that key.

    Args:
        path: The file.
        arch: Architecture.
        verified: Whether the file has the hash that its publisher lists.

    Raises:
        ModelError: The file is damaged, or has other things than tensors; the architecture is
            unknown; or this PyTorch is not safe for a file that is not verified.
    """
    # Refuse what could run code
    architecture(arch)
    version = tuple(int(part) for part in re.findall(r'\d+', torch.__version__)[:2])
    if version < SAFE_VERSION and not verified:
        raise ModelError(
            f'a .pth file can make PyTorch {torch.__version__} run arbitrary code '
            '(CVE-2025-32434, CVE-2026-24747): update to 2.10, or convert it to .safetensors'
        )

    # Load it
    try:
        loaded = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged zip, a pickle of other things, a directory, ...
        reason = str(error).strip().partition('\n')[0][:160]
        if reason.startswith('Weights only'):  # torch goes on to advise running the file's code
            reason = 'it holds other things'
        raise ModelError(f'{path} is damaged or no file of tensors ({reason})') from error

    # Check its tensors
    tensors = loaded.get('state_dict', loaded) if isinstance(loaded, dict) else {}
    if not tensors or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise ModelError(
            f'{path} has no state_dict: save one with torch.save(net.state_dict(), ...)'
        )
    for name, each in tensors.items():
        # a small file can claim a huge tensor, with stride 0
        if each.numel() * each.element_size() > each.untyped_storage().nbytes():
            raise ModelError(f'{path} is damaged ({name} claims more values than it has)')
    return {
        modern_name(name): to_array(each)
        for name, each in tensors.items()
        if each.is_floating_point()
    }


def write_weights(path: str, state: Mapping[str, NDArray[Any]]) -> None:
    """Write a state as a .pth file that ``torch.load`` and ``load_state_dict`` read.

    Raises:
        StorageError: The file cannot be written.
    """
    packed = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(each)) for name, each in state.items()}, packed)
    write_atomic(Path(path), packed.getvalue())


def modern_name(name: str) -> str:
    """Return today's name of a parameter: old DenseNet files have 'norm.1' for 'norm1'."""
    return re.sub(r'(denselayer\d+\.(?:norm|conv))\.([12])\.', r'\1\2.', name)


def set_state(placed: Placed, state: Mapping[str, NDArray[Any]]) -> None:
    """Set every parameter and running statistic on every device, all or nothing.

    Raises:
        ModelError: A name or shape is missing, unknown or different.
    """
    write_state(replicas(placed), state)


def write_state(replicas: Sequence[nn.Module], state: Mapping[str, NDArray[Any]]) -> None:
    """Set every parameter and running statistic of replicas of one net, all or nothing.

    Raises:
        ModelError: A name or shape is missing, unknown or different.
    """
    new = to_tensors(state, float_tensors(replicas[0]))
    with torch.no_grad():
        for replica in replicas:
            for name, tensor in float_tensors(replica).items():
                tensor.copy_(new[name])


def trainer_parameters(net: nn.Module, trainer: Any) -> dict[str, tuple[nn.Parameter, float]]:
    """Return canonical name -> (parameter, its present rate) for the trained parameters.

    Raises:
        ModelError: The trainer is not SGD, or has a parameter that is not the net's.
    """
    if not isinstance(trainer, torch.optim.SGD):
        raise ModelError(
            f'the state of {type(trainer).__name__} cannot be stored for both frameworks: use SGD'
        )
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = trainer.param_groups
    rates = [(each, float(group['lr'])) for group in groups for each in group['params']]
    if any(id(parameter) not in names for parameter, _ in rates):
        raise ModelError('the trainer has a parameter that is not of this net')
    return {names[id(parameter)]: (parameter, rate) for parameter, rate in rates}


def get_trainer_state(placed: Placed, trainer: Any) -> State:
    """Return the trainer's state in Gluon's terms: the velocity of each parameter.

    Returns:
        Canonical name -> velocity, float32 (float64 for a float64 net): what the last step
        subtracted from the weight, including the learning rate. For torch's own SGD, learning
        rate x momentum buffer. ``{}`` before the first step and without momentum.

    Raises:
        ModelError: The trainer is not SGD, or not of this net.
    """
    trained = trainer_parameters(placed.net, trainer)
    memory = {name: velocity(trainer, *each) for name, each in trained.items()}
    if all(tensor is None for tensor in memory.values()):
        return {}
    return {
        name: to_array(torch.zeros_like(trained[name][0]) if tensor is None else tensor)
        for name, tensor in memory.items()
    }


def velocity(trainer: torch.optim.SGD, parameter: nn.Parameter, rate: float) -> Tensor | None:
    """Return rate x momentum buffer of a parameter; None if there is none yet."""
    kept = trainer.state.get(parameter, {})
    buffer: Tensor | None = kept.get('momentum_buffer')
    velocity: Tensor | None = kept.get('velocity')
    return velocity if buffer is None else buffer * rate


def set_trainer_state(placed: Placed, trainer: Any, state: Mapping[str, NDArray[Any]]) -> None:
    """Restore the result of ``get_trainer_state``; ``{}`` clears the trainer's state.

    It is exact for a trainer of ``build_trainer``; for torch's own SGD, whose buffer is velocity /
    learning rate, it is rounded.

    Raises:
        ModelError: A name or shape does not fit, or the trainer is not SGD or not of this net.
    """
    trained = trainer_parameters(placed.net, trainer)
    wanted = {name: parameter for name, (parameter, _) in trained.items()}
    new = to_tensors(state, wanted) if state else {}
    gluon_like = hasattr(trainer, 'KEEPS_VELOCITY')
    for name, (parameter, rate) in trained.items():
        trainer.state.pop(parameter, None)
        if name in new:
            kept = torch.empty_like(parameter, requires_grad=False).copy_(new[name])
            trainer.state[parameter] = (
                {'velocity': kept} if gluon_like else {'momentum_buffer': kept / rate}
            )
