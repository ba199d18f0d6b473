"""Nets: torchvision's constructors, Gluon's ResNet-18 v2, and the swap of the output layer."""

import ast
import inspect
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from d2l_ft.backend.common import check_classes, find_head
from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture
from d2l_ft.models.initialization import initial_state
from d2l_ft.models.state import merge_source
from d2l_ft.storage.atomic import write_atomic
from d2l_ft_pytorch.state import float_tensors, write_state


class BasicBlockV2(nn.Module):
    """Residual block with BatchNorm and ReLU before each convolution (He et al. 2016).

    Args:
        inputs: Channels of the input.
        channels: Channels of the output.
        stride: Stride of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False)
        self.downsample = shortcut if inputs != channels else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; the shortcut's convolution sees the activated input."""
        active = self.relu(self.bn1(x))
        residual = x if self.downsample is None else self.downsample(active)
        active = self.relu(self.bn2(self.conv1(active)))
        branch: Tensor = self.conv2(active)
        return branch + residual


class ResNet18V2(nn.Module):
    """The pre-activation ResNet-18 of Gluon's model zoo, ``features`` and ``output`` as there.

    Args:
        classes: Outputs of the output layer.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        stages = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        self.features = nn.Sequential(
            nn.BatchNorm2d(3, affine=False),
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            *(
                nn.Sequential(BasicBlockV2(inputs, width, stride), BasicBlockV2(width, width, 1))
                for inputs, width, stride in stages
            ),
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.output = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, classes) logits of (batch, 3, height, width) images."""
        logits: Tensor = self.output(self.features(x))
        return logits


def model_class(source: str | ast.Module, space: dict[str, Any]) -> type[nn.Module]:
    """Run the source of a translation and return its class.

    Args:
        source: Written by ``d2l_ft.convert`` in this process. Only ``d2l-ft verify`` gives that of
            a file, which its user trusts.
        space: The names that it finds, and to which it adds its own.
    """
    space['__name__'] = 'model'
    exec(compile(source, 'model.py', 'exec'), space)
    found: type[nn.Module] = space['Model']
    return found


