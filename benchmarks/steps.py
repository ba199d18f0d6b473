"""How fast a training step is: ours against the book's printed code, and against the machine.

ResNet-18 at 224 pixels with a new head of two classes, data in memory. The book's code is that of
``d2l==0.17.6`` (``train_batch_ch13`` and the tab's own trainer). Every variant runs in a process
of its own, and measures the rate of a matrix product of the same precision beside its steps.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from memory import peak

SIZE, CLASSES = 224, 2
FLOP = 3 * 3.64e9
"""Of a step for an image: forward 1.82e9 multiply-adds (He et al. 2015, table 1), and about twice
that backward."""

SIDE = 3072
"""Of the square matrices whose product is timed."""

Measured = tuple[Callable[[], float], Callable[[], float]]
"""A step, which returns the loss; and a call that returns the FLOP/s of a matrix product."""


def images_and_labels(batch: int) -> tuple[Any, Any]:
    """Return (batch, 3, SIZE, SIZE) float32 and (batch,) labels."""
    draws = np.random.default_rng(0)
    images = draws.normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)
    return images, draws.integers(0, CLASSES, batch)


def product(call: Callable[[], Any]) -> float:
    """Return the FLOP/s of the fastest of some matrix products."""
    call()
    seconds = []
    for _ in range(6):
        start_time = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start_time)
    return 2 * SIDE**3 / min(seconds)


def torch_product(dtype: Any, device: str = 'cpu') -> float:
    """Return PyTorch's."""
    import torch

    a = torch.randn(SIDE, SIDE, device=device).to(dtype)
    return product(lambda: torch.mm(a, a)[0, 0].item())


def mxnet_product(precision: str = 'float32') -> float:
    """Return MXNet's."""
    import mxnet as mx
    from mxnet.contrib.amp.amp import bfloat16  # a dtype of its own

    dtype = bfloat16 if precision == 'bfloat16' else precision
    a = mx.nd.random.normal(shape=(SIDE, SIDE)).astype(dtype)
    dense = {'num_hidden': SIDE, 'no_bias': True}
    return product(lambda: mx.nd.FullyConnected(a, a, **dense).wait_to_read())


def torch_book(batch: int, device: str = 'cpu') -> Measured:
    """Return the printed step of the PyTorch tab."""
    import torch
    import torchvision
    from d2l import torch as book
    from torch import nn

    net = torchvision.models.resnet18()
    net.fc = nn.Linear(net.fc.in_features, CLASSES)
    devices = [torch.device(device)]
    net = nn.DataParallel(net, device_ids=devices).to(devices[0]) if device != 'cpu' else net
    top = [each for name, each in net.named_parameters() if '.fc.' in f'.{name}']
    body = [each for name, each in net.named_parameters() if '.fc.' not in f'.{name}']
    groups = [{'params': body}, {'params': top, 'lr': 5e-4}]
    trainer = torch.optim.SGD(groups, lr=5e-5, weight_decay=0.001)
    loss = nn.CrossEntropyLoss(reduction='none')
    images, labels = (torch.from_numpy(each) for each in images_and_labels(batch))

    def step() -> float:
        return float(book.train_batch_ch13(net, images, labels, loss, trainer, devices)[0])

    return step, lambda: torch_product(torch.float32, device)


def ours(
    backend: Any, arch: str, batch: int, precision: str, channels_last: bool, device: str = 'cpu'
) -> tuple[Callable[[], Any], Any, Any]:
    """Return our step, which gives its sums, with its net and its trainer."""
    from d2l_ft.optim.recipe import FINE_TUNED
    from d2l_ft.system.hardware import keep_freed_memory

    if os.environ.get('KEEP') != 'no':  # as ``d2l-ft train`` does
        keep_freed_memory()
    net = backend.build_net(arch, CLASSES)
    placed = backend.place(net, backend.devices(device), precision, channels_last=channels_last)
    trainer = backend.build_trainer(placed, FINE_TUNED)
    ready = backend.to_batch(*images_and_labels(batch))
    if device != 'cpu':
        ready = tuple(each.to('cuda') for each in ready)
    return lambda: backend.train_step(placed, trainer, ready), net, trainer


def torch_ours(batch: int, precision: str, channels_last: bool) -> Measured:
    """Return our step with PyTorch."""
    import torch

    from d2l_ft.backend.registry import get_backend

    step, _, _ = ours(get_backend('pytorch'), 'resnet18', batch, precision, channels_last)
    return lambda: float(step().loss), lambda: torch_product(getattr(torch, precision))


def torch_strict(batch: int) -> Measured:
    """Return it in float32 with the channels first, as proofs compute."""
    return torch_ours(batch, 'float32', False)


def torch_float32(batch: int) -> Measured:
    """Return it in float32."""
    return torch_ours(batch, 'float32', True)


def torch_bfloat16(batch: int) -> Measured:
    """Return it in bfloat16."""
    return torch_ours(batch, 'bfloat16', True)


