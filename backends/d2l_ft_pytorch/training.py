"""SGD with two rates; a training step, evaluation and prediction on all devices of a net."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from d2l_ft.backend.common import RANDOM_FEATURES, check_groups
from d2l_ft.backend.protocol import Sums
from d2l_ft.errors import ModelError
from d2l_ft.optim.recipe import Recipe, check_reduction
from d2l_ft_pytorch.model import body_parameters, head, train_mode
from d2l_ft_pytorch.placement import (
    Placed,
    average_statistics,
    device_and_dtype,
    explain_full_memory,
    replicas,
    send_parameters,
)
from d2l_ft_pytorch.state import to_array

HIDING = (nn.ReLU, nn.Hardtanh)  # ReLU6 is a Hardtanh
"""Modules whose output can be finite though their input is not."""


class GluonSGD(torch.optim.SGD):
    """SGD whose momentum holds rate x gradient, as Gluon's does.

    velocity = momentum * velocity + lr * (gradient + weight_decay * weight) is subtracted from the
    weight. torch's buffer has the gradients without the rate. At a constant rate that is the same,
    but after a change the new rate would also apply to the old gradients. Without momentum it is
    torch's SGD.

    Attributes:
        rounds_mean: Whether a mean over a batch multiplies by 1 / batch size rounded to float32, as
            Gluon's trainer does; only for the parity proof in float64.
        d2l_reduction: The recipe's reduction of the loss over a batch, for the book's functions.
    """

    KEEPS_VELOCITY = True
    rounds_mean = False
    d2l_reduction: str

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; parameters whose gradient is None are left out."""
        if not any(part['momentum'] for part in self.param_groups):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.param_groups:
            self.move([each for each in part['params'] if each.grad is not None], part)
        return loss

    def move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update the velocities of weights of a group, all of which have gradients, and them."""
        if not weights:
            return
        # torch's _foreach functions, as its SGD uses them: one launch on a GPU for many tensors
        grads: Any = [weight.grad for weight in weights]
        if group['weight_decay']:
            grads = torch._foreach_add(grads, weights, alpha=group['weight_decay'])
        velocities = [self.velocity(weight) for weight in weights]
        torch._foreach_mul_(velocities, group['momentum'])
        torch._foreach_add_(velocities, grads, alpha=group['lr'])
        torch._foreach_sub_(weights, velocities)

    def velocity(self, weight: Tensor) -> Tensor:
        """Return the velocity of a weight, on the device where the weight is now."""
        kept: Tensor | None = self.state[weight].get('velocity')
        velocity = torch.zeros_like(weight) if kept is None else kept.to(weight.device)
        self.state[weight]['velocity'] = velocity
        return velocity


def build_trainer(placed: Placed, recipe: Recipe) -> torch.optim.SGD:
    """Return SGD over the trainable parameters, with a separate group for the head.

    A frozen body has no group; and if ``head_lr_mult`` is 1 there is only one group.

    Raises:
        ModelError: A group is empty while the multiplier needs two, or a parameter is in both.
    """
    net = placed.net
    if recipe.head_lr_mult == 1:
        everything = trainable(list(net.parameters()))
        if not everything:
            raise ModelError('the net has no trainable parameter')
        return make_sgd(recipe, [parameter_group(everything, recipe, 1.0)])
    body, top = body_parameters(net), list(head(net).parameters())
    check_groups(body, top, trainable(top))
    groups = [
        parameter_group(trainable(body), recipe, 1.0),
        parameter_group(trainable(top), recipe, recipe.head_lr_mult),
    ]
    nonempty = [each for each in groups if each['params']]
    return make_sgd(recipe, nonempty)


def make_sgd(recipe: Recipe, groups: list[dict[str, Any]]) -> GluonSGD:
    """Return SGD over parameter groups, with the recipe's reduction as ``d2l_reduction``."""
    trainer = GluonSGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    trainer.d2l_reduction = recipe.reduction
    return trainer


def parameter_group(
    parameters: list[nn.Parameter], recipe: Recipe, multiplier: float
) -> dict[str, Any]:
    """Return a parameter group whose rate is a multiple of the recipe's; ``set_rate`` reads it."""
    rate = recipe.learning_rate * multiplier
    return {'params': parameters, 'lr': rate, 'lr_mult': multiplier}


def set_rate(trainer: torch.optim.SGD, learning_rate: float) -> None:
    """Set the body's rate; the head keeps its multiple."""
    for each in trainer.param_groups:
        each['lr'] = learning_rate * each['lr_mult']


