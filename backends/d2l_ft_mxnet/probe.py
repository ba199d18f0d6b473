"""Read the inner values of a net, a step and Gluon's own transforms, for the parity proof."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import Block, nn
from mxnet.gluon.data.vision import transforms
from mxnet.gluon.model_zoo import vision
from mxnet.gluon.nn.basic_layers import _BatchNorm
from numpy.typing import NDArray

from d2l_ft.backend.probe import NoAnimator
from d2l_ft.data.transforms import AREA, RATIO, Box
from d2l_ft.models.architectures import MEAN, STD
from d2l_ft.models.gluon_names import canonical_name
from d2l_ft.models.state import State
from d2l_ft.optim.recipe import Recipe
from d2l_ft_mxnet.data import Batch, read_image
from d2l_ft_mxnet.model import DROPOUTS, ConvertedNet, blocks, graph_block, head
from d2l_ft_mxnet.placement import Placed, parameters
from d2l_ft_mxnet.semantics import convert, in_legacy, semantics, uses_numpy
from d2l_ft_mxnet.state import canonical_parameters, to_array, trainer_parameters
from d2l_ft_mxnet.training import example_losses, shares


def prepare(net: Block, dtype: str = 'float64', *, strict: bool = True) -> Block:
    """Make a net comparable: cast it and switch its dropout off; its rules are MXNet's already.

    Args:
        net: A net that is not yet placed; it is changed in place.
        dtype: 'float32' or 'float64'.
        strict: Ignored here.

    Returns:
        The net.
    """
    for block in blocks(net):
        if isinstance(block, nn.Dropout):
            block._rate = 0.0
    if isinstance(net, ConvertedNet):
        net.set_attributes(DROPOUTS, p='0')
    net.cast(dtype)
    return net


def round_rates(trainer: gluon.Trainer) -> None:
    """Do nothing: MXNet takes rate, decay, momentum and 1 / batch size as float32 numbers."""


def layers(net: Block) -> dict[str, Block]:
    """Return canonical name -> block of every layer that has parameters or statistics."""
    arch, found = getattr(net, 'd2l_arch', None), {}

    def visit(block: Block, path: str) -> None:
        if block._reg_params:
            found[canonical_name(f'{path}.weight', arch).rpartition('.')[0]] = block
        for name, child in block._children.items():
            visit(child, f'{path}.{name}' if path else name)

    visit(net, '')
    return found


def feature_maps(net: Block, batch: Batch, *, train: bool = False) -> State:
    """Return the output of every layer in the order of execution; the net stays as it was.

    Args:
        net: A net on one context.
        batch: (images, labels).
        train: Whether BatchNorm normalises by the batch.

    Returns:
        Canonical name of a layer -> its output.
    """
    if isinstance(net, ConvertedNet):
        return _converted_maps(net, batch, train=train)
    found: dict[str, mx.nd.NDArray] = {}

    def keep(name: str) -> Any:
        def hook(block: Block, inputs: Any, output: mx.nd.NDArray) -> None:
            # Dense applies its activation itself: compute the output before it, as in torch
            if getattr(block, 'act', None) is not None:
                weight, bias = block.weight.data(), block.bias.data()
                output = mx.nd.FullyConnected(
                    *convert((inputs[0], weight, bias), numpy=False),
                    num_hidden=len(weight),
                    flatten=True,
                )
            found[name] = output

        return hook

    net.hybridize(active=False)  # a compiled graph calls no hooks
    hooks = [block.register_forward_hook(keep(name)) for name, block in layers(net).items()]
    try:
        # statistics move in backward only, so not here
        with (
            autograd.record(train) if train else autograd.pause(),
            semantics(numpy=uses_numpy(net)),
        ):
            ((images, _),) = shares(net, batch)
            net(images)
    finally:
        for hook in hooks:
            hook.detach()
        net.hybridize(static_alloc=True)
    return {name: to_array(output) for name, output in found.items()}


@in_legacy
def _converted_maps(net: ConvertedNet, batch: Batch, *, train: bool) -> State:
    """Return the outputs of the layers of a graph, as ``feature_maps``."""
    nodes = json.loads(net.text)['nodes']
    owners = {parameter.name: name.rpartition('.')[0] for name, parameter in net.d2l_stored.items()}
    names: dict[str, str] = {}
    for node in nodes:
        for place, _, _ in node['inputs'] if node['op'] != 'null' else ():
            if layer := owners.get(nodes[place]['name']):
                names.setdefault(layer, node['name'])
    body = mx.sym.load_json(net.text)
    inner = body.get_internals()
    ends = [inner[f'{name}_output'] for name in names.values()]
    block = graph_block([*ends, body], net.definition.images, net.features.params)
    with autograd.record(train) if train else autograd.pause():
        ((images, _),) = shares(net, batch)
        *values, features = block(images)
        head_output = net.output(features)
    top = next(name for name, each in net.d2l_stored.items() if each is net.output.weight)
    found = {name: to_array(each) for name, each in zip(names, values, strict=True)}
    return found | {top.rpartition('.')[0]: to_array(head_output)}


def losses(net: Block, batch: Batch) -> NDArray[Any]:
    """Return the cross-entropy of each example in eval mode, (batch,)."""
    with autograd.pause(), semantics(numpy=uses_numpy(net)):
        ((images, labels),) = shares(net, batch)
        return to_array(example_losses(None, net(images), labels))


def gradients(net: Block, trainer: gluon.Trainer) -> State:
    """Return the gradients of the last step, canonical name -> array."""
    scale = np.float32(trainer._optimizer.rescale_grad)
    return {
        name: to_array(sum(each.as_in_context(mx.cpu(0)) for each in parameter.list_grad())) * scale
        for name, (parameter, _) in trainer_parameters(net, trainer).items()
    }


def multipliers(net: Block, trainer: gluon.Trainer) -> dict[str, tuple[float, float]]:
    """Return canonical name -> (rate, decay) of each trained parameter, relative to the least."""
    trained = trainer_parameters(net, trainer)
    smallest = min(parameter.lr_mult for parameter, _ in trained.values())
    return {
        name: (parameter.lr_mult / smallest, parameter.wd_mult)
        for name, (parameter, _) in trained.items()
    }


def head_layout(net: Block) -> dict[str, Any]:
    """Return the kind of the output layer, 'dense' or 'conv', and its inputs and outputs."""
    layer = head(net)
    outputs, inputs = layer.weight.shape[:2]
    kind = 'conv' if isinstance(layer, nn.Conv2D) else 'dense'
    return {'kind': kind, 'inputs': inputs, 'outputs': outputs}


def batch_norms(net: Block) -> list[Any]:
    """Return the BatchNorm layers."""
    return [block for block in blocks(net) if isinstance(block, _BatchNorm)]


def split(placed: Placed, batch: Batch) -> list[NDArray[Any]]:
    """Return the images of a batch that go to each device of a placed net."""
    return [to_array(images) for images, _ in shares(placed.net, batch)]


@contextmanager
def round_differently() -> Iterator[None]:
    """Compute the same with kernels that round differently; MXNet 1.9 has no others."""
    yield


STACKS = ('gluon',)
"""Gluon's ways to resize an image; OpenCV does it."""


