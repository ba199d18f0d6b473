"""Measure the gap between fine-tuning and training from scratch on the built-in sample.

    python benchmarks/gap.py [--seeds 3] [--write]

Trains both nets with both frameworks for each seed, as ``make demo`` does for one, and prints a
table. With --write the numbers, with date and machine, go to gap.json and the figure to the docs;
``figures.py`` then fills in the tables of the docs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import machine
from matplotlib.figure import Figure

HERE = Path(__file__).parent
NUMBERS, FIGURE = HERE / 'gap.json', HERE.parent / 'docs/img/gap.png'
BACKENDS = ('pytorch', 'mxnet')


def measure(backend: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the test accuracies of both nets by epoch, and the seconds of the whole command."""
    out, start_time = folder / f'{backend}-{seed}', time.perf_counter()
    subprocess.run(
        [
            sys.executable, '-m', 'd2l_ft', 'train', '--backend', backend, '--compare',
            '--seed', str(seed), '--out', str(out),
        ],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    row: dict[str, Any] = {'backend': backend, 'seed': seed, 'fine-tuned': [], 'scratch': []}
    for line in (out / 'metrics.jsonl').read_text().splitlines():
        epoch = json.loads(line)
        row[epoch['net']].append(epoch['test_acc'])
    return row | {'seconds': round(time.perf_counter() - start_time, 1)}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw test accuracy over the epochs: a thin line for each seed, a panel for each framework."""
    figure = Figure(figsize=(8, 3.2), layout='constrained')
    panels = figure.subplots(1, len(BACKENDS), sharey=True)
    for panel, backend in zip(panels, BACKENDS, strict=True):
        for row in (each for each in rows if each['backend'] == backend):
            for colour, net in (('C0', 'fine-tuned'), ('C1', 'scratch')):
                epochs = range(1, len(row[net]) + 1)
                label = net if row['seed'] == 0 else None
                panel.plot(epochs, row[net], 'o-', color=colour, alpha=0.7, label=label)
        panel.set(title=backend, xlabel='epoch', xticks=list(epochs), ylim=(0.4, 1))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel('test accuracy')
    panels[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--write', action='store_true', help='write gap.json and the figure')
    options = parser.parse_args()
    rows = []
    print('| framework | seed | fine-tuned | scratch | gap | seconds |\n|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for backend in BACKENDS:
            for seed in range(options.seeds):
                row = measure(backend, seed, Path(folder))
                tuned, scratch = row['fine-tuned'][-1], row['scratch'][-1]
                print(
                    f'| {backend} | {seed} | {tuned:.3f} | {scratch:.3f} | {tuned - scratch:.3f} '
                    f'| {row["seconds"]:.0f} |',
                    flush=True,
                )
                rows.append(row)
    if options.write:
        result = {'machine': machine(), 'runs': rows}
        NUMBERS.write_text(json.dumps(result, indent=1) + '\n')
        draw(rows, FIGURE)


if __name__ == '__main__':
    main()
