"""Find the state of a known net in what libraries save, whatever is around it.

A file may have a state alone, or under a key such as ``state_dict``, beside optimizers and
settings; the names may begin with the place of the net in another, such as ``module.`` or
``model.backbone.``. Both are the same thing here: what is nested becomes one table of dotted names,
and the net is where all of its names follow one beginning, with its shapes and nothing more.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import ARCHITECTURES, architecture, is_head
from d2l_ft.models.layouts import BODIES, layouts
from d2l_ft.models.state import State
from d2l_ft.system.console import visible

DEEPEST = 32
"""Levels of what is nested that are looked at; pickles can be nested without end."""

LONGEST = 200
"""Characters of a name that is looked at: errors show names."""

COUNTERS = ('num_batches_tracked', 'total_ops', 'total_params')
"""Last parts of names that no net computes with: BatchNorm's counter, and those of thop."""

MODULE = ('_parameters', '_buffers', '_modules')
"""Attributes with the parts of a module that was saved as a whole."""

EMA = re.compile(r'(^|[._])ema([._]|$)')
"""A beginning of names that says that the weights are a moving average."""

KNOWN = (
    'state_dict', 'model_state_dict', 'model_state', 'model', 'net', 'network', 'module',
    '_orig_mod', 'backbone', 'encoder', 'weights', 'params',
)  # fmt: skip
"""Parts of such a beginning that say nothing else, the more common first: the keys of Lightning,
timm and torchvision's references, the attributes in which people keep nets, and the wrappers
DataParallel and compile."""


@dataclass(frozen=True)
class Found:
    """A net in a file.

    Attributes:
        beginning: What its names begin with in the file, such as 'state_dict.module.'.
        arrays: Canonical name -> array as it is stored; the output layer only if it fits.
    """

    beginning: str
    arrays: dict[str, Any]


def flatten(loaded: Any, kind: type[Any] = np.ndarray) -> dict[str, Any]:
    """Return dotted name -> array of floats of what may be nested in any way.

    Args:
        loaded: Mappings, lists and modules.
        kind: The class of arrays: NumPy's, or PyTorch's tensors.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()  # what is shared is there once, and what contains itself ends
    rest: list[tuple[str, int, Any]] = [('', 0, loaded)]
    while rest:
        name, depth, each = rest.pop()
        if len(name) > LONGEST:
            continue
        if isinstance(each, kind):
            if 'float' in str(each.dtype):  # NumPy says it as PyTorch does, of bfloat16 too
                found.setdefault(visible(name), each)
        elif isinstance(each, Mapping | list | tuple) and id(each) not in seen and depth < DEEPEST:
            seen.add(id(each))
            inside = [(f'{name}.{key}' if name else str(key), part) for key, part in items(each)]
            rest += [(place, depth + 1, part) for place, part in reversed(inside)]
    return found


def items(each: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield the names and parts of a mapping, a list or a module."""
    pairs = each.items() if isinstance(each, Mapping) else enumerate(each)
    yield from ((key, part) for key, part in pairs if isinstance(key, str | int))
    for attribute in MODULE:
        parts = getattr(each, '__dict__', {}).get(attribute)
        if isinstance(parts, Mapping):
            yield from ((key, part) for key, part in parts.items() if isinstance(key, str))


def find_nets(arrays: Mapping[str, Any], arch: str) -> list[Found]:
    """Return where the body of an architecture is among arrays, whole and alone.

    Args:
        arrays: As ``flatten`` returns them.
        arch: Architecture.
    """
    found = []
    for table in layouts(arch):
        names = theirs(arch, table)
        for beginning, count in beginnings(arrays, names).items():
            if count == len(names) and not difference(arrays, beginning, names, arch):
                body = {ours: arrays[beginning + name] for name, ours in names.items()}
                top = architecture(arch).head
                head = find_head(arrays, beginning + table.get(top, top), arch)
                found.append(Found(beginning, body | head))
    return found


def theirs(arch: str, table: Mapping[str, str]) -> dict[str, str]:
    """Return the names of a body in a layout -> canonical names."""
    found = {}
    for name in BODIES[arch]:
        layer, _, suffix = name.rpartition('.')
        found[f'{table.get(layer, layer)}.{suffix}'] = name
    return found


def beginnings(arrays: Mapping[str, Any], names: Mapping[str, str]) -> Counter[str]:
    """Return what names begin with before one of those that are wanted -> how many do."""
    counts: Counter[str] = Counter()
    for name in arrays:
        places = [0, *(place + 1 for place, each in enumerate(name) if each == '.')]
        counts.update(name[:place] for place in places if name[place:] in names)
    return counts


def difference(
    arrays: Mapping[str, Any], beginning: str, names: Mapping[str, str], arch: str
) -> str:
    """Return how arrays after a beginning of their names differ from a body, or ''.

    What is beside the body, such as another output layer, makes no difference; another array in one
    of its parts does: the names of ResNet-34 include those of ResNet-18.
    """
    for name, ours in names.items():
        if beginning + name not in arrays:
            return f'it has no {beginning}{name}'
        shape = tuple(arrays[beginning + name].shape)
        if not same_values(shape, BODIES[arch][ours]):
            return f'{beginning}{name} is {shape}, not {BODIES[arch][ours]}'
    parts = {name.partition('.')[0] for name in names}
    for name in arrays:
        rest = name.removeprefix(beginning)
        other = not rest.endswith(COUNTERS) and not is_head(rest, architecture(arch).head)
        inside = name.startswith(beginning) and rest.partition('.')[0] in parts
        if inside and other and rest not in names:
            return f'it has {name} as well'
    return ''