def torch_compiled(batch: int) -> Measured:
    """Return it in bfloat16, compiled by TorchInductor."""
    import torch

    from d2l_ft.backend.registry import get_backend

    step, net, _ = ours(get_backend('pytorch'), 'resnet18', batch, 'bfloat16', True)
    net.compile()
    return lambda: float(step().loss), lambda: torch_product(torch.bfloat16)


def torch_fused(batch: int) -> Measured:
    """Return it in bfloat16 with PyTorch's fused SGD."""
    import torch

    from d2l_ft.backend.registry import get_backend

    step, _, trainer = ours(get_backend('pytorch'), 'resnet18', batch, 'bfloat16', True)
    for group in trainer.param_groups:
        group['fused'] = True
    return lambda: float(step().loss), lambda: torch_product(torch.bfloat16)


def mxnet_book(batch: int) -> Measured:
    """Return the printed step of the MXNet tab, whose net is ResNet-18 v2.

    MXNet takes the threads that it takes by itself.
    """
    import plain_mxnet  # noqa: F401  # before MXNet
    # isort: split

    import mxnet as mx
    from d2l import mxnet as book
    from mxnet import gluon, init, npx

    npx.set_np()
    net = gluon.model_zoo.vision.resnet18_v2(classes=CLASSES)
    net.initialize(init.Xavier(), ctx=[npx.cpu()])
    net.output.collect_params().setattr('lr_mult', 10)
    net.hybridize()  # as the book's train_fine_tuning does
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.01, 'wd': 0.001})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    images, labels = (mx.np.array(each) for each in images_and_labels(batch))

    def step() -> float:
        total, _ = book.train_batch_ch13(
            net, images, labels, loss, trainer, [npx.cpu()], book.split_batch
        )
        return float(total)

    return step, mxnet_product


def mxnet_ours(
    batch: int, precision: str = 'float32', arch: str = 'resnet18_v2', **options: Any
) -> Measured:
    """Return our step with MXNet and the same net."""
    from d2l_ft.backend.registry import get_backend

    step, net, _ = ours(get_backend('mxnet'), arch, batch, precision, True)
    if options:
        net.hybridize(**options)
    return lambda: float(step().loss), lambda: mxnet_product(precision)


def mxnet_mobilenet(batch: int) -> Measured:
    """Return it with MobileNetV2, whose convolutions are mostly depthwise."""
    return mxnet_ours(batch, arch='mobilenet_v2')


def mxnet_mobilenet_bfloat16(batch: int) -> Measured:
    """Return that in bfloat16."""
    return mxnet_ours(batch, 'bfloat16', 'mobilenet_v2')


def mxnet_bfloat16(batch: int) -> Measured:
    """Return it in bfloat16."""
    return mxnet_ours(batch, 'bfloat16')


def mxnet_static_shape(batch: int) -> Measured:
    """Return it with Gluon's ``static_shape``."""
    return mxnet_ours(batch, static_alloc=True, static_shape=True)


def mxnet_no_static_alloc(batch: int) -> Measured:
    """Return it without ``static_alloc``."""
    return mxnet_ours(batch, static_alloc=False)


def mxnet_subgraph(batch: int) -> Measured:
    """Return it with the layers that oneDNN can fuse as one."""
    return mxnet_ours(batch, static_alloc=True, backend='MKLDNN')


VARIANTS: dict[str, tuple[Callable[[int], Measured], str, dict[str, str]]] = {
    'PyTorch, the book': (torch_book, '', {}),
    'PyTorch, float32, channels first': (torch_strict, 'PyTorch, the book', {}),
    'PyTorch, float32': (torch_float32, 'PyTorch, the book', {}),
    'PyTorch, bfloat16': (torch_bfloat16, 'PyTorch, the book', {}),
    'MXNet, the book': (mxnet_book, '', {'MXNET_OMP_MAX_THREADS': ''}),  # d2l_ft would set it
    'MXNet, float32': (mxnet_ours, 'MXNet, the book', {}),
    'MXNet, bfloat16': (mxnet_bfloat16, 'MXNet, the book', {}),
}
"""What is compared: name -> (step, name of what it is compared with, variables; empty: unset)."""

MOBILENET = 'MXNet, MobileNetV2, float32'
OTHERS: dict[str, tuple[Callable[[int], Measured], str, dict[str, str]]] = {
    MOBILENET: (mxnet_mobilenet, '', {}),
}
"""Baselines only of what was tried, in the same form."""

TRIED: dict[str, tuple[Callable[[int], Measured], str, dict[str, str]]] = {
    'torch.compile': (torch_compiled, 'PyTorch, bfloat16', {}),
    'fused SGD': (torch_fused, 'PyTorch, bfloat16', {}),
    'without keep-memory': (torch_bfloat16, 'PyTorch, bfloat16', {'KEEP': 'no'}),
    'transparent huge pages': (torch_bfloat16, 'PyTorch, bfloat16', {'THP_MEM_ALLOC_ENABLE': '1'}),
    'without static_alloc': (mxnet_no_static_alloc, 'MXNet, float32', {}),
    'static_shape': (mxnet_static_shape, 'MXNet, float32', {}),
    'oneDNN subgraphs': (mxnet_subgraph, 'MXNet, float32', {}),
    'bfloat16': (mxnet_mobilenet_bfloat16, MOBILENET, {}),
}
"""What was tried but is not the default, in the same form."""


