"""SGD with two rates; a training step, evaluation and prediction on all contexts of a net."""

from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import Block, Parameter, nn
from numpy.typing import NDArray

from d2l_ft.backend.common import RANDOM_FEATURES, check_groups
from d2l_ft.backend.protocol import Sums
from d2l_ft.errors import ModelError
from d2l_ft.optim.recipe import Recipe, check_reduction
from d2l_ft_mxnet.model import ConvertedNet, blocks, body_parameters, head
from d2l_ft_mxnet.placement import (
    Placed,
    average_statistics,
    check_placed,
    contexts,
    dtype,
    mark_overflow,
    parameters,
    run,
    run_checked,
    symbol_block,
    trace,
)
from d2l_ft_mxnet.semantics import (
    convert,
    in_legacy,
    made_in_numpy,
    semantics,
    to_caller,
    uses_numpy,
)
from d2l_ft_mxnet.state import to_array

Share = tuple[mx.nd.NDArray, mx.nd.NDArray]


def build_trainer(placed: Placed, recipe: Recipe) -> gluon.Trainer:
    """Return SGD over the trainable parameters, with the head's ``lr_mult`` set.

    The multipliers of all other parameters are set to 1. Weight decay applies to every parameter,
    as in Gluon.

    Raises:
        ModelError: A group is empty while the multiplier needs two, or a parameter is in both.
    """
    # Find the parameters and check them before one is changed
    net = placed.net
    check_placed(placed)
    everything = {id(each): each for each in parameters(net).values()}
    top = [] if recipe.head_lr_mult == 1 else head_group(net)
    trained = trainable(list(everything.values()))
    if not trained:
        raise ModelError('the net has no trainable parameter')

    # Set their multipliers and build the trainer
    for parameter in everything.values():
        parameter.lr_mult = 1.0
    for parameter in top:
        parameter.lr_mult = recipe.head_lr_mult
    options = {
        'learning_rate': recipe.learning_rate,
        'wd': recipe.weight_decay,
        'momentum': recipe.momentum,
    }
    # with updates on the KVStore the velocities could not be read or set before the first step
    trainer = gluon.Trainer(trained, 'sgd', options, update_on_kvstore=False)
    trainer.d2l_reduction = recipe.reduction
    return trainer


def set_rate(trainer: gluon.Trainer, learning_rate: float) -> None:
    """Set the body's rate; the head's ``lr_mult`` stays."""
    trainer.set_learning_rate(learning_rate)


def head_group(net: Block) -> list[Parameter]:
    """Return the head's parameters, after a check that they and the body are two groups.

    Raises:
        ModelError: A group is empty, or a parameter is in both.
    """
    top = list(parameters(head(net)).values())
    body = [each for each in body_parameters(net) if each._differentiable]
    check_groups(body, top, trainable(top))
    return top


def trainable(group: list[Parameter]) -> list[Parameter]:
    """Return those of the parameters that get a gradient."""
    return [parameter for parameter in group if parameter.grad_req != 'null']


def train_step(
    placed: Placed, trainer: gluon.Trainer, batch: Any, loss: Any = None, reduction: str = 'mean'
) -> Sums:
    """Take one step on every context of the net, without waiting for the result.

    Args:
        placed: From ``place``.
        trainer: From ``build_trainer``, or any Gluon trainer of the net's parameters.
        batch: (batch, 3, height, width) images and (batch,) integer labels.
        loss: A Gluon loss that gives one value per example; None is softmax cross-entropy.
        reduction: 'mean' or 'sum' over the whole batch; 'book': the mean, and parameters without
            a new gradient are skipped instead of raising an error.

    Returns:
        Sums of this batch before the step, on the first context.

    Raises:
        OptionError: Unknown reduction.
        ModelError: The net was placed after its trainer was built, or changed after it was placed;
            or the loss does not return one value per example.
    """
    check_step(placed, trainer, reduction)

    # Forward and backward
    net = placed.net
    with semantics(numpy=uses_numpy(net)):
        split, outputs, losses = shares(net, batch), [], []
        with autograd.record():
            for images, labels in split:
                outputs.append(run(placed, images))
                losses.append(example_losses(loss, outputs[-1], labels))
        autograd.backward(losses)

    # Update, in the semantics in which the parameters were made
    with semantics(numpy=bool(made_in_numpy(net))):
        clear_idle(trainer, placed.devices[len(split) :])
        # it is False if the trainer was made in legacy semantics, whatever the parameters are
        trainer._optimizer.allow_np_array = True
        examples = len(batch[1])
        trainer.step(1 if reduction == 'sum' else examples, ignore_stale_grad=reduction == 'book')
    return sums(losses, outputs, split)


def check_step(placed: Placed, trainer: gluon.Trainer, reduction: str) -> None:
    """Check that a step can be taken.

    Raises:
        OptionError: Unknown reduction.
        ModelError: The net was changed, or the trainer is for other contexts.
    """
    check_reduction(reduction)
    check_placed(placed)
    if trainer._contexts != placed.devices:
        raise ModelError('the net was placed after its trainer was built: build the trainer again')


def shares(net: Block, batch: Any) -> list[Share]:
    """Return each context's share of a batch, in the net's dtype and this thread's class.

    Shares are as even as possible, the larger ones first; if a batch has fewer examples than there
    are contexts, the last contexts get none.
    """
    images, labels = to_caller(batch)
    busy = contexts(net)[: len(labels)]
    halves = [
        gluon.utils.split_and_load(each, busy, even_split=False)
        for each in (images.astype(dtype(net), copy=False), labels)
    ]
    return list(zip(*halves, strict=True))


