"""How long it takes to start, how much memory training takes, and how long a test takes."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from memory import peak

SIZE, BATCH = 224, 32


def command(*arguments: str) -> Callable[[], dict[str, float]]:
    """Return a call that times a command."""

    def call() -> dict[str, float]:
        start_time = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return {'seconds': time.perf_counter() - start_time}

    return call


def first_step(backend: str) -> Callable[[], dict[str, float]]:
    """Return a call that imports a framework, builds a net and takes a step."""
    arch = 'resnet18' if backend == 'pytorch' else 'resnet18_v2'

    def call() -> dict[str, float]:
        start_time = time.perf_counter()
        from steps import ours

        from d2l_ft.backend.registry import get_backend

        float(ours(get_backend(backend), arch, BATCH, 'float32', True)[0]().loss)
        return {'seconds': time.perf_counter() - start_time, 'peak': peak()}

    return call


def book_step(tab: str) -> Callable[[], dict[str, float]]:
    """Return the same with the code of a tab of the book."""

    def call() -> dict[str, float]:
        start_time = time.perf_counter()
        import steps

        getattr(steps, f'{tab}_book')(BATCH)[0]()
        return {'seconds': time.perf_counter() - start_time, 'peak': peak()}

    return call


def evaluation(backend: str) -> Callable[[], dict[str, float]]:
    """Return a call that compares ``evaluate`` with ``logits`` on the same batches."""

    def call() -> dict[str, float]:
        from d2l_ft.backend.registry import get_backend

        chosen = get_backend(backend)
        placed = chosen.place(chosen.build_net('resnet18', 2), chosen.devices('cpu'))
        draws = np.random.default_rng(0)
        images = draws.normal(size=(BATCH, 3, SIZE, SIZE)).astype(np.float32)
        batches = [chosen.to_batch(images, draws.integers(0, 2, BATCH))] * 3
        ratios = []
        for _ in range(3):
            start_time = time.perf_counter()
            float(chosen.evaluate(placed, batches).loss)
            middle = time.perf_counter()
            for batch in batches:
                chosen.logits(placed, batch)
            ratios.append((middle - start_time) / (time.perf_counter() - middle))
        return {'ratio': statistics.median(ratios[1:])}

    return call


VARIANTS = {
    'd2l-ft --help': command('-m', 'd2l_ft', '--help'),
    'python -c pass': command('-c', 'pass'),
    'import d2l_ft': command('-c', 'import d2l_ft'),
    'import torch': command('-c', 'import torch'),
    'import mxnet': command('-c', 'import d2l_ft_mxnet.today, mxnet'),
    'first step, the book, PyTorch': book_step('torch'),
    'first step, PyTorch': first_step('pytorch'),
    'first step, the book, MXNet': book_step('mxnet'),
    'first step, MXNet': first_step('mxnet'),
    'evaluate / logits, PyTorch': evaluation('pytorch'),
    'evaluate / logits, MXNet': evaluation('mxnet'),
}


def measure(quick: bool) -> dict[str, Any]:
    """Run all in turn."""
    from bench import run_in_turn

    shipped = {name: {'MXNET_OMP_MAX_THREADS': ''} for name in VARIANTS if 'the book' in name}
    commands = {name: [__file__, name] for name in VARIANTS}
    return {'runs': run_in_turn(commands, 1 if quick else 2, shipped)}


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    from bench import spread

    runs = result['runs']
    lines = ['## Start, memory, tests', '', '| | seconds | peak MiB |', '|---|---|---|']
    for name in VARIANTS:
        if 'seconds' in runs[name][0]:
            seconds = spread([each['seconds'] for each in runs[name]], 2)
            most = runs[name][0].get('peak') and statistics.median(
                each['peak'] for each in runs[name]
            )
            lines.append(f'| {name} | {seconds} | {f"{most:.0f}" if most else ""} |')
    prefix = 'evaluate / logits, '
    tests = ' and '.join(
        f'{statistics.median(each["ratio"] for each in found):.2f} ({name.removeprefix(prefix)})'
        for name, found in runs.items()
        if name.startswith(prefix)
    )
    lines += [
        '',
        f'A first step is a process that imports, builds ResNet-18 (v2 with MXNet) and takes one '
        f'step of {BATCH} images at {SIZE} pixels in float32. The help imports no framework.',
        '',
        f'A test takes {tests} times what predicting the same batches takes.',
    ]
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print one measurement.')
    parser.add_argument('name', choices=VARIANTS)
    print(json.dumps(VARIANTS[parser.parse_args().name]()))