def run_one(name: str, batch: int, steps: int) -> dict[str, float]:
    """Return the images/s of a variant, its peak MiB and last loss, a matrix product's FLOP/s."""
    step, rate = (VARIANTS | OTHERS | TRIED)[name][0](batch)
    for _ in range(2):
        step()
    seconds, loss = [], 0.0
    for _ in range(steps):
        start_time = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - start_time)
    images, most = batch / statistics.median(seconds), peak()
    return {'images': images, 'peak': most, 'loss': loss, 'product': rate()}


def measure(quick: bool, tried: bool = True) -> dict[str, Any]:
    """Run the variants in turn; what can't be run says why.

    Args:
        quick: Whether to take small numbers.
        tried: Whether to run what was tried and not taken, too.
    """
    from bench import run_in_turn

    batch, steps, rounds = (2, 1, 1) if quick else (32, 4, 3)
    commands, variables = {}, {}
    for name, (_, _, environment) in (VARIANTS | (OTHERS | TRIED if tried else {})).items():
        commands[name] = [__file__, name, '--batch', str(batch), '--steps', str(steps)]
        variables[name] = environment
    runs = run_in_turn(commands, rounds, variables)
    return {'batch': batch, 'rounds': rounds, 'runs': runs}


def beside(result: dict[str, Any]) -> list[str]:
    """Return the lines of the same comparison with other versions."""
    from bench import describe, ratio, spread

    runs = {name: [each['images'] for each in found] for name, found in result['runs'].items()}
    lines = [
        'The same with other versions:',
        '',
        '| | times the book | images/s: median (range) |',
        '|---|---|---|',
    ]
    for name, (_, base, _) in VARIANTS.items():
        times = f'**{ratio(runs[name], runs[base]):.2f}**' if base else '1'
        lines.append(f'| {name} | {times} | {spread(runs[name])} |')
    return [*lines, '', f'Measured on {describe(result["machine"])}.']


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    from bench import ratio, spread

    runs = result['runs']
    images = {
        name: [each['images'] for each in found]
        for name, found in runs.items()
        if 'error' not in found[0]
    }
    shares = {
        name: statistics.median(each['images'] * FLOP / each['product'] for each in runs[name])
        for name in images
    }

    def memory(name: str) -> str:
        return f'{statistics.median(each["peak"] for each in runs[name]):.0f}'

    lines = [
        '## Training steps',
        '',
        f'ResNet-18 at {SIZE} pixels, batches of {result["batch"]} in memory, '
        f'{result["rounds"]} processes each. The book: the step that `d2l==0.17.6` has.',
        '',
        '| | times the book | images/s: median (range) | share of a matrix product | peak MiB |',
        '|---|---|---|---|---|',
    ]
    for name, (_, base, _) in VARIANTS.items():
        times = f'**{ratio(images[name], images[base]):.2f}**' if base else '1'
        lines.append(
            f'| {name} | {times} | {spread(images[name])} | {shares[name]:.0%} | {memory(name)} |'
        )
    lines += [
        '',
        'The share is what the step computes (three times 3.64 GFLOP an image) divided by '
        f'the rate of a product of {SIDE} x {SIDE} matrices in the same precision and process; '
        'where it is above 100 %, that product is not the fastest that the processor can do. '
        'MXNet by itself trains on half of the cores; importing `d2l_ft` first gives it all. '
        'Its net is ResNet-18 v2, the one of its tab; its bfloat16 is not chosen by `auto`, as '
        'MobileNetV2 is slower in it.',
        '',
        'Tried and not taken:',
        '',
        '| | times the step taken | images/s | peak MiB | loss then, and of the step taken |',
        '|---|---|---|---|---|',
    ]
    for name, (_, base, _) in TRIED.items():
        if name in images:
            times = f'{ratio(images[name], images[base]):.2f}'
            losses = f'{runs[name][0]["loss"]:.3f}, {runs[base][0]["loss"]:.3f}'
            lines.append(
                f'| {base}: {name} | {times} | {spread(images[name])} | {memory(name)} | {losses} |'
            )
        else:
            lines.append(f'| {base}: {name} | does not run: {runs[name][0]["error"]} | | | |')
    lines += [
        '',
        'The losses are those of the last step of a process. oneDNN subgraphs are made for '
        'prediction and do not learn.',
    ]
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print the rate of one variant.')
    parser.add_argument('name', choices=[*VARIANTS, *OTHERS, *TRIED])
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--steps', type=int, default=5)
    options = parser.parse_args()
    try:
        print(json.dumps(run_one(options.name, options.batch, options.steps)))
    except Exception as error:
        if options.name not in TRIED:
            raise
        print(json.dumps({'error': ' '.join(str(error).split())[:120]}))
