"""Read the inner values of a net, a step and PyTorch's own transforms, for the parity proof."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.transforms import v2

from d2l_ft.backend.probe import NoAnimator
from d2l_ft.data.transforms import AREA, RATIO, Box
from d2l_ft.models.architectures import MEAN, STD
from d2l_ft.models.state import State
from d2l_ft.optim.recipe import Recipe
from d2l_ft_pytorch.data import open_rgb
from d2l_ft_pytorch.model import head, train_mode
from d2l_ft_pytorch.placement import Placed, device_and_dtype
from d2l_ft_pytorch.state import float_tensors, to_array, write_state
from d2l_ft_pytorch.training import GluonSGD, shares


class GluonStatistics(_BatchNorm):
    """MXNet's rules for the running statistics of a BatchNorm, whatever the input's dimensions.

    The running variance is updated with the biased variance of the batch, the momentum is a float32
    number, and the statistics change only if a gradient flows through the layer: MXNet updates
    them in the backward pass.
    """

    # None in a BatchNorm without statistics, which the nets here do not have
    momentum: float
    running_mean: Tensor
    running_var: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input, (batch, channels, ...)."""
        has_backward = input.requires_grad or any(each.requires_grad for each in self.parameters())
        if not self.training or not torch.is_grad_enabled() or not has_backward:
            return F.batch_norm(
                input,
                None if self.training else self.running_mean,
                None if self.training else self.running_var,
                self.weight,
                self.bias,
                self.training,
                0.0,
                self.eps,
            )
        with torch.no_grad():
            keep = float(np.float32(1 - self.momentum))
            axes = [axis for axis in range(input.ndim) if axis != 1]
            variance, mean = torch.var_mean(input, axes, correction=0)
            self.running_mean.mul_(keep).add_(mean, alpha=1 - keep)
            self.running_var.mul_(keep).add_(variance, alpha=1 - keep)
        return F.batch_norm(
            input, None, None, self.weight, self.bias, training=True, momentum=0.0, eps=self.eps
        )


def take_gluon_statistics(norm: nn.Module) -> None:
    """Let a BatchNorm, of whichever class, keep its statistics as MXNet's does."""
    kind = type(norm)
    norm.__class__ = type(f'Gluon{kind.__name__}', (GluonStatistics, kind), {})


def keeps_statistics(norm: nn.Module) -> bool:
    """Tell whether a layer is a BatchNorm that moves its running statistics.

    StillBatchNorm, which stands in the source of a converted net, does not.
    """
    return isinstance(norm, _BatchNorm) and type(norm).forward is _BatchNorm.forward


