"""Measure the gap between fine-tuning and training from scratch on the built-in sample.

    python benchmarks/gap.py [--seeds 3] [--batch-size 32] [--lr 0.002] [--out FILE.json]

Trains both nets with both frameworks for each seed, as ``make demo`` does for one, and prints a
table for the README.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BACKENDS = ('pytorch', 'mxnet')


def measure(backend: str, seed: int, options: list[str], folder: Path) -> dict[str, float]:
    """Return the last test accuracy of both nets, and the seconds of the whole command."""
    out, begun = folder / f'{backend}-{seed}', time.perf_counter()
    subprocess.run(
        [
            sys.executable, '-m', 'd2l_ft.cli', 'train', '--backend', backend, '--compare',
            '--seed', str(seed), '--out', str(out), *options,
        ],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / 'metrics.jsonl').read_text().splitlines()]
    row = {each['net']: each['test_acc'] for each in lines}  # the last epoch of a net stays
    return row | {'seconds': time.perf_counter() - begun}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--lr', type=float, default=0.002)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    passed = ['--batch-size', str(options.batch_size), '--lr', str(options.lr)]
    rows = []
    print('| framework | seed | fine-tuned | scratch | gap | seconds |\n|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for backend in BACKENDS:
            for seed in range(options.seeds):
                row = measure(backend, seed, passed, Path(folder))
                tuned, scratch = row['fine-tuned'], row['scratch']
                print(
                    f'| {backend} | {seed} | {tuned:.3f} | {scratch:.3f} | {tuned - scratch:.3f} '
                    f'| {row["seconds"]:.0f} |',
                    flush=True,
                )
                rows.append({'backend': backend, 'seed': seed} | row)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    main()
