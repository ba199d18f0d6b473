"""What keeping the features of a frozen body gains, and that it changes nothing but roundings.

The same command with and without ``--cache-features``: one view of each image, then two.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

OPTIONS = {'no augmentation': ['--no-augment'], 'two views': ['--views', '2']}


def run_one(backend: str, kind: str, folder: str, epochs: str, size: str) -> dict[str, Any]:
    """Train the head with and without kept features; return rates and the largest difference."""
    from d2l_ft.cli.main import main
    from d2l_ft.runs.directory import Run

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        os.environ['D2L_FT_HOME'] = place  # nothing is kept from an earlier round
        source = Path(place) / 'source.safetensors'
        write_source(backend, source)
        heads = []
        for name, options in (('plain', []), ('kept', ['--cache-features'])):
            out = Path(place) / name
            main(
                [
                    'train', '--backend', backend, '--data', folder, '--source', str(source),
                    '--freeze', *OPTIONS[kind], *options, '--epochs', epochs, '--batch-size', '32',
                    '--image-size', size, '--precision', 'float32', '--out', str(out),
                ],
                standalone_mode=False,
            )  # fmt: skip
            run = Run.open(out)
            history = run.metrics()
            found[name] = statistics.median(each.examples_per_sec for each in history[1:])
            found[f'{name} accuracies'] = [each.test_acc for each in history]
            loaded = run.load('fine-tuned')
            assert loaded is not None
            heads.append(loaded[0].model)
    found['difference'] = max(
        float(abs(array - heads[1][name]).max()) for name, array in heads[0].items()
    )
    return found


def write_source(backend: str, path: Path) -> None:
    """Write random weights as a source of ten classes."""
    from safetensors.numpy import save_file

    from d2l_ft.backend.registry import get_backend

    chosen = get_backend(backend)
    save_file(chosen.get_state(chosen.place(chosen.build_net('resnet18', 10))), str(path))


def measure(quick: bool) -> dict[str, Any]:
    """Run both kinds with both frameworks."""
    from bench import photos, run_in_turn

    count, epochs, size, rounds = (20, 2, 64, 1) if quick else (120, 3, 224, 1)
    with tempfile.TemporaryDirectory() as place:
        folder = photos(Path(place) / 'photos', count)
        runs = run_in_turn(
            {
                f'{backend}, {kind}': [__file__, backend, kind, str(folder), str(epochs), str(size)]
                for backend in ('pytorch', 'mxnet')
                for kind in OPTIONS
            },
            rounds,
        )
    return {'files': count, 'size': size, 'rounds': rounds, 'runs': runs}


def section(result: dict[str, Any]) -> list[str]:
    """Return the lines of the page."""
    lines = [
        '## A frozen body',
        '',
        f'ResNet-18 at {result["size"]} pixels with `--freeze`, {result["files"]} photographs, '
        'float32: an epoch with `--cache-features` against the same without.',
        '',
        '| | times the plain epoch | plain, images/s | kept, images/s | largest difference of a '
        'weight after training |',
        '|---|---|---|---|---|',
    ]
    for name, runs in result['runs'].items():
        plain, kept = (statistics.median(run[part] for run in runs) for part in ('plain', 'kept'))
        faster = statistics.median(run['kept'] / run['plain'] for run in runs)
        apart = max(run['difference'] for run in runs)
        lines.append(f'| {name} | **{faster:.0f}** | {plain:.1f} | {kept:.0f} | {apart:.1e} |')
    same = all(
        run['plain accuracies'] == run['kept accuracies']
        for each in result['runs'].values()
        for run in each
    )
    lines += [
        '',
        'The features are computed before the first epoch, which takes as long as one plain epoch '
        'for each view, and are read from the disk in later runs. '
        + ('All test accuracies are the same.' if same else 'Some test accuracies differ.'),
    ]
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Print the rates of one framework.')
    for each in ('backend', 'kind', 'folder', 'epochs', 'size'):
        parser.add_argument(each)
    print(json.dumps(run_one(**vars(parser.parse_args()))))