def decode(path: str) -> NDArray[Any]:
    """Read a file with Gluon's own reader, as (height, width, 3) RGB uint8."""
    image: NDArray[Any] = read_image(path).asnumpy()
    return image


@in_legacy
def train_transform(path: str, box: Box, *, flip: bool, size: int, stack: str) -> dict[str, Any]:
    """Apply Gluon's own training transforms to a file, with a given crop and flip.

    Args:
        path: An image file.
        box: (top, left, height, width) of the crop.
        flip: Whether to mirror.
        size: Side of the result.
        stack: One of ``STACKS``.

    Returns:
        'crop': (size, size, 3) uint8; 'float': (3, size, size).
    """
    top, left, height, width = box
    crop = transforms.CropResize(left, top, width, height, size, 1)(read_image(path))
    return standardise(crop, flip=flip)


@in_legacy
def eval_transform(path: str, side: int, size: int, stack: str) -> dict[str, Any]:
    """Apply Gluon's Resize to a square and its CenterCrop to a file."""
    resized = transforms.Resize((side, side), keep_ratio=False, interpolation=1)(read_image(path))
    return standardise(transforms.CenterCrop(size)(resized), flip=False)


@in_legacy
def center_edges(sides: Sequence[int], size: int) -> list[int]:
    """Return the offset of Gluon's CenterCrop in squares of these sides."""
    # each pixel of a square has its row as its value
    crop = transforms.CenterCrop(size)
    squares = [mx.nd.arange(side).reshape((1, side, 1)).tile((side, 1, 1)) for side in sides]
    return [int(crop(square)[0, 0, 0].asscalar()) for square in squares]


