"""How many dimensions the values of a graph have, as far as the graph says it."""

from collections.abc import Mapping
from typing import Any

from d2l_ft.convert.graph import Graph, Node, Value

SAME = frozenset({
    'BatchNorm', 'Activation', 'LeakyReLU', 'Dropout', 'relu', 'sigmoid', 'tanh', 'softmax',
    'log_softmax', 'clip', '_copy', 'BlockGrad', 'Cast', 'amp_cast', 'L2Normalization', 'LRN',
    'InstanceNorm', 'LayerNorm', 'add_n', 'Concat', 'Pad', 'SwapAxis', 'slice',
    'slice_axis', 'slice_like', 'elemwise_add', 'elemwise_sub', 'elemwise_mul', 'elemwise_div',
    'transpose', 'broadcast_like', 'SoftmaxOutput', 'SoftmaxActivation', 'LinearRegressionOutput',
    'LogisticRegressionOutput', 'MakeLoss', 'make_loss', 'hard_sigmoid', 'ones_like', 'zeros_like',
})  # fmt: skip
"""Operators whose value has as many dimensions as their first input."""

IMAGES = frozenset({'UpSampling', 'Crop', 'AdaptiveAvgPooling2D', 'BilinearResize2D'})
"""Operators on images: four dimensions."""


def known_ranks(
    graph: Graph, arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[Value, int]:
    """Return value -> number of its dimensions.

    What a convolution's kernel says of its input is carried back to the net's, so that a BatchNorm
    of the images, before the first convolution, is known too.
    """
    nodes = list(graph.walk())
    found = {
        Value(number): len(shapes[node.name]) if node.name in shapes else arrays[node.name].ndim
        for number, node in nodes
        if node.op == 'null' and (node.name in shapes or node.name in arrays)
    }
    outputs: dict[int, set[Value]] = {}
    for _, node in nodes:
        for value in node.inputs:
            outputs.setdefault(value.node, set()).add(value)
    before = -1
    while len(found) > before:
        before = len(found)
        for number, node in nodes:
            if node.inputs:
                _spread(node, Value(number), outputs.get(number, set()), found)
    return found


def _spread(node: Node, out: Value, outputs: set[Value], found: dict[Value, int]) -> None:
    """Note what a node's operator says of its first input and of its outputs."""
    first = node.inputs[0]
    before, after = _ranks(node, found.get(first))
    if node.op in SAME or node.op.endswith('_scalar'):
        before, after = found.get(out), found.get(first)
    elif node.op == 'reshape_like':
        whole = not any(each.startswith(('lhs_', 'rhs_')) for each in node.attrs)
        after = found.get(node.inputs[-1]) if whole else None
    elif node.op.startswith('broadcast_'):
        some = [found.get(each, 0) for each in node.inputs]
        after = max(some) if all(some) else None
    for value, rank in (
        (first, before),
        (out, after),
        *((each, found.get(out)) for each in outputs),
    ):
        if rank is not None:
            found.setdefault(value, rank)


def _ranks(node: Node, rank: int | None) -> tuple[int | None, int | None]:
    """Return the ranks of a node's first input and of its value, as far as its operator says it."""
    if node.op in ('Convolution', 'Deconvolution', 'Pooling'):
        kernel = node.attrs.get('kernel', '()').strip('()[] ,')
        dims = len(kernel.split(',')) + 2 if kernel else None
        return dims, dims if dims else rank
    if node.op in IMAGES:
        return 4, 4
    if node.op == 'FullyConnected':
        flat = node.attrs.get('flatten', 'True') in ('True', 'true', '1')
        return None, 2 if flat else rank
    if node.op == 'Flatten':
        return None, 2
    if node.op == 'expand_dims' and rank is not None:
        return None, rank + 1
    if node.op == 'SliceChannel' and rank is not None:
        return None, rank - (node.attrs.get('squeeze_axis') in ('True', 'true', '1'))
    if node.op == 'Reshape' and 'reverse' not in node.attrs:
        sides = node.attrs.get('shape', '').strip('()[] ,').split(',')
        if sides != [''] and not any(each.strip() in ('-2', '-3', '-4') for each in sides):
            return None, len(sides)
    if node.op in ('sum', 'mean', 'max', 'min') and rank is not None:
        if node.attrs.get('keepdims') in ('True', 'true', '1'):
            return None, rank
        axes = node.attrs.get('axis', '').strip('()[] ,')
        if axes not in ('', 'None') and node.attrs.get('exclude') not in ('True', 'true', '1'):
            return None, rank - len(axes.split(','))
    return None, None