def example_losses(loss: Any, outputs: mx.nd.NDArray, labels: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return the loss of each example, (batch,); None is softmax cross-entropy.

    Raises:
        ModelError: The loss returns another number of values.
    """
    values = loss(outputs, labels) if loss else cross_entropy(outputs, labels)
    if values.size != len(labels):
        raise ModelError(f'the loss gives {values.shape} for {len(labels)} examples')
    return values


def cross_entropy(outputs: mx.nd.NDArray, labels: mx.nd.NDArray) -> mx.nd.NDArray:
    """Return the cross-entropy of each example, (batch,), in legacy semantics."""
    with semantics(numpy=False):
        return gluon.loss.SoftmaxCrossEntropyLoss()(*convert((outputs, labels), numpy=False))


def clear_idle(trainer: gluon.Trainer, idle: list[mx.Context]) -> None:
    """Set the gradients on contexts without examples to zero, so that they take the step too.

    They have the gradients of an earlier batch, which Gluon refuses as stale. With
    ``ignore_stale_grad`` it would not update these contexts, and the replicas would differ.
    """
    for parameter in trainable(trainer._params) if idle else []:
        for context in idle:
            parameter.grad(context)[:] = 0
            parameter.data(context)._fresh_grad = True


@in_legacy
def sums(losses: list[mx.nd.NDArray], outputs: list[mx.nd.NDArray], split: list[Share]) -> Sums:
    """Return the sums over all contexts, on the first one, as scalars that ``float`` reads."""
    losses, outputs, split = (convert(each, numpy=False) for each in (losses, outputs, split))
    # argmax has the dtype of the outputs
    hits = [
        (output.argmax(axis=1) == labels.astype(output.dtype)).sum()
        for output, (_, labels) in zip(outputs, split, strict=True)
    ]
    return Sums(
        total([each.sum() for each in losses]), total(hits), sum(len(labels) for _, labels in split)
    )


def total(values: list[mx.nd.NDArray]) -> Any:
    """Return the sum of scalars on the first one's context.

    It is an ``mx.np`` array, because the legacy NDArray has no ``__float__``.
    """
    first = values[0].context
    return mx.nd.add_n(*(each.as_in_context(first) for each in values)).as_np_ndarray()


def evaluate(placed: Placed, loader: Any) -> Sums:
    """Return the sums of cross-entropy and correct predictions over a loader, in eval mode.

    Running statistics are averaged over the contexts first, as in ``get_state``. It waits for the
    result, because MXNet raises an error of the computation only in a call that waits for it.
    """
    net = placed.net
    check_placed(placed)
    average_statistics(net)
    zero = mx.nd.zeros((1,), contexts(net)[0]).as_np_ndarray()
    loss, correct, examples = zero, zero, 0
    for batch in loader:
        with autograd.pause(), semantics(numpy=uses_numpy(net)):
            split = shares(net, batch)
            outputs = [run_checked(placed, images) for images, _ in split]
            pairs = zip(outputs, split, strict=True)
            losses = [example_losses(None, output, labels) for output, (_, labels) in pairs]
            part = sums(losses, outputs, split)
            loss, correct = loss + part.loss, correct + part.correct
        examples += part.examples
    loss.wait_to_read()
    correct.wait_to_read()
    return Sums(loss, correct, examples)


def predict(placed: Placed, loader: Any) -> NDArray[Any]:
    """Return the ``logits`` of all images of a loader, of at least one, (images, classes)."""
    return np.concatenate([logits(placed, batch) for batch in loader])


def features(placed: Placed, loader: Any) -> NDArray[Any]:
    """Return the features of all images of a loader, the input of the head, in eval mode.

    Returns:
        (images, width of the head's input), float32 (float64 for a float64 net).

    Raises:
        ModelError: The net has dropout, or does not end with a Dense layer.
    """
    # Check that the features determine what the head does
    net = placed.net
    check_placed(placed)
    converted = isinstance(net, ConvertedNet) and net.draws()
    if converted or any(isinstance(each, nn.Dropout) and each._rate for each in blocks(net)):
        raise ModelError(RANDOM_FEATURES)
    (images, outputs), top = trace(net), head(net)
    if not isinstance(top, nn.Dense) or outputs.name != f'{top.name}_fwd':
        raise ModelError('the net does not end with a Dense layer: leave out `cache_features`')

    # Cut the graph in front of the head, and run it
    average_statistics(net)
    body, found = None, []
    for batch in loader:
        with autograd.pause(), semantics(numpy=False):
            split = shares(net, batch)
            body = body or _body(placed, images, outputs, split[0][0].shape)
            found += [to_array(body(share)).reshape(len(share), -1) for share, _ in split]
    return np.concatenate(found)


def _body(
    placed: Placed, images: mx.sym.Symbol, outputs: mx.sym.Symbol, shape: tuple[int, ...]
) -> Block:
    """Return a traced net without its head, for images of a shape."""
    head_inputs = outputs.get_children()[0]
    if getattr(placed.net, 'd2l_arch', None) is not None:
        half = placed.precision == 'bfloat16'
        head_inputs = mark_overflow(head_inputs, {images.name: shape}, half=half)
    return symbol_block(head_inputs, images, placed.net, placed.precision)


def logits(placed: Placed, batch: Any) -> NDArray[Any]:
    """Return (batch, classes) logits in eval mode, float32 (float64 for a float64 net)."""
    net = placed.net
    check_placed(placed)
    average_statistics(net)
    with autograd.pause(), semantics(numpy=uses_numpy(net)):
        outputs = [run_checked(placed, images) for images, _ in shares(net, batch)]
    return np.concatenate([to_array(each) for each in outputs])
