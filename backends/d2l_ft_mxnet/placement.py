"""Contexts, threads, and the replicas of a net on several contexts of one process."""

import ctypes
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.contrib import amp
from mxnet.gluon import Block, HybridBlock, Parameter, SymbolBlock

from d2l_ft.backend.common import check_place, choose_devices
from d2l_ft.errors import DeviceError, ModelError
from d2l_ft.system.hardware import has_bfloat16, usable_cores
from d2l_ft_mxnet.semantics import convert, in_legacy, made_in_numpy, semantics, uses_numpy


@dataclass(eq=False)
class Placed:
    """A net with its devices and precision; ``place`` makes it. The replicas are in Gluon's net.

    Attributes:
        net: The net.
        devices: The contexts of its parameters.
        precision: 'float32' or 'bfloat16'.
        half: Block that computes the net in bfloat16, with its parameters.
        trainability: The net's parameters and their ``grad_req`` when it was placed in bfloat16.
        checked: The net's graph, and a block that computes it and marks examples that overflow.
    """

    net: Block
    devices: list[mx.Context]
    precision: str = 'float32'
    half: SymbolBlock | None = None
    trainability: list[tuple[Parameter, str]] | None = None
    checked: tuple[Any, Any] = (None, None)


def openmp_threads() -> int:
    """Return the number of threads that MXNet uses: OpenMP's, capped by MXNet's variable."""
    try:
        count = int(ctypes.CDLL('libgomp.so.1').omp_get_max_threads())
    except (OSError, AttributeError):  # another OpenMP library: rely on the variables
        count = int(os.environ.get('OMP_NUM_THREADS', '').partition(',')[0] or usable_cores())
    cap = os.environ.get('MXNET_OMP_MAX_THREADS', '')
    if 'OMP_NUM_THREADS' in os.environ or not cap.isdecimal():
        return count  # MXNet reads its own variable only where OpenMP's is not set
    return min(count, int(cap))


def warn_if_halved() -> None:
    """Warn where MXNet was imported before d2l_ft could give it all cores."""
    order, cores = list(sys.modules), usable_cores()
    # d2l_ft sets the variable to this value if it has none; MXNet read it if it was imported later
    unread = os.environ.get('MXNET_OMP_MAX_THREADS') == str(cores) and cores > THREADS
    if unread and order.index('mxnet') < order.index('d2l_ft'):
        warnings.warn(
            f'MXNet computes on {THREADS} of {cores} cores, as it was imported before d2l_ft: '
            f'import d2l_ft first, or set MXNET_OMP_MAX_THREADS={cores}',
            RuntimeWarning,
            stacklevel=2,
        )


# Read at import: PyTorch shares the library, and may set the number for its own threads later.
THREADS = openmp_threads()
warn_if_halved()


def devices(request: str = 'auto') -> list[mx.Context]:
    """Return the contexts of a request as ``parse_devices`` reads it.

    Raises:
        DeviceError: The request cannot be read, or a GPU in it does not exist.
    """
    note = '' if mx.runtime.Features().is_enabled('CUDA') else '; this MXNet is for CPUs only'
    return choose_devices(request, 'MXNet', mx.cpu, mx.gpu, mx.context.num_gpus, note)


def is_gpu(device: mx.Context) -> bool:
    """Tell whether a context is a GPU."""
    return bool(device.device_type == 'gpu')


def threads() -> int:
    """Return the number of threads on which MXNet computes."""
    return THREADS


def seed(value: int) -> None:
    """Seed MXNet's own random generators on every device (only dropout draws from them)."""
    mx.random.seed(value)


def place(
    net: Block,
    devices: Sequence[mx.Context] | None = None,
    precision: str = 'float32',
    *,
    channels_last: bool | None = None,
) -> Placed:
    """Put the net on the contexts, with a replica on each.

    A Gluon trainer reads the contexts when it is made, so make your own trainer after this.

    Args:
        net: Any initialised block.
        devices: One or more different contexts. None is the net's present contexts.
        precision: 'float32', or 'auto' for the same. 'bfloat16' computes convolutions and dense
            layers in it: faster with ResNets but slower with MobileNets, so it is not automatic.
        channels_last: Ignored: oneDNN chooses the layout for each layer.

    Raises:
        DeviceError: No device, the same one twice, an unknown precision, or no bfloat16 there.
        ModelError: The net is not initialised, or cannot compute in bfloat16.
    """
    spots = contexts(net) if devices is None else list(devices)
    check_place(spots, precision)
    if len(set(spots)) < len(spots):
        raise DeviceError('a device occurs twice: use cpu:2 for two replicas on the CPU')
    if precision == 'bfloat16':
        check_bfloat16(net, spots)
    if contexts(net) != spots:
        average_statistics(net)
        with semantics(numpy=bool(made_in_numpy(net))):
            for parameter in parameters(net).values():
                parameter.reset_ctx(spots)
    if precision != 'bfloat16':
        return Placed(net, spots)
    images, outputs = trace(net)
    return Placed(
        net, spots, precision, symbol_block(outputs, images, net, precision), trainability(net)
    )


