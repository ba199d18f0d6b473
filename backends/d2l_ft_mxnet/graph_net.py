"""Run a symbol of MXNet, for the proof that its translation computes the same.

``d2l-ft witness`` writes this file's code into a program for old machines, see
``d2l_ft.convert.witness``: there may be nothing in it that Python 3.6 or MXNet 1.0 lacks, but for
types.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mxnet as mx
from numpy.typing import NDArray

from d2l_ft.backend.graph_net import Arrays
from d2l_ft.errors import ModelError
from d2l_ft_mxnet.semantics import in_legacy

os.environ.setdefault('MXNET_SUBGRAPH_VERBOSE', '0')  # a line for each net otherwise


class GraphNet:
    """A symbol with its arrays, on the CPU, in legacy semantics.

    Attributes:
        parameters: Names of what learns.
        rounds, scaled, pooled: See ``d2l_ft.backend.graph_net``.
    """

    rounds = True
    pooled = 1
    scaled: frozenset[str] = frozenset()

    @in_legacy
    def __init__(
        self,
        text: str,
        arrays: Mapping[str, NDArray[Any]],
        shapes: Mapping[str, tuple[int, ...]],
        outputs: Sequence[str],
        dtype: str,
    ) -> None:
        """Load a symbol.

        Args:
            text: The JSON of a symbol file.
            arrays: Name -> array of every parameter and state.
            shapes: Input -> shape.
            outputs: Names of the nodes whose first output is wanted.
            dtype: 'float32' or 'float64'.

        Raises:
            ModelError: MXNet does not compute an operator in this type, or with these shapes.
        """
        # written again without the casts of mixed precision, which MXNet has in no float64
        plain = mx.sym.load_json(_without_dropout(text)).tojson()
        whole = mx.sym.load_json(plain).get_internals()
        names = whole.list_outputs()
        self.outputs, self.dtype = list(dict.fromkeys(outputs)), dtype  # one may come out twice
        self.sizes = ', '.join(f'{name} {shape}' for name, shape in shapes.items())
        wanted = [whole[names.index(_output(each, names))] for each in self.outputs]
        self.symbol = mx.sym.Group(wanted) if len(wanted) > 1 else wanted[0]
        values = {name: mx.nd.array(array, dtype=dtype) for name, array in arrays.items()}
        values.update({name: mx.nd.zeros(shape, dtype=dtype) for name, shape in shapes.items()})
        self.inputs = list(shapes)
        arguments = self.symbol.list_arguments()
        self.states = self.symbol.list_auxiliary_states()
        self.parameters = [name for name in arguments if name not in shapes]
        self.args = {name: values[name] for name in arguments}
        looked_up = _looked_up(json.loads(text)['nodes'])  # MXNet has no gradient by these
        self.grads = {
            name: mx.nd.zeros_like(array)
            for name, array in self.args.items()
            if name not in looked_up
        }
        self.aux = {name: values[name] for name in self.states}
        with self._told():
            self.executor = self._bind(self.symbol, self.grads)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise a ModelError, of one line, where MXNet raises its own."""
        try:
            yield
        except mx.MXNetError as error:
            lines = str(error).strip().splitlines()
            checks = [line for line in lines if 'Check failed: ' in line] or lines
            reason = checks[-1].rpartition('Check failed: ')[2]
            raise ModelError(
                f'MXNet does not compute this net in {self.dtype} with {self.sizes}: {reason}'
            ) from error

    def _bind(self, symbol: Any, grads: Mapping[str, Any]) -> Any:
        return symbol.bind(
            mx.cpu(),
            {name: self.args[name] for name in symbol.list_arguments()},
            args_grad=grads or None,
            grad_req={
                name: 'write' if name in grads else 'null' for name in symbol.list_arguments()
            },
            aux_states={name: self.aux[name] for name in symbol.list_auxiliary_states()},
        )

    @in_legacy
    def forward(self, inputs: Mapping[str, NDArray[Any]], *, train: bool, nodes: bool) -> Arrays:
        """Return node -> value; see ``d2l_ft.backend.graph_net``."""
        for name, array in inputs.items():
            self.args[name][:] = mx.nd.array(array, dtype=self.dtype)
        executor = self.executor
        names = self.outputs
        if nodes:
            internals = self.symbol.get_internals()
            kept = [
                name
                for name in internals.list_outputs()
                if name not in self.args and name not in self.aux
            ]
            names = [name[: -len('_output')] if name.endswith('_output') else name for name in kept]
            # in float32 MXNet fuses a convolution with its activation where there are no gradients,
            # which gives wrong values where the convolution's own comes out, too
            grads = self.grads if self.dtype == 'float32' else {}
            executor = self._bind(mx.sym.Group([internals[name] for name in kept]), grads)
        with self._told():
            values = [each.asnumpy() for each in executor.forward(is_train=train)]
        return dict(zip(names, values, strict=True))

    @in_legacy
    def backward(self, gradients: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return parameter or input -> gradient; see ``d2l_ft.backend.graph_net``."""
        given = [mx.nd.array(gradients[name], dtype=self.dtype) for name in self.outputs]
        with self._told():
            self.executor.backward(given)
            return {name: each.asnumpy() for name, each in self.grads.items()}

    @in_legacy
    def arrays(self) -> Arrays:
        """Return a copy of every parameter and running statistic, by name."""
        return {
            name: each.asnumpy()
            for name, each in {**self.args, **self.aux}.items()
            if name not in self.inputs
        }

    @in_legacy
    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set some of the parameters and running statistics."""
        stored = {**self.args, **self.aux}
        for name, array in arrays.items():
            stored[name][:] = mx.nd.array(array, dtype=self.dtype)


def _looked_up(nodes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the variables that are the indices of an embedding."""
    firsts = [node['inputs'][0][0] for node in nodes if node['op'] == 'Embedding']
    return {nodes[each]['name'] for each in firsts if nodes[each]['op'] == 'null'}


def _output(node: str, names: Sequence[str]) -> str:
    """Return the internal output of a node: a variable's has its own name."""
    for each in (f'{node}_output', f'{node}_output0', node):
        if each in names:
            return each
    raise KeyError(node)


def _without_dropout(text: str) -> str:
    """Return a symbol whose dropout drops nothing: the draws of two frameworks differ."""
    data = json.loads(text)
    for node in data['nodes']:
        if node['op'] == 'Dropout':
            for key in ('attrs', 'attr', 'param'):
                if node.get(key) or key == 'attrs':
                    node.setdefault(key, {})
                    node[key] = {**node[key], 'p': '0'}
                    break
    return json.dumps(data)
