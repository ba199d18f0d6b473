"""Nets of Gluon's and GluonCV's zoos, changed to compute the same functions as torchvision's."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import Block, HybridBlock, Parameter, SymbolBlock, nn
from mxnet.gluon.model_zoo import vision
from mxnet.gluon.nn.basic_layers import _BatchNorm
from numpy.typing import NDArray

from d2l_ft.backend.common import check_classes, find_head
from d2l_ft.backend.registry import BACKENDS
from d2l_ft.errors import BackendNotInstalled, ModelError
from d2l_ft.models.architectures import Architecture, architecture
from d2l_ft.models.initialization import initial_state
from d2l_ft.models.state import merge_source
from d2l_ft_mxnet.placement import parameters
from d2l_ft_mxnet.semantics import make_neutral, semantics
from d2l_ft_mxnet.state import canonical_parameters, write_state


class AdaptiveAvgPool2D(HybridBlock):
    """Average pooling to a square of a given side, whatever the input's size.

    Args:
        side: Height and width of the output.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return (batch, channels, side, side)."""
        return F.contrib.AdaptiveAvgPooling2D(x, output_size=self.side)


def gluoncv_zoo() -> Any:
    """Import GluonCV's model zoo.

    Raises:
        BackendNotInstalled: GluonCV is not installed.
    """
    try:
        from gluoncv import model_zoo
    except ImportError as error:
        raise BackendNotInstalled(
            f'GluonCV cannot be imported ({error}): run  {BACKENDS["mxnet"].install}'
        ) from error
    return model_zoo


def mobilenet_v2(classes: int) -> HybridBlock:
    """Return GluonCV's net with torchvision's head: dropout and a dense layer with a bias."""
    net = gluoncv_zoo().mobilenet_v2_1_0(classes=classes)
    with net.name_scope():
        net.output = nn.HybridSequential(prefix='output_')
        with net.output.name_scope():
            net.output.add(nn.Dropout(0.2), nn.Dense(classes))
    return net


def vgg11(classes: int) -> HybridBlock:
    """Return Gluon's net with torchvision's pooling to 7 x 7 after the convolutions."""
    net = vision.vgg11(classes=classes)
    pools = nn.HybridSequential(prefix='')
    pools.add(net.features[20], AdaptiveAvgPool2D(7))
    net.features.register_child(pools, '20')
    return net


def densenet121(classes: int) -> HybridBlock:
    """Return Gluon's net with global pooling instead of 7 x 7 at the end."""
    net = vision.densenet121(classes=classes)
    net.features.register_child(nn.GlobalAvgPool2D(), '13')
    return net


def squeezenet1_1(classes: int) -> HybridBlock:
    """Return Gluon's net with global pooling instead of 13 x 13 at the end."""
    net = vision.squeezenet1_1(classes=classes)
    net.output.register_child(nn.GlobalAvgPool2D(), '2')
    return net


CONSTRUCTORS: Mapping[str, Callable[[int], HybridBlock]] = {
    'resnet18': lambda classes: gluoncv_zoo().resnet18_v1b(classes=classes),
    'resnet34': lambda classes: gluoncv_zoo().resnet34_v1b(classes=classes),
    'resnet50': lambda classes: gluoncv_zoo().resnet50_v1b(classes=classes),
    'resnet18_v2': lambda classes: vision.resnet18_v2(classes=classes),
    'mobilenet_v2': mobilenet_v2,
    'vgg11': vgg11,
    'densenet121': densenet121,
    'squeezenet1_1': squeezenet1_1,
}


class ConvertedNet(HybridBlock):
    """A net that was converted from MXNet: its graph as ``features``, and a new ``output``.

    ``tail`` is what may come after an output layer that is a convolution.

    Args:
        arch: Its architecture.
        classes: Outputs of the output layer.

    Attributes:
        d2l_stored: Canonical name -> parameter or running statistic, without the fixed scales.
        d2l_statistics: The names, as Gluon has them, of the running statistics.
    """

    def __init__(self, arch: Architecture, classes: int) -> None:
        super().__init__(prefix='')  # its parameters keep their names in the graph
        assert arch.definition is not None
        self.definition, names = arch.definition, arch.definition.names
        self.text = self.definition.body
        self.features = self.graph()
        inside = self.features.params
        prefix = f'{arch.head}_'
        while any(name.startswith(prefix) for name in inside):
            prefix = f'new_{prefix}'
        if arch.kernel:
            self.output = nn.Conv2D(classes, arch.kernel, in_channels=arch.features, prefix=prefix)
        else:
            self.output = nn.Dense(classes, in_units=arch.features, prefix=prefix)
        self.tail = nn.HybridSequential(prefix='')
        if self.definition.tail:
            self.tail.add(graph_block(mx.sym.load_json(self.definition.tail), 'head'))
        self.d2l_stored = {ours: inside[names[ours]] for ours in names if names[ours] in inside}
        for ours, parameter in self.d2l_stored.items():
            parameter.shape = self.definition.shapes[ours]
        for ours in self.definition.fixed:
            self.d2l_stored.pop(ours).grad_req = 'null'
        ends = ('running_mean', 'running_var')
        self.d2l_statistics = {
            each.name for name, each in self.d2l_stored.items() if name.endswith(ends)
        }
        self.d2l_stored[f'{arch.head}.weight'] = self.output.weight
        self.d2l_stored[f'{arch.head}.bias'] = self.output.bias

    def graph(self, params: Any = None) -> SymbolBlock:
        """Return the body as a block; ``params`` are those of an earlier one."""
        plain = mx.sym.load_json(self.text).tojson()  # without the casts of mixed precision
        return graph_block(mx.sym.load_json(plain), self.definition.images, params)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        """Return (batch, classes) logits of (batch, 3, height, width) images."""
        logits = self.output(self.features(x))
        return self.tail(logits) if self.definition.tail else logits

    def set_attributes(self, ops: Sequence[str], **attributes: str) -> None:
        """Change attributes of all operators of some kinds in the body."""
        data = json.loads(self.text)
        for node in data['nodes']:
            if node['op'] in ops:
                node['attrs'] = node.get('attrs', {}) | attributes
        self.text = json.dumps(data)
        with semantics(numpy=False):
            changed = self.graph(self.features.params)
        make_neutral(changed)
        self.features = changed
        self.features.hybridize(active=self._active, static_alloc=True)
        self._clear_cached_op()

    def draws(self) -> bool:
        """Tell whether the body has dropout."""
        nodes = json.loads(self.text)['nodes']
        return any(
            node['op'] in DROPOUTS and float(node.get('attrs', {}).get('p', 0.5)) > 0
            for node in nodes
        )


