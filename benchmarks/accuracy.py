"""What the faster arithmetic does to the result: test accuracy on the sample, seed by seed."""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

PYTORCH, MXNET = 'PyTorch, float32, channels first', 'MXNet, float32'
VARIANTS = {
    PYTORCH: (PYTORCH, ['--precision', 'float32', '--no-channels-last']),
    'PyTorch, float32': (PYTORCH, ['--precision', 'float32']),
    'PyTorch, bfloat16': (PYTORCH, ['--precision', 'bfloat16']),
    MXNET: (MXNET, ['--precision', 'float32']),
    'MXNet, bfloat16': (MXNET, ['--precision', 'bfloat16']),
}
"""Name -> what it is compared with, and options; the name begins with the framework."""


def run_one(name: str, seed: str, epochs: str) -> dict[str, float]:
    """Return the last test accuracy of a run."""
    from d2l_ft.cli.main import main
    from d2l_ft.runs.directory import Run

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / 'run'
        backend = name.partition(',')[0].lower()
        options = ['--backend', backend, *VARIANTS[name][1], '--seed', seed, '--epochs', epochs]
        main(['train', *options, '--out', str(out)], standalone_mode=False)
        return {'accuracy': Run.open(out).metrics()[-1].test_acc}


def measure(quick: bool) -> dict[str, Any]:
    """Train each variant with each seed, in turn."""
    from bench import run_in_turn

    seeds, epochs = (1, 1) if quick else (5, 5)
    runs: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for seed in range(seeds):
        found = run_in_turn(
            {name: [__file__, name, str(seed), str(epochs)] for name in VARIANTS}, 1
        )
        for name, (line,) in found.items():
            runs[name].append(line['accuracy'])
    return {'epochs': epochs, 'runs': runs}


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    from bench import spread

    runs = result['runs']
    seeds = len(runs[PYTORCH])
    lines = [
        '## Accuracy',
        '',
        f'Fine-tuning on the built-in sample, {result["epochs"]} epochs, {seeds} seeds.',
        '',
        "| | test accuracy: median (range) | mean difference from the framework's first row, seed "
        'by seed |',
        '|---|---|---|',
    ]
    for name, values in runs.items():
        base = runs[VARIANTS[name][0]]
        apart = statistics.mean(a - b for a, b in zip(values, base, strict=True))
        lines.append(f'| {name} | {spread(values, 3)} | {apart:+.4f} |')
    noise = [statistics.stdev(runs[name]) if seeds > 1 else 0.0 for name in (PYTORCH, MXNET)]
    lines += [
        '',
        f'Among the seeds of the first rows, the standard deviations are {noise[0]:.4f} and '
        f'{noise[1]:.4f}; one of the 300 test images is {1 / 300:.4f}.',
    ]
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print the accuracy of one training.')
    parser.add_argument('name', choices=VARIANTS)
    parser.add_argument('seed')
    parser.add_argument('epochs')
    print(json.dumps(run_one(**vars(parser.parse_args()))))