def trainability(net: Block) -> list[tuple[Parameter, str]]:
    """Return the parameters and which are trained; a traced graph is valid only for these."""
    # not collect_params, which takes 5 ms with DenseNet-121: this is checked at every step
    return [(each, each.grad_req) for each in parameters(net).values()]


def check_bfloat16(net: Block, spots: list[mx.Context]) -> None:
    """Check that a net can compute in bfloat16 on these contexts.

    Raises:
        DeviceError: A context is not a CPU, or the CPU has no instructions for it.
        ModelError: The net cannot be traced, or is in float64.
    """
    if any(spot.device_type != 'cpu' for spot in spots):
        raise DeviceError('MXNet 1.9 computes in bfloat16 only on CPUs: use float32')
    if not has_bfloat16():
        raise DeviceError('this processor has no instructions for bfloat16: use float32')
    if not isinstance(net, HybridBlock) or np.dtype(dtype(net)) != np.float32:
        raise ModelError('bfloat16 needs a HybridBlock with float32 parameters: use float32')


def trace(net: Block) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
    """Return (input, outputs) of a net as legacy symbols: the net is run on a symbol."""
    numpy = uses_numpy(net)
    with semantics(numpy=numpy):
        images = mx.sym.var('data', dtype=dtype(net))
        return images, convert(net(convert(images, numpy=numpy)), numpy=False)


def dtype(net: Block) -> Any:
    """Return the dtype of a net's first parameter."""
    return next((each.dtype for each in parameters(net).values()), 'float32')


@in_legacy
def symbol_block(
    outputs: mx.sym.Symbol, images: mx.sym.Symbol, net: Block, precision: str
) -> SymbolBlock:
    """Return a block that computes one symbol from another with the parameters of a net.

    In bfloat16 the inputs of convolutions and dense layers are rounded, according to MXNet's list
    of operators for mixed precision. Exceptions are grouped convolutions, which MXNet cannot run
    in bfloat16 for prediction, PReLUs, whose slope would have to be bfloat16, and NumPy's
    operators, which are not in the list. The outputs are float32.
    """
    if precision == 'bfloat16':
        nodes = json.loads(outputs.tojson())['nodes']
        strict = [
            each['name']
            for each in nodes
            if int(each.get('attrs', {}).get('num_group', 1)) > 1
            or each.get('attrs', {}).get('act_type') == 'prelu'
            or each['op'].startswith('_np')
        ]
        outputs = amp.convert_symbol(  # which casts the outputs back
            outputs, 'bfloat16', data_names=[images.name], excluded_sym_names=strict
        )
    made = SymbolBlock(outputs, images, net.collect_params())
    made.hybridize(static_alloc=True)
    return made


