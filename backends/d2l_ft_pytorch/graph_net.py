"""Run the module that was written for a symbol of MXNet, for the proof that both are equal."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d2l_ft.errors import ModelError
from d2l_ft_pytorch.model import model_class
from d2l_ft_pytorch.probe import RoundedInside, keeps_statistics, take_gluon_statistics

Arrays = dict[str, NDArray[Any]]


class GraphNet:
    """A module that was written by ``d2l_ft.convert``, with its weights, on the CPU.

    Attributes:
        parameters: MXNet's names of what learns.
        scaled: See ``d2l_ft.backend.graph_net``.
        module: The module itself.
    """

    def __init__(
        self,
        text: str,
        state: Mapping[str, NDArray[Any]],
        names: Mapping[str, str],
        nodes: Sequence[str],
        inputs: Sequence[str],
        outputs: Sequence[str],
        dtype: str,
        *,
        as_mxnet: bool = True,
    ) -> None:
        """Make the module from its source.

        Args:
            text: The source.
            state: Name -> array.
            names: PyTorch's name -> MXNet's.
            nodes: MXNet's names of the lines of ``forward``, in order.
            inputs: MXNet's names of what ``forward`` takes.
            outputs: MXNet's names of what it returns.
            dtype: 'float32' or 'float64'.
            as_mxnet: Whether BatchNorm keeps the biased variance, as MXNet's, and what MXNet
                computes in float32 inside is rounded to it. Otherwise it is PyTorch's own.
        """
        self.values: Arrays | None = None
        self.scaled: frozenset[str] = frozenset()
        self.inputs, self.outputs, self.names = list(inputs), list(outputs), dict(names)
        self.dtype = getattr(torch, dtype)
        self.inside = RoundedInside()
        space: dict[str, Any] = {'record': self._record}
        kind = model_class(_recording(text, nodes), space)
        if as_mxnet and dtype == 'float64':
            space['F'] = self.inside
        self.module: nn.Module = kind().to(self.dtype)
        stored = {name: torch.from_numpy(np.array(each)) for name, each in state.items()}
        try:
            self.module.load_state_dict(stored, strict=False)  # without num_batches_tracked
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:200]
            raise ModelError(f'the translation cannot take its weights: {reason}') from error
        for each in self.module.modules():
            if isinstance(each, nn.Dropout):
                each.p = 0.0
            if as_mxnet and keeps_statistics(each):
                take_gluon_statistics(each)
            if as_mxnet and dtype == 'float64' and isinstance(each, nn.PReLU):
                self.inside.round_prelu(each)
        self.taken: list[Tensor] = []
        self.given: list[Tensor] = []

    @property
    def parameters(self) -> list[str]:
        """Return MXNet's names of what learns."""
        return [
            self.names[name] for name, each in self.module.named_parameters() if each.requires_grad
        ]

    @property
    def pooled(self) -> int:
        """Return of how many values a mean is taken; known after ``forward`` in float64."""
        return self.inside.pooled

    @property
    def rounds(self) -> bool:
        """Return whether operators round to float32 inside; known after ``forward``."""
        return self.inside.on and self.inside.used

    @rounds.setter
    def rounds(self, on: bool) -> None:
        self.inside.on = on

    def _record(self, name: str, value: Any) -> None:
        """Note the value of a line of ``forward``."""
        if self.values is not None:
            several = value if isinstance(value, tuple | list) else None
            for number, each in enumerate(several or [value]):
                label = f'{name}_output{number}' if several else name
                self.values[label] = each.detach().numpy().copy()

    def forward(self, inputs: Mapping[str, NDArray[Any]], *, train: bool, nodes: bool) -> Arrays:
        """Return node -> value; see ``d2l_ft.backend.graph_net``."""
        self.module.train(train)
        self.values = {} if nodes else None
        self.taken = [
            torch.tensor(np.asarray(inputs[name]), dtype=self.dtype, requires_grad=train)
            for name in self.inputs
        ]
        try:
            with torch.set_grad_enabled(train):
                result = self.module(*self.taken)
        except Exception as error:  # whatever PyTorch makes of a net that is wrong
            sizes = ', '.join(f'{name} {np.shape(inputs[name])}' for name in self.inputs)
            reason = ' '.join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f'the translation does not compute with {sizes}: {reason}') from error
        self.given = list(result) if isinstance(result, tuple) else [result]
        found = {
            name: each.detach().numpy().copy()
            for name, each in zip(self.outputs, self.given, strict=True)
        }
        return {**(self.values or {}), **found}

    def backward(self, gradients: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return parameter or input -> gradient; see ``d2l_ft.backend.graph_net``."""
        self.module.zero_grad()
        given = dict(zip(self.outputs, self.given, strict=True))  # one that comes out twice is one
        torch.autograd.backward(
            list(given.values()),
            [torch.tensor(gradients[name], dtype=self.dtype) for name in given],
        )
        found = {
            self.names[name]: np.zeros(each.shape)
            if each.grad is None
            else each.grad.numpy().copy()
            for name, each in self.module.named_parameters()
        }
        for name, each in self.module.named_parameters():
            if self.names[name] in self.scaled:
                found[self.names[name]] *= each.detach().numpy()
        self.module.zero_grad()  # with large nets the memory is needed
        return found | {
            name: np.zeros(each.shape) if each.grad is None else each.grad.numpy().copy()
            for name, each in zip(self.inputs, self.taken, strict=True)
        }

    def arrays(self) -> Arrays:
        """Return a copy of every parameter and running statistic, by MXNet's name."""
        return {
            self.names[name]: each.detach().numpy().copy()
            for name, each in self.module.state_dict().items()
            if name in self.names
        }

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set some of the parameters and running statistics."""
        with torch.no_grad():
            for name, each in self.module.state_dict().items():
                if self.names.get(name) in arrays:
                    each.copy_(torch.tensor(arrays[self.names[name]]).reshape(each.shape))


def _recording(text: str, nodes: Sequence[str]) -> ast.Module:
    """Return a source whose ``forward`` records each line's value under its node's name.

    Where the lines are not those that were written, none are recorded.
    """
    tree = ast.parse(text)
    for each in ast.walk(tree):
        if isinstance(each, ast.ClassDef) and each.name == 'Model':
            (forward,) = [
                part
                for part in each.body
                if isinstance(part, ast.FunctionDef) and part.name == 'forward'
            ]
            lines = [part for part in forward.body if isinstance(part, ast.Assign)]
            if len(lines) != len(nodes):
                break
            body: list[ast.stmt] = []
            names = iter(nodes)
            for part in forward.body:
                body.append(part)
                if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
                    variable = part.targets[0].id
                    body += ast.parse(f'record({next(names)!r}, {variable})').body
            forward.body = body
    return ast.fix_missing_locations(tree)