class RoundedInside:
    """PyTorch's functions, with what MXNet computes in float32 inside rounded to it.

    Attributes:
        on: Whether the values of activations are rounded.
        used: Whether there was one of these.
        pooled: The most values of which a mean over an image was taken.
    """

    def __init__(self) -> None:
        self.on, self.used, self.pooled = True, False, 1

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    def leaky_relu(self, x: Tensor, slope: float) -> Tensor:
        """Return the leaky ReLU as MXNet's mshadow_op::xelu computes it: in float32 below 0."""
        return torch.where(x > 0, x, self._product(x, torch.tensor(slope, dtype=x.dtype)))

    def adaptive_avg_pool2d(self, x: Tensor, size: Any) -> Tensor:
        """Return the means, and note of how many values they are."""
        means = F.adaptive_avg_pool2d(x, size)
        self.pooled = max(self.pooled, x[0, 0].numel() // max(means[0, 0].numel(), 1))
        return means

    def gelu(self, x: Tensor) -> Tensor:
        """Return the GELU; value and gradient are float32's."""
        return self._narrow(F.gelu, x)

    def selu(self, x: Tensor) -> Tensor:
        """Return the SELU; value and gradient are float32's."""
        return self._narrow(F.selu, x)

    def _narrow(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return a function's value computed in float32."""
        self.used = True
        return function(x.float()).to(x.dtype) if self.on else function(x)

    def round_prelu(self, layer: nn.PReLU) -> None:
        """Let a PReLU compute as MXNet's: its negative side in float32."""

        def forward(x: Tensor) -> Tensor:
            slope: Tensor = layer.weight
            if slope.numel() > 1:
                slope = slope.reshape(1, -1, *[1] * (x.ndim - 2))
            return torch.where(x > 0, x, self._product(x, slope))

        layer.forward = forward  # type: ignore[method-assign,assignment]

    def _product(self, x: Tensor, slope: Tensor) -> Tensor:
        """Return the product in float32, with the gradient of the exact product."""
        self.used = True
        exact = x * slope
        if not self.on:
            return exact
        rounded = (x.detach().float() * slope.detach().float()).to(x.dtype)
        return exact + (rounded - exact.detach())

    @staticmethod
    def interpolate(x: Tensor, size: Sequence[int] | None = None, **options: Any) -> Tensor:
        """Return an image of another size; the weights of BilinearResize2D are float32."""
        if options.get('mode') != 'bilinear' or size is None:
            return F.interpolate(x, size, **options)
        corners = options['align_corners']
        high, wide = (
            _resizing(old, new, x.dtype, corners=corners)
            for old, new in zip(x.shape[2:], size, strict=True)
        )
        return high @ x @ wide.mT


def _resizing(old: int, new: int, dtype: torch.dtype, *, corners: bool) -> Tensor:
    """Return the matrix (new, old) with which MXNet resizes a side, as bilinear_resize-inl.h."""
    at = np.arange(new)
    if corners:
        source = np.float32((old - 1) / max(new - 1, 1)) * at.astype(np.float32)
    else:
        scale = float(np.float32(old / new)) if new > 1 else 0.0
        source = np.maximum(scale * (at + 0.5) - 0.5, 0).astype(np.float32)
    first = source.astype(np.int64)
    share = (source - first.astype(np.float32)).astype(np.float64)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (at, first), 1 - share)
    np.add.at(matrix, (at, np.minimum(first + 1, old - 1)), share)
    return torch.tensor(matrix, dtype=dtype)


def prepare(net: nn.Module, dtype: str = 'float64', *, strict: bool = True) -> nn.Module:
    """Make a net comparable: cast it, switch its dropout off and, if strict, change its BatchNorm.

    In a converted net MXNet computes some activations in float32 inside, also in float64, and has
    the gradient of a PReLU's slope multiplied by the slope: so does PyTorch then.

    Args:
        net: A net that is not yet placed; it is changed in place.
        dtype: 'float32' or 'float64'.
        strict: Whether BatchNorm gets MXNet's rules for the running statistics.

    Returns:
        The net.
    """
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if strict and keeps_statistics(module):
            take_gluon_statistics(module)
    if hasattr(net, 'd2l_head'):
        compute_as_mxnet(net, dtype)
    return net.to(getattr(torch, dtype))


def compute_as_mxnet(net: nn.Module, dtype: str) -> None:
    """Give a converted net what MXNet's operators do otherwise; see ``prepare``."""
    inside = RoundedInside()
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            if dtype == 'float64':
                inside.round_prelu(module)
            slope = module.weight
            slope.register_hook(lambda gradient, slope=slope: gradient * slope.detach())
    if dtype == 'float64':
        space = type(net).forward.__globals__  # of this net alone: see ``model_class``
        space['F'] = inside


def round_rates(trainer: GluonSGD) -> None:
    """Round rate, decay, momentum and 1 / batch size to float32, as MXNet's operators take them."""
    trainer.rounds_mean = True
    for group in trainer.param_groups:
        for key in ('lr', 'weight_decay', 'momentum'):
            group[key] = float(np.float32(group[key]))


def layers(net: nn.Module) -> dict[str, nn.Module]:
    """Return canonical name -> module of every layer that has parameters or statistics."""
    return {
        name: module
        for name, module in net.named_modules()
        if list(module.parameters(recurse=False)) or list(module.buffers(recurse=False))
    }


def feature_maps(net: nn.Module, batch: tuple[Tensor, Tensor], *, train: bool = False) -> State:
    """Return the output of every layer in the order of execution; the net stays as it was.

    Args:
        net: A net on one device.
        batch: (images, labels).
        train: Whether BatchNorm normalises by the batch.

    Returns:
        Canonical name of a layer -> its output.
    """
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            # a copy, as the activation after it works in place
            lambda _module, _inputs, output, name=name: found.update({name: output.clone()})
        )
        for name, module in layers(net).items()
    ]
    device, dtype = device_and_dtype(net)
    modes = [(module, module.training) for module in net.modules()]
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    train_mode(net) if train else net.eval()
    try:
        with torch.no_grad():
            net(batch[0].to(device, dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
        for name, buffer in net.named_buffers():
            buffer.data.copy_(buffers[name])
    return {name: to_array(output) for name, output in found.items()}


def losses(net: nn.Module, batch: tuple[Tensor, Tensor]) -> NDArray[Any]:
    """Return the cross-entropy of each example in eval mode, (batch,)."""
    device, dtype = device_and_dtype(net)
    net.eval()
    with torch.no_grad():
        outputs = net(batch[0].to(device, dtype))
        return to_array(F.cross_entropy(outputs, batch[1].to(device), reduction='none'))


def gradients(net: nn.Module, trainer: torch.optim.SGD) -> State:
    """Return the gradients of the last step, canonical name -> array."""
    return {
        name: to_array(parameter.grad)
        for name, parameter in net.named_parameters()
        if parameter.grad is not None
    }


def multipliers(net: nn.Module, trainer: torch.optim.SGD) -> dict[str, tuple[float, float]]:
    """Return canonical name -> (rate, decay) of each trained parameter, relative to the least."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = trainer.param_groups
    rate = min(group['lr'] for group in groups)
    decay = min(group['weight_decay'] for group in groups)
    return {
        names[id(parameter)]: (group['lr'] / rate, group['weight_decay'] / decay if decay else 1.0)
        for group in groups
        for parameter in group['params']
    }


def head_layout(net: nn.Module) -> dict[str, Any]:
    """Return the kind of the output layer, 'dense' or 'conv', and its inputs and outputs."""
    layer: Any = head(net)
    outputs, inputs = layer.weight.shape[:2]
    kind = 'conv' if isinstance(layer, nn.Conv2d) else 'dense'
    return {'kind': kind, 'inputs': inputs, 'outputs': outputs}


def batch_norms(net: nn.Module) -> list[Any]:
    """Return the BatchNorm layers."""
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]


def split(placed: Placed, batch: tuple[Tensor, Tensor]) -> list[NDArray[Any]]:
    """Return the images of a batch that go to each device of a placed net."""
    return [to_array(share) for share in shares(placed, batch[0])]


@contextmanager
def round_differently() -> Iterator[None]:
    """Compute the same with kernels that round differently: those without oneDNN."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


STACKS = ('tensor', 'tensor-antialias', 'pil')
"""torchvision's ways to resize: uint8 tensors without and with antialiasing, and PIL images."""


def decode(path: str) -> NDArray[Any]:
    """Read a file with torchvision's own reader, as (height, width, 3) RGB uint8."""
    return np.asarray(open_rgb(path))


def train_transform(path: str, box: Box, *, flip: bool, size: int, stack: str) -> dict[str, Any]:
    """Apply torchvision's own training transforms to a file, with a given crop and flip.

    Args:
        path: An image file.
        box: (top, left, height, width) of the crop.
        flip: Whether to mirror.
        size: Side of the result.
        stack: One of ``STACKS``.

    Returns:
        'crop': (size, size, 3) uint8; 'float': (3, size, size).
    """
    image = open_rgb(path)
    given: Any = image if stack == 'pil' else v2.functional.pil_to_tensor(image)
    crop = v2.functional.resized_crop(
        given, *box, [size, size], v2.InterpolationMode.BILINEAR, stack != 'tensor'
    )
    return standardise(crop, flip=flip)


def eval_transform(path: str, side: int, size: int, stack: str) -> dict[str, Any]:
    """Apply torchvision's Resize to a square to a file, and take the centre of it."""
    image = open_rgb(path)
    given: Any = image if stack == 'pil' else v2.functional.pil_to_tensor(image)
    resized = v2.Resize((side, side), antialias=stack != 'tensor')(given)
    edge = (side - size) // 2  # not CenterCrop, which rounds differently: see center_edges
    return standardise(v2.functional.crop(resized, edge, edge, size, size), flip=False)


def center_edges(sides: Sequence[int], size: int) -> list[int]:
    """Return the offset of torchvision's CenterCrop in squares of these sides."""
    # each pixel of a square has its column as its value
    crop = v2.CenterCrop(size)
    return [int(crop(torch.arange(side).expand(1, side, side))[0, 0, 0]) for side in sides]


def standardise(crop: Any, *, flip: bool) -> dict[str, Any]:
    """Return a crop as uint8, and as the net's input by ToTensor and Normalize."""
    if flip:
        crop = v2.functional.horizontal_flip(crop)
    tensor = v2.functional.pil_to_tensor(crop) if not isinstance(crop, Tensor) else crop
    # divided as in ToTensor: to_dtype(scale=True) multiplies, which differs in the last bit
    floats = v2.functional.normalize(tensor.float().div(255), MEAN, STD)
    return {'crop': tensor.permute(1, 2, 0).numpy(), 'float': floats.numpy()}


def draw_crops_and_flips(
    height: int, width: int, count: int, seed: int
) -> tuple[NDArray[Any], int]:
    """Return (count, 4) crops of torchvision's RandomResizedCrop, and the flips of ``count``."""
    image = torch.zeros(1, height, width, dtype=torch.uint8)
    position = torch.arange(2, dtype=torch.uint8).reshape(1, 1, 2)
    crop, flip = v2.RandomResizedCrop(8, AREA, RATIO), v2.RandomHorizontalFlip()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        boxes = [crop.make_params([image]) for _ in range(count)]
        flips = sum(int(flip(position)[0, 0, 0]) for _ in range(count))
    keys: Sequence[str] = ('top', 'left', 'height', 'width')
    return np.array([[box[key] for key in keys] for box in boxes]), flips


BOOK_ARCH = 'resnet18'
"""The source model of the book's PyTorch tab."""


def train_as_book(state: State, batches: list[Any], recipe: Recipe, epochs: int) -> State:
    """Train with the book's own package, as its PyTorch tab prints it, in float64.

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
    from d2l import torch as printed

    printed.Animator = NoAnimator
    net = torchvision.models.resnet18()
    net.fc = nn.Linear(net.fc.in_features, 2)
    net = net.double()
    write_state([net], state)
    lr = recipe.learning_rate
    body = [each for name, each in net.named_parameters() if not name.startswith('fc.')]
    groups = [{'params': body}, {'params': net.fc.parameters(), 'lr': lr * recipe.head_lr_mult}]
    trainer = torch.optim.SGD(groups, lr=lr, weight_decay=recipe.weight_decay)
    iterator = [(torch.from_numpy(np.float64(x)), torch.from_numpy(y)) for x, y in batches]
    loss = nn.CrossEntropyLoss(reduction='none')
    printed.train_ch13(net, iterator, iterator, loss, trainer, epochs, [torch.device('cpu')])
    return {name: to_array(each) for name, each in float_tensors(net).items()}