def build_net(
    arch: str,
    classes: int,
    source: Mapping[str, NDArray[Any]] | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a net on the CPU; PyTorch's generators are left alone.

    Args:
        arch: A name that ``architecture`` knows.
        classes: Outputs of the head.
        source: State whose body is copied, not its head, which may have any size. None draws the
            whole net.
        seed: Seed of ``initial_state``, for the parameters that are not copied.

    Returns:
        torchvision's module (``ResNet18V2`` for 'resnet18_v2', ``Model`` for a converted net) in
        float32.

    Raises:
        ModelError: Unknown architecture, no class, or the source's body does not fit.
    """
    wanted = architecture(arch)
    check_classes(classes)
    net: Any
    with torch.device('meta'):  # no memory and no draws: every value is set below
        if wanted.definition is not None:
            net = model_class(wanted.definition.source, {})()
            net.d2l_head, net.d2l_fixed = wanted.head, wanted.definition.fixed
        else:
            net = ResNet18V2() if arch == 'resnet18_v2' else getattr(torchvision.models, arch)()
        replace_head(net, wanted.head, classes)
    net.to_empty(device='cpu')
    for buffer in net.buffers():  # to_empty leaves any bits, and a state has no integer buffers
        buffer.zero_()
    for name in getattr(net, 'd2l_fixed', ()):
        nn.init.ones_(net.get_parameter(name))
    shapes = {name: tuple(tensor.shape) for name, tensor in float_tensors(net).items()}
    write_state([net], merge_source(arch, initial_state(arch, shapes, seed), source))
    made: nn.Module = net
    return made


class PoolByProducts(nn.AdaptiveAvgPool2d):
    """Adaptive pooling as products with two matrices, as ONNX has it for few sizes alone.

    VGG pools the last feature map, of 1 x 1 at 48 pixels, to 7 x 7.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the means of windows, for (batch, channels, height, width) of a known size."""
        size: Any = self.output_size
        wanted = (size, size) if isinstance(size, int) else size
        sides = [int(side) for side in x.shape[2:]]
        if all(old % new == 0 for old, new in zip(sides, wanted, strict=True)):
            return super().forward(x)
        high, wide = (window_means(*each) for each in zip(sides, wanted, strict=True))
        return high @ x @ wide.T


def window_means(old: int, new: int) -> Tensor:
    """Return the matrix (new, old) of the means over the windows of adaptive pooling."""
    matrix = np.zeros((new, old), np.float32)
    for row in range(new):
        start, end = row * old // new, -(-(row + 1) * old // new)
        matrix[row, start:end] = 1 / (end - start)
    return torch.from_numpy(matrix)


def write_onnx(path: str, net: nn.Module, size: int, told: Mapping[str, str]) -> None:
    """Write a net as an ONNX file: (batch, 3, size, size) 'images' to (batch, classes) 'logits'.

    Args:
        path: The file.
        net: A net on the CPU; its pooling and its mode are changed.
        size: Side of the images, in pixels.
        told: What else the file says: name -> text.

    Raises:
        ModelError: The package onnx is not installed.
        StorageError: The file cannot be written.
    """
    try:
        import onnx
    except ImportError:
        raise ModelError(
            'an ONNX file needs the package onnx, which is not installed: run  '
            'pip install "d2l-ft[onnx]"'
        ) from None
    for module in net.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.__class__ = PoolByProducts
    packed: Any = io.BytesIO()  # its types know files alone
    options: dict[str, Any] = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        options['dynamo'] = False  # the newer exporter needs onnxscript as well
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that this exporter is not the newer one; traced sizes
        torch.onnx.export(
            net.eval(), (torch.zeros(1, 3, size, size),), packed,
            input_names=['images'], output_names=['logits'],
            dynamic_axes={'images': {0: 'batch'}, 'logits': {0: 'batch'}}, **options,
        )  # fmt: skip
    model = onnx.load_model_from_string(packed.getvalue())
    onnx.helper.set_model_props(model, dict(told))
    write_atomic(Path(path), model.SerializeToString())


def replace_head(net: nn.Module, name: str, classes: int) -> None:
    """Put a new output layer at a name, as in ``net.fc = nn.Linear(net.fc.in_features, 2)``.

    Args:
        net: A net of this package.
        name: Name of the output layer, such as 'fc' or 'classifier.1'.
        classes: Outputs of the new layer.
    """
    place, _, attribute = name.rpartition('.')
    old: Any = net.get_submodule(name)
    new: nn.Module
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, classes, kernel_size=1)
        squeezenet: Any = net
        squeezenet.num_classes = classes  # torchvision keeps the number in the net too
    else:
        new = nn.Linear(old.in_features, classes)
    setattr(net.get_submodule(place), attribute, new)


def head(net: nn.Module) -> nn.Module:
    """Return the output layer: a converted net's own, else the last one under a known name.

    Raises:
        ModelError: The net has none.
    """
    if name := getattr(net, 'd2l_head', ''):
        return net.get_submodule(name)
    found: nn.Module = find_head(
        net, nn.Module, nn.Linear | nn.Conv2d, lambda part: list(part.modules())
    )
    return found


def body_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of every module but the output layer, each once."""
    head_modules = set(head(net).modules())
    found = {
        id(parameter): parameter
        for module in net.modules()
        if module not in head_modules
        for parameter in module.parameters(recurse=False)
    }
    return list(found.values())


def freeze(net: nn.Module) -> None:
    """Train the head alone: the body gets no gradient, its BatchNorm stays in eval mode.

    Only ``requires_grad`` is set; ``train_mode`` derives BatchNorm's mode from it. Dropout stays
    active in training, as it is part of the features from which the head learns. The replicas get
    ``requires_grad`` from the net at each step.
    """
    for parameter in body_parameters(net):
        parameter.requires_grad = False
        parameter.grad = None


def train_mode(net: nn.Module) -> None:
    """Set training mode, but eval mode for each BatchNorm whose parameters are all frozen.

    A BatchNorm without parameters is in eval mode if the whole body is frozen. ``requires_grad``
    alone is not enough: the running statistics would still change.
    """
    net.train()
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            parameters = list(module.parameters()) or frozen_body(net)
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()


def frozen_body(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the body; [] if the net has no known head."""
    try:
        return body_parameters(net)
    except ModelError:
        return []