def run(placed: Placed, images: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return the net's outputs for images on one context."""
    if placed.half is None:
        return placed.net(images)
    with semantics(numpy=False):
        outputs = placed.half(images.as_nd_ndarray())
    return convert(outputs, numpy=isinstance(images, mx.np.ndarray))


def check_placed(placed: Placed) -> None:
    """Check that a net has not changed since it was placed.

    Raises:
        ModelError: It is on other contexts; or it computes in bfloat16, and has other parameters
            or trains others.
    """
    moved = contexts(placed.net) != placed.devices
    if moved or (placed.half is not None and placed.trainability != trainability(placed.net)):
        raise ModelError('the net was changed after it was placed: place it again')


HIDING = ('Activation', 'LeakyReLU', 'clip', 'relu')
"""Operators whose output can be finite though their input is not: ReLU(not-a-number) is 0. So is
the largest of not-a-number and others, of which more in ``mark_overflow``."""

IMAGES, VECTORS = 4, 2
"""Dimensions of batches of images and of vectors."""


def run_checked(placed: Placed, images: mx.nd.NDArray) -> mx.nd.NDArray:
    """Like ``run``, in eval mode, but not-a-number for examples that overflowed in a net of ours.

    Nets in float64, which only the parity proof uses, are not checked: they do not overflow.
    """
    net, half = placed.net, placed.half
    if getattr(net, 'd2l_arch', None) is None or np.dtype(dtype(net)) != np.float32:
        return run(placed, images)
    graph = (half or net)._get_graph(images)  # cached by Gluon until the net changes
    kept, checked = placed.checked
    if kept is not graph:
        (data,), outputs = convert(graph, numpy=False)
        data._set_attr(__dtype__='0')  # MXNet's number of float32
        sizes = {data.name: images.shape}
        marked = mark_overflow(outputs, sizes, half=half is not None)
        checked = symbol_block(marked, data, net, 'float32')
        placed.checked = graph, checked
    with semantics(numpy=False):
        outputs = checked(images.as_nd_ndarray())
    return convert(outputs, numpy=isinstance(images, mx.np.ndarray))


@in_legacy
def mark_overflow(
    outputs: mx.sym.Symbol, sizes: dict[str, tuple[int, ...]], *, half: bool = False
) -> mx.sym.Symbol:
    """Return a graph's outputs, (batch, width), plus 0 x the means of all inputs of ``HIDING``.

    For an example whose inner values are finite that adds 0, otherwise not-a-number.

    Args:
        outputs: The outputs of the graph.
        sizes: Its input -> shape of a batch.
        half: Whether it computes in bfloat16.
    """
    inner = outputs.get_internals()
    nodes = json.loads(outputs.tojson())['nodes']

    def hides(node: dict[str, Any]) -> bool:
        if node['op'] != 'Pooling' or node.get('attrs', {}).get('pool_type', 'max') != 'max':
            return node['op'] in HIDING
        # what an activation gives is no more to be looked at
        return nodes[node['inputs'][0][0]]['op'] not in HIDING

    hidden = [inner[f'{each["name"]}_output'].get_children()[0] for each in nodes if hides(each)]
    if not hidden:
        return outputs
    _, shapes, _ = mx.sym.Group(hidden).infer_shape(**sizes)
    means = []
    for each, shape in zip(hidden, shapes, strict=True):
        values = mx.sym.amp_cast(each, dtype='float32') if half else each
        if len(shape) == IMAGES:
            # pooling reads oneDNN's layout; for a sum every value would be copied out of it first
            values = mx.sym.Pooling(values, global_pool=True, pool_type='avg')
        elif len(shape) != VECTORS:
            values = mx.sym.reshape(mx.sym.mean(values, axis=0, exclude=True), shape=(-1, 1))
        means.append(values)
    joined = mx.sym.concat(*(mx.sym.flatten(each) for each in means), dim=1)
    marks = mx.sym.sum(joined, axis=1, keepdims=True) * 0
    return mx.sym.broadcast_add(mx.sym.flatten(outputs), marks)


def parameters(net: Block) -> dict[str, Parameter]:
    """Return Gluon's structural name -> parameter; a shared parameter has several names."""
    found: dict[str, Parameter] = net._collect_params_with_prefix()
    return found


def contexts(net: Block) -> list[mx.Context]:
    """Return the contexts of the net's parameters.

    Raises:
        ModelError: The net is not initialised.
    """
    for parameter in parameters(net).values():
        try:
            return list(parameter.list_ctx())
        except RuntimeError as error:
            raise ModelError(
                f'the parameter {parameter.name} has no values: call net.initialize() first'
            ) from error
    return [mx.cpu(0)]


def average_statistics(net: Block) -> None:
    """Set the running statistics of all replicas to their mean, without waiting.

    In training each replica updates its own. As a moving average is linear, the mean at a later
    time does not depend on when it was taken before. Statistics that are equal keep their bits.
    """
    if len(contexts(net)) == 1:
        return
    theirs = getattr(net, 'd2l_statistics', ())  # of a ConvertedNet, whose names are anybody's
    for name, parameter in parameters(net).items():
        if not name.rpartition('.')[2].startswith('running_') and parameter.name not in theirs:
            continue
        replicas = convert(parameter.list_data(), numpy=False)
        with autograd.pause(), semantics(numpy=False):
            first = replicas[0]
            # the first plus the mean difference: equal statistics then have no rounding error
            apart = sum(each.as_in_context(first.context) - first for each in replicas[1:])
            mean = first + apart / len(replicas)
            for each in replicas:
                mean.copyto(each)
