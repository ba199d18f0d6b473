"""Nets and batches that several tests of the PyTorch backend take."""

import d2l_ft_pytorch as backend
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

TWO = [torch.device('cpu')] * 2


class Tiny(nn.Module):
    """A user's own net, with or without BatchNorm."""

    def __init__(self, norm: bool = False, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.fc = nn.Linear(4, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def tiny(norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return Tiny(norm).double()


def random_batch(count: int = 4, size: int = 32, classes: int = 2, dtype: str = 'float64'):
    draws = np.random.default_rng(1)
    images = draws.normal(size=(count, 3, size, size)).astype(dtype)
    return backend.to_batch(images, draws.integers(0, classes, count))


def shaken(net: nn.Module) -> nn.Module:
    """Give the running statistics values that no fresh net has."""
    draws = np.random.default_rng(2)
    placed = backend.place(net)
    state = backend.get_state(placed)
    for name, array in state.items():
        if 'running' in name:
            array += draws.uniform(0.1, 0.5, array.shape).astype(array.dtype)
    backend.set_state(placed, state)
    return net
