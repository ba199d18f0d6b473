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

PRECISIONS = ('float32', 'bfloat16')
BATCH, SIZE = 128, 224


def device() -> str:
    """Return the device of the framework that has one."""
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


def book(batch: str, steps: str) -> dict[str, float]:
    """Return the images/s of the step that the PyTorch tab prints."""
    from steps import torch_book

    return {'images': rate(torch_book(int(batch), device())[0], int(batch), int(steps))}


def data_free(precision: str, channels_last: str, batch: str, steps: str) -> dict[str, float]:
    """Return the images/s of our step on a batch that lies on its device, and its profile."""
    import torch
    from steps import ours, torch_product

    from d2l_ft.registry import get_backend

    request = 'gpu:0' if device() == 'cuda' else 'cpu'
    last = channels_last == 'True'
    step, _, _ = ours(get_backend('pytorch'), 'resnet18', int(batch), precision, last, request)
    found: dict[str, Any] = {'images': rate(step, int(batch), int(steps))}
    found['product'] = torch_product(getattr(torch, precision), device())
    with torch.profiler.profile() as profile:
        step()
    key = f'self_{"device" if device() == "cuda" else "cpu"}_time_total'
    events = sorted(profile.key_averages(), key=lambda each: -getattr(each, key))
    total = sum(getattr(each, key) for each in events)
    found['profile'] = [[each.key, getattr(each, key) / total] for each in events[:8]]
    return found


def end_to_end(precision: str, folder: str, batch: str, epochs: str) -> dict[str, float]:
    """Return the images/s of ``d2l-ft train`` after its first epoch."""
    from d2l_ft.cli import main
    from d2l_ft.run import Run

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / 'run'
        main(
            [
                'train', '--data', folder, '--source', 'none', '--backend', 'pytorch',
                '--batch-size', batch, '--epochs', epochs, '--precision', precision,
                '--out', str(out),
            ],
            standalone_mode=False,
        )  # fmt: skip
        history = Run.open(out).metrics()[1:]
    return {'images': statistics.median(each.examples_per_sec for each in history)}


def rate(step: Any, batch: int, steps: int) -> float:
    """Return the images/s of a step, each waited for by the loss it returns."""
    for _ in range(3):
        step()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    return batch * steps / (time.perf_counter() - begun)


def measure(quick: bool) -> dict[str, Any]:
    """Run the variants in turn.

    Raises:
        SystemExit: There is no GPU, and it is not just tried.
    """
    from bench import in_turn, photos

    if device() == 'cpu' and not quick:
        raise SystemExit('gpu.py: there is no GPU here: give --quick to try it, or leave it out')
    batch, steps, rounds, count, epochs = (2, 1, 1, 10, 2) if quick else (BATCH, 50, 5, 5120, 4)
    sizes = [str(batch), str(steps)]
    with tempfile.TemporaryDirectory() as place:
        folder = str(photos(Path(place) / 'photos', count))
        commands = {'the book, step': [__file__, 'book', *sizes]}
        for precision in PRECISIONS:
            for last in (False, True):
                order = 'last' if last else 'first'
                commands[f'{precision}, channels {order}, step'] = [
                    __file__, 'data_free', precision, str(last), *sizes
                ]  # fmt: skip
            commands[f'{precision}, from files'] = [
                __file__, 'end_to_end', precision, folder, str(batch), str(epochs)
            ]  # fmt: skip
        runs = in_turn(commands, rounds)
    return {'device': gpu_name(), 'batch': batch, 'runs': runs}


def gpu_name() -> str:
    """Return the name of the GPU."""
    import torch

    return torch.cuda.get_device_name() if device() == 'cuda' else 'no GPU'


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    from bench import ratio, spread

    runs = result['runs']
    images = {name: [each['images'] for each in found] for name, found in runs.items()}
    base = images['the book, step']
    lines = [
        '## On a GPU',
        '',
        f'ResNet-18 at {SIZE} pixels with PyTorch, batches of {result["batch"]}, on '
        f'{result["device"]}. Our step has its data on the device, that of the book on the host.',
        '',
        '| | times the book | images/s | share of the step |',
        '|---|---|---|---|',
    ]
    for name, values in images.items():
        precision = name.partition(',')[0]
        step = images.get(f'{precision}, channels last, step', base)
        share = f'{ratio(values, step):.0%}' if 'files' in name else ''
        lines.append(f'| {name} | {ratio(values, base):.2f} | {spread(values, 0)} | {share} |')
    lines += ['', 'What is left of a step in bfloat16, by time: ']
    profile = runs['bfloat16, channels last, step'][0]['profile']
    lines[-1] += ', '.join(f'`{name}` {share:.0%}' for name, share in profile) + '.'
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print one measurement.')
    parser.add_argument('function', choices=['book', 'data_free', 'end_to_end'])
    parser.add_argument('arguments', nargs='*')
    options = parser.parse_args()
    print(json.dumps(globals()[options.function](*options.arguments)))