def graph_block(outputs: Any, images: str, params: Any = None) -> SymbolBlock:
    """Return symbols as a block.

    Args:
        outputs: One symbol, or a list.
        images: The name of their only input.
        params: The parameters, if there are some already.
    """
    kinds = {np.dtype(each.dtype) for each in (params or {}).values()}
    # without a type, of which a warning is given, the parameters are float32 and may be cast
    kind = 'float64' if np.dtype('float64') in kinds else None
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Cannot decide type')
        return SymbolBlock(outputs, mx.sym.var(images, dtype=kind), params)


NORMS = ('BatchNorm', 'BatchNorm_v1', 'CuDNNBatchNorm', '_contrib_SyncBatchNorm', '_npx_batch_norm')

DROPOUTS = ('Dropout', '_npx_dropout')
"""The names of operators in symbol files."""


def build_net(
    arch: str,
    classes: int,
    source: Mapping[str, NDArray[Any]] | None = None,
    seed: int = 0,
) -> HybridBlock:
    """Return a hybridized net on the CPU; MXNet's generators are left alone.

    Args:
        arch: A name that ``architecture`` knows.
        classes: Outputs of the head.
        source: State whose body is copied, not its head, which may have any size. None draws the
            whole net.
        seed: Seed of ``initial_state``, for the parameters that are not copied.

    Returns:
        A net of Gluon's or GluonCV's zoo, or a ``ConvertedNet``, in float32. Its parameters are
        ``mx.np`` arrays if NumPy semantics is on; the net runs with and without it.

    Raises:
        ModelError: Unknown architecture, no class, or the source's body does not fit.
    """
    # Construct it; one forward pass, in symbols, gives the shapes of the parameters
    wanted = architecture(arch)
    check_classes(classes)
    with semantics(numpy=False):
        if wanted.definition is not None:
            net = ConvertedNet(wanted, classes)
        else:
            net = CONSTRUCTORS[arch](classes)
            net.infer_shape(mx.nd.zeros((1, 3, wanted.smallest, wanted.smallest)))
        net.d2l_arch = arch
    make_neutral(net)

    # Set its parameters
    for name, parameter in parameters(net).items():
        # the state is written below; only the fixed scales of resnet18_v2 are not in it
        start = mx.init.One() if name.endswith('gamma') else mx.init.Zero()
        parameter.initialize(start, mx.cpu(0))
    shapes = {name: each.shape for name, each in canonical_parameters(net).items()}
    write_state(net, merge_source(arch, initial_state(arch, shapes, seed), source))
    # static_shape is only a little faster, and keeps memory for each batch size that occurs
    net.hybridize(static_alloc=True)
    return net


def head(net: Block) -> Block:
    """Return the output layer: the last Dense or Conv2D under a known name.

    Raises:
        ModelError: The net has none.
    """
    found: Block = find_head(net, Block, nn.Dense | nn.Conv2D, blocks)
    return found


def blocks(net: Block) -> list[Block]:
    """Return every block of a net, children before parents."""
    found: list[Block] = []
    net.apply(found.append)
    return found


def body_parameters(net: Block) -> list[Parameter]:
    """Return the parameters and statistics of every block but the output layer, each once."""
    top = head(net)
    found = {
        id(parameter): parameter
        for block in blocks(net)
        if block is not top
        for parameter in block._reg_params.values()
    }
    return list(found.values())


def freeze(net: Block) -> None:
    """Train the head alone: the body gets no gradient, its BatchNorm stays in eval mode.

    Dropout stays active in training, as it is part of the features from which the head learns. The
    net is frozen on all contexts; if it was placed in bfloat16, place it again.

    Raises:
        ModelError: The net has no known head, or a block is an imported symbol, which cannot be
            changed.
    """
    body, parts = body_parameters(net), blocks(net)
    if isinstance(net, ConvertedNet):
        net.set_attributes(NORMS, use_global_stats='True')
        parts = blocks(net)
    elif any(isinstance(each, SymbolBlock) for each in parts):
        raise ModelError('an imported SymbolBlock cannot be frozen: build the net from its layers')
    for parameter in body:
        parameter.grad_req = 'null'
    for each in parts:
        if isinstance(each, _BatchNorm):
            # a null gradient only stops the running statistics: the batch's would still be used
            each._kwargs['use_global_stats'] = True
        if isinstance(each, HybridBlock):  # the compiled graph has the old settings
            each._clear_cached_op()
