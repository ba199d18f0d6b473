"""The mistakes that converters make, planted in a translation to learn what a proof can see.

Each is one that people met (see docs/leaving-mxnet.md). A fault gets the translation and returns a
changed one, or None where the net has no such thing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Translation:
    """What a fault may change.

    Attributes:
        text: The module's source.
        state: PyTorch's name -> array.
        names: PyTorch's name -> MXNet's.
        stored: MXNet's name -> array, as it is in the file.
        biased: Whether BatchNorm keeps the biased variance, as MXNet's.
    """

    text: str
    state: Arrays
    names: Mapping[str, str]
    stored: Arrays
    biased: bool = True


Fault = Callable[[Translation], Translation | None]

FAULTS: dict[str, Fault] = {}
"""What a fault is, in words -> what plants it."""


def fault(words: str) -> Callable[[Fault], Fault]:
    """Register a fault."""

    def register(function: Fault) -> Fault:
        FAULTS[words] = function
        return function

    return register


def layers(net: Translation, kinds: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield (name, constructor) of the layers whose class fits a pattern, in order."""
    for match in re.finditer(rf'self\.(\w+) = .*?\b(?:{kinds})\((.*?)\)', net.text):
        yield match[1], match


def _state(net: Translation, name: str, array: NDArray[Any]) -> Translation:
    return replace(net, state={**net.state, name: array})


def _weights(net: Translation) -> list[str]:
    """Return the weights of convolutions and dense layers, in order."""
    return [f'{name}.weight' for name, _ in layers(net, r'nn\.Conv\dd|nn\.Linear')]


def _text(
    net: Translation, pattern: str, into: str | Callable[[re.Match[str]], str], count: int = 0
) -> Translation | None:
    """Return a translation with another text, or None where nothing fits."""
    text, found = re.subn(pattern, into, net.text, count=count)
    return replace(net, text=text) if found and text != net.text else None


@fault('two channels of the last convolution are swapped')
def swap_channels(net: Translation) -> Translation | None:
    names = [f'{name}.weight' for name, _ in layers(net, r'nn\.Conv\dd')]
    if not names or net.state[names[-1]].shape[0] < 2:
        return None
    order = np.arange(net.state[names[-1]].shape[0])
    order[:2] = 1, 0
    return _state(net, names[-1], net.state[names[-1]][order])


@fault('red and blue of the first convolution are swapped')
def swap_colours(net: Translation) -> Translation | None:
    names = [f'{name}.weight' for name, _ in layers(net, r'nn\.Conv2d')]
    if not names or net.state[names[0]].shape[1] != 3:
        return None
    return _state(net, names[0], net.state[names[0]][:, ::-1].copy())


@fault('fix_gamma is ignored')
def ignore_fix_gamma(net: Translation) -> Translation | None:
    state, changed = dict(net.state), False
    for match in re.finditer(r'self\.(\w+) = fixed_scale\(', net.text):
        name = f'{match[1]}.weight'
        if net.names[name] not in net.stored:  # nor in a witness
            continue
        gamma = np.asarray(net.stored[net.names[name]], state[name].dtype)
        changed |= not np.array_equal(gamma, state[name])
        state[name] = gamma
    return replace(net, state=state) if changed else None


NORM = r'(BatchNorm\w*\([^)]*eps=)([\d.e+-]+)'


@fault('BatchNorm has the eps of another default')
def other_eps(net: Translation) -> Translation | None:
    return _text(net, NORM, lambda m: f'{m[1]}{1e-3 if float(m[2]) < 5e-4 else 1e-5!r}')


@fault('the eps of one BatchNorm is 0')
def one_eps(net: Translation) -> Translation | None:
    return _text(net, NORM, r'\g<1>0.0', count=1)


@fault("BatchNorm's momentum has the opposite meaning")
def other_momentum(net: Translation) -> Translation | None:
    return _text(net, r'momentum=([\d.e+-]+)', lambda m: f'momentum={1 - float(m[1])!r}')


@fault('BatchNorm keeps the unbiased variance')
def unbiased(net: Translation) -> Translation | None:
    return replace(net, biased=False) if 'BatchNorm' in net.text else None


@fault('the weights of one layer are off by 0.1 %')
def scaled_layer(net: Translation) -> Translation | None:
    names = _weights(net)
    if not names:
        return None
    name = names[len(names) // 2]
    return _state(net, name, net.state[name] * net.state[name].dtype.type(1.001))


@fault('the weights of one layer are of another epoch')
def other_epoch(net: Translation) -> Translation | None:
    """Another epoch is a small step away: here by a hundredth of the weights' spread."""
    names = _weights(net)
    if not names:
        return None
    weight = net.state[names[-1]]
    step = np.random.default_rng(0).standard_normal(weight.shape) * weight.std() / 100
    return _state(net, names[-1], (weight + step).astype(weight.dtype))


@fault('pooling rounds its size the other way')
def other_rounding(net: Translation) -> Translation | None:
    return _text(net, r', ceil_mode=True', '') or _text(
        net, r'(F\.(?:max|avg)_pool\dd\([^)\n]*)\)', r'\1, ceil_mode=True)'
    )


@fault('average pooling counts padding the other way')
def other_count(net: Translation) -> Translation | None:
    return _text(net, r', count_include_pad=False', '') or _text(
        net, r'(F\.avg_pool\dd\([^)\n]*padding=[^)\n]*)\)', r'\1, count_include_pad=False)'
    )


@fault('the softmax is not cut off')
def softmax_left(net: Translation) -> Translation | None:
    return _text(net, r'\n        return (\w+)\n', r'\n        return F.softmax(\1, -1)\n', count=1)


@fault('use_global_stats is dropped')
def not_still(net: Translation) -> Translation | None:
    return _text(net, r'= (fixed_scale\()?StillBatchNorm\(', r'= \1nn.BatchNorm2d(')


@fault('PReLU is a LeakyReLU of 0.25')
def leaky(net: Translation) -> Translation | None:
    return _text(net, r'nn\.PReLU\(\d+\)', 'nn.LeakyReLU(0.25)')


@fault('the input is prepared otherwise')
def other_input(net: Translation) -> Translation | None:
    return _text(net, r'(        \w+ = [^\n]*?\()x\b', r'\1(x * 1.02)', count=1)