def trainable(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Return those of the parameters that get a gradient."""
    return [parameter for parameter in parameters if parameter.requires_grad]


@explain_full_memory()
def train_step(
    placed: Placed,
    trainer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    reduction: str = 'mean',
) -> Sums:
    """Take one step on every device of the net.

    The outputs of all replicas are joined on the first device, so that there is one loss for the
    whole batch and one backward pass, however the batch is split.

    Args:
        placed: From ``place``.
        trainer: From ``build_trainer``, or any optimizer of the net's parameters.
        batch: (batch, 3, height, width) images and (batch,) integer labels.
        loss: A loss that returns one value per example. If it returns a single value, that is
            taken as their mean, or as their sum if its ``reduction`` is 'sum'. None is softmax
            cross-entropy.
        reduction: 'mean' or 'sum' over the whole batch; 'book': the sum of what the loss returns,
            whether that is one value per example, their mean or their sum.

    Returns:
        Sums of this batch before the step, on the first device; nothing waits for them.

    Raises:
        OptionError: Unknown reduction.
        ModelError: The net or the loss cannot take the batch.
        DeviceError: The memory of a GPU is full.
    """
    check_reduction(reduction)
    # Prepare the replicas
    send_parameters(placed)
    for replica in replicas(placed):
        train_mode(replica)
        replica.zero_grad(set_to_none=True)
    trainer.zero_grad(set_to_none=True)

    # Forward and backward
    outputs, labels = forward(placed, batch)
    values = loss_values(loss, outputs, labels)
    total = loss_sum(loss, values, len(labels))
    if reduction == 'book':
        values.sum().backward()
    else:
        (batch_mean(total, len(labels), trainer) if reduction == 'mean' else total).backward()

    # Update
    gather_gradients(placed)
    trainer.step()
    return Sums(total.detach(), hits(outputs, labels), len(labels))


def forward(placed: Placed, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return (outputs, labels) on the first device; each replica takes a share of the images."""
    images, labels = batch
    device, _ = device_and_dtype(placed.net)
    outputs = [
        run(replica, share, placed.precision, placed.memory_format)
        for replica, share in zip(replicas(placed), shares(placed, images), strict=False)
    ]
    joined = torch.cat([each.to(device, non_blocking=True) for each in outputs])
    return joined, labels.to(device, torch.int64, non_blocking=True)


def shares(placed: Placed, images: Tensor) -> list[Tensor]:
    """Return each replica's share of the images.

    Shares are as even as possible, the larger ones first, like those of MXNet's ``split_and_load``;
    if a batch has fewer examples than there are replicas, the last ones get none.
    """
    parts = images.tensor_split(len(replicas(placed)))
    return [share for share in parts if len(share)] or [images]


def run(
    replica: nn.Module, images: Tensor, precision: str, memory_format: torch.memory_format
) -> Tensor:
    """Return the outputs of one replica, in float32 or float64.

    Raises:
        ModelError: BatchNorm would have to compute the variance of a single value.
    """
    device, dtype = device_and_dtype(replica)
    images = images.to(device, dtype, non_blocking=True)
    if images.dim() == 4:
        images = images.contiguous(memory_format=memory_format)
    half = precision == 'bfloat16'
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            outputs = replica(images) if replica.training else run_checked(replica, images)
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        raise ModelError(
            f'BatchNorm cannot train on {len(images)} image of this size on a device: '
            'use larger images, another batch size or fewer devices'
        ) from error
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def run_checked(replica: nn.Module, images: Tensor) -> Tensor:
    """Return the outputs of a replica in eval mode; not-a-number for examples that overflowed.

    Outputs can be finite though an inner value is not: a ReLU turns minus infinity to 0. So 0 x the
    sums of all values that could be hidden is added, which changes no finite output.
    """
    sums: list[Tensor] = []

    def add(values: Any) -> None:
        if isinstance(values, Tensor) and len(values) == len(images):
            sums.append(values.flatten(1).sum(1))

    hooks = [
        each.register_forward_pre_hook(lambda _, inputs: add(inputs[0]))
        for each in replica.modules()
        if isinstance(each, HIDING)
    ] + [
        each.register_forward_hook(lambda _, inputs, outputs: add(outputs))
        for each in replica.modules()
        if isinstance(each, _BatchNorm)  # DenseNet's last ReLU is a function
    ]
    try:
        outputs: Tensor = replica(images)
    finally:
        for hook in hooks:
            hook.remove()
    if outputs.dim() != 2 or not sums:
        return outputs
    return outputs + 0 * torch.stack(sums).sum(0)[:, None]


def loss_values(
    loss: Callable[[Tensor, Tensor], Tensor] | None, outputs: Tensor, labels: Tensor
) -> Tensor:
    """Return the result of a loss: one value per example, or a single one.

    None is cross-entropy, summed over the batch.

    Raises:
        ModelError: The loss returns another number of values.
    """
    if loss is None:
        return F.cross_entropy(outputs, labels, reduction='sum')
    values = loss(outputs, labels)
    if values.dim() and values.numel() != len(labels):
        raise ModelError(f'the loss gives {tuple(values.shape)} for {len(labels)} examples')
    return values


def loss_sum(loss: Any, values: Tensor, count: int) -> Tensor:
    """Return the sum of the losses of ``count`` examples, a scalar, from their ``loss_values``."""
    if loss is None or values.dim():
        return values.sum()
    return values if getattr(loss, 'reduction', 'mean') == 'sum' else values * count


def batch_mean(total: Tensor, count: int, trainer: torch.optim.Optimizer) -> Tensor:
    """Return the mean over ``count`` examples from their sum."""
    if getattr(trainer, 'rounds_mean', False):  # Gluon multiplies by rescale_grad, a float32
        return total * float(np.float32(1 / count))
    return total / count


def hits(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the number of examples whose largest output is that of the label, a scalar."""
    return (outputs.detach().argmax(dim=1) == labels).sum()


@torch.no_grad()
def gather_gradients(placed: Placed) -> None:
    """Add the gradients of every copy to the net's."""
    for other in replicas(placed)[1:]:
        for target, source in zip(placed.net.parameters(), other.parameters(), strict=True):
            if source.grad is not None and target.grad is not None:
                # the sum, as each copy's gradient is that of its share of one loss
                target.grad += source.grad.to(target.device, non_blocking=True)


@contextmanager
def eval_mode(placed: Placed) -> Iterator[None]:
    """Put every replica into eval mode, without gradients; restore the net's modes afterwards."""
    send_parameters(placed)
    average_statistics(placed)
    modes = [(module, module.training) for module in placed.net.modules()]
    for replica in replicas(placed):
        replica.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


@explain_full_memory()
def evaluate(placed: Placed, loader: Any) -> Sums:
    """Return the sums of cross-entropy and correct predictions over a loader, in eval mode.

    Running statistics are averaged over the replicas first, as in ``get_state``.
    """
    device, _ = device_and_dtype(placed.net)
    loss, correct, examples = torch.zeros((), device=device), torch.zeros((), device=device), 0
    with eval_mode(placed):
        for batch in loader:
            outputs, labels = forward(placed, batch)
            loss = loss + loss_values(None, outputs, labels)
            correct = correct + hits(outputs, labels)
            examples += len(labels)
    return Sums(loss, correct, examples)


@explain_full_memory()
def predict(placed: Placed, loader: Any) -> NDArray[Any]:
    """Return the ``logits`` of all images of a loader, of at least one, (images, classes)."""
    with eval_mode(placed):
        return np.concatenate([to_array(forward(placed, batch)[0]) for batch in loader])


@explain_full_memory()
def features(placed: Placed, loader: Any) -> NDArray[Any]:
    """Return the features of all images of a loader, the input of the head, in eval mode.

    Returns:
        (images, width of the head's input), float32 (float64 for a float64 net).

    Raises:
        ModelError: The net has dropout, or the head's inputs are not vectors.
    """
    if any(isinstance(each, _DropoutNd) and each.p for each in placed.net.modules()):
        raise ModelError(RANDOM_FEATURES)
    seen: list[Tensor] = []
    hooks = [
        head(replica).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for replica in replicas(placed)
    ]
    try:
        with eval_mode(placed):
            for batch in loader:
                outputs, _ = forward(placed, batch)
                # run_checked marks an overflow in the outputs; this passes the mark on
                seen[-1] = seen[-1] + 0 * outputs.sum().to(seen[-1])
    finally:
        for hook in hooks:
            hook.remove()
    if any(each.dim() != 2 for each in seen):
        raise ModelError('the head does not see vectors: leave out `cache_features`')
    return np.concatenate([to_array(each) for each in seen])


@explain_full_memory()
def logits(placed: Placed, batch: tuple[Tensor, Tensor]) -> NDArray[np.float32]:
    """Return (batch, classes) logits in eval mode, float32 (float64 for a float64 net)."""
    with eval_mode(placed):
        outputs, _ = forward(placed, batch)
        return to_array(outputs)