def standardise(crop: mx.nd.NDArray, *, flip: bool) -> dict[str, Any]:
    """Return a crop as uint8, and as the net's input by ToTensor and Normalize."""
    if flip:
        crop = mx.nd.image.flip_left_right(crop)
    floats = transforms.Normalize(MEAN, STD)(transforms.ToTensor()(crop))
    return {'crop': crop.asnumpy(), 'float': floats.asnumpy()}


@in_legacy
def draw_crops_and_flips(
    height: int, width: int, count: int, seed: int
) -> tuple[NDArray[Any], int]:
    """Return (count, 4) crops of Gluon's RandomResizedCrop, and the flips of ``count`` images."""
    image = mx.nd.zeros((height, width, 3), dtype='uint8')
    position = mx.nd.arange(2).reshape((1, 2, 1))
    flip, before = transforms.RandomFlipLeftRight(), random.getstate()
    random.seed(seed)
    mx.random.seed(seed)
    try:
        draws = [mx.image.random_size_crop(image, (8, 8), AREA, RATIO)[1] for _ in range(count)]
        flips = sum(int(flip(position)[0, 0, 0].asscalar()) for _ in range(count))
    finally:
        random.setstate(before)
    return np.array([[top, left, height, width] for left, top, width, height in draws]), flips


BOOK_ARCH = 'resnet18_v2'
"""The source model of the book's MXNet tab."""


def train_as_book(state: State, batches: list[Any], recipe: Recipe, epochs: int) -> State:
    """Train with the book's own package, as its MXNet tab prints it, in float64.

    Args:
        state: The initial state, for two classes.
        batches: (images, labels) arrays, to train and to test on.
        recipe: The printed rate, decay and multiplier.
        epochs: Passes over the batches.

    Returns:
        The state after it.

    Raises:
        ImportError: The package d2l is not installed.
    """
    from d2l import mxnet as printed

    printed.Animator = NoAnimator
    # npx.set_np(), but for this run only
    with mx.util.np_shape(active=True), mx.util.np_array(active=True):
        # The net, in the given state
        net = vision.resnet18_v2(classes=2)
        net.d2l_arch = BOOK_ARCH
        net.initialize(mx.init.Zero())
        iterator = [(mx.np.array(x, dtype='float64'), mx.np.array(y)) for x, y in batches]
        net(iterator[0][0].astype('float32'))  # infers the shapes
        net.cast('float64')
        for name, parameter in canonical_parameters(net).items():
            parameter.set_data(mx.np.array(state[name], dtype='float64'))
        for parameter in parameters(net).values():
            if parameter.name.endswith('gamma') and not parameter._differentiable:
                parameter.set_data(mx.np.ones(parameter.shape, dtype='float64'))

        # The step of the book
        for parameter in net.output.collect_params().values():
            parameter.lr_mult = recipe.head_lr_mult
        options = {'learning_rate': recipe.learning_rate, 'wd': recipe.weight_decay}
        trainer = gluon.Trainer(net.collect_params(), 'sgd', options)
        loss = gluon.loss.SoftmaxCrossEntropyLoss()
        printed.train_ch13(net, iterator, iterator, loss, trainer, epochs, [mx.cpu(0)])
        return {name: to_array(each.data()) for name, each in canonical_parameters(net).items()}