def same_values(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether an array has the values of a shape in their order.

    A convolution over a whole feature map computes what a dense layer does, as in timm's VGG.
    """
    dense = {len(found), len(wanted)} == {2, 4} and found[:1] == wanted[:1]
    return found == wanted or (dense and math.prod(found) == math.prod(wanted))


def find_head(arrays: Mapping[str, Any], name: str, arch: str) -> dict[str, Any]:
    """Return the output layer, or {} if it is of another form; a bias may be missing."""
    wanted = architecture(arch)
    weight, bias = arrays.get(f'{name}.weight'), arrays.get(f'{name}.bias')
    if weight is None or not tuple(weight.shape):
        return {}
    classes = int(weight.shape[0])
    shape = (classes, wanted.features, *wanted.kernel)
    if not classes or not same_values(tuple(weight.shape), shape):
        return {}
    if bias is None:
        return {f'{wanted.head}.weight': weight}
    fits = tuple(bias.shape) == (classes,)
    return {f'{wanted.head}.weight': weight, f'{wanted.head}.bias': bias} if fits else {}


def find_state(
    loaded: Any, arch: str, file: object, kind: type[Any] = np.ndarray
) -> tuple[dict[str, Any], str]:
    """Return the state of a net in what was loaded of a file.

    Of several, a moving average is taken, as timm does, else the one whose place is named as
    Lightning, timm or torchvision name it.

    Args:
        loaded: As ``flatten`` takes it.
        arch: Architecture.
        file: For the errors.
        kind: As ``flatten`` takes it.

    Returns:
        Canonical name -> array as it is stored, and a line that says which of several was taken, or
        ''.

    Raises:
        ModelError: There is none, or there are several, and nothing says which is meant.
    """
    arrays = flatten(loaded, kind)
    found = find_nets(arrays, arch)
    if not found:
        raise ModelError(why_not(arrays, arch, file))
    ranks = [rank(each.beginning) for each in found]
    first = min(ranks)
    places = ', '.join(repr(each.beginning) for each in found[:4])
    if ranks.count(first) > 1:
        raise ModelError(
            f'{file} has {len(found)} nets of {arch}, whose names begin with {places}: save the '
            'state_dict of one'
        )
    taken = found[ranks.index(first)]
    note = f'{file} has {len(found)} nets, whose names begin with {places}: '
    return taken.arrays, f'{note}{taken.beginning!r} is taken' if len(found) > 1 else ''


def rank(beginning: str) -> tuple[int, ...]:
    """Return the order in which nets of one file are preferred, the smallest first."""
    parts = [part for part in beginning.split('.') if part]
    places = [KNOWN.index(part) if part in KNOWN else len(KNOWN) for part in parts]
    if EMA.search(beginning):
        return (0, *places)
    return (1, *places) if len(KNOWN) not in places else (2,)


def of_another(file: object, other: str, arch: str) -> str:
    """Return what is said of weights of another architecture that is known."""
    return f'{file} has weights of {other}, not of {arch}: give `arch={other}`'


def why_not(arrays: Mapping[str, Any], arch: str, file: object) -> str:
    """Return why arrays are not of an architecture, in a line."""
    if not arrays:
        return f'{file} has no arrays of floats: save net.state_dict()'
    for other in ARCHITECTURES:
        if find_nets(arrays, other):
            return of_another(file, other, arch)
    name, array = next(iter(arrays.items()))
    what = f'of its {len(arrays)} arrays the first is {name} {tuple(array.shape)}'
    tables = [theirs(arch, table) for table in layouts(arch)]
    best = max(
        (
            (count, -number, place)
            for number, names in enumerate(tables)
            for place, count in beginnings(arrays, names).items()
        ),
        default=(0, 0, ''),
    )
    problem = difference(arrays, best[2], tables[-best[1]], arch)
    return f'{file} has weights of another net than {arch} ({what}; {problem}): give others'


def as_state(found: Mapping[str, NDArray[Any]], arch: str) -> State:
    """Return a state as nets take it.

    Args:
        found: What ``find_state`` returned, as arrays of NumPy.
        arch: Architecture.

    Returns:
        Canonical name -> C-order array in the canonical shape; float16 becomes float32, which keeps
        each value; float64 stays, and a net of float32 rounds it.
    """
    wanted = architecture(arch)
    state: dict[str, NDArray[Any]] = {}
    for name, array in found.items():
        head = (len(array), wanted.features, *wanted.kernel)
        shape = BODIES[arch].get(name, head if name == f'{wanted.head}.weight' else array.shape)
        dtype = np.float64 if array.dtype == np.float64 else np.float32
        state[name] = np.array(array, dtype, order='C').reshape(shape)
    if (weight := state.get(f'{wanted.head}.weight')) is not None:
        state.setdefault(f'{wanted.head}.bias', np.zeros(len(weight), weight.dtype))
    return state
