"""Training on a GPU: the book's step and ours, with data in memory and from JPEG files.

Without a GPU it runs on the CPU if ``--quick`` is given, to show that it works; nothing is written.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH, SIZE = 128, 224

STEPS = {
    'float32, channels first': ('float32', False, ''),
    'float32': ('float32', True, ''),
    'TF32': ('float32', True, 'tf32'),
    'bfloat16, channels first': ('bfloat16', False, ''),
    'bfloat16': ('bfloat16', True, ''),
    'bfloat16, compiled': ('bfloat16', True, 'compiled'),
}
"""Name -> precision, channels last, and what is changed that d2l-ft has no option for."""

FILES = {
    'float32, from files': ('float32', []),
    'bfloat16, from files': ('bfloat16', []),
    'bfloat16, from files, decoded in each epoch': ('bfloat16', ['--image-cache', '0']),
}
"""Name -> precision and options of training from JPEG files."""


def device() -> str:
    """Return the device of the framework that has one."""
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


def book(batch: str, steps: str) -> dict[str, float]:
    """Return the images/s of the step that the PyTorch tab prints."""
    from steps import torch_book

    step, _ = torch_book(int(batch), device())
    return {'images': rate(step, float, 1, int(batch), int(steps))}


def data_free(name: str, batch: str, steps: str) -> dict[str, Any]:
    """Return the images/s of one of ``STEPS``, its batch on the device, and a product's FLOP/s."""
    import torch
    from steps import ours, torch_product

    from d2l_ft.backend.registry import get_backend
    from d2l_ft.training.trainer import READ_STEPS

    precision, last, change = STEPS[name]
    request = 'gpu:0' if device() == 'cuda' else 'cpu'
    step, net, _ = ours(get_backend('pytorch'), 'resnet18', int(batch), precision, last, request)
    if change == 'tf32':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if change == 'compiled':
        net.compile(mode='reduce-overhead')  # with CUDA graphs
    found: dict[str, Any] = {
        'images': rate(step, lambda sums: float(sums.loss), READ_STEPS, int(batch), int(steps))
    }
    found['product'] = torch_product(getattr(torch, precision), device())
    return found


def end_to_end(name: str, folder: str, batch: str, epochs: str) -> dict[str, float]:
    """Return the images/s of one of ``FILES`` after its first epoch, and while it has a batch."""
    from d2l_ft.cli.main import main
    from d2l_ft.runs.directory import Run

    precision, options = FILES[name]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / 'run'
        main(
            [
                'train', '--data', folder, '--source', 'none', '--backend', 'pytorch',
                '--batch-size', batch, '--epochs', epochs, '--precision', precision,
                '--out', str(out), *options,
            ],
            standalone_mode=False,
        )  # fmt: skip
        history = Run.open(out).metrics()[1:]
    images, waited = (
        statistics.median(getattr(each, rate) for each in history)
        for rate in ('examples_per_sec', 'step_examples_per_sec')
    )
    return {'images': images, 'waits': 1 - images / waited}


def rate(step: Any, read: Any, every: int, batch: int, steps: int) -> float:
    """Return the images/s of a step; its result is read, which waits for it, as in its loop."""
    for _ in range(3):
        read(step())
    start_time = time.perf_counter()
    for number in range(1, steps + 1):
        given = step()
        if number % every == 0 or number == steps:
            read(given)
    return batch * steps / (time.perf_counter() - start_time)


def measure(quick: bool) -> dict[str, Any]:
    """Run the variants in turn.

    Raises:
        SystemExit: There is no GPU, and ``quick`` is off.
    """
    from bench import photos, run_in_turn

    if device() == 'cpu' and not quick:
        raise SystemExit('gpu.py: there is no GPU here: give --quick to try it, or leave it out')
    batch, steps, rounds, count, epochs = (2, 1, 1, 10, 2) if quick else (BATCH, 50, 3, 2560, 3)
    sizes = [str(batch), str(steps)]
    with tempfile.TemporaryDirectory() as place:
        folder = str(photos(Path(place) / 'photos', count))
        commands = {'the book': [__file__, 'book', *sizes]}
        commands |= {name: [__file__, 'data_free', name, *sizes] for name in STEPS}
        commands |= {
            name: [__file__, 'end_to_end', name, folder, str(batch), str(epochs)] for name in FILES
        }
        runs = run_in_turn(commands, rounds)
    return {'device': gpu_name(), 'batch': batch, 'runs': runs}


def gpu_name() -> str:
    """Return the name of the GPU."""
    import torch

    return torch.cuda.get_device_name() if device() == 'cuda' else 'no GPU'


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    from bench import ratio, spread
    from steps import FLOP

    runs = result['runs']
    images = {name: [each['images'] for each in found] for name, found in runs.items()}
    base = images['the book']
    lines = [
        '## On a GPU',
        '',
        f'ResNet-18 at {SIZE} pixels with PyTorch, batches of {result["batch"]}, on '
        f'{result["device"]}. Steps have their batch on the device, that of the book on the host; '
        'trainings begin at JPEG files, and their first epoch is left out.',
        '',
        '| | times the book | images/s | share of a matrix product | share of the step '
        '| waits for images |',
        '|---|---|---|---|---|---|',
    ]
    for name, values in images.items():
        shares = '| |'
        if name in STEPS:
            limit = statistics.median(each['product'] for each in runs[name]) / FLOP
            shares = f'{statistics.median(values) / limit:.0%} | |'
        if name in FILES:
            step = images[FILES[name][0]]
            wait = statistics.median(each['waits'] for each in runs[name])
            shares = f'| {ratio(values, step):.0%} | {wait:.0%}'
        lines.append(f'| {name} | {ratio(values, base):.2f} | {spread(values, 0)} | {shares} |')
    lines += [
        '',
        "The book's step takes PyTorch's default, TF32 in convolutions; our float32 is strict. "
        'TF32 and TorchInductor (with CUDA graphs) are no options of d2l-ft. The GPU '
        'computes while training waits for images, so the wait holds steps too.',
    ]
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print one measurement.')
    parser.add_argument('function', choices=['book', 'data_free', 'end_to_end'])
    parser.add_argument('arguments', nargs='*')
    options = parser.parse_args()
    print(json.dumps(globals()[options.function](*options.arguments)))
