"""Nets, batches and comparisons that several tests of the MXNet backend take."""

import d2l_ft_mxnet as backend
import d2l_ft_mxnet.data
import mxnet as mx
import numpy as np
from mxnet.gluon import nn

TWO = [mx.cpu(0), mx.cpu(1)]


class Tiny(nn.HybridBlock):
    """A user's own net, with or without BatchNorm."""

    def __init__(self, norm: bool = False, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2D(4, 3, 2, in_channels=3)
        self.norm = nn.BatchNorm(in_channels=4) if norm else None
        self.fc = nn.Dense(classes, in_units=4)

    def hybrid_forward(self, F, x):
        x = self.conv(x)
        x = self.norm(x) if self.norm else x
        relu = F.npx.relu if mx.util.is_np_array() else F.relu
        return self.fc(relu(x).mean(axis=(2, 3)))


def tiny(norm: bool = False, places=None, dtype: str = 'float64'):
    net = Tiny(norm)
    net.initialize(ctx=mx.cpu(0))
    net.cast(dtype)
    draws = np.random.default_rng(3)
    placed = backend.place(net)
    state = backend.get_state(placed)
    for name, array in state.items():
        if 'running' not in name:
            array[...] = draws.normal(0, 0.5, array.shape)
    backend.set_state(placed, state)
    net.hybridize(static_alloc=True)
    backend.place(net, places or [mx.cpu(0)])
    return net


def numpy_batch(count: int = 4, size: int = 32, classes: int = 2, dtype: str = 'float64'):
    draws = np.random.default_rng(1)
    images = draws.normal(size=(count, 3, size, size)).astype(dtype)
    return images, draws.integers(0, classes, count).astype(np.int32)


def random_batch(*args, **kwargs):
    return backend.to_batch(*numpy_batch(*args, **kwargs))


def shaken(state):
    """Give statistics and biases values that no fresh net has."""
    draws = np.random.default_rng(2)
    for name, array in state.items():
        if 'running' in name or name.endswith('bias'):
            array += draws.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    return state


def equal_states(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
