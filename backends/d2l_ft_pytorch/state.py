"""Parameters, running statistics and momentum as NumPy arrays under canonical names."""

import _compat_pickle
import builtins
import contextlib
import io
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture
from d2l_ft.models.state import State, check_state
from d2l_ft.models.state_dicts import find_state
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.system.console import visible
from d2l_ft_pytorch.placement import Placed, average_statistics, replicas

SAFE_VERSION = (2, 10)
"""The first PyTorch without a known way to run code from a file of ``weights_only``: 2.5 and older
have CVE-2025-32434, 2.9 and older CVE-2026-24747 (the GitHub Advisory Database)."""


def float_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return the floating-point tensors of a net's ``state_dict``, not copied.

    ``num_batches_tracked`` is an integer, so it is left out: nothing computes with it. So are the
    fixed scales of a converted net.
    """
    fixed = getattr(net, 'd2l_fixed', ())
    return {
        name: each
        for name, each in net.state_dict().items()
        if each.is_floating_point() and name not in fixed
    }


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


def read_weights(path: str, arch: str, *, verified: bool = False) -> tuple[State, str]:
    """Return the state in a file of ``torch.save``, whatever is around it.

    Args:
        path: The file.
        arch: Architecture.
        verified: Whether the file has the hash that its publisher lists.

    Returns:
        What ``find_state`` returns, in arrays of float32 or float64.

    Raises:
        ModelError: The file is damaged, of another net, or asks for what no data need; the
            architecture is unknown; or this PyTorch is not safe for a file that is not verified.
    """
    architecture(arch)
    version = tuple(int(part) for part in re.findall(r'\d+', torch.__version__)[:2])
    if version < SAFE_VERSION and not verified:
        raise ModelError(
            f'a .pth file can make PyTorch {torch.__version__} run arbitrary code '
            '(CVE-2025-32434, CVE-2026-24747): update to 2.10, or convert it to .safetensors'
        )
    tensors, note = find_state(load_data(path), arch, path, Tensor)
    for name, each in tensors.items():
        # a small file can claim a huge tensor, with stride 0, or one that is nowhere
        here = each.layout == torch.strided and each.device.type == 'cpu'
        if not here or each.numel() * each.element_size() > each.untyped_storage().nbytes():
            raise ModelError(f'{path} is damaged ({name} claims more values than it has)')
    return {name: to_array(each) for name, each in tensors.items()}, note


class StandIn:
    """Stands in for what a file names and PyTorch does not know: it keeps data and does nothing.

    A checkpoint of Lightning has settings in classes of its user's, NumPy's scalars, paths. Loading
    them is neither safe nor needed. In the place of each is a mapping, whose attributes are those
    that the file gives, so that the tensors of a module that was saved as a whole are found.
    """

    def __new__(cls, *_: Any) -> Any:
        """Return a mapping: PyTorch puts entries into no other object."""
        return OrderedDict()


class StandInList(list[Any]):
    """Stands in for an object whose state is no mapping: it is dropped."""

    def __new__(cls, *_: Any) -> 'StandInList':
        """Return an empty list."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Drop the state."""


def stand_in_list(*_: Any) -> list[Any]:
    """Stand in for a sequence: PyTorch 2.12 puts elements into a list alone."""
    return []


def stand_in_attribute(*_: Any) -> type[StandIn]:
    """Stand in for ``getattr``, with which files name the classes within classes, and methods."""
    return StandIn


STAND_INS: dict[str, Callable[..., Any]] = {
    'builtins.getattr': stand_in_attribute,
    'collections.deque': stand_in_list,
    'functools.partial': StandInList,
    'numpy.dtype': StandInList,
    'numpy.core.multiarray._reconstruct': StandInList,
    'numpy._core.multiarray._reconstruct': StandInList,
}
"""What a file may name -> what stands in for it, where that is no ``StandIn``."""

NO_DATA = {'builtins', 'nt', 'os', 'posix', 'shutil', 'socket', 'subprocess', 'sys'}
"""Modules whose functions no data need: a stand-in would do no harm, but the file means to."""

PICKLE = 'data.pkl'
"""The entry of a file of PyTorch 1.6 or later that has all but the tensors' bytes."""

LONGEST_PICKLE = 1 << 26
"""Bytes of a file's pickle that are looked at: that of a state has a few hundred an array."""


def load_data(path: str) -> Any:
    """Return what ``torch.save`` wrote, with stand-ins for objects of classes.

    No code of the file and no class that it names is run: ``weights_only`` makes tensors and plain
    objects, and the classes that it would refuse are replaced.

    Raises:
        ModelError: The file is damaged, or asks for what no data need.
    """
    names = global_names(path)
    for name in sorted(names):
        module, _, function = name.partition('.')
        data = isinstance(getattr(builtins, function, None), type) or name in STAND_INS
        if module in NO_DATA and not data:
            raise ModelError(
                f'{path} asks for {visible(name[:100])}, which no data need: '
                'save net.state_dict() alone'
            )
    stand_ins: list[Any] = [(STAND_INS.get(name, StandIn), name) for name in names]
    try:
        with (
            open(path, 'rb') as stream,  # torch.load would take a path by its suffix
            torch.serialization.safe_globals(stand_ins),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter('ignore')  # such as that the file has another protocol
            return torch.load(stream, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged zip, a pickle of other things, ...
        text = str(error).strip()
        if found := re.search(r'WeightsUnpickler error:\s*(.+)', text):
            text = found[1]  # around it, torch advises running the file's code
        reason = visible(text.partition('\n')[0][:160].rstrip(': ')) or type(error).__name__
        raise ModelError(
            f'{path} is damaged, or more than data ({reason}): save net.state_dict() alone'
        ) from error


def global_names(path: str) -> set[str]:
    """Return the classes and functions that a file's pickles name, without loading any.

    Raises:
        ModelError: The file is a zip that unpacks to more than it has; torch.save packs nothing.
    """
    found: set[str] = set()
    pickles: list[bytes] = []
    claimed = 0
    with contextlib.suppress(Exception):  # what damage makes of it, which PyTorch then tells
        with open(path, 'rb') as stream:
            pickles.append(stream.read(LONGEST_PICKLE))
        if pickles[0].startswith(b'PK'):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                claimed = sum(each.file_size for each in entries)
                inside = [each for each in entries if each.filename.endswith(PICKLE)]
                pickles = [archive.open(each).read(LONGEST_PICKLE) for each in inside]
    if claimed and claimed > Path(path).stat().st_size:
        raise ModelError(f'{path} is damaged (its parts claim {claimed} bytes)')
    for each in pickles:
        text = io.BytesIO(each)
        with contextlib.suppress(Exception):
            for _ in range(5):  # as many pickles begin a file of before PyTorch 1.6
                for code, argument, _ in pickletools.genops(text):
                    if code.name == 'GLOBAL':
                        found.add(modern_global(*str(argument).split(' ', 1)))
    return found


def modern_global(module: str, name: str) -> str:
    """Return the full name of a class, which pickles give as in Python 2."""
    known = _compat_pickle.NAME_MAPPING.get((module, name))
    return '.'.join(known or (_compat_pickle.IMPORT_MAPPING.get(module, module), name))


def write_weights(path: str, state: Mapping[str, NDArray[Any]]) -> None:
    """Write a state as a .pth file that ``torch.load`` and ``load_state_dict`` read.

    Raises:
        StorageError: The file cannot be written.
    """
    packed = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(each)) for name, each in state.items()}, packed)
    write_atomic(Path(path), packed.getvalue())


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
