"""What the faster arithmetic does to the result: test accuracy on the sample, seed by seed."""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

VARIANTS = {
    'float32, channels first': ['--precision', 'float32', '--no-channels-last'],
    'float32': ['--precision', 'float32'],
    'bfloat16': ['--precision', 'bfloat16'],
}


def run_one(name: str, seed: str, epochs: str) -> dict[str, float]:
    """Return the last test accuracy of a training."""
    from d2l_ft.cli import main
    from d2l_ft.run import Run

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / 'run'
        options = ['--backend', 'pytorch', *VARIANTS[name], '--seed', seed, '--epochs', epochs]
        main(['train', *options, '--out', str(out)], standalone_mode=False)
        return {'accuracy': Run.open(out).metrics()[-1].test_acc}


def measure(quick: bool) -> dict[str, Any]:
    """Train each variant with each seed, in turn."""
    from bench import in_turn

    seeds, epochs = (1, 1) if quick else (5, 5)
    runs: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for seed in range(seeds):
        found = in_turn({name: [__file__, name, str(seed), str(epochs)] for name in VARIANTS}, 1)
        for name, (line,) in found.items():
            runs[name].append(line['accuracy'])
    return {'epochs': epochs, 'runs': runs}


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    from bench import spread

    runs, base = result['runs'], result['runs']['float32, channels first']
    lines = [
        '## Accuracy',
        '',
        f'Fine-tuning on the built-in sample with PyTorch, {result["epochs"]} epochs, {len(base)} '
        'seeds.',
        '',
        '| | test accuracy: median (range) | mean difference from the first, seed by seed |',
        '|---|---|---|',
    ]
    for name, values in runs.items():
        apart = statistics.mean(a - b for a, b in zip(values, base, strict=True))
        lines.append(f'| {name} | {spread(values, 3)} | {apart:+.4f} |')
    noise = statistics.stdev(base) if len(base) > 1 else 0.0
    lines += [
        '',
        f'Among the seeds of the first, the standard deviation is {noise:.4f}; one of the 300 test '
        f'images is {1 / 300:.4f}.',
    ]
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print the accuracy of one training.')
    parser.add_argument('name', choices=VARIANTS)
    parser.add_argument('seed')
    parser.add_argument('epochs')
    print(json.dumps(run_one(**vars(parser.parse_args()))))
